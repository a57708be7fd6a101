import inspect
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest
from figure_text import check_legends, check_texts, visible_texts
from fresh_python import run_fresh
from matplotlib.colors import to_hex

from hf_fusion.evaluation import plots
from hf_fusion.evaluation.calibration import risk_coverage
from hf_fusion.evaluation.diagnostics import attribution, contrastive, errors, gate, gradients, modalities, timelines
from hf_fusion.evaluation.plots import (
    BETTER,
    UNCLEAR,
    WORSE,
    difference_color,
    plot_benchmark,
    plot_calibration,
    plot_confusion,
    plot_differences,
    plot_pareto,
    plot_risk_coverage,
    plot_robustness,
    plot_scores,
    save_figure,
)
from hf_fusion.utils.extras import MissingExtraError

LONG = "a variant with a name that is much longer than any picture wants to have, and $costs$ 5_000"
NAMES = ["very negative", "negative", "neutral", "positive", LONG]
rng = np.random.default_rng(0)


def summary_of(*names, metrics=("mae", "acc2_non0", "corr", "brier"), p=0.01):
    entries = {}
    for i, name in enumerate(names):
        entries[name] = {"mean": dict.fromkeys(metrics, 0.7 + 0.001 * i), "std": dict.fromkeys(metrics, 0.02)}
        if i:
            entries[name]["difference"] = {
                m: {"mean": (-1) ** i * 0.0123, "interval": [-0.05, 0.02], "p": p, "p_holm": p} for m in metrics
            }
    return entries


def timeline(words, clip_id="clip", seconds=4):
    places = [(i * seconds / len(words), (i + 1) * seconds / len(words), word) for i, word in enumerate(words)]
    values = {"text": normal(len(words)), "audio": normal(20 * seconds), "vision": normal(10 * seconds)}
    return timelines.Timeline(clip_id, -1.25, places, values, {"audio": 20, "vision": 10})


def comparison(name="x", ratios=(2.0, 2.5, 3.0), **more):
    return {
        "what": name, "unit": "seconds", "reference": {"name": "one way"}, "candidate": {"name": "another way"},
        "ratio": float(np.median(ratios)), "ratio_quartiles": list(np.quantile(ratios, (0.25, 0.75))),
        "pairs": [{"ratio": ratio} for ratio in ratios], **more,
    }  # fmt: skip


def pareto_record(costs, **more):
    return {"metric": "mae", "costs": costs, "front": list(costs)[:2], "knee": None, **more}


def spans(*gates, word="word"):
    return [{"start": 0, "end": 4, "text": word, "gate": value} for value in gates]


def normal(*shape):
    return np.random.default_rng(1).normal(size=shape)


