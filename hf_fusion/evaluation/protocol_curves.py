"""Curves of a protocol for missing modalities: metrics by condition, their spread, and the protocol's summary."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_fusion.evaluation.resampled_metrics import resample_metrics
from hf_fusion.evaluation.statistics import REPLICATES, hierarchical_estimate, standard_deviation

SUMMARIES = {
    "area": "area under the curve over the rates (trapezoid, from the lowest rate to the highest)",
    "area_by_width": "that area, divided by the width of the rates",
    "mean": "mean over all conditions",
    "mean_incomplete": "mean over the conditions without the complete one",
}
# The codes of TFR-Net and LNLN summarise metrics that they have rounded to so many places.
_PUBLISHED_DECIMALS = 4

Metrics = dict[str, float]


def summary_weights(summary: str, rates: Sequence[float | None], complete: Sequence[bool]) -> np.ndarray:
    """
    Returns the weight of each condition in a summary, which is the weighted sum over the conditions.

    Args:
        summary (`str`): one of `SUMMARIES`.
        rates (`Sequence[float | None]`): the missing rate of each condition; an area needs all of them, in rising
            order.
        complete (`Sequence[bool]`): whether a condition leaves the rows complete.

    Raises:
        ValueError: if the summary is unknown or not defined for these conditions.

    Example:

    ```python
    >>> from hf_fusion.evaluation.protocol_curves import summary_weights
    >>> summary_weights("area", rates=[0.0, 0.5, 1.0], complete=[True, False, False]).tolist()
    [0.25, 0.5, 0.25]
    ```
    """
    if summary not in SUMMARIES:
        raise ValueError(f"`summary` must be one of {', '.join(SUMMARIES)}, got {summary!r}.")
    if summary.startswith("area"):
        if len(rates) < 2 or None in rates or (steps := np.diff(np.array(rates, dtype=float))).min() <= 0:
            raise ValueError(f"An area needs two rates or more, in rising order, got {list(rates)}.")
        weights = (np.r_[0.0, steps] + np.r_[steps, 0.0]) / 2
        return weights / steps.sum() if summary == "area_by_width" else weights
    counted = np.ones(len(rates)) if summary == "mean" else 1.0 - np.array(complete, dtype=float)
    if not counted.any():
        raise ValueError("There is no condition besides the complete one.")
    return counted / counted.sum()


def summaries_of(summary: str, mode: str) -> list[str]:
    """
    Returns the names of the summaries to compute: the published one first, and in sound mode the area also divided by
    its width, which compares across ranges of rates, and the mean also without complete rows.
    """
    further = {"area": ["area_by_width"], "mean": ["mean_incomplete"]}
    return [summary, *(further.get(summary, []) if mode == "sound" else [])]


def published_decimals(protocol: str, mode: str, label_range: Sequence[float]) -> int | None:
    """
    Returns the decimals to which the published code rounds metrics before it summarises them; `None` for no rounding
    (sound mode, other protocols, and LNLN on CH-SIMS).
    """
    is_sims = tuple(label_range) == (-1, 1)
    rounds = mode == "exact" and (protocol == "tfr" or (protocol == "lnln" and not is_sims))
    return _PUBLISHED_DECIMALS if rounds else None


def summarize_curves(
    conditions: Sequence[Any],
    measured: dict[str, dict[int, Metrics]],
    summaries: Sequence[str],
    decimals: int | None = None,
) -> dict[str, dict[str, dict]]:
    """
    Summarises the metrics of all conditions and mask seeds.

    Args:
        conditions (`Sequence[Condition]`): the conditions of the protocol, with `name`, `rate` and `is_complete`.
        measured (`dict[str, dict[int, dict[str, float]]]`): metrics by condition and mask seed, the same seeds for each
            condition.
        summaries (`Sequence[str]`): names from `SUMMARIES`.
        decimals (`int`, *optional*): the decimals to which metrics are rounded first, see [`published_decimals`].

    Returns:
        `dict`: `conditions`, with the `rate`, `complete` and the metrics of each one, and `summary`, with the metrics
        of each summary. Metrics are `mean` and `std` (ddof=1; `None` for one seed) over the mask seeds, and `seeds`,
        the values by mask seed. A metric that is not defined in a condition (NaN) is not defined in its summaries.
    """
    names = list(next(iter(next(iter(measured.values())).values())))
    seeds = list(next(iter(measured.values())))
    values = np.array(
        [[[measured[c.name][seed][metric] for metric in names] for seed in seeds] for c in conditions], dtype=float
    )  # (conditions, seeds, metrics)
    if decimals is not None:
        values = values.round(decimals)
    rates, complete = [c.rate for c in conditions], [c.is_complete for c in conditions]
    cells = {
        c.name: {"rate": c.rate, "complete": c.is_complete, **_spread(values[i], seeds, names)}
        for i, c in enumerate(conditions)
    }
    totals = {
        name: _spread(np.tensordot(summary_weights(name, rates, complete), values, axes=1), seeds, names)
        for name in summaries
    }
    return {"conditions": cells, "summary": totals}


def _spread(values, seeds, names):
    """Mean, standard deviation and single values of metrics `(seeds, metrics)`."""
    return {
        "mean": dict(zip(names, values.mean(0).tolist(), strict=True)),
        "std": {name: standard_deviation(column) for name, column in zip(names, values.T, strict=True)},
        "seeds": {str(s): dict(zip(names, row, strict=True)) for s, row in zip(seeds, values.tolist(), strict=True)},
    }


def estimate_intervals(
    conditions: Sequence[Any],
    outputs: Mapping[str, Sequence[Mapping[str, np.ndarray]]],
    labels: Mapping[str, np.ndarray],
    config: Any,
    summaries: Sequence[str],
    replicates: int = REPLICATES,
) -> dict[str, dict[str, dict]]:
    """
    Estimates 95 % intervals over mask seeds and rows: those of other masks and other rows for the same model. Rows are
    resampled once for all conditions, so that differences to the complete rows are paired.

    Args:
        conditions (`Sequence[Condition]`): see [`summarize_curves`].
        outputs (`dict`): by condition the outputs of each head under every mask seed; a single one for complete rows.
        labels (`dict[str, np.ndarray]`): the labels by column.
        config: the configuration of the model.
        summaries (`Sequence[str]`): names from `SUMMARIES`.
        replicates (`int`, *optional*, defaults to 2000): the number of resamples of the rows.

    Returns:
        `dict`: `conditions` and `summary`, each with the `interval` of each metric and, if there is a complete
        condition, the `difference` to it (`mean`, `interval`, `p`). The difference of an area is that to complete rows
        at all rates. Metrics that cannot be resampled fast are left out, see [`resample_metrics`].
    """
    masked = [answers for condition in conditions for answers in outputs[condition.name]]
    stacked = {name: np.stack([answers[name] for answers in masked]) for name in masked[0]}
    tables = resample_metrics(config, stacked, labels, replicates=replicates)
    sizes = [len(outputs[condition.name]) for condition in conditions]
    units, seeds = len(next(iter(labels.values()))), max(sizes)

    def by_condition(table):
        parts = np.split(table, np.cumsum(sizes)[:-1], axis=1)
        return np.stack([np.broadcast_to(part, (len(part), seeds)) for part in parts])  # (conditions, 1 + B, seeds)

    curves = {metric: by_condition(table) for metric, table in tables.items()}
    rates, complete = [c.rate for c in conditions], [c.is_complete for c in conditions]
    reference = complete.index(True) if True in complete else None
    weights = {name: summary_weights(name, rates, complete) for name in summaries}
    weights |= {condition.name: row for condition, row in zip(conditions, np.eye(len(conditions)), strict=True)}
    estimates = {name: _estimate(curves, row, reference, units) for name, row in weights.items()}
    return {
        "conditions": {condition.name: estimates[condition.name] for condition in conditions},
        "summary": {name: estimates[name] for name in summaries},
    }


def _estimate(curves, weights, reference, units):
    """Intervals of a weighted sum of conditions, and its difference to the same weight of complete rows."""
    cell: dict[str, dict] = {"interval": {}}
    for metric, curve in curves.items():
        table = np.tensordot(weights, curve, axes=1)  # (1 + replicates, seeds)
        cell["interval"][metric] = hierarchical_estimate(table, units)["interval"]
        if reference is not None and weights[reference] != weights.sum():
            difference = hierarchical_estimate(table - weights.sum() * curve[reference], units)
            cell.setdefault("difference", {})[metric] = {key: difference[key] for key in ("mean", "interval", "p")}
    return cell
