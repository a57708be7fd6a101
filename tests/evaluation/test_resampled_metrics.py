from types import SimpleNamespace

import numpy as np
import pytest

from hf_fusion.evaluation.metrics import compute_metrics
from hf_fusion.evaluation.resampled_metrics import resample_metrics
from hf_fusion.evaluation.statistics import hierarchical_difference, hierarchical_estimate, resample_rows
from hf_fusion.models.configuration_common import Head
from hf_fusion.models.configuration_dyfulm import DyFuLMConfig

SEEDS, ROWS, REPLICATES = 2, 80, 30


def clip_config(num_labels, names=(), **fields):
    names = dict(enumerate(names or map(str, range(num_labels))))
    heads = {"logits": Head("prediction", "id2label")}
    fields = {"problem_type": None, "label_range": (-3, 3), **fields}
    return SimpleNamespace(heads=heads, num_labels=num_labels, id2label=names, **fields)


def draw_scores(rng, scale):
    labels = np.clip(np.round(rng.normal(0, scale, ROWS), 1), -scale, scale).astype(np.float32)
    labels[::9] = 0
    outputs = (labels + rng.normal(0, scale / 2, (SEEDS, ROWS)))[..., None].astype(np.float32)
    labels[3] = np.nan
    return {"logits": outputs}, {"labels": labels}


def draw_classes(rng):
    labels = rng.integers(0, 3, ROWS)
    outputs = rng.normal(size=(SEEDS, ROWS, 4)) + 2 * np.eye(4)[labels]
    labels[5] = -100
    return {"logits": outputs}, {"labels": labels}


def draw_label_sets(rng):
    labels = (rng.random((ROWS, 3)) < 0.4).astype(np.float32)
    outputs = rng.normal(size=(SEEDS, ROWS, 3)) + labels - 0.5
    labels[7, 1] = np.nan
    return {"logits": outputs}, {"labels": labels}


def draw_reviews(rng):
    fine, coarse = rng.integers(0, 5, ROWS), rng.integers(0, 3, ROWS)
    intensity = rng.random(ROWS).astype(np.float32)
    outputs = {
        "logits": rng.normal(size=(SEEDS, ROWS, 5)) + np.eye(5)[fine],
        "coarse_logits": rng.normal(size=(SEEDS, ROWS, 3)) + np.eye(3)[coarse],
        "intensity": (intensity + rng.normal(0, 0.2, (SEEDS, ROWS))).astype(np.float32),
    }
    fine[2], coarse[4], intensity[6] = -100, -100, np.nan
    return outputs, {"labels": fine, "coarse_labels": coarse, "intensity_labels": intensity}


CASES = {
    "mosi": lambda rng: (clip_config(1), *draw_scores(rng, 3)),
    "sims": lambda rng: (clip_config(1, label_range=(-1, 1)), *draw_scores(rng, 1)),
    "classes": lambda rng: (clip_config(4, ["calm", "sad", "happy", "angry"]), *draw_classes(rng)),
    "label sets": lambda rng: (
        clip_config(3, ["sad", "happy", "angry"], problem_type="multi_label_classification"),
        *draw_label_sets(rng),
    ),
    "reviews": lambda rng: (DyFuLMConfig(temperature=1.7, coarse_temperature=0.6), *draw_reviews(rng)),
}  # fmt: skip


def measure(config, outputs, labels, rows, seed):
    """The metrics of rows that are really repeated."""
    predictions = tuple(output[seed][rows] for output in outputs.values())
    metrics = compute_metrics(config, predictions, [values[rows] for values in labels.values()], list(labels))
    others = ("average_precision", "calibration_error")
    return {name: value for name, value in metrics.items() if not name.endswith(others)}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("clustered", [False, True])
def test_all_metrics_are_those_of_repeated_rows(case, clustered):
    config, outputs, labels = CASES[case](np.random.default_rng(0))
    clusters = np.arange(ROWS) % 10 if clustered else None
    tables = resample_metrics(config, outputs, labels, clusters, REPLICATES)
    counts = resample_rows(lambda counts: counts, 10 if clustered else ROWS, REPLICATES).astype(int)
    for i in (0, REPLICATES):
        rows = np.repeat(np.arange(ROWS), counts[i][clusters] if clustered else counts[i])
        for seed in range(SEEDS):
            expected = measure(config, outputs, labels, rows, seed)
            assert {name: table[i, seed] for name, table in tables.items()} == pytest.approx(
                expected, abs=1e-9, nan_ok=True
            )


