#!/usr/bin/env python
"""Trains both models small on synthetic data and shows what they can do. Under 6 minutes on two cores, no network.

python scripts/quickstart.py
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table

from hf_fusion.data.clips import load_clips
from hf_fusion.data.reviews import load_reviews
from hf_fusion.evaluation.baselines import bag_of_words_baseline, majority_baseline
from hf_fusion.evaluation.metrics import SentimentRegressionMetrics, metric_named
from hf_fusion.utils.records import METRICS_FILE
from hf_fusion.studies.launch import Run, run_all
from hf_fusion.utils.errors import RecipeError
from hf_fusion.training.recipe import parse_recipe

REVIEWS, CLIPS = "scripts/recipes/dyfulm_synthetic.yaml", "scripts/recipes/dashfusion_synthetic.yaml"
TEXTS = [
    "The staff was very pleasant.",
    "The staff was not very pleasant.",
    "The breakfast was excellent, but the room was terrible.",
    "Although the room was terrible, the breakfast was excellent.",
    "The bed was not bad.",
]
# Run by an interpreter that cannot import the package: the checkpoint brings its own code.
ELSEWHERE = """
import json, sys
sys.modules["hf_fusion"] = None
from transformers import pipeline
classify = pipeline("fusion-sentiment", model=sys.argv[1], trust_remote_code=True)
print("ANSWERS", json.dumps(classify(json.load(sys.stdin))))
"""
REVIEW_METRICS = ("fine_accuracy", "fine_macro_f1", "coarse_accuracy", "intensity_mae")
CLIP_METRICS = ("mae", "corr", "acc2_non0", "acc7")
CLIP_RUNS = {
    "text only": ["--modalities", "text"],
    "audio only": ["--modalities", "audio"],
    "vision only": ["--modalities", "vision"],
    "all three, without temporal alignment": ["--temporal_alignment", "false"],
    "all three": [],
}


def clip_folder(flags):
    """The run folder of DashFusion with these flags."""
    return "_".join(["dashfusion", *flags[1:]])


def train(folder, console):
    """Trains everything, two runs at a time; returns the test metrics by run."""
    runs = [Run("DyFuLM", REVIEWS, folder / "dyfulm")]
    for name, flags in reversed(CLIP_RUNS.items()):  # the longest first
        runs.append(Run(name, CLIPS, folder / clip_folder(flags), flags))
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console) as progress:
        bars = {
            run.name: progress.add_task(
                run.name if run.recipe == REVIEWS else f"DashFusion: {run.name}",
                total=parse_recipe(["--config", run.recipe])[2].num_train_epochs,
            )
            for run in runs
        }
        run_all(runs, slots=2, report=lambda run, epochs: progress.update(bars[run.name], completed=epochs))
    return {run.name: json.loads((run.folder / METRICS_FILE).read_text("utf-8"))["test"] for run in runs}


def classify_elsewhere(folder, inputs):
    """Classifies in a fresh process, in an empty folder, without this package."""
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": empty}
        process = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, str(folder.resolve())],
            input=json.dumps(inputs), capture_output=True, text=True, cwd=empty, env=environment, check=False,
        )  # fmt: skip
    if process.returncode:
        raise RecipeError(f"Loading without the package failed:\n{process.stderr}")
    line = next(line for line in process.stdout.splitlines() if line.startswith("ANSWERS "))
    return json.loads(line.removeprefix("ANSWERS "))


def print_metrics(console, title, results, metrics):
    table = Table("", *metrics, title=title)
    for name, row in results.items():
        table.add_row(name, *("-" if row[m] != row[m] else format(row[m], metric_named(m).format) for m in metrics))
    console.print(table)


def show_reviews(console, results, folder):
    reviews = load_reviews(parse_recipe(["--config", REVIEWS])[1].source())
    results = {
        "majority": majority_baseline(reviews["train"], reviews["test"]),
        "bag of words": bag_of_words_baseline(reviews["train"], reviews["test"]),
        "DyFuLM": results["DyFuLM"],
    }
    print_metrics(console, f"{len(reviews['test']):,} held-out synthetic reviews", results, REVIEW_METRICS)
    console.print("Negation and contrast decide these reviews: words alone do not tell, their order does.\n")
    table = Table("text", "fine", "coarse", "intensity", title="Answers of a fresh process without the package")
    for text, answer in zip(TEXTS, classify_elsewhere(folder / "dyfulm", TEXTS), strict=True):
        fine, coarse = (f"{entry['label']} ({entry['score']:.0%})" for entry in (answer, answer["coarse"]))
        table.add_row(text, fine, coarse, f"{answer['intensity']:.2f}")
    console.print(table)


def show_clips(console, results, folder):
    clips = load_clips(parse_recipe(["--config", CLIPS])[1].source())
    labels = np.array(clips["test"]["label"])
    mean = np.full(len(labels), np.mean(clips["train"]["label"]))
    results = {
        "mean": SentimentRegressionMetrics("mosi").compute(predictions=mean, references=labels),
        **{name: results[name] for name in CLIP_RUNS},
    }
    print_metrics(console, f"DashFusion on {len(labels):,} held-out synthetic clips", results, CLIP_METRICS)
    console.print(
        "The loud word (audio) is the opinion that counts (text), and a wry face at that moment turns it around "
        "(vision): only all three together, matched in time, know the score.\n"
    )
    rows = [clips["test"][i] for i in range(5)]
    inputs = [{name: row[name] for name in ("text", "audio", "vision")} for row in rows]
    table = Table("text (loud word in capitals)", "face", "true", "label", "score", title="Answers, as above")
    for row, answer in zip(rows, classify_elsewhere(folder / "dashfusion", inputs), strict=True):
        words = row["text"].split()
        words[row["emphasis"]] = words[row["emphasis"]].upper()
        face = "wry" if row["sarcastic"] else "plain"
        table.add_row(" ".join(words), face, f"{row['label']:+.0f}", answer["label"], f"{answer['score']:+.2f}")
    console.print(table)


def remove_previous(folder):
    """Removes what an earlier quickstart left; a folder with anything else in it stays."""
    ours = {"dyfulm", *(clip_folder(flags) for flags in CLIP_RUNS.values())}
    others = sorted(path.name for path in folder.iterdir() if path.name not in ours) if folder.exists() else []
    if others:
        raise RecipeError(f"{folder} holds {others[0]!r}, which is no run of the quickstart: choose another folder.")
    shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/quickstart"), help="replaced if it exists")
    folder = parser.parse_args().output_dir
    started, console = time.perf_counter(), Console()
    try:
        remove_previous(folder)
        console.rule("1. Train, two runs at a time: accelerate launch scripts/train.py")
        results = train(folder, console)
        console.rule("2. DyFuLM: reviews")
        show_reviews(console, results, folder)
        console.rule("3. DashFusion: text, audio and vision")
        show_clips(console, results, folder)
    except RecipeError as error:
        print(f"quickstart.py: {error}", file=sys.stderr)
        return 2
    console.rule(f"Done in {time.perf_counter() - started:.0f} s. What to do next")
    for purpose, command in [
        ("Classify your own lines", f"echo 'Not a bad stay.' | python scripts/predict.py -c {folder}/dyfulm"),
        ("See where a model errs", f"python scripts/evaluate.py {folder}/dashfusion"),
        ("Look at the training curves", f"tensorboard --logdir {folder}"),
        (
            "Train on your own csv",
            f"python scripts/train.py --config {REVIEWS} --dataset my.csv --output_dir runs/mine",
        ),
    ]:
        console.print(f"  {purpose}:\n    [bold]{command}[/bold]", highlight=False, soft_wrap=True)
    console.print("  (in the environment of .venv: source .venv/bin/activate)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
