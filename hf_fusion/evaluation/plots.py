"""Pictures of results. Each function returns a matplotlib figure, which [`save_figure`] writes."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import confusion_matrix

from hf_fusion.evaluation.calibration import BINS, RiskCoverage, calibration_bins, calibration_error
from hf_fusion.evaluation.metrics import lower_is_better
from hf_fusion.evaluation.statistics import share_interval
from hf_fusion.utils.extras import import_extra, missing_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

FORMATS = ("png", "pdf", "svg")
# Distinguishable with any colour vision (Okabe and Ito 2008).
BETTER, WORSE, UNCLEAR = "#0072b2", "#d55e00", "#7f7f7f"
_SIGNIFICANT = 0.05
# The most metrics in the figure of a study; its tables hold all of them.
MOST_PANELS = 4
_CHARACTER = 0.085  # width of a character of a title in inches
_LONGEST_NAME = 36  # characters per line of the name of a variant or class
# Without dates the same figure always gives the same file.
_UNDATED = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
_FALLBACK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei",
    "PingFang SC", "Hiragino Sans GB", "Arial Unicode MS",
)  # fmt: skip
_SIZES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def plot_confusion(expected: Sequence[int], predicted: Sequence[int], names: list[str], title: str) -> Figure:
    """
    Plots a confusion matrix: counts, coloured by the share of each true class.

    Args:
        expected, predicted (`Sequence[int]`): the class of each row.
        names (`list[str]`): names of the classes.
        title (`str`): the title of the figure.
    """
    counts = confusion_matrix(expected, predicted, labels=range(len(names)))  # (true, predicted)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    labels = [wrap(name, 16) for name in names]
    size = 2.2 + 0.75 * len(names)
    figure = new_figure(size + 1.2, size, title)
    axes = figure.subplots()
    figure.colorbar(axes.imshow(shares, cmap="Blues", vmin=0, vmax=1), label="share of the true class")
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{count:,}", ha="center", va="center", color=color)
    upright = max(map(len, labels)) > 8
    axes.set_xticks(range(len(names)), labels, fontsize=9, rotation=90 if upright else 0)
    axes.set_yticks(range(len(names)), labels, fontsize=9)
    axes.set(xlabel="predicted", ylabel="true")
    return plain_text(figure)


def plot_calibration(
    correct: Sequence[bool],
    confidence: Sequence[float],
    title: str,
    bins: int = BINS,
    before: Sequence[float] | None = None,
) -> Figure:
    """
    Plots a reliability diagram: accuracy by confidence, with 95 % intervals, and the number of answers.

    Args:
        correct (`Sequence[bool]`): whether each answer is correct.
        confidence (`Sequence[float]`): the probability of each answer, in [0, 1].
        title (`str`): the title of the figure.
        bins (`int`, *optional*, defaults to 10): the number of equal bins of [0, 1].
        before (`Sequence[float]`, *optional*): the probabilities before calibration, which are drawn beside.
    """
    figure = new_figure(5, 6.4, title)
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    top.plot([0, 1], [0, 1], color=UNCLEAR, linestyle=":", label="perfectly calibrated")
    sides = [("model, 95 % intervals", confidence, BETTER)]
    if before is not None:
        sides = [("before, 95 % intervals", before, WORSE), ("after", confidence, BETTER)]
    for name, values, color in sides:
        counts, right, confidences = calibration_bins(correct, values, bins)
        filled = counts > 0
        shares, means = right[filled] / counts[filled], confidences[filled] / counts[filled]
        intervals = np.array([share_interval(r, n) for r, n in zip(right[filled], counts[filled], strict=True)])
        top.errorbar(
            means, shares, np.abs(intervals.T - shares), fmt="o-", color=color, capsize=3,
            label=f"{name} (expected calibration error {calibration_error(correct, values, bins):.3f})",
        )  # fmt: skip
        bottom.stairs(counts, np.linspace(0, 1, bins + 1), fill=True, color=color, alpha=0.6 / len(sides))
    top.set(ylabel="share of right answers", xlim=(0, 1), ylim=(-0.02, 1.02))
    bottom.set(xlabel="confidence", ylabel="answers")
    legend_below(figure, top)
    return plain_text(figure)


def plot_risk_coverage(curves: dict[str, RiskCoverage], title: str, threshold: float | None = None) -> Figure:
    """
    Plots the share of wrong answers against the share of rows with an answer, if the least sure ones are not given.

    Args:
        curves (`dict[str, RiskCoverage]`): the curve of each split, see [`risk_coverage`].
        title (`str`): the title of the figure.
        threshold (`float`, *optional*): the lowest probability of an answer, a point of each curve.
    """
    figure = new_figure(5.4, 4.4, title)
    axes = figure.subplots()
    for (name, curve), color in zip(curves.items(), (UNCLEAR, BETTER, WORSE), strict=False):
        axes.plot(curve.coverage, curve.risk, color=color, label=name)
        given = np.flatnonzero(curve.least >= (threshold or 0.0))
        if threshold and len(given):
            place = curve.coverage[given[-1]], curve.risk[given[-1]]
            label = f"{name}, probability {threshold:.3g} or more: {place[0]:.1%} answered, {1 - place[1]:.1%} right"
            axes.scatter(*place, color=color, zorder=3, label=label)
    axes.set(xlabel="share of rows with an answer", ylabel="share of wrong answers", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    legend_below(figure, axes)
    return plain_text(figure)


def plot_scores(
    expected: Sequence[float], predicted: Sequence[float], title: str, label_range: tuple[float, float] | None = None
) -> Figure:
    """
    Plots predicted against true scores: each row is a point; a line marks perfect predictions.

    Args:
        expected, predicted (`Sequence[float]`): the score of each row.
        title (`str`): the title of the figure.
        label_range (`tuple[float, float]`, *optional*): the lowest and highest possible score. Both axes span it, and
            are extended for scores outside; by default they span the scores.
    """
    expected, predicted = np.asarray(expected, dtype=float), np.asarray(predicted, dtype=float)
    ends = np.array([*(label_range or ()), expected.min(), expected.max(), predicted.min(), predicted.max()])
    margin = 0.04 * (np.ptp(ends) or 1)
    limits = (ends.min() - margin, ends.max() + margin)
    figure = new_figure(5, 5.4, title)
    axes = figure.subplots()
    axes.plot(limits, limits, color=UNCLEAR, linestyle=":", label="perfect answers")
    middle = sum(label_range) / 2 if label_range else 0
    axes.axhline(middle, color="lightgrey", linewidth=1, zorder=0)
    axes.axvline(middle, color="lightgrey", linewidth=1, zorder=0)
    axes.scatter(expected, predicted, s=12, alpha=0.4, color=BETTER, label="rows")
    axes.set(xlabel="true score", ylabel="predicted score", xlim=limits, ylim=limits, aspect="equal")
    legend_below(figure, axes)
    return plain_text(figure)


def plot_differences(summary: dict[str, dict], metrics: list[str], title: str) -> Figure:
    """
    Plots the difference of each variant to the first with its 95 % interval, one panel per metric.

    Blue is significantly better, orange significantly worse, after Holm's correction. [`lower_is_better`] gives the
    direction of each metric.

    Args:
        summary (`dict`): the result of [`summarize`].
        metrics (`list[str]`): the metrics, one per panel.
        title (`str`): the title of the figure.
    """
    reference = next(iter(summary))
    others = [name for name, entry in summary.items() if "difference" in entry]
    labels = [wrap(name, _LONGEST_NAME) for name in others]
    lines = sum(1 + label.count("\n") for label in labels)
    width = 0.4 + 0.08 * max((len(line) for label in labels for line in label.split("\n")), default=0)
    figure = new_figure(width + 2.5 * len(metrics), 2 + 0.3 * lines, title)
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        axes.axvline(0, color="black", linestyle=":")
        for row, name in enumerate(others):
            difference = summary[name]["difference"][metric]
            color = difference_color(metric, difference)
            if difference["interval"]:
                axes.plot(difference["interval"], [row, row], color=color, linewidth=2)
            axes.scatter([difference["mean"]], [row], color=color, s=18, zorder=3)
        axes.set(title=metric, xlabel="← better" if lower_is_better(metric) else "better →")
        axes.xaxis.set_major_locator(_ticks("MaxNLocator")(nbins=4, steps=[1, 2, 5, 10]))
    panels[0].set_yticks(range(len(others)), labels, fontsize=9)
    panels[0].set_ylim(len(others) - 0.5, -0.5)
    lines = {
        f"better (p < {_SIGNIFICANT:g})": BETTER, f"worse (p < {_SIGNIFICANT:g})": WORSE,
        "no significant difference": UNCLEAR,
    }  # fmt: skip
    note = f"difference to {wrap(reference, 60)}; 95 % intervals, p after Holm's correction"
    legend_below(figure, panels[0], lines, note)
    return plain_text(figure)


def difference_color(metric: str, difference: dict[str, Any]) -> str:
    """Returns the colour of a paired difference (`mean`, `p_holm`): better, worse, or not significant."""
    p = difference["p_holm"]
    if p is None or p >= _SIGNIFICANT or not difference["mean"]:
        return UNCLEAR
    return BETTER if (difference["mean"] < 0) == lower_is_better(metric) else WORSE


def plot_pareto(record: dict[str, Any], summary: dict[str, dict], title: str) -> Figure:
    """
    Plots quality against multiply-adds: each variant is a point with its standard deviation; better is upwards. Filled
    points, joined by a line, are on the front; a ring marks its knee.

    Args:
        record (`dict`): the result of [`pareto`].
        summary (`dict`): the result of [`summarize`].
        title (`str`): the title of the figure.
    """
    metric, costs, front = record["metric"], record["costs"], record["front"]
    means = {name: summary[name]["mean"][metric] for name in costs}
    figure = new_figure(8, 4.4, title)
    axes = figure.subplots()
    axes.plot([costs[n] for n in front], [means[n] for n in front], color="lightgrey", zorder=1, label="front")
    colors = import_extra("matplotlib", "plots").colormaps["tab10"].colors
    for i, name in enumerate(sorted(costs, key=costs.get)):
        color = colors[i % len(colors)]
        axes.errorbar(
            costs[name], means[name], summary[name]["std"][metric], color=color, capsize=3, markersize=7,
            fmt="osD^v"[i // len(colors) % 5], markerfacecolor=color if name in front else "white",
            label=wrap(name, _LONGEST_NAME),
        )  # fmt: skip
    if (knee := record["knee"]) is not None:
        axes.scatter(costs[knee], means[knee], s=220, facecolors="none", edgecolors="black", label="knee of the front")
    direction = "less" if lower_is_better(metric) else "more"
    axes.set(xlabel="multiply-adds of the fusion for one clip", ylabel=f"{metric} ({direction} is better)")
    log_scale(axes, "x", costs.values())
    if lower_is_better(metric):
        axes.invert_yaxis()
    note = "bars: standard deviation\nhollow: not on the front"
    figure.legend(loc="outside right center", title=note, fontsize=8, title_fontsize=8, frameon=False)
    return plain_text(figure)


def plot_robustness(curves: dict[str, dict[str, list[float]]], metrics: list[str], title: str) -> Figure:
    """
    Plots metrics by the severity of corruptions: one panel per metric, one line per corruption.

    Args:
        curves (`dict`): the result of [`robustness_curves`].
        metrics (`list[str]`): the metrics, one per panel.
        title (`str`): the title of the figure.
    """
    figure = new_figure(2.6 + 3.6 * len(metrics), max(3.6, 1 + 0.17 * len(curves)), title)
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    colors = import_extra("matplotlib", "plots").colormaps["tab10"].colors
    styles = [(color, line) for line in ("-", "--", ":") for color in colors]
    for axes, metric in zip(panels, metrics, strict=True):
        for i, (name, curve) in enumerate(curves.items()):
            color, line = styles[i % len(styles)]
            axes.plot(curve[metric], color=color, linestyle=line, marker=".", label=wrap(name, _LONGEST_NAME))
        direction = "less" if lower_is_better(metric) else "more"
        axes.set(title=f"{metric} ({direction} is better)", xlabel="severity (0 = clean)")
        axes.title.set_fontsize(10)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    return plain_text(figure)


def plot_benchmark(comparisons: list[dict[str, Any]], title: str) -> Figure:
    """
    Plots one row per comparison: the ratios of all pairs, their median and their quartiles.

    Args:
        comparisons (`list[dict]`): results of [`compare`].
        title (`str`): the title of the figure.
    """
    labels = [
        f"{wrap(c['what'] + ', ' + c['unit'], 52)}\n{wrap(c['reference']['name'] + ' → ' + c['candidate']['name'], 52)}"
        for c in comparisons
    ]
    figure = new_figure(9.5, 1.5 + sum(0.16 + 0.15 * (1 + label.count("\n")) for label in labels), title)
    axes = figure.subplots()
    axes.axvline(1, color="black", linestyle=":")
    for row, comparison in enumerate(comparisons):
        first = row == 0
        ratios = [pair["ratio"] for pair in comparison["pairs"]]
        axes.scatter(ratios, [row] * len(ratios), s=12, color=UNCLEAR, alpha=0.6, label="pairs" if first else None)
        axes.plot(
            comparison["ratio_quartiles"], [row, row], color=BETTER, linewidth=3, label="quartiles" if first else None
        )
        axes.scatter([comparison["ratio"]], [row], color=BETTER, zorder=3, label="median" if first else None)
    targets = [(c["target"], row) for row, c in enumerate(comparisons) if "target" in c]
    if targets:
        axes.scatter(*zip(*targets, strict=True), marker="|", s=200, color=WORSE, zorder=4, label="target")
    axes.set(xlabel="ratio reference / candidate; above 1 the candidate is better")
    log_scale(
        axes, "x", [1, *(r["ratio"] for c in comparisons for r in c["pairs"]), *(target for target, _ in targets)]
    )
    axes.set_yticks(range(len(comparisons)), labels, fontsize=7)
    axes.set_ylim(len(comparisons) - 0.5, -0.5)
    medians = axes.secondary_yaxis("right")
    medians.set_yticks(range(len(comparisons)), [_ratio(c["ratio"]) for c in comparisons], fontsize=8)
    medians.set_ylabel("median", fontsize=8)
    legend_below(figure, axes)
    return plain_text(figure)


def plots_available() -> bool:
    """Whether matplotlib is installed; if not, a warning names the command that installs it."""
    if find_spec("matplotlib"):
        return True
    logger.warning("No pictures. %s", missing_extra("matplotlib", "plots"))
    return False


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """
    Creates an empty figure with constrained layout, without a window, so that it need not be closed.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    figure = import_extra("matplotlib.figure", "plots").Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(wrap(title, int(width / _CHARACTER)), fontsize=11)
    return figure


