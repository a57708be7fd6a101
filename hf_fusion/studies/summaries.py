"""Summaries of the runs of a study: means, and paired differences with intervals and corrected p-values."""

from itertools import product

import numpy as np

from hf_fusion.evaluation.kept_predictions import Predictions
from hf_fusion.evaluation.statistics import (
    holm_by_family,
    paired_difference,
    smallest_detectable_difference,
    standard_deviation,
)
from hf_fusion.studies.intervals import Resampled, resample_folds, resample_predictions
from hf_fusion.studies.predictions import RunKey
from hf_fusion.studies.study import Study, StudyError
from hf_fusion.utils.errors import DataError

Results = dict[str, dict[int, dict]]
Families = dict[str, dict[str, list[str]]]


def summarize(
    results: Results,
    split: str = "test",
    interval: str = "t",
    families: Families | None = None,
    predictions: dict[RunKey, Predictions] | None = None,
    clusters: str | None = None,
) -> dict[str, dict]:
    """
    Computes mean and standard deviation of each variant, and its paired difference to the first one.

    Args:
        results (`Results`): the result of [`run_study`].
        split (`str`, *optional*, defaults to `"test"`): `"validation"`, `"test"` or the name of other data.
        interval (`str`, *optional*, defaults to `"t"`): see [`paired_difference`].
        families (`dict`, *optional*): the families of comparisons for Holm's correction, see [`Study`].
        predictions (`dict[RunKey, Predictions]`, *optional*): the predictions of all runs, see
            [`collect_study_predictions`], for intervals over seeds and test rows. With folds these are over seeds and
            folds, and the predictions may be empty. By default there are none of either.
        clusters (`str`, *optional*): see [`Study`].

    Returns:
        `dict[str, dict]`: for each variant `seeds` (metrics by seed, with folds their means), with folds `folds`
        (metrics by seed and fold), and by metric `mean`, `std` (ddof=1; `None` for a single seed), `interval` (95 %,
        over seeds) and, except for the first variant, `difference`: the [`paired_difference`] of variant minus
        reference with `p_holm`, the p-value corrected within its family (`None` outside of all families), and
        `smallest_detectable` (see [`smallest_detectable_difference`]). With predictions or folds also `hierarchical`:
        the interval of each metric over seeds and rows, and within `difference` the [`hierarchical_estimate`] with its
        own `p_holm` and `smallest_detectable`, or the `reason` why there is none.
    """
    reference, *others = results
    summary = {name: _summarize_variant(runs, split, interval) for name, runs in results.items()}
    for name in others:
        summary[name]["difference"] = _compare_seeds(summary[name], summary[reference], interval)
    if predictions is not None and any("folds" in entry for entry in summary.values()):
        _add_hierarchical(summary, {name: resample_folds(entry["folds"]) for name, entry in summary.items()})
    elif of_split := {key: run for key, run in (predictions or {}).items() if key.data == split}:
        _add_hierarchical(summary, _resample_variants(summary, of_split, clusters))
    _correct_p_values(summary, families)
    return summary


def _compare_seeds(entry, base, interval):
    """Returns the differences of a variant to another one, over seeds."""
    differences = {}
    for metric in entry["mean"]:
        values, others = _column(entry["seeds"], metric), _column(base["seeds"], metric)
        difference = paired_difference(values, others, interval)
        deviation = standard_deviation(np.subtract(values, others))
        if difference["p"] is None:
            difference["smallest_detectable"] = None
        else:
            error = deviation / np.sqrt(len(values))
            difference["smallest_detectable"] = smallest_detectable_difference(error, len(values) - 1)
        differences[metric] = difference
    return differences


def _resample_variants(summary, predictions, clusters):
    """Returns for each variant its resampled metrics, or the reason why there are none."""
    resampled: dict[str, Resampled | str] = {}
    reference = None
    for name, entry in summary.items():
        by_seed = {str(key.seed): run for key, run in predictions.items() if key.variant == name}
        if missing := [seed for seed in entry["seeds"] if seed not in by_seed]:
            resampled[name] = f"no predictions of seed {', '.join(missing)}"
            continue
        try:
            resampled[name] = resample_predictions([by_seed[seed] for seed in entry["seeds"]], reference, clusters)
        except DataError as error:
            resampled[name] = str(error)
            continue
        reference = reference or resampled[name].rows
    return resampled