def test_means_over_rows_are_those_of_the_difference():
    config, outputs, labels = CASES["classes"](np.random.default_rng(1))
    kept = np.delete(np.arange(ROWS), 5)
    outputs, labels = {"logits": outputs["logits"][:, kept]}, {"labels": labels["labels"][kept]}
    shifted = {"logits": np.roll(outputs["logits"], 1, axis=-1) + outputs["logits"]}
    sides = [resample_metrics(config, side, labels)["accuracy"] for side in (outputs, shifted)]
    right = [side["logits"].argmax(-1) == labels["labels"] for side in (outputs, shifted)]
    estimate = hierarchical_estimate(sides[0] - sides[1], len(kept))
    expected = hierarchical_difference(*right)
    assert estimate["interval"] == pytest.approx(expected["interval"]) and estimate["interval"][0] > 0
    assert estimate["p"] == pytest.approx(expected["p"], rel=1e-6)


def test_a_single_class_has_no_accuracy():
    config, outputs, labels = CASES["classes"](np.random.default_rng(2))
    tables = resample_metrics(config, outputs, {"labels": np.ones_like(labels["labels"])}, replicates=5)
    assert np.isnan(tables["accuracy"]).all() and np.isnan(tables["uar"]).all() and np.isnan(tables["macro_f1"]).all()
    assert np.isfinite(tables["sad_recall"]).all() and np.isnan(tables["calm_recall"]).all()


def test_a_single_class_of_reviews_has_no_order():
    config, outputs, labels = CASES["reviews"](np.random.default_rng(2))
    tables = resample_metrics(config, outputs, {"labels": np.ones_like(labels["labels"])}, replicates=5)
    probable = {"fine_brier_score", "fine_negative_log_likelihood"}
    assert all(np.isnan(table).all() for name, table in tables.items() if name not in probable)
    assert "fine_class_error" in tables and all(np.isfinite(tables[name]).all() for name in probable)


def test_a_constant_score_has_no_correlation():
    config, outputs, labels = CASES["mosi"](np.random.default_rng(3))
    outputs["logits"][1] = 0.3
    tables = resample_metrics(config, outputs, labels, replicates=5)
    assert np.isnan(tables["corr"][:, 1]).all() and np.isfinite(tables["corr"][:, 0]).all()


def test_a_single_row():
    for case in ("mosi", "reviews"):
        config, outputs, labels = CASES[case](np.random.default_rng(6))
        outputs, labels = (
            {name: part[:, :1] for name, part in outputs.items()},
            {name: part[:1] for name, part in labels.items()},
        )
        (name,) = {"mae", "intensity_mae"} & set(tables := resample_metrics(config, outputs, labels, replicates=5))
        assert tables[name].shape == (6, SEEDS) and np.isfinite(tables[name]).all()


def test_label_sets_without_any_label():
    config, outputs, labels = CASES["label sets"](np.random.default_rng(7))
    outputs, labels = {"logits": -np.abs(outputs["logits"])}, {"labels": np.zeros_like(labels["labels"])}
    tables = resample_metrics(config, outputs, labels, replicates=5)
    assert (tables["micro_f1"] == 0).all() and (tables["subset_accuracy"] == 1).all()


def test_reviews_without_some_labels():
    config, outputs, labels = CASES["reviews"](np.random.default_rng(4))
    labels["coarse_labels"][:] = -100
    del labels["intensity_labels"]
    fine = ["fine_accuracy", "fine_macro_f1", "fine_quadratic_kappa", "fine_within_one", "fine_class_error"]
    fine += ["fine_brier_score", "fine_negative_log_likelihood"]
    assert list(resample_metrics(config, outputs, labels, replicates=5)) == fine


def test_coverage_of_a_correlation():
    """Of a metric that is no mean over rows; seeds differ in their noise."""
    rng, spread = np.random.default_rng(5), 0.1
    noise = np.array([0.8, 1.2])[:, None, None] + spread * rng.normal(size=(2, 4000, 1))  # of two systems, by seed
    truth = np.diff(1 / np.sqrt(1 + noise**2), axis=0).mean()
    covered = []
    for _ in range(150):
        labels = rng.normal(size=120)
        own = np.array([0.8, 1.2])[:, None, None] + spread * rng.normal(size=(2, 5, 1))
        shared = rng.normal(size=120)  # rows are hard or easy for all seeds of both
        errors = own * (0.8 * shared + 0.6 * rng.normal(size=(2, 5, 120)))
        sides = [
            resample_metrics(clip_config(1), {"logits": labels + side}, {"labels": labels}, replicates=150)["corr"]
            for side in errors
        ]
        low, high = hierarchical_estimate(sides[1] - sides[0], 120)["interval"]
        covered.append(low <= truth <= high)
    assert 0.9 <= np.mean(covered) <= 0.99
