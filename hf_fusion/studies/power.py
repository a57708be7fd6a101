"""The power of a study: the smallest differences that it could have seen."""

import numpy as np

from hf_fusion.evaluation.statistics import describe_power


def note_power(summary: dict[str, dict], metrics: list[str]) -> str:
    """
    Describes the smallest differences that a study could have seen, see [`describe_power`]: for each metric the median
    over the variants. Empty if nothing is known, as in records from before it was computed.

    Args:
        summary (`dict`): the result of [`summarize`].
        metrics (`list[str]`): the metrics.
    """
    differences = [entry["difference"] for entry in summary.values() if "difference" in entry]
    smallest = {metric: _median_power([one[metric] for one in differences]) for metric in metrics}
    resampled = [one.get("hierarchical", {}) for by_metric in differences for one in by_metric.values()]
    over = next((one["over"] for one in resampled if "over" in one), "seeds and rows")
    return describe_power(smallest, over=over)


def _median_power(differences):
    sides = (differences, [difference.get("hierarchical", {}) for difference in differences])
    known = [[one["smallest_detectable"] for one in side if one.get("smallest_detectable") is not None]
             for side in sides]  # fmt: skip
    return tuple(float(np.median(values)) if values else None for values in known)
