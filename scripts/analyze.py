#!/usr/bin/env python
"""Examines a checkpoint on your data, with a verdict for each part of it, as one HTML page, pictures and JSON.

    python scripts/analyze.py runs/dyfulm_synthetic
    python scripts/analyze.py runs/dashfusion_mosi --dataset data/mosi --split validation --format svg

DyFuLM: the gate between the encoders, attention over layers, errors and calibration. DashFusion: the contribution of
each modality (the cost of its loss, and with the extra `analyze` integrated gradients by captum), where words look in
audio and vision, the contrastive space and how training shaped it, errors. Both: how the losses pulled at what they
share, if the run was trained with --log_gradients_every. Without --dataset the data of the checkpoint's own recipe is
used (its test split). At most 500 rows are examined, drawn once; --max_eval_samples sets another number.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from datasets import disable_progress_bars
from rich.console import Console
from tqdm import tqdm

from hf_fusion.architectures import architecture_of
from hf_fusion.evaluation.diagnostics.report import write_report
from hf_fusion.architectures.evaluate_checkpoint import load_split
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.utils.records import describe_environment, fingerprint
from hf_fusion.training.outcome import show_labels
from hf_fusion.data.arguments import DataArguments
from hf_fusion.training.recipe import parse_data_arguments
from hf_fusion.utils.errors import DataError, RecipeError
from hf_fusion.utils.extras import MissingExtraError

_MAX_SAMPLES = 500
_STYLES = {"ok": "green", "warning": "red", "info": "dim"}


@dataclass
class AnalyzeArguments:
    checkpoint: str = field(metadata={"help": "A run folder, or a name on the Hub.", "aliases": ["-c"]})
    split: str = field(default="test", metadata={"help": "train, validation or test."})
    output_dir: str | None = field(default=None, metadata={"help": "Default: CHECKPOINT/analysis-SPLIT."})
    batch_size: int = field(default=32, metadata={"help": "Rows per forward pass."})
    device: str | None = field(default=None, metadata={"help": "cpu, cuda:0 ...; default: the accelerator, if any."})
    format: Literal["png", "pdf", "svg"] = field(default="png", metadata={"help": "Of the pictures' files."})


def analyze(args: AnalyzeArguments, data_args: DataArguments):
    classify = load_pipeline(args.checkpoint, device=args.device)
    data_args = replace(data_args)
    data_args.max_eval_samples = data_args.max_eval_samples or _MAX_SAMPLES
    rows = load_split(classify.model.config, data_args, args.split)
    folder = Path(args.output_dir or Path(args.checkpoint) / f"analysis-{args.split}")
    folder.mkdir(parents=True, exist_ok=True)
    disable_progress_bars()

    def track(steps, name, total):
        return tqdm(steps, desc=name, total=total, leave=False)

    architecture = architecture_of(classify.model.config)
    sections = architecture.diagnose(classify, rows, args.batch_size, args.checkpoint, data_args, track)
    facts = {"checkpoint": Path(args.checkpoint).name, "dataset": Path(data_args.dataset).name, "split": args.split}
    facts.update(rows=len(rows), max_rows=data_args.max_eval_samples)
    facts.update(data_fingerprint=fingerprint({args.split: rows}), damage=data_args.damage)
    title = f"Analysis of {facts['checkpoint']}"
    page, record = write_report(folder, title, describe_environment(**facts), sections, args.format)
    console = Console()
    for section in sections:
        console.print(f"[bold]{section.title}")
        for finding in section.findings:
            console.print(
                f"  [{_STYLES[finding.verdict]}]{finding.verdict:7}[/] {finding.name}: {finding.shown} "
                f"({finding.limit}); {finding.text}", highlight=False, markup=True,
            )  # fmt: skip
    limited = len(rows) == data_args.max_eval_samples
    print(f"{len(rows):,} rows{' (--max_eval_samples examines more)' if limited else ''}.")
    print(f"Written: {page} and {record.name}")


def main() -> int:
    show_labels()
    try:
        analyze(*parse_data_arguments(AnalyzeArguments, description=__doc__))
    except (RecipeError, DataError, MissingExtraError, OSError) as error:
        print(f"analyze.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
