import pytest

from hf_fusion.data.class_values import ClassValues, class_key, ids_of_words
from hf_fusion.data.labels import LabelError


@pytest.mark.parametrize(
    ("value", "key"),
    [(3, "3"), ("3.0", "3"), (3.0, "3"), ("0.5", "0.5"), (" Good ", "good"), (True, "true"), (None, None), ("", None)],
)
def test_keys(value, key):
    assert class_key(value) == key


def test_values_that_are_no_classes():
    with pytest.raises(LabelError):
        class_key([1])


def test_counts():
    values = ClassValues("label", "own")
    assert [values.add(value) for value in ("Good", "good", "bad", 2, None, "1.0")] == [True] * 4 + [False, True]
    assert values.words == ["good", "bad"] and values.numbers == [1, 2] and values.are_words
    assert values.shown(values.words) == "'Good' (2), 'bad' (1)"
    assert not ClassValues("label", "own", ["bad", "good"]).add(-1), "how a `ClassLabel` says that there is none"


@pytest.mark.parametrize(
    ("words", "names", "ids"),
    [
        (["Good", "bad"], ["bad", "good"], {"bad": 0, "good": 1}),
        (["positive", "negative"], ["bad", "good"], {"negative": 0, "positive": 1}),
        (["positive", "negative"], ["good", "bad"], {"negative": 1, "positive": 0}),
        (["2 stars", "1 star"], ["bad", "good"], {"1 star": 0, "2 stars": 1}),
        (["LABEL_1", "LABEL_0"], ["red", "blue"], {"label 0": 0, "label 1": 1}),
        (["green", "blue"], ["red", "blue"], {"red": 0, "blue": 1}),
    ],
    ids=["names", "meaning", "best first", "ratings", "numbers", "unknown"],
)
def test_words_and_names(words, names, ids):
    assert ids_of_words(words, names) == ids
