"""What differences between runs are worth: intervals and p-values over paired seeds, Pareto fronts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

INTERVALS = ("t", "bootstrap")
_RESAMPLES = 9999


def standard_deviation(values: Sequence[float]) -> float | None:
    """Of a sample (ddof=1); `None` for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def paired_difference(values: Sequence[float], base: Sequence[float], interval: str = "t") -> dict[str, Any]:
    """
    Mean of `values - base` and what it is worth.

    Args:
        values, base: one number for each seed, in the same order.
        interval: "t" (Student's t: interval and paired test) or "bootstrap" (bias-corrected and accelerated bootstrap,
            and the permutation test that changes signs, whose p cannot be below 2 / 2^seeds).

    Returns:
        `mean`, `interval` (95 %) and `p` (two-sided); `interval` and `p` are `None` for a single seed, and if a value
        is not finite (a correlation of constant predictions, say). If all differences are equal the interval is that
        value, and `p` is `None`: nothing varies that it could be told from.

    Raises:
        ValueError: if there is no such interval.

    Example:

    ```python
    >>> from hf_fusion.evaluation.statistics import paired_difference
    >>> result = paired_difference([0.62, 0.66, 0.64], [0.60, 0.63, 0.63])
    >>> round(result["mean"], 3), [round(bound, 3) for bound in result["interval"]]
    (0.02, [-0.005, 0.045])
    ```
    """
    if interval not in INTERVALS:
        raise ValueError(f"`interval` must be one of {', '.join(INTERVALS)}, got {interval!r}.")
    differences = np.asarray(values, dtype=float) - np.asarray(base, dtype=float)
    mean = float(differences.mean())
    if len(differences) < 2 or not np.isfinite(differences).all():
        return {"mean": mean, "interval": None, "p": None}
    if np.ptp(differences) <= 1e-12 * np.abs(differences).max(initial=1e-300):
        return {"mean": mean, "interval": [mean, mean], "p": None}
    if interval == "t":
        result = stats.ttest_1samp(differences, 0.0)
        low, high = result.confidence_interval(0.95)
        return {"mean": mean, "interval": [float(low), float(high)], "p": float(result.pvalue)}
    rng = np.random.default_rng(0)
    low, high = stats.bootstrap((differences,), np.mean, n_resamples=_RESAMPLES, rng=rng).confidence_interval
    test = stats.permutation_test(
        (differences,), lambda sample, axis: sample.mean(axis), permutation_type="samples", vectorized=True,
        n_resamples=_RESAMPLES, rng=rng,
    )  # fmt: skip
    return {"mean": mean, "interval": [float(low), float(high)], "p": float(test.pvalue)}


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """
    p-values corrected for their number (Holm 1979): each compared at a level keeps the chance of any false one at it.

    Args:
        p_values: of all comparisons; `None` = not tested, which does not count.
    """
    tested = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        corrected[i] = largest
    return corrected


def pareto_front(costs: Sequence[float], quality: Sequence[float]) -> list[int]:
    """
    Which points no other one beats, by rising cost.

    Args:
        costs: less is better.
        quality: more is better; of points with the same cost and quality the first counts.

    Example:

    ```python
    >>> from hf_fusion.evaluation.statistics import pareto_front
    >>> pareto_front(costs=[1, 2, 3], quality=[0.5, 0.4, 0.9])
    [0, 2]
    ```
    """
    best, front = -np.inf, []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -quality[i])):
        if quality[i] > best:
            best = quality[i]
            front.append(i)
    return front


def knee(costs: Sequence[float], quality: Sequence[float]) -> int | None:
    """
    Where a front stops to pay: its point farthest above the line from its cheapest to its dearest point.

    Args:
        costs, quality: of the points of a front, by rising cost; both axes are scaled to [0, 1].

    Returns:
        The point's place; `None` if there are fewer than three points, or none lies above the line.
    """
    if len(costs) < 3:
        return None
    x, y = (np.asarray(axis, dtype=float) for axis in (costs, quality))
    x, y = (x - x[0]) / (x[-1] - x[0]), (y - y[0]) / (y[-1] - y[0])
    above = y - x
    return int(above.argmax()) if above.max() > 1e-9 else None


def share_interval(successes: float, trials: float) -> tuple[float, float]:
    """The 95 % interval of a share in [0, 1] (Wilson 1927)."""
    interval = stats.binomtest(round(successes), round(trials)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
