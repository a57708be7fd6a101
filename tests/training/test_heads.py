"""Every combination of heads and numbers of classes, from a csv file to all that is made of a checkpoint."""

import csv
import json

import pytest
from tiny_runs import TINY, train
from transformers import AutoModelForSequenceClassification, pipeline

import hf_fusion
from hf_fusion.deployment import OnnxFusion
from hf_fusion.deployment.predictions import flat_row, load_pipeline, predict_rows, prediction_types
from hf_fusion.deployment.sequence_classifier import export_sequence_classifier
from hf_fusion.evaluation.diagnostics.analyze import analyze_reviews
from hf_fusion.evaluation.kept_predictions import measure_predictions, read_predictions
from hf_fusion.hub.repository import check_repository
from hf_fusion.studies.verification import verify

WORDS = {2: ["bad", "good"], 3: ["poor", "average", "excellent"], 10: [f"note {letter}" for letter in "abcdefghij"]}
TEXT = "The room was not clean, but the staff was wonderful."
ENCODER = {**TINY["encoder_a"], "vocab_size": 120}


def write_reviews(path, classes, has_coarse, has_intensity):
    """Reviews with a word for their class, separated by semicolons."""
    words = WORDS[classes]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["text", "label", "split", *["coarse_label"] * has_coarse, *["score"] * has_intensity])
        for i in range(60):
            fine = i % classes
            split = "test" if i >= 50 else "validation" if i >= 40 else "train"
            coarse = ["negative" if fine < classes / 2 else "positive"] * has_coarse
            score = [round(fine / (classes - 1), 3)] * has_intensity
            writer.writerow([f"Stay {i}: {'very ' * (fine % 3)}{words[fine]}.", words[fine], split, *coarse, *score])


def fields_of(path, classes, has_coarse):
    """The recipe. Words of unknown order are put in order, and ten classes in order would have coarse ones."""
    unknown = {"class_words": WORDS[classes]} if classes == 10 else {}
    no_coarse = {} if has_coarse or classes < 4 else {"num_coarse_labels": 0}
    return {
        **TINY, "dataset": str(path), "dataset_options": None, "encoder_a": ENCODER, "encoder_b": None, "scale": [0, 1],
        "cross_fusion": "a", "layer_fusion": "last", "pooling": "first", "max_length": 32, **unknown, **no_coarse,
    }  # fmt: skip


@pytest.mark.parametrize("classes", WORDS)
@pytest.mark.parametrize("has_intensity", [False, True], ids=["score-less", "intensity"])
@pytest.mark.parametrize("has_coarse", [False, True], ids=["fine", "coarse"])
def test_from_a_file_to_all_that_is_made_of_it(tmp_path, classes, has_coarse, has_intensity):
    path, folder = tmp_path / "reviews.csv", tmp_path / "run"
    write_reviews(path, classes, has_coarse, has_intensity)
    metrics = train({**fields_of(path, classes, has_coarse), "evidence": True}, folder)
    names = ["fine", *["coarse"] * has_coarse, *["intensity"] * has_intensity]
    assert {name.partition("_")[0] for name in metrics["test"]} == {"loss", *names}

    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    logged = {name for entry in history for name in entry if name.endswith(("_weight", "_loss"))}
    assert logged - {"eval_loss", "train_loss"} == {f"{name}_{part}" for name in names for part in ("loss", "weight")}

    classify = load_pipeline(str(folder))
    model, config = classify.model, classify.model.config
    outputs = ["logits", *["coarse_logits"] * has_coarse, *["intensity"] * has_intensity]
    assert list(config.heads) == outputs and list(config.id2label.values()) == WORDS[classes]
    assert config.num_coarse_labels == 2 * has_coarse and config.has_intensity is has_intensity
    assert (model.guidance is None) is (len(names) == 1)
    check_answers(classify, config, has_coarse, has_intensity)
    check_predictions(folder, metrics, outputs, has_coarse)
    check_card_and_records(folder, names, config)
    if classes == 10:  # an export takes the most time
        check_exports(classify, tmp_path, names)
    check_other_tools(classify, folder, path, metrics)
    student = {**fields_of(path, classes, has_coarse), "teacher": str(folder), "encoder_a": "teacher"}
    assert set(train(student, tmp_path / "student")["test"]) == set(metrics["test"])


