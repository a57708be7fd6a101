"""Label sets of clips: any number of classes at once in the column `label` becomes sets of numbered classes."""

import json
import logging
import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from datasets import ClassLabel, DatasetDict, List

from hf_fusion.data.class_values import class_key
from hf_fusion.data.clip_classes import (
    AUTO,
    check_known,
    class_ids,
    find_names,
    label_word,
    label_words,
    unknown_class,
)
from hf_fusion.data.labels import LabelError
from hf_fusion.utils.errors import DataError

logger = logging.getLogger(__name__)

_SEPARATORS = re.compile(r"[;|,]")
_BITS = {"0", "1"}


def set_words(label: Any) -> list[str] | None:
    """
    The label set of a row as words, see [`label_word`]; empty if no class applies, `None` where it is missing.

    Accepts lists and arrays of names or numbers, vectors of 0 and 1 (which [`number_label_sets`] recognises), one name
    or number, and text: names with `;`, `,` or `|` between them, or a JSON list. An empty text is missing; `[]` is an
    empty set.

    Raises:
        LabelError: if it is something else, or holds a fraction or an empty label.
    """
    values = _values(label)
    if values is None:
        return None
    words = [label_word(int(value) if isinstance(value, bool) else value) for value in values]
    if None in words:
        raise LabelError(f"{label!r:.100} holds an empty label", "a list with an empty label", value=label)
    return words


def _values(label):
    if isinstance(label, str):
        text = label.strip()
        if text.startswith("["):
            return _json_list(text)
        parts = [part for part in _SEPARATORS.split(text) if part.strip()]
        return None if not parts or text.casefold() == "nan" else parts
    if isinstance(label, np.ndarray):
        label = label.tolist()
    if isinstance(label, (list, tuple)):
        return label
    return None if label is None or (isinstance(label, float) and math.isnan(label)) else [label]


def _json_list(text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "a label that is no JSON list"
        raise LabelError(f"{text!r:.100} is no JSON list: {error}", reason, value=text) from None


def unusable_set(label: Any, classes: Sequence[str]) -> str | None:
    """The reason to reject the label set of a row, or `None`; classes that are not declared are all accepted."""
    try:
        words = set_words(label)
    except LabelError as error:
        return error.reason or "a label that is no list of classes"
    if words is None:
        return "no label (a clip to which no class applies has the label [])"
    if tuple(classes) == AUTO or (len(words) == len(classes) and set(words) <= _BITS):
        return None
    return next(filter(None, (unknown_class(word, classes) for word in words)), None)


def number_label_sets(splits: DatasetDict, classes: Sequence[str], origin: str, order: list[str] | None) -> DatasetDict:
    """
    Numbers the label sets of rows that were checked by [`unusable_set`].

    The labels are vectors if each of them, in all splits, has the length of `classes` (for `AUTO`, one length of at
    least 2) and holds nothing but 0 and 1. Else they are lists of names or numbers.

    Args:
        splits, classes, origin, order: see [`number_classes`]. The classes of vectors are "0", "1" ... for `AUTO`.

    Returns:
        `DatasetDict` with a list of `ClassLabel` as last column, each in rising order.

    Raises:
        DataError: as [`number_classes`], or if a list names a class twice.
    """
    sets = {split: list(map(set_words, label_words(rows))) for split, rows in splits.items()}
    if width := _vector_width(chain.from_iterable(sets.values()), None if tuple(classes) == AUTO else len(classes)):
        names = [str(i) for i in range(width)] if tuple(classes) == AUTO else list(classes)
        ids = {split: [[i for i, bit in enumerate(row) if bit == "1"] for row in rows] for split, rows in sets.items()}
    else:
        _check_repeated(sets, splits, origin)
        words = {split: list(chain.from_iterable(rows)) for split, rows in sets.items()}
        names = list(classes) if tuple(classes) != AUTO else order or find_names(words, origin)
        known = class_ids(names)
        check_known(words, known, origin)
        ids = {split: [sorted(known[class_key(word)] for word in row) for row in rows] for split, rows in sets.items()}
    feature = List(ClassLabel(names=names))
    numbered = {}
    for split, rows in splits.items():
        numbered[split] = rows.remove_columns("label").add_column("label", ids[split], feature=feature)
        counts = Counter(chain.from_iterable(ids[split]))
        shown = ", ".join(f"{name} ({counts[i]})" for i, name in enumerate(names))
        logger.info("%s: labels of %s: %s; %d rows have none.", origin, split, shown, ids[split].count([]))
    return DatasetDict(numbered)


def _vector_width(sets, expected):
    """The length of vectors of 0 and 1; `None` if one of the sets is no such vector."""
    widths = {len(words) if set(words) <= _BITS else 0 for words in sets}
    width = widths.pop() if len(widths) == 1 else 0
    return width if width > 1 and width == (expected or width) else None


def _check_repeated(sets, splits, origin):
    for split, rows in sets.items():
        for i, words in enumerate(rows):
            if len(set(map(class_key, words))) < len(words):
                raise DataError(
                    f"{origin} ({split}): the label of row {i + 1} ({splits[split][i]['id']}) has a class twice: "
                    f"{', '.join(words):.200}. Vectors of 0 and 1 must have the same length in all rows, that of "
                    "`classes`."
                )


def label_vectors(sets: Sequence[Sequence[int]], count: int) -> np.ndarray:
    """
    Converts label sets to vectors of 0 and 1.

    Args:
        sets (`Sequence[Sequence[int]]`): the numbers of the classes of each row.
        count (`int`): the number of classes.

    Returns:
        `np.ndarray` of shape `(rows, count)`, float32.
    """
    vectors = np.zeros((len(sets), count), dtype=np.float32)
    for row, ids in zip(vectors, sets, strict=True):
        row[list(ids)] = 1
    return vectors
