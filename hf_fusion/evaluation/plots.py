"""Pictures of results. Each function writes one PNG."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import ConfusionMatrixDisplay


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
    _save(figure, path)


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
    _save(figure, path)


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
    _save(figure, path)


def calibration_error(correct, confidence, bins=10) -> float:
    """Expected calibration error: mean over answers of |share right - mean confidence| of their bin, in [0, 1]."""
    correct, confidence = np.asarray(correct, dtype=float), np.asarray(confidence, dtype=float)
    index = np.clip((confidence * bins).astype(int), 0, bins - 1)
    gaps = np.bincount(index, weights=correct, minlength=bins) - np.bincount(index, weights=confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(correct))


def _counts(expected, predicted, size):
    return np.bincount(np.asarray(expected) * size + np.asarray(predicted), minlength=size * size).reshape(size, size)


def _save(figure, path):
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
