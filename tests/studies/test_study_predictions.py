import hashlib
import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

import hf_fusion.studies.run_study as run_study_module
from hf_fusion.evaluation.kept_predictions import (
    join_predictions,
    make_predictions,
    measure_predictions,
    read_predictions,
    write_predictions,
)
from hf_fusion.studies.predictions import (
    RunKey,
    collect_study_predictions,
    read_study_predictions,
    write_study_predictions,
)
from hf_fusion.studies.results import write_study
from hf_fusion.studies.run_folders import get_run_folder
from hf_fusion.studies.run_study import run_study
from hf_fusion.studies.study import Study
from hf_fusion.studies.summaries import summarize
from hf_fusion.utils.errors import DataError

ON_OTHER_DATA = {"fine_accuracy": 0.4, "fine_calibration_error": 0.1}


@pytest.fixture
def make(make_config):
    """The predictions of a run, by its number."""

    def predictions(number, split="test", rows=6, **facts):
        rng = np.random.default_rng(number)
        outputs = {"logits": rng.normal(size=(rows, 5)), "coarse_logits": rng.normal(size=(rows, 3))}
        outputs["intensity"] = rng.normal(size=rows)
        labels = np.arange(rows) % 5
        columns = {"id": [f"user-{i}" for i in range(rows)], "labels": labels.tolist()}
        columns |= {} if number % 2 else {"intensity_labels": (labels / 4).tolist()}
        return make_predictions(make_config(), Dataset.from_dict(columns), split, outputs, facts=facts)

    return predictions


@pytest.fixture
def runs(make):
    keys = [(name, seed, fold, data) for name in ("base", "new one") for seed in (1, 2) for fold in ("0", "a/b")
            for data in ("test", "other")]  # fmt: skip
    return {RunKey(*key): make(number, seed=key[1], dataset="mine.csv") for number, key in enumerate(keys)}


@pytest.mark.parametrize("hash_ids", [False, True])
def test_all_runs_come_back(runs, tmp_path, hash_ids):
    path = tmp_path / "predictions" / "mine.parquet"
    entry = write_study_predictions(path, runs, hash_ids)
    assert entry["file"] == "predictions/mine.parquet" and entry["rows"] == 16 * 6
    assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    found = read_study_predictions(path)
    assert list(found) == list(runs)
    for key, predictions in runs.items():
        ids = [hashlib.sha256(row.encode()).hexdigest()[:12] if hash_ids else row for row in predictions.ids]
        assert found[key].ids.tolist() == ids and found[key].facts == predictions.facts
        assert list(found[key].labels) == list(predictions.labels), "labels that only some runs have"
        for name, values in predictions.outputs.items():
            np.testing.assert_array_equal(found[key].outputs[name], values)
        assert measure_predictions(found[key]) == pytest.approx(measure_predictions(predictions), nan_ok=True)
    table = pd.read_parquet(path)
    assert list(table)[:6] == ["variant", "seed", "fold", "data", "id", "split"]
    assert ("user-0" in set(table["id"])) != hash_ids
    assert hash_ids == (b"user-0" not in path.read_bytes())


def test_files_of_other_kinds(runs, tmp_path):
    write_predictions(tmp_path / "run.parquet", next(iter(runs.values())))
    with pytest.raises(DataError, match="predictions of a single run: read it with `read_predictions`"):
        read_study_predictions(tmp_path / "run.parquet")
    write_study_predictions(tmp_path / "study.parquet", runs)
    with pytest.raises(DataError, match=r"study\.parquet is damaged: The facts of the predictions are damaged"):
        read_predictions(tmp_path / "study.parquet")


@pytest.fixture
def study():
    return Study("dyfulm_synthetic", {"base": {}, "new one": {"cross_fusion": "a"}}, [1, 2])


@pytest.fixture
def finish(make, tmp_path, monkeypatch):
    """Finishes all runs of a study, with predictions."""

    def run_all(waiting, slots, report):
        for run in waiting:
            metrics = {"seed": 1, "test": {"fine_accuracy": 0.5}, "train_seconds": 1.0, "parameters": 10}
            (run.folder / "metrics.json").write_text(json.dumps(metrics))
            (run.folder / "environment.json").write_text(json.dumps({"data_fingerprint": {}, "rows": {}}))
            parts = [make(2, "validation", 3), make(4, "test", 5)]
            write_predictions(run.folder / "predictions.parquet", join_predictions(parts))

    monkeypatch.setattr(run_study_module, "run_all", run_all)


