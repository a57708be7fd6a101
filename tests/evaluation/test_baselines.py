import pytest
from datasets import Dataset

from hf_fusion.evaluation.baselines import bag_of_words_baseline, majority_baseline


@pytest.fixture
def reviews():
    rows = [("good good", 4, 2, 0.9), ("bad", 0, 0, 0.1), ("fine good", 4, 2, 0.8)] * 10
    return Dataset.from_list(
        [dict(zip(("text", "labels", "coarse_labels", "intensity_labels"), row, strict=True)) for row in rows]
    )


def test_majority(reviews):
    result = majority_baseline(reviews, reviews)
    assert result["fine_accuracy"] == result["coarse_accuracy"] == pytest.approx(2 / 3)
    assert result["intensity_r2"] == pytest.approx(0, abs=1e-9)


def test_bag_of_words_learns_words(reviews):
    result = bag_of_words_baseline(reviews, reviews)
    assert result["fine_accuracy"] == result["coarse_accuracy"] == 1
    assert result["intensity_mae"] < 0.05
