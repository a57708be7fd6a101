"""Studies, searches and robustness, as a user runs them, with tiny models."""

import csv
import json
import time

import pytest
import yaml
from tiny_runs import LONGEST_SECONDS, Script, script, script_here, together

import hf_fusion.studies.run_study
from hf_fusion.evaluation.kept_predictions import measure_predictions
from hf_fusion.studies.predictions import read_study_predictions

RECIPE = {
    "model_type": "dashfusion",
    "text_encoder": {"model_type": "bert", "tokenizer": "wordpiece", "vocab_size": 300, "hidden_size": 16,
                     "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    "dataset_options": {"num_train": 32, "num_validation": 9, "num_test": 40}, "hidden_size": 16,
    "num_attention_heads": 2, "num_encoder_layers": 1, "num_train_epochs": 2, "per_device_train_batch_size": 8,
    "metric_for_best_model": "mae", "greater_is_better": False, "disable_tqdm": True, "report_to": "none",
}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def to(name, content):
        (tmp_path / name).write_text(yaml.safe_dump(content))
        return str(tmp_path / name)

    return to


@pytest.fixture
def study_here(monkeypatch):
    """`hf-fusion study` in this process, whose trainings have the libraries already; the slots of each call."""
    slots = []

    def run_all(runs, count, report):
        slots.append(count)
        for run in runs:
            report(run, 0)
            end = script("train", "--config", run.recipe, "--output_dir", run.folder, *run.flags)
            assert end.returncode == 0, end.stderr[-2000:]

    monkeypatch.setattr(hf_fusion.studies.run_study, "run_all", run_all)
    return script_here("study", monkeypatch), slots


def test_a_killed_study_goes_on(write, study_here, tmp_path, capsys, monkeypatch):
    """Killed after its first run: the second start repeats nothing that was finished, and writes every result."""
    recipe = write("recipe.yaml", RECIPE)
    other = {
        "dataset": "synthetic-clips",
        "dataset_options": {"num_train": 2, "num_validation": 2, "num_test": 9, "seed": 5},
    }
    study = write("study.yaml", {
        "recipe": recipe, "variants": {"full": {}, "text alone": {"modalities": ["text"]}}, "seeds": [1, 2],
        "metrics": ["mae", "corr"], "evaluate_on": {"other": other}, "pareto": [39, 40, 55],
    })  # fmt: skip
    folder, output = tmp_path / "runs", tmp_path / "result.json"
    flags = [study, "--runs", str(folder), "--output", str(output)]
    study = Script("study", *flags)
    first = folder / "full" / "seed-1" / "metrics.json"
    deadline = time.monotonic() + LONGEST_SECONDS
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    study.process.terminate()
    assert study.join().returncode != 0 and not output.exists()
    before = first.read_bytes()

    study, slots = study_here
    assert not study(*flags, "--slots", "2") and set(slots) == {2}
    printed = capsys.readouterr().out
    assert "full, seed 1: finished before" in printed and first.read_bytes() == before
    record = json.loads(output.read_text())
    assert list(record["variants"]) == ["full", "text alone"]
    difference = record["variants"]["text alone"]["difference"]["mae"]
    assert set(difference) == {"mean", "interval", "p", "p_holm", "smallest_detectable", "hierarchical"}
    assert record["evaluate_on"]["other"]["variants"]["full"]["mean"]["mae"] > 0
    assert record["pareto"]["costs"]["full"] == record["pareto"]["costs"]["text alone"]
    rows = list(csv.DictReader(output.with_suffix(".csv").open()))
    assert {row["split"] for row in rows} == {"validation", "test", "other"}
    metrics = json.loads(first.read_text())["test"]
    value = [row["value"] for row in rows if (row["variant"], row["seed"], row["split"], row["metric"]) ==
             ("full", "1", "test", "mae")]  # fmt: skip
    assert float(value[0]) == pytest.approx(metrics["mae"])
    assert (tmp_path / "result.tex").read_text().count(r"\begin{tabular}") == 2
    kept = read_study_predictions(tmp_path / "predictions" / "result.parquet")
    assert len(kept) == 8 and sum(map(len, kept.values())) == record["predictions"]["rows"] == 4 * (40 + 9)
    for (variant, seed, fold, data), predictions in kept.items():
        entry = (record if data == "test" else record["evaluate_on"][data])["variants"][variant]["seeds"][str(seed)]
        expected = {name: value for name, value in entry.items() if name != "loss"}
        assert measure_predictions(predictions) == pytest.approx(expected, abs=1e-9) and fold is None
    assert script_here("verify", monkeypatch)(output, folder) == 0, capsys.readouterr().out
    for picture in ("result.png", "result_pareto.png"):
        before = (tmp_path / picture).read_bytes()
        (tmp_path / picture).unlink()
        redrawn = script("redraw.py", str(output))
        assert redrawn.returncode == 0, redrawn.stderr
        assert (tmp_path / picture).read_bytes() == before, "the same picture"
    assert "p after Holm's correction" in " ".join(printed.split()) and "Pareto front" in printed


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["nowhere.yaml"], "nowhere.yaml"),
        (["dyfulm_hotel_reviews", "--set", "dataset"], "must be FIELD=VALUE"),
        (["dyfulm_hotel_reviews", "--set", "variants.x.y=1"], "there is no 'variants.x'"),
    ],
)
def test_studies_that_cannot_run(flags, words):
    process = script("study", *flags)
    assert process.returncode == 2 and words in process.stderr and len(process.stderr.splitlines()) == 1


