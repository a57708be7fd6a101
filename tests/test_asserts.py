import numpy as np
import pytest
import torch
from asserts import assert_close, assert_same_weights

ANSWER = {
    "label": "good",
    "score": 0.5,
    "spans": [{"gate": 1e-3}, {"gate": None}],
    "logits": torch.tensor([1.0, -30.0]),
}


def test_what_is_equal():
    sums = torch.tensor([1.0, -30.0 * (1 + 5e-6)])
    assert_close({**ANSWER, "score": 0.500009, "logits": sums}, ANSWER)
    assert_close([float("nan"), np.float32(2)], [float("nan"), 2.0])


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"label": "Good"}, "label"),
        ({"score": 0.50003}, "score"),
        ({"spans": [{"gate": 1e-3}]}, "spans"),
        ({"spans": [{"gate": 1e-3}, {"gate": 0.0}]}, r"spans'\]\[1\]\['gate"),
        ({"logits": torch.tensor([1.0, -30.001])}, "logits"),
        ({"more": 1}, "result has"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_what_is_not(change, where):
    with pytest.raises(AssertionError, match=where):
        assert_close({**ANSWER, **change}, ANSWER)


def test_weights_are_compared_bit_for_bit():
    one, other = ({"w": torch.tensor([1.0, second])} for second in (1.0, 1.0 + 2e-7))
    assert_same_weights(one, {"w": torch.ones(2)})
    for wrong in (other, {"v": one["w"]}, {"w": one["w"].double()}):
        with pytest.raises(AssertionError):
            assert_same_weights(one, wrong)
