"""The errors that users meet, and names for their messages."""

from collections.abc import Iterable


class FusionError(Exception):
    """Base of all errors of this package that tell a user what to change; anything else is a defect."""


class DataError(FusionError, ValueError):
    """Data that cannot be read as declared; the message names file, row and field."""


class RecipeError(FusionError, ValueError):
    """A recipe that cannot be run; says which field, what was given and what is accepted."""


class TrainingInterrupted(FusionError):
    """A training that was asked to end before its time; a checkpoint holds all that was done."""


def listed(names: Iterable) -> str:
    """Names of columns for a message; the first ones where there are many."""
    names = [f"{name!s:.50}" for name in names]
    return ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
