"""The field's metrics, as `evaluate.Metric` classes that need no network."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, mean_squared_error, r2_score

_DESCRIPTION = "Fine and coarse sentiment classes and sentiment intensity of reviews."
_CITATION = ""
_TASKS = {"fine": "int64", "coarse": "int64", "intensity": "float64"}


def _correlation(predictions: np.ndarray, references: np.ndarray) -> float:
    """Pearson correlation; NaN where it is undefined (fewer than two values, or a constant)."""
    if len(references) < 2 or np.ptp(predictions) == 0 or np.ptp(references) == 0:
        return math.nan
    return float(pearsonr(predictions, references).statistic)


class ReviewMetrics(evaluate.Metric):
    """
    Metrics of the three tasks of DyFuLM, over the whole data set.

    `compute(predictions=..., references=...)` takes for both sides either columns,
    `{"fine": [...], "coarse": [...], "intensity": [...]}`, or a list of rows with these keys. A task may be absent from
    both sides; a reference of -100 (classes) or NaN (intensity) or `None` leaves the row out of that task.

    Returns:
        `dict[str, float]` with, for each task present: `fine_accuracy`, `fine_macro_f1`, `coarse_accuracy`,
        `coarse_macro_f1` (shares in [0, 1]; the macro F1 averages over the classes that occur in references or
        predictions), `intensity_mae`, `intensity_mse`, `intensity_r2` and `intensity_corr` (Pearson; NaN where
        undefined).

    Raises:
        ValueError: if the two sides differ in length or tasks, if a prediction is NaN or Inf, or if a task has no
            reference at all.
    """

    def __init__(self, **kwargs):
        super().__init__(keep_in_memory=True, **kwargs)

    def _info(self):
        row = {name: datasets.Value(kind) for name, kind in _TASKS.items()}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=self.__doc__,
            features=datasets.Features({"predictions": row, "references": row}),
        )

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Adds a batch of rows or columns; see the class."""
        super().add_batch(predictions=_rows(predictions), references=_rows(references), **kwargs)

    def _compute(self, predictions, references):
        results: dict[str, float] = {}
        for task in _TASKS:
            predicted, expected = _column(predictions, task), _column(references, task)
            if all(value is None for value in predicted) and all(value is None for value in expected):
                continue
            kept = [i for i, value in enumerate(expected) if not _is_missing(value)]
            if not kept:
                raise ValueError(f"There are predictions for {task!r}, but not one reference.")
            absent = [i for i in kept if predicted[i] is None or not math.isfinite(predicted[i])]
            if absent:
                raise ValueError(f"Row {absent[0]} has no finite prediction for {task!r}: {predicted[absent[0]]!r}.")
            predicted, expected = np.array([predicted[i] for i in kept]), np.array([expected[i] for i in kept])
            results.update(
                _intensity(predicted, expected) if task == "intensity" else _classes(task, predicted, expected)
            )
        return results


def _classes(task, predicted, expected):
    return {
        f"{task}_accuracy": float(accuracy_score(expected, predicted)),
        f"{task}_macro_f1": float(f1_score(expected, predicted, average="macro", zero_division=0)),
    }


def _intensity(predicted, expected):
    return {
        "intensity_mae": float(mean_absolute_error(expected, predicted)),
        "intensity_mse": float(mean_squared_error(expected, predicted)),
        "intensity_r2": float(r2_score(expected, predicted)) if len(expected) > 1 else math.nan,
        "intensity_corr": _correlation(predicted, expected),
    }


def _rows(side: Mapping[str, Sequence] | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(side, Mapping):
        return [_row(row) for row in side]
    unknown = set(side) - set(_TASKS)
    if unknown or not side:
        raise ValueError(f"Expected columns {', '.join(_TASKS)}, got {', '.join(map(str, side)) or 'none'}.")
    columns = {name: np.asarray(values).tolist() for name, values in side.items()}
    if len({len(values) for values in columns.values()}) > 1:
        raise ValueError(f"The columns differ in length: { {name: len(values) for name, values in columns.items()} }.")
    return [_row(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def _row(row):
    unknown = set(row) - set(_TASKS)
    if unknown or not row:
        raise ValueError(f"Expected rows with {', '.join(_TASKS)}, got {', '.join(map(str, row)) or 'none'}.")
    return {name: row.get(name) for name in _TASKS}


def _column(rows, task):
    return [row[task] for row in rows]


def _is_missing(value):
    return value is None or math.isnan(value) or value == -100


def review_metrics_of(predictions, label_ids, label_names) -> dict[str, float]:
    """
    [`ReviewMetrics`] of what a `Trainer` gathered.

    Args:
        predictions: logits `(rows, classes)`, coarse logits `(rows, classes)` and intensity `(rows,)`, in this order.
        label_ids: one array `(rows,)` for each of `label_names`.
        label_names: some of `labels`, `coarse_labels`, `intensity_labels`.
    """
    logits, coarse_logits, intensity = predictions[:3]
    predicted = {"fine": logits.argmax(-1), "coarse": coarse_logits.argmax(-1), "intensity": intensity}
    task_of = {"labels": "fine", "coarse_labels": "coarse", "intensity_labels": "intensity"}
    expected = {task_of[name]: values for name, values in zip(label_names, label_ids, strict=True)}
    expected = {task: values for task, values in expected.items() if not all(map(_is_missing, values.tolist()))}
    return ReviewMetrics().compute(predictions={task: predicted[task] for task in expected}, references=expected)
