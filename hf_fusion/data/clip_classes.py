"""Classes of clips: words, whole numbers or a `ClassLabel` in the column `label` become numbered classes with names."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, LargeList, List

from hf_fusion.data.class_values import class_key, is_number
from hf_fusion.data.labels import LabelError
from hf_fusion.utils.errors import DataError, listed

logger = logging.getLogger(__name__)

# The value of `classes` that takes the classes of the training rows.
AUTO = ("auto",)
# More different labels are free text or scores, unless their names are declared.
MAX_CLASSES = 50
_MAX_SHOWN = 20
SEVERAL_HINT = " (if each clip has any number of classes, set `several_labels`)"


def check_names(classes: Sequence[str]) -> None:
    """Raises `DataError` unless `classes` is `AUTO`, or the names of at least two different classes."""
    words = isinstance(classes, (list, tuple)) and all(isinstance(name, str) and name.strip() for name in classes)
    if not words or (
        tuple(classes) != AUTO and len({class_key(name) for name in classes} - {None}) < max(2, len(classes))
    ):
        raise DataError(f"`classes` must be auto, or the names of two or more different classes, got {classes!r:.200}.")


def label_word(label: Any) -> str | None:
    """
    The class of a row as a word: "3" for 3, 3.0 and "3.0"; `None` where it is missing.

    Raises:
        LabelError: if it is a fraction, or no text and no number.
    """
    key = class_key(label)
    if key is not None and is_number(key):
        if "." in key or "e" in key:
            raise LabelError(
                f"{label!r:.50} is a fraction", "a fraction as a class: scores need no `classes`", value=label
            )
        return key
    return None if key is None or not key else str(label).strip()


def unusable_class(label: Any, classes: Sequence[str]) -> str | None:
    """The reason to reject the label of a row, or `None`; classes that are not declared are all accepted."""
    try:
        word = label_word(label)
    except LabelError as error:
        return error.reason or f"a label that is no class{SEVERAL_HINT * isinstance(label, (list, tuple, np.ndarray))}"
    if word is None:
        return "no label"
    return None if tuple(classes) == AUTO else unknown_class(word, classes)


def unknown_class(word: str, classes: Sequence[str]) -> str | None:
    """The reason to reject a word that is none of the declared classes; `None` for one of them."""
    if class_key(word) in class_ids(classes):
        return None
    return f"a label that is none of the classes {listed(classes)}: {word!r:.50}"


def class_ids(names: Sequence[str]) -> dict[str, int]:
    """The number of each class by the key of its name; where no name is a number, numbers count the names from 0."""
    ids = {class_key(name): i for i, name in enumerate(names)}
    return ids if any(map(is_number, ids)) else {**ids, **{str(i): i for i in range(len(names))}}


def class_names(rows: Dataset) -> list[str] | None:
    """The names of the classes of a data set whose column `label` holds `ClassLabel`s or lists of them; else `None`."""
    label = (rows.features or {}).get("label")
    label = label.feature if isinstance(label, (List, LargeList)) else label
    return list(label.names) if isinstance(label, ClassLabel) else None


def has_label_sets(rows: Dataset) -> bool:
    """Whether the column `label` of a data set holds lists of `ClassLabel`s."""
    return class_names(rows) is not None and not isinstance(rows.features["label"], ClassLabel)


def label_words(rows: Dataset) -> list[Any]:
    """The column `label`, with the names of its `ClassLabel`s in the place of their numbers."""
    names, labels = class_names(rows), list(rows["label"])
    return labels if names is None else [named_label(names, label) for label in labels]


def named_label(names: Sequence[str] | None, label: Any) -> Any:
    """
    The name of a class by its number in a `ClassLabel` (`None` for none, which is -1), those of a list of numbers;
    other labels as they are.
    """
    if names is not None and isinstance(label, list):
        return [named_label(names, number) for number in label]
    if names is None or not isinstance(label, int):
        return label
    return names[label] if 0 <= label < len(names) else None


def number_classes(splits: DatasetDict, classes: Sequence[str], origin: str, order: list[str] | None) -> DatasetDict:
    """
    Numbers the classes of rows that were checked by [`unusable_class`].

    Args:
        splits (`DatasetDict`): with classes in the column `label`.
        classes (`Sequence[str]`): the names in the order of their numbers, or `AUTO`: those of the training rows (of
            all rows without a training split), words in alphabetical and numbers in rising order.
        origin (`str`): the name of the data, for messages.
        order (`list[str]`, *optional*): for `AUTO`, the names in the order of a `ClassLabel`.

    Returns:
        `DatasetDict` with a `ClassLabel` as last column.

    Raises:
        DataError: for `AUTO`, if there are fewer than two classes or too many, or a class of another split is not in
            the training rows; names it.
    """
    words = {split: label_words(rows) for split, rows in splits.items()}
    names = list(classes) if tuple(classes) != AUTO else order or find_names(words, origin)
    ids = class_ids(names)
    check_known(words, ids, origin)
    feature = ClassLabel(names=names)
    numbered = {}
    for split, rows in splits.items():
        labels = [ids[class_key(word)] for word in words[split]]
        numbered[split] = rows.remove_columns("label").add_column("label", labels, feature=feature)
        counts = Counter(labels)
        shown = ", ".join(f"{name} ({counts[i]})" for i, name in enumerate(names))
        logger.info("%s: classes of %s: %s.", origin, split, shown)
    return DatasetDict(numbered)


def find_names(words: dict[str, list[Any]], origin: str) -> list[str]:
    """
    The classes of the training rows (of all rows without a training split), in order, each as it is spelled most often.

    Raises:
        DataError: if there are fewer than two classes or too many.
    """
    counts = Counter(words["train"] if "train" in words else [word for column in words.values() for word in column])
    spellings: dict[str, str] = {}
    for word, _ in sorted(counts.items(), key=lambda item: (-item[1], str(item[0]))):
        spellings.setdefault(class_key(word), label_word(word))
    if not 2 <= len(spellings) <= MAX_CLASSES:
        several = f"{len(spellings)} different labels ({listed(list(spellings.values())[:_MAX_SHOWN])} ...)"
        one = f"one class alone ({listed(spellings.values())})" if spellings else "no class at all"
        found = several if len(spellings) > 1 else one
        raise DataError(
            f"{origin}: the training rows have {found}. If they are scores, remove `classes`; else set `classes` to "
            "the names of all classes."
        )
    return [spellings[key] for key in sorted(spellings, key=_place)]


def _place(key):
    return (0, int(key), "") if is_number(key) else (1, 0, key)


def check_known(words: dict[str, list[Any]], ids: dict[str, int], origin: str) -> None:
    """Raises `DataError` if a split has a class without a number, see [`class_ids`]."""
    for split, column in words.items():
        if unknown := Counter(str(word) for word in column if class_key(word) not in ids):
            shown = ", ".join(f"{word} ({count} rows)" for word, count in unknown.most_common(_MAX_SHOWN))
            raise DataError(
                f"{origin}: the {split} rows have classes that no training row has: {shown}. Set `classes` to the "
                "names of all classes; those that are left out are then unusable, see `rejected_rows`."
            )
