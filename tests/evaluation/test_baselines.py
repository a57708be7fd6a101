import numpy as np
import pytest
from datasets import Array2D, ClassLabel, Dataset, DatasetDict, Features, List, Value

from hf_fusion.data.clips import ClipSource, load_clips
from hf_fusion.evaluation import baselines as baselines_module
from hf_fusion.evaluation.baselines import (
    bag_of_words_baseline,
    class_baselines,
    fit_review_baselines,
    label_set_baselines,
    majority_baseline,
    mean_baseline,
    ridge_baseline,
    tfidf_baseline,
)

PROBABLE = ("expected_calibration_error", "brier_score", "negative_log_likelihood")


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


def linear_clips(informative):
    """Clips whose label is the mean of one audio column, or a word."""
    rng = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", 200), ("validation", 50), ("test", 50)):
        labels = rng.uniform(-3, 3, count)
        audio = [rng.normal(0, 0.1, (rng.integers(1, 6), 2)) for _ in labels]
        for frames, label in zip(audio, labels, strict=True):
            frames[:, 1] += 50 + 7 * label * (informative == "audio")
        words = ["good" if label > 0 else "bad" for label in labels]
        features = Features(text=Value("string"), audio=Array2D((None, 2), "float32"), label=Value("float32"))
        texts = [f"the {word} bar" if informative == "text" else "the bar" for word in words]
        splits[split] = Dataset.from_dict({"text": texts, "audio": audio, "label": labels}, features=features)
    return DatasetDict(splits)


def test_ridge_finds_what_is_linear():
    clips = linear_clips("audio")
    assert ridge_baseline(clips, ["audio"], (-3, 3))["mae"] < 0.05
    assert ridge_baseline(clips, ["text"], (-3, 3))["mae"] > 1
    clips = linear_clips("text")
    assert ridge_baseline(clips, ["text"], (-3, 3))["acc2_non0"] == 1
    assert ridge_baseline(clips, ["text", "audio"], (-3, 3))["mae"] < 0.9


def test_classes_of_clips():
    clips = linear_clips("audio")
    for split, rows in clips.items():
        classes = [int(label > 1) for label in rows["label"]]
        feature = ClassLabel(names=["low", "high"])
        clips[split] = rows.remove_columns("label").add_column("label", classes, feature=feature)
    results = class_baselines(clips, ["text", "audio"])
    largest = clips["test"]["label"][:].count(0) / 50
    assert list(results) == ["largest class", "logistic: text", "logistic: audio", "logistic: text + audio"]
    assert results["largest class"]["accuracy"] == pytest.approx(largest) and results["largest class"]["uar"] == 0.5
    assert results["logistic: text"]["accuracy"] == pytest.approx(largest)
    assert results["logistic: audio"]["accuracy"] > 0.95 and results["logistic: audio"]["high_recall"] > 0.85


def test_label_sets_of_clips():
    clips = linear_clips("audio")
    for split, rows in clips.items():
        sets = [[i for i, limit in enumerate((1, 0)) if label > limit] for label in rows["label"]]
        feature = List(ClassLabel(names=["high", "above"]))
        clips[split] = rows.remove_columns("label").add_column("label", sets, feature=feature)
    results = label_set_baselines(clips, ["text", "audio"])
    assert list(results) == ["shares of the labels", "logistic: text", "logistic: audio", "logistic: text + audio"]
    share = np.mean([0 in ids for ids in clips["test"]["label"]])
    assert results["shares of the labels"]["high_average_precision"] == pytest.approx(share)
    assert results["shares of the labels"]["high_weighted_accuracy"] == 0.5
    assert results["logistic: audio"]["subset_accuracy"] > 0.9 and results["logistic: audio"]["high_f1"] > 0.85
    assert results["logistic: text"]["macro_average_precision"] < 0.7


def test_ridge_reads_given_text_features():
    clips = linear_clips("none")
    for split in clips:
        column = [[label, 1.0] for label in clips[split]["label"]]
        clips[split] = clips[split].add_column("text_features", column)
    assert ridge_baseline(clips, ["text"], (-3, 3))["mae"] < 0.05


def test_mean_of_the_training_labels():
    clips = linear_clips("none")
    labels = np.array(clips["test"]["label"])
    found = mean_baseline(clips, (-3, 3))
    assert found["mae"] == pytest.approx(np.abs(labels - np.mean(clips["train"]["label"])).mean(), abs=1e-6)
    assert np.isnan(found["corr"])


