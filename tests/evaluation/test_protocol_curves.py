from types import SimpleNamespace

import numpy as np
import pytest

from hf_fusion.data.protocols import PROTOCOLS
from hf_fusion.evaluation.metrics import SentimentRegressionMetrics
from hf_fusion.evaluation.protocol_curves import (
    SUMMARIES,
    estimate_intervals,
    published_decimals,
    summaries_of,
    summarize_curves,
    summary_weights,
)
from hf_fusion.models.configuration_common import Head

# Curves of three metrics in percent at the rates 0 to 1, with the areas that the published code prints.
CURVES = [
    (71.2, 74.9, 79.3, 85.5, 91.1, 98.0, 105.2, 113.7, 122.9, 133.0, 143.8),
    (79.6, 77.1, 74.2, 70.9, 67.7, 63.9, 58.4, 52.0, 43.3, 31.6, 5.2),
    (82.4, 80.0, 77.7, 75.1, 72.4, 69.9, 66.3, 62.6, 59.8, 57.5, 50.7),
]
AREAS, AREAS_TO_HALF = (101.11, 58.15, 68.785), (41.54, 36.165, 38.135)
TENTHS = [step / 10 for step in range(11)]


def condition(name, rate=None, is_complete=False):
    return SimpleNamespace(name=name, rate=rate, is_complete=is_complete)


def test_areas_are_those_of_the_published_code():
    complete = [True] + [False] * 10
    for curve, area, half in zip(CURVES, AREAS, AREAS_TO_HALF, strict=True):
        assert summary_weights("area", TENTHS, complete) @ curve == pytest.approx(area, abs=1e-9)
        assert summary_weights("area_by_width", TENTHS, complete) @ curve == pytest.approx(area, abs=1e-9)
        assert summary_weights("area", TENTHS[:6], complete[:6]) @ curve[:6] == pytest.approx(half, abs=1e-9)
        assert summary_weights("area_by_width", TENTHS[:6], complete[:6]) @ curve[:6] == pytest.approx(2 * half)
    assert np.round(AREAS, 1).tolist() == [101.1, 58.2, 68.8], "as printed"


def test_means_with_and_without_the_complete_condition():
    values = np.array([1.0, 2.0, 6.0])
    complete = [True, False, False]
    assert summary_weights("mean", [None] * 3, complete) @ values == pytest.approx(3)
    assert summary_weights("mean_incomplete", [None] * 3, complete) @ values == pytest.approx(4)


@pytest.mark.parametrize(
    ("summary", "rates", "complete", "words"),
    [
        ("median", [0.0, 1.0], [True, False], "`summary` must be one of area, area_by_width, mean, mean_incomplete"),
        ("area", [0.5], [False], "An area needs two rates or more"),
        ("area", [0.5, 0.2], [False, False], "in rising order"),
        ("area", [None, 0.2], [True, False], "An area needs"),
        ("mean_incomplete", [0.0], [True], "no condition besides"),
    ],
)
def test_summaries_that_are_not_defined(summary, rates, complete, words):
    with pytest.raises(ValueError, match=words):
        summary_weights(summary, rates, complete)


def test_every_protocol_has_a_summary_that_is_defined():
    for protocol in PROTOCOLS.values():
        rates, complete = [c.rate for c in protocol.conditions], [c.is_complete for c in protocol.conditions]
        for mode in ("sound", "exact"):
            for summary in summaries_of(protocol.summary, mode):
                weights = summary_weights(summary, rates, complete)
                assert summary in SUMMARIES and weights.sum() == pytest.approx(1)
    assert summaries_of("mean", "sound") == ["mean", "mean_incomplete"] and summaries_of("mean", "exact") == ["mean"]
    assert PROTOCOLS["imder"].summary == "mean_incomplete", "its rates start at 0.1"
    assert summaries_of("area", "sound") == ["area", "area_by_width"] and summaries_of("area", "exact") == ["area"]


def test_only_the_published_way_rounds_and_only_where_its_code_does():
    assert published_decimals("lnln", "exact", (-3, 3)) == 4 and published_decimals("tfr", "exact", [-1, 1]) == 4
    assert published_decimals("lnln", "exact", [-1, 1]) is None, "CH-SIMS is not rounded"
    assert published_decimals("lnln", "sound", (-3, 3)) is None and published_decimals("cms", "exact", (-3, 3)) is None


