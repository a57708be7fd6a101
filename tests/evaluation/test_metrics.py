import json
import math

import numpy as np
import pytest
from fresh_python import run_fresh
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import pearsonr
from sklearn.metrics import cohen_kappa_score, f1_score, mean_absolute_error, r2_score

from hf_fusion import DyFuLMConfig
from hf_fusion.evaluation.calibration import calibration_error, measure_probabilities
from hf_fusion.evaluation.metrics import (
    METRICS,
    ReviewMetrics,
    SentimentRegressionMetrics,
    compute_metrics,
    compute_review_metrics,
    find_metric,
    label_set_metrics,
    lower_is_better,
    metric_names,
    select_sentiment_metrics,
)
from hf_fusion.utils.errors import RecipeError

PREDICTED = {"fine": [0, 1, 2, 4], "coarse": [0, 0, 1, 2], "intensity": [0.1, 0.2, 0.6, 0.9]}
EXPECTED = {"fine": [0, 1, 1, 4], "coarse": [0, 0, 2, 2], "intensity": [0.0, 0.25, 0.5, 1.0]}


def test_values_by_hand():
    result = ReviewMetrics().compute(predictions=PREDICTED, references=EXPECTED)
    assert result["fine_accuracy"] == result["coarse_accuracy"] == 0.75
    # per class 0, 1, 2, 4: F1 1, 2/3, 0, 1
    assert result["fine_macro_f1"] == pytest.approx((1 + 2 / 3 + 0 + 1) / 4)
    assert result["intensity_mae"] == pytest.approx((0.1 + 0.05 + 0.1 + 0.1) / 4)
    assert result["intensity_mse"] == pytest.approx((0.01 + 0.0025 + 0.01 + 0.01) / 4)
    assert result["intensity_r2"] == pytest.approx(r2_score(EXPECTED["intensity"], PREDICTED["intensity"]))
    assert result["intensity_corr"] == pytest.approx(pearsonr(EXPECTED["intensity"], PREDICTED["intensity"])[0])
    # distances 0, 0, 1, 0; those of each prediction to each label in the square, by columns
    by_chance = ((0 + 1 + 1 + 16) + (1 + 0 + 0 + 9) + (4 + 1 + 1 + 4) + (16 + 9 + 9 + 0)) / 4
    assert result["fine_quadratic_kappa"] == pytest.approx(1 - 1 / by_chance)
    assert result["fine_within_one"] == 1 and result["fine_class_error"] == 0.25
    assert len(result) == 11


def test_rows_columns_and_batches_agree():
    def rows(columns):
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    expected = ReviewMetrics().compute(predictions=PREDICTED, references=EXPECTED)
    assert ReviewMetrics().compute(predictions=rows(PREDICTED), references=rows(EXPECTED)) == expected
    metric = ReviewMetrics()
    for part in (slice(0, 1), slice(1, 4)):
        metric.add_batch(
            predictions={name: values[part] for name, values in PREDICTED.items()},
            references={name: values[part] for name, values in EXPECTED.items()},
        )
    assert metric.compute() == pytest.approx(expected)


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30
    )
)
def test_agrees_with_scikit_learn(rows):
    fine, true, intensity, target = map(list, zip(*rows, strict=True))
    result = ReviewMetrics().compute(
        predictions={"fine": fine, "intensity": intensity}, references={"fine": true, "intensity": target}
    )
    assert result["fine_macro_f1"] == pytest.approx(f1_score(true, fine, average="macro", zero_division=0))
    assert result["fine_accuracy"] == pytest.approx(np.mean(np.equal(true, fine)))
    assert result["fine_within_one"] == pytest.approx(np.mean(np.abs(np.subtract(true, fine)) <= 1))
    assert result["fine_class_error"] == pytest.approx(mean_absolute_error(true, fine))
    if len({*true, *fine}) > 1:
        kappa = cohen_kappa_score(true, fine, labels=range(5), weights="quadratic")
        assert result["fine_quadratic_kappa"] == pytest.approx(kappa)
    assert result["intensity_mae"] == pytest.approx(np.abs(np.subtract(intensity, target)).mean())
    if np.std(target) > 1e-3 and np.std(intensity) > 1e-3:
        assert result["intensity_corr"] == pytest.approx(np.corrcoef(intensity, target)[0, 1], abs=1e-6)


