"""Several labels at once in the column `label` of clips, and their numbers."""

import re

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, List

from hf_fusion.data.clip_classes import AUTO, has_label_sets
from hf_fusion.data.label_sets import label_vectors, number_label_sets, set_words, unusable_set
from hf_fusion.data.labels import LabelError
from hf_fusion.utils.errors import DataError

NAMES = ("calm", "angry", "sad")


def splits(**labels):
    rows = {split: {"id": list(map(str, range(len(sets)))), "label": sets} for split, sets in labels.items()}
    return DatasetDict({split: Dataset.from_dict(columns) for split, columns in rows.items()})


def numbered(classes=AUTO, order=None, **labels):
    found = number_label_sets(splits(**labels), classes, "clips", order)
    assert all(has_label_sets(rows) for rows in found.values())
    return found["train"].features["label"].feature.names, {split: rows["label"][:] for split, rows in found.items()}


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (["Angry ", "sad"], ["Angry", "sad"]), ("calm; sad", ["calm", "sad"]), ("a|b,c", ["a", "b", "c"]),
        ('["so, so", "sad"]', ["so, so", "sad"]), ("[1, 0]", ["1", "0"]), ("sad", ["sad"]), (3, ["3"]),
        (np.array([1.0, 0.0]), ["1", "0"]), ((True, False), ["1", "0"]), ([], []), ("[]", []), (" ", None), (";", None),
        (None, None), (np.nan, None), ("nan", None),
    ],
)  # fmt: skip
def test_words(label, words):
    assert set_words(label) == words


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ([0.5], "a fraction as a class: scores need no `classes`"), (["sad", None], "a list with an empty label"),
        ("[sad]", "a label that is no JSON list"), ({"sad": 1}, "a label that is no list of classes"),
        ([["sad"]], "a label that is no list of classes"),
        (None, "no label (a clip to which no class applies has the label [])"),
        (["sad", "glad"], "a label that is none of the classes calm, angry, sad: 'glad'"),
        ([3], "a label that is none"),
    ],
)  # fmt: skip
def test_unusable_ones(label, reason):
    assert unusable_set(label, NAMES).startswith(reason)


def test_usable_ones():
    assert unusable_set(["SAD", 0], NAMES) is unusable_set([], NAMES) is unusable_set(["glad"], AUTO) is None
    assert unusable_set([0, 1, 1], ("3", "5", "8")) is None, "a vector"
    assert unusable_set([0, 1], ("3", "5", "8")).startswith("a label that is none of the classes")
    with pytest.raises(LabelError, match="no JSON list"):
        set_words("[1")


class TestNumbers:
    def test_words_are_sorted(self):
        names, sets = numbered(train=[["sad", "Calm"], [], ["calm"], ["sad"]], test=[["SAD"], []])
        assert names == ["Calm", "sad"] and sets == {"train": [[0, 1], [], [0], [1]], "test": [[1], []]}

    def test_as_declared(self):
        names, sets = numbered(NAMES, train=[["sad", "Calm"], ["2"]])
        assert names == list(NAMES) and sets["train"] == [[0, 2], [2]]

    def test_numbers(self):
        assert numbered(train=[["10", "2"], ["9"]]) == (["2", "9", "10"], {"train": [[0, 2], [1]]})

    def test_vectors(self):
        names, sets = numbered(NAMES, train=[["0", "1", "1"], ["0", "0", "0"]], test=[["1", "0", "0"]])
        assert names == list(NAMES) and sets == {"train": [[1, 2], []], "test": [[0]]}
        assert numbered(train=[["0", "1", "1"], ["1", "1", "0"]]) == (["0", "1", "2"], {"train": [[1, 2], [0, 1]]})
        assert numbered(("a", "b"), train=[["0", "1"], ["1", "0"]])[1]["train"] == [[1], [0]]

    def test_lists_of_numbers_are_no_vectors(self):
        assert numbered(("a", "b"), train=[["0", "1"], ["1"]])[1]["train"] == [[0, 1], [1]]
        assert numbered(("a", "b"), train=[["0", "1"]], test=[[]])[1]["train"] == [[0, 1]]

    def test_a_vector_among_lists_is_an_error(self):
        words = "clips (test): the label of row 2 (1) has a class twice: 0, 1, 0. Vectors of 0 and 1 must have the same"
        with pytest.raises(DataError, match=re.escape(words)):
            numbered(NAMES, train=[["0", "1"]], test=[["1"], ["0", "1", "0"]])
        with pytest.raises(DataError, match=r"row 1 .* has a class twice: sad, SAD"):
            numbered(train=[["sad", "SAD"], ["calm"]])

    def test_of_class_labels(self):
        feature = List(ClassLabel(names=["sad", "calm", "angry"]))
        rows = splits(train=[[2, 0], [1], []])["train"].cast_column("label", feature)
        found = number_label_sets(DatasetDict(train=rows), AUTO, "clips", ["sad", "calm", "angry"])["train"]
        assert found.features["label"] == feature and found["label"][:] == [[0, 2], [1], []]
        found = number_label_sets(DatasetDict(train=rows), NAMES, "clips", ["sad", "calm", "angry"])["train"]
        assert found["label"][:] == [[1, 2], [0], []]

    def test_a_class_that_training_rows_lack(self):
        with pytest.raises(DataError, match=r"the test rows have classes that no training row has: glad \(1 rows\)"):
            numbered(train=[["sad", "calm"]], test=[["glad"]])

    def test_one_class_alone(self):
        with pytest.raises(DataError, match=re.escape("one class alone (sad)")):
            numbered(train=[["sad"], []])

    def test_no_class_at_all(self):
        with pytest.raises(DataError, match="clips: the training rows have no class at all"):
            numbered(train=[[], []], test=[["sad"], ["calm"]])


def test_vectors_of_sets():
    vectors = label_vectors([[0, 2], [], [1]], 3)
    assert vectors.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]] and vectors.dtype == np.float32