@pytest.fixture
def evaluations(make, monkeypatch):
    """Replaces the evaluation on other data; the folders that were evaluated."""
    seen = []

    def evaluate_checkpoint(folder, data_fields, keep):
        seen.append(folder)
        write_predictions(keep, make(6, data_fields.get("split", "test"), 4))
        return dict(ON_OTHER_DATA)

    monkeypatch.setattr(run_study_module, "evaluate_checkpoint", evaluate_checkpoint)
    return seen


def test_a_study_keeps_its_test_rows_and_those_of_other_data(study, finish, evaluations, tmp_path):
    study.folds, study.overrides = [0, 1], {"dataset": "acme/reviews_{fold}"}
    study.evaluate_on, study.hash_ids = {"other data": {"split": "validation"}}, True
    results = run_study(study, tmp_path, say=lambda line: None)
    assert (tmp_path / "base" / "fold-0" / "seed-1" / "predictions_other_data.parquet").exists()
    summaries = {split: summarize(results, split) for split in ("test", "other data")}
    record = write_study(tmp_path / "out" / "mine.json", study, "study.yaml", tmp_path, results, summaries)
    assert record["predictions"]["rows"] == 8 * (5 + 4) and "missing" not in record["predictions"]
    assert json.loads((tmp_path / "out" / "mine.json").read_text())["predictions"] == record["predictions"]
    found = read_study_predictions(tmp_path / "out" / record["predictions"]["file"])
    assert RunKey("new one", 2, "1", "other data") in found and len(found) == 16
    assert {len(found[key]) for key in found if key.data == "test"} == {5}, "without validation"
    assert not any("user" in row for predictions in found.values() for row in predictions.ids)
    assert record["families"].keys() == set(ON_OTHER_DATA), "also of the metrics that the test split lacks"


def test_older_results_get_their_predictions(study, finish, evaluations, tmp_path, monkeypatch):
    study.evaluate_on = {"other": {"dataset": "acme/reviews"}}
    run_study(study, tmp_path, say=lambda line: None)
    folder = get_run_folder(tmp_path, "base", 1)
    (folder / "predictions_other.parquet").unlink()
    for name, seed, _ in study.runs[:2]:
        (get_run_folder(tmp_path, name, seed) / "predictions.parquet").unlink()
    evaluations.clear()
    lines = []
    run_study(study, tmp_path, say=lines.append)
    assert not evaluations, "its checkpoint is gone"
    assert "No predictions of 2 run(s), its checkpoint is gone (base, seed 1; new one, seed 1)" in lines
    _, missing = collect_study_predictions(study, tmp_path)
    assert missing == [
        RunKey("base", 1, None, "test"), RunKey("base", 1, None, "other"), RunKey("new one", 1, None, "test")
    ]  # fmt: skip

    (folder / "model.safetensors").touch()
    monkeypatch.setattr(run_study_module, "complete_run", lambda folder, say: None)
    lines.clear()
    results = run_study(study, tmp_path, say=lines.append)
    assert evaluations == [folder] and "base, seed 1: no predictions yet, evaluating its checkpoint on other" in lines
    assert results["base"][1]["other"] == ON_OTHER_DATA, "as it was measured"
    run_study(study, tmp_path, say=lines.append)
    assert len(evaluations) == 1


def test_a_study_without_predictions_says_nothing_of_them(study, finish, tmp_path):
    results = run_study(study, tmp_path, say=lambda line: None)
    for name, seed, _ in study.runs:
        (get_run_folder(tmp_path, name, seed) / "predictions.parquet").unlink()
    record = write_study(tmp_path / "mine.json", study, "study.yaml", tmp_path, results, {"test": summarize(results)})
    assert "predictions" not in record and not (tmp_path / "predictions").exists()


def test_a_file_without_the_rows_of_a_run_is_damaged(runs, tmp_path):
    path = tmp_path / "study.parquet"
    write_study_predictions(path, runs)
    pq.write_table(pq.read_table(path).slice(6), path)
    with pytest.raises(DataError, match=r"study\.parquet is damaged: no rows of base, 1, 0, test"):
        read_study_predictions(path)
