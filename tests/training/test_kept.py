import json
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from datasets import Dataset

from hf_fusion.architectures import architecture_of
from hf_fusion.architectures.evaluate_checkpoint import load_split
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.kept_predictions import measure_predictions, predict_labelled, read_predictions
from hf_fusion.training.kept import complete_run, evaluate_split
from hf_fusion.training.recipe import read_data_arguments


class TestEvaluateSplit:
    """With a trainer whose outputs tell the row."""

    @pytest.fixture
    def trainer(self, make_config):
        def predict(rows, metric_key_prefix):
            assert list(rows["length"]) == sorted(rows["length"], reverse=True), "the longest first"
            number = np.array(rows["labels"], np.float32)
            outputs = (np.tile(number[:, None], 5), np.tile(number[:, None], 3), number)
            labels = tuple(np.array(rows[name]) for name in ("labels", "intensity_labels"))
            metrics = {"eval_loss": 0.5, "eval_runtime": 3.0, "eval_fine_accuracy": 0.25}
            return SimpleNamespace(predictions=outputs, label_ids=labels, metrics=metrics)

        model = SimpleNamespace(config=make_config())
        return SimpleNamespace(predict=predict, model=model, args=SimpleNamespace(label_names=None))

    @pytest.fixture
    def rows(self):
        columns = {"id": list("abcde"), "length": [3, 9, 3, 1, 5], "labels": [0, 1, 2, 3, 4]}
        return Dataset.from_dict({**columns, "intensity_labels": [0.0, 0.1, 0.2, 0.3, 0.4]})

    def test_ids_stay_with_their_rows(self, trainer, rows):
        metrics, predictions = evaluate_split(trainer, rows, "validation")
        assert metrics == {"loss": 0.5, "fine_accuracy": 0.25}
        assert predictions.ids.tolist() == list("abcde") and set(predictions.splits) == {"validation"}
        np.testing.assert_array_equal(predictions.outputs["intensity"], [0, 1, 2, 3, 4])
        np.testing.assert_array_equal(predictions.outputs["logits"][:, 4], [0, 1, 2, 3, 4])
        np.testing.assert_array_equal(predictions.labels["labels"], [0, 1, 2, 3, 4])
        assert list(predictions.labels) == ["labels", "intensity_labels"]

    def test_rows_without_ids_have_their_number(self, trainer, rows):
        _, predictions = evaluate_split(trainer, rows.remove_columns("id"), "test")
        assert predictions.ids.tolist() == ["0", "1", "2", "3", "4"]
        np.testing.assert_array_equal(predictions.outputs["intensity"], [0, 1, 2, 3, 4])

    def test_a_single_label_and_head(self, trainer, rows, clip_config):
        labels = np.array([5.0, 6.0, 7.0, 8.0, 9.0], np.float32)
        trainer.model.config = clip_config()
        trainer.predict = lambda rows, metric_key_prefix: SimpleNamespace(
            predictions=labels[:, None], label_ids=labels, metrics={}
        )
        _, predictions = evaluate_split(trainer, rows.remove_columns("intensity_labels"), "test")
        # rows b, e, a, c, d by length
        np.testing.assert_array_equal(predictions.outputs["logits"][:, 0], [7, 5, 8, 9, 6])
        np.testing.assert_array_equal(predictions.labels["labels"], [7, 5, 8, 9, 6])


class TestCompleteRun:
    @pytest.fixture
    def run_folder(self, make_model, processor, tmp_path):
        """A finished run from before predictions were kept."""
        folder = tmp_path / "run"
        make_model().save_pretrained(folder)
        processor.save_pretrained(folder)
        options = {"num_train": 2, "num_validation": 5, "num_test": 7}
        recipe = {"model_type": "dyfulm", "dataset": "synthetic-reviews", "dataset_options": options}
        (folder / "config.yaml").write_text(yaml.safe_dump({**recipe, "max_eval_samples": 6}))
        (folder / "metrics.json").write_text(json.dumps({"seed": 4, "validation": {}, "test": {}}))
        return folder

    def test_evaluates_the_checkpoint_once(self, run_folder):
        lines = []
        assert complete_run(run_folder, lines.append) is None
        assert lines == ["no predictions yet, evaluating its checkpoint"]
        predictions = read_predictions(run_folder / "predictions.parquet")
        assert predictions.splits.tolist() == ["validation"] * 5 + ["test"] * 6, "as the recipe limits them"
        assert predictions.facts["recomputed"] is True and predictions.facts["seed"] == 4
        classify = load_pipeline(str(run_folder), device="cpu")
        rows = load_split(classify.model.config, read_data_arguments(run_folder), "test")
        expected, part = predict_labelled(classify, rows), predictions.of_split("test")
        assert part.ids.tolist() == expected.ids.tolist() == list(rows["id"])
        np.testing.assert_allclose(part.outputs["logits"], expected.outputs["logits"], atol=1e-5)
        measured = architecture_of(classify.model.config).evaluate(part)
        assert measured == pytest.approx(measure_predictions(expected), abs=1e-5)
        assert complete_run(run_folder, lines.append) is None and len(lines) == 1

    def test_a_checkpoint_that_is_gone(self, run_folder):
        (run_folder / "model.safetensors").unlink()
        assert complete_run(run_folder, pytest.fail) == "its checkpoint is gone"
        assert not (run_folder / "predictions.parquet").exists()

    def test_data_that_is_gone(self, run_folder, tmp_path):
        recipe = yaml.safe_load((run_folder / "config.yaml").read_text())
        recipe = {"model_type": "dyfulm", "dataset": str(tmp_path / "gone.csv")}
        (run_folder / "config.yaml").write_text(yaml.safe_dump(recipe))
        reason = complete_run(run_folder, lambda line: None)
        assert reason.startswith("its checkpoint cannot be evaluated: ") and "gone.csv" in reason
        assert not (run_folder / "predictions.parquet").exists()

    def test_data_that_has_changed(self, run_folder):
        facts = {"data_fingerprint": {"train": "aa", "validation": "bb", "test": "cc"}}
        (run_folder / "environment.json").write_text(json.dumps(facts))
        reason = complete_run(run_folder, lambda line: None)
        assert reason == "its validation data is not that of its training (another fingerprint)"
        assert not (run_folder / "predictions.parquet").exists()
