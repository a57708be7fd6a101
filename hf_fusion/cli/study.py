"""Run a study: compare variants of a recipe over several seeds.

    hf-fusion study ablation_dashfusion_synthetic --slots 2
    hf-fusion study dyfulm_hotel_reviews --set dataset=hotel_reviews.csv.gz
    hf-fusion study mine.yaml

A study is a YAML file, or a name that `hf-fusion recipes` lists. The first variant is the reference. A killed study
can be continued by the same command. Finished runs are never repeated; seeds and variants can be added to the file
later.

Results are runs/study_NAME/NAME.json (everything), NAME.csv (a row for each number), NAME.md and NAME.tex (tables) and
NAME.png (differences with intervals); with `pareto` in the study also NAME_pareto.png, with `protocols` (missing
modalities) NAME_PROTOCOL.png. predictions/NAME.parquet holds ids, labels and outputs of the test rows of all runs,
without texts. --output puts them elsewhere: those of this project are in model_cards/results/NAME.json.
"""

from pathlib import Path

from hf_fusion.cli.arguments import make_parser

FORMATS = ("png", "pdf", "svg")
IF_INTERRUPTED = "run the same command to continue"


def main(argv: list[str]) -> None:
    """Runs `hf-fusion study`."""
    args = parse_args(argv)
    from rich.console import Console

    from hf_fusion.studies.predictions import collect_study_predictions
    from hf_fusion.studies.protocols import part_names, summary_names
    from hf_fusion.studies.results import draw_study, write_study
    from hf_fusion.studies.run_study import run_study
    from hf_fusion.studies.study import Study
    from hf_fusion.studies.summaries import check_metrics, summarize

    name = Path(args.study).stem
    folder = args.runs or Path("runs") / f"study_{name}"
    output = args.output or folder / f"{name}.json"
    study = Study.read(args.study)
    for assignment in args.set:
        study.set(assignment)
    results = run_study(study, folder, slots=args.slots)
    predictions, _ = collect_study_predictions(study, folder)
    splits = ("validation", "test", *study.evaluate_on, *part_names(study.protocol_settings))
    summaries = {
        split: summarize(results, split, study.interval, study.families, predictions, study.clusters)
        for split in splits
    }
    check_metrics(study, summaries["test"])
    record = write_study(output, study, args.study, folder, results, summaries)
    console = Console()
    for split in ("test", *study.evaluate_on, *summary_names(study.protocol_settings)):
        metrics = study.shown(summaries[split])
        print_summary(summaries[split], metrics, study.paper if split == "test" else {}, split, console)
    if study.pareto:
        print(f"Pareto front: {', '.join(record['pareto']['front'])}; knee: {record['pareto']['knee'] or 'none'}.")
    pictures = draw_study(output, study, record, summaries["test"], args.format)
    written = [output.name, *(f"{output.stem}{suffix}" for suffix in (".csv", ".md", ".tex")), *pictures]
    written += [record["predictions"]["file"]] if "predictions" in record else []
    print(f"Written to {output.parent}: {', '.join(written)}")


def parse_args(argv):
    """Parses the command line."""
    parser = make_parser("study", __doc__)
    parser.add_argument("study", help="a study file (YAML), or the name of a shipped one")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE",
        help="change a recipe field for all variants; variants.NAME.FIELD=VALUE for one, evaluate_on.NAME.FIELD=VALUE "
        "for other data",
    )  # fmt: skip
    parser.add_argument("--runs", type=Path, help="folder for the run folders (default: runs/study_NAME)")
    parser.add_argument("--slots", type=int, default=1, help="runs at a time, which share the cores (default: 1)")
    parser.add_argument("--output", type=Path, help="result file (default: NAME.json in the folder of the runs)")
    parser.add_argument("--format", choices=FORMATS, default="png", help="of the pictures (default: png)")
    return parser.parse_args(argv)


def print_summary(summary, metrics, paper, title, console):
    """Prints the summary of a split as a table."""
    from rich.table import Table

    from hf_fusion.studies.power import note_power
    from hf_fusion.studies.study_tables import cell_lines, count_runs, label_variant

    table = Table("variant", *metrics, title=f"{title}: mean ± standard deviation over {count_runs(summary)}")
    for name, entry in summary.items():
        cells = ("\n".join(cell_lines(entry, metric, paper.get(name, {}))) for metric in metrics)
        table.add_row(label_variant(name, entry), *cells)
    console.print(table)
    console.print(
        "Below each: minus the first, 95 % interval over seeds, p after Holm's correction; the same over seeds and rows"
        + ("; the paper's." if paper else ".")
    )
    if note := note_power(summary, metrics):
        console.print(note)
