import numpy as np
import pytest
from scipy import stats

from hf_fusion.evaluation.statistics import holm, knee, paired_difference, pareto_front, standard_deviation


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


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(40):
        low, high = paired_difference(rng.normal(0.5, 1, 20), np.zeros(20), "bootstrap")["interval"]
        hits += low <= 0.5 <= high
    assert 33 <= hits <= 40


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


def test_holm_keeps_false_findings_rare():
    rng = np.random.default_rng(0)
    found = sum(min(holm(rng.random(10).tolist())) < 0.05 for _ in range(1000))
    assert 25 <= found <= 75


def test_pareto_front():
    costs, quality = [3, 1, 2, 4, 2], [0.8, 0.5, 0.7, 0.75, 0.6]
    assert pareto_front(costs, quality) == [1, 2, 0]
    assert pareto_front([1, 1], [0.5, 0.5]) == [0]


def test_knee():
    assert knee([1, 2, 10], [0.0, 0.9, 1.0]) == 1
    assert knee([1, 2, 3], [0.0, 0.5, 1.0]) is None, "a straight line bends nowhere"
    assert knee([1, 2, 3], [0.0, 0.1, 1.0]) is None, "it pays more and more"
    assert knee([1, 2], [0, 1]) is None
