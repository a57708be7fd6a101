"""Robustness to corrupted input: metrics over severity, and their summary."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from datasets import Dataset

from hf_fusion.data.corruption import (
    CORRUPTIONS,
    LOSSES,
    MAX_SEVERITY,
    SEVERITIES,
    TEXT_CORRUPTIONS,
    check_corruptions,
    corrupt,
    modality_of,
)
from hf_fusion.evaluation.metrics import lower_is_better
from hf_fusion.utils.errors import DataError

# The text is the weak point if its corruption costs more than this share of the accuracy (DashFusion, on its anchor).
LARGEST_FALL = 0.15

Curves = dict[str, dict[str, list[float]]]


def default_scenarios(columns: Iterable[str]) -> list[str]:
    """Returns all corruptions for data with these columns; loss of a modality only if another one remains."""
    modalities = [name for name in ("text", "audio", "vision") if name in columns]
    fitting = [name for name in CORRUPTIONS if modality_of(name) in modalities]
    return fitting if len(modalities) > 1 else [name for name in fitting if name not in LOSSES]


def check_scenarios(scenarios: Iterable[str], columns: list[str]) -> None:
    """Raises [`DataError`] if a corruption is unknown, or the data lacks the columns that it changes."""
    for scenario in scenarios:
        check_corruptions(dict.fromkeys(scenario.split("+"), MAX_SEVERITY), columns)


def robustness_curves(
    measure: Callable[[Dataset], dict[str, float]],
    rows: Dataset,
    scenarios: list[str],
    seeds: Iterable[int] = (0,),
    track: Callable[[list], Iterable] = iter,
) -> Curves:
    """
    Measures metrics over the severity of each corruption.

    Args:
        measure (`Callable[[Dataset], dict[str, float]]`): computes the metrics of a data set.
        rows (`Dataset`): clean, labelled rows.
        scenarios (`Iterable[str]`): names of corruptions; `"audio_loss+vision_loss"` applies both. A corruption of a
            modality that the data does not have changes nothing.
        seeds (`Iterable[int]`): the seeds of the corruptions; the metrics are averaged over them.
        track (`Callable`): wraps the steps for a progress bar.

    Returns:
        `dict[str, dict[str, list[float]]]`: the values at severity 0 to 5, by scenario and metric.
    """
    clean = measure(rows)
    results: dict[str, list[dict]] = {scenario: [clean] for scenario in scenarios}
    seeds = list(seeds)
    for scenario, severity in track([(name, level) for name in scenarios for level in SEVERITIES[1:]]):
        damage = {name: severity for name in scenario.split("+") if modality_of(name) in rows.column_names}
        runs = [measure(corrupt(rows, damage, seed)) for seed in seeds] if damage else [clean]
        results[scenario].append({metric: float(np.mean([run[metric] for run in runs])) for metric in clean})
    return {
        scenario: {metric: [values[metric] for values in levels] for metric in clean}
        for scenario, levels in results.items()
    }


def robustness(curve: list[float], baseline: list[float] | None = None) -> dict[str, float | None]:
    """
    Summarises a curve.

    Args:
        curve (`list[float]`): a metric at severity 0 to 5.
        baseline (`list[float]`, *optional*): the curve of another model.

    Returns:
        `dict`: `clean`, `worst` (severity 5), `area` (mean of the curve: the relative robustness of MultiBench, Liang
        et al. 2021), `share` (`area / clean`), `fall` (share of `clean` that is lost at severity 5, negative if the
        metric rises) and `effective` (mean distance above the baseline's curve after both are shifted to the same
        start; `None` without a baseline).
    """
    clean, worst = float(curve[0]), float(curve[-1])
    area = _area(curve)
    effective = None if baseline is None else (area - clean) - (_area(baseline) - float(baseline[0]))
    return {
        "clean": clean,
        "worst": worst,
        "area": area,
        "share": area / clean if clean else None,
        "fall": (clean - worst) / abs(clean) if clean else None,
        "effective": effective,
    }


def _area(curve):
    return (sum(curve) - (curve[0] + curve[-1]) / 2) / (len(curve) - 1)


def summarize_curves(curves: Curves, baseline: Curves | None = None) -> dict[str, dict[str, dict]]:
    """Applies [`robustness`] to every scenario and metric."""
    return {
        scenario: {
            metric: robustness(curve, baseline[scenario].get(metric) if baseline and scenario in baseline else None)
            for metric, curve in metrics.items()
        }
        for scenario, metrics in curves.items()
    }


def text_verdict(summary: dict[str, dict], metric: str, baseline: Curves | None = None) -> dict[str, Any] | None:
    """
    Applies the paper's check of the text anchor: the text is at fault if its corruption costs more than 15 % of the
    accuracy, and a model without text is more accurate then.

    Args:
        summary (`dict`): the result of [`summarize_curves`].
        metric (`str`): an accuracy.
        baseline (`Curves`, *optional*): the curves of a model that does not read text.

    Returns:
        `dict` or `None`: `fall` (the largest over the text scenarios), `scenario`, `limit`, `at_fault` and a sentence;
        `None` if no scenario corrupts the text alone. Without a baseline `at_fault` depends on `fall` alone.
    """
    falls = {
        scenario: metrics[metric]["fall"]
        for scenario, metrics in summary.items()
        if all(name in TEXT_CORRUPTIONS for name in scenario.split("+")) and metrics[metric]["fall"] is not None
    }
    if lower_is_better(metric) or not falls:
        return None
    worst = max(falls, key=falls.get)
    fall, at_fault = falls[worst], falls[worst] > LARGEST_FALL
    text = f"{worst} costs {fall:.1%} of {metric} (limit {LARGEST_FALL:.0%})"
    if baseline is not None:
        other = next(iter(baseline.values()))[metric][0]
        holds = other > summary[worst][metric]["worst"]
        at_fault = at_fault and holds
        text += f"; the model without text has {other:.4f}, this one then {summary[worst][metric]['worst']:.4f}"
    text += ": the text is the weak point." if at_fault else ": the text is not the weak point."
    return {"scenario": worst, "fall": fall, "limit": LARGEST_FALL, "at_fault": at_fault, "verdict": text}


def check_same_metrics(curves: Curves, baseline: Curves) -> None:
    """Raises [`DataError`] unless two models were measured by the same metrics."""
    first, second = (set(next(iter(side.values()))) for side in (curves, baseline))
    if first != second:
        raise DataError(f"The baseline has other metrics: {', '.join(sorted(first ^ second))}.")
