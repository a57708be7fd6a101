"""The metrics and pictures of a pipeline on labelled rows, against answers that a test made up."""

from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from hf_fusion.evaluation import evaluate_clips as clips_module
from hf_fusion.evaluation import evaluate_reviews as reviews_module
from hf_fusion.evaluation.evaluate_clips import evaluate_clips
from hf_fusion.evaluation.evaluate_reviews import evaluate_reviews

NAMES, COARSE = ["bad", "fair", "good"], ["negative", "positive"]


@pytest.fixture
def figures(monkeypatch):
    """The figures that are written, by name."""
    written = {}
    for module in (clips_module, reviews_module):
        monkeypatch.setattr(module, "save_figure", lambda figure, path: written.update({path.name: figure}))
    return written


def reviews_pipeline(config):
    answers = [("good", 0.95, "positive"), ("good", 0.93, "positive"), ("bad", 0.55, "negative"),
               ("fair", 0.45, "positive")]  # fmt: skip

    def classify(texts, batch_size):
        for _, (label, score, coarse) in zip(texts, answers, strict=True):
            yield {"label": label, "score": score, "coarse": {"label": coarse, "score": 0.77}, "intensity": 0.5}

    classify.model = SimpleNamespace(config=config)
    return classify


def test_reviews(tmp_path, figures, make_config):
    names = {"id2label": dict(enumerate(NAMES)), "coarse_id2label": dict(enumerate(COARSE))}
    classify = reviews_pipeline(make_config(num_labels=3, num_coarse_labels=2, **names))
    rows = Dataset.from_dict({"text": list("abcd"), "labels": [2, 1, 0, None], "coarse_labels": [1, 0, 0, 1]})
    metrics = evaluate_reviews(classify, rows, tmp_path, picture_format="svg")
    assert set(figures) == {"confusion_fine.svg", "confusion_coarse.svg", "calibration.svg"}
    assert metrics["fine_accuracy"] == pytest.approx(2 / 3) and metrics["coarse_accuracy"] == 0.75
    # by the fine score: bins .9 (1 of 2 right) and .5 (right)
    assert metrics["fine_calibration_error"] == pytest.approx((2 * (0.94 - 0.5) + 0.45) / 3)
    (bars,) = figures["calibration.svg"].axes[0].containers
    np.testing.assert_allclose(bars[0].get_xydata(), [[0.55, 1], [0.94, 0.5]])
    cells = {text.get_position(): text.get_text() for text in figures["confusion_fine.svg"].axes[0].texts}
    assert cells[2, 1] == "1" and cells[1, 2] == "0", "fair was taken for good, not good for fair"
    assert [text.get_text() for text in figures["confusion_coarse.svg"].axes[0].get_xticklabels()] == COARSE


def test_classes_of_clips(tmp_path, figures):
    answers = [("sad", 0.9), ("calm", 0.6), ("sad", 0.7), ("sad", 0.8)]

    def classify(rows, batch_size):
        return [{"label": label, "score": score} for _, (label, score) in zip(rows, answers, strict=True)]

    names = {0: "calm", 1: "sad", 2: "glad"}
    config = SimpleNamespace(num_labels=3, id2label=names, problem_type="single_label_classification")
    classify.model = SimpleNamespace(config=config)
    rows = Dataset.from_dict({"text": ["a", "b", "c", "d"], "label": [1, 0, 0, 1]})
    metrics = evaluate_clips(classify, rows, tmp_path)
    assert (metrics["accuracy"], metrics["uar"], metrics["calm_recall"], metrics["sad_recall"]) == (0.75, 0.75, 0.5, 1)
    assert np.isnan(metrics["glad_recall"]) and 0 < metrics["calibration_error"] < 1
    cells = {text.get_position(): text.get_text() for text in figures["confusion.png"].axes[0].texts}
    assert cells[1, 0] == "1" and cells[1, 1] == "2" and cells[2, 2] == "0" and "calibration.png" in figures


def test_label_sets_of_clips(tmp_path, figures):
    answers = [{"calm": 0.9, "sad": 0.2}, {"calm": 0.7, "sad": 0.6}, {"calm": 0.1, "sad": 0.3}]

    def classify(rows, batch_size, top_k):
        assert top_k is None
        for _, scores in zip(rows, answers, strict=True):
            yield [{"label": name, "score": scores[name]} for name in sorted(scores, key=scores.get, reverse=True)]

    config = SimpleNamespace(num_labels=2, id2label={0: "calm", 1: "sad"}, problem_type="multi_label_classification")
    classify.model = SimpleNamespace(config=config)
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": [[0], [0], []]})
    metrics = evaluate_clips(classify, rows, tmp_path)
    assert metrics["subset_accuracy"] == pytest.approx(2 / 3) and metrics["hamming_loss"] == pytest.approx(1 / 6)
    assert metrics["calm_f1"] == 1 and np.isnan(metrics["sad_f1"]) and metrics["macro_f1"] == 1
    (bars,) = figures["calibration.png"].axes[0].containers
    assert set(figures) == {"calibration.png"} and bars[0].get_xydata()[0] == pytest.approx([0.6, 0])


def test_clips(tmp_path, figures):
    def classify(rows, batch_size):
        return [{"score": score} for _, score in zip(rows, (1.0, -2.5), strict=True)]

    classify.model = SimpleNamespace(config=SimpleNamespace(num_labels=1, label_range=(-3.0, 3.0)))
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [2.0, -1.0]})
    assert evaluate_clips(classify, rows, tmp_path)["mae"] == pytest.approx(1.25)
    axes = figures["scores.png"].axes[0]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [[2, 1], [-1, -2.5]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true score", "predicted score") and axes.get_xlim()[1] > 3
