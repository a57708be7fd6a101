"""Counts of the rows that readers reject and the values that they fill in, for the records of a run."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_counts: ContextVar[Counter | None] = ContextVar("counts", default=None)


@contextmanager
def tallied() -> Iterator[Counter]:
    """Gathers the counts of [`tally`] in the `with` statement."""
    counts = Counter()
    token = _counts.set(counts)
    try:
        yield counts
    finally:
        _counts.reset(token)


def tally(what: str, count: int) -> None:
    """
    Adds to the counts of the run, if there is one.

    Args:
        what: in words, such as "texts are empty and count as missing".
        count: how many more.
    """
    counts = _counts.get()
    if counts is not None and count:
        counts[what] += count
