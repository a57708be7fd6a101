#!/usr/bin/env python
"""Measures a checkpoint on labelled data: metrics.json, the same as LaTeX, and pictures (confusion and calibration, or
true and predicted scores).

    python scripts/evaluate.py runs/dyfulm_synthetic
    python scripts/evaluate.py runs/dyfulm_synthetic --dataset my_reviews.csv --columns '{"text": "review"}'
    python scripts/evaluate.py runs/dashfusion_mosi --dataset MOSI/Processed/unaligned_50.pkl

Without --dataset the data of the checkpoint's own recipe is used (its test split).
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from hf_fusion.architectures import architecture_of
from hf_fusion.architectures.evaluate_checkpoint import load_split
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.plots import plots_available
from hf_fusion.evaluation.tables import latex_table
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import describe_environment, fingerprint, write_json
from hf_fusion.training.outcome import show_labels
from hf_fusion.training.recipe import parse_data_arguments
from hf_fusion.data.arguments import DataArguments
from hf_fusion.utils.errors import RecipeError


@dataclass
class EvaluateArguments:
    checkpoint: str = field(metadata={"help": "A run folder, or a name on the Hub.", "aliases": ["-c"]})
    split: str = field(default="test", metadata={"help": "train, validation or test."})
    output_dir: str | None = field(default=None, metadata={"help": "Default: CHECKPOINT/evaluation-SPLIT."})
    batch_size: int = field(default=32, metadata={"help": "Rows per forward pass."})
    dtype: str = field(default="float32", metadata={"help": "float32, bfloat16 or float16."})
    device: str | None = field(default=None, metadata={"help": "cpu, cuda:0 ...; default: the accelerator, if any."})
    format: Literal["png", "pdf", "svg"] = field(default="png", metadata={"help": "Of the pictures."})


def evaluate(args: EvaluateArguments, data_args: DataArguments) -> dict:
    classify = load_pipeline(args.checkpoint, args.dtype, args.device)
    config = classify.model.config
    rows = load_split(config, data_args, args.split)
    architecture = architecture_of(config)
    unit = architecture.unit
    folder = Path(args.output_dir or Path(args.checkpoint) / f"evaluation-{args.split}")
    folder.mkdir(parents=True, exist_ok=True)
    metrics = architecture.measure(
        classify, rows, folder if plots_available() else None, args.batch_size,
        track=lambda answers: tqdm(answers, total=len(rows), unit=unit), picture_format=args.format,
    )  # fmt: skip
    facts = {"checkpoint": Path(args.checkpoint).name, "dataset": Path(data_args.dataset).name, "dtype": args.dtype}
    facts.update(
        split=args.split, rows=len(rows), data_fingerprint=fingerprint({args.split: rows}), damage=data_args.damage
    )
    write_json(folder / "metrics.json", {args.split: metrics, **describe_environment(**facts)})
    caption = f"Results on the {args.split} split ({len(rows):,} {unit}s)."
    rows_of_table = [{"metric": name, "value": value} for name, value in metrics.items()]
    (folder / "metrics.tex").write_text(latex_table(rows_of_table, caption), encoding="utf-8")

    table = Table("metric", args.split, title=f"{args.checkpoint} on {data_args.dataset} ({len(rows):,} {unit}s)")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4f}")
    Console().print(table)
    print(f"Written: {', '.join(str(path) for path in sorted(folder.iterdir()))}")
    return metrics


def main() -> int:
    show_labels()
    try:
        evaluate(*parse_data_arguments(EvaluateArguments, description=__doc__))
    except (RecipeError, DataError, OSError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
