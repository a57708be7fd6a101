"""Baselines without training as variants of a study."""

import json

import numpy as np
import pytest
from scipy.special import softmax

import hf_fusion.studies.run_study as run_study_module
from hf_fusion.architectures import architecture_of
from hf_fusion.data.arguments import DataArguments
from hf_fusion.evaluation.kept_predictions import measure_predictions
from hf_fusion.evaluation.zero_shot import ZeroShotBaseline
from hf_fusion.studies.predictions import collect_study_predictions
from hf_fusion.studies.results import write_study
from hf_fusion.studies.run_study import run_study
from hf_fusion.studies.study import Study, StudyError
from hf_fusion.studies.study_tables import latex_rows, markdown_table
from hf_fusion.studies.summaries import summarize
from hf_fusion.studies.zero_shot_variants import measure_zero_shot
from hf_fusion.utils.errors import RecipeError

BASELINE = {"task": "zero-shot-classification", "model": "acme/nli"}
SIZES = {"dataset_options": {"num_train": 20, "num_validation": 9, "num_test": 11}}
POSITIVE = ("good", "great", "fine", "nice", "superb", "lovely", "excellent", "perfect")


class CountingModel:
    """Answers by the number of positive words."""

    num_parameters = 7

    def __init__(self):
        self.asked = []

    def class_probabilities(self, texts, names):
        self.asked.append((texts, names))
        counts = np.array([sum(word in text for word in POSITIVE) for text in texts])
        return softmax(-np.abs(np.arange(len(names)) - np.clip(counts, 0, 4)[:, None]).astype(float), axis=1)


@pytest.fixture
def model(monkeypatch):
    model = CountingModel()
    monkeypatch.setattr(ZeroShotBaseline, "load", lambda self: model)
    return model


def test_outputs_are_derived_from_the_fine_classes():
    data_args = DataArguments(dataset="synthetic-reviews", **SIZES, intensity_range=[-1, 1])
    data_args.complete("reviews")
    architecture = architecture_of("dyfulm")
    architecture.load(data_args)
    probabilities = np.array([[0.1, 0.2, 0.3, 0.3, 0.1], [0.0, 0.0, 0.0, 0.0, 1.0]])
    outputs = architecture.zero_shot_outputs(probabilities, data_args)
    assert np.exp(outputs["coarse_logits"]) == pytest.approx(np.array([[0.3, 0.3, 0.4], [0, 0, 1]]), abs=1e-9)
    assert outputs["intensity"] == pytest.approx([-0.1 - 0.1 + 0.15 + 0.1, 1.0])
    assert np.isfinite(outputs["logits"]).all() and list(outputs) == list(architecture.config_class.heads)
    config = architecture.zero_shot_config(data_args)
    assert config.intensity_range == (-1, 1) and next(iter(config.id2label.values())) == "very negative"


def test_measures_validation_test_and_other_data(model):
    other = {
        "dataset": "synthetic-reviews",
        "dataset_options": {**SIZES["dataset_options"], "seed": 5},
        "split": "train",
    }
    changes = {**SIZES, "baseline": BASELINE, "seed": 4, "max_eval_samples": 10}
    found = measure_zero_shot("dyfulm_synthetic", changes, {"other": other})
    result, environment = found.metrics, found.environment
    assert [len(texts) for texts, _ in model.asked] == [9, 10, 20]
    assert model.asked[0][1] == ["very negative", "negative", "neutral", "positive", "very positive"]
    data_args = DataArguments(dataset="synthetic-reviews", **SIZES)
    data_args.complete("reviews")
    rows = architecture_of("dyfulm").load(data_args)["validation"]
    probabilities = CountingModel().class_probabilities(rows["text"], range(5))
    accuracy = np.mean(probabilities.argmax(1) == rows["labels"])
    assert result["validation"]["fine_accuracy"] == pytest.approx(accuracy)
    intensity = probabilities @ np.linspace(0, 1, 5)
    error = np.abs(intensity - np.array(rows["intensity_labels"])).mean()
    assert result["validation"]["intensity_mae"] == pytest.approx(error)
    assert result["test"]["loss"] is None
    kept = measure_predictions(found.predictions, "test")
    assert {name: kept[name] for name in result["test"] if name != "loss"} == pytest.approx(
        {name: value for name, value in result["test"].items() if name != "loss"}, nan_ok=True
    )
    assert len(found.others["other"]) == 20 and found.predictions.facts["checkpoint"] == "nli"
    assert found.predictions.ids[:9].tolist() == list(rows["id"])
    facts = {
        "train_samples": 0,
        "train_seconds": 0.0,
        "parameters": 7,
        "answered_rows": 19,
        "zero_shot": True,
        "seed": 4,
    }
    assert result.items() >= facts.items() and result["answer_seconds"] >= 0
    assert environment["rows"] == {"validation": 9, "test": 10} and set(environment["data_fingerprint"]) == {
        "validation",
        "test",
    }


def test_clips_are_no_texts():
    with pytest.raises(RecipeError, match="Zero-shot baselines read texts with classes; a dashfusion reads clips"):
        measure_zero_shot("dashfusion_synthetic", {**SIZES, "baseline": BASELINE}, {})


