"""Values of a column of classes: their spelling, frequency and order."""

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hf_fusion.data.labels import LabelError, from_worst_to_best, read_number, read_rating, sentiment_of, word_key

_NUMBERED = re.compile(r"(label|class|category) \d+")
_MAX_SHOWN = 20
_MAX_VALUES = 1000


def class_key(value) -> str | None:
    """
    The common spelling of a class: a whole number ("3" for 3, "3.0", 3.0), or a word; `None` for an empty cell.

    Raises:
        LabelError: if the value is neither.
    """
    if isinstance(value, bool):
        return str(value).casefold()
    try:
        number = read_number(value)
    except LabelError:
        if isinstance(value, str):
            return word_key(value)
        raise
    if number is None:
        return None
    return str(int(number)) if number == int(number) else repr(number)


@dataclass
class ClassValues:
    """
    Counts the values of a column of classes.

    Args:
        field: "label" or "coarse_label".
        column: the data's own name of it.
        names: of the classes 0, 1 ... of a `ClassLabel`.
    """

    field: str
    column: str
    names: list[str] | None = None
    counts: Counter = field(default_factory=Counter)
    spellings: dict[str, str] = field(default_factory=dict)
    missing: int = 0  # rows without a class that have another rating

    def add(self, value: Any) -> bool:
        """Counts a value; returns False for an empty cell."""
        try:
            key = class_key(value)
        except LabelError:
            return True  # the row is refused when it is read
        if key is None or (self.names and key == "-1"):  # how a `ClassLabel` says that there is none
            return False
        if len(self.counts) < _MAX_VALUES or key in self.counts:
            self.counts[key] += 1
            self.spellings.setdefault(key, str(value).strip())
        return True

    @property
    def numbers(self) -> list[float]:
        """The numbers that occur, in ascending order."""
        return sorted(float(key) for key in self.counts if is_number(key))

    @property
    def words(self) -> list[str]:
        """The words that occur, the most frequent first."""
        return [key for key, _ in self.counts.most_common() if not is_number(key)]

    @property
    def are_words(self) -> bool:
        """Whether most values are words; the others then count as unknown."""
        return sum(self.counts[key] for key in self.words) > sum(self.counts.values()) / 2

    def shown(self, keys) -> str:
        """Words and their counts, for messages."""
        parts = [f"{self.spellings[key]!r:.40} ({self.counts[key]})" for key in list(keys)[:_MAX_SHOWN]]
        return ", ".join(parts) + (", ..." if len(keys) > _MAX_SHOWN else "")


def ids_of_words(words, names):
    """
    The class of each word. Words that are not the names of the classes count by their meaning: words of sentiment if
    the names have the same signs from worst to best, ratings from the worst to the best name, and ratings or numbers
    that begin at 0 as numbers of classes.
    """
    ids = {word_key(name): i for i, name in enumerate(names)}
    if len(words) != len(names) or {word_key(word) for word in words} <= set(ids):
        return ids
    named = from_worst_to_best(names)
    if order := from_worst_to_best(words):
        same = named is not None and [_sign(word) for word in order] == [_sign(name) for name in named]
        found = named if same else None
    elif order := by_rating(words):
        from_zero = read_rating(order[0])[0] == 0
        found = names if from_zero or named is None else named
    else:
        order = by_number(words)
        found = None if order is None else names
    if found is None:
        return ids
    return {word_key(word): list(names).index(name) for word, name in zip(order, found, strict=True)}


def _sign(word):
    place = sentiment_of(word)
    return (place > 0) - (place < 0)


def by_rating(names):
    """Names such as "1 star" in their order; `None` if one of them is no rating."""
    return sorted(names, key=lambda name: read_rating(name)[0]) if all(map(is_rating, names)) else None


def by_number(names):
    """Names that say nothing but a number, such as LABEL_0 or "class 1", in its order; `None` for others."""
    found = [_NUMBERED.fullmatch(word_key(name)) for name in names]
    return sorted(names, key=lambda name: int(word_key(name).split()[-1])) if all(found) else None


def values_of_names(names) -> tuple[float, ...] | None:
    """
    The value of each class by its name, from worst to best: "4 stars" is 4, LABEL_0 is 0, and words count from 1.
    `None` if a better class has a lower value, as in grades.
    """
    if all(map(is_rating, names)):
        values = [read_rating(name)[0] for name in names]
    elif by_number(names):
        values = [float(word_key(name).split()[-1]) for name in names]
    else:
        values = [float(i) for i in range(1, len(names) + 1)]
    return ascending(values)


def ascending(values) -> tuple[float, ...] | None:
    """The values, if each is above the one before; else `None`."""
    return tuple(values) if all(low < high for low, high in pairwise(values)) else None


def is_number(key):
    try:
        float(key)
    except ValueError:
        return False
    return key not in ("nan", "inf", "infinity")


def is_rating(text):
    try:
        return read_rating(text)[0] is not None
    except LabelError:
        return False
