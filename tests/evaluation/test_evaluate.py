"""The metrics and pictures of predictions that a test made up."""

import numpy as np
import pytest

from hf_fusion.evaluation import evaluate_clips as clips_module
from hf_fusion.evaluation import evaluate_reviews as reviews_module
from hf_fusion.evaluation.evaluate_clips import evaluate_clips
from hf_fusion.evaluation.evaluate_reviews import evaluate_reviews
from hf_fusion.evaluation.kept_predictions import Predictions

NAMES, COARSE = ["bad", "fair", "good"], ["negative", "positive"]
CLIPS = {"model_type": "dashfusion", "num_labels": 3, "id2label": {0: "calm", 1: "sad", 2: "glad"},
         "problem_type": "single_label_classification", "label_range": [-3, 3], "modalities": ["text"],
         "modality_dropout": 0.0, "modality_distillation": 0.0}  # fmt: skip


@pytest.fixture
def figures(monkeypatch):
    """The figures that are written, by name."""
    written = {}
    for module in (clips_module, reviews_module):
        monkeypatch.setattr(module, "save_figure", lambda figure, path: written.update({path.name: figure}))
    return written


def make(config, labels, outputs):
    labels = {name: np.array(values) for name, values in labels.items()}
    outputs = {name: np.array(values, np.float32) for name, values in outputs.items()}
    rows = len(next(iter(outputs.values())))
    return Predictions(np.arange(rows).astype(str), np.full(rows, "test"), labels, outputs, {"config": config})


def logits(answers, classes):
    """Logits by which a class has a probability, and the others the same share of the rest."""
    rows = np.empty((len(answers), classes))
    for row, (answer, probability) in zip(rows, answers, strict=True):
        row[:] = np.log((1 - probability) / (classes - 1))
        row[answer] = np.log(probability)
    return rows


def test_reviews(tmp_path, figures):
    config = {"model_type": "dyfulm", "num_labels": 3, "id2label": dict(enumerate(NAMES)), "problem_type": None,
              "coarse_id2label": dict(enumerate(COARSE)), "intensity_range": [0.0, 1.0]}  # fmt: skip
    labels = {"labels": [2, 1, 0, -100], "coarse_labels": [1, 0, 0, 1]}
    fine = logits([(2, 0.95), (2, 0.93), (0, 0.55), (1, 0.45)], 3)
    outputs = {"logits": fine, "coarse_logits": logits([(1, 0.77), (1, 0.77), (0, 0.77), (1, 0.77)], 2)}
    predictions = make(config, labels, {**outputs, "intensity": [0.5] * 4})
    metrics = evaluate_reviews(predictions, tmp_path, picture_format="svg")
    assert set(figures) == {"confusion_fine.svg", "confusion_coarse.svg", "calibration.svg"}
    assert metrics["fine_accuracy"] == pytest.approx(2 / 3) and metrics["coarse_accuracy"] == 0.75
    # by the fine score: bins .9 (1 of 2 right) and .5 (right)
    assert metrics["fine_expected_calibration_error"] == pytest.approx((2 * (0.94 - 0.5) + 0.45) / 3)
    (bars,) = figures["calibration.svg"].axes[0].containers
    np.testing.assert_allclose(bars[0].get_xydata(), [[0.55, 1], [0.94, 0.5]], rtol=1e-6)
    cells = {text.get_position(): text.get_text() for text in figures["confusion_fine.svg"].axes[0].texts}
    assert cells[2, 1] == "1" and cells[1, 2] == "0", "fair was taken for good, not good for fair"
    assert [text.get_text() for text in figures["confusion_coarse.svg"].axes[0].get_xticklabels()] == COARSE
    # log(1 / p - 1) of the best against the other two is halved
    predictions.facts["config"]["temperature"] = 2.0
    assert evaluate_reviews(predictions, tmp_path, picture_format="svg")["fine_accuracy"] == metrics["fine_accuracy"]
    (bars,) = figures["calibration.svg"].axes[0].containers
    assert bars[0].get_xydata()[-1, 0] == pytest.approx(
        np.mean([1 / (1 + 2 * np.sqrt((1 - p) / 2 / p)) for p in (0.95, 0.93)]), abs=1e-6
    )


def test_classes_of_clips(tmp_path, figures):
    outputs = {"logits": logits([(1, 0.9), (0, 0.6), (1, 0.7), (1, 0.8)], 3)}
    metrics = evaluate_clips(make(CLIPS, {"labels": [1, 0, 0, 1]}, outputs), tmp_path)
    assert (metrics["accuracy"], metrics["uar"], metrics["calm_recall"], metrics["sad_recall"]) == (0.75, 0.75, 0.5, 1)
    assert np.isnan(metrics["glad_recall"]) and 0 < metrics["calibration_error"] < 1
    cells = {text.get_position(): text.get_text() for text in figures["confusion.png"].axes[0].texts}
    assert cells[1, 0] == "1" and cells[1, 1] == "2" and cells[2, 2] == "0" and "calibration.png" in figures


def test_label_sets_of_clips(tmp_path, figures):
    names = {0: "calm", 1: "sad"}
    config = {**CLIPS, "num_labels": 2, "id2label": names, "problem_type": "multi_label_classification"}
    probabilities = np.array([[0.9, 0.2], [0.7, 0.6], [0.1, 0.3]])
    labels = np.array([[1, 0], [1, 0], [0, 0]], np.float32)
    predictions = make(config, {"labels": labels}, {"logits": np.log(probabilities / (1 - probabilities))})
    metrics = evaluate_clips(predictions, tmp_path)
    assert metrics["subset_accuracy"] == pytest.approx(2 / 3) and metrics["hamming_loss"] == pytest.approx(1 / 6)
    assert metrics["calm_f1"] == 1 and np.isnan(metrics["sad_f1"]) and metrics["macro_f1"] == 1
    (bars,) = figures["calibration.png"].axes[0].containers
    assert set(figures) == {"calibration.png"} and bars[0].get_xydata()[0] == pytest.approx([0.6, 0])
    assert 0 < metrics["calibration_error"] < 0.5


def test_clips(tmp_path, figures):
    config = {**CLIPS, "num_labels": 1, "id2label": {0: "LABEL_0"}, "problem_type": None}
    labels = {"labels": np.array([2.0, -1.0], np.float32)}
    assert evaluate_clips(make(config, labels, {"logits": [[1.0], [-2.5]]}), tmp_path)["mae"] == pytest.approx(1.25)
    axes = figures["scores.png"].axes[0]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [[2, 1], [-1, -2.5]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true score", "predicted score") and axes.get_xlim()[1] > 3
