import numpy as np
import pytest
from scipy import stats

from hf_fusion.evaluation.statistics import (
    describe_power,
    hierarchical_difference,
    hierarchical_estimate,
    holm,
    holm_by_family,
    knee,
    number_clusters,
    paired_difference,
    pareto_front,
    resample_rows,
    share_interval,
    smallest_detectable_difference,
    standard_deviation,
)


@pytest.fixture
def sides():
    rng = np.random.default_rng(0)
    return rng.normal(1, 1, 8), rng.normal(0, 1, 8)


def test_t_is_scipys(sides):
    expected = stats.ttest_rel(*sides)
    interval = expected.confidence_interval(0.95)
    result = paired_difference(*sides)
    assert result["mean"] == pytest.approx((sides[0] - sides[1]).mean())
    assert result["interval"] == pytest.approx([interval.low, interval.high])
    assert result["p"] == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(
    ("interval", "seeds", "low", "high"),
    [("t", 3, 0.93, 0.97), ("t", 5, 0.93, 0.97), ("bootstrap", 5, 0.78, 0.9), ("bootstrap", 20, 0.88, 0.96)],
)
def test_coverage_over_seeds(interval, seeds, low, high):
    """Student's t covers the truth as often as it says; the bootstrap of few seeds less often, as its text says."""
    rng = np.random.default_rng(1)
    studies = 1000 if interval == "t" else 200
    intervals = [paired_difference(rng.normal(0.5, 1, seeds), np.zeros(seeds), interval)["interval"]
                 for _ in range(studies)]  # fmt: skip
    assert low <= np.mean([bounds[0] <= 0.5 <= bounds[1] for bounds in intervals]) <= high


def test_permutation_over_all_signs(sides):
    """With eight pairs there are 256 ways to sign them: p is a count of those that are as far out."""
    result = paired_difference(*sides, "bootstrap")
    differences = sides[0] - sides[1]
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1).T
    means = (signs * differences).mean(1)
    as_far = (means >= differences.mean() - 1e-9).mean(), (means <= differences.mean() + 1e-9).mean()
    one_sided = min(as_far)
    assert result["p"] == pytest.approx(2 * one_sided)


def test_five_seeds_that_all_agree_reach_one_sixteenth():
    assert paired_difference([2, 3, 4, 5, 6.5], [1, 1, 1, 1, 1], "bootstrap")["p"] == pytest.approx(2 / 32)


def test_one_seed_says_nothing():
    assert paired_difference([2.0], [1.5]) == {"mean": 0.5, "interval": None, "p": None}
    assert standard_deviation([2.0]) is None and standard_deviation([1, 2, 3]) == pytest.approx(1), "of a sample"


def test_values_that_are_not_finite_are_not_tested():
    found = paired_difference([0.1, float("nan"), 0.3], [0.0, 0.0, 0.0])
    assert np.isnan(found["mean"]) and found["interval"] is None and found["p"] is None


@pytest.mark.parametrize("interval", ["t", "bootstrap"])
def test_the_same_difference_each_time(interval):
    assert paired_difference([0.3, 0.4], [0.1, 0.2], interval) == {
        "mean": pytest.approx(0.2), "interval": pytest.approx([0.2, 0.2]), "p": None
    }  # fmt: skip


def test_there_is_no_such_interval():
    with pytest.raises(ValueError, match="must be one of t, bootstrap, got 'bayes'"):
        paired_difference([1, 2], [1, 1], "bayes")


def test_holm():
    # .01 * 4, .02 * 3, .03 * 2, and .04 * 1, which is raised to the largest before it
    assert holm([0.02, 0.01, 0.03, 0.04]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.02, None, 0.5]) == [0.04, None, 0.5]
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize("correlation", [0.0, 0.7])
@pytest.mark.parametrize("real", [0, 4])
def test_holm_keeps_false_findings_rare(correlation, real):
    """The probability of any false finding is at most 5 %, also beside real effects and with tests that depend."""
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=(2000, 1)), rng.normal(size=(2000, 10))
    values = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    values[:, :real] += 4
    p_values = 2 * stats.norm.sf(np.abs(values))
    any_false = np.mean([min(holm(row.tolist())[real:]) < 0.05 for row in p_values])
    uncorrected = np.mean((p_values[:, real:] < 0.05).any(axis=1))
    assert any_false <= 0.06 and uncorrected > 0.12
    if not correlation and not real:
        assert any_false >= 0.035, "it is not stricter than it has to be"


def test_families():
    p_values = {"a": 0.01, "b": 0.02, "c": 0.03, "d": None}
    assert holm_by_family(p_values, {"one": ["a", "b"], "two": ["c", "d"]}) == {
        "a": 0.02, "b": 0.02, "c": 0.03, "d": None
    }  # fmt: skip
    assert holm_by_family(p_values, {"one": ["b"]}) == {"a": None, "b": 0.02, "c": None, "d": None}
    with pytest.raises(ValueError, match="'a' is in two families, 'one' and 'two'"):
        holm_by_family(p_values, {"one": ["a", "b"], "two": ["a"]})
    with pytest.raises(ValueError, match="'one' has the unknown comparison 'z'"):
        holm_by_family(p_values, {"one": ["z"]})