CLASSES = {name: np.arange(10) % 5 == i for i, name in enumerate(NAMES)}
SCORES = SimpleNamespace(num_labels=1, label_range=(-3.0, 3.0))
THREE_CLASSES = SimpleNamespace(num_labels=3, id2label={0: "negative", 1: "neutral", 2: LONG[:40]})
WEIGHTS = {"audio": np.full((14, 375), 1 / 375), "vision": rng.dirichlet(np.ones(60), 14)}
FIGURES = {
    "plot_confusion": [
        lambda: plot_confusion([0, 1, 2, 4] * 999, [1, 1, 2, 4] * 999, NAMES, LONG),
        lambda: plot_confusion([0, 1], [0, 1], ["a", "b"], "Title"),
    ],
    "plot_calibration": [
        lambda: plot_calibration(rng.random(99) < 0.7, rng.random(99), LONG),
        lambda: plot_calibration(rng.random(99) < 0.7, rng.random(99), LONG, before=rng.random(99)),
    ],
    "plot_risk_coverage": [
        lambda: plot_risk_coverage(
            {name: risk_coverage(rng.random(99) < 0.7, rng.random(99)) for name in ("validation", "test")}, LONG, 0.5
        )
    ],
    "plot_scores": [
        lambda: plot_scores(normal(50), normal(50), LONG, (-3, 3)),
        lambda: plot_scores([0.2], [0.2], "one"),
    ],
    "plot_differences": [
        lambda: plot_differences(summary_of("full", "a", LONG, *"bcdefghijklm"), ["mae", "corr"], LONG),
        lambda: plot_differences(summary_of(LONG, "a"), ["mae", "acc2_non0", "corr", "brier"], "Title"),
        lambda: plot_differences(summary_of("x", "y"), ["mae"], "one of each"),
    ],
    "plot_pareto": [
        lambda: plot_pareto(
            pareto_record({"concatenation": 1e4, LONG: 1e7, "full": 1.01e7, "p = 4": 1.02e7, "p = 8": 3e7}, knee=LONG),
            summary_of("concatenation", LONG, "full", "p = 4", "p = 8"), LONG,
        ),
        lambda: plot_pareto(pareto_record({"a": 1e6, "b": 1.5e6}), summary_of("a", "b"), "narrow"),
        lambda: plot_pareto(pareto_record({f"p = {i}": 2.0**i for i in range(20)}),
                            summary_of(*(f"p = {i}" for i in range(20))), "many"),
    ],
    "plot_robustness": [
        lambda: plot_robustness(
            {f"corruption {i} of vision and audio": {"mae": normal(6), "corr": normal(6)} for i in range(25)},
            ["mae", "corr"], LONG,
        )
    ],
    "plot_benchmark": [
        lambda: plot_benchmark([comparison(), comparison(LONG, target=2.7), comparison(ratios=(0.9, 1.0, 1.1))], LONG),
        lambda: plot_benchmark([comparison(ratios=(1800, 2000))], "large"),
        lambda: plot_benchmark([comparison(ratios=(0.98, 0.99))], "narrow"),
    ],
    "plot_gate_histogram": [lambda: gate.plot_gate_histogram(rng.dirichlet(np.ones(41), 10), CLASSES)],
    "plot_gate_words": [
        lambda: gate.plot_gate_words([spans(*rng.random(40)), spans(0.48, 0.49, word="x" * 200), spans(1, word="中文")])
    ],
    "plot_layer_attention": [
        lambda: gate.plot_layer_attention({"a": rng.dirichlet(np.ones(12), 10), "b": np.ones((10, 1))}, CLASSES)
    ],
    "plot_modalities": [lambda: modalities.plot_modalities({"all": rng.random(9), "without text": rng.random(9)}, 0.9)],
    "plot_attention_maps": [
        lambda: modalities.plot_attention_maps([([LONG, *map(str, range(13))], WEIGHTS)] * 2),
    ],
    "plot_contrastive_space": [
        lambda: contrastive.plot_contrastive_space(normal(9), normal(9), normal(5, 2), np.array([0.4, 0.3]),
                                                   np.array([-3.0, -1, 0, 1, 3]), SCORES),
        lambda: contrastive.plot_contrastive_space(normal(9), normal(9), normal(5, 2), np.array([0.4, 0.3]),
                                                   np.array([0, 1, 2, 1, 0]), THREE_CLASSES),
    ],
    "plot_contrastive_training": [lambda: contrastive.plot_contrastive_training([10, 20], normal(2), normal(2))],
    "plot_gradients": [
        lambda: gradients.plot_gradients([10, 20], {"gradient_norm_fine": np.array([2.0, 3.0]),
                                                    "gradient_norm_coarse": np.array([1.0, 2.5]),
                                                    "gradient_cosine_fine_coarse": np.array([0.1, -0.2])}),
    ],
    "plot_timeline": [
        lambda: timelines.plot_timeline(timeline(["The", "room", "was", "cold."])),
        lambda: timelines.plot_timeline(timeline(["and$so$on"] * 200, LONG, 90)),
    ],
    "plot_shares": [
        lambda: attribution.plot_shares(
            {"modality": {"text": 0.09, "audio": 0.91}, "part": {}},
            {"modality": {"text": (0.05, 0.2), "audio": (0.8, 0.95)}, "part": {}},
        )
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "number"), [(name, i) for name, makers in FIGURES.items() for i in range(len(makers))]
)
def test_texts_and_legends_have_room(name, number, tmp_path):
    """No text leaves the canvas or overlaps another one, no legend lies over data, and names are no formulas."""
    figure = FIGURES[name][number]()
    check_texts(figure)
    check_legends(figure)
    assert not any("^" in text for text, _ in visible_texts(figure))
    path = save_figure(figure, tmp_path / "a.png")
    assert matplotlib.image.imread(path)[..., :3].std() > 0.02


