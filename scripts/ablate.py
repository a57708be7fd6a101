#!/usr/bin/env python
"""Runs a study: one recipe, several variants, several seeds; writes result files and prints the comparison.

    python scripts/ablate.py scripts/studies/ablation_dashfusion_synthetic.yaml --slots 2
    python scripts/ablate.py scripts/studies/dyfulm_hotel_reviews.yaml --set dataset=hotel_reviews.csv.gz

The first variant is the reference. A killed study goes on where it was: run the same command again. Finished runs are
never repeated; seeds and variants can be added to the file later.

Results are NAME.json (everything), NAME.csv (one row for each number), NAME.md and NAME.tex (the tables) and NAME.png
(differences with intervals); with `pareto` in the study also NAME_pareto.png.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hf_fusion.evaluation.plots import FORMATS, MOST_PANELS, plot_differences, plot_pareto, plots_available, save_figure
from hf_fusion.studies.results import cell_lines, check_metrics, summarize, write_study
from hf_fusion.studies.study import Study, StudyError, run_study
from hf_fusion.utils.errors import DataError, RecipeError


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="a study file (YAML): recipe, variants, seeds, overrides, metrics ...")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE",
        help="change a recipe field for all variants; variants.NAME.FIELD=VALUE for one, evaluate_on.NAME.FIELD=VALUE "
        "for other data",
    )  # fmt: skip
    parser.add_argument("--runs", type=Path, help="where the run folders go (default: runs/NAME of the study)")
    parser.add_argument("--slots", type=int, default=1, help="runs at a time, which share the cores (default: 1)")
    parser.add_argument("--output", type=Path, help="result file (default: model_cards/results/NAME of the study.json)")
    parser.add_argument("--format", choices=FORMATS, default="png", help="of the pictures (default: png)")
    return parser.parse_args()


def print_summary(summary, metrics, paper, title, console):
    seeds = len(next(iter(summary.values()))["seeds"])
    table = Table("variant", *metrics, title=f"{title}: mean ± standard deviation over {seeds} seed(s)")
    for name, entry in summary.items():
        table.add_row(name, *("\n".join(cell_lines(entry, metric, paper.get(name, {}))) for metric in metrics))
    console.print(table)
    console.print(
        "Below each: minus the first, 95 % interval, p after Holm's correction" + (", the paper's." if paper else ".")
    )


def main() -> int:
    args = parse_args()
    name = Path(args.study).stem
    folder = args.runs or Path("runs") / name
    output = args.output or Path(f"model_cards/results/{name}.json")
    try:
        study = Study.read(args.study)
        for assignment in args.set:
            study.set(assignment)
        results = run_study(study, folder, slots=args.slots)
        summaries = {
            split: summarize(results, split, study.interval) for split in ("validation", "test", *study.evaluate_on)
        }
        check_metrics(study, summaries["test"])
        record = write_study(output, study, args.study, folder, results, summaries)
    except (StudyError, RecipeError, DataError) as error:
        print(f"ablate.py: {error}", file=sys.stderr)
        return 2
    console = Console()
    for split in ("test", *study.evaluate_on):
        metrics = study.shown(summaries[split])
        print_summary(summaries[split], metrics, study.paper if split == "test" else {}, split, console)
    written = [output.name, *(f"{output.stem}{suffix}" for suffix in (".csv", ".md", ".tex"))]
    figures = {}
    if plots_available():
        if len(results) > 1:
            metrics = study.shown(summaries["test"])[:MOST_PANELS]
            figures[f"{output.stem}.{args.format}"] = plot_differences(summaries["test"], metrics, name)
        if study.pareto:
            figures[f"{output.stem}_pareto.{args.format}"] = plot_pareto(record["pareto"], summaries["test"], name)
    for picture, figure in figures.items():
        save_figure(figure, output.with_name(picture))
    if study.pareto:
        print(f"Pareto front: {', '.join(record['pareto']['front'])}; knee: {record['pareto']['knee'] or 'none'}.")
    print(f"Written to {output.parent}: {', '.join([*written, *figures])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
