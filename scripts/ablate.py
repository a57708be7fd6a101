#!/usr/bin/env python
"""Runs a study: one recipe, several variants, several seeds; writes a result file and prints the comparison.

    python scripts/ablate.py scripts/studies/dyfulm_hotel_reviews.yaml --set dataset=hotel_reviews.csv.gz

A killed study goes on where it was: run the same command again. Finished runs are never repeated.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import sys
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from hf_fusion.evaluation.study import Study, StudyError, run_study, summarize, write_study


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="a study file (YAML): recipe, variants, seeds, overrides")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a recipe field for all"
    )
    parser.add_argument("--runs", type=Path, help="where the run folders go (default: runs/NAME of the study)")
    parser.add_argument("--slots", type=int, default=1, help="runs at a time, which share the cores (default: 1)")
    parser.add_argument("--output", help="result file (default: model_cards/results/NAME of the study.json)")
    return parser.parse_args()


def print_summary(summary, console):
    seeds = len(next(iter(summary.values()))["seeds"])
    table = Table("test", *summary, title=f"mean ± standard deviation over {seeds} seed(s); below: minus the first")
    for metric in next(iter(summary.values()))["mean"]:
        if metric != "loss":  # its scale depends on the loss weights
            table.add_row(metric, *(_cell(entry, metric) for entry in summary.values()))
    console.print(table)


def _cell(entry, metric):
    mean, std = entry["mean"][metric], entry["std"][metric]
    lines = [f"{mean:.4f}" + (f" ± {std:.4f}" if std is not None else "")]
    if "difference" in entry:
        difference, interval = entry["difference"][metric]["mean"], entry["difference"][metric]["interval"]
        lines.append(f"{difference:+.4f}" + (f" [{interval[0]:+.4f}, {interval[1]:+.4f}]" if interval else ""))
    return "\n".join(lines)


def main() -> int:
    args = parse_args()
    name = Path(args.study).stem
    folder = args.runs or Path("runs") / name
    try:
        malformed = [item for item in args.set if "=" not in item]
        if malformed:
            raise StudyError(f"--set needs FIELD=VALUE, got {malformed[0]!r}.")
        overrides = {key: yaml.safe_load(value) for key, _, value in (item.partition("=") for item in args.set)}
        study = Study.read(args.study)
        summary = summarize(run_study(study, folder, overrides, slots=args.slots))
        output = args.output or f"model_cards/results/{name}.json"
        write_study(output, study, args.study, folder, overrides, summary)
    except StudyError as error:
        print(f"ablate.py: {error}", file=sys.stderr)
        return 2
    print_summary(summary, Console())
    print(f"Written: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