def test_every_plot_is_checked():
    modules = [plots, attribution, contrastive, errors, gate, gradients, modalities, timelines]
    named = {name for module in modules for name, _ in inspect.getmembers(module, inspect.isfunction)}
    assert {name for name in named if name.startswith("plot_")} == set(FIGURES)


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_formats(tmp_path, suffix, start):
    path = save_figure(FIGURES["plot_scores"][0](), tmp_path / f"a.{suffix}")
    assert path.read_bytes().startswith(start)
    with pytest.raises(ValueError, match=r"must end in .png, .pdf, .svg, got 'a.bmp'"):
        save_figure(FIGURES["plot_scores"][0](), tmp_path / "a.bmp")


def test_matplotlib_comes_with_the_first_picture():
    modules = (
        "hf_fusion.evaluation.plots, hf_fusion.evaluation.diagnostics.analyze, hf_fusion.evaluation.evaluate_reviews"
    )
    code = f"import sys, {modules}; print({{'matplotlib', 'captum'}} & set(sys.modules))"
    root = str(Path(__file__).parents[2])
    process = run_fresh(code, cwd=root, env={**os.environ, "PYTHONPATH": root})
    assert process.stdout.splitlines()[-1] == "set()"


def test_without_matplotlib(monkeypatch, caplog):
    assert plots.plots_available()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"needs matplotlib, .*: pip install 'hf-fusion\[plots\]'"):
        plot_scores([1], [1], "Title")
    assert not plots.plots_available() and "No pictures. This needs matplotlib" in caplog.text


def test_scripts_that_the_font_lacks(monkeypatch):
    monkeypatch.setattr(plots, "_FALLBACK_FONTS", ("No Such Font", "DejaVu Serif"))
    axes = plot_confusion([0, 1], [0, 1], ["\u4e2d", "b"], "Title").axes[0]
    assert axes.get_xticklabels()[0].get_fontfamily() == ["sans-serif", "DejaVu Serif"]


def test_figures_leave_no_window_open():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    FIGURES["plot_confusion"][0]()
    assert plt.get_fignums() == before


class TestConfusion:
    def test_counts_stand_where_true_rows_and_predicted_columns_meet(self):
        figure = plot_confusion([0, 0, 0, 1], [0, 1, 1, 1], ["a", "b"], "Title")
        axes = figure.axes[0]
        cells = {text.get_position(): text.get_text() for text in axes.texts}  # (column, row)
        assert cells == {(0, 0): "1", (1, 0): "2", (0, 1): "0", (1, 1): "1"}
        np.testing.assert_allclose(axes.images[0].get_array(), [[1 / 3, 2 / 3], [0, 1]])
        assert axes.images[0].get_clim() == (0, 1)
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
        assert figure.axes[1].get_ylabel() == "share of the true class"

    def test_classes_that_never_occur(self):
        axes = plot_confusion([0, 0], [0, 1], ["a", "b", "c", "d"], "Title").axes[0]
        assert axes.images[0].get_array().shape == (4, 4) and not axes.images[0].get_array()[1:].any()


