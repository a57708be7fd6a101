"""Metrics of sentiment analysis, as `evaluate.Metric` classes that need no network."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import datasets
import evaluate
import numpy as np
from scipy.special import expit, softmax
from scipy.stats import pearsonr
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    hamming_loss,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
)

from hf_fusion.evaluation.calibration import measure_coverage, measure_probabilities
from hf_fusion.models.configuration_common import head_widths, temperature_of
from hf_fusion.models.pipeline_common import LABEL_THRESHOLD
from hf_fusion.utils.errors import RecipeError

logger = logging.getLogger(__name__)

_DESCRIPTION = "Fine and coarse sentiment classes and sentiment intensity of reviews."
_CITATION = ""
_TASKS = {"fine": "int64", "coarse": "int64", "intensity": "float64"}
# The columns of class probabilities, which predictions may have.
_PROBABILITIES = {"fine": "fine_probabilities", "coarse": "coarse_probabilities"}


@dataclass(frozen=True)
class Metric:
    """
    The direction, bounds and format of a metric.

    Args:
        name (`str`): the common suffix of its names: `mae` for `mae`, `intensity_mae` and `eval_intensity_mae`.
        lower_is_better (`bool`): whether lower values are better.
        bounds (`tuple[float, float]`, *optional*, defaults to `(0.0, 1.0)`): the lowest and the highest possible value.
            format (`str`, *optional*, defaults to `".3f"`): the format specification for values in tables and figures.
    """

    name: str
    lower_is_better: bool
    bounds: tuple[float, float] = (0.0, 1.0)
    format: str = ".3f"


_SHARES = (
    "accuracy", "within_one", "coverage", "uar", "recall", "acc2_has0", "acc2_non0", "acc3", "acc5", "acc7",
)  # fmt: skip
# The only definition of the direction in which a metric improves.
METRICS = {
    metric.name: metric
    for metric in (
        *(Metric(name, False, format=".1%") for name in _SHARES),
        *(Metric(name, False) for name in ("f1", "f1_has0", "f1_non0", "average_precision")),
        *(Metric(name, False, (-1.0, 1.0)) for name in ("corr", "quadratic_kappa")),
        Metric("r2", False, (-math.inf, 1.0)),
        *(Metric(name, True, (0.0, math.inf)) for name in ("mae", "mse", "rmse", "nll", "class_error")),
        *(Metric(name, True, (0.0, 2.0)) for name in ("brier", "brier_score")),
        *(Metric(name, True) for name in ("calibration_error", "expected_calibration_error")),
        Metric("negative_log_likelihood", True, (0.0, math.inf)),
        Metric("hamming_loss", True),
        Metric("loss", True, (-math.inf, math.inf)),
    )
}


def find_metric(name: str) -> Metric:
    """
    Returns the metric with a name such as `mae`, `intensity_mae` or `eval_intensity_mae`.

    Raises:
        RecipeError: if the name does not end with one of `METRICS`, so that its direction is unknown.
    """
    words = name.split("_")
    ends = ("_".join(words[start:]) for start in range(len(words)))
    if metric := next((METRICS[end] for end in ends if end in METRICS), None):
        return metric
    raise RecipeError(f"Unknown metric {name!r}: the name of a metric ends with one of {', '.join(METRICS)}.")


def lower_is_better(name: str) -> bool:
    """Whether lower values of a metric are better; raises [`RecipeError`] for an unknown name."""
    return find_metric(name).lower_is_better


def _correlation(predictions: np.ndarray, references: np.ndarray) -> float:
    """Returns the Pearson correlation; NaN if it is undefined (fewer than two values, or a constant)."""
    if len(references) < 2 or np.ptp(predictions) == 0 or np.ptp(references) == 0:
        return math.nan
    return float(pearsonr(predictions, references).statistic)


class ReviewMetrics(evaluate.Metric):
    """
    Metrics of the three tasks of DyFuLM, over the whole data set.

    `compute(predictions=..., references=...)` takes for both sides either columns,
    `{"fine": [...], "coarse": [...], "intensity": [...]}`, or a list of rows with these keys. A task may be absent from
    both sides; a reference of -100 (classes) or NaN (intensity) or `None` leaves the row out of that task. Predictions
    may also have `fine_probabilities` and `coarse_probabilities`, the probabilities of the classes of each row.

    Returns:
        `dict[str, float]` with, for each task present: `fine_accuracy`, `fine_macro_f1`, `coarse_accuracy`,
        `coarse_macro_f1` (shares in [0, 1]; the macro F1 averages over the classes that occur in references or
        predictions), `fine_quadratic_kappa` (Cohen's kappa with quadratic weights; NaN where undefined),
        `fine_within_one` (share of rows at most one class off; absent if the probabilities are of two classes, where
        it is always 1), `fine_class_error` (mean distance in classes), `intensity_mae`, `intensity_mse`, `intensity_r2`
        and `intensity_corr` (Pearson; NaN where undefined). The three of the fine classes take these for numbered in
        their order. Of tasks with probabilities also the metrics of [`measure_probabilities`], such as
        `fine_brier_score`.

    Raises:
        ValueError: if the two sides differ in length or tasks, if a prediction is NaN or Inf, or if a task has no
            reference at all.

    Example:

    ```python
    >>> from hf_fusion.evaluation.metrics import ReviewMetrics
    >>> metrics = ReviewMetrics()
    >>> result = metrics.compute(predictions={"fine": [4, 0, 2]}, references={"fine": [4, 1, 2]})
    >>> round(result["fine_accuracy"], 3)
    0.667
    ```
    """

    def __init__(self, **kwargs):
        super().__init__(keep_in_memory=True, **kwargs)

    def _info(self):
        row = {name: datasets.Value(kind) for name, kind in _TASKS.items()}
        probabilities = {name: datasets.Sequence(datasets.Value("float64")) for name in _PROBABILITIES.values()}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=self.__doc__,
            features=datasets.Features({"predictions": row | probabilities, "references": row}),
        )

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Adds a batch of rows or columns; see the class."""
        names = (*_TASKS, *_PROBABILITIES.values())
        super().add_batch(predictions=_rows(predictions, names), references=_rows(references, _TASKS), **kwargs)

    def _compute(self, predictions, references):
        results: dict[str, float] = {}
        for task in _TASKS:
            predicted, expected = _column(predictions, task), _column(references, task)
            if all(value is None for value in predicted) and all(value is None for value in expected):
                continue
            kept = [i for i, value in enumerate(expected) if not _is_missing(value)]
            if not kept:
                raise ValueError(f"There are predictions for {task!r}, but no references.")
            absent = [i for i in kept if predicted[i] is None or not math.isfinite(predicted[i])]
            if absent:
                raise ValueError(f"Row {absent[0]} has no finite prediction for {task!r}: {predicted[absent[0]]!r}.")
            predicted, expected = np.array([predicted[i] for i in kept]), np.array([expected[i] for i in kept])
            if task == "intensity":
                results |= _intensity(predicted, expected)
                continue
            results |= _classes(task, predicted, expected)
            probabilities = [predictions[i][_PROBABILITIES[task]] for i in kept]
            if all(row is not None for row in probabilities):
                if len(probabilities[0]) < 3:
                    results.pop(f"{task}_within_one", None)
                measured = measure_probabilities(np.array(probabilities), expected)
                results |= {f"{task}_{name}": value for name, value in measured.items()}
        return results


def _classes(task, predicted, expected):
    metrics = {
        f"{task}_accuracy": float(accuracy_score(expected, predicted)),
        f"{task}_macro_f1": float(f1_score(expected, predicted, average="macro", zero_division=0)),
    }
    return {**metrics, **_order(predicted, expected)} if task == "fine" else metrics


def _order(predicted, expected):
    """Computes the metrics of the fine classes that know their order."""
    distances = np.abs(predicted - expected)
    classes = np.arange(max(predicted.max(), expected.max()) + 1)  # a class that never occurs is a step nevertheless
    same = len({*predicted.tolist(), *expected.tolist()}) < 2  # kappa is 0 / 0
    kappa = math.nan if same else cohen_kappa_score(expected, predicted, labels=classes, weights="quadratic")
    return {
        "fine_quadratic_kappa": float(kappa),
        "fine_within_one": float(np.mean(distances <= 1)),
        "fine_class_error": float(distances.mean()),
    }


def _intensity(predicted, expected):
    return {
        "intensity_mae": float(mean_absolute_error(expected, predicted)),
        "intensity_mse": float(mean_squared_error(expected, predicted)),
        "intensity_r2": float(r2_score(expected, predicted)) if len(expected) > 1 else math.nan,
        "intensity_corr": _correlation(predicted, expected),
    }


def _rows(side: Mapping[str, Sequence] | Sequence[Mapping[str, Any]], names) -> list[dict[str, Any]]:
    if not isinstance(side, Mapping):
        return [_row(row, names) for row in side]
    unknown = set(side) - set(names)
    if unknown or not side:
        raise ValueError(f"Expected columns {', '.join(names)}, got {', '.join(map(str, side)) or 'none'}.")
    columns = {name: np.asarray(values).tolist() for name, values in side.items()}
    if len({len(values) for values in columns.values()}) > 1:
        raise ValueError(f"The columns differ in length: { {name: len(values) for name, values in columns.items()} }.")
    return [_row(dict(zip(columns, values, strict=True)), names) for values in zip(*columns.values(), strict=True)]


def _row(row, names):
    unknown = set(row) - set(names)
    if unknown or not row:
        raise ValueError(f"Expected rows with {', '.join(names)}, got {', '.join(map(str, row)) or 'none'}.")
    return {name: row.get(name) for name in names}


def _column(rows, task):
    return [row[task] for row in rows]


def _is_missing(value):
    return value is None or math.isnan(value) or value == -100


class SentimentRegressionMetrics(evaluate.Metric):
    """
    The metrics of multimodal sentiment regression, as the field computes them.

    Args:
        dataset (`str`): "mosi" and "mosei" (labels in [-3, 3]) or "sims" (CH-SIMS, labels in [-1, 1]).

    `compute(predictions=[...], references=[...])` takes one score for each row; a reference of NaN or `None` leaves the
    row out.

    Returns:
        `dict[str, float]`. For MOSI and MOSEI: `acc2_has0`, `f1_has0` (negative against non-negative), `acc2_non0`,
        `f1_non0` (negative against positive; rows with the label 0 are left out), both NaN where all labels are on
        one side, `acc5`,
        `acc7` (clipped to +-2 and +-3, rounded half to even). For CH-SIMS, clipped to +-1: `acc2_has0`, `f1_has0`
        (at most 0 against above 0), `acc3` (bounds -0.1, 0.1), `acc5` (bounds -0.7, -0.1, 0.1, 0.7; each class
        includes its upper bound). For all: `mae` and `corr` (Pearson; NaN where undefined). F1 is weighted by the
        classes' frequency among the labels.

    Raises:
        ValueError: if the two sides differ in length, a prediction is not finite, or there is no reference at all.

    Example:

    ```python
    >>> from hf_fusion.evaluation.metrics import SentimentRegressionMetrics
    >>> metrics = SentimentRegressionMetrics("mosi")
    >>> result = metrics.compute(predictions=[2.4, -1.0, 0.5], references=[2.0, -2.0, -0.2])
    >>> round(result["mae"], 3), round(result["acc2_non0"], 3)
    (0.7, 0.667)
    ```
    """

    def __init__(self, dataset="mosi", **kwargs):
        if dataset not in ("mosi", "mosei", "sims"):
            raise ValueError(f"`dataset` must be 'mosi', 'mosei' or 'sims', got {dataset!r}.")
        self.dataset = dataset
        super().__init__(keep_in_memory=True, **kwargs)

    def _info(self):
        return evaluate.MetricInfo(
            description="Metrics of multimodal sentiment regression (CMU-MOSI, CMU-MOSEI, CH-SIMS).",
            citation=_CITATION,
            inputs_description=self.__doc__,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(self, predictions, references):
        predicted = np.array([math.nan if value is None else value for value in predictions], dtype=np.float64)
        expected = np.array([math.nan if value is None else value for value in references], dtype=np.float64)
        kept = ~np.isnan(expected)
        if not kept.any():
            raise ValueError("There are no references.")
        predicted, expected = predicted[kept], expected[kept]
        if not np.isfinite(predicted).all():
            row = int(np.flatnonzero(kept)[np.flatnonzero(~np.isfinite(predicted))[0]])
            raise ValueError(f"Row {row} has no finite prediction: {predictions[row]!r}.")
        return {
            **_measure_classes(self.dataset, predicted, expected),
            "mae": float(mean_absolute_error(*clip_scores(self.dataset, expected, predicted))),
            "corr": _correlation(*clip_scores(self.dataset, predicted, expected)),
        }


def _measure_classes(dataset, predicted, expected):
    results = {}
    for name, sides in sentiment_classes(dataset, predicted, expected).items():
        guess, true = (side[sides.kept] for side in (sides.predicted, sides.expected))
        if name.startswith("acc"):
            results[name] = float(np.mean(guess == true))
        elif len(np.unique(true)) < 2:  # a constant prediction would be perfect
            results |= {f"acc2_{name}": math.nan, f"f1_{name}": math.nan}
        else:
            results[f"acc2_{name}"] = float(accuracy_score(true, guess))
            results[f"f1_{name}"] = float(f1_score(true, guess, average="weighted", zero_division=0))
    return results


class SentimentClasses(NamedTuple):
    """
    The classes of predicted and true sentiment scores for one metric.

    Args:
        predicted (`np.ndarray`): the predicted classes, of the shape of the predicted scores.
        expected (`np.ndarray`): the true classes `(rows,)`.
        kept (`np.ndarray`): the rows `(rows,)` that count.
    """

    predicted: np.ndarray
    expected: np.ndarray
    kept: np.ndarray


def clip_scores(dataset: str, *scores: np.ndarray) -> tuple[np.ndarray, ...]:
    """Clips sentiment scores to the range in which a data set measures errors: for CH-SIMS +-1, else any."""
    return tuple(np.clip(one, -1, 1) for one in scores) if dataset == "sims" else scores


def sentiment_classes(dataset: str, predicted: np.ndarray, expected: np.ndarray) -> dict[str, SentimentClasses]:
    """
    Returns the classes of sentiment scores by which [`SentimentRegressionMetrics`] measures.

    Args:
        dataset (`str`): "mosi", "mosei" or "sims".
        predicted (`np.ndarray`): predicted scores `(..., rows)`.
        expected (`np.ndarray`): true scores `(rows,)`.

    Returns:
        `dict[str, SentimentClasses]`: `has0` and, except for CH-SIMS, `non0` (two classes each), and the classes of the
        accuracies `acc3`, `acc5`, `acc7`.
    """
    every = np.ones(expected.shape, bool)
    classes = {}
    if dataset == "sims":
        # Labels are float32: a label written as 0.1 must not lie above the bound 0.1.
        predicted, expected = (side.astype(np.float32) for side in clip_scores(dataset, predicted, expected))
        classes["has0"] = SentimentClasses(predicted > 0, expected > 0, every)
        for count, bounds in ((3, (-0.1, 0.1)), (5, (-0.7, -0.1, 0.1, 0.7))):
            sides = [np.searchsorted(np.float32(bounds), side, side="left") for side in (predicted, expected)]
            classes[f"acc{count}"] = SentimentClasses(*sides, every)
        return classes
    classes["has0"] = SentimentClasses(predicted >= 0, expected >= 0, every)
    classes["non0"] = SentimentClasses(predicted > 0, expected > 0, expected != 0)
    for count, limit in ((5, 2), (7, 3)):
        sides = [np.round(np.clip(side, -limit, limit)) for side in (predicted, expected)]
        classes[f"acc{count}"] = SentimentClasses(*sides, every)
    return classes


def select_sentiment_metrics(label_range) -> SentimentRegressionMetrics:
    """Returns the metrics for a label range: those of CH-SIMS for (-1, 1), otherwise those of MOSI."""
    return SentimentRegressionMetrics("sims" if tuple(label_range) == (-1, 1) else "mosi")


def compute_metrics(config, predictions, label_ids, label_names) -> dict[str, float]:
    """
    Computes the metrics of the predictions that a `Trainer` gathered.

    Args:
        config ([`DyFuLMConfig`] or [`DashFusionConfig`]): the configuration of the model.
        predictions: the outputs of the model: logits, coarse logits and intensity for DyFuLM; logits for DashFusion.
        label_ids (`Sequence[np.ndarray]`): one array for each of `label_names`.
        label_names (`Sequence[str]`): the names of the labels.
    """
    if "prediction" not in [head.task for head in config.heads.values()]:
        return compute_review_metrics(config, predictions, label_ids, label_names)
    logits = predictions[0] if isinstance(predictions, (tuple, list)) else predictions
    (labels,) = label_ids
    if config.num_labels == 1:
        return select_sentiment_metrics(config.label_range).compute(
            predictions=logits.reshape(-1), references=labels.reshape(-1)
        )
    names = list(config.id2label.values())
    if labels.ndim == 2:
        kept = ~np.isnan(labels).any(-1)
        return label_set_metrics(expit(logits[kept]), labels[kept], names)
    kept = labels != -100
    return class_metrics(logits.argmax(-1)[kept], labels[kept], names)


def metric_names(config, label_names) -> list[str]:
    """Returns the names of the metrics that [`compute_metrics`] computes for a configuration and labels."""
    predictions = tuple(np.zeros((2, *width)) for width in head_widths(config).values())
    labels = np.arange(2.0)
    if config.problem_type == "multi_label_classification":
        labels = np.repeat(labels[:, None], config.num_labels, axis=1)
    return list(compute_metrics(config, predictions, [labels] * len(label_names), label_names))


def class_metrics(predicted: Sequence[int], expected: Sequence[int], names: list[str]) -> dict[str, float]:
    """
    Computes the metrics of classes.

    Args:
        predicted, expected (`Sequence[int]`): the class of each row.
        names (`list[str]`): the names of the classes.

    Returns:
        `dict[str, float]`: `accuracy`, `uar` (unweighted average recall, also called balanced accuracy: the mean of the
        recalls of the classes that occur), `macro_f1`, and the recall of each class as `NAME_recall` (NaN for a class
        that does not occur). The first three are NaN if all rows are of one class.

    Example:

    ```python
    >>> from hf_fusion.evaluation.metrics import class_metrics
    >>> metrics = class_metrics([0, 0, 1], [0, 0, 0], ["calm", "angry"])
    >>> metrics["calm_recall"]
    0.6666666666666666
    ```
    """
    predicted, expected = np.asarray(predicted, dtype=int), np.asarray(expected, dtype=int)
    rights = [predicted[expected == i] == i for i in range(len(names))]
    recalls = [float(right.mean()) if len(right) else math.nan for right in rights]
    metrics = {
        "accuracy": float(accuracy_score(expected, predicted)),
        "uar": float(np.nanmean(recalls)),
        "macro_f1": float(f1_score(expected, predicted, average="macro", zero_division=0)),
    }
    metrics = mask_single_class(metrics, {"": expected.tolist()})
    return {**metrics, **{f"{name}_recall": recall for name, recall in zip(names, recalls, strict=True)}}


def label_set_metrics(
    probabilities: np.ndarray, expected: np.ndarray, names: list[str], threshold: float = LABEL_THRESHOLD
) -> dict[str, float]:
    """
    Computes the metrics of several labels for each row.

    Args:
        probabilities (`np.ndarray` of shape `(rows, labels)`): the probability of each label.
        expected (`np.ndarray` of the same shape): 1 where a label applies, 0 elsewhere.
        names (`list[str]`): the names of the labels.
        threshold (`float`, *optional*, defaults to 0.5): a label is predicted at this probability or above.

    Returns:
        `dict[str, float]`: `subset_accuracy` (share of rows with all labels right), `hamming_loss` (share of wrong
        answers; lower is better), `micro_f1` (over all answers); and for each label `NAME_f1`,
        `NAME_average_precision`, and as CMU-MOSEI's emotions are measured `NAME_weighted_accuracy` (mean of the recalls
        of the rows with and without it) and `NAME_weighted_f1` (mean of the F1 of both, weighted by their rows). These
        four are NaN where no row, or every row, has the label; `macro_f1`, `macro_average_precision`,
        `weighted_accuracy` and `weighted_f1` are their means over the other labels.

    Example:

    ```python
    >>> import numpy as np
    >>> from hf_fusion.evaluation.metrics import label_set_metrics
    >>> expected = np.array([[1, 0], [1, 1], [0, 0]])
    >>> metrics = label_set_metrics(np.array([[0.9, 0.2], [0.7, 0.4], [0.1, 0.3]]), expected, ["happy", "sad"])
    >>> metrics["subset_accuracy"], metrics["happy_f1"]
    (0.6666666666666666, 1.0)
    ```
    """
    expected = np.asarray(expected).astype(int)
    predicted = (np.asarray(probabilities) >= threshold).astype(int)
    by_name = {
        name: _label_metrics(*columns)
        for name, *columns in zip(names, predicted.T, np.asarray(probabilities).T, expected.T, strict=True)
    }
    means = {metric: [metrics[metric] for metrics in by_name.values()] for metric in _LABEL_METRICS}
    means = {metric: float(np.nanmean(values)) if not np.isnan(values).all() else math.nan
             for metric, values in means.items()}  # fmt: skip
    return {
        "subset_accuracy": float(accuracy_score(expected, predicted)),
        "hamming_loss": float(hamming_loss(expected, predicted)),
        "micro_f1": float(f1_score(expected, predicted, average="micro", zero_division=0)),
        "macro_f1": means["f1"],
        "macro_average_precision": means["average_precision"],
        "weighted_accuracy": means["weighted_accuracy"],
        "weighted_f1": means["weighted_f1"],
        **{f"{name}_{metric}": metrics[metric] for metric in _LABEL_METRICS for name, metrics in by_name.items()},
    }


_LABEL_METRICS = ("f1", "average_precision", "weighted_accuracy", "weighted_f1")


def _label_metrics(predicted, probabilities, expected):
    """Computes the metrics of one label; NaN if all rows agree, where a constant prediction would be perfect."""
    if len(np.unique(expected)) < 2:
        return dict.fromkeys(_LABEL_METRICS, math.nan)
    return {
        "f1": float(f1_score(expected, predicted, zero_division=0)),
        "average_precision": float(average_precision_score(expected, probabilities)),
        "weighted_accuracy": float(balanced_accuracy_score(expected, predicted)),
        "weighted_f1": float(f1_score(expected, predicted, average="weighted", zero_division=0)),
    }


# Metrics of classes that are undefined where all references are of one class.
_OF_SEVERAL_CLASSES = ("accuracy", "uar", "macro_f1", "quadratic_kappa", "within_one", "class_error")


def mask_single_class(metrics: dict[str, float], references: dict[str, Sequence]) -> dict[str, float]:
    """
    Replaces accuracy, UAR, F1 and the metrics of order by NaN, with a warning, if all references are of one class: a
    constant prediction would be perfect.

    Args:
        metrics (`dict[str, float]`): the result of [`ReviewMetrics`], or accuracy, UAR and macro F1 of a single task.
        references (`dict[str, Sequence]`): the classes by task ("fine", "coarse", or "" for a single one), with missing
        ones.
    """
    single = [task for task, values in references.items() if len({v for v in values if not _is_missing(v)}) < 2]
    for task in single:
        start = f"{task}_" if task else ""
        undefined = {name: math.nan for name in (f"{start}{end}" for end in _OF_SEVERAL_CLASSES) if name in metrics}
        if undefined:
            logger.warning("%s: undefined, all references are of one class.", ", ".join(undefined))
        metrics = {**metrics, **undefined}
    return metrics


def class_probabilities(config, output: str, logits: np.ndarray) -> np.ndarray:
    """Returns the probabilities `(..., classes)` that answers have, of the logits of an output of a model."""
    return softmax(logits.astype(np.float64) / temperature_of(config, output), axis=-1)


def compute_review_metrics(config, predictions, label_ids, label_names) -> dict[str, float]:
    """
    Computes [`ReviewMetrics`] of the predictions that a `Trainer` gathered.

    Args:
        config ([`DyFuLMConfig`]): the configuration of the model, or its fields for answers: heads, temperatures and
            `abstain_below`.
        predictions: the logits `(rows, classes)` or intensities `(rows,)` of each head; not in a tuple if it is one.
        label_ids (`Sequence[np.ndarray]`): one array `(rows,)` for each of `label_names`.
        label_names (`Sequence[str]`): any of `labels`, `coarse_labels`, `intensity_labels`.

    Returns:
        `dict[str, float]`: the metrics; accuracy and F1 of a task with a single class in the references are NaN. With
        `abstain_below` also `fine_coverage` and `fine_answered_accuracy`, see [`measure_coverage`].
    """
    predictions = predictions if isinstance(predictions, (tuple, list)) else (predictions,)
    predicted = {}
    for (output, head), values in zip(config.heads.items(), predictions, strict=False):
        predicted[head.task] = values.argmax(-1) if head.names else values
        if head.names:
            predicted[_PROBABILITIES[head.task]] = class_probabilities(config, output, values)
    task_of = {"labels": "fine", "coarse_labels": "coarse", "intensity_labels": "intensity"}
    expected = {task_of[name]: values for name, values in zip(label_names, label_ids, strict=True)}
    expected = {task: values for task, values in expected.items() if not all(map(_is_missing, values.tolist()))}
    columns = [name for task in expected for name in (task, _PROBABILITIES.get(task)) if name in predicted]
    metrics = ReviewMetrics().compute(predictions={name: predicted[name] for name in columns}, references=expected)
    if "fine" in expected and getattr(config, "abstain_below", None):
        kept = expected["fine"] != -100
        correct, confidence = predicted["fine"] == expected["fine"], predicted["fine_probabilities"].max(-1)
        coverage = measure_coverage(correct[kept], confidence[kept], config.abstain_below)
        metrics |= {f"fine_{name}": value for name, value in coverage.items()}
    return mask_single_class(metrics, {task: expected[task] for task in ("fine", "coarse") if task in expected})
