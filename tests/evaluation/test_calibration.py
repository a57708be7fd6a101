import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from hf_fusion.evaluation.calibration import (
    FEWEST_ANSWERS,
    FEWEST_ROWS,
    CalibrationError,
    calibration_error,
    choose_threshold,
    fit_temperature,
    measure_coverage,
    measure_probabilities,
    risk_coverage,
)


def honest_logits(rows, classes=4, seed=0):
    """Logits of a model that is right as often as it says, and the labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (rows, classes))
    return logits, np.array([rng.choice(classes, p=p) for p in softmax(logits, axis=1)])


def test_calibration_error():
    assert calibration_error([1, 1, 0, 0], [1.0, 1.0, 0.0, 0.0]) == 0
    assert calibration_error([0, 0], [1.0, 1.0]) == 1
    # two bins: accuracy .5 at confidence .9, accuracy 0 at confidence .3
    assert calibration_error([1, 0, 0, 0], [0.9, 0.9, 0.3, 0.3]) == pytest.approx(0.5 * 0.4 + 0.5 * 0.3)
    # one bin for every tenth: accuracy 1 at .25 and 0 at .75
    assert calibration_error([1, 1, 0, 0], [0.25, 0.25, 0.75, 0.75]) == pytest.approx(0.75)


class TestMetrics:
    def test_by_hand(self):
        found = measure_probabilities(np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4]]), np.array([0, 2]))
        assert found["brier_score"] == pytest.approx(((0.09 + 0.04 + 0.01) + (0.01 + 0.25 + 0.36)) / 2)
        assert found["negative_log_likelihood"] == pytest.approx(-(np.log(0.7) + np.log(0.4)) / 2)
        assert found["expected_calibration_error"] == pytest.approx((0.3 + 0.5) / 2)

    def test_a_probability_of_zero_is_finite(self):
        found = measure_probabilities(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]))
        assert 300 < found["negative_log_likelihood"] < 400 and found["brier_score"] == 1

    @given(arrays(np.float64, (7, 3), elements=st.floats(-30, 30)), st.lists(st.integers(0, 2), min_size=7, max_size=7))
    def test_of_any_probabilities_lie_in_their_bounds(self, logits, labels):
        found = measure_probabilities(softmax(logits, axis=-1), np.array(labels))
        assert 0 <= found["expected_calibration_error"] <= 1 and 0 <= found["brier_score"] <= 2
        assert 0 <= found["negative_log_likelihood"] < 100


class TestTemperature:
    @pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
    def test_finds_how_much_too_sure_a_model_is(self, factor):
        logits, labels = honest_logits(4000)
        temperature = fit_temperature(factor * logits, labels)
        assert temperature == pytest.approx(factor, rel=0.06)
        losses = [
            measure_probabilities(softmax(factor * logits / (temperature * change), axis=-1), labels)
            for change in (0.97, 1.0, 1.03)
        ]
        assert min(range(3), key=lambda i: losses[i]["negative_log_likelihood"]) == 1, "the least of its neighbours"

    @pytest.mark.parametrize(
        ("logits", "labels", "reason"),
        [
            (np.zeros((FEWEST_ROWS - 1, 2)), np.arange(FEWEST_ROWS - 1) % 2, f"{FEWEST_ROWS - 1} rows"),
            (np.zeros((60, 2)), np.zeros(60, int), "one class"),
            (np.eye(2)[np.arange(60) % 2], np.arange(60) % 2, "all answers are right"),
            (np.eye(2)[np.arange(60) % 2], 1 - np.arange(60) % 2, "no better than chance"),
        ],
        ids=["few rows", "one class", "all right", "all wrong"],
    )
    def test_says_why_there_is_none(self, logits, labels, reason):
        with pytest.raises(CalibrationError, match=reason):
            fit_temperature(logits, labels)


class TestRiskCoverage:
    def test_by_hand(self):
        curve = risk_coverage([True, False, True, True], [0.9, 0.6, 0.6, 0.95])
        assert curve.coverage.tolist() == [0.25, 0.5, 1.0], "equal ones are given together"
        assert curve.risk.tolist() == [0.0, 0.0, 0.25] and curve.least.tolist() == [0.95, 0.9, 0.6]

    def test_of_no_answers_is_empty(self):
        assert not len(risk_coverage([], []).coverage)

    @given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.2, 0.35, 0.5, 0.8, 0.81, 1.0])), min_size=1))
    def test_each_point_is_what_its_limit_gives(self, rows):
        correct, confidence = map(np.array, zip(*rows, strict=True))
        curve = risk_coverage(correct, confidence)
        for coverage, risk, least in zip(*curve, strict=True):
            found = measure_coverage(correct, confidence, least)
            assert found == pytest.approx({"coverage": coverage, "answered_accuracy": 1 - risk})
        assert curve.coverage[-1] == 1


class TestThreshold:
    def test_is_the_lowest_that_keeps_the_accuracy(self):
        confidence = np.linspace(0.99, 0.4, 200)
        correct = np.random.default_rng(0).random(200) < confidence
        threshold = choose_threshold(correct, confidence, 0.9)
        found = measure_coverage(correct, confidence, threshold)
        assert found["answered_accuracy"] >= 0.9 and 0.1 < found["coverage"] < 1
        for lower in confidence[confidence < threshold]:
            assert measure_coverage(correct, confidence, lower)["answered_accuracy"] < 0.9
        assert not np.isclose(confidence, threshold).any(), "no answer lies on the limit"

    def test_all_answers_need_none(self):
        assert choose_threshold(np.ones(30, bool), np.linspace(0.3, 0.9, 30), 0.95) == 0

    def test_a_few_right_answers_are_chance(self):
        correct = np.arange(60) < FEWEST_ANSWERS - 1
        with pytest.raises(CalibrationError, match=rf"no {FEWEST_ANSWERS} or more of the 60 answers .* 0\.97"):
            choose_threshold(correct, np.linspace(0.9, 0.3, 60), 0.97)

    def test_no_answer_at_all(self):
        found = measure_coverage([True, False], [0.4, 0.5], 0.6)
        assert found["coverage"] == 0 and np.isnan(found["answered_accuracy"])
