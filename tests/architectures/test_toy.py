"""One more architecture needs no change in the package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy
import yaml

from hf_fusion.architectures import architecture_of, base, register_architecture, registered_architectures
from hf_fusion.architectures.evaluate_checkpoint import evaluate_checkpoint
from hf_fusion.deployment.predictions import load_pipeline, predict_rows
from hf_fusion.hub.publish import publish
from hf_fusion.training.recipe import parse_recipe
from hf_fusion.training.run import run_training
from hf_fusion.utils.errors import RecipeError

RECIPE = {
    "model_type": "toy", "dataset": "synthetic-reviews", "toy_width": 16, "max_length": 64,
    "dataset_options": {"num_train": 96, "num_validation": 17, "num_test": 13}, "num_train_epochs": 2,
    "per_device_train_batch_size": 8, "learning_rate": 0.05, "metric_for_best_model": "fine_accuracy",
    "disable_tqdm": True, "report_to": "none",
}  # fmt: skip


@pytest.fixture(scope="module")
def registered():
    before = dict(base._REGISTER)
    register_architecture(toy.ToyArchitecture())
    yield
    base._REGISTER.clear()
    base._REGISTER.update(before)


@pytest.fixture(scope="module")
def run_folder(registered, tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    run_training(*parse_recipe(["--config", str(folder / "recipe.yaml"), "--output_dir", str(folder / "run")]))
    return folder / "run"


def test_trains(run_folder):
    metrics = json.loads((run_folder / "metrics.json").read_text())
    assert metrics["test"]["fine_accuracy"] > 0.2 and set(metrics["test"]) >= {"loss", "fine_macro_f1"}
    assert yaml.safe_load((run_folder / "config.yaml").read_text())["toy_width"] == 16
    assert json.loads((run_folder / "config.json").read_text())["toy_width"] == 16


def test_evaluates(run_folder):
    metrics = json.loads((run_folder / "metrics.json").read_text())
    again = evaluate_checkpoint(run_folder, {"dataset_options": RECIPE["dataset_options"]})
    assert again["fine_accuracy"] == pytest.approx(metrics["test"]["fine_accuracy"])
    assert "coarse_accuracy" not in again


def test_predicts(run_folder):
    (window,) = predict_rows(load_pipeline(str(run_folder)), [{"text": "a very good hotel"}, {"text": " "}])
    assert set(window[0]["prediction"]) == {"label", "score"} and window[0]["error"] is None
    assert window[1]["prediction"]["label"] is None and "text" in window[1]["error"]


def test_publishes(run_folder, online):
    """With a card that tells its classes and metrics."""
    commit = publish(run_folder, "me/toy")
    files = online.repos["me/toy"].commits[commit.oid]
    assert files["model.safetensors"] == (run_folder / "model.safetensors").read_bytes()
    card = " ".join(files["README.md"].decode().split())
    assert "A Toy: reviews to fine sentiment (LABEL_0, LABEL_1" in card and "| fine_accuracy |" in card


def test_studies(tmp_path):
    """The runs of a study are processes of their own: they find the architecture by its entry point."""
    site = tmp_path / "site" / "toy-0.dist-info"
    site.mkdir(parents=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 0\n")
    (site / "entry_points.txt").write_text("[hf_fusion.architectures]\ntoy = toy:ToyArchitecture\n")
    study = {
        "recipe": str(tmp_path / "recipe.yaml"),
        "variants": {"narrow": {"toy_width": 2}},
        "seeds": [1],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    paths = os.pathsep.join([str(site.parent), str(Path(toy.__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "scripts/ablate.py", tmp_path / "study.yaml", "--runs", tmp_path / "runs"]
    command += ["--output", tmp_path / "study.json"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, check=True, cwd=Path(__file__).parents[2])
    found = json.loads((tmp_path / "study.json").read_text())["variants"]
    assert set(found) == {"narrow"} and "fine_accuracy" in found["narrow"]["mean"]
    assert json.loads((tmp_path / "runs/narrow/seed-1/config.json").read_text())["toy_width"] == 2


def test_names_are_taken_once(registered):
    class Other(toy.ToyArchitecture):
        pass

    with pytest.raises(ValueError, match="'toy' is already registered, by ToyArchitecture"):
        register_architecture(Other())
    assert [one.model_type for one in registered_architectures()][:2] == ["dyfulm", "dashfusion"]
    with pytest.raises(RecipeError, match="must be one of dyfulm, dashfusion, toy, got 'bert'"):
        architecture_of("bert")
