"""Distil a trained DyFuLM into a smaller one (experimental).

    hf-fusion distill --teacher runs/dyfulm_synthetic --config dyfulm_synthetic_student
    hf-fusion distill --teacher runs/mine --config runs/mine/config.yaml --output_dir runs/mine_small \\
        --cross_fusion a --encoder_a teacher --encoder_layers 2

Distillation is experimental: results do not favour it so far, and flags and files may change.

The recipe describes the student, which has a single encoder: encoder_a is a pretrained encoder, a new one, or
`teacher` (encoder A and tokenizer of the teacher); encoder_layers keeps the first layers. Every recipe field is also
a flag, as in `hf-fusion train`, which also takes --teacher. This command additionally compares test metrics, size and
speed of both models on the CPU, and writes them to distillation.json in the run folder.
"""

from pathlib import Path

from hf_fusion.cli.train import IF_INTERRUPTED as IF_INTERRUPTED

RESULT_FILE = "distillation.json"
_TEXTS = 100  # number of texts for the measurement of speed


def main(argv: list[str]) -> None:
    """Runs `hf-fusion distill`."""
    from hf_fusion.cli.train import train
    from hf_fusion.studies.costs import compare_with_teacher
    from hf_fusion.training.recipe import parse_recipe
    from hf_fusion.utils.errors import RecipeError
    from hf_fusion.utils.records import describe_environment, write_json

    model_args, data_args, training_args = parse_recipe(argv, __doc__, "hf-fusion distill")
    if model_args.teacher is None:
        raise RecipeError("--teacher is missing: set the run folder of a trained DyFuLM.")
    metrics = train(model_args, data_args, training_args)
    if not training_args.should_save or "test" not in metrics:
        return
    comparison = compare_with_teacher(model_args.teacher, training_args.output_dir, _TEXTS)
    path = Path(training_args.output_dir) / RESULT_FILE
    write_json(path, {**comparison, **describe_environment(seed=training_args.seed, texts=_TEXTS)})
    _print_comparison(comparison, training_args.output_dir)
    print(f"Written: {path}")


def _print_comparison(comparison, title):
    from rich.console import Console
    from rich.table import Table

    table = Table("", "teacher", "student", "student / teacher", title=title)
    teacher, student = comparison["test"]["teacher"], comparison["test"]["student"]
    for name, value in teacher.items():
        share = f"{student[name] / value:.3f}" if value else "-"
        table.add_row(name, f"{value:.4f}", f"{student[name]:.4f}", share)
    for row in comparison["costs"]:
        sides = [row[side]["median"] for side in ("reference", "candidate")]
        table.add_row(f"{row['what']}, {row['unit']}", *(f"{side:.4g}" for side in sides), f"1 / {row['ratio']:.2f}")
    Console().print(table)
