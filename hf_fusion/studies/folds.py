"""Folds of a cross-validation in a study: their names in fields, and means over them."""

from collections.abc import Iterable
from statistics import mean
from typing import Any

# Times in `metrics.json`; those of older runs lack the evaluation.
SECONDS = ("train_seconds", "evaluation_seconds")


def mean_over_folds(results: dict[Any, dict], splits: Iterable[str]) -> dict:
    """
    Combines the results of a variant and seed on several folds.

    Args:
        results (`dict[Any, dict]`): the content of `metrics.json` by fold.
        splits (`Iterable[str]`): the splits and other data with metrics; those that a fold lacks are left out.

    Returns:
        `dict`: as for a single run, without its details. The metrics of each split are means over the folds (of those
        where a metric is defined), `train_seconds` and `evaluation_seconds` are sums, `last_log` the logs by fold;
        `folds` holds the metrics by fold and split.
    """
    runs = list(results.values())
    splits = [split for split in splits if all(split in run for run in runs)]
    return {
        **({"zero_shot": True} if runs[0].get("zero_shot") else {}),
        **{split: mean_metrics([run[split] for run in runs]) for split in splits},
        "parameters": runs[0]["parameters"],
        **{name: round(sum(run[name] for run in runs), 1) for name in SECONDS if all(name in run for run in runs)},
        "last_log": {str(fold): run["last_log"] for fold, run in results.items()},
        "folds": {str(fold): {split: run[split] for split in splits} for fold, run in results.items()},
    }


def mean_metrics(runs):
    """Returns the mean of each metric of `runs`; `None` if it is defined in none of them."""
    values = {name: [run[name] for run in runs if run.get(name) is not None] for name in runs[0]}
    return {name: mean(numbers) if numbers else None for name, numbers in values.items()}


def in_fold(value: Any, fold: Any) -> Any:
    """Returns a value of a study file with the name of the fold in the place of `{fold}`."""
    if fold is None:
        return value
    if isinstance(value, dict):
        return {name: in_fold(part, fold) for name, part in value.items()}
    if isinstance(value, list):
        return [in_fold(part, fold) for part in value]
    return value.replace("{fold}", str(fold)) if isinstance(value, str) else value
