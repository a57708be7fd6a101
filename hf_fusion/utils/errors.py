"""The errors for users, and a helper for their messages."""

from collections.abc import Iterable


class FusionError(Exception):
    """Base class of the errors that tell a user what to change; any other exception is a bug."""


class DataError(FusionError, ValueError):
    """The data does not fit its declaration; the message names file, row and field."""


class RecipeError(FusionError, ValueError):
    """The recipe is not valid; the message names the field, the value given and the values accepted."""


class TrainingInterrupted(FusionError):
    """The training was interrupted by a signal; a checkpoint holds its state."""


def listed(names: Iterable) -> str:
    """Joins up to 30 names for an error message."""
    names = [f"{name!s:.50}" for name in names]
    return ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