def test_search_then_train_then_robustness(write, tmp_path):
    search = {"recipe": write("recipe.yaml", RECIPE), "metric": "mae", "trials": 2,
              "space": {"learning_rate": {"low": 1e-4, "high": 1e-3, "log": True}}}  # fmt: skip
    runs = tmp_path / "runs"
    process = script("tune", write("search.yaml", search), "--runs", str(runs), "--set", "num_train_epochs=1")
    assert process.returncode == 0, process.stderr[-2000:]
    assert "[2/2] learning_rate" in process.stdout and "Written:" in process.stdout
    assert yaml.safe_load((runs / "best.yaml").read_text())["num_train_epochs"] == 1

    folder = tmp_path / "final"
    flags = ["--output_dir", str(folder), "--log_gradients_every", "2", "--logging_steps", "2"]
    process = script("train", "--config", str(runs / "best.yaml"), *flags)
    assert process.returncode == 0, process.stderr[-2000:]
    flags = ["--corruptions", "typos", "audio_loss+vision_loss", "--baseline", str(folder), "--max_eval_samples", "20"]
    flags += ["--format", "svg"]
    process = script("robustness", str(folder), *flags)
    assert process.returncode == 0, process.stderr[-2000:]
    record = json.loads((folder / "robustness-test" / "robustness.json").read_text())
    assert list(record["curves"]) == ["typos", "audio_loss+vision_loss"] and record["rows"] == 20
    found = record["summary"]["audio_loss+vision_loss"]["mae"]
    assert len(record["curves"]["typos"]["mae"]) == 6 and found["clean"] != found["worst"]
    assert found["effective"] == pytest.approx(0), "its own baseline"
    assert "(limit 15%)" in process.stdout
    assert len(list(csv.DictReader((folder / "robustness-test" / "robustness.csv").open()))) % 12 == 0
    assert (folder / "robustness-test" / "robustness.svg").read_text().startswith("<?xml")
    assert r"corruption & mae" in (folder / "robustness-test" / "robustness.tex").read_text()

    process = script(
        "evaluate", str(folder), "--damage", '{"audio_loss": 5, "vision_loss": 5}', "--max_eval_samples", "16"
    )
    assert process.returncode == 0, process.stderr[-2000:]
    written = json.loads((folder / "evaluation-test" / "metrics.json").read_text())
    damaged = written["test"]
    assert written["damage"] == {"audio_loss": 5, "vision_loss": 5}, "not to be taken for the clean result"
    process = script("analyze", str(folder), "--max_eval_samples", "16")
    assert process.returncode == 0, process.stderr[-2000:]
    report = json.loads((folder / "analysis-test" / "report.json").read_text())
    assert [section["title"] for section in report["sections"]] == [
        "What each modality contributes", "Where the scores come from", "Temporal alignment", "Contrastive space",
        "Contrastive space over training", "Errors", "Task gradients",
    ]  # fmt: skip
    assert report["sections"][2]["alignment"]["audio"]["opinions"] > 0, "the truth of the synthetic clips was found"
    assert report["sections"][0]["modalities"]["text alone"]["mae"] == pytest.approx(damaged["mae"], rel=1e-4)
    assert ">Task gradients</h2>" in (folder / "analysis-test" / "report.html").read_text()

    process = script("robustness", str(folder), "--corruptions", "rain")
    assert process.returncode == 2 and "no corruption 'rain'" in process.stderr.splitlines()[-1]


def test_distillation(write, study_here, tmp_path):
    """A teacher, the students that it teaches, alone and on two processes, and the study that compares them."""
    encoder = RECIPE["text_encoder"]
    fields = {name: RECIPE[name] for name in ("dataset_options", "num_train_epochs", "disable_tqdm", "report_to")}
    fields |= {"encoder_a": encoder, "encoder_b": encoder, "layer_fusion_hidden_size": 8, "max_length": 64}
    teacher = {"cross_fusion": "gate"}
    recipe = write("recipe.yaml", {**fields, "cross_fusion": "a", "per_device_train_batch_size": 8})
    study = write("distillation.yaml", {
        "recipe": recipe, "variants": {"large": teacher, "small": {"teacher": "large"}}, "seeds": [1],
        "metrics": ["fine_accuracy"], "latency": 2,
    })  # fmt: skip
    assert not study_here[0](study, "--runs", tmp_path / "runs", "--output", tmp_path / "result.json")
    record = json.loads((tmp_path / "result.json").read_text())
    costs = {row["what"]: row for row in record["costs"]["small"]}
    assert costs["parameters"]["ratio"] > 1 and len(costs["pipeline, one text"]["pairs"]) == 7
    assert "| small |" in (tmp_path / "result.md").read_text().partition("### size and speed")[2]

    large = tmp_path / "runs" / "large" / "seed-1"
    process = together(
        2, "distill", "--teacher", large, "--config", recipe, "--use_cpu", "true", "--fusion_hidden_size", "12",
        "--output_dir", tmp_path / "two",
    )  # fmt: skip
    found = json.loads((tmp_path / "two" / "distillation.json").read_text())
    accuracy = json.loads((tmp_path / "two" / "metrics.json").read_text())["test"]["fine_accuracy"]
    assert found["test"]["student"]["fine_accuracy"] == pytest.approx(accuracy) and "1 / " in process.stdout
    assert found["costs"][0]["candidate"]["median"] < found["costs"][0]["reference"]["median"]

    process = script("distill", "--config", recipe)
    assert process.returncode == 2 and "--teacher is missing" in process.stderr.splitlines()[-1]
