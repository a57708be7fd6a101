"""Calibration of class probabilities: its metrics, temperature scaling, and the risk of answers by their coverage."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from hf_fusion.utils.errors import FusionError

# A temperature is a single number, but its error on fewer rows is as large as the correction of usual models.
FEWEST_ROWS = 50
# The accuracy of fewer answers than these is mostly chance.
FEWEST_ANSWERS = 30
BINS = 10

_LARGEST_LOG_TEMPERATURE = 4.0  # the search ends where probabilities are 0 and 1, or all the same


class CalibrationError(FusionError, ValueError):
    """A temperature or a limit of the probability cannot be found on these rows; the message says why."""


def calibration_error(correct: Sequence[bool], confidence: Sequence[float], bins: int = BINS) -> float:
    """Returns the expected calibration error: the mean over answers of |accuracy - mean confidence| of their bin."""
    counts, right, confidences = calibration_bins(correct, confidence, bins)
    return float(np.abs(right - confidences).sum() / counts.sum())


def calibration_bins(correct: Sequence[bool], confidence: Sequence[float], bins: int = BINS) -> list[np.ndarray]:
    """Returns the number of answers, of correct answers, and the sum of confidences of each equal bin of [0, 1]."""
    correct, confidence = np.asarray(correct, dtype=float), np.asarray(confidence, dtype=float)
    index = np.clip((confidence * bins).astype(int), 0, bins - 1)
    return [np.bincount(index, weights=values, minlength=bins) for values in (None, correct, confidence)]


def measure_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """
    Computes the metrics of class probabilities; lower is better for all of them.

    Args:
        probabilities (`np.ndarray` of shape `(rows, classes)`): the probabilities of each row.
        labels (`np.ndarray` of shape `(rows,)`): the true class of each row.

    Returns:
        `dict[str, float]`: `expected_calibration_error` (in [0, 1], over ten equal bins of the best class's
        probability), `brier_score` (mean squared distance to the true class, in [0, 2]) and `negative_log_likelihood`
        (mean, in nats).

    Example:

    ```python
    >>> import numpy as np
    >>> from hf_fusion.evaluation.calibration import measure_probabilities
    >>> metrics = measure_probabilities(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
    >>> round(metrics["brier_score"], 3)
    0.65
    ```
    """
    squares, losses = row_scores(probabilities, labels)
    correct = probabilities.argmax(axis=-1) == labels
    return {
        "expected_calibration_error": calibration_error(correct, probabilities.max(axis=-1)),
        "brier_score": float(squares.mean()),
        "negative_log_likelihood": float(losses.mean()),
    }


def row_scores(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Returns the Brier score and the negative log-likelihood of each row, `(..., rows)`.

    Args:
        probabilities (`np.ndarray` of shape `(..., rows, classes)`): the probabilities.
        labels (`np.ndarray` of shape `(rows,)`): the true classes.
    """
    truth = np.eye(probabilities.shape[-1])[labels]  # (rows, classes)
    squares = ((probabilities - truth) ** 2).sum(axis=-1)
    of_label = (probabilities * truth).sum(axis=-1)
    return squares, -np.log(np.maximum(of_label, np.finfo(np.float64).tiny))  # 0 has no logarithm


def fit_temperature(logits: np.ndarray, labels: np.ndarray, fewest_rows: int = FEWEST_ROWS) -> float:
    """
    Fits the temperature of least negative log-likelihood (Guo et al. 2017).

    Args:
        logits (`np.ndarray` of shape `(rows, classes)`): the logits of rows that the model was not trained on.
        labels (`np.ndarray` of shape `(rows,)`): their classes.
        fewest_rows (`int`, *optional*, defaults to 50): the least number of rows.

    Returns:
        `float`: the temperature by which the logits are to be divided.

    Raises:
        CalibrationError: if there are too few rows, all are of one class, or the best temperature is 0 or infinite: the
            answers are all right, or no better than chance.

    Example:

    ```python
    >>> import numpy as np
    >>> from hf_fusion.evaluation.calibration import fit_temperature
    >>> labels = np.arange(100) % 2
    >>> sure = np.where(np.arange(100) < 80, labels, 1 - labels)  # 80 of 100 answers are right
    >>> round(fit_temperature(5.0 * np.eye(2)[sure], labels), 2)  # their probability was 0.993
    3.61
    ```
    """
    if len(labels) < fewest_rows:
        raise CalibrationError(f"there are {len(labels)} rows with a label, of at least {fewest_rows}")
    if len(np.unique(labels)) < 2:
        raise CalibrationError("all rows are of one class")
    if (np.argmax(logits, axis=-1) == labels).all():
        raise CalibrationError("all answers are right, so that no probability would be too high")
    logits, rows = np.asarray(logits, dtype=np.float64), np.arange(len(labels))

    def loss(log_temperature):
        return -log_softmax(logits / np.exp(log_temperature), axis=-1)[rows, labels].mean()

    ends = (-_LARGEST_LOG_TEMPERATURE, _LARGEST_LOG_TEMPERATURE)
    best = float(minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-6}).x)
    if best > ends[1] - 0.01:
        raise CalibrationError("the answers are no better than chance")
    return float(np.exp(best))


