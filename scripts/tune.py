#!/usr/bin/env python
"""Searches hyper-parameters: trains with proposals of Optuna, stops hopeless ones early, writes the best recipe.

    python scripts/tune.py scripts/searches/dashfusion_synthetic.yaml --trials 10
    python scripts/train.py --config runs/tune_dashfusion_synthetic/best.yaml

A search file names a recipe, a metric of the validation split and, for fields of the recipe, values or ranges. A killed
search goes on where it was: run the same command again. More --trials add to those that are there. Needs the extra
`tune`.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hf_fusion.data.files import parse_yaml
from hf_fusion.utils.errors import DataError
from hf_fusion.training.interruption import TrainingInterrupted
from hf_fusion.utils.errors import RecipeError


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("search", help="a search file (YAML): recipe, space, metric, trials ...")
    parser.add_argument("--trials", type=int, help="how many in all (default: as the file says)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of the recipe"
    )
    parser.add_argument("--runs", type=Path, help="where the run folders go (default: runs/tune_NAME of the search)")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    try:
        from hf_fusion.studies.tuning import BEST_RECIPE, Search, tune
    except ImportError:
        print("tune.py: needs optuna: pip install 'hf-fusion[tune]'", file=sys.stderr)
        return 2
    folder = args.runs or Path("runs") / f"tune_{Path(args.search).stem}"
    try:
        search = Search.read(args.search)
        search.trials = search.trials if args.trials is None else args.trials
        for assignment in args.set:
            name, equals, value = assignment.partition("=")
            if not equals:
                raise RecipeError(f"--set needs FIELD=VALUE, got {assignment!r}.")
            search.overrides[name] = parse_yaml(value, "--set")
        search.check(args.search)
        study = tune(search, folder)
    except TrainingInterrupted:
        print("tune.py: SIGTERM ended the search; the same command goes on.", file=sys.stderr)
        return 128 + signal.SIGTERM
    except (RecipeError, DataError, OSError) as error:
        print(f"tune.py: {error}", file=sys.stderr)
        return 2
    title = f"{search.metric} {study.best_value:.4f} on validation, trial {study.best_trial.number}"
    table = Table("field", "best", title=title)
    for name, value in study.best_trial.user_attrs["fields"].items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(table)
    print(f"Written: {folder / BEST_RECIPE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
