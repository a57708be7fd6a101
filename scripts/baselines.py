#!/usr/bin/env python
"""Measures what a model has to beat.

    python scripts/baselines.py --dataset mosi_utterance.npz --dataset_options '{"text_features": true}'
    python scripts/baselines.py --dataset reviews.csv --columns '{"text": "review"}'

For clips: the mean label, and ridge regression on each modality and on all. For reviews: the most frequent class, and
logistic regression on TF-IDF (ridge regression for the intensity). Takes the data fields of a recipe (--help) and
writes a JSON file beside printing a table.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hf_fusion.architectures import architecture_of
from hf_fusion.data.clips import is_clip_source
from hf_fusion.utils.errors import DataError
from hf_fusion.data.reviews import SYNTHETIC as SYNTHETIC_REVIEWS
from hf_fusion.utils.records import describe_environment, fingerprint, write_json
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.fields import option
from hf_fusion.training.outcome import show_labels
from hf_fusion.training.recipe import parse_options
from hf_fusion.data.arguments import DataArguments


@dataclass
class BaselineArguments:
    output: str | None = option("Result file; default: model_cards/results/baselines_NAME of the data set.json.")
    model_type: str | None = option(
        "Whose data it is: dyfulm (reviews) or dashfusion (clips); by default reviews where `dataset` is a file of "
        "rows or `columns` are given, else clips."
    )


def model_type_of(args, data_args):
    """Whether reviews or clips are meant."""
    name = data_args.dataset
    reviews = data_args.columns or (name and (name == SYNTHETIC_REVIEWS or not is_clip_source(name)))
    return args.model_type or ("dyfulm" if reviews else "dashfusion")


def check_splits(data_args, splits, needed):
    missing = [split for split in needed if split not in splits]
    if missing:
        raise DataError(f"{data_args.dataset} has no {missing[0]} split; it has {', '.join(splits)}.")


def measure(architecture, data_args):
    """The metrics of each baseline on the test split, and the data."""
    splits = architecture.load(data_args)
    check_splits(data_args, splits, ("train", "test"))
    return architecture.measure_baselines(splits, data_args), splits


def holds_other_data(path, data_fingerprint):
    """Two data sets can have one file name."""
    return Path(path).is_file() and json.loads(Path(path).read_text("utf-8"))["data_fingerprint"] != data_fingerprint


def main() -> int:
    show_labels()
    try:
        args, data_args = parse_options((BaselineArguments, DataArguments), description=__doc__)
        architecture = architecture_of(model_type_of(args, data_args))
        data_args.complete(architecture.data_kind)
        results, splits = measure(architecture, data_args)
    except (RecipeError, DataError, OSError) as error:
        print(f"baselines.py: {error}", file=sys.stderr)
        return 2
    name = Path(data_args.dataset).name
    facts = {"dataset": name, "dataset_options": data_args.dataset_options, "data_fingerprint": fingerprint(splits)}
    facts["rows"] = {split: len(rows) for split, rows in splits.items()}
    output = args.output or f"model_cards/results/baselines_{name.partition('.')[0]}.json"
    if not args.output and holds_other_data(output, facts["data_fingerprint"]):
        print(f"baselines.py: {output} holds results of other data; name a file with --output.", file=sys.stderr)
        return 2
    write_json(output, {"test": results, **describe_environment(**facts)})

    table = Table("metric", *results, title=f"{name}: {len(splits['test']):,} test rows")
    for metric in next(iter(results.values())):
        table.add_row(metric, *(f"{metrics[metric]:.4f}" for metrics in results.values()))
    Console().print(table)
    print(f"Written: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