class TestCalibration:
    def test_shares_with_intervals_over_confidence(self):
        top, bottom = plot_calibration([1, 0, 0, 0], [0.95, 0.93, 0.35, 0.31], "Title").axes
        (bars,) = top.containers
        np.testing.assert_allclose(bars[0].get_xydata(), [[0.33, 0], [0.94, 0.5]])
        low, high = np.array(bars[2][0].get_segments()[1])[:, 1]
        assert low == pytest.approx(0.0945, abs=1e-3) and high == pytest.approx(0.9055, abs=1e-3), "Wilson, 1 of 2"
        assert bottom.patches[0].get_data().values.tolist() == [0, 0, 0, 2, 0, 0, 0, 0, 0, 2]
        assert top.get_xlim() == (0, 1)

    def test_before_beside_after(self):
        top, bottom = plot_calibration([1, 0], [0.55, 0.58], "Title", before=[0.95, 0.91]).axes
        before, after = top.containers
        np.testing.assert_allclose([bars[0].get_xydata()[0] for bars in (before, after)], [[0.93, 0.5], [0.565, 0.5]])
        assert "before" in before.get_label() and "(expected calibration error 0.065)" in after.get_label()
        assert [patch.get_data().values.argmax() for patch in bottom.patches] == [9, 5]


def test_risk_by_coverage_with_the_limit():
    curves = {
        "validation": risk_coverage([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.4]), "test": risk_coverage([1, 1], [0.8, 0.5]),
    }  # fmt: skip
    axes = plot_risk_coverage(curves, "Title", 0.6).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0.25, 0], [0.5, 0.5], [0.75, 1 / 3], [1, 0.5]])
    points = [collection.get_offsets()[0].tolist() for collection in axes.collections]
    np.testing.assert_allclose(points, [[0.75, 1 / 3], [0.5, 0]])
    assert "75.0% answered, 66.7% right" in axes.collections[0].get_label()
    assert not plot_risk_coverage(curves, "Title").axes[0].collections


def test_scores_span_the_range_of_labels():
    axes = plot_scores([-1.0, 2.0], [0.5, 1.0], "Title", (-3.0, 3.0)).axes[0]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [[-1, 0.5], [2, 1]])
    assert axes.get_xlim() == axes.get_ylim() and axes.get_xlim()[0] < -3 and axes.get_xlim()[1] > 3
    assert plot_scores([-1.0], [7.0], "Title", (-3.0, 3.0)).axes[0].get_ylim()[1] > 7


@pytest.mark.parametrize(
    ("metric", "mean", "p", "color"),
    [
        ("mae", -0.1, 0.01, BETTER), ("mae", 0.1, 0.01, WORSE), ("acc2_non0", 0.1, 0.01, BETTER),
        ("acc2_non0", -0.1, 0.01, WORSE), ("fine_accuracy", 0.1, 0.2, UNCLEAR), ("mae", -0.1, None, UNCLEAR),
    ],
)  # fmt: skip
def test_the_direction_of_a_metric_decides_the_color(metric, mean, p, color):
    assert difference_color(metric, {"mean": mean, "p_holm": p}) == color
    summary = summary_of("full", "other", metrics=[metric])
    summary["other"]["difference"][metric].update(mean=mean, p_holm=p)
    axes = plot_differences(summary, [metric], "Title").axes[0]
    assert to_hex(axes.collections[0].get_facecolor()[0]) == color
    assert list(axes.lines[1].get_xdata()) == [-0.05, 0.02] and axes.lines[1].get_color() == color
    assert axes.get_xlabel() == ("← better" if metric == "mae" else "better →")


def test_differences_name_their_reference():
    figure = plot_differences(summary_of("full model", "other"), ["mae"], "Title")
    assert "difference to full model" in figure.legends[0].get_title().get_text()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["other"]