def test_missing_references_are_left_out():
    references = {"fine": [0, -100, 1, 4], "intensity": [float("nan"), 0.25, None, 1.0]}
    predictions = {name: PREDICTED[name] for name in references}
    result = ReviewMetrics().compute(predictions=predictions, references=references)
    assert result["fine_accuracy"] == pytest.approx(2 / 3)
    assert result["intensity_mae"] == pytest.approx(0.075)
    assert "coarse_accuracy" not in result


def test_constant_predictions_have_no_correlation():
    result = ReviewMetrics().compute(predictions={"intensity": [0.5, 0.5]}, references={"intensity": [0.0, 1.0]})
    assert math.isnan(result["intensity_corr"]) and result["intensity_r2"] == 0


@pytest.mark.parametrize(
    ("predictions", "references", "words"),
    [
        ({"fine": [0]}, {"fine": [-100]}, "no references"),
        ({"intensity": [float("nan")]}, {"intensity": [0.5]}, "Row 0 has no finite prediction"),
        ({"fine": [0]}, {"coarse": [0]}, "predictions for 'fine', but no references"),
        ({"fine": [0], "coarse": [None]}, {"fine": [0], "coarse": [1]}, "no finite prediction for 'coarse'"),
        ({"stars": [0]}, {"stars": [0]}, "got stars"),
        ({"fine": [0], "coarse": [0, 1]}, {"fine": [0]}, "differ in length"),
        ([{"rating": 1}], [{"fine": 1}], "got rating"),
    ],
)
def test_bad_input(predictions, references, words):
    with pytest.raises(ValueError, match=words):
        ReviewMetrics().compute(predictions=predictions, references=references)


def test_what_a_trainer_gathers():
    logits = np.eye(5)[PREDICTED["fine"]]
    coarse = np.eye(3)[PREDICTED["coarse"]]
    intensity = np.array(PREDICTED["intensity"])
    result = compute_review_metrics(
        DyFuLMConfig(),
        (logits, coarse, intensity),
        (np.array(EXPECTED["intensity"]), np.array(EXPECTED["fine"])),
        ["intensity_labels", "labels"],
    )
    expected = ReviewMetrics().compute(predictions=PREDICTED, references=EXPECTED)
    expected = {name: value for name, value in expected.items() if not name.startswith("coarse")}
    measured = measure_probabilities(softmax(logits, axis=-1), np.array(EXPECTED["fine"]))
    assert result == pytest.approx({**expected, **{f"fine_{name}": value for name, value in measured.items()}})


def test_probabilities_are_those_of_the_configuration():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 5)), rng.integers(0, 5, 50)
    labels[3] = -100
    config = DyFuLMConfig(temperature=2.5, abstain_below=0.3)
    found = compute_review_metrics(config, (logits, np.zeros((50, 3)), np.zeros(50)), (labels,), ["labels"])
    kept = labels != -100
    probabilities = softmax(logits[kept] / 2.5, axis=-1)
    for name, value in measure_probabilities(probabilities, labels[kept]).items():
        assert found[f"fine_{name}"] == pytest.approx(value)
    given = probabilities.max(-1) >= 0.3
    assert 0 < given.mean() < 1 and found["fine_coverage"] == pytest.approx(given.mean())
    right = probabilities.argmax(-1) == labels[kept]
    assert found["fine_answered_accuracy"] == pytest.approx(right[given].mean())
    assert list(found) == metric_names(config, ["labels"])


