"""The intervals of a study over seeds and test rows, from the predictions of its runs, or over seeds and folds."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_fusion.evaluation.kept_predictions import Predictions
from hf_fusion.evaluation.resampled_metrics import resample_metrics
from hf_fusion.evaluation.statistics import hierarchical_estimate, resample_rows, smallest_detectable_difference
from hf_fusion.studies.study import StudyError
from hf_fusion.utils.errors import DataError


@dataclass(frozen=True)
class Resampled:
    """
    The metrics of a variant on its test rows and on resamples of them.

    Args:
        tables (`dict[str, np.ndarray]`): by metric the table `(1 + replicates, seeds)` of [`resample_rows`].
        units (`int`): the number of rows, clusters or folds that were resampled.
        unit (`str`): "rows", "clusters" or "folds".
        rows (`Predictions`, *optional*): the predictions of the first seed, whose rows those of other variants must be.
    """

    tables: dict[str, np.ndarray]
    units: int
    unit: str
    rows: Predictions | None = None

    def estimate(self, metric: str) -> dict[str, Any]:
        """Returns the [`hierarchical_estimate`] of a metric."""
        return self._estimate(self.tables[metric])

    def compare(self, base: "Resampled", metric: str) -> dict[str, Any]:
        """Returns the [`hierarchical_estimate`] of the difference to another variant, with `smallest_detectable`."""
        estimate = self._estimate(self.tables[metric] - base.tables[metric])
        smallest = smallest_detectable_difference(estimate["standard_error"], estimate["degrees_of_freedom"])
        return estimate | {"smallest_detectable": smallest}

    def _estimate(self, table):
        estimate = hierarchical_estimate(table, self.units)
        return estimate | {"over": estimate["over"].replace("rows", self.unit)}


def resample_folds(folds: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> Resampled:
    """
    Resamples the folds of a cross-validation, as clusters of rows whose metrics are averaged.

    Args:
        folds (`Mapping`): the metrics by seed and fold.
    """
    runs = [list(by_fold.values()) for by_fold in folds.values()]
    units = len(runs[0])

    def resample(metric):
        values = np.array([[fold.get(metric) for fold in by_fold] for by_fold in runs], dtype=float)  # (seeds, folds)
        return resample_rows(lambda counts: counts @ values.T / units, units)

    return Resampled({metric: resample(metric) for metric in runs[0][0]}, units, "folds")


def resample_predictions(
    predictions: Sequence[Predictions], like: Predictions | None = None, clusters: str | None = None
) -> Resampled:
    """
    Resamples the test rows of a variant.

    Args:
        predictions (`Sequence[Predictions]`): the predictions of one split under each seed.
        like (`Predictions`, *optional*): the rows of the reference, in whose order the rows are resampled.
        clusters (`str`, *optional*): a regular expression that finds the cluster of a row in its id (its first group,
            or the whole match), such as the video or the speaker. By default single rows are resampled.

    Raises:
        DataError: if the rows or labels are not those of `like` under every seed.
        StudyError: if an id does not match `clusters`.
    """
    first, *others = [align_rows(one, like or predictions[0]) for one in predictions]
    outputs = {name: np.stack([one.outputs[name] for one in (first, *others)]) for name in first.outputs}
    names = None if clusters is None else [find_cluster(clusters, row_id) for row_id in first.ids]
    tables = resample_metrics(first.config, outputs, first.labels, names)
    if names is None:
        return Resampled(tables, len(first), "rows", first)
    return Resampled(tables, len(set(names)), "clusters", first)


def find_cluster(pattern: str, row_id: str) -> str:
    """Returns the cluster of a row by its id, see [`resample_predictions`]; raises [`StudyError`] if there is none."""
    match = re.search(pattern, row_id)
    if match is None:
        raise StudyError(
            f"clusters: {pattern!r} does not match the id {row_id!r}. Correct the study and start it again."
        )
    return match[1] if match.re.groups else match[0]


def align_rows(predictions: Predictions, like: Predictions) -> Predictions:
    """
    Returns predictions in the order of the rows of others.

    Raises:
        DataError: if the rows, found by their ids, or their labels are not the same.
    """
    if not np.array_equal(predictions.ids, like.ids):
        places = {row_id: place for place, row_id in enumerate(predictions.ids)}
        if len(places) < len(predictions) or len(like) != len(predictions) or not places.keys() >= set(like.ids):
            raise DataError("other test rows than the first variant")
        predictions = predictions.select(np.array([places[row_id] for row_id in like.ids], dtype=int))
    for name, labels in like.labels.items():
        own = predictions.labels.get(name)
        if own is None or not np.array_equal(own, labels, equal_nan=labels.dtype.kind == "f"):
            raise DataError("other test labels than the first variant")
    return predictions
