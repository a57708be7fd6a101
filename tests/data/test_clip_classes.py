"""Classes in the column `label` of clips, and their numbers."""

import re

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict

from hf_fusion.data.clip_classes import AUTO, check_names, label_word, number_classes, unusable_class
from hf_fusion.data.labels import LabelError
from hf_fusion.utils.errors import DataError

NAMES = ("calm", "angry")


def splits(**labels):
    rows = {split: {"id": list(map(str, range(len(words)))), "label": words} for split, words in labels.items()}
    return DatasetDict({split: Dataset.from_dict(columns) for split, columns in rows.items()})


@pytest.mark.parametrize(
    ("label", "word"),
    [("Angry ", "Angry"), (3, "3"), (3.0, "3"), ("3.0", "3"), (-1, "-1"), ("", None), (None, None), (np.nan, None)],
)
def test_words(label, word):
    assert label_word(label) == word


@pytest.mark.parametrize("label", [0.5, "2.4", 1e-7])
def test_fractions_are_no_classes(label):
    with pytest.raises(LabelError, match="is a fraction"):
        label_word(label)
    assert unusable_class(label, AUTO) == "a fraction as a class: scores need no `classes`"


@pytest.mark.parametrize("classes", [(), ("calm",), ("calm", "Calm"), ("calm", ""), ("calm", 1), "calm"])
def test_names_that_are_none(classes):
    with pytest.raises(DataError, match=re.escape(f"or the names of two or more different classes, got {classes!r}")):
        check_names(classes)
    check_names(AUTO)
    check_names(NAMES)


def test_unusable_labels():
    assert unusable_class("ANGRY", NAMES) is None and unusable_class("glad", AUTO) is None
    assert unusable_class(None, NAMES) == unusable_class("nan", AUTO) == "no label"
    assert unusable_class("glad", NAMES) == "a label that is none of the classes calm, angry: 'glad'"
    assert unusable_class({}, NAMES) == "a label that is no class"
    hint = " (if each clip has any number of classes, set `several_labels`)"
    assert unusable_class([1], NAMES) == "a label that is no class" + hint


class TestNumbers:
    def test_words_are_sorted(self):
        found = number_classes(splits(train=["sad", "Calm", "calm", "sad", "calm"], test=["SAD"]), AUTO, "clips", None)
        assert found["train"].features["label"] == ClassLabel(names=["calm", "sad"])
        assert found["train"]["label"][:] == [1, 0, 0, 1, 0] and found["test"]["label"][:] == [1]

    def test_numbers_are_sorted_as_numbers(self):
        found = number_classes(splits(train=["10", "9", "2"]), AUTO, "clips", None)
        assert found["train"].features["label"].names == ["2", "9", "10"] and found["train"]["label"][:] == [2, 1, 0]

    def test_as_declared(self):
        found = number_classes(splits(train=["angry", "Calm"]), NAMES, "clips", None)
        assert found["train"]["label"][:] == [1, 0] and found["train"].features["label"].names == ["calm", "angry"]

    def test_numbers_count_the_names(self):
        assert unusable_class(1, NAMES) is None and unusable_class(2, NAMES)
        assert number_classes(splits(train=[1.0, 0.0]), NAMES, "clips", None)["train"]["label"][:] == [1, 0]
        assert unusable_class(0, ("1", "2"))  # these names are the numbers themselves

    def test_of_a_class_label(self):
        feature = ClassLabel(names=["sad", "calm", "angry"])
        rows = DatasetDict({"train": splits(train=[2, 1, 0])["train"].cast_column("label", feature)})
        found = number_classes(rows, AUTO, "clips", feature.names)
        assert found["train"].features["label"] == feature and found["train"]["label"][:] == [2, 1, 0]
        found = number_classes(rows, ("angry", "calm", "sad"), "clips", feature.names)
        assert found["train"]["label"][:] == [0, 1, 2]

    def test_rows_without_a_training_split(self):
        assert number_classes(splits(test=["b", "a"]), AUTO, "clips", None)["test"]["label"][:] == [1, 0]

    def test_a_class_that_training_rows_lack(self):
        words = "clips: the test rows have classes that no training row has: glad (2 rows). Set `classes` to the names"
        with pytest.raises(DataError, match=re.escape(words)):
            number_classes(splits(train=["a", "b"], test=["glad", "a", "glad"]), AUTO, "clips", None)

    @pytest.mark.parametrize(
        ("labels", "words"),
        [(["a", "A"], "one class alone (A)"), ([f"text {i}" for i in range(51)], "51 different labels (text 0")],
    )
    def test_too_few_and_too_many(self, labels, words):
        with pytest.raises(DataError, match=re.escape(f"clips: the training rows have {words}")):
            number_classes(splits(train=labels), AUTO, "clips", None)