def test_probabilities_of_rows_and_columns():
    rows = [{"fine": 1, "fine_probabilities": [0.2, 0.8]}, {"fine": 0, "fine_probabilities": [0.6, 0.4]}]
    found = ReviewMetrics().compute(predictions=rows, references=[{"fine": 1}, {"fine": 1}])
    columns = {"fine": [1, 0], "fine_probabilities": [[0.2, 0.8], [0.6, 0.4]]}
    assert ReviewMetrics().compute(predictions=columns, references={"fine": [1, 1]}) == found
    assert found["fine_brier_score"] == pytest.approx((0.08 + 0.72) / 2) and len(found) == 7
    assert "fine_within_one" not in found, "of two classes it is always 1"
    wide = [[0.2, 0.8, 0.0], [0.6, 0.4, 0.0]]
    wider = ReviewMetrics().compute(
        predictions={**columns, "fine_probabilities": wide, "coarse": [0, 1], "coarse_probabilities": [[1, 0], [0, 1]]},
        references={"fine": [1, 1], "coarse": [0, 1]},
    )
    assert wider["fine_within_one"] == 1, "of three"
    with pytest.raises(ValueError, match="got fine_probabilities"):
        ReviewMetrics().compute(predictions=columns, references={"fine_probabilities": [[0.2, 0.8], [0.6, 0.4]]})


