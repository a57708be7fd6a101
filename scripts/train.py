#!/usr/bin/env python
"""Trains a fusion model by a recipe.

    accelerate launch scripts/train.py --config scripts/recipes/dyfulm_synthetic.yaml
    python scripts/train.py --config scripts/recipes/dyfulm_synthetic.yaml --seed 2 --output_dir runs/second

Every field of a recipe is also a flag, which overrides the recipe. Two processes on a CPU:

    accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no \\
        scripts/train.py --config scripts/recipes/dyfulm_synthetic.yaml --use_cpu true
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import sys

from datasets.utils.logging import disable_progress_bar
from rich.console import Console
from rich.table import Table

from hf_fusion.training.outcome import EXPECTED, exit_of, show_labels
from hf_fusion.training.recipe import parse_recipe
from hf_fusion.training.run import run_training


def main() -> int:
    try:
        model_args, data_args, training_args = parse_recipe(description=__doc__)
        if not training_args.should_log:
            disable_progress_bar()
        else:
            show_labels()
        metrics = run_training(model_args, data_args, training_args)
    except EXPECTED as error:
        message, status = exit_of(error)
        print(f"train.py: {message}", file=sys.stderr)
        return status
    if training_args.should_log:
        splits = [split for split in ("validation", "test") if split in metrics]
        table = Table("metric", *splits, title=f"{training_args.output_dir} (seed {training_args.seed})")
        for name in metrics[splits[0]] if splits else ():
            table.add_row(name, *(f"{metrics[split][name]:.4f}" for split in splits))
        Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
