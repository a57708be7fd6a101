import json
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset

from hf_fusion.evaluation.kept_predictions import make_predictions, measure_predictions
from hf_fusion.evaluation.statistics import hierarchical_difference, holm
from hf_fusion.studies.intervals import align_rows, resample_folds, resample_predictions
from hf_fusion.studies.power import note_power
from hf_fusion.studies.predictions import RunKey, write_study_predictions
from hf_fusion.studies.results import cell_lines, markdown_table, summarize
from hf_fusion.studies.study import StudyError
from hf_fusion.studies.verification.records import check_record
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import write_json

ROWS = 60


@pytest.fixture
def make(make_config):
    """Predictions of reviews whose fine class is right in about the share `quality` of the rows."""

    def predictions(seed, quality):
        rng = np.random.default_rng(seed)
        labels = np.arange(ROWS) % 5
        right = rng.random(ROWS) < quality
        columns = {"id": [f"hotel-{i // 6}/{i}" for i in range(ROWS)], "labels": labels.tolist()}
        outputs = {"logits": np.eye(5)[np.where(right, labels, (labels + 1) % 5)]}
        outputs |= {"coarse_logits": rng.normal(size=(ROWS, 3)), "intensity": rng.random(ROWS)}
        return make_predictions(make_config(), Dataset.from_dict(columns), "test", outputs)

    return predictions


@pytest.fixture
def runs(make):
    """The predictions of a study and its results."""
    variants = {"base": 0.5, "better": 0.9, "same": 0.5}
    predictions = {
        RunKey(name, seed, None, "test"): make(100 * seed + int(10 * quality) + len(name), quality)
        for name, quality in variants.items() for seed in (1, 2, 3)
    }  # fmt: skip
    results = {name: {} for name in variants}
    for key, run in predictions.items():
        test = {**measure_predictions(run), "loss": 1.0}
        results[key.variant][key.seed] = {"test": test, "validation": {"fine_accuracy": 0.5}, "train_seconds": 1.0,
                                          "parameters": 10, "last_log": None}  # fmt: skip
    return results, predictions


def right(predictions, name):
    return [run.outputs["logits"].argmax(-1) == run.labels["labels"]
            for key, run in predictions.items() if key.variant == name]  # fmt: skip


def test_both_intervals_stand_side_by_side(runs):
    results, predictions = runs
    summary = summarize(results, predictions=predictions)
    difference = summary["better"]["difference"]["fine_accuracy"]
    expected = hierarchical_difference(right(predictions, "better"), right(predictions, "base"))
    hierarchical = difference["hierarchical"]
    assert hierarchical["interval"] == pytest.approx(expected["interval"])
    assert hierarchical["mean"] == pytest.approx(difference["mean"]) and hierarchical["over"] == "seeds and rows"
    same = hierarchical_difference(right(predictions, "same"), right(predictions, "base"))
    assert hierarchical["p_holm"] == pytest.approx(holm([expected["p"], same["p"]])[0])
    assert difference["interval"] == summarize(results)["better"]["difference"]["fine_accuracy"]["interval"]
    low, high = summary["base"]["hierarchical"]["fine_accuracy"]
    assert low < summary["base"]["mean"]["fine_accuracy"] < high
    lines = cell_lines(summary["better"], "fine_accuracy", {}, digits=3)
    assert lines[2].startswith(f"seeds and rows [{hierarchical['interval'][0]:+.3f}, ") and len(lines) == 3
    assert "over seeds and rows" in note_power(summary, ["fine_accuracy"])
    assert "<br>seeds and rows [" in markdown_table(summary, ["fine_accuracy"], {})


@pytest.mark.parametrize("clusters", [None, r"hotel-(\d+)/"])
@pytest.mark.parametrize("hash_ids", [False, True])
def test_the_intervals_are_verified_from_the_kept_predictions(runs, tmp_path, hash_ids, clusters):
    results, predictions = runs
    families = {"one": {"metrics": ["fine_accuracy", "fine_macro_f1"], "variants": ["better"]}}
    summary = summarize(results, predictions=predictions, families=families, clusters=clusters)
    assert f"over seeds and {'clusters' if clusters else 'rows'}." in note_power(summary, ["fine_accuracy"])
    kept = write_study_predictions(tmp_path / "predictions" / "mine.parquet", predictions, hash_ids, clusters)
    record = {"study": "mine.yaml", "command": "hf-fusion study", "variants": summary, "families": families,
              "predictions": kept, **({"clusters": clusters} if clusters else {})}  # fmt: skip
    (tmp_path / "mine.md").write_text(f"### test\n\n{markdown_table(summary, ['fine_accuracy'], {})}")
    write_json(tmp_path / "mine.json", record)
    record = json.loads((tmp_path / "mine.json").read_text())
    assert not check_record(tmp_path / "mine.json", record).disagreements
    record["variants"]["better"]["difference"]["fine_accuracy"]["hierarchical"]["interval"][0] += 0.01
    (wrong,) = check_record(tmp_path / "mine.json", record).disagreements
    assert "better.difference.fine_accuracy.hierarchical.interval[0]" in wrong.place


