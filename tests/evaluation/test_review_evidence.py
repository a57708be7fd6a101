"""What stands beside the metrics of reviews, for predictions that a test made up."""

import json

import numpy as np
import pytest
from datasets import Dataset
from sklearn.metrics import classification_report

from hf_fusion.evaluation import review_evidence as module
from hf_fusion.evaluation.baselines import ReviewBaselines, fit_review_baselines
from hf_fusion.evaluation.kept_predictions import Predictions, measure_predictions
from hf_fusion.evaluation.review_evidence import describe_answers, draw_confusions, gather_evidence
from hf_fusion.evaluation.statistics import share_interval

NAMES, COARSE = ["bad", "ok", "good"], ["negative", "positive"]
CONFIG = {"model_type": "dyfulm", "num_labels": 3, "id2label": dict(enumerate(NAMES)), "problem_type": None,
          "coarse_id2label": dict(enumerate(COARSE)), "intensity_range": [0.0, 1.0]}  # fmt: skip


def make_rows(count, seed=0):
    """Reviews whose word tells the class, but for a third of them."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(3, count, p=[0.5, 0.2, 0.3])
    texts = [f"the {NAMES[c] if rng.random() < 0.67 else 'usual'} room" for c in classes]
    columns = {"labels": classes, "coarse_labels": (classes == 2).astype(int), "intensity_labels": classes / 2}
    return Dataset.from_dict({"text": texts, **columns})


def predict(rows, answers, coarse=None):
    """The predictions of a model that gives these fine classes, and the coarse ones that follow unless given."""
    answers = np.asarray(answers)
    coarse = (answers == 2).astype(int) if coarse is None else np.asarray(coarse)
    outputs = {"logits": np.eye(3)[answers], "coarse_logits": np.eye(2)[coarse], "intensity": answers / 2}
    labels = {name: np.array(rows[name]) for name in ("labels", "coarse_labels", "intensity_labels")}
    labels["intensity_labels"] = labels["intensity_labels"].astype(np.float32)
    outputs = {name: values.astype(np.float32) for name, values in outputs.items()}
    splits = np.full(len(rows), "test")
    return Predictions(np.arange(len(rows)).astype(str), splits, labels, outputs, {"config": CONFIG})


@pytest.fixture(scope="module")
def rows():
    return make_rows(400)


@pytest.fixture(scope="module")
def baselines(rows):
    return fit_review_baselines(make_rows(300, seed=1), {"test": rows})


def test_classes_and_confusion_are_those_of_scikit_learn(rows):
    answers = np.random.default_rng(3).integers(0, 3, len(rows))
    evidence = describe_answers(predict(rows, answers))
    expected = classification_report(rows["labels"], answers, target_names=NAMES, output_dict=True)
    for i, (name, counts) in enumerate(evidence["classes"]["fine"].items()):
        for share, other in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert counts[share] == pytest.approx(expected[name][other])
        assert counts["rows"] == expected[name]["support"] == sum(evidence["confusion"]["fine"][i])
        assert counts["predicted"] == (answers == i).sum() == sum(row[i] for row in evidence["confusion"]["fine"])
    assert list(evidence["classes"]["coarse"]) == COARSE and evidence["rows"] == 400


def test_rows_without_a_label_do_not_count(rows):
    predictions = predict(rows, rows["labels"])
    predictions.labels["labels"] = np.where(np.arange(400) < 100, predictions.labels["labels"], -100)
    evidence = describe_answers(predictions)
    assert sum(map(sum, evidence["confusion"]["fine"])) == 100
    assert sum(map(sum, evidence["confusion"]["coarse"])) == 400


def test_intervals_hold_the_metric_and_shrink_with_rows(rows):
    answers = np.where(np.random.default_rng(7).random(400) < 0.3, 0, rows["labels"])
    predictions = predict(rows, answers)
    evidence, metrics = describe_answers(predictions), measure_predictions(predictions)
    for name, (low, high) in evidence["intervals"].items():
        assert low < metrics[name] < high, name
    right = int(sum(answers == np.array(rows["labels"])))
    assert evidence["intervals"]["fine_accuracy"] == pytest.approx(share_interval(right, 400))
    few = describe_answers(predictions.select(np.arange(100)))["intervals"]["fine_macro_f1"]
    assert np.diff(few) > 1.5 * np.diff(evidence["intervals"]["fine_macro_f1"])


def test_the_bootstrap_interval_is_that_of_drawn_rows(rows):
    answers = np.random.default_rng(1).integers(0, 3, 400)
    predictions, rng = predict(rows, answers), np.random.default_rng(5)
    drawn = [measure_predictions(predictions.select(rng.integers(0, 400, 400)))["fine_macro_f1"] for _ in range(200)]
    low, high = describe_answers(predictions)["intervals"]["fine_macro_f1"]
    assert (low, high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.012)


def test_a_model_behind_bag_of_words_is_told(rows, baselines):
    evidence = gather_evidence({"test": predict(rows, np.zeros(400, int))}, baselines)
    part = evidence["splits"]["test"]
    assert evidence["training_rows"] == {"majority": 300, "bag of words": 300}
    assert part["lead"]["fine_macro_f1"]["mean"] < 0 and part["lead"]["fine_macro_f1"]["interval"][1] < 0
    first, second, silent, coarse = part["warnings"]
    rival = part["baselines"]["bag of words"]["fine_macro_f1"]
    assert first == f"On test the model is not ahead of bag of words in fine_macro_f1: 0.209 against {rival:.3f}."
    assert "coarse_macro_f1" in second
    counts = [rows["labels"][:].count(i) for i in range(3)]
    assert silent == (
        f'On test the model never answers the fine class "ok" ({counts[1]} of 400 reviews), "good" '
        f"({counts[2]} of 400 reviews)."
    )
    assert '"positive"' in coarse
    assert json.loads(json.dumps(evidence)) == evidence, "all of it is plain JSON"


def test_a_model_that_is_ahead_is_not_warned_of(rows, baselines):
    part = gather_evidence({"test": predict(rows, rows["labels"])}, baselines)["splits"]["test"]
    assert part["warnings"] == [] and set(part["baselines"]) == {"majority", "bag of words"}
    assert part["lead"]["coarse_macro_f1"]["interval"][0] > 0
    names = {"fine_accuracy", "fine_macro_f1", "coarse_accuracy", "coarse_macro_f1", "intensity_mae", "intensity_corr"}
    for metrics in part["baselines"].values():
        assert names <= set(metrics) <= set(measure_predictions(predict(rows, rows["labels"])))


def test_the_same_answers_have_no_lead(rows, baselines):
    answers = baselines.answers["test"]["bag of words"]
    predictions = predict(rows, answers["fine"], answers["coarse"])
    part = gather_evidence({"test": predictions}, baselines)["splits"]["test"]
    assert part["lead"]["fine_macro_f1"] == {"mean": 0.0, "interval": [0.0, 0.0]}
    assert [text.split(":")[0] for text in part["warnings"][:2]] == [
        f"On test the model is not ahead of bag of words in {name}" for name in ("fine_macro_f1", "coarse_macro_f1")
    ]


def test_a_class_that_does_not_occur_need_not_be_answered(rows, baselines):
    few = [row for row, label in enumerate(rows["labels"]) if label != 1]
    predictions = predict(rows.select(few), rows.select(few)["labels"])
    part = gather_evidence({"test": predictions}, ReviewBaselines(absent="none here"))["splits"]["test"]
    assert part["warnings"] == [] and part["classes"]["fine"]["ok"] == {
        "rows": 0, "predicted": 0, "precision": None, "recall": None, "f1": None,
    }  # fmt: skip


def test_without_baselines_or_with_their_metrics_alone(rows, baselines):
    predictions = {"test": predict(rows, np.zeros(400, int))}
    evidence = gather_evidence(predictions, ReviewBaselines(absent="the data has no train split"))
    assert evidence["no_baselines"] == "the data has no train split"
    assert not {"baselines", "lead"} & set(evidence["splits"]["test"])
    assert len(evidence["splits"]["test"]["warnings"]) == 2, "classes are judged without them"
    full = gather_evidence(predictions, baselines)["splits"]["test"]
    kept = gather_evidence(predictions, ReviewBaselines(baselines.metrics, baselines.training_rows))["splits"]["test"]
    assert kept["baselines"] == full["baselines"] and kept["warnings"] == full["warnings"]
    assert kept["lead"]["fine_macro_f1"] == {"mean": full["lead"]["fine_macro_f1"]["mean"], "interval": None}


def test_undefined_metrics_are_null(rows, baselines):
    same = rows.select([row for row, label in enumerate(rows["labels"]) if label == 0])
    part = gather_evidence({"test": predict(same, np.zeros(len(same), int))},
                           fit_review_baselines(rows, {"test": same}))["splits"]["test"]  # fmt: skip
    assert part["intervals"]["fine_macro_f1"] is None and part["intervals"]["fine_accuracy"] is None
    assert part["baselines"]["bag of words"]["fine_macro_f1"] is None and part["lead"] == {}


def test_pictures_of_each_head(rows, tmp_path, monkeypatch):
    figures = {}
    monkeypatch.setattr(module, "save_figure", lambda figure, path: figures.update({path.name: figure}))
    draw_confusions(predict(rows, np.zeros(400, int)), tmp_path)
    assert list(figures) == ["confusion_fine.png", "confusion_coarse.png"]
    cells = {text.get_position(): text.get_text() for text in figures["confusion_fine.png"].axes[0].texts}
    assert cells[0, 2] == str(rows["labels"][:].count(2)) and cells[2, 2] == "0"
