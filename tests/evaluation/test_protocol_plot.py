import numpy as np
import pytest
from figure_text import check_legends, check_texts

from hf_fusion.evaluation.protocol_plot import plot_protocol

LONG = "a variant with a name that is much longer than any picture wants to have, and $costs$ 5_000"


def curve(names, rates, start=0.7, std=0.03):
    return {
        name: {"rate": rate, "mean": dict.fromkeys(("mae", "acc2_non0"), start + 0.02 * i),
               "std": dict.fromkeys(("mae", "acc2_non0"), std)}
        for i, (name, rate) in enumerate(zip(names, rates, strict=True))
    }  # fmt: skip


def test_lines_with_a_band_over_rates():
    rates = [step / 10 for step in range(11)]
    curves = {"plain": curve(map(str, rates), rates), LONG: curve(map(str, rates), rates, 0.5, std=None)}
    figure = plot_protocol(curves, ["mae", "acc2_non0"], "tfr, mode sound", "standard deviation")
    panel = figure.axes[0]
    assert panel.get_xlabel() == "missing rate" and panel.get_title() == "mae (less is better)"
    np.testing.assert_allclose(panel.lines[0].get_ydata(), [0.7 + 0.02 * i for i in range(11)])
    band = panel.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (pytest.approx(0.67), pytest.approx(0.93)), "one standard deviation"
    assert figure.get_supxlabel() == "bands: standard deviation"
    check_texts(figure)
    check_legends(figure)


def test_a_band_is_the_interval_where_there_is_one():
    cells = curve(["0.0", "1.0"], [0.0, 1.0])
    cells["1.0"]["interval"] = {"mae": [0.1, 2.0]}
    figure = plot_protocol({"a": cells}, ["mae"], "tfr", "95 % intervals")
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (pytest.approx(0.1), pytest.approx(2.0))


@pytest.mark.parametrize("number", [1, 4])
def test_bars_over_conditions(number):
    names = ["complete", "text", "audio", "vision", "text+audio", "text+vision", "audio+vision"]
    curves = {f"{LONG} {i}": curve(names, [None] * 7, 0.5 + i / 10) for i in range(number)}
    figure = plot_protocol(curves, ["mae"], "fixed, mode sound", "standard deviation")
    panel = figure.axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == names
    assert len(panel.containers) == 2 * number, "bars and their error bars"
    tops = [bar.get_y() for bar in panel.patches]
    assert len(set(np.round(tops, 6))) == 7 * number, "no bar covers another"
    assert panel.get_ylim()[0] > panel.get_ylim()[1], "the first condition is on top"
    check_texts(figure)
    check_legends(figure)


def test_an_undefined_value_leaves_a_gap():
    figure = plot_protocol({"a": curve(["x", "y"], [None, None], float("nan"))}, ["mae"], "fixed", "standard deviation")
    assert all(np.isnan(bar.get_width()) for bar in figure.axes[0].patches)