class RiskCoverage(NamedTuple):
    """
    The curve of the answers that are given if those of the lowest probabilities are not.

    Args:
        coverage (`np.ndarray` of shape `(points,)`): the share of rows with an answer, ascending.
        risk (`np.ndarray` of shape `(points,)`): the share of wrong ones among these answers.
        least (`np.ndarray` of shape `(points,)`): the lowest probability among these answers.
    """

    coverage: np.ndarray
    risk: np.ndarray
    least: np.ndarray


def risk_coverage(correct: Sequence[bool], confidence: Sequence[float]) -> RiskCoverage:
    """
    Computes the risk-coverage curve (El-Yaniv & Wiener 2010). Answers of equal probability are given together.

    Args:
        correct (`Sequence[bool]`): whether each answer is correct.
        confidence (`Sequence[float]`): the probability of each answer.
    """
    correct, confidence = np.asarray(correct, dtype=float), np.asarray(confidence, dtype=float)
    order = np.argsort(-confidence, kind="stable")
    confidence = confidence[order]
    counts = np.arange(1, len(order) + 1)
    risk = np.cumsum(1 - correct[order]) / counts
    last = np.append(confidence[1:] < confidence[:-1], True)[: len(order)]  # of each group of equal ones
    return RiskCoverage(counts[last] / max(len(order), 1), risk[last], confidence[last])


def choose_threshold(correct: Sequence[bool], confidence: Sequence[float], target_accuracy: float) -> float:
    """
    Chooses the lowest probability of an answer that keeps an accuracy: of the limits that reach it on these rows the
    one of most answers.

    Args:
        correct (`Sequence[bool]`): whether each answer is correct.
        confidence (`Sequence[float]`): the probability of each answer.
        target_accuracy (`float`): the share of right answers, in (0, 1).

    Returns:
        `float`: the limit, half-way to the next lower probability; 0 if all answers together reach the accuracy.

    Raises:
        CalibrationError: if no 30 answers reach it.
    """
    curve = risk_coverage(correct, confidence)
    reached = (1 - curve.risk >= target_accuracy) & (curve.coverage * len(correct) >= FEWEST_ANSWERS - 0.5)
    if not reached.any():
        raise CalibrationError(
            f"no {FEWEST_ANSWERS} or more of the {len(correct)} answers reach an accuracy of {target_accuracy:g}"
        )
    last = int(np.flatnonzero(reached)[-1])
    if last == len(curve.least) - 1:
        return 0.0
    return float((curve.least[last] + curve.least[last + 1]) / 2)


def measure_coverage(correct: Sequence[bool], confidence: Sequence[float], threshold: float) -> dict[str, float]:
    """
    Measures the answers of at least a probability.

    Args:
        correct (`Sequence[bool]`): whether each answer is correct.
        confidence (`Sequence[float]`): the probability of each answer.
        threshold (`float`): the lowest probability of an answer.

    Returns:
        `dict[str, float]`: `coverage`, the share of rows with an answer, and `answered_accuracy`, the share of right
        ones among these (NaN without any).
    """
    given = np.asarray(confidence) >= threshold
    shares = {"coverage": given, "answered_accuracy": np.asarray(correct)[given]}
    return {name: float(np.mean(part)) if len(part) else float("nan") for name, part in shares.items()}
