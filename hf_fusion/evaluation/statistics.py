"""
Statistics of differences between runs: intervals and p-values over paired seeds, and over seeds and test rows; power;
Holm's correction; Pareto fronts.

Sources: Student's t, and the bias-corrected and accelerated bootstrap, as in Efron and Tibshirani, "An Introduction to
the Bootstrap" (1993); the bootstrap of data with several levels as in Davison and Hinkley, "Bootstrap Methods and their
Application" (1997, section 3.8), of crossed levels as in Owen, "The pigeonhole bootstrap" (2007); degrees of freedom of
a sum of variances by Satterthwaite (1946); the correction for several tests by Holm (1979); intervals of shares by
Wilson (1927).
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import optimize, stats

INTERVALS = ("t", "bootstrap")
REPLICATES = 2000
_RESAMPLES = 9999
_COUNTS_AT_ONCE = 2**21  # elements of the table of counts, 16 MiB in float64
POWER, LEVEL = 0.8, 0.05
_LEAST_DEGREES = 0.5  # of freedom, for a smallest detectable difference


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
            2 / 2^seeds). The bootstrap needs many values: of normal differences its interval contains the truth in
            about 85 % of studies with five seeds and in 92 % with 20, Student's t in 95 %.

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


def holm_by_family(
    p_values: Mapping[Hashable, float | None], families: Mapping[str, Iterable[Hashable]]
) -> dict[Hashable, float | None]:
    """
    Corrects p-values for multiple comparisons within each declared family.

    Args:
        p_values (`Mapping`): the p-value of each comparison; `None` (not tested) is not counted.
        families (`Mapping[str, Iterable]`): the comparisons of each family, keys of `p_values`.

    Returns:
        `dict`: the corrected p-value of each comparison; `None` for those in no family.

    Raises:
        ValueError: if a comparison is in two families, or is not in `p_values`.

    Example:

    ```python
    >>> from hf_fusion.evaluation.statistics import holm_by_family
    >>> holm_by_family({"a": 0.01, "b": 0.02, "c": 0.03}, {"main": ["a", "b"]})
    {'a': 0.02, 'b': 0.02, 'c': None}
    ```
    """
    corrected: dict[Hashable, float | None] = dict.fromkeys(p_values)
    family_of: dict[Hashable, str] = {}
    for family, members in families.items():
        members = list(members)
        for member in members:
            if member not in p_values:
                raise ValueError(f"The family {family!r} has the unknown comparison {member!r}.")
            if member in family_of:
                raise ValueError(f"{member!r} is in two families, {family_of[member]!r} and {family!r}.")
            family_of[member] = family
        corrected.update(zip(members, holm([p_values[member] for member in members]), strict=True))
    return corrected


def hierarchical_difference(
    values: Sequence[Sequence[float]],
    base: Sequence[Sequence[float]],
    clusters: Sequence[Hashable] | None = None,
    replicates: int = REPLICATES,
) -> dict[str, Any]:
    """
    Computes the mean of `values - base` with its 95 % interval and p-value over seeds and test rows: the differences
    to expect with new seeds *and* new rows. For metrics that are means over rows, such as accuracy, MAE and MSE; for
    others see [`resample_rows`] and [`hierarchical_estimate`].

    Args:
        values, base (`Sequence[Sequence[float]]` of shape `(seeds, rows)`): the contribution of each row to the metric
            (1 or 0 for a right or wrong answer, the absolute error ...), with the same seeds and rows on both sides.
        clusters (`Sequence`, *optional*): the cluster of each row, such as its speaker or video. Rows of a cluster
            resemble each other, so that clusters are resampled as a whole.
        replicates (`int`, *optional*, defaults to 2000): the number of resamples of the rows.

    Returns:
        `dict`: see [`hierarchical_estimate`].

    Raises:
        ValueError: if the shapes differ.

    Example:

    ```python
    >>> from hf_fusion.evaluation.statistics import hierarchical_difference
    >>> right, base = [[1, 1, 1, 0, 1, 1]] * 3, [[1, 0, 1, 0, 0, 0], [1, 0, 0, 0, 1, 0], [0, 1, 1, 0, 0, 0]]
    >>> round(hierarchical_difference(right, base)["mean"], 3)
    0.5
    ```
    """
    differences = np.asarray(values, dtype=float) - np.asarray(base, dtype=float)
    if np.shape(values) != np.shape(base) or differences.ndim != 2:
        raise ValueError(f"Both sides must be (seeds, rows), got {np.shape(values)} and {np.shape(base)}.")
    unit_of_row = number_clusters(clusters, differences.shape[1])
    sums = sum_by_unit(differences.T, unit_of_row)  # (units, seeds)
    sizes = np.bincount(unit_of_row).astype(float)

    def measure(counts):
        return (counts @ sums) / (counts @ sizes)[:, None]

    return hierarchical_estimate(resample_rows(measure, len(sizes), replicates), len(sizes))


def number_clusters(clusters: Sequence[Hashable] | None, rows: int) -> np.ndarray:
    """
    Returns the number of the resampled unit of each row, from 0: of its cluster, or of the row itself. Clusters are
    numbered in the order of their first rows, so that resamples do not depend on their names.

    Raises:
        ValueError: if there are not as many `clusters` as `rows`.
    """
    if clusters is None:
        return np.arange(rows)
    if len(clusters) != rows:
        raise ValueError(f"`clusters` must name the cluster of each of {rows} rows, got {len(clusters)}.")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])


def sum_by_unit(features: np.ndarray, unit_of_row: np.ndarray) -> np.ndarray:
    """Returns the sums `(units, ...)` of the features `(rows, ...)` of each resampled unit."""
    sums = np.zeros((unit_of_row.max() + 1, *features.shape[1:]))
    np.add.at(sums, unit_of_row, features)
    return sums


def resample_rows(measure: Callable[[np.ndarray], np.ndarray], units: int, replicates: int = REPLICATES) -> np.ndarray:
    """
    Measures resamples of the test rows. The same `units` always give the same resamples, so that results of two systems
    (or metrics, or conditions) on the same rows can be subtracted and averaged before [`hierarchical_estimate`].

    Args:
        measure (`Callable`): takes the counts `(k, units)` of each row (or cluster of rows) in `k` resamples; returns
            the metric of each resample under each seed, `(k, seeds)`, or several metrics, `(k, seeds, metrics)`.
        units (`int`): the number of rows or clusters.
        replicates (`int`, *optional*, defaults to 2000): the number of resamples.

    Returns:
        `np.ndarray` of shape `(1 + replicates, seeds, ...)`: first the metric of the rows as they are, then those of
        the resamples.
    """
    rng = np.random.default_rng(0)
    tables = [measure(np.ones((1, units)))]
    step = max(_COUNTS_AT_ONCE // max(units, 1), 1)
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        drawn = rng.integers(units, size=(size, units)) + np.arange(size)[:, None] * units
        tables.append(measure(np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units).astype(float)))
    return np.concatenate(tables)


def hierarchical_estimate(table: np.ndarray, units: int) -> dict[str, Any]:
    """
    Computes mean, 95 % interval and p-value of a metric, or of a difference of two systems, over seeds and test rows.

    All seeds are tested on the same rows: seeds and rows are crossed. Hence each replicate resamples the rows once for
    all seeds; rows resampled for each seed would count the luck of the test set as if it were drawn anew every time.
    The variance is that of seeds plus that of rows minus that of their interaction, which both contain. The one of rows
    and the one of the interaction come from the replicates; that of seeds is known in closed form, so that seeds need
    not be drawn. (The plain percentile interval of rows and seeds drawn together contains the truth in 76 to 100 % of
    studies with three seeds, in 83 to 100 % with five: few seeds have too small a spread, and the interaction counts
    three times.) The interval is Student's t of the bootstrap's standard error, with degrees of freedom after
    Satterthwaite: about those of the seeds if these differ most, of the rows if those do.

    Args:
        table (`np.ndarray` of shape `(1 + replicates, seeds)`): the result of [`resample_rows`].
        units (`int`): the number of rows or clusters that were resampled.

    Returns:
        `dict`: `mean`, `interval` (95 %), `p` (two-sided, against 0), `standard_error`, `degrees_of_freedom` and
        `over`, `"seeds and rows"` or, for a single seed, `"rows"`: the interval then holds for these trained models
        alone. All but `mean` and `over` are `None` if the metric is undefined for a seed or in half of the resamples,
        or if there are fewer than two units. Without any variance the interval is the mean, and `p` and
        `degrees_of_freedom` are `None`.
    """
    observed, resampled = table[0], table[1:]
    seeds = len(observed)
    estimate = {"mean": float(observed.mean()), "interval": None, "p": None, "standard_error": None,
                "degrees_of_freedom": None, "over": "seeds and rows" if seeds > 1 else "rows"}  # fmt: skip
    defined = np.isfinite(resampled).all(axis=1)
    if not np.isfinite(observed).all() or units < 2 or defined.mean() <= 0.5:
        return estimate
    of_seeds, of_rows, of_both = _variances(observed, resampled[defined], units)
    variance = max(of_seeds + of_rows - of_both, of_seeds, of_rows)
    error = math.sqrt(variance)
    if error <= 1e-12 * np.abs(observed).max(initial=1e-300):
        return estimate | {"interval": [estimate["mean"]] * 2, "standard_error": 0.0}
    spread = of_rows**2 / (units - 1)
    if seeds > 1:
        spread += of_seeds**2 / (seeds - 1) + of_both**2 / ((seeds - 1) * (units - 1))
    least = min(seeds - 1, units - 1) if seeds > 1 else units - 1  # a sum knows no less than its least known part
    return estimate | _student_interval(estimate["mean"], error, max(variance**2 / spread, least))


def _variances(observed, resampled, units):
    """Returns the variances of the mean over seeds that are due to seeds, rows and their interaction."""
    seeds = len(observed)
    deviations = (resampled - observed) * math.sqrt(units / (units - 1))  # (replicates, seeds)
    rows = float(deviations.mean(axis=1).var(ddof=1))
    if seeds == 1:
        return 0.0, rows, 0.0
    return float(observed.var(ddof=1) / seeds), rows, float(deviations.var(axis=1, ddof=1).mean() / seeds)


def _student_interval(mean, error, freedom):
    half = float(stats.t.ppf(0.975, freedom)) * error
    return {
        "interval": [mean - half, mean + half],
        "p": float(2 * stats.t.sf(abs(mean) / error, freedom)),
        "standard_error": error,
        "degrees_of_freedom": float(freedom),
    }


def smallest_detectable_difference(
    standard_error: float | None, degrees_of_freedom: float | None, power: float = POWER, level: float = LEVEL
) -> float | None:
    """
    Returns the smallest true difference that a two-sided t-test would have found with a given probability.

    Args:
        standard_error (`float`, *optional*): of the mean difference. Over `n` paired seeds it is the standard deviation
            of the differences divided by the root of `n`.
        degrees_of_freedom (`float`, *optional*): of the test; `n - 1` over `n` paired seeds.
        power (`float`, *optional*, defaults to 0.8): the probability.
        level (`float`, *optional*, defaults to 0.05): the level of the test.

    Returns:
        `float` or `None`: the difference, from the noncentral t distribution; `None` if the standard error or the
        degrees of freedom are unknown, or these are fewer than 0.5, where the difference grows without bound.

    Example:

    ```python
    >>> from hf_fusion.evaluation.statistics import smallest_detectable_difference
    >>> round(smallest_detectable_difference(standard_error=0.01, degrees_of_freedom=4), 4)
    0.0376
    ```
    """
    if standard_error is None or degrees_of_freedom is None or degrees_of_freedom < _LEAST_DEGREES:
        return None
    return _detectable_shift(degrees_of_freedom, power, level) * standard_error


@lru_cache(1024)  # tables ask for the same degrees of freedom thousands of times
def _detectable_shift(degrees_of_freedom, power, level):
    """The smallest detectable difference in units of its standard error."""
    bound = stats.t.ppf(1 - level / 2, degrees_of_freedom)

    def missing(shift):
        return sum(stats.nct.sf(bound, degrees_of_freedom, side) for side in (shift, -shift)) - power

    half = (1 + power) / 2  # above `largest`, the estimate and its error suffice with this probability each
    largest = bound * math.sqrt(stats.chi2.ppf(half, degrees_of_freedom) / degrees_of_freedom) + stats.norm.ppf(half)
    return float(optimize.brentq(missing, 0, largest))


def describe_power(
    smallest: Mapping[str, tuple[float | None, float | None]], digits: int = 3, over: str = "seeds and rows"
) -> str:
    """
    Describes the smallest detectable differences of a design in one sentence, for tables and model cards.

    Args:
        smallest (`Mapping[str, tuple]`): by metric the results of [`smallest_detectable_difference`] over seeds, and
            over seeds and rows; `None` for unknown ones.
        digits (`int`, *optional*, defaults to 3): the number of decimals.
        over (`str`, *optional*, defaults to `"seeds and rows"`): what the second results are over, such as
            "seeds and folds".

    Returns:
        `str`: the sentence; empty if nothing is known.

    Example:

    ```python
    >>> from hf_fusion.evaluation.statistics import describe_power
    >>> describe_power({"mae": (0.0123, 0.02), "corr": (0.01, None)})
    'Smallest difference that this design could have seen (80% power, two-sided test at 5%): mae 0.012 over seeds, 0.020 over seeds and rows; corr 0.010 over seeds.'
    ```
    """  # noqa: E501
    known = []
    for metric, (over_seeds, over_rows) in smallest.items():
        parts = [] if over_seeds is None else [f"{over_seeds:.{digits}f} over seeds"]
        parts += [] if over_rows is None else [f"{over_rows:.{digits}f} over {over}"]
        if parts:
            known.append(f"{metric} {', '.join(parts)}")
    if not known:
        return ""
    condition = f"({POWER:.0%} power, two-sided test at {LEVEL:.0%})"
    return f"Smallest difference that this design could have seen {condition}: {'; '.join(known)}."


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
