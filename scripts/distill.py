#!/usr/bin/env python
"""Distils a trained DyFuLM into a small one with a single encoder, and compares the two.

    accelerate launch scripts/distill.py --teacher runs/dyfulm_synthetic \\
        --config scripts/recipes/dyfulm_synthetic_student.yaml
    python scripts/distill.py --teacher runs/mine --config runs/mine/config.yaml --output_dir runs/mine_small \\
        --cross_fusion a --encoder_a teacher --encoder_layers 2

The recipe describes the student: encoder_a is a pretrained encoder, one from scratch, or `teacher` (the teacher's
encoder A with its tokenizer); encoder_layers keeps the first layers. Every field of a recipe is also a flag, as in
train.py, and train.py takes `teacher`, too: what this script adds is the comparison at the end, on the test split and
the CPU, with test metrics, size and speed of both (written to distillation.json in the run folder).
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import sys
from pathlib import Path

from datasets.utils.logging import disable_progress_bar
from rich.console import Console
from rich.table import Table

from hf_fusion.studies.costs import compare_checkpoints
from hf_fusion.architectures.evaluate_checkpoint import evaluate_checkpoint
from hf_fusion.utils.records import describe_environment, write_json
from hf_fusion.training.outcome import EXPECTED, exit_of, show_labels
from hf_fusion.training.recipe import data_arguments_of, parse_recipe
from hf_fusion.utils.errors import RecipeError
from hf_fusion.training.run import run_training

RESULT_FILE = "distillation.json"
_TEXTS = 100  # that speed is measured on


def compare(teacher: str, folder: str) -> dict:
    """Test metrics, size and speed of teacher and student."""
    data_fields = vars(data_arguments_of(folder))
    data_fields = {name: value for name, value in data_fields.items() if name != "kind"}
    metrics = {
        name: evaluate_checkpoint(checkpoint, data_fields)
        for name, checkpoint in (("teacher", teacher), ("student", folder))
    }
    return {"test": metrics, "costs": compare_checkpoints(teacher, folder, _TEXTS)}


def print_comparison(found: dict, folder: str) -> None:
    table = Table("", "teacher", "student", "student / teacher", title=folder)
    teacher, student = found["test"]["teacher"], found["test"]["student"]
    for name, value in teacher.items():
        share = f"{student[name] / value:.3f}" if value else "-"
        table.add_row(name, f"{value:.4f}", f"{student[name]:.4f}", share)
    for row in found["costs"]:
        sides = [row[side]["median"] for side in ("reference", "candidate")]
        table.add_row(f"{row['what']}, {row['unit']}", *(f"{side:.4g}" for side in sides), f"1 / {row['ratio']:.2f}")
    Console().print(table)


def main() -> int:
    try:
        model_args, data_args, training_args = parse_recipe(description=__doc__)
        if model_args.teacher is None:
            raise RecipeError("--teacher is missing: the run folder of a trained DyFuLM.")
        if not training_args.should_log:
            disable_progress_bar()
        else:
            show_labels()
        metrics = run_training(model_args, data_args, training_args)
        if not training_args.should_save or "test" not in metrics:
            return 0
        found = compare(model_args.teacher, training_args.output_dir)
    except EXPECTED as error:
        message, status = exit_of(error)
        print(f"distill.py: {message}", file=sys.stderr)
        return status
    path = Path(training_args.output_dir) / RESULT_FILE
    write_json(path, {**found, **describe_environment(seed=training_args.seed, texts=_TEXTS)})
    print_comparison(found, training_args.output_dir)
    print(f"Written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