def test_needs_no_network_and_writes_no_files(tmp_path):
    code = (
        "import json, socket\n"
        "def refuse(*args, **kwargs): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "from hf_fusion.evaluation.metrics import ReviewMetrics\n"
        "print(json.dumps(ReviewMetrics().compute(predictions={'fine': [1]}, references={'fine': [1]})))\n"
    )
    process = run_fresh(code, cwd=tmp_path, env={"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "PATH": ""})
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["fine_accuracy"] == 1.0


def test_a_single_class_says_nothing(caplog):
    """The answer that never changes would be perfect."""
    logits = (np.eye(5)[[1, 1, 1]], np.eye(3)[[0, 0, 0]], np.zeros(3))
    names = ["labels", "coarse_labels", "intensity_labels"]
    found = compute_review_metrics(
        DyFuLMConfig(), logits, (np.array([0, 1, -100]), np.array([0, 0, -100]), np.ones(3)), names
    )
    assert found["fine_accuracy"] == 0.5 and found["intensity_mae"] == 1
    assert np.isnan(found["coarse_accuracy"]) and np.isnan(found["coarse_macro_f1"])
    assert "coarse_accuracy, coarse_macro_f1: undefined" in caplog.text


class TestSentimentRegression:
    def compute(self, predictions, references, dataset="mosi"):
        return SentimentRegressionMetrics(dataset).compute(predictions=predictions, references=references)

    def test_zero_is_non_negative_and_left_out_of_non0(self):
        found = self.compute([-0.1, 0.0, 0.2, -1.0, 2.0], [0.0, 0.0, 1.0, -2.0, -1.0])
        assert found["acc2_has0"] == 3 / 5  # rows 1, 2 and 3
        assert found["acc2_non0"] == 2 / 3  # of the last three rows
        # in Non0 a prediction of exactly 0 is negative
        assert self.compute([0.0, 1.0], [-1.0, 1.0])["acc2_non0"] == 1

    def test_classes_are_clipped_and_rounded_half_to_even(self):
        found = self.compute([0.5, 1.5, 9.0, -2.5], [0.0, 2.0, 2.2, -3.0])
        assert found["acc7"] == 2 / 4  # 0=0, 2=2, 3!=2, -2!=-3
        assert found["acc5"] == 1  # 0=0, 2=2, 2=2, -2=-2

    def test_bins_of_sims_include_their_upper_bound(self):
        bounds = [-0.7, -0.1, 0.1, 0.7]
        found = self.compute([b - 0.05 for b in bounds], bounds, "sims")
        assert found["acc5"] == 1
        found = self.compute([b + 0.05 for b in bounds], bounds, "sims")
        assert found["acc5"] == 0 and found["acc3"] == 2 / 4  # -0.7 and 0.7 stay in their third
        assert self.compute([0.0, 5.0], [-0.5, 1.0], "sims")["acc2_has0"] == 1
        # labels that were float32 lie a little above the decimal
        assert self.compute([0.05], [float(np.float32(0.1))], "sims")["acc3"] == 1

    def test_clipping_of_sims_comes_before_the_mae(self):
        assert self.compute([3.0, -0.5], [1.0, -0.5], "sims")["mae"] == 0
        assert self.compute([5.0, -0.5], [3.0, -0.5], "mosi")["mae"] == 1

    def test_over_the_whole_set_and_not_by_batches(self):
        rng = np.random.default_rng(0)
        predictions, references = rng.normal(size=50), rng.normal(size=50)
        metric = SentimentRegressionMetrics("mosi")
        for part in (slice(0, 3), slice(3, 50)):
            metric.add_batch(predictions=predictions[part], references=references[part])
        found = metric.compute()
        assert found["mae"] == pytest.approx(np.abs(predictions - references).mean())
        assert found["corr"] == pytest.approx(np.corrcoef(predictions, references)[0, 1])

    def test_missing_labels_are_left_out(self):
        found = self.compute([1.0, 7.0, -1.0, 2.0], [1.0, float("nan"), -1.0, 2.0])
        assert found["mae"] == 0 and found["corr"] == pytest.approx(1)

    def test_undefined_values_are_nan(self):
        found = self.compute([1.0, 1.0], [0.0, 0.0])
        assert np.isnan(found["corr"]) and np.isnan(found["acc2_non0"]) and np.isnan(found["f1_non0"])
        one_side = self.compute([1.0, 2.0], [0.5, 2.0])
        assert all(np.isnan(one_side[name]) for name in ("acc2_has0", "acc2_non0", "f1_has0", "f1_non0"))

    @pytest.mark.parametrize(
        ("predictions", "references", "words"),
        [([1.0, float("inf")], [1.0, 2.0], "Row 1 has no finite prediction"), ([1.0], [float("nan")], "no references")],
        ids=["infinite", "no label"],
    )
    def test_bad_input(self, predictions, references, words):
        with pytest.raises(ValueError, match=words):
            self.compute(predictions, references)

    def test_unknown_data_set(self):
        with pytest.raises(ValueError, match="'mosi', 'mosei' or 'sims', got 'iemocap'"):
            SentimentRegressionMetrics("iemocap")

    def test_chosen_by_the_range_of_the_labels(self):
        assert select_sentiment_metrics([-1.0, 1.0]).dataset == "sims"
        assert select_sentiment_metrics((-3, 3)).dataset == "mosi"


class TestOfADashFusion:
    def test_scores(self, clip_config):
        logits, labels = np.array([[1.0], [-2.0], [0.5]]), np.array([1.0, -1.0, 0.5])
        expected = SentimentRegressionMetrics("mosi").compute(predictions=logits[:, 0], references=labels)
        assert compute_metrics(clip_config(), logits, (labels,), ["labels"]) == expected
        assert "acc3" in compute_metrics(clip_config(label_range=(-1, 1)), logits, (labels,), ["labels"])

    def test_classes(self, clip_config):
        logits = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [5.0, 0.0, 0.0]])
        found = compute_metrics(clip_config(num_labels=3), logits, (np.array([0, 1, -100]),), ["labels"])
        assert found.pop("LABEL_2_recall") != found  # NaN: no row has this class
        assert found == {
            "accuracy": 0.5, "uar": 0.5, "macro_f1": pytest.approx(1 / 3), "LABEL_0_recall": 1.0, "LABEL_1_recall": 0.0,
        }  # fmt: skip

    def test_a_single_class(self, clip_config):
        found = compute_metrics(clip_config(num_labels=3), np.eye(3)[[1, 1]], (np.array([1, 1]),), ["labels"])
        assert np.isnan(found["accuracy"]) and np.isnan(found["macro_f1"]) and np.isnan(found["uar"])
        assert found["LABEL_1_recall"] == 1.0

    def test_several_labels(self, clip_config):
        logits, labels = (
            np.array([[2.0, -1.0], [1.0, 1.0], [9.0, 9.0]]),
            np.array([[1.0, 0.0], [1.0, 0.0], [0, np.nan]]),
        )
        config = clip_config(num_labels=2, problem_type="multi_label_classification")
        found = compute_metrics(config, logits, (labels,), ["labels"])
        assert found["subset_accuracy"] == 0.5 and found["hamming_loss"] == 0.25, "a row without all labels counts"
        assert list(found) == metric_names(config, ["labels"])


