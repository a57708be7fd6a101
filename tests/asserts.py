"""Comparisons that all tests share: weights bit for bit, outputs to 1e-5."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch


def assert_close(found, expected, atol=1e-5, rtol=1e-5, where="result"):
    """
    Floats are equal up to `atol` or `rtol` * their size; arrays and tensors up to `atol` + `rtol` * the size of their
    largest entry, since small ones come from sums of large terms; dicts and lists are compared part by part, and
    everything else, labels above all, exactly.

    This is what the same weights promise: matrix libraries sum in an order that depends on the processor, on the shape
    of the batch and, on some, on where in memory the weights lie.
    """
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys(), f"{where} has {list(found)}, not {list(expected)}"
        for name, value in expected.items():
            assert_close(found[name], value, atol, rtol, f"{where}[{name!r}]")
    elif isinstance(expected, (list, tuple)):
        assert isinstance(found, (list, tuple)), f"{where}: {found!r}, not {expected!r}"
        assert len(found) == len(expected), f"{where} has {len(found)} entries, not {len(expected)}"
        for number, value in enumerate(expected):
            assert_close(found[number], value, atol, rtol, f"{where}[{number}]")
    elif isinstance(expected, (torch.Tensor, np.ndarray)):
        found, expected = torch.as_tensor(found), torch.as_tensor(expected)
        largest = expected.abs().max().item() if expected.numel() and expected.dtype != torch.bool else 0
        tolerance = {"atol": atol + rtol * largest, "rtol": 0}
        torch.testing.assert_close(found, expected, **tolerance, msg=lambda words: f"{where}: {words}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=atol, rel=rtol, nan_ok=True), (
            f"{where}: {found!r}, not {expected!r}"
        )
    else:
        assert found == expected, f"{where}: {found!r}, not {expected!r}"


def assert_same_weights(found, expected):
    """Two models, or two state dicts, are equal bit for bit, names and types included."""
    found, expected = (
        weights.state_dict() if isinstance(weights, torch.nn.Module) else weights for weights in (found, expected)
    )
    assert found.keys() == expected.keys()
    other = [
        name
        for name, value in expected.items()
        if found[name].dtype != value.dtype or not torch.equal(found[name], value)
    ]
    assert other == [], f"other weights: {other}"
