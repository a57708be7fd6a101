"""Decimals in prose find the number that they could rest on."""

import pytest

from hf_fusion.studies.verification.markdown import find_decimals
from hf_fusion.studies.verification.prose import Explanations

RECORD = {
    "variants": {
        "full": {"changes": {"dropout": 0.3}, "mean": {"mae": 0.8123, "accuracy": 0.298}, "seeds": {"1": {"mae": 0.9}},
                 "last_log": {"gate": 0.4012}},
        "plain": {"changes": {}, "mean": {"mae": 0.6123, "accuracy": 0.596}},
    },
    "versions": {"torch": 7.7}, "hardware": {"cores": 2.2},
}  # fmt: skip


def find(text, record=RECORD):
    return [Explanations({"made": record}).find(number) for number in find_decimals(text)]


@pytest.mark.parametrize(("text", "place"), [
    ("0.81", "made: variants.full.mean.mae"),
    (".401", "made: variants.full.last_log.gate"),
    ("0.3", "made: variants.full.changes.dropout"),  # the setting, not the accuracy that rounds to it
    ("-0.20", "made: difference in mae of 'full' and 'plain', test"),
    ("2.0", "made: ratio of accuracy of 'plain' and 'full', test"),
    ("60 %", "made: variants.plain.mean.accuracy"),
    ("29.8 points", "made: variants.full.mean.accuracy"),
    ("0.79", None), ("7.7", None), ("2.2", None), ("0.9", None), ("0.811", None),
])  # fmt: skip
def test_place_of_a_number(text, place):
    assert find(text) == [place]


def test_numbers_on_other_data_are_known():
    other = {"variants": {"a": {"mean": {"mae": 0.5}}, "b": {"mean": {"mae": 0.25}}}}
    assert find("0.25 2.0", {"evaluate_on": {"noisy": other}}) == [
        "made: evaluate_on.noisy.variants.b.mean.mae", "made: ratio of mae of 'a' and 'b', noisy",
    ]  # fmt: skip