def plain_text(figure: Figure) -> Figure:
    """
    Makes all texts of a figure literal (`$x$` is not a formula), with an installed font for Chinese; returns the
    figure.
    """
    installed = import_extra("matplotlib.font_manager", "plots").get_font_names()
    fallbacks = [font for font in _FALLBACK_FONTS if font in installed]
    for text in figure.findobj(import_extra("matplotlib.text", "plots").Text):
        text.set_parse_math(False)
        text.set_fontfamily([*text.get_fontfamily(), *fallbacks])
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """
    Writes a figure.

    Args:
        figure (`Figure`): the figure.
        path (`str` or `Path`): the output file; its suffix is the format: `.png`, `.pdf` or `.svg`.

    Returns:
        `Path`: the path.

    Raises:
        ValueError: if the suffix is not a known format.
    """
    path = Path(path)
    if path.suffix[1:] not in FORMATS:
        raise ValueError(f"`path` must end in .{', .'.join(FORMATS)}, got {path.name!r}.")
    figure.savefig(path, dpi=150, metadata=_UNDATED.get(path.suffix))
    return path


def wrap(text: str, width: int) -> str:
    """Wraps a text into lines of at most `width` characters."""
    return "\n".join(textwrap.wrap(" ".join(text.split()), width)) or " "


