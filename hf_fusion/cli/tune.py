"""Search hyper-parameters with Optuna; write the best recipe.

    hf-fusion tune dashfusion_synthetic --trials 10
    hf-fusion train --config runs/tune_dashfusion_synthetic/best.yaml

A search is a YAML file, or a name that `hf-fusion recipes` lists. It has a recipe, a metric of the validation split,
and values or ranges for recipe fields. Unpromising trials are stopped early. A killed search can be continued by the
same command. A larger --trials adds trials to the finished ones. Needs the extra `tune`.
"""

from pathlib import Path

from hf_fusion.cli.arguments import make_parser

IF_INTERRUPTED = "run the same command to continue"


def main(argv: list[str]) -> None:
    """Runs `hf-fusion tune`."""
    args = parse_args(argv)
    from hf_fusion.cli.output import print_next
    from hf_fusion.data.files import parse_yaml
    from hf_fusion.studies.tuning import BEST_RECIPE, Search, tune
    from hf_fusion.utils.errors import RecipeError
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    folder = args.runs or Path("runs") / f"tune_{Path(args.search).stem}"
    search = Search.read(args.search)
    search.trials = search.trials if args.trials is None else args.trials
    for assignment in args.set:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise RecipeError(f"--set needs FIELD=VALUE, got {assignment!r}.")
        search.overrides[name] = parse_yaml(value, "--set")
    search.check(args.search)
    _print_best(search.metric, tune(search, folder))
    print(f"Written: {folder / BEST_RECIPE}")
    print_next(
        [("Train with it", f"hf-fusion train --config {folder / BEST_RECIPE} --output_dir runs/{folder.name}_best")]
    )


def parse_args(argv):
    """Parses the command line."""
    parser = make_parser("tune", __doc__)
    parser.add_argument("search", help="a search file (YAML), or the name of a shipped one")
    parser.add_argument("--trials", type=int, help="total number of trials (default: that of the file)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of the recipe"
    )
    parser.add_argument("--runs", type=Path, help="folder for the run folders (default: runs/tune_NAME of the search)")
    return parser.parse_args(argv)


def _print_best(metric, study):
    from rich.console import Console
    from rich.table import Table

    title = f"{metric} {study.best_value:.4f} on validation, trial {study.best_trial.number}"
    table = Table("field", "best", title=title)
    for name, value in study.best_trial.user_attrs["fields"].items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(table)