class TestLabelSets:
    @pytest.fixture
    def sides(self):
        rng = np.random.default_rng(0)
        expected = (rng.random((60, 3)) < [0.5, 0.2, 0.8]).astype(int)
        return np.clip(0.6 * expected + 0.5 * rng.random((60, 3)), 0, 1), expected

    def test_against_their_definitions(self, sides):
        probabilities, expected = sides
        predicted = probabilities >= 0.5
        found = label_set_metrics(probabilities, expected, ["a", "b", "c"])
        assert found["subset_accuracy"] == pytest.approx((predicted == expected).all(1).mean())
        assert found["hamming_loss"] == pytest.approx((predicted != expected).mean())
        hits, wrong = (predicted & (expected == 1)).sum(), (predicted != expected).sum()
        assert found["micro_f1"] == pytest.approx(2 * hits / (2 * hits + wrong))
        yes, no = expected[:, 1] == 1, expected[:, 1] == 0
        recalls = predicted[yes, 1].mean(), 1 - predicted[no, 1].mean()
        assert found["b_weighted_accuracy"] == pytest.approx(np.mean(recalls))
        f1 = [2 * (s & t).sum() / (s.sum() + t.sum()) for s, t in ((predicted[:, 1], yes), (~predicted[:, 1], no))]
        assert found["b_f1"] == pytest.approx(f1[0])
        assert found["b_weighted_f1"] == pytest.approx(yes.mean() * f1[0] + no.mean() * f1[1])
        order = np.argsort(-probabilities[:, 1])
        precision = np.cumsum(yes[order]) / np.arange(1, 61)
        assert found["b_average_precision"] == pytest.approx(precision[yes[order]].mean())
        for name, metric in (("macro_f1", "f1"), ("weighted_accuracy",) * 2, ("macro_average_precision",
                             "average_precision"), ("weighted_f1",) * 2):  # fmt: skip
            assert found[name] == pytest.approx(np.mean([found[f"{label}_{metric}"] for label in "abc"]))

    def test_a_label_that_no_row_or_every_row_has(self, sides):
        probabilities, expected = sides
        expected[:, 0], expected[:, 2] = 1, 0
        found = label_set_metrics(probabilities, expected, ["a", "b", "c"])
        assert all(np.isnan(found[f"{name}_{metric}"]) for name in "ac" for metric in ("f1", "weighted_accuracy"))
        assert found["macro_f1"] == found["b_f1"] and found["macro_average_precision"] == found["b_average_precision"]
        assert np.isnan(label_set_metrics(probabilities[:1], expected[:1], ["a", "b", "c"])["macro_f1"])

    def test_the_threshold(self, sides):
        probabilities, expected = sides
        found = label_set_metrics(np.array([[0.5, 0.49, 0.7]]), np.array([[1, 0, 1]]), ["a", "b", "c"])
        assert found["subset_accuracy"] == 1
        assert label_set_metrics(probabilities, expected, ["a", "b", "c"], threshold=0)["hamming_loss"] == (
            pytest.approx(1 - expected.mean())
        )

    def test_directions(self, sides):
        probabilities, expected = sides
        good = label_set_metrics(probabilities, expected, ["a", "b", "c"])
        poor = label_set_metrics(1 - probabilities, expected, ["a", "b", "c"])
        for name in good:
            assert (good[name] < poor[name]) == lower_is_better(name), name


