"""Calibration of a checkpoint, as a user runs it."""

import csv
import json
import shutil

import matplotlib.image
import numpy as np
import pytest
import torch
from conftest import encoder_config, far_from_the_start
from tiny_runs import script_here

from hf_fusion import DyFuLMConfig, DyFuLMForSequenceClassification, DyFuLMProcessor, FusionSentimentPipeline
from hf_fusion.architectures.evaluate_checkpoint import load_splits
from hf_fusion.data.arguments import DataArguments
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.baselines import ReviewBaselines
from hf_fusion.evaluation.kept_predictions import measure_predictions, predict_labelled, read_predictions
from hf_fusion.evaluation.review_evidence import gather_evidence
from hf_fusion.studies.verification import verify
from hf_fusion.training.kept import keep_run_predictions
from hf_fusion.utils.records import fingerprint

PICTURES = {"reliability_fine.png", "reliability_coarse.png", "risk_coverage.png"}


@pytest.fixture(scope="module")
def classify(bpe, unigram):
    """A model that is too sure of its answers, of which many are wrong, see `data`."""
    torch.manual_seed(0)
    config = DyFuLMConfig(encoder_config("bert", num_hidden_layers=1), cross_fusion="a", layer_fusion_hidden_size=8)
    model = far_from_the_start(DyFuLMForSequenceClassification(config))
    return FusionSentimentPipeline(model, processor=DyFuLMProcessor(bpe, max_length=32), device="cpu")


@pytest.fixture(scope="module")
def data(classify, corpus, tmp_path_factory):
    """A file whose labels are answers of the model; of its less sure ones half are exchanged."""
    rng, config = np.random.default_rng(0), classify.model.config
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    texts = list(dict.fromkeys(corpus))[:260]
    answers = classify(texts, consistent=False)
    median = np.median([answer["score"] for answer in answers])
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "coarse_label", "split"])
        for i, (text, answer) in enumerate(zip(texts, answers, strict=True)):
            fine, coarse = config.label2id[answer["label"]], list(config.coarse_id2label.values())
            labels = [fine, coarse.index(answer["coarse"]["label"])]
            share = 0.1 if answer["score"] > median else 0.6
            labels = [int(rng.integers(n)) if rng.random() < share else k for k, n in zip(labels, (5, 3), strict=True)]
            writer.writerow([text, labels[0], labels[1], "validation" if i < 160 else "test"])
    return path


@pytest.fixture
def checkpoint(classify, tmp_path):
    classify.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def calibrate(monkeypatch, data):
    run = script_here("calibrate", monkeypatch)
    return lambda checkpoint, *args: run(checkpoint, "--dataset", data, *args)


def read_config(folder):
    return json.loads((folder / "config.json").read_text())


def test_changes_the_configuration_alone(checkpoint, calibrate, capsys, corpus):
    config, weights = read_config(checkpoint), (checkpoint / "model.safetensors").read_bytes()
    before = load_pipeline(str(checkpoint), device="cpu")(corpus[:5])
    (checkpoint / "pipeline_common.py").write_text("# of an earlier version\n")
    assert not calibrate(checkpoint)
    after = read_config(checkpoint)
    changed = {name for name in after if after[name] != config.get(name)}
    assert changed == {"temperature", "coarse_temperature"} and after.keys() == config.keys()
    assert after["temperature"] > 1.2 and (checkpoint / "model.safetensors").read_bytes() == weights
    assert "temperature" in (checkpoint / "pipeline_common.py").read_text(), "the code that reads the fields"
    record = json.loads((checkpoint / "calibration/calibration.json").read_text())
    assert record["temperature"] == after["temperature"] and record["dataset"] == "reviews.csv"
    for split, rows in (("validation", 160), ("test", 100)):
        assert record[split]["rows"] == rows and "coverage" not in record[split]
        name = "fine_negative_log_likelihood"
        assert record[split]["after"][name] < record[split]["before"][name]
    assert set(record["data_fingerprint"]) == {"validation", "test"} and record["versions"]
    for name in PICTURES:
        assert matplotlib.image.imread(checkpoint / "calibration" / name)[..., :3].std() > 0.02
    printed = capsys.readouterr().out
    assert f"Temperatures: {after['temperature']:.3f} (fine)" in printed and "fine_negative_log_likelihood" in printed
    answers = load_pipeline(str(checkpoint), device="cpu")(corpus[:5])
    assert [answer["label"] for answer in answers] == [answer["label"] for answer in before]
    assert all(new["score"] < old["score"] for new, old in zip(answers, before, strict=True))