def draw_study(rng, seeds, rows, of_seeds, of_rows, of_both):
    """Differences (seeds, rows) with mean 0, as of two systems with the same rows under all seeds."""
    return (
        of_seeds * rng.normal(size=(seeds, 1))
        + of_rows * rng.normal(size=rows)
        + of_both * rng.normal(size=(seeds, rows))
    )


# Standard deviations due to seeds, rows and both; the last column is the coverage of the seed-only interval.
DESIGNS = {
    "seeds": (0.3, 0.0, 1.0, 0.93, 0.97),
    "rows": (0.0, 1.0, 1.0, 0.0, 0.75),
    "seeds and rows": (0.15, 1.0, 1.0, 0.0, 0.94),
    "their interaction alone": (0.0, 0.0, 1.0, 0.93, 0.97),
}


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("design", DESIGNS)
def test_coverage_over_seeds_and_rows(design, seeds):
    """Whatever varies, the interval covers the truth in 95 % of studies (up to 99 % if all noise is interaction)."""
    *deviations, low, high = DESIGNS[design]
    rng = np.random.default_rng(2)
    hierarchical, over_seeds = [], []
    for _ in range(400):
        study = draw_study(rng, seeds, 150, *deviations)
        bounds = hierarchical_difference(study, np.zeros_like(study), replicates=150)["interval"]
        hierarchical.append(bounds[0] <= 0 <= bounds[1])
        bounds = paired_difference(study.mean(axis=1), np.zeros(seeds))["interval"]
        over_seeds.append(bounds[0] <= 0 <= bounds[1])
    assert 0.92 <= np.mean(hierarchical) <= (1.0 if "interaction" in design else 0.985)
    assert low <= np.mean(over_seeds) <= (high if seeds == 5 else max(high, 0.95))


def test_false_findings_over_seeds_and_rows():
    rng = np.random.default_rng(3)
    studies = [draw_study(rng, 5, 100, 0.1, 1, 1) for _ in range(400)]
    p_values = [hierarchical_difference(study, np.zeros_like(study), replicates=150)["p"] for study in studies]
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.08


def test_coverage_with_clusters():
    """Clips of a speaker resemble each other: intervals over clips are too short, those over speakers are not."""
    rng = np.random.default_rng(4)
    speakers = np.repeat(np.arange(20), 10)
    covered = {"clips": [], "speakers": []}
    for _ in range(300):
        study = draw_study(rng, 5, 200, 0, 1, 1) + rng.normal(size=20)[speakers]
        for unit, clusters in (("clips", None), ("speakers", speakers)):
            low, high = hierarchical_difference(study, np.zeros_like(study), clusters, replicates=150)["interval"]
            covered[unit].append(low <= 0 <= high)
    assert 0.92 <= np.mean(covered["speakers"]) <= 0.98 and np.mean(covered["clips"]) < 0.85


def test_the_variances_are_those_of_seeds_and_rows_that_are_drawn():
    """Resampling seeds too gives the sum of the parts, with the interaction a third time."""
    rng = np.random.default_rng(5)
    study = draw_study(rng, 4, 60, 0.2, 1, 2)
    estimate = hierarchical_difference(study, np.zeros_like(study), replicates=4000)
    drawn = [study[rng.integers(4, size=(4, 1)), rng.integers(60, size=60)].mean() for _ in range(4000)]
    seeds = study.mean(axis=1).var(ddof=1) / 4
    residuals = study - study.mean(axis=0) - study.mean(axis=1, keepdims=True) + study.mean()
    both = (residuals**2).sum() / (3 * 59) / 240
    rows = study.mean(axis=0).var(ddof=1) / 60
    assert estimate["standard_error"] ** 2 == pytest.approx(seeds + rows - both, rel=0.05)
    assert np.var(drawn) == pytest.approx(seeds * 3 / 4 + rows * 59 / 60 + both * 3 / 4, rel=0.1)
    expected = (seeds + rows - both) ** 2 / (seeds**2 / 3 + rows**2 / 59 + both**2 / 177)
    assert estimate["degrees_of_freedom"] == pytest.approx(expected, rel=0.1)


def test_resamples_of_any_metric():
    rng = np.random.default_rng(6)
    values = rng.random((3, 40))
    table = resample_rows(lambda counts: counts @ values.T / counts.sum(1, keepdims=True), 40, replicates=70_000)
    assert table.shape == (70_001, 3) and table[0] == pytest.approx(values.mean(axis=1))
    assert table[1:].mean(axis=0) == pytest.approx(values.mean(axis=1), abs=1e-3)
    same = resample_rows(lambda counts: counts @ values.T / counts.sum(1, keepdims=True), 40, replicates=70_000)
    assert (table == same).all(), "so that two systems can be subtracted"
    both = hierarchical_difference(values, values[::-1], replicates=500)
    table = table[:501]
    assert hierarchical_estimate(table - table[:, ::-1], 40) == both


