#!/usr/bin/env python
"""Measures what a checkpoint loses when its input is damaged: words dropped, misspelt or misheard, noise, lost frames,
lost modalities.

    python scripts/evaluate_robustness.py runs/dashfusion_synthetic
    python scripts/evaluate_robustness.py runs/dyfulm_synthetic --corruptions typos word_dropout
    python scripts/evaluate_robustness.py runs/dashfusion_mosi --corruptions audio_loss+vision_loss \\
        --baseline runs/dashfusion_mosi_without_text

Six severities from 0 (clean) to 5 each. Without --dataset the data of the checkpoint's own recipe is used (its test
split). Writes robustness.json (curves of every metric, areas under them), robustness.csv, robustness.tex and a picture.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd
from datasets import disable_progress_bars
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from hf_fusion.data.corruption import SEVERITIES
from hf_fusion.architectures import architecture_of
from hf_fusion.architectures.evaluate_checkpoint import load_split
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.plots import plot_robustness, plots_available, save_figure
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import describe_environment, fingerprint, write_json
from hf_fusion.evaluation.robustness import (
    check_same_metrics,
    check_scenarios,
    default_scenarios,
    robustness_curves,
    summarize_curves,
    text_verdict,
)
from hf_fusion.evaluation.tables import latex_table
from hf_fusion.training.outcome import show_labels
from hf_fusion.data.arguments import DataArguments
from hf_fusion.training.recipe import parse_data_arguments
from hf_fusion.utils.errors import RecipeError

_SHOWN = ("clean", "worst", "area")


@dataclass
class RobustnessArguments:
    checkpoint: str = field(metadata={"help": "A run folder, or a name on the Hub.", "aliases": ["-c"]})
    corruptions: list[str] | None = field(
        default=None, metadata={"help": "Which damage; a+b does both. Default: all that the data can suffer, singly."}
    )
    baseline: str | None = field(
        default=None, metadata={"help": "Another checkpoint (say, one without text) for the effective robustness."}
    )
    seeds: int = field(default=1, metadata={"help": "Damage everything so many times, and average."})
    split: str = field(default="test", metadata={"help": "train, validation or test."})
    output_dir: str | None = field(default=None, metadata={"help": "Default: CHECKPOINT/robustness-SPLIT."})
    batch_size: int = field(default=32, metadata={"help": "Rows per forward pass."})
    device: str | None = field(default=None, metadata={"help": "cpu, cuda:0 ...; default: the accelerator, if any."})
    format: Literal["png", "pdf", "svg"] = field(default="png", metadata={"help": "Of the pictures."})


def curves_of(classify, checkpoint, args, rows, scenarios):
    measure = partial(architecture_of(classify.model.config).measure, classify, batch_size=args.batch_size)
    track = partial(tqdm, desc=Path(checkpoint).name, unit="severity")
    return robustness_curves(measure, rows, scenarios, range(args.seeds), track)


def evaluate(args: RobustnessArguments, data_args: DataArguments) -> dict:
    if args.seeds < 1:
        raise RecipeError(f"--seeds must be at least 1, got {args.seeds}.")
    if data_args.damage:
        raise RecipeError("--damage is for evaluate.py and analyze.py; choose here with --corruptions.")
    classify = load_pipeline(args.checkpoint, device=args.device)
    config = classify.model.config
    rows = load_split(config, replace(data_args), args.split)
    scenarios = args.corruptions or default_scenarios(rows.column_names)
    check_scenarios(scenarios, rows.column_names)
    disable_progress_bars()
    curves = curves_of(classify, args.checkpoint, args, rows, scenarios)
    baseline, baseline_without_text = None, False
    if args.baseline:
        other = load_pipeline(args.baseline, device=args.device)
        its_rows = load_split(other.model.config, replace(data_args), args.split)
        baseline = curves_of(other, args.baseline, args, its_rows, scenarios)
        check_same_metrics(curves, baseline)
        baseline_without_text = "text" not in its_rows.column_names
    summary = summarize_curves(curves, baseline)
    available = next(iter(curves.values()))
    main = [metric for metric in architecture_of(config).main_metrics if metric in available]
    verdict = text_verdict(summary, main[-1], baseline if baseline_without_text else None)

    folder = Path(args.output_dir or Path(args.checkpoint) / f"robustness-{args.split}")
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"checkpoint": Path(args.checkpoint).name, "dataset": Path(data_args.dataset).name, "split": args.split}
    facts.update(rows=len(rows), data_fingerprint=fingerprint({args.split: rows}), damage_seeds=args.seeds)
    record = {"curves": curves, "baseline": baseline, "summary": summary, "text": verdict}
    write_json(folder / "robustness.json", {**record, **describe_environment(**facts)})
    table = [
        {"scenario": scenario, "metric": metric, "severity": severity, "value": value}
        for scenario, metrics in curves.items()
        for metric, values in metrics.items()
        for severity, value in zip(SEVERITIES, values, strict=True)
    ]
    pd.DataFrame(table).to_csv(folder / "robustness.csv", index=False)
    caption = "Corrupted input: clean, at severity 5, and the mean over severities."
    (folder / "robustness.tex").write_text(latex_table(summary_rows(summary, main), caption), encoding="utf-8")
    if plots_available():
        figure = plot_robustness(curves, main, f"{Path(args.checkpoint).name}: corrupted input")
        save_figure(figure, folder / f"robustness.{args.format}")
    print_summary(summary, main, args.checkpoint)
    if verdict:
        print(verdict["verdict"])
    print(f"Written: {', '.join(str(path) for path in sorted(folder.iterdir()))}")
    return record


def summary_rows(summary, metrics):
    return [
        {"corruption": scenario}
        | {
            metric: "{clean:.3f} {worst:.3f} {area:.3f}".format(**{k: cells[metric][k] for k in _SHOWN})
            for metric in metrics
        }
        for scenario, cells in summary.items()
    ]


def print_summary(summary, metrics, title):
    table = Table("corruption", *metrics, title=f"{title}: clean, at severity 5, mean over severities")
    for row in summary_rows(summary, metrics):
        table.add_row(*row.values())
    Console().print(table)


def main() -> int:
    show_labels()
    try:
        evaluate(*parse_data_arguments(RobustnessArguments, description=__doc__))
    except (RecipeError, DataError, OSError) as error:
        print(f"evaluate_robustness.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
