"""Train a model with a recipe.

    hf-fusion train --config dyfulm_synthetic
    hf-fusion train --config dyfulm_synthetic --seed 2 --output_dir runs/second
    hf-fusion train --config mine.yaml --dataset reviews.csv --columns '{"text": "review"}'

Every field of a recipe is also a flag, which overrides the recipe. With several accelerators the command starts
`accelerate launch -m hf_fusion.cli.train` with one process per accelerator; `accelerate config` and the flags of
`accelerate launch` change that. Two processes on a CPU:

    accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no \\
        -m hf_fusion.cli.train --config dyfulm_synthetic --use_cpu true
"""

import os
import shlex
import sys

IF_INTERRUPTED = "continue with --resume_from_checkpoint last"
# Environment variables that launchers set for their processes.
_LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "ACCELERATE_MIXED_PRECISION")


def main(argv: list[str]) -> None:
    """Runs `hf-fusion train`."""
    if not {"-h", "--help", "--help-all"} & set(argv) and wants_launcher(argv):
        launch(argv)
    from hf_fusion.training.recipe import parse_recipe

    train(*parse_recipe(argv, __doc__, "hf-fusion train"))


def train(model_args, data_args, training_args) -> dict:
    """Trains by [`run_training`], prints the metrics, and returns its result."""
    from hf_fusion.cli.output import print_evidence, print_metrics, print_next, show_labels
    from hf_fusion.training.duration import EstimateDuration
    from hf_fusion.training.run import run_training
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    if training_args.should_log:
        show_labels()
    metrics = run_training(model_args, data_args, training_args, callbacks=[EstimateDuration()])
    if training_args.should_log:
        splits = {split: metrics[split] for split in ("validation", "test") if split in metrics}
        folder = training_args.output_dir
        print_metrics(f"{folder} (seed {training_args.seed})", splits)
        print_evidence(metrics)
        print_next([("Evaluate it, with figures", f"hf-fusion evaluate {shlex.quote(folder)}")])
    return metrics


def wants_launcher(argv: list[str]) -> bool:
    """Whether there are several accelerators, and no launcher started this process."""
    import torch

    from hf_fusion.training.recipe import uses_cpu

    launched = any(name in os.environ for name in _LAUNCHED)
    return not launched and torch.accelerator.device_count() > 1 and not uses_cpu(argv)


def launch(argv: list[str]) -> None:
    """
    Replaces this process by `accelerate launch` with one process per accelerator, which then receives the signals.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "-m", "hf_fusion.cli.train", *argv]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


if __name__ == "__main__":
    from hf_fusion.cli.main import main as run_command

    sys.exit(run_command(["train", *sys.argv[1:]]))
