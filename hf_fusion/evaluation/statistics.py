"""Statistics of differences between runs: intervals and p-values over paired seeds, Pareto fronts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

INTERVALS = ("t", "bootstrap")
_RESAMPLES = 9999


def standard_deviation(values: Sequence[float]) -> float | None:
    """Returns the standard deviation of a sample (ddof=1); `None` for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def paired_difference(values: Sequence[float], base: Sequence[float], interval: str = "t") -> dict[str, Any]:
    """
    Computes the mean of `values - base` with its 95 % interval and p-value.

    Args:
        values, base (`Sequence[float]`): one number per seed, in the same order.
        interval (`str`, *optional*, defaults to `"t"`): `"t"` (Student's t: interval and paired test) or `"bootstrap"`
            (bias-corrected and accelerated bootstrap, and the sign-flip permutation test, whose p cannot be below
            2 / 2^seeds).

    Returns:
        `dict`: `mean`, `interval` (95 %) and `p` (two-sided). `interval` and `p` are `None` for a single seed, and if a
        value is not finite (such as the correlation of constant predictions). If all differences are equal, the
        interval is that value and `p` is `None`, since there is no variance to test against.

    Raises:
        ValueError: if `interval` is unknown.

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
    Corrects p-values for multiple comparisons (Holm 1979), which bounds the probability of any false rejection.

    Args:
        p_values (`Sequence[float | None]`): the p-values of all comparisons; `None` (not tested) is not counted.
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
    Returns the indices of the points that no other point dominates, by increasing cost.

    Args:
        costs (`Sequence[float]`): the cost of each point; lower is better.
        quality (`Sequence[float]`): the quality of each point; higher is better. Of equal points the first is returned.

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
    Finds the knee of a front: the point farthest above the line from its cheapest to its most expensive point.

    Args:
        costs, quality (`Sequence[float]`): the points of a front by increasing cost; both axes are scaled to [0, 1].

    Returns:
        `int` or `None`: the index of the point; `None` for fewer than three points, or if none lies above the line.
    """
    if len(costs) < 3:
        return None
    x, y = (np.asarray(axis, dtype=float) for axis in (costs, quality))
    x, y = (x - x[0]) / (x[-1] - x[0]), (y - y[0]) / (y[-1] - y[0])
    above = y - x
    return int(above.argmax()) if above.max() > 1e-9 else None


def share_interval(successes: float, trials: float) -> tuple[float, float]:
    """Returns the 95 % interval of a share in [0, 1] (Wilson 1927)."""
    interval = stats.binomtest(round(successes), round(trials)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
