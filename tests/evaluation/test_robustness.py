import numpy as np
import pytest
from datasets import Dataset

from hf_fusion.evaluation.robustness import (
    check_same_metrics,
    check_scenarios,
    default_scenarios,
    robustness,
    robustness_curves,
    summarize_curves,
    text_verdict,
)
from hf_fusion.utils.errors import DataError


@pytest.fixture
def rows():
    text = "one two three four five six seven eight nine ten"
    return Dataset.from_dict({"id": [str(i) for i in range(20)], "text": [text] * 20, "label": [1] * 20})


def words_left(rows):
    """A model that is the better the more words it reads."""
    return {"accuracy": float(np.mean([len(text.split()) / 10 for text in rows["text"]])), "mae": 1.0}


def test_curves_fall_with_severity(rows):
    curves = robustness_curves(words_left, rows, ["word_dropout", "word_dropout+typos"])
    assert set(curves) == {"word_dropout", "word_dropout+typos"}
    curve = curves["word_dropout"]["accuracy"]
    assert len(curve) == 6 and curve[0] == 1 and curve == sorted(curve, reverse=True)
    assert curve[5] == pytest.approx(0.5, abs=0.1)


def test_seeds_are_averaged(rows):
    runs = [
        robustness_curves(words_left, rows, ["word_dropout"], [seed])["word_dropout"]["accuracy"][4] for seed in (0, 1)
    ]
    both = robustness_curves(words_left, rows, ["word_dropout"], [0, 1])["word_dropout"]["accuracy"][4]
    assert runs[0] != runs[1] and both == pytest.approx(np.mean(runs))


def test_clean_is_measured_once(rows):
    calls = []
    robustness_curves(lambda rows: calls.append(1) or {"accuracy": 1.0}, rows, ["typos", "word_dropout"], [0, 1])
    assert len(calls) == 1 + 2 * 5 * 2


def test_damage_to_what_is_not_read_changes_nothing(rows):
    curves = robustness_curves(words_left, rows, ["audio_noise", "audio_loss+word_dropout"])
    assert curves["audio_noise"]["accuracy"] == [1.0] * 6 and curves["audio_loss+word_dropout"]["accuracy"][5] < 0.7


def test_unknown_damage():
    check_scenarios(["typos", "typos+audio_noise"], ["text", "audio"])
    with pytest.raises(DataError, match="no corruption 'rain'"):
        check_scenarios(["typos+rain"], ["text"])
    with pytest.raises(DataError, match="audio_loss needs audio"):
        check_scenarios(["audio_loss"], ["text"])


def test_numbers_of_a_curve():
    found = robustness([0.8, 0.8, 0.6, 0.6, 0.4, 0.4])
    assert found["clean"] == 0.8 and found["worst"] == 0.4
    assert found["area"] == pytest.approx((0.8 + 0.7 + 0.6 + 0.5 + 0.4) / 5)
    assert found["share"] == pytest.approx(0.75) and found["fall"] == pytest.approx(0.5)
    assert found["effective"] is None


def test_effective_robustness_compares_falls_not_heights():
    curve, lower = [0.8, 0.7, 0.6, 0.5, 0.4, 0.3], [0.6, 0.6, 0.6, 0.6, 0.6, 0.6]
    assert robustness(curve, [value - 0.2 for value in curve])["effective"] == pytest.approx(0)
    assert robustness(curve, lower)["effective"] == pytest.approx(-0.25)


def test_which_damage_data_can_suffer():
    assert default_scenarios(["id", "text", "label"]) == ["word_dropout", "typos", "speech_errors", "lower_case"]
    names = default_scenarios(["text", "audio"])
    assert "audio_shift" in names and "text_loss" in names and not any("vision" in name for name in names)


class TestVerdict:
    def summary(self, worst):
        curves = {
            "typos": {"accuracy": [0.8, 0.8, 0.8, 0.8, 0.8, worst]},
            "audio_noise": {"accuracy": [0.8] * 5 + [0.1]},
        }
        curves["text_loss"] = {"accuracy": [0.8] * 5 + [0.1]}  # no damaged text: none at all
        return summarize_curves(curves)

    def test_limit(self):
        assert text_verdict(self.summary(0.6), "accuracy")["at_fault"]
        assert not text_verdict(self.summary(0.7), "accuracy")["at_fault"]
        found = text_verdict(self.summary(0.6), "accuracy")
        assert found["scenario"] == "typos" and found["fall"] == pytest.approx(0.25)
        assert "typos costs 25.0% of accuracy (limit 15%): the text is the weak point." in found["verdict"]

    def test_a_model_without_text_must_hold(self):
        for other, at_fault in ((0.7, True), (0.5, False)):
            baseline = {"typos": {"accuracy": [other] * 6}}
            assert text_verdict(self.summary(0.6), "accuracy", baseline)["at_fault"] == at_fault

    def test_without_damage_to_texts(self):
        assert text_verdict(summarize_curves({"audio_noise": {"accuracy": [1.0] * 6}}), "accuracy") is None
        assert text_verdict(summarize_curves({"typos": {"mae": [1.0] * 6}}), "mae") is None


def test_baselines_have_the_same_metrics():
    with pytest.raises(DataError, match="other metrics: accuracy, mae"):
        check_same_metrics({"typos": {"accuracy": [1]}}, {"typos": {"mae": [1]}})