def _ticks(name):
    return getattr(import_extra("matplotlib.ticker", "plots"), name)


def legend_below(figure: Figure, axes: Axes, lines: dict[str, str] | None = None, note: str | None = None) -> None:
    """Adds a legend outside the panels, for a panel's artists or for `lines` (colours by name), under a `note`."""
    if lines:
        line = import_extra("matplotlib.lines", "plots").Line2D
        handles = [line([], [], color=color, marker="o", markersize=4, label=name) for name, color in lines.items()]
    else:
        handles = axes.get_legend_handles_labels()[0]
    longest = max(len(handle.get_label()) for handle in handles)
    columns = max(1, min(len(handles), int(figure.get_figwidth() / (0.5 + 0.075 * longest))))
    if note:
        note = wrap(note, int(figure.get_figwidth() / 0.075))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=8, title=note, title_fontsize=8,
        frameon=False,
    )  # fmt: skip


def log_scale(axes: Axes, which: str, values: Iterable[float]) -> None:
    """Makes an axis (`"x"` or `"y"`) logarithmic, with plain numbers at its ticks: 0.5, 2, 10k."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    values = [value for value in values if value > 0 and np.isfinite(value)]
    decades = np.log10(max(values) / min(values)) if values else 1
    if decades > 2.3:
        axis.set_major_locator(_ticks("LogLocator")())
    elif decades > 0.7:
        axis.set_major_locator(_ticks("LogLocator")(subs=(1, 2, 5)))
    else:
        axis.set_major_locator(_ticks("MaxNLocator")(nbins=5, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(_ticks("FuncFormatter")(_plain_number))
    axis.set_minor_formatter(_ticks("NullFormatter")())


def _plain_number(value, _=None):
    for size, suffix in _SIZES:
        if value >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"


def _ratio(value):
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"
