"""
Metrics of resampled test rows, for intervals over seeds and rows. Each metric is a function of sums over rows, so that
thousands of resamples are one product of matrices.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from hf_fusion.evaluation.calibration import row_scores
from hf_fusion.evaluation.metrics import (
    class_probabilities,
    clip_scores,
    select_sentiment_metrics,
    sentiment_classes,
)
from hf_fusion.evaluation.statistics import REPLICATES, number_clusters, resample_rows, sum_by_unit
from hf_fusion.models.pipeline_common import LABEL_THRESHOLD

_LABELS_OF_TASKS = {"fine": "labels", "coarse": "coarse_labels", "intensity": "intensity_labels"}


class _Sums(NamedTuple):
    """
    Metrics that are functions of sums over rows.

    Args:
        features (`np.ndarray` of shape `(rows, seeds, features)`): the numbers to sum.
        combine (`Callable`): takes the sums `(..., features)`, returns the metrics `(...)` by name.
    """

    features: np.ndarray
    combine: Callable[[np.ndarray], dict[str, np.ndarray]]


def resample_metrics(
    config: Any,
    outputs: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    clusters: Sequence[Hashable] | None = None,
    replicates: int = REPLICATES,
) -> dict[str, np.ndarray]:
    """
    Computes metrics on the test rows and on resamples of them.

    Args:
        config ([`DyFuLMConfig`] or [`DashFusionConfig`]): the configuration of the model, or its fields for answers.
        outputs (`dict[str, np.ndarray]`): the outputs of each head under every seed, `(seeds, rows, classes)` or
            `(seeds, rows)`, for the same rows in the same order.
        labels (`dict[str, np.ndarray]`): the labels `(rows,)` or `(rows, labels)` by column, as the model sees them.
        clusters (`Sequence`, *optional*): the cluster of each row, such as its speaker; see
            [`hierarchical_difference`].
        replicates (`int`, *optional*, defaults to 2000): the number of resamples.

    Returns:
        `dict[str, np.ndarray]`: by metric the table `(1 + replicates, seeds)` for [`hierarchical_estimate`]; its first
        row holds the metrics of [`compute_metrics`]. NaN where a metric is undefined. Metrics that are no functions of
        sums (average precision, calibration error, the accuracy of the answers of an `abstain_below`) are left out.

    Example:

    ```python
    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> from hf_fusion.evaluation.resampled_metrics import resample_metrics
    >>> from hf_fusion.models.configuration_common import Head
    >>> fields = {"heads": {"logits": Head("prediction")}, "num_labels": 1, "id2label": {}, "label_range": (-3, 3)}
    >>> config = SimpleNamespace(**fields)
    >>> scores = np.array([[[2.0], [-1.0], [0.5]], [[2.5], [0.5], [0.5]]])  # two seeds, three rows
    >>> tables = resample_metrics(config, {"logits": scores}, {"labels": np.array([2.0, -2.0, 1.0])})
    >>> tables["mae"].shape, tables["mae"][0].tolist()
    ((2001, 2), [0.5, 1.1666666666666667])
    ```
    """
    parts = _find_sums(config, outputs, labels)
    unit_of_row = number_clusters(clusters, len(parts[0].features))
    sums = [sum_by_unit(part.features, unit_of_row) for part in parts]  # (units, seeds, features)
    names: list[str] = []

    def measure(counts):
        metrics: dict[str, np.ndarray] = {}
        with np.errstate(divide="ignore", invalid="ignore"):  # undefined metrics are NaN
            for part, features in zip(parts, sums, strict=True):
                resampled = counts @ features.reshape(len(features), -1)
                metrics |= part.combine(resampled.reshape(len(counts), *features.shape[1:]))
        names[:] = metrics
        return np.stack(list(metrics.values()), axis=-1)

    table = resample_rows(measure, len(sums[0]), replicates)
    return {name: table[..., i] for i, name in enumerate(names)}


def _find_sums(config, outputs, labels):
    if "prediction" not in [head.task for head in config.heads.values()]:
        return list(_review_sums(config, outputs, labels))
    logits, expected = outputs["logits"], labels["labels"]
    names = list(config.id2label.values())
    if config.num_labels == 1:
        dataset = select_sentiment_metrics(config.label_range).dataset
        return _sentiment_sums(dataset, _as_numbers(logits, 2), _as_numbers(expected, 1))
    if expected.ndim == 2:
        return [_label_set_sums(expit(logits) >= LABEL_THRESHOLD, expected, names)]
    return [_class_sums(logits.argmax(-1), expected, len(names), lambda counts: _class_metrics(counts, names))]


def _as_numbers(values, axes):
    """Returns numbers with `axes` axes, the last one of rows, as float64; a head with one number may add an axis."""
    return values.reshape(values.shape[:axes]).astype(np.float64)


def _review_sums(config, outputs, labels):
    """Yields the sums of each task that has labels."""
    for output, head in config.heads.items():
        expected = labels.get(_LABELS_OF_TASKS[head.task])
        if expected is None or not _is_known(expected).any():
            continue
        if head.names is None:
            yield _score_sums(_as_numbers(outputs[output], 2), _as_numbers(expected, 1), head.task)
            continue

        def name_metrics(counts, task=head.task):
            metrics = _class_metrics(counts, ())
            return {f"{task}_{name}": metrics[name] for name in ("accuracy", "macro_f1")}

        num_classes, known = len(getattr(config, head.names)), _is_known(expected)
        predicted = outputs[output].argmax(-1)  # (seeds, rows)
        yield _class_sums(predicted, expected, num_classes, name_metrics)
        if head.task == "fine":
            yield _order_sums(predicted, expected, num_classes)
        probabilities = class_probabilities(config, output, outputs[output])  # (seeds, rows, classes)
        scores = row_scores(probabilities, np.where(known, expected, 0))
        for name, values in zip(("brier_score", "negative_log_likelihood"), scores, strict=True):
            yield _mean_sums(f"{head.task}_{name}", np.where(known, values, 0.0).T[..., None], known)


def _is_known(labels):
    """Returns which labels `(rows,)` are given: -100 and NaN mark missing ones."""
    return (labels != -100) & ~np.isnan(labels)


class _Counts(NamedTuple):
    """The numbers of right, predicted and true rows of each class, `(..., classes)`."""

    right: np.ndarray
    predicted: np.ndarray
    expected: np.ndarray

    @property
    def f1(self):
        """The F1 of each class; NaN for a class that is neither predicted nor true."""
        return 2 * self.right / (self.predicted + self.expected)

    @property
    def weighted_f1(self):
        """The mean of the F1 of the classes, weighted by their true rows."""
        return np.nansum(self.f1 * self.expected, axis=-1) / self.expected.sum(-1)

    @property
    def accuracy(self):
        return self.right.sum(-1) / self.expected.sum(-1)

    @property
    def recalls(self):
        """The recall of each class; NaN for a class without true rows."""
        return self.right / self.expected

    def where_several(self, values):
        """Returns `values`, NaN where all true rows are of one class."""
        return np.where((self.expected > 0).sum(-1) > 1, values, np.nan)


def _class_sums(predicted, expected, num_classes, measure, kept=None):
    """Returns the sums of classes `(seeds, rows)` and true ones `(rows,)`; `measure` takes their [`_Counts`]."""
    kept = _is_known(expected) if kept is None else kept
    classes = np.arange(num_classes)
    true = (expected[:, None] == classes) & kept[:, None]  # (rows, classes)
    guess = (predicted.T[..., None] == classes) & kept[:, None, None]  # (rows, seeds, classes)
    true = np.broadcast_to(true[:, None], guess.shape)
    features = np.concatenate([guess & true, guess, true], axis=-1).astype(np.float64)
    return _Sums(features, lambda sums: measure(_Counts(*np.split(sums, 3, axis=-1))))


def _order_sums(predicted, expected, num_classes):
    """Returns the sums of the metrics of order for classes `(seeds, rows)` and true ones `(rows,)`."""
    known = _is_known(expected)
    guess, true = (np.where(known, values, 0).astype(np.float64) for values in (predicted, expected))
    guess, true = guess.T, np.broadcast_to(true[:, None], guess.T.shape)  # (rows, seeds)
    distances = np.abs(guess - true)
    kept = np.broadcast_to(known[:, None], guess.shape)
    columns = (kept, kept & (distances <= 1), distances, distances**2, guess, true, guess**2 + true**2, true**2)

    def combine(sums):
        count, near, distance, square, sum_guess, sum_true, squares, true_squares = np.moveaxis(sums, -1, 0)
        several = count * true_squares - sum_true**2 > 0.5  # whole numbers: the rows' true classes differ
        by_chance = squares - 2 * sum_guess * sum_true / count  # sum of squares if guesses were drawn apart
        metrics = {
            "quadratic_kappa": 1 - square / by_chance, "within_one": near / count, "class_error": distance / count
        }  # fmt: skip
        if num_classes < 3:  # it would always be 1
            del metrics["within_one"]
        return {f"fine_{name}": np.where(several, values, np.nan) for name, values in metrics.items()}

    return _Sums(np.stack(columns, axis=-1).astype(np.float64), combine)


def _class_metrics(counts, names):
    """Returns the metrics of [`class_metrics`]."""
    metrics = {
        "accuracy": counts.accuracy,
        "uar": _nanmean(counts.recalls),
        "macro_f1": _nanmean(counts.f1),
    }
    metrics = {name: counts.where_several(values) for name, values in metrics.items()}
    return metrics | {f"{name}_recall": counts.recalls[..., i] for i, name in enumerate(names)}


def _nanmean(values):
    """Returns the mean of the last axis without NaN; NaN if there is nothing else."""
    return np.nansum(values, axis=-1) / (~np.isnan(values)).sum(-1)


def _sentiment_sums(dataset, predicted, expected):
    """Returns the sums of [`SentimentRegressionMetrics`] for scores `(seeds, rows)` and true ones `(rows,)`."""
    known = _is_known(expected)
    parts = []
    for name, (guess, true, kept) in sentiment_classes(dataset, predicted, expected).items():
        if name.startswith("acc"):
            right = ((guess == true) & kept & known).T[..., None]
            parts.append(_mean_sums(name, right, kept & known))
        else:
            parts.append(_class_sums(guess, true, 2, partial(_two_class_metrics, name), kept & known))
    clipped = clip_scores(dataset, predicted, expected)
    return [*parts, _score_sums(*clipped, task="", names=("mae", "corr"))]


def _two_class_metrics(name, counts):
    return {
        f"acc2_{name}": counts.where_several(counts.accuracy),
        f"f1_{name}": counts.where_several(counts.weighted_f1),
    }


def _mean_sums(name, values, kept):
    """Returns the sums of a mean over the kept rows of `values` `(rows, seeds, 1)`."""
    features = np.concatenate([values, np.broadcast_to(kept[:, None, None], values.shape)], axis=-1)
    return _Sums(features.astype(np.float64), lambda sums: {name: sums[..., 0] / sums[..., 1]})


def _score_sums(predicted, expected, task, names=("mae", "mse", "r2", "corr")):
    """Returns the sums of errors and correlation for scores `(seeds, rows)` and true ones `(rows,)`."""
    known = _is_known(expected)
    expected = np.where(known, expected, 0.0)
    predicted = np.where(known, predicted, 0.0)
    # Both are centred, so that sums of squares keep their precision.
    x = np.where(known, predicted - predicted[:, known].mean(axis=-1, keepdims=True), 0.0)
    y = np.broadcast_to(np.where(known, expected - expected[known].mean(), 0.0), x.shape)
    error = predicted - expected
    columns = (np.broadcast_to(known, x.shape), np.abs(error), error**2, x, y, x * x, y * y, x * y)
    start = f"{task}_" if task else ""

    def combine(sums):
        count, absolute, square, sum_x, sum_y, sum_xx, sum_yy, sum_xy = np.moveaxis(sums, -1, 0)
        of_x, of_y = sum_xx - sum_x**2 / count, sum_yy - sum_y**2 / count
        of_x, of_y = (np.where(part > 1e-12 * whole, part, np.nan) for part, whole in ((of_x, sum_xx), (of_y, sum_yy)))
        metrics = {
            "mae": absolute / count,
            "mse": square / count,
            "r2": 1 - square / of_y,
            "corr": (sum_xy - sum_x * sum_y / count) / np.sqrt(of_x * of_y),
        }
        return {f"{start}{name}": metrics[name] for name in names}

    return _Sums(np.stack([column.T for column in columns], axis=-1).astype(np.float64), combine)


def _label_set_sums(predicted, expected, names):
    """
    Returns the sums of [`label_set_metrics`], without average precision, for several labels `(seeds, rows, labels)` and
    true ones `(rows, labels)`.
    """
    kept = ~np.isnan(expected).any(-1)
    true, guess = expected == 1, predicted.swapaxes(0, 1)  # (rows, labels), (rows, seeds, labels)
    true = np.broadcast_to(true[:, None], guess.shape)
    rows = np.ones((*guess.shape[:2], 1), bool)
    columns = [rows, (guess == true).all(-1, keepdims=True), guess & true, guess, true]
    features = np.concatenate(columns, axis=-1) & kept[:, None, None]

    def combine(sums):
        rows, right_rows = sums[..., :1], sums[..., 1]
        right, guessed, true = np.split(sums[..., 2:], 3, axis=-1)
        # for each label the counts without and with it, (..., labels, 2)
        both = _Counts(
            np.stack([rows - guessed - true + right, right], axis=-1),
            np.stack([rows - guessed, guessed], axis=-1),
            np.stack([rows - true, true], axis=-1),
        )
        by_label = {
            "f1": np.nan_to_num(both.f1[..., 1]),
            "weighted_accuracy": both.recalls.mean(-1),
            "weighted_f1": both.weighted_f1,
        }
        by_label = {metric: both.where_several(values) for metric, values in by_label.items()}
        wrong = guessed + true - 2 * right
        return {
            "subset_accuracy": right_rows / rows[..., 0],
            "hamming_loss": wrong.mean(-1) / rows[..., 0],
            "micro_f1": np.nan_to_num(2 * right.sum(-1) / (guessed + true).sum(-1)),
            "macro_f1": _nanmean(by_label["f1"]),
            "weighted_accuracy": _nanmean(by_label["weighted_accuracy"]),
            "weighted_f1": _nanmean(by_label["weighted_f1"]),
            **{f"{name}_{metric}": values[..., i] for metric, values in by_label.items()
               for i, name in enumerate(names)},
        }  # fmt: skip

    return _Sums(features.astype(np.float64), combine)
