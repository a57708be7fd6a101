"""The error of unusable data, and names for messages."""

from collections.abc import Iterable


class DataError(ValueError):
    """Data that cannot be read as declared; the message names file, row and field."""


def listed(names: Iterable) -> str:
    """Names of columns for a message; the first ones where there are many."""
    names = [f"{name!s:.50}" for name in names]
    return ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