def test_one_seed_speaks_of_its_rows_alone():
    values = np.random.default_rng(7).random((1, 500))
    estimate = hierarchical_difference(values, np.zeros((1, 500)))
    expected = paired_difference(values[0], np.zeros(500))
    assert estimate["over"] == "rows" and estimate["interval"] == pytest.approx(expected["interval"], abs=2e-3)
    assert hierarchical_difference([[1.0], [2.0]], [[0.0], [0.0]])["interval"] is None, "nor does one row"


def test_two_seeds_and_two_rows_have_a_degree_of_freedom():
    estimate = hierarchical_difference([[0.1, 0.5], [0.7, 0.2]], np.zeros((2, 2)))
    assert estimate["degrees_of_freedom"] == 1
    error = estimate["standard_error"]
    assert smallest_detectable_difference(error, 1) == pytest.approx(16.334 * error, rel=1e-3)


def test_nothing_varies():
    estimate = hierarchical_difference(np.full((3, 50), 0.3), np.full((3, 50), 0.1))
    assert estimate["interval"] == pytest.approx([0.2, 0.2]) and estimate["p"] is None
    assert estimate["standard_error"] == 0


def test_metrics_that_are_undefined_in_resamples():
    table = np.random.default_rng(8).random((101, 3))
    table[5:9, 1] = np.nan
    kept = np.delete(table, np.arange(5, 9), axis=0)
    assert hierarchical_estimate(table, 50) == hierarchical_estimate(kept, 50)
    table[5:90, 1] = np.nan
    assert hierarchical_estimate(table, 50)["interval"] is None, "in too many"
    table = np.random.default_rng(8).random((101, 3))
    table[0, 0] = np.nan
    assert hierarchical_estimate(table, 50)["p"] is None, "of the rows themselves"


def test_sides_that_do_not_fit():
    with pytest.raises(ValueError, match=r"must be \(seeds, rows\), got \(2, 3\) and \(2, 1\)"):
        hierarchical_difference(np.zeros((2, 3)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="each of 3 rows, got 2"):
        hierarchical_difference(np.zeros((2, 3)), np.zeros((2, 3)), ["a", "b"])
    assert number_clusters(["b", "a", "b"], 3).tolist() == [0, 1, 0]


@pytest.mark.parametrize("seeds", [2, 3, 5, 30])
def test_the_smallest_detectable_difference_is_found_as_often_as_it_says(seeds):
    smallest = smallest_detectable_difference(2 / np.sqrt(seeds), seeds - 1)
    studies = np.random.default_rng(9).normal(smallest, 2, (20_000, seeds))
    assert np.mean(stats.ttest_1samp(studies, 0.0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.01)


def test_power():
    assert smallest_detectable_difference(1, 1e6) == pytest.approx(
        stats.norm.ppf(0.975) + stats.norm.ppf(0.8), abs=1e-3
    )
    assert smallest_detectable_difference(1, 4, power=0.9) > smallest_detectable_difference(1, 4)
    assert smallest_detectable_difference(None, 4) is None and smallest_detectable_difference(0.1, None) is None
    assert smallest_detectable_difference(0.1, 0.01) is None and smallest_detectable_difference(0.1, 0.5) > 10
    assert describe_power({"mae": (0.0123, 0.02), "corr": (None, 0.05), "loss": (None, None)}) == (
        "Smallest difference that this design could have seen (80% power, two-sided test at 5%): mae 0.012 over seeds, "
        "0.020 over seeds and rows; corr 0.050 over seeds and rows."
    )
    assert describe_power({"loss": (None, None)}) == ""


@pytest.mark.parametrize("trials", [20, 100])
def test_coverage_of_shares(trials):
    """Over all true shares Wilson's interval covers 95 % on average (counted, not drawn)."""
    intervals = np.array([share_interval(successes, trials) for successes in range(trials + 1)])
    shares = np.linspace(0.02, 0.98, 97)
    covered = (intervals[:, 0] <= shares[:, None]) & (shares[:, None] <= intervals[:, 1])  # (shares, successes)
    coverage = (stats.binom.pmf(np.arange(trials + 1), trials, shares[:, None]) * covered).sum(axis=1)
    assert 0.945 <= coverage.mean() <= 0.965 and coverage.min() > 0.85


def test_pareto_front():
    costs, quality = [3, 1, 2, 4, 2], [0.8, 0.5, 0.7, 0.75, 0.6]
    assert pareto_front(costs, quality) == [1, 2, 0]
    assert pareto_front([1, 1], [0.5, 0.5]) == [0]


def test_knee():
    assert knee([1, 2, 10], [0.0, 0.9, 1.0]) == 1
    assert knee([1, 2, 3], [0.0, 0.5, 1.0]) is None, "a straight line bends nowhere"
    assert knee([1, 2, 3], [0.0, 0.1, 1.0]) is None, "it pays more and more"
    assert knee([1, 2], [0, 1]) is None