class TestPareto:
    COSTS = {"small": 1e3, "middle": 3e5, "large": 4e7}

    def figure(self, metric="mae"):
        record = pareto_record(self.COSTS, front=["small", "large"], knee="large", metric=metric)
        return plot_pareto(record, summary_of(*self.COSTS, metrics=[metric]), "Title")

    def test_better_is_up(self):
        less, more = self.figure().axes[0], self.figure("corr").axes[0]
        assert less.yaxis_inverted() and less.get_ylabel() == "mae (less is better)"
        assert not more.yaxis_inverted() and more.get_ylabel() == "corr (more is better)"

    def test_ticks_are_plain_numbers(self):
        texts = {text for text, _ in visible_texts(self.figure())}
        assert {"1k", "10k", "100k", "1M", "10M"} <= texts

    def test_front_is_filled_and_the_knee_ringed(self):
        axes = self.figure().axes[0]
        hollow = {bars.get_label(): bars[0].get_markerfacecolor() == "white" for bars in axes.containers}
        assert hollow == {"small": False, "middle": True, "large": False}
        assert axes.collections[-1].get_offsets()[0, 0] == 4e7
        assert list(axes.lines[0].get_xdata()) == [1e3, 4e7]


def test_robustness_names_directions_and_corruptions():
    figure = plot_robustness({"typos": {"mae": [1, 2], "corr": [0.9, 0.8]}}, ["mae", "corr"], "Title")
    assert [axes.get_title() for axes in figure.axes] == ["mae (less is better)", "corr (more is better)"]
    assert figure.axes[1].lines[0].get_ydata().tolist() == [0.9, 0.8]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["typos"]


def test_benchmark_ratios():
    figure = plot_benchmark([comparison("work", (1.0, 2.0, 4.0), target=1.5)], "Title")
    axes = figure.axes[0]
    texts = [text for text, _ in visible_texts(figure)]
    assert "work, seconds\none way → another way" in texts and "2.00" in texts
    assert list(axes.lines[1].get_xdata()) == [1.5, 3.0], "quartiles"
    assert [group.get_offsets()[:, 0].tolist() for group in axes.collections] == [[1, 2, 4], [2], [1.5]]
    assert {"1", "2", "5"} & set(texts) and axes.get_xscale() == "log"


class TestGateWords:
    def figure(self, *gates):
        return gate.plot_gate_words([spans(*gates)])

    def colors(self, figure):
        return [text.get_bbox_patch().get_facecolor() for text in figure.axes[0].texts if text.get_bbox_patch()]

    def test_colors_have_a_fixed_meaning(self):
        low, middle, high = self.colors(self.figure(0.0, 0.5, 1.0))
        assert low[2] > low[0] and high[0] > high[2], "blue: encoder B, red: encoder A"
        assert np.ptp(middle[:3]) < 0.02, "neutral"
        bar = self.figure(0.1).axes[1]
        assert bar.get_xlim() == (0, 1) and "0 = encoder B alone" in bar.get_xlabel()

    def test_gates_near_half_look_neutral(self):
        figure = self.figure(0.48, 0.49)
        assert all(np.ptp(color[:3]) < 0.06 for color in self.colors(figure))
        assert "gate from 0.480 to 0.490" in [text for text, _ in visible_texts(figure)]


def test_attention_is_shown_against_equal_attention():
    figure = modalities.plot_attention_maps([(list("abcdefghijklmn"), WEIGHTS)])
    images = [axes.images[0] for axes in figure.axes if axes.images][:2]
    np.testing.assert_allclose(images[0].get_array(), 1)
    assert images[0].norm(1) == 0.5 and images[0].norm(0) == 0, "equal attention is neutral"
    assert figure.axes[-1].get_ylabel() == "attention, times that of equal attention"


def test_scores_of_clips_have_the_colors_of_their_range():
    figure = FIGURES["plot_contrastive_space"][0]()
    points = figure.axes[1].collections[0]
    assert points.get_clim() == (-3, 3) and points.get_array().tolist() == [-3, -1, 0, 1, 3]
    assert figure.axes[1].get_xlabel() == "40% of the variance"


def test_modalities_show_their_references():
    errors = {"all": np.full(9, 0.2), "without text": np.arange(9) / 4}
    axes = modalities.plot_modalities(errors, 0.9).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [pytest.approx(0.2), pytest.approx(1)]
    lines = {line.get_label(): line.get_xdata()[0] for line in axes.lines}
    assert lines["all modalities"] == pytest.approx(0.2) and lines["always the median label"] == 0.9