def test_a_copy_with_a_target(checkpoint, calibrate, tmp_path, capsys, data, monkeypatch):
    before = read_config(checkpoint)
    (checkpoint / "checkpoint-7").mkdir()
    output = tmp_path / "careful"
    assert not calibrate(checkpoint, "--target_accuracy", "0.85", "--output", output)
    assert read_config(checkpoint) == before and not (checkpoint / "calibration").exists()
    assert not (output / "checkpoint-7").exists() and (output / "tokenizer.json").is_file()
    config, record = read_config(output), json.loads((output / "calibration/calibration.json").read_text())
    assert 0.2 < config["abstain_below"] < 1 and record["validation"]["answered_accuracy"] >= 0.85
    shown = (
        f"Of test, {record['test']['coverage']:.1%} have an answer of a probability of {config['abstain_below']:.3f}"
    )
    assert shown in capsys.readouterr().out

    # the metrics of an evaluation are those of the calibrated answers
    evaluate = script_here("evaluate", monkeypatch)
    assert not evaluate(output, "--dataset", data, "--output_dir", tmp_path / "evaluation")
    metrics = json.loads((tmp_path / "evaluation/metrics.json").read_text())["test"]
    assert metrics["fine_coverage"] == pytest.approx(record["test"]["coverage"])
    assert {name: metrics[name] for name in record["test"]["after"]} == pytest.approx(record["test"]["after"])
    predictions = read_predictions(tmp_path / "evaluation/predictions.parquet")
    assert measure_predictions(predictions) == pytest.approx(metrics)

    # the limit stays, changes, and goes
    assert not calibrate(output) and read_config(output) == config
    assert not calibrate(output, "--abstain_below", "0.3") and read_config(output)["abstain_below"] == 0.3
    assert not calibrate(output, "--abstain_below", "0") and read_config(output)["abstain_below"] is None


@pytest.fixture
def finished(checkpoint, classify, data):
    """The checkpoint as a run folder with records and kept predictions, which `verify` finds in order."""
    rows = load_splits(classify.model.config, DataArguments(dataset=str(data)), ("validation", "test"))
    parts = {split: predict_labelled(classify, part, split) for split, part in rows.items()}
    metrics = {split: {"loss": 1.0, **measure_predictions(part)} for split, part in parts.items()}
    metrics["evidence"] = gather_evidence(parts, ReviewBaselines(absent="none were fitted"))
    metrics |= {"seed": 3, "train_samples": 64, "train_seconds": 1.5}
    hardware = {"accelerators": [], "cores": 2, "processor": "Some CPU"}
    environment = {"dataset": "reviews.csv", "rows": {split: len(part) for split, part in rows.items()}}
    environment |= {"hardware": hardware, "data_fingerprint": fingerprint(rows)}
    (checkpoint / "metrics.json").write_text(json.dumps(metrics))
    (checkpoint / "environment.json").write_text(json.dumps(environment))
    (checkpoint / "config.yaml").write_text("seed: 3\n")
    keep_run_predictions(checkpoint, list(parts.values()), "reviews.csv", fingerprint(rows), seed=3)
    assert not any(checks.disagreements for checks in verify([checkpoint]))
    return checkpoint


def test_kept_predictions_are_measured_again(finished, calibrate, capsys):
    before = json.loads((finished / "metrics.json").read_text())
    (finished / "evaluation-test").mkdir()
    assert not calibrate(finished, "--abstain_below", "0.3")
    printed = capsys.readouterr().out
    assert "evaluation-test is from before" in printed and "other metrics" not in printed
    after, config = json.loads((finished / "metrics.json").read_text()), read_config(finished)
    kept = read_predictions(finished / "predictions.parquet")
    assert kept.config.temperature == config["temperature"] and kept.config.abstain_below == 0.3
    for split in ("validation", "test"):
        assert after[split]["loss"] == 1 and after[split]["fine_accuracy"] == before[split]["fine_accuracy"]
        assert {name: after[split][name] for name in after["calibration"][split]["after"]} == pytest.approx(
            after["calibration"][split]["after"]
        )
        name = "fine_negative_log_likelihood"
        old, new = (content["evidence"]["splits"][split]["intervals"][name] for content in (before, after))
        assert new[0] < after[split][name] < new[1] and new[1] < old[1]
    assert not any(checks.disagreements for checks in verify([finished]))
    assert f"{after['test']['fine_brier_score']:.4f}" in (finished / "README.md").read_text()

    # the share of answers goes with the limit
    assert "fine_coverage" in after["test"] and not calibrate(finished, "--abstain_below", "0")
    assert "fine_coverage" not in json.loads((finished / "metrics.json").read_text())["test"]