def test_clips_without_frames_count_as_zero(tmp_path):
    rng = np.random.default_rng(0)
    rows = ["id,label,split,text"]
    for i in range(30):
        if i % 5:
            np.savez(tmp_path / f"{i}.npz", audio=rng.normal(size=(3, 2)))
        rows.append(f"{i},{rng.uniform(-3, 3):.2f},{('train', 'validation', 'test')[i % 3]},word")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    clips = load_clips(ClipSource(str(tmp_path), allow_missing_features=True))
    assert np.isfinite(ridge_baseline(clips, ["audio"], (-3, 3))["mae"])


def test_tfidf_learns_words(reviews):
    result = tfidf_baseline(reviews, reviews)
    assert result["fine_accuracy"] == result["coarse_accuracy"] == 1 and result["intensity_mae"] < 0.1
    assert result.keys() == majority_baseline(reviews, reviews).keys()


@pytest.mark.parametrize("baseline", [majority_baseline, tfidf_baseline, bag_of_words_baseline])
def test_labels_that_rows_or_splits_lack(reviews, baseline):
    holes = [None if i % 3 == 1 else value for i, value in enumerate(reviews["labels"])]
    train = reviews.remove_columns(["labels", "intensity_labels"]).add_column("labels", holes)
    result = baseline(train, reviews)
    assert set(result) == {
        "fine_accuracy", "fine_macro_f1", "fine_quadratic_kappa", "fine_within_one", "fine_class_error",
        "coarse_accuracy", "coarse_macro_f1", *(f"{task}_{name}" for task in ("fine", "coarse") for name in PROBABLE),
    }  # fmt: skip
    assert result["fine_accuracy"] == pytest.approx(2 / 3), "class 0 has no row with a label"


def test_probabilities_of_the_majority_are_the_shares_of_classes(reviews):
    train = reviews.select(range(20))
    shares = np.bincount(train["labels"], minlength=5) / 20
    labels = np.array(reviews["labels"])
    result = majority_baseline(train, reviews)
    assert result["fine_brier_score"] == pytest.approx(((np.eye(5)[labels] - shares) ** 2).sum(1).mean())
    assert result["fine_negative_log_likelihood"] == pytest.approx(-np.log(shares[labels]).mean())
    without = reviews.filter(lambda row: row["labels"] != 4)
    for baseline in (majority_baseline, bag_of_words_baseline):
        result = baseline(without, reviews)
        assert np.isnan(result["fine_negative_log_likelihood"]), "a class without a row has no likelihood"
        assert 0 < result["fine_brier_score"] < 2


def test_both_baselines_of_several_splits_at_once(reviews):
    splits = {"validation": reviews.select(range(9)), "test": reviews.select(range(4, 30))}
    fitted = fit_review_baselines(reviews, splits)
    for split, rows in splits.items():
        assert fitted.metrics[split]["majority"] == majority_baseline(reviews, rows)
        assert fitted.metrics[split]["bag of words"] == bag_of_words_baseline(reviews, rows)
        assert fitted.answers[split]["bag of words"]["fine"].tolist() == rows["labels"][:]
    assert fitted.training_rows == {"majority": 30, "bag of words": 30}


def test_many_training_rows_are_sampled_for_bag_of_words(reviews, monkeypatch):
    monkeypatch.setattr(baselines_module, "_MOST_LINEAR_ROWS", 12)
    first, second = (fit_review_baselines(reviews, {"test": reviews}) for _ in range(2))
    assert first.training_rows == {"majority": 30, "bag of words": 12} and first.metrics == second.metrics


def test_bag_of_words_reads_scripts_without_spaces():
    train = Dataset.from_dict(
        {"text": ["很好的房间", "房间太差了", "服务好", "差的服务"] * 5, "labels": [1, 0, 1, 0] * 5}
    )
    test = Dataset.from_dict({"text": ["早餐好", "早餐差"], "labels": [1, 0]})
    assert bag_of_words_baseline(train, test)["fine_accuracy"] == 1


def test_texts_without_words_give_the_majority():
    rows = Dataset.from_dict({"text": ["a", "b", "!"], "labels": [1, 0, 1], "intensity_labels": [0.9, 0.2, 0.7]})
    assert bag_of_words_baseline(rows, rows) == majority_baseline(rows, rows)
