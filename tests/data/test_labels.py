import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_fusion.data.labels import LabelError, LabelRules, coarse_starts, read_number, warn_of_other_scale, word_key


def test_stars():
    rules = LabelRules()
    fine = [rules.fine_of_stars(stars) for stars in (1, 2, 3, 4, 5)]
    assert fine == [0, 1, 2, 3, 4]
    assert [rules.coarse_of_fine(value) for value in fine] == [0, 0, 1, 2, 2]
    assert [rules.intensity(stars) for stars in (1, 2, 5)] == [0, 0.25, 1]


def test_scores_are_cut_into_equal_parts():
    rules = LabelRules(scale=(0, 10))
    assert [rules.fine_of_score(score) for score in (0, 1.9, 2, 5, 8, 10)] == [0, 0, 1, 2, 4, 4]
    ten = LabelRules(scale=(1.0, 10.0))
    assert [ten.fine_of_score(score) for score in (2.79, 2.8, 4.6, 6.4, 8.2)] == [0, 1, 2, 3, 4]
    assert rules.intensity(2.5) == 0.25


def test_other_bounds_of_the_coarse_classes():
    rules = LabelRules(num_labels=3, coarse=(0, 2))
    assert [rules.coarse_of_fine(fine) for fine in range(3)] == [0, 0, 1]


@given(score=st.floats(-3, 3))
def test_every_score_on_the_scale_has_labels(score):
    rules = LabelRules(scale=(-3, 3), num_labels=7, coarse=(0, 3, 4))
    assert 0 <= rules.intensity(score) <= 1
    assert rules.fine_of_score(score) in range(7)


@pytest.mark.parametrize("score", [-0.1, 10.1, float("nan"), float("inf")])
def test_scores_outside_the_scale(score):
    with pytest.raises(LabelError, match="0 to 10"):
        LabelRules(scale=(0, 10)).intensity(score)


@pytest.mark.parametrize("stars", [0, 6, 2.5])
def test_stars_that_are_none(stars):
    with pytest.raises(LabelError, match="1 to 5"):
        LabelRules().fine_of_stars(stars)


@pytest.mark.parametrize(
    "fields", [{"scale": (5, 1)}, {"coarse": (1, 2)}, {"coarse": (0, 3, 2)}, {"coarse": (0, 7)}, {"coarse": ()}]
)
def test_rules_that_make_no_sense(fields):
    with pytest.raises(LabelError):
        LabelRules(**fields)


def test_coarse_classes_that_nobody_declared():
    assert [coarse_starts(count) for count in (2, 3, 4, 5, 7, 10)] == [
        (0, 1), (0, 1, 2), (0, 1, 3), (0, 2, 3), (0, 3, 4), (0, 4, 6),
    ]  # fmt: skip


@pytest.mark.parametrize("fields", [{"num_labels": 3}, {"num_labels": 2, "names": ("a", "A ")}, {"names": ("a", "")}])
def test_names_that_make_no_sense(fields):
    with pytest.raises(LabelError, match="class words"):
        LabelRules(**{"names": ("a", "b"), **fields})


@pytest.mark.parametrize(
    ("scores", "told"), [([-1, 0.2, 1], True), ([0, 3], True), ([-1.2, 0.5], False), ([-3, 3], False)]
)
def test_scores_that_may_be_on_another_scale(scores, told, caplog):
    warn_of_other_scale(np.array(scores, float), (-3, 3), "x.pkl")
    assert ("set `label_range`" in caplog.text) == told


def test_scores_beyond_the_scale_by_rounding():
    rules = LabelRules(scale=(0.0, 1.0))
    assert rules.intensity(-7.4e-17) == 0 and rules.fine_of_score(-7.4e-17) == 0
    assert rules.intensity(1.0000000000000002) == 1 and rules.fine_of_score(1.0000000000000002) == 4
    with pytest.raises(LabelError, match="lies outside the scale 0 to 1"):
        rules.intensity(1.001)


def test_errors_say_what_was_given():
    with pytest.raises(LabelError) as error:
        LabelRules(scale=(0, 10)).intensity(11)
    assert (error.value.field, error.value.value, error.value.reason) == ("score", 11, None)
    with pytest.raises(LabelError) as error:
        LabelRules().fine_of_stars(2.5)
    assert (error.value.field, error.value.value) == ("stars", 2.5)
    with pytest.raises(LabelError) as error:
        read_number("a|b")
    assert (error.value.value, error.value.detail, str(error.value)) == (
        "a|b",
        "'a|b' is no number",
        "'a|b' is no number",
    )
    whole = pickle.loads(pickle.dumps(LabelError("'x' is none of 0 to 4", "no number", "label", "x")))
    assert (whole.detail, whole.reason, whole.field, whole.value) == (
        "'x' is none of 0 to 4",
        "no number",
        "label",
        "x",
    )
    assert str(whole) == "no number: 'x' is none of 0 to 4"


def test_letters_with_accents_have_one_spelling():
    assert word_key("Ne\u0301gatif") == word_key("n\xe9gatif ") != word_key("negatif")