def _add_hierarchical(summary, resampled):
    """Adds the intervals over seeds and rows."""
    reference = resampled[next(iter(summary))]
    for name, entry in summary.items():
        own = resampled[name]
        if isinstance(own, Resampled):
            entry["hierarchical"] = {metric: own.estimate(metric)["interval"] for metric in own.tables}
        for metric, difference in entry.get("difference", {}).items():
            difference["hierarchical"] = _compare_rows(own, reference, metric)


def _compare_rows(own, reference, metric):
    reasons = [side for side in (own, reference) if isinstance(side, str)]
    if not reasons and not all(metric in side.tables for side in (own, reference)):
        reasons = ["not computed for this metric"]
    return {"interval": None, "p": None, "reason": reasons[0]} if reasons else own.compare(reference, metric)


def _correct_p_values(summary, families):
    """Adds `p_holm` to all differences: over seeds, and over seeds and rows."""
    _, *others = summary
    metrics = list(next(iter(summary.values()))["mean"])
    members = {
        family: list(product(content["variants"], content["metrics"]))
        for family, content in resolve_families(families, others, metrics).items()
    }
    differences = {(name, metric): summary[name]["difference"][metric] for name in others for metric in metrics}
    for select in (lambda difference: difference, lambda difference: difference.get("hierarchical", {})):
        parts = {key: select(difference) for key, difference in differences.items()}
        corrected = holm_by_family({key: part.get("p") for key, part in parts.items()}, members)
        for key, part in parts.items():
            if "p" in part:
                part["p_holm"] = corrected[key]


def resolve_families(families: Families | None, variants: list[str], metrics: list[str]) -> dict[str, dict]:
    """
    Returns the families of comparisons with all their `metrics` and `variants`.

    Args:
        families (`dict`, *optional*): the families of a study; by default one for each metric over all variants.
        variants (`list[str]`): the variants that are compared with the first one.
        metrics (`list[str]`): the known metrics; others are left out.
    """
    families = families or {metric: {"metrics": [metric]} for metric in metrics}
    return {
        name: {
            "metrics": [metric for metric in family.get("metrics", metrics) if metric in metrics],
            "variants": [variant for variant in map(str, family.get("variants", variants)) if variant in variants],
        }
        for name, family in families.items()
    }


def check_metrics(study: Study, summary: dict[str, dict]) -> None:
    """Raises [`StudyError`] if the study shows an unknown metric; the runs are kept."""
    known = next(iter(summary.values()))["mean"]
    wanted = {"metrics": study.metrics}
    wanted |= {f"families.{name}.metrics": family.get("metrics", []) for name, family in study.families.items()}
    for place, metric in ((place, metric) for place, metrics in wanted.items() for metric in metrics):
        if metric in known:
            continue
        raise StudyError(f"{place} has {metric!r}; there are {', '.join(known)}. Correct the study and start it again.")


def _summarize_variant(runs, split, interval):
    if any(split not in run for run in runs.values()):
        raise StudyError(f"A study compares runs on their {split} split, which the data lacks: choose other data.")
    by_seed = {str(seed): run[split] for seed, run in runs.items()}
    columns = {metric: _column(by_seed, metric) for metric in next(iter(by_seed.values()))}
    folds = {
        str(seed): {fold: metrics[split] for fold, metrics in run["folds"].items()}
        for seed, run in runs.items()
        if "folds" in run
    }
    return {
        "seeds": by_seed,
        **({"folds": folds} if folds else {}),
        **({"zero_shot": True} if next(iter(runs.values())).get("zero_shot") else {}),
        "mean": {metric: float(np.mean(column)) for metric, column in columns.items()},
        "std": {metric: standard_deviation(column) for metric, column in columns.items()},
        "interval": {
            metric: paired_difference(column, [0.0] * len(column), interval)["interval"]
            for metric, column in columns.items()
        },
        "last_log": {str(seed): run["last_log"] for seed, run in runs.items()},
        "train_seconds": {str(seed): run["train_seconds"] for seed, run in runs.items()},
        "parameters": next(iter(runs.values()))["parameters"],
    }


def _column(by_seed, metric):
    values = [row.get(metric) for row in by_seed.values()]  # only the splits of the training have a loss
    return [np.nan if value is None else value for value in values]
