"""Run folders and folders of evaluations: metrics from predictions, and the origin of these."""

from dataclasses import replace

import numpy as np
import pytest
from made_results import CONFIG, FACTS, change
from safetensors.numpy import save_file

from hf_fusion.deployment.answer_config import answer_fields
from hf_fusion.evaluation.kept_predictions import (
    Predictions,
    describe_predictions,
    measure_predictions,
    read_predictions,
    write_predictions,
)
from hf_fusion.studies.verification.checks import PREDICTIONS, RECORD
from hf_fusion.studies.verification.runs import check_run
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import write_json

FINGERPRINT = {"validation": "aa", "test": "bb"}


def make_predictions(folder):
    numbers = np.random.default_rng(0)
    scores = numbers.uniform(-3, 3, (13, 1)).astype(np.float32)
    labels = {"labels": (scores[:, 0] + numbers.normal(size=13)).astype(np.float32)}
    splits = np.array(["validation"] * 5 + ["test"] * 8, dtype=object)
    facts = describe_predictions(folder, "made", FINGERPRINT, seed=1) | {"config": CONFIG}
    return Predictions(np.arange(13).astype(str).astype(object), splits, labels, {"logits": scores}, facts)


@pytest.fixture
def run(tmp_path):
    """A run folder with weights, predictions, metrics and environment."""
    folder = tmp_path / "run"
    folder.mkdir()
    save_file({"weight": np.zeros(2, np.float32)}, folder / "model.safetensors")
    predictions = make_predictions(folder)
    write_predictions(folder / "predictions.parquet", predictions)
    metrics = {split: {"loss": 0.7, **measure_predictions(predictions, split)} for split in ("validation", "test")}
    write_json(folder / "metrics.json", {"seed": 1, "parameters": 100, "train_seconds": 2.5, **metrics})
    write_json(folder / "environment.json", {"rows": {"validation": 5, "test": 8}, "data_fingerprint": FINGERPRINT})
    return folder


def lines(folder):
    return [str(one) for one in check_run(folder).disagreements]


def test_an_untouched_run_rests_on_its_predictions(run):
    checks = check_run(run)
    assert checks.disagreements == [] and checks.notes == []
    assert checks.counts[PREDICTIONS] > 10 and checks.counts[RECORD] == 4, "parameters, seconds and losses"


def test_changed_metrics_are_told(run):
    change(run / "metrics.json", lambda content: content["test"].update(mae=0.123))
    (line,) = lines(run)
    assert line.startswith("test.mae: given 0.123, found ") and "(tolerance" in line


@pytest.mark.parametrize("record", [[], {}, {"test": 3}, {"test": {"before": {}}}], ids=str)
def test_a_damaged_calibration_is_an_error(run, record):
    change(run / "metrics.json", lambda content: content.update(calibration=record))
    with pytest.raises(DataError, match="the calibration is damaged"):
        check_run(run)


@pytest.mark.parametrize("part", ["outputs", "labels"])
def test_changed_predictions_are_told(run, part):
    predictions = read_predictions(run / "predictions.parquet")
    changed = {name: values.copy() for name, values in getattr(predictions, part).items()}
    next(iter(changed.values()))[-1] += 0.5
    write_predictions(run / "predictions.parquet", replace(predictions, **{part: changed}))
    found = lines(run)
    assert any(line.startswith("test.mae: ") for line in found)
    assert not any(line.startswith("validation") for line in found)


def test_lost_rows_are_told(run):
    predictions = read_predictions(run / "predictions.parquet")
    write_predictions(run / "predictions.parquet", predictions.select(np.arange(12)))
    assert "predictions.parquet, rows of test: given 7, found 8 (tolerance 8e-06)" in lines(run)


def test_other_weights_and_data_are_told(run):
    save_file({"weight": np.ones(2, np.float32)}, run / "model.safetensors")
    change(run / "environment.json", lambda content: content["data_fingerprint"].update(test="cc"))
    data, weights = lines(run)
    assert data == "predictions.parquet, data of test: given bb, found cc"
    assert weights.startswith("predictions.parquet, SHA-256 of model.safetensors: given ")


def test_a_metric_that_the_predictions_do_not_give_is_told(run):
    change(run / "metrics.json", lambda content: content["test"].update(accuracy=0.99))
    assert lines(run) == ["test.accuracy: given 0.99, found no number"]


def test_the_files_of_another_run_are_told(run, tmp_path):
    """Also in a folder with another name, and those of other data."""
    other = run.rename(tmp_path / "other")
    save_file({"weight": np.ones(2, np.float32)}, other / "model.safetensors")
    predictions = read_predictions(other / "predictions.parquet").of_split("test")
    write_predictions(other / "predictions_noisy.parquet", predictions)
    write_json(other / "transfer.json", {"noisy": {"data": {}, "metrics": measure_predictions(predictions)}})
    own, noisy = lines(other)
    assert own.startswith("predictions.parquet, SHA-256 of model.safetensors: given ")
    assert noisy.startswith("predictions_noisy.parquet, SHA-256 of model.safetensors: given ")


