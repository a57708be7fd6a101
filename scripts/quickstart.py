#!/usr/bin/env python
"""Trains a small DyFuLM on synthetic reviews and shows what it can do. Under 4 minutes on two cores, no network.

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

from rich.console import Console
from rich.table import Table

from hf_fusion.data.reviews import load_reviews
from hf_fusion.evaluation.baselines import bag_of_words_baseline, majority_baseline
from hf_fusion.evaluation.records import METRICS_FILE
from hf_fusion.training.recipe import parse_recipe

RECIPE = "scripts/recipes/dyfulm_synthetic.yaml"
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
print("ANSWERS", json.dumps(classify(json.loads(sys.argv[2]))))
"""
METRICS = {"fine_accuracy": "{:.1%}", "fine_macro_f1": "{:.3f}", "coarse_accuracy": "{:.1%}", "intensity_mae": "{:.3f}"}


def train(folder):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"]
    command += [
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--num_cpu_threads_per_process",
        str(os.cpu_count()),
    ]
    subprocess.run([*command, "scripts/train.py", "--config", RECIPE, "--output_dir", str(folder)], check=True)
    return json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))["test"]


def classify_elsewhere(folder, texts):
    """Classifies in a fresh process, in an empty folder, without this package."""
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": empty}
        command = [sys.executable, "-c", ELSEWHERE, str(folder.resolve()), json.dumps(texts)]
        process = subprocess.run(command, capture_output=True, text=True, cwd=empty, env=environment, check=False)
    if process.returncode:
        raise RuntimeError(f"Loading without the package failed:\n{process.stderr}")
    line = next(line for line in process.stdout.splitlines() if line.startswith("ANSWERS "))
    return json.loads(line.removeprefix("ANSWERS "))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/quickstart"), help="replaced if it exists")
    folder = parser.parse_args().output_dir
    started, console = time.perf_counter(), Console()
    shutil.rmtree(folder, ignore_errors=True)

    console.rule("1. Train: accelerate launch scripts/train.py")
    results = {"DyFuLM": train(folder)}
    console.rule("2. Compare with baselines")
    reviews = load_reviews(parse_recipe(["--config", RECIPE])[1].source())
    results = {
        "majority": majority_baseline(reviews["train"], reviews["test"]),
        "bag of words": bag_of_words_baseline(reviews["train"], reviews["test"]),
        **results,
    }
    table = Table("", *METRICS, title=f"{len(reviews['test']):,} held-out synthetic reviews")
    for name, metrics in results.items():
        table.add_row(name, *(form.format(metrics[metric]) for metric, form in METRICS.items()))
    console.print(table)
    console.print("Negation and contrast decide these reviews: words alone do not tell, their order does.")

    console.rule("3. Load the checkpoint in a fresh process, without the package")
    table = Table("text", "fine", "coarse", "intensity")
    for text, answer in zip(TEXTS, classify_elsewhere(folder, TEXTS), strict=True):
        fine, coarse = (f"{entry['label']} ({entry['score']:.0%})" for entry in (answer, answer["coarse"]))
        table.add_row(text, fine, coarse, f"{answer['intensity']:.2f}")
    console.print(table)

    console.rule(f"Done in {time.perf_counter() - started:.0f} s. What to do next")
    for purpose, command in [
        ("Classify your own lines", f"echo 'Not a bad stay.' | python scripts/predict.py -c {folder}"),
        ("See where it errs", f"python scripts/evaluate.py {folder}"),
        ("Look at the training curves", f"tensorboard --logdir {folder}"),
        ("Train on your own csv", f"python scripts/train.py --config {RECIPE} --dataset my.csv --output_dir runs/mine"),
    ]:
        console.print(f"  {purpose}:\n    [bold]{command}[/bold]", highlight=False, soft_wrap=True)
    console.print("  (in the environment of .venv: source .venv/bin/activate)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
