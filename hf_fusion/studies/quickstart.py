"""Both models on synthetic data, small: trained, compared with what they have to beat, and asked by a stranger."""

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
# The flags of each run of DashFusion.
CLIP_RUNS = {
    "text only": ["--modalities", "text"],
    "audio only": ["--modalities", "audio"],
    "vision only": ["--modalities", "vision"],
    "without temporal alignment": ["--temporal_alignment", "false"],
    "all three": [],
}
# Run by an interpreter that cannot import the package: the checkpoint brings its own code.
_STRANGER = """
import json, sys
sys.modules["hf_fusion"] = None
from transformers import pipeline
classify = pipeline("fusion-sentiment", model=sys.argv[1], trust_remote_code=True)
print("ANSWERS", json.dumps(classify(json.load(sys.stdin))))
"""


def quickstart_runs(folder: Path, flags: list[str] | None = None) -> list[Run]:
    """
    The trainings, the longest first.

    Args:
        folder: of the run folders.
        flags: fields of the recipes that differ in all runs, as on the command line.
    """
    flags = flags or []
    runs = [Run("DyFuLM", REVIEWS, folder / "dyfulm", flags)]
    for name, own in reversed(CLIP_RUNS.items()):
        runs.append(Run(f"DashFusion, {name}", CLIPS, clip_folder(folder, name), [*own, *flags]))
    return runs


def clip_folder(folder: Path, name: str) -> Path:
    """The run folder of one of `CLIP_RUNS`."""
    return folder / "_".join(["dashfusion", *CLIP_RUNS[name][1:]])


def train_quickstart(runs: list[Run], report: Callable[[Run, int], None]) -> dict[str, dict[str, float]]:
    """
    Trains two runs at a time.

    Args:
        runs: what [`quickstart_runs`] returns.
        report: as of [`run_all`].

    Returns:
        The test metrics by name of the run.

    Raises:
        RecipeError: if a run fails.
    """
    run_all(runs, slots=2, report=report)
    return {run.name: json.loads((run.folder / METRICS_FILE).read_text("utf-8"))["test"] for run in runs}


def num_epochs(run: Run) -> int:
    """How many epochs a run trains for."""
    return int(parse_recipe(["--config", run.recipe, *run.flags])[2].num_train_epochs)


def review_baselines(run: Run) -> tuple[dict[str, dict[str, float]], DatasetDict]:
    """Metrics of what a DyFuLM has to beat, and the reviews."""
    reviews = load_reviews(_data_of(run))
    train, test = reviews["train"], reviews["test"]
    return {"majority": majority_baseline(train, test), "bag of words": bag_of_words_baseline(train, test)}, reviews


def clip_baselines(run: Run) -> tuple[dict[str, dict[str, float]], DatasetDict]:
    """The same for a DashFusion, and the clips."""
    source = _data_of(run)
    clips = load_clips(source)
    return {"mean": mean_baseline(clips, source.label_range)}, clips


def _data_of(run):
    return parse_recipe(["--config", run.recipe, *run.flags])[1].source()


def classify_elsewhere(folder: Path, inputs: list[Any]) -> list[dict[str, Any]]:
    """
    Classifies in a fresh process, in an empty folder, without this package.

    Args:
        folder: a run folder.
        inputs: texts, or dicts of modalities.

    Raises:
        DataError: if the checkpoint cannot be loaded so.
    """
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": empty}
        process = subprocess.run(
            [sys.executable, "-c", _STRANGER, str(folder.resolve())],
            input=json.dumps(inputs), capture_output=True, text=True, cwd=empty, env=environment, check=False,
        )  # fmt: skip
    if process.returncode:
        raise DataError(f"Loading {folder} without the package failed:\n{process.stderr}")
    line = next(line for line in process.stdout.splitlines() if line.startswith("ANSWERS "))
    return json.loads(line.removeprefix("ANSWERS "))


def five_clips(clips: DatasetDict) -> list[dict[str, Any]]:
    """The first five test clips."""
    return [clips["test"][i] for i in range(5)]


def remove_previous(folder: Path) -> None:
    """
    Removes the runs of an earlier quickstart.

    Raises:
        RecipeError: if the folder has anything else in it, which stays.
    """
    ours = {run.folder.name for run in quickstart_runs(folder)}
    others = sorted(path.name for path in folder.iterdir() if path.name not in ours) if folder.exists() else []
    if others:
        raise RecipeError(f"{folder} holds {others[0]!r}, which is no run of the quickstart: choose another folder.")
    shutil.rmtree(folder, ignore_errors=True)