def test_damaged_predictions_are_told(run):
    path = run / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    (line,) = lines(run)
    assert line.startswith("predictions.parquet: given predictions, found ") and "damaged" in line


def test_without_predictions_the_metrics_rest_on_the_record(run):
    (run / "predictions.parquet").unlink()
    checks = check_run(run)
    assert checks.disagreements == [] and PREDICTIONS not in checks.counts and checks.counts[RECORD] > 10
    assert checks.notes == ["no predictions.parquet"]


def test_an_evaluation_is_a_run_of_one_split(run):
    folder = run / "evaluation-test"
    predictions = read_predictions(run / "predictions.parquet").of_split("test")
    write_predictions(folder / "predictions.parquet", predictions)
    record = {"test": measure_predictions(predictions), "rows": 8, "data_fingerprint": {"test": "bb"}, **FACTS}
    write_json(folder / "metrics.json", record)
    checks = check_run(folder)
    assert checks.disagreements == [] and checks.counts[PREDICTIONS] == len(record["test"])
    change(folder / "metrics.json", lambda content: content.update(rows=9))
    save_file({"weight": np.ones(2, np.float32)}, run / "model.safetensors")
    rows, weights = lines(folder)
    assert "rows of test: given 8, found 9" in rows and "SHA-256 of model.safetensors" in weights


def test_the_earlier_name_of_a_metric(tmp_path, make_config):
    rng = np.random.default_rng(0)
    outputs = {"logits": rng.normal(size=(8, 5)), "coarse_logits": rng.normal(size=(8, 3)), "intensity": np.zeros(8)}
    outputs = {name: values.astype(np.float32) for name, values in outputs.items()}
    facts = {"config": answer_fields(make_config()), "data_fingerprint": {"test": "bb"}}
    ids, splits = np.arange(8).astype(str).astype(object), np.array(["test"] * 8, dtype=object)
    predictions = Predictions(ids, splits, {"labels": rng.integers(0, 5, 8)}, outputs, facts)
    write_predictions(tmp_path / "predictions.parquet", predictions)
    metrics = measure_predictions(predictions)
    metrics["fine_calibration_error"] = metrics.pop("fine_expected_calibration_error")
    write_json(tmp_path / "metrics.json", {"test": metrics, "rows": 8, "data_fingerprint": {"test": "bb"}, **FACTS})
    assert lines(tmp_path) == []
    change(tmp_path / "metrics.json", lambda content: content["test"].update(fine_calibration_error=0.5))
    (line,) = lines(tmp_path)
    assert "fine_calibration_error: given 0.5" in line


@pytest.mark.parametrize("content", ["{", "[]"])
def test_damaged_metrics_are_an_error(run, content):
    (run / "metrics.json").write_text(content)
    with pytest.raises(DataError, match=r"metrics\.json: not "):
        check_run(run)


def test_metrics_on_other_data_are_recomputed(run):
    predictions = read_predictions(run / "predictions.parquet").of_split("test")
    write_predictions(run / "predictions_half_of_it.parquet", predictions)
    without_input = dict.fromkeys(measure_predictions(predictions))
    transfer = {"half of it": measure_predictions(predictions), "no text": without_input}
    write_json(run / "transfer.json", {name: {"data": {}, "metrics": metrics} for name, metrics in transfer.items()})
    before = check_run(run).counts[PREDICTIONS]
    change(run / "transfer.json", lambda content: content["half of it"]["metrics"].update(mae=0.123))
    (line,) = lines(run)
    assert line.startswith("transfer.json, half of it.mae: given 0.123, found ")
    (run / "predictions_half_of_it.parquet").unlink()
    checks = check_run(run)
    assert checks.counts[PREDICTIONS] < before and checks.notes == ["no predictions_half_of_it.parquet"]


@pytest.mark.parametrize(("change_of_mae", "is_wrong"), [(0.004, False), (0.02, True)])
def test_predictions_made_later_may_differ_a_little(run, change_of_mae, is_wrong):
    """A training in bfloat16 has other outputs than its checkpoint in float32."""
    predictions = read_predictions(run / "predictions.parquet")
    predictions.facts["recomputed"] = True
    write_predictions(run / "predictions.parquet", predictions)
    before = check_run(run)
    assert before.disagreements == [] and before.remarks == []
    mae = measure_predictions(predictions, "test")["mae"] + change_of_mae
    change(run / "metrics.json", lambda content: content["test"].update(mae=mae))
    checks = check_run(run)
    assert bool(checks.disagreements) is is_wrong
    assert checks.counts[PREDICTIONS] == before.counts[PREDICTIONS] - 1
    (remark,) = checks.remarks
    assert remark == f"1 metrics differ from predictions made later from the checkpoint, by at most {change_of_mae:.2g}"