class TestStudy:
    @pytest.fixture
    def study(self):
        variants = {"trained": {}, "NLI": {"baseline": {**BASELINE}}}
        return Study("dyfulm_synthetic", variants, [1, 2], {**SIZES}, ["fine_accuracy", "intensity_mae"])

    @pytest.fixture
    def trainings(self, monkeypatch):
        """Replaces training by metrics; gives the names of the runs."""
        names = []

        def run_all(waiting, slots, report):
            for run in waiting:
                names.append(run.name)
                metrics = {"fine_accuracy": 0.5 + 0.1 * len(names), "intensity_mae": 0.1, "loss": 1.0}
                content = {"test": metrics, "validation": metrics, "train_seconds": 1.0, "parameters": 3}
                (run.folder / "metrics.json").write_text(json.dumps(content))
                facts = {"data_fingerprint": {"test": "f"}, "rows": {"test": 11}}
                (run.folder / "environment.json").write_text(json.dumps(facts))

        monkeypatch.setattr(run_study_module, "run_all", run_all)
        return names

    def test_answers_once_for_all_seeds(self, study, model, trainings, tmp_path):
        study.check("study.yaml")
        lines = []
        results = run_study(study, tmp_path, say=lines.append)
        assert trainings == ["trained, seed 1", "trained, seed 2"] and "NLI: answering, without training" in lines
        assert len(model.asked) == 2 and results["NLI"][1]["test"] == results["NLI"][2]["test"]
        assert results["NLI"][2]["seed"] == 2 and results["NLI"][2]["last_log"] is None
        assert not any("No predictions" in line and "NLI" in line for line in lines)
        found, missing = collect_study_predictions(study, tmp_path)
        assert [key[:2] for key in found] == [("NLI", 1), ("NLI", 2)] and {key.variant for key in missing} == {
            "trained"
        }
        run_study(study, tmp_path, say=lines.append)
        assert len(model.asked) == 2 and "NLI, seed 2: finished before" in lines
        study.evaluate_on = {"other": {"dataset": "synthetic-reviews", **SIZES, "split": "validation"}}
        (tmp_path / "trained" / "seed-1" / "transfer.json").write_text(
            json.dumps({"other": {"data": study.evaluate_on["other"], "metrics": {"fine_accuracy": 0.4}}})
        )
        (tmp_path / "trained" / "seed-2" / "transfer.json").write_text(
            (tmp_path / "trained" / "seed-1" / "transfer.json").read_text()
        )
        results = run_study(study, tmp_path, say=lines.append)
        assert results["NLI"][2]["other"]["fine_accuracy"] == results["NLI"][1]["validation"]["fine_accuracy"]

    def test_tables_and_records_say_so(self, study, model, trainings, tmp_path):
        study.variants["NLI"]["baseline"] = {**BASELINE, "model": "/home/me/nli"}
        results = run_study(study, tmp_path, say=lambda line: None)
        summary = summarize(results)
        assert summary["NLI"]["zero_shot"] is True and summary["NLI"]["std"]["fine_accuracy"] == 0
        assert "| NLI (no training rows) |" in markdown_table(summary, ["fine_accuracy"], {})
        assert latex_rows(summary, ["fine_accuracy"])[1]["variant"] == "NLI (no training rows)"
        record = write_study(tmp_path / "out.json", study, "study.yaml", tmp_path, results, {"test": summary})
        assert record["variants"]["NLI"]["changes"]["baseline"]["model"] == "nli"
        assert record["variants"]["NLI"]["zero_shot"] and record["data"]["rows"] == {"test": 11}

    def test_folds(self, study, model, trainings, tmp_path):
        study.folds, study.overrides = [3, 5], {"dataset_options": {**SIZES["dataset_options"]}, "split_seed": 1}
        study.overrides["output_dir"] = "runs/{fold}"
        results = run_study(study, tmp_path, say=lambda line: None)
        assert (
            len(model.asked) == 4 and results["NLI"][1]["zero_shot"] and set(results["NLI"][1]["folds"]) == {"3", "5"}
        )

    def test_set_changes_a_field_of_the_baseline(self, study):
        study.set("variants.NLI.baseline.model=runs/mine")
        study.set("variants.NLI.baseline.batch_size=2")
        assert study.variants["NLI"]["baseline"] == {**BASELINE, "model": "runs/mine", "batch_size": 2}

    def test_errors_name_the_variant(self, study, trainings, tmp_path, monkeypatch):
        def load(self):
            raise OSError("acme/nli is no folder and no name on the Hub")

        monkeypatch.setattr(ZeroShotBaseline, "load", load)
        with pytest.raises(StudyError, match=f"NLI: {BASELINE['model']}: acme/nli is no folder"):
            run_study(study, tmp_path, say=lambda line: None)
        assert not trainings, "hours of training come after what may fail at once"

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            (
                {"variants": {"NLI": {"baseline": BASELINE}, "a": {}}},
                "the first variant is the reference, which must be",
            ),
            ({"variants": {"a": {}, "NLI": {"baseline": {"task": "x"}}}}, "'NLI': `baseline` must be a mapping"),
            (
                {"variants": {"a": {}, "N": {"baseline": BASELINE}, "s": {"teacher": "N"}}},
                "teacher of 's' is a baseline",
            ),
            ({"pareto_variants": ["NLI"]}, "pareto_variants has 'NLI', which is a baseline"),
        ],
    )
    def test_studies_that_are_none(self, study, changes, words):
        for name, value in changes.items():
            setattr(study, name, value)
        with pytest.raises(StudyError, match=words):
            study.check("study.yaml")
