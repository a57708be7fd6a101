"""Run a study: one recipe, several variants, several seeds; compare them.

    hf-fusion study ablation_dashfusion_synthetic --slots 2
    hf-fusion study dyfulm_hotel_reviews --set dataset=hotel_reviews.csv.gz
    hf-fusion study mine.yaml

A study is a YAML file, or a name that `hf-fusion recipes` lists. The first variant is the reference. A killed study
goes on where it was: run the same command again. Finished runs are never repeated; seeds and variants can be added to
the file later.

Results are runs/NAME/NAME.json (everything), NAME.csv (one row for each number), NAME.md (the tables) and NAME.png
(differences with intervals); with `pareto` in the study also NAME_pareto.png. --output puts them elsewhere: the results
of this project are in model_cards/results/NAME.json.
"""

from pathlib import Path

from hf_fusion.cli.arguments import make_parser

IF_INTERRUPTED = "the same command goes on"


def main(argv: list[str]) -> None:
    args = parse_args(argv)
    from rich.console import Console

    from hf_fusion.evaluation.plots import plot_differences, plot_pareto
    from hf_fusion.studies.results import check_metrics, summarize, write_study
    from hf_fusion.studies.study import Study, run_study

    name = Path(args.study).stem
    folder = args.runs or Path("runs") / name
    output = args.output or folder / f"{name}.json"
    study = Study.read(args.study)
    for assignment in args.set:
        study.set(assignment)
    results = run_study(study, folder, slots=args.slots)
    summaries = {
        split: summarize(results, split, study.interval) for split in ("validation", "test", *study.evaluate_on)
    }
    check_metrics(study, summaries["test"])
    record = write_study(output, study, args.study, folder, results, summaries)
    console = Console()
    for split in ("test", *study.evaluate_on):
        metrics = study.shown(summaries[split])
        print_summary(summaries[split], metrics, study.paper if split == "test" else {}, split, console)
    if len(results) > 1:
        plot_differences(output.with_suffix(".png"), summaries["test"], study.shown(summaries["test"])[:4], name)
    if study.pareto:
        found = record["pareto"]
        plot_pareto(output.with_name(f"{output.stem}_pareto.png"), found, summaries["test"], name)
        print(f"Pareto front: {', '.join(found['front'])}; knee: {found['knee'] or 'none'}.")
    others = [".csv", ".md", *([".png"] if len(results) > 1 else [])]
    print(f"Written: {output}, and beside it {', '.join(others)}")


def parse_args(argv):
    parser = make_parser("study", __doc__)
    parser.add_argument("study", help="a study file (YAML), or the name of one of the package")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE",
        help="change a recipe field for all variants; variants.NAME.FIELD=VALUE for one, evaluate_on.NAME.FIELD=VALUE "
        "for other data",
    )  # fmt: skip
    parser.add_argument("--runs", type=Path, help="where the run folders go (default: runs/NAME of the study)")
    parser.add_argument("--slots", type=int, default=1, help="runs at a time, which share the cores (default: 1)")
    parser.add_argument("--output", type=Path, help="result file (default: NAME.json in the folder of the runs)")
    return parser.parse_args(argv)


def print_summary(summary, metrics, paper, title, console):
    from rich.table import Table

    from hf_fusion.studies.results import cell_lines

    seeds = len(next(iter(summary.values()))["seeds"])
    table = Table("variant", *metrics, title=f"{title}: mean ± standard deviation over {seeds} seed(s)")
    for name, entry in summary.items():
        table.add_row(name, *("\n".join(cell_lines(entry, metric, paper.get(name, {}))) for metric in metrics))
    console.print(table)
    console.print(
        "Below each: minus the first, 95 % interval, p after Holm's correction" + (", the paper's." if paper else ".")
    )
