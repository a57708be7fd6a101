"""Pictures of results. Each function writes one PNG."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.text import Text
from sklearn.calibration import calibration_curve
from sklearn.metrics import ConfusionMatrixDisplay

from hf_fusion.evaluation.metrics import lower_is_better


def plot_confusion(path, expected, predicted, names, title) -> None:
    """
    Confusion matrix: counts, coloured by the share of each true class.

    Args:
        path: of the PNG.
        expected, predicted (`Sequence[int]`): class of each row.
        names (`list[str]`): names of the classes.
        title (`str`): what is shown.
    """
    size = 2.5 + 0.9 * len(names)
    figure, axes = plt.subplots(figsize=(size + 1, size))
    classes = range(len(names))
    shares = ConfusionMatrixDisplay.from_predictions(
        expected, predicted, labels=classes, normalize="true", display_labels=names, cmap="Blues", ax=axes,
        include_values=False, im_kw={"vmin": 0, "vmax": 1},
    )  # fmt: skip
    for (row, column), count in np.ndenumerate(_counts(expected, predicted, len(names))):
        color = "white" if shares.confusion_matrix[row, column] > 0.5 else "black"
        axes.text(column, row, f"{count:,}", ha="center", va="center", color=color)
    axes.set(title=title, xlabel="predicted", ylabel="true")
    plt.setp(axes.get_xticklabels(), rotation=30, ha="right")
    save_figure(figure, path)


def plot_calibration(path, correct, confidence, title, bins=10) -> None:
    """
    Reliability diagram: how often answers of a given confidence are right, and how many there are.

    Args:
        path: of the PNG.
        correct (`Sequence[bool]`): whether each answer is right.
        confidence (`Sequence[float]`): the probability given to it, in [0, 1].
        title (`str`): what is shown.
        bins (`int`): equal parts of [0, 1].
    """
    correct, confidence = np.asarray(correct, dtype=float), np.asarray(confidence, dtype=float)
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(5, 6), height_ratios=(3, 1), sharex=True)
    share, mean_confidence = calibration_curve(correct, confidence, n_bins=bins)
    error = calibration_error(correct, confidence, bins)
    top.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfectly calibrated")
    top.plot(mean_confidence, share, marker="o", label=f"model (expected calibration error {error:.3f})")
    top.set(title=title, ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1))
    top.legend(loc="upper left")
    bottom.hist(confidence, bins=bins, range=(0, 1))
    bottom.set(xlabel="confidence", ylabel="answers")
    save_figure(figure, path)


def plot_scores(path, expected, predicted, title) -> None:
    """
    Predicted scores against true ones: each row a point, with the line of perfect answers.

    Args:
        path: of the PNG.
        expected, predicted (`Sequence[float]`): score of each row.
        title (`str`): what is shown.
    """
    expected, predicted = np.asarray(expected), np.asarray(predicted)
    figure, axes = plt.subplots(figsize=(5, 5))
    ends = [min(expected.min(), predicted.min()), max(expected.max(), predicted.max())]
    axes.plot(ends, ends, color="grey", linestyle=":", label="perfect")
    axes.axhline(0, color="lightgrey", linewidth=1)
    axes.axvline(0, color="lightgrey", linewidth=1)
    axes.scatter(expected, predicted, s=12, alpha=0.4, label="row")
    axes.set(title=title, xlabel="true", ylabel="predicted")
    axes.legend(loc="upper left")
    save_figure(figure, path)


def plot_differences(path, summary, metrics, title) -> None:
    """
    Each variant's difference to the first: a point with its interval, one panel for each metric.

    Args:
        path: of the PNG.
        summary (`dict`): what [`summarize`] returns.
        metrics (`list[str]`): the panels; right is better where more is better, and the axis says which.
        title (`str`): what is shown.
    """
    others = [name for name, entry in summary.items() if "difference" in entry]
    figure, panels = plt.subplots(
        1, len(metrics), figsize=(2.5 + 2.6 * len(metrics), 1.6 + 0.32 * len(others)), sharey=True, squeeze=False
    )
    for axes, metric in zip(panels[0], metrics, strict=True):
        axes.axvline(0, color="black", linestyle=":")
        for row, name in enumerate(others):
            difference = summary[name]["difference"][metric]
            p = difference["p_holm"]
            color = "tab:red" if p is not None and p < 0.05 else "tab:blue"
            if difference["interval"]:
                axes.plot(difference["interval"], [row, row], color=color, linewidth=2)
            axes.scatter([difference["mean"]], [row], color=color, s=18, zorder=3)
        direction = "less" if lower_is_better(metric) else "more"
        axes.set(title=metric, xlabel=f"difference ({direction} is better)")
    panels[0][0].set_yticks(range(len(others)), others)
    panels[0][0].set_ylim(len(others) - 0.5, -0.5)
    figure.suptitle(f"{title}; 95 % intervals, red: p < .05 after Holm's correction", fontsize=9)
    save_figure(figure, path)


def plot_pareto(path, record, summary, title) -> None:
    """
    Quality against multiply-adds: each variant a point, the front as a line, its knee circled.

    Args:
        path: of the PNG.
        record (`dict`): what [`pareto`] returns.
        summary (`dict`): what [`summarize`] returns.
        title (`str`): what is shown.
    """
    metric, costs = record["metric"], record["costs"]
    means = {name: summary[name]["mean"][metric] for name in costs}
    figure, axes = plt.subplots(figsize=(7, 4.5))
    axes.plot([costs[n] for n in record["front"]], [means[n] for n in record["front"]], color="tab:blue", alpha=0.5)
    for name, cost in costs.items():
        spread = summary[name]["std"][metric]
        axes.errorbar(cost, means[name], yerr=spread, fmt="o", color="tab:blue" if name in record["front"] else "grey")
        axes.annotate(name, (cost, means[name]), (5, 5), textcoords="offset points", fontsize=8)
    if record["knee"]:
        axes.scatter(costs[record["knee"]], means[record["knee"]], s=250, facecolors="none", edgecolors="tab:red")
    axes.set(title=title, xlabel="multiply-adds of the fusion", ylabel=metric, xscale="log")
    if lower_is_better(metric):
        axes.invert_yaxis()
    save_figure(figure, path)


def plot_robustness(path, curves, metrics, title) -> None:
    """
    Metrics over the severity of damage: one panel for each metric, one line for each kind of damage.

    Args:
        path: of the PNG.
        curves (`dict`): what [`robustness_curves`] returns.
        metrics (`list[str]`): the panels.
        title (`str`): what is shown.
    """
    figure, panels = plt.subplots(1, len(metrics), figsize=(2.2 + 4.2 * len(metrics), 4.5), squeeze=False)
    styles = [(color, line) for line in ("-", "--", ":") for color in plt.get_cmap("tab10").colors]
    for axes, metric in zip(panels[0], metrics, strict=True):
        for (name, found), (color, line) in zip(
            curves.items(), styles * (1 + len(curves) // len(styles)), strict=False
        ):
            axes.plot(found[metric], color=color, linestyle=line, marker=".", label=name)
        axes.set(title=metric, xlabel="severity")
    panels[0][-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path)


def calibration_error(correct, confidence, bins=10) -> float:
    """Expected calibration error: mean over answers of |share right - mean confidence| of their bin, in [0, 1]."""
    correct, confidence = np.asarray(correct, dtype=float), np.asarray(confidence, dtype=float)
    index = np.clip((confidence * bins).astype(int), 0, bins - 1)
    gaps = np.bincount(index, weights=correct, minlength=bins) - np.bincount(index, weights=confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(correct))


def _counts(expected, predicted, size):
    return np.bincount(np.asarray(expected) * size + np.asarray(predicted), minlength=size * size).reshape(size, size)


def save_figure(figure, path) -> None:
    """Writes a PNG and closes the figure."""
    for text in figure.findobj(Text):  # a word or label such as $$ is no formula; the numbers of an axis are
        if "$" in text.get_text() and "mathdefault" not in text.get_text():
            text.set_parse_math(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
