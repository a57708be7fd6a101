"""Trains both models on small synthetic data, compares them with baselines, and loads them without the package."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from hf_fusion.data.clips import load_clips
from hf_fusion.data.reviews import load_reviews
from hf_fusion.evaluation.baselines import bag_of_words_baseline, majority_baseline, mean_baseline
from hf_fusion.studies.launch import Run, run_all
from hf_fusion.training.recipe import parse_recipe
from hf_fusion.utils.errors import DataError, RecipeError
from hf_fusion.utils.records import METRICS_FILE

REVIEWS, CLIPS = "dyfulm_synthetic", "dashfusion_synthetic"
# The flags of each DashFusion run.
CLIP_RUNS = {
    "text only": ["--modalities", "text"],
    "audio only": ["--modalities", "audio"],
    "vision only": ["--modalities", "vision"],
    "without temporal alignment": ["--temporal_alignment", "false"],
    "all three": [],
}
# Runs in an interpreter that cannot import the package and uses the code of the checkpoint.
_PROGRAM_WITHOUT_PACKAGE = """
import json, sys
sys.modules["hf_fusion"] = None
from transformers import pipeline
classify = pipeline("fusion-sentiment", model=sys.argv[1], trust_remote_code=True)
print("ANSWERS", json.dumps(classify(json.load(sys.stdin))))
"""


def quickstart_runs(folder: Path, flags: list[str] | None = None) -> list[Run]:
    """
    Returns the runs of the quickstart, the longest one first.

    Args:
        folder (`Path`): the folder for the run folders.
        flags (`list[str]`, *optional*): command-line flags for recipe fields of all runs.
    """
    flags = flags or []
    runs = [Run("DyFuLM", REVIEWS, folder / "dyfulm", flags)]
    for name, own in reversed(CLIP_RUNS.items()):
        runs.append(Run(f"DashFusion, {name}", CLIPS, clip_folder(folder, name), [*own, *flags]))
    return runs


def clip_folder(folder: Path, name: str) -> Path:
    """Returns the run folder of one of `CLIP_RUNS`."""
    return folder / "_".join(["dashfusion", *CLIP_RUNS[name][1:]])


def train_quickstart(runs: list[Run], report: Callable[[Run, int], None]) -> dict[str, dict[str, float]]:
    """
    Trains two runs at a time.

    Args:
        runs (`list[Run]`): the result of [`quickstart_runs`].
        report (`Callable`): see [`run_all`].

    Returns:
        `dict[str, dict[str, float]]`: the test metrics by the name of the run.

    Raises:
        RecipeError: if a run fails.
    """
    run_all(runs, slots=2, report=report)
    return {run.name: json.loads((run.folder / METRICS_FILE).read_text("utf-8"))["test"] for run in runs}


def num_epochs(run: Run) -> int:
    """Returns the number of epochs of a run."""
    return int(parse_recipe(["--config", run.recipe, *run.flags])[2].num_train_epochs)


def review_baselines(run: Run) -> tuple[dict[str, dict[str, float]], DatasetDict]:
    """Measures the baselines of the DyFuLM; returns their metrics and the reviews."""
    reviews = load_reviews(_load_data(run))
    train, test = reviews["train"], reviews["test"]
    return {"majority": majority_baseline(train, test), "bag of words": bag_of_words_baseline(train, test)}, reviews


def clip_baselines(run: Run) -> tuple[dict[str, dict[str, float]], DatasetDict]:
    """Measures the baselines of the DashFusion; returns their metrics and the clips."""
    source = _load_data(run)
    clips = load_clips(source)
    return {"mean": mean_baseline(clips, source.label_range)}, clips


def _load_data(run):
    return parse_recipe(["--config", run.recipe, *run.flags])[1].source()


def classify_elsewhere(folder: Path, inputs: list[Any]) -> list[dict[str, Any]]:
    """
    Classifies inputs in a fresh process without this package, in an empty folder.

    Args:
        folder (`Path`): a run folder.
        inputs (`list`): texts, or dicts of modalities.

    Raises:
        DataError: if the checkpoint cannot be loaded in this way.
    """
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": empty}
        process = subprocess.run(
            [sys.executable, "-c", _PROGRAM_WITHOUT_PACKAGE, str(folder.resolve())],
            input=json.dumps(inputs), capture_output=True, text=True, cwd=empty, env=environment, check=False,
        )  # fmt: skip
    if process.returncode:
        raise DataError(f"Loading {folder} without the package failed:\n{process.stderr}")
    line = next(line for line in process.stdout.splitlines() if line.startswith("ANSWERS "))
    return json.loads(line.removeprefix("ANSWERS "))


def five_clips(clips: DatasetDict) -> list[dict[str, Any]]:
    """Returns the first five test clips."""
    return [clips["test"][i] for i in range(5)]


def remove_previous(folder: Path) -> None:
    """
    Removes the runs of an earlier quickstart.

    Raises:
        RecipeError: if the folder holds other files; nothing is removed then.
    """
    ours = {run.folder.name for run in quickstart_runs(folder)}
    others = sorted(path.name for path in folder.iterdir() if path.name not in ours) if folder.exists() else []
    if others:
        raise RecipeError(f"{folder} holds {others[0]!r}, which is not a run of the quickstart: choose another folder.")
    shutil.rmtree(folder, ignore_errors=True)