def test_damaged_predictions_change_nothing(finished, calibrate, capsys):
    (finished / "predictions.parquet").write_bytes(b"PAR1")
    assert calibrate(finished) == 2 and "is damaged" in capsys.readouterr().err
    assert "temperature" not in json.loads((finished / "metrics.json").read_text())
    assert read_config(finished)["temperature"] == 1 and not (finished / "calibration").exists()


def test_a_run_folder_has_the_result_in_its_records(checkpoint, calibrate, tmp_path, capsys):
    scores = {"loss": 1.0, "fine_accuracy": 0.6}
    metrics = {"seed": 3, "train_samples": 64, "train_seconds": 1.5, "validation": scores, "test": scores}
    hardware = {"accelerators": [], "cores": 2, "processor": "Some CPU"}
    environment = {"dataset": "a.csv", "rows": {"validation": 10, "test": 20}, "hardware": hardware}
    (checkpoint / "metrics.json").write_text(json.dumps(metrics))
    assert not calibrate(checkpoint) and not (checkpoint / "README.md").exists(), "no run folder"
    (checkpoint / "environment.json").write_text(json.dumps(environment))
    (checkpoint / "config.yaml").write_text("seed: 3\n")
    assert not calibrate(checkpoint, "--target_accuracy", "0.85")
    written = json.loads((checkpoint / "metrics.json").read_text())
    record = written.pop("calibration")
    assert written == metrics and record["target_accuracy"] == 0.85
    assert "The other metrics in metrics.json and the card are from before" in capsys.readouterr().out
    card = (checkpoint / "README.md").read_text()
    assert f"| test | {record['test']['coverage']:.1%} | {record['test']['answered_accuracy']:.1%} |" in card


def test_a_lora_adapter_has_its_configuration_in_its_base(checkpoint, calibrate, classify, tmp_path):
    pytest.importorskip("peft")
    from hf_fusion.deployment.adapters import add_lora

    folder = tmp_path / "adapter"
    add_lora(load_pipeline(str(checkpoint), device="cpu").model, "a").save_pretrained(folder)
    classify.processor.save_pretrained(folder)
    shutil.copytree(checkpoint, folder / "base")
    assert not calibrate(folder)
    assert read_config(folder / "base")["temperature"] > 1.2 and not (folder / "config.json").exists()
    assert load_pipeline(str(folder), device="cpu").model.config.temperature > 1.2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--target_accuracy", "0.9999"], "cannot be reached: no 30 or more of the 160 answers"),
        (["--target_accuracy", "1.5"], "must lie between 0 and 1, got 1.5"),
        (["--abstain_below", "1"], "must lie in [0, 1), got 1.0"),
        (["--abstain_below", "0.5", "--target_accuracy", "0.9"], "give one of the two"),
        (["--max_eval_samples", "20"], "fine: there are 20 rows with a label, of at least 50"),
        (["--split_column", "x"], "--split_column"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals_change_nothing(checkpoint, calibrate, capsys, args, words):
    before = {path: path.read_bytes() for path in checkpoint.rglob("*") if path.is_file()}
    assert calibrate(checkpoint, *args) == 2
    assert words in capsys.readouterr().err
    assert {path: path.read_bytes() for path in checkpoint.rglob("*") if path.is_file()} == before


def test_data_without_validation(checkpoint, monkeypatch, tmp_path, capsys, data):
    lines = [line.replace(",validation", ",test") for line in data.read_text().splitlines()]
    (tmp_path / "test.csv").write_text("\n".join(lines))
    assert script_here("calibrate", monkeypatch)(checkpoint, "--dataset", tmp_path / "test.csv") == 2
    assert "no validation split" in capsys.readouterr().err


def test_an_output_that_is_taken(checkpoint, calibrate, capsys, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("mine")
    assert calibrate(checkpoint, "--output", tmp_path / "taken") == 2
    assert "is not empty" in capsys.readouterr().err and (tmp_path / "taken/file").read_text() == "mine"


def test_a_model_without_temperatures(clip_model, clip_processor, calibrate, capsys, tmp_path):
    FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu").save_pretrained(tmp_path / "clips")
    assert calibrate(tmp_path / "clips") == 2
    assert "is a dashfusion, whose answers have no temperature" in capsys.readouterr().err
