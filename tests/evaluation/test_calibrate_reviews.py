import numpy as np
import pytest
from scipy.special import softmax

from hf_fusion.deployment.answer_config import answer_fields
from hf_fusion.evaluation.calibrate_reviews import calibrate_reviews, has_temperatures
from hf_fusion.evaluation.calibration import CalibrationError, measure_coverage
from hf_fusion.evaluation.kept_predictions import Predictions, measure_predictions

SURE = {"logits": 3.0, "coarse_logits": 0.5}  # by which its logits are too large


@pytest.fixture
def make_part(make_config):
    """Predictions of a model that is too sure of fine classes, and not sure enough of coarse ones."""

    def make(split, rows=600, seed=0, labels=("labels", "coarse_labels"), **fields):
        rng = np.random.default_rng(seed)
        outputs, truth = {"intensity": np.zeros(rows, np.float32)}, {}
        for (output, factor), name, classes in zip(SURE.items(), ("labels", "coarse_labels"), (5, 3), strict=True):
            logits = rng.normal(0, 1.5, (rows, classes))
            truth[name] = np.array([rng.choice(classes, p=p) for p in softmax(logits, axis=1)])
            outputs[output] = (factor * logits).astype(np.float32)
        truth["labels"][::10] = -100  # not known
        facts = {"config": answer_fields(make_config(**fields))}
        outputs = {name: outputs[name] for name in ("logits", "coarse_logits", "intensity")}
        known = {name: truth[name] for name in labels}
        return Predictions(np.arange(rows).astype(str), np.full(rows, split, object), known, outputs, facts)

    return make


def test_temperatures_of_both_heads(make_part):
    parts = {"validation": make_part("validation"), "test": make_part("test", 400, seed=1)}
    found = calibrate_reviews(parts)
    assert found.fields["temperature"] == pytest.approx(3, rel=0.15)
    assert found.fields["coarse_temperature"] == pytest.approx(0.5, rel=0.15) and found.fields["abstain_below"] is None
    for split, part in parts.items():
        record = found.record[split]
        assert record["rows"] == len(part) and "coverage" not in record
        assert len(record["before"]) == 6 and record["before"].keys() == record["after"].keys()
        assert all(record["after"][name] < record["before"][name] for name in record["before"]), split
        measured = measure_predictions(found.predictions[split])
        assert {name: measured[name] for name in record["after"]} == record["after"]
        assert measured["fine_accuracy"] == measure_predictions(part)["fine_accuracy"], "no answer changes"
        np.testing.assert_array_equal(found.predictions[split].outputs["logits"], part.outputs["logits"])
    assert found.record["not_fitted"] == {} and found.record["target_accuracy"] is None


def test_a_calibrated_model_is_calibrated_from_its_logits(make_part):
    first = calibrate_reviews({"validation": make_part("validation")})
    again = calibrate_reviews({"validation": make_part("validation", temperature=7.0, coarse_temperature=0.1)})
    assert again.fields == first.fields and again.record == first.record


def test_target_accuracy(make_part):
    parts = {"validation": make_part("validation"), "test": make_part("test", 400, seed=1)}
    found = calibrate_reviews(parts, target_accuracy=0.8)
    threshold = found.fields["abstain_below"]
    assert 0.3 < threshold < 1 and found.record["target_accuracy"] == 0.8
    assert found.record["validation"]["answered_accuracy"] >= 0.8
    part = found.predictions["test"]
    known = part.labels["labels"] != -100
    probabilities = softmax(part.outputs["logits"][known] / found.fields["temperature"], axis=1)
    right = probabilities.argmax(1) == part.labels["labels"][known]
    expected = measure_coverage(right, probabilities.max(1), threshold)
    assert {name: found.record["test"][name] for name in expected} == pytest.approx(expected)
    measured = measure_predictions(part)
    assert measured["fine_coverage"] == pytest.approx(expected["coverage"])
    assert measured["fine_answered_accuracy"] == pytest.approx(expected["answered_accuracy"])


def test_abstain_below_stays_changes_or_goes(make_part):
    part = make_part("validation", abstain_below=0.6)
    assert calibrate_reviews({"validation": part}).fields["abstain_below"] == 0.6
    found = calibrate_reviews({"validation": part}, abstain_below=0.4)
    assert found.fields["abstain_below"] == 0.4 and 0 < found.record["validation"]["coverage"] < 1
    assert calibrate_reviews({"validation": part}, abstain_below=0).fields["abstain_below"] is None


def test_a_target_that_all_answers_reach_needs_no_limit(make_part):
    found = calibrate_reviews({"validation": make_part("validation")}, target_accuracy=0.05)
    assert found.fields["abstain_below"] is None and found.record["not_fitted"] == {}


def test_a_target_out_of_reach_is_said(make_part):
    found = calibrate_reviews({"validation": make_part("validation", 60)}, target_accuracy=0.999)
    assert "0.999" in found.record["not_fitted"]["abstain_below"] and len(found.problems) == 1
    assert found.fields["abstain_below"] is None


def test_a_head_without_labels_keeps_its_temperature(make_part):
    found = calibrate_reviews({"validation": make_part("validation", labels=("coarse_labels",))})
    assert found.fields["temperature"] == 1 and found.fields["coarse_temperature"] != 1


def test_without_a_coarse_head(make_part):
    part = make_part("validation", labels=("labels",), num_coarse_labels=0)
    part.outputs.pop("coarse_logits")
    found = calibrate_reviews({"validation": part})
    assert set(found.fields) == {"temperature", "abstain_below"} and found.fields["temperature"] > 2


def test_one_head_that_cannot_be_fitted_is_said(make_part):
    part = make_part("validation", coarse_temperature=1.5)
    part.labels["coarse_labels"][:] = 1
    found = calibrate_reviews({"validation": part})
    assert found.record["not_fitted"] == {"coarse": "all rows are of one class"}
    assert found.problems == ["coarse is not calibrated: all rows are of one class."]
    assert found.fields["coarse_temperature"] == 1.5 and found.fields["temperature"] > 2, "it stays as it was"


@pytest.mark.parametrize(
    ("split", "rows", "reason"), [("test", 600, "no validation split"), ("validation", 20, "fine: there are 18 rows")]
)
def test_refuses_where_nothing_can_be_fitted(make_part, split, rows, reason):
    with pytest.raises(CalibrationError, match=reason):
        calibrate_reviews({split: make_part(split, rows)})


def test_pictures(make_part, tmp_path):
    parts = {"validation": make_part("validation"), "test": make_part("test", 400, seed=1)}
    calibrate_reviews(parts, target_accuracy=0.8).draw(tmp_path / "new", "svg")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "reliability_fine.svg", "reliability_coarse.svg", "risk_coverage.svg",
    }  # fmt: skip


def test_models_with_temperatures(make_config, clip_config):
    assert has_temperatures(make_config()) and not has_temperatures(clip_config(num_labels=3))


def test_a_test_split_without_classes_leaves_the_measures_of_validation(make_part, tmp_path):
    pytest.importorskip("matplotlib")
    parts = {"validation": make_part("validation"), "test": make_part("test", labels=())}
    parts["test"].labels["intensity_labels"] = np.linspace(0, 1, 600)
    found = calibrate_reviews(parts, abstain_below=0.5)
    assert 0 < found.record["validation"]["coverage"] < 1
    assert found.record["test"] == {"rows": 600, "before": {}, "after": {}}
    found.draw(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