def test_metrics_without_an_interval_over_rows_say_why(runs):
    results, predictions = runs
    summary = summarize(results, predictions=predictions)
    assert summary["better"]["difference"]["loss"]["hierarchical"] == {
        "interval": None, "p": None, "reason": "not computed for this metric", "p_holm": None
    }  # fmt: skip
    assert "hierarchical" not in summarize(results, "validation", predictions=predictions)["base"]


def test_a_run_without_predictions(runs):
    results, predictions = runs
    del predictions["same", 2, None, "test"]
    summary = summarize(results, predictions=predictions)
    assert summary["same"]["difference"]["fine_accuracy"]["hierarchical"]["reason"] == "no predictions of seed 2"
    assert summary["better"]["difference"]["fine_accuracy"]["hierarchical"]["interval"]
    del predictions["base", 1, None, "test"]
    summary = summarize(results, predictions=predictions)
    assert summary["better"]["difference"]["fine_accuracy"]["hierarchical"]["reason"] == "no predictions of seed 1"
    assert "hierarchical" not in summary["base"] and "hierarchical" in summary["better"]


def test_the_order_of_rows_does_not_matter(runs):
    results, predictions = runs
    expected = summarize(results, predictions=predictions)
    order = np.random.default_rng(0).permutation(ROWS)
    predictions = {key: run.select(order) if key.variant != "base" else run for key, run in predictions.items()}
    assert summarize(results, predictions=predictions) == expected


def test_other_rows_or_labels_cannot_be_paired(runs):
    results, predictions = runs
    key = ("better", 1, None, "test")
    own = predictions[key]
    renamed = replace(own, ids=np.array([f"other-{i}" for i in range(ROWS)], object))
    changed = replace(own, labels={"labels": (own.labels["labels"] + 1) % 5})
    doubled = replace(own, ids=np.where(np.arange(ROWS) == 1, own.ids[0], own.ids))
    for other, reason in ((renamed, "rows"), (changed, "labels"), (doubled, "rows"), (own.select(range(9)), "rows")):
        with pytest.raises(DataError, match=f"other test {reason} than the first variant"):
            align_rows(other, predictions["base", 1, None, "test"])
        summary = summarize(results, predictions={**predictions, RunKey(*key): other})
        hierarchical = summary["better"]["difference"]["fine_accuracy"]["hierarchical"]
        assert hierarchical["reason"] == f"other test {reason} than the first variant" and hierarchical["p"] is None
        assert summary["same"]["difference"]["fine_accuracy"]["hierarchical"]["interval"]


def test_clusters(runs):
    results, predictions = runs
    summary = summarize(results, predictions=predictions, clusters=r"^(hotel-\d+)/")
    hierarchical = summary["better"]["difference"]["fine_accuracy"]["hierarchical"]
    hotels = np.arange(ROWS) // 6
    expected = hierarchical_difference(right(predictions, "better"), right(predictions, "base"), hotels)
    assert hierarchical["interval"] == pytest.approx(expected["interval"])
    assert hierarchical["over"] == "seeds and clusters"
    whole = resample_predictions([predictions["base", 1, None, "test"]], clusters=r"^hotel-\d+")
    assert whole.units == 10 and whole.estimate("fine_accuracy")["over"] == "clusters"
    with pytest.raises(StudyError, match=r"'\^x' does not match the id 'hotel-0/0'"):
        summarize(results, predictions=predictions, clusters="^x")


def test_folds_are_resampled():
    rng = np.random.default_rng(0)
    sides = {name: quality + 0.1 * rng.normal(size=(3, 5)) for name, quality in (("base", 0.5), ("better", 0.9))}
    results = {name: {} for name in sides}
    for name, values in sides.items():
        for seed, row in enumerate(values, 1):
            folds = {str(fold): {"test": {"accuracy": value}} for fold, value in enumerate(row)}
            results[name][seed] = {"test": {"accuracy": row.mean()}, "folds": folds, "train_seconds": 1.0,
                                   "parameters": 10, "last_log": None}  # fmt: skip
    assert "hierarchical" not in summarize(results)["better"]["difference"]["accuracy"]
    difference = summarize(results, predictions={})["better"]["difference"]["accuracy"]
    expected = hierarchical_difference(sides["better"], sides["base"])
    assert difference["hierarchical"]["interval"] == pytest.approx(expected["interval"])
    assert difference["hierarchical"]["over"] == "seeds and folds"
    assert difference["hierarchical"]["degrees_of_freedom"] < 14
    folds = {seed: {fold: {"accuracy": None} for fold in "ab"} for seed in "12"}
    assert resample_folds(folds).estimate("accuracy")["interval"] is None