def test_means_and_spread_over_mask_seeds():
    conditions = [condition("0.0", 0.0, True), condition("0.5", 0.5)]
    measured = {"0.0": {"1": {"mae": 1.0}, "2": {"mae": 1.0}}, "0.5": {"1": {"mae": 2.00006}, "2": {"mae": 4.0}}}
    curves = summarize_curves(conditions, measured, ["mean"])
    assert curves["conditions"]["0.0"]["std"]["mae"] == 0 and curves["conditions"]["0.0"]["complete"]
    assert curves["conditions"]["0.5"]["mean"]["mae"] == pytest.approx(3.00003)
    assert curves["conditions"]["0.5"]["rate"] == 0.5
    assert curves["summary"]["mean"]["seeds"] == {"1": {"mae": pytest.approx(1.50003)}, "2": {"mae": 2.5}}
    assert curves["summary"]["mean"]["std"]["mae"] == pytest.approx(np.std([1.50003, 2.5], ddof=1))
    rounded = summarize_curves(conditions, measured, ["mean"], decimals=4)
    assert rounded["summary"]["mean"]["seeds"]["1"]["mae"] == pytest.approx(1.50005), "2.0001 is what is averaged"


def test_one_mask_has_no_spread_and_an_undefined_metric_no_summary():
    conditions = [condition("a"), condition("b")]
    measured = {"a": {"0": {"corr": np.nan, "mae": 1.0}}, "b": {"0": {"corr": 0.5, "mae": 2.0}}}
    curves = summarize_curves(conditions, measured, ["mean"])
    assert curves["conditions"]["b"]["std"] == {"corr": None, "mae": None}
    assert np.isnan(curves["summary"]["mean"]["mean"]["corr"]) and curves["summary"]["mean"]["mean"]["mae"] == 1.5


CONFIG = SimpleNamespace(heads={"logits": Head("prediction")}, num_labels=1, id2label={}, label_range=(-3, 3))


def scores_under(noise, seeds, rows=300):
    """True scores, and predictions of complete rows and of two conditions whose errors grow."""
    rng = np.random.default_rng(0)
    labels = rng.uniform(-3, 3, rows)
    complete = labels + rng.normal(size=rows) * 0.3
    outputs = {"complete": [{"logits": complete[:, None]}]}
    for name, size in noise.items():
        outputs[name] = [{"logits": (complete + size * rng.normal(size=rows))[:, None]} for _ in range(seeds)]
    return outputs, {"labels": labels}


def test_intervals_over_masks_and_rows():
    conditions = [condition("complete", is_complete=True), condition("some"), condition("more")]
    outputs, labels = scores_under({"some": 0.5, "more": 2.0}, seeds=4)
    estimates = estimate_intervals(conditions, outputs, labels, CONFIG, ["mean_incomplete"], replicates=300)
    metrics = SentimentRegressionMetrics("mosi")
    maes = {
        name: np.mean([
            metrics.compute(predictions=part["logits"][:, 0], references=labels["labels"])["mae"] for part in parts
        ])
        for name, parts in outputs.items()
    }  # fmt: skip
    more = estimates["conditions"]["more"]
    assert more["interval"]["mae"][0] < maes["more"] < more["interval"]["mae"][1]
    assert more["difference"]["mae"]["mean"] == pytest.approx(maes["more"] - maes["complete"])
    assert more["difference"]["mae"]["interval"][0] > 0 and more["difference"]["mae"]["p"] < 0.001
    assert more["difference"]["corr"]["interval"][1] < 0, "also metrics that are no means of rows"
    assert "difference" not in estimates["conditions"]["complete"]
    total = estimates["summary"]["mean_incomplete"]["difference"]["mae"]
    assert total["mean"] == pytest.approx((maes["some"] + maes["more"]) / 2 - maes["complete"])
    width = np.ptp(more["difference"]["mae"]["interval"])
    assert width < np.ptp(more["interval"]["mae"]), "paired by row"


def test_an_undivided_area_is_compared_with_complete_rows_at_all_rates():
    conditions = [condition("0.0", 0.0, True), condition("0.2", 0.2), condition("0.4", 0.4)]
    outputs, labels = scores_under({"0.2": 0.0, "0.4": 0.0}, seeds=2)
    outputs["0.0"] = outputs.pop("complete")
    estimates = estimate_intervals(conditions, outputs, labels, CONFIG, ["area"], replicates=50)
    assert estimates["summary"]["area"]["difference"]["mae"]["mean"] == pytest.approx(0, abs=1e-9)


def test_without_a_complete_condition_there_is_nothing_to_compare_with():
    outputs, labels = scores_under({"a": 0.5}, seeds=1)
    estimates = estimate_intervals([condition("a")], {"a": outputs["a"]}, labels, CONFIG, ["mean"], replicates=50)
    assert "difference" not in estimates["conditions"]["a"] and estimates["conditions"]["a"]["interval"]["mae"]
