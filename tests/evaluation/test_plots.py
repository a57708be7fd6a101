import matplotlib.image
import numpy as np
import pytest

from hf_fusion.evaluation import plots
from hf_fusion.evaluation.plots import (
    calibration_error,
    plot_calibration,
    plot_confusion,
    plot_differences,
    plot_pareto,
)


def test_calibration_error():
    assert calibration_error([1, 1, 0, 0], [1.0, 1.0, 0.0, 0.0]) == 0
    assert calibration_error([0, 0], [1.0, 1.0]) == 1
    # two bins: .9 confident and right half of the time; .3 confident and never right
    assert calibration_error([1, 0, 0, 0], [0.9, 0.9, 0.3, 0.3]) == pytest.approx(0.5 * 0.4 + 0.5 * 0.3)


def test_pictures_have_content(tmp_path):
    rng = np.random.default_rng(0)
    true, guess = rng.integers(0, 3, 100), rng.integers(0, 3, 100)
    plot_confusion(tmp_path / "c.png", true, guess, ["a", "b", "c"], "Title")
    plot_calibration(tmp_path / "r.png", true == guess, rng.random(100), "Title")
    for name in ("c.png", "r.png"):
        pixels = matplotlib.image.imread(tmp_path / name)
        assert pixels.shape[0] > 300 and pixels[..., :3].std() > 0.05


def test_confusion_shows_classes_that_never_occur(tmp_path):
    plot_confusion(tmp_path / "c.png", [0, 0], [0, 1], ["a", "b", "c", "d"], "Title")
    assert (tmp_path / "c.png").stat().st_size > 1000


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, instead of files."""
    drawn = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: drawn.append(figure))
    yield drawn
    for figure in drawn:
        plots.plt.close(figure)


def test_pictures_say_which_direction_is_better(figures):
    difference = {"mean": 0.1, "interval": [0.0, 0.2], "p_holm": 0.5}
    summary = {name: {"mean": {"mae": value, "corr": value}, "std": {"mae": 0.1, "corr": 0.1}}
               for name, value in (("base", 0.5), ("other", 0.6))}  # fmt: skip
    summary["other"]["difference"] = {"mae": difference, "corr": difference}
    plot_differences(None, summary, ["mae", "corr"], "title")
    assert [axes.get_xlabel() for axes in figures[0].axes] == [
        "difference (less is better)", "difference (more is better)",
    ]  # fmt: skip
    for metric, inverted in (("mae", True), ("corr", False)):
        record = {"metric": metric, "costs": {"base": 1, "other": 2}, "front": ["base"], "knee": None}
        plot_pareto(None, record, summary, "title")
        assert figures[-1].axes[0].yaxis_inverted() == inverted
