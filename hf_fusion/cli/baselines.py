"""Measure the baselines of a data set.

    hf-fusion baselines --dataset mosi_utterance.npz --dataset_options '{"text_features": true}'
    hf-fusion baselines --dataset reviews.csv --columns '{"text": "review"}'

For clips: the mean label, and ridge regression on each modality and on all. For reviews: the most frequent class, and
logistic regression on TF-IDF (ridge regression for the intensity). Takes the data fields of a recipe. Prints a table
and writes a JSON file, runs/baselines_NAME/baselines_NAME.json by default; --output sets another file.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class BaselineArguments:
    """The arguments of `hf-fusion baselines`."""

    output: str | None = field(
        default=None, metadata={"help": "Result file; default: runs/baselines_NAME/baselines_NAME.json."}
    )
    model_type: str | None = field(
        default=None,
        metadata={
            "help": "The architecture for the data: dyfulm (reviews) or dashfusion (clips); by default reviews if "
            "`dataset` is a file of rows or `columns` are set, otherwise clips."
        },
    )


def main(argv: list[str]) -> None:
    """Runs `hf-fusion baselines`."""
    from hf_fusion.architectures.measure_baselines import measure_baselines
    from hf_fusion.cli.output import print_metrics, show_labels
    from hf_fusion.data.arguments import DataArguments
    from hf_fusion.training.recipe import parse_options
    from hf_fusion.utils.records import describe_environment, fingerprint, write_json

    show_labels()
    args, data_args = parse_options((BaselineArguments, DataArguments), argv, __doc__, "hf-fusion baselines")
    results, splits = measure_baselines(data_args, args.model_type)
    name = Path(data_args.dataset).name
    facts = {"dataset": name, "dataset_options": data_args.dataset_options, "data_fingerprint": fingerprint(splits)}
    facts["rows"] = {split: len(rows) for split, rows in splits.items()}
    output = Path(args.output) if args.output else _default_output(name, facts["data_fingerprint"])
    write_json(output, {"test": results, **describe_environment(**facts)})
    print_metrics(f"{name}: {len(splits['test']):,} test rows", results)
    print(f"Written: {output}")


def _default_output(name, data_fingerprint):
    """Returns the result file; raises `RecipeError` if it holds the results of other data."""
    from hf_fusion.utils.errors import RecipeError

    stem = f"baselines_{name.partition('.')[0]}"
    output = Path("runs", stem, f"{stem}.json")
    if output.is_file() and json.loads(output.read_text("utf-8"))["data_fingerprint"] != data_fingerprint:
        raise RecipeError(f"{output} holds results of other data; set another file by --output.")
    return output