class TestTable:
    """`METRICS`: what is known of each metric that the package computes."""

    @pytest.fixture
    def computed(self, clip_config):
        """Every metric over 60 rows, of which a share is answered wrong."""
        return lambda wrong: self.compute(clip_config(num_labels=5), wrong)

    @staticmethod
    def compute(config, wrong):
        rng = np.random.default_rng(0)
        classes, scores = rng.integers(0, 5, 60), rng.uniform(-3, 3, 60)
        bad = np.arange(60) < 60 * wrong
        answers, guesses = np.where(bad, (classes + 1) % 5, classes), np.where(bad, -scores, scores)
        sides = [{"fine": fine, "coarse": fine % 3, "intensity": score} for fine, score in
                 ((answers, guesses), (classes, scores))]  # fmt: skip
        sides[0]["fine_probabilities"] = 0.05 + 0.75 * np.eye(5)[answers]
        found = ReviewMetrics().compute(predictions=sides[0], references=sides[1])
        for dataset in ("mosi", "mosei", "sims"):
            found |= SentimentRegressionMetrics(dataset).compute(predictions=guesses, references=scores)
        found |= compute_metrics(config, np.eye(5)[answers], (classes,), ["labels"])
        del found["fine_expected_calibration_error"]  # here best where a fifth is wrong
        found["fine_calibration_error"] = calibration_error(answers == classes, np.ones(60))
        found["fine_coverage"] = 1 - wrong
        return found

    def test_better_answers_are_better_by_every_metric(self, computed):
        best, good, poor = (computed(wrong) for wrong in (0.0, 0.2, 0.7))
        assert len(best) == 32
        for name in best:
            values = [-found[name] if lower_is_better(name) else found[name] for found in (best, good, poor)]
            assert values[0] > values[1] > values[2], name

    @pytest.mark.parametrize("wrong", [0.0, 0.3, 1.0])
    def test_values_lie_in_the_bounds(self, computed, wrong):
        for name, value in computed(wrong).items():
            low, high = find_metric(name).bounds
            assert low - 1e-9 <= value <= high + 1e-9, name

    def test_errors_and_losses(self):
        losses = ["loss", "fine_loss", "intensity_loss", "prediction_loss", "contrastive_loss", "distillation_loss"]
        assert all(map(lower_is_better, [*losses, "rmse", "brier", "nll", "fine_nll", "intensity_rmse"]))
        assert {name for name, metric in METRICS.items() if metric.lower_is_better} == {
            "mae", "mse", "rmse", "nll", "class_error", "brier", "calibration_error", "hamming_loss", "loss",
            "brier_score", "expected_calibration_error", "negative_log_likelihood",
        }  # fmt: skip

    @pytest.mark.parametrize("start", ["", "eval_", "test_", "validation_", "eval_first_"])
    def test_prefixes(self, start):
        assert lower_is_better(f"{start}intensity_mae") and lower_is_better(f"{start}loss")
        assert not lower_is_better(f"{start}fine_macro_f1") and not lower_is_better(f"{start}acc2_has0")
        assert find_metric(f"{start}f1_has0").name == "f1_has0"

    @pytest.mark.parametrize("name", ["f2", "", "maes", "fine", "mae_rank", "error"])
    def test_unknown_names(self, name):
        with pytest.raises(RecipeError, match=f"'{name}': the name of a metric ends with one of accuracy, .*loss"):
            lower_is_better(name)

    def test_values_as_they_are_shown(self):
        assert format(0.8765, find_metric("fine_accuracy").format) == "87.6%"
        assert format(0.8765, find_metric("eval_mae").format) == "0.876"