def check_answers(classify, config, has_coarse, has_intensity):
    """No field is empty, and none is there that the model does not know."""
    answer = classify(TEXT)
    others = {"coarse"} if has_coarse else set()
    others |= {"intensity"} if has_intensity else set()
    others |= {"expected"} if config.class_values is not None else set()
    assert answer.keys() == {"label", "score", *others} and None not in answer.values()
    first, *rest = classify(TEXT, top_k=None)
    assert (
        first == answer
        and len(rest) == config.num_labels - 1
        and all(entry.keys() == {"label", "score"} for entry in rest)
    )
    ((row, broken),) = predict_rows(classify, [{"text": TEXT}, {"text": ""}])
    kinds = prediction_types(config)["prediction"]
    assert set(row["prediction"]) == set(broken["prediction"]) == {kinds.field(i).name for i in range(len(kinds))}
    for flat in map(flat_row, (row, broken)):
        assert [name for name in flat if name != "text"] == list(prediction_types(config, flat=True))


def check_predictions(folder, metrics, outputs, has_coarse):
    kept = read_predictions(folder / "predictions.parquet")
    assert list(kept.outputs) == outputs and ("coarse_labels" in kept.labels) is has_coarse
    again = measure_predictions(kept, "test")
    told = {name: value for name, value in metrics["test"].items() if name != "loss"}
    assert {name: again[name] for name in told} == pytest.approx(told, nan_ok=True)


def check_card_and_records(folder, names, config):
    card = (folder / "README.md").read_text()
    assert [name in card for name in ("coarse sentiment (", "an intensity from")] == [
        name in names for name in ("coarse", "intensity")
    ]
    assert all(word in card for word in config.id2label.values())
    assert not [wrong for checks in verify([folder]) for wrong in checks.disagreements]
    assert "model.safetensors" in check_repository(folder, "me/reviews", None)


def check_exports(classify, folder, names):
    onnx_export = pytest.importorskip("hf_fusion.deployment.onnx_export")
    onnx_export.export_onnx(classify.model, classify.processor, folder / "onnx", num_checks=2)
    exported = OnnxFusion.from_pretrained(folder / "onnx")
    ours, theirs = (
        flat_row({"prediction": answer, "truncated": False, "error": None})
        for answer in (classify(TEXT), exported(TEXT))
    )
    assert ours == pytest.approx(theirs, abs=1e-4)
    if len(names) == 1:  # without guidance, as classifiers of transformers
        export_sequence_classifier(classify.model, classify.processor, folder / "classifier")
        (answer,) = pipeline("text-classification", str(folder / "classifier"))(TEXT)
        assert answer["label"] == classify(TEXT)["label"]


def check_other_tools(classify, folder, path, metrics):
    by_name = AutoModelForSequenceClassification.from_pretrained(folder)
    assert list(by_name.config.heads) == list(classify.model.config.heads)
    again = hf_fusion.evaluate(folder)
    assert {name: again[name] for name in ("fine_accuracy", "fine_macro_f1")} == pytest.approx(
        {name: metrics["test"][name] for name in ("fine_accuracy", "fine_macro_f1")}
    )
    words = list(classify.model.config.id2label.values())
    rows = hf_fusion.load_reviews(str(path), class_words=words, scale=(0, 1))["test"]
    assert {section.title for section in analyze_reviews(classify, rows, folder)} >= {"Errors"}


def test_nothing_to_weigh(tmp_path):
    """A single head has the weight 1, whatever the recipe says of weights."""
    path = tmp_path / "reviews.csv"
    write_reviews(path, 3, has_coarse=False, has_intensity=False)
    train(fields_of(path, 3, has_coarse=False), tmp_path / "run")
    history = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    logs = [entry for entry in history if "fine_weight" in entry]
    assert logs and all(entry["fine_weight"] == 1 for entry in logs)
    assert not any("coarse_weight" in entry or "intensity_loss" in entry for entry in history)
