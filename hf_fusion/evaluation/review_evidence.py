"""Evidence beside the metrics of reviews: intervals, classes, confusion, baselines on the same rows, warnings."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import confusion_matrix

from hf_fusion.evaluation.baselines import ReviewBaselines
from hf_fusion.evaluation.kept_predictions import LABELS_OF_TASKS, Predictions, measure_predictions
from hf_fusion.evaluation.plots import plot_confusion, save_figure
from hf_fusion.evaluation.resampled_metrics import resample_metrics
from hf_fusion.evaluation.statistics import share_interval

# The baseline that a model has to be ahead of, and the metrics in which.
RIVAL = "bag of words"
_LEADS = ("fine_macro_f1", "coarse_macro_f1")
_INTERVAL = (2.5, 97.5)


class _ClassHead(NamedTuple):
    """
    A head with classes on the rows that have a label of it.

    Args:
        task (`str`): "fine" or "coarse".
        names (`list[str]`): the names of its classes.
        expected, predicted (`np.ndarray`): the classes of the rows.
    """

    task: str
    names: list[str]
    expected: np.ndarray
    predicted: np.ndarray


def gather_evidence(parts: Mapping[str, Predictions], baselines: ReviewBaselines) -> dict[str, Any]:
    """
    Gathers what a reader needs beside the metrics of reviews.

    Args:
        parts (`Mapping[str, Predictions]`): the predictions of each split.
        baselines ([`ReviewBaselines`]): baselines on the same rows.

    Returns:
        `dict`: `training_rows` (of each baseline) or `no_baselines` (the reason), and `splits`: for each split the
        result of [`describe_answers`]; with baselines `baselines` (their metrics by name) and `lead` (the difference
        of the model to bag of words in macro F1: `mean`, and its 95 % `interval` over rows, `None` if only the metrics
        of the baselines are known); and `warnings`, a text for each metric in which the model is not ahead of bag of
        words, and for each head that never answers a class of the rows.
    """
    origin = {"no_baselines": baselines.absent} if baselines.absent else {"training_rows": baselines.training_rows}
    return {**origin, "splits": {split: _describe_split(split, part, baselines) for split, part in parts.items()}}


def _describe_split(split, predictions, baselines):
    evidence = describe_answers(predictions)
    lines = []
    if split in baselines.metrics:
        metrics = measure_predictions(predictions)
        evidence["baselines"] = {
            name: {metric: _finite(value) if _finite(metrics.get(metric)) is not None else None
                   for metric, value in known.items() if metric in metrics}
            for name, known in baselines.metrics[split].items()
        }  # fmt: skip
        rival = evidence["baselines"][RIVAL]
        intervals = _lead_intervals(predictions, baselines.answers.get(split, {}).get(RIVAL, {}))
        evidence["lead"] = {
            name: {"mean": metrics[name] - rival[name], "interval": intervals.get(name)}
            for name in _LEADS
            if rival.get(name) is not None
        }
        lines = [
            f"On {split} the model is not ahead of {RIVAL} in {name}: {metrics[name]:.3f} against {rival[name]:.3f}."
            for name, lead in evidence["lead"].items()
            if lead["mean"] <= 0
        ]
    evidence["warnings"] = [*lines, *_warn_of_silent_classes(split, evidence["classes"])]
    return evidence


def _warn_of_silent_classes(split, classes):
    """Yields a warning for each head that never answers a class of the rows."""
    for task, by_name in classes.items():
        silent = [
            f'"{name}" ({counts["rows"]:,} of {sum(part["rows"] for part in by_name.values()):,} reviews)'
            for name, counts in by_name.items()
            if counts["rows"] and not counts["predicted"]
        ]
        if silent:
            yield f"On {split} the model never answers the {task} class {', '.join(silent)}."


def describe_answers(predictions: Predictions) -> dict[str, Any]:
    """
    Describes predictions of one split by what follows from them alone.

    Returns:
        `dict`: `rows`; `intervals`, the 95 % interval of each metric over rows (Wilson for accuracies, else the
        bootstrap; `None` where it is undefined); `classes` by task and name, with `rows` (true), `predicted`,
        `precision`, `recall` and `f1` (`None` where undefined); and `confusion` by task, the counts by true class and
        predicted class.
    """
    evidence = {"rows": len(predictions), "intervals": _row_intervals(_resample(predictions, predictions.outputs))}
    evidence |= {"classes": {}, "confusion": {}}
    for head in _class_heads(predictions):
        counts = confusion_matrix(head.expected, head.predicted, labels=range(len(head.names)))  # (true, predicted)
        evidence["confusion"][head.task] = counts.tolist()
        evidence["classes"][head.task] = {
            name: _describe_class(*(int(number) for number in numbers))
            for name, *numbers in zip(head.names, counts.diagonal(), counts.sum(1), counts.sum(0), strict=True)
        }
        accuracy = f"{head.task}_accuracy"
        if evidence["intervals"].get(accuracy) is not None:
            evidence["intervals"][accuracy] = list(share_interval(counts.trace(), counts.sum()))
    return evidence


def _describe_class(right, rows, predicted):
    return {
        "rows": rows,
        "predicted": predicted,
        "precision": right / predicted if predicted else None,
        "recall": right / rows if rows else None,
        "f1": 2 * right / (rows + predicted) if rows + predicted else None,
    }


def draw_confusions(predictions: Predictions, folder: Path) -> None:
    """Writes `confusion_fine.png` and `confusion_coarse.png`, of the heads that a model has, into a folder."""
    for head in _class_heads(predictions):
        figure = plot_confusion(head.expected, head.predicted, head.names, f"{head.task.capitalize()} sentiment")
        save_figure(figure, folder / f"confusion_{head.task}.png")


def _class_heads(predictions) -> Iterator[_ClassHead]:
    for output, head in predictions.config.heads.items():
        labels = predictions.labels.get(LABELS_OF_TASKS[head.task])
        if head.names and labels is not None and (labels != -100).any():
            names, known = list(getattr(predictions.config, head.names).values()), labels != -100
            yield _ClassHead(head.task, names, labels[known], predictions.outputs[output][known].argmax(-1))


def _lead_intervals(predictions, answers):
    """Returns the intervals of the leads over a baseline, on the same resamples; none without its answers."""
    outputs = {}
    for output, head in predictions.config.heads.items():
        if head.names and head.task in answers:
            num_classes = predictions.outputs[output].shape[-1]
            outputs[output] = np.eye(num_classes)[answers[head.task]]  # (rows, classes), like logits
    ours = {output: predictions.outputs[output] for output in outputs}
    ours, theirs = (_resample(predictions, side) for side in (ours, outputs))
    return _row_intervals({name: ours[name] - theirs[name] for name in _LEADS if name in ours})


def _resample(predictions, outputs):
    """Returns the tables `(1 + replicates, 1)` of the metrics of outputs by name, see [`resample_metrics`]."""
    heads = predictions.config.heads
    columns = [LABELS_OF_TASKS[heads[output].task] for output in outputs]
    labels = {column: predictions.labels[column] for column in columns if column in predictions.labels}
    if not labels:
        return {}
    return resample_metrics(predictions.config, {name: values[None] for name, values in outputs.items()}, labels)


def _row_intervals(tables):
    """Returns the 95 % intervals of tables `(1 + replicates, 1)` by metric; `None` where a metric is undefined."""
    return {name: _percentiles(table[0, 0], table[1:, 0]) for name, table in tables.items()}


def _percentiles(observed, resampled):
    defined = resampled[np.isfinite(resampled)]
    if not math.isfinite(observed) or 2 * len(defined) <= len(resampled):
        return None
    return [float(bound) for bound in np.percentile(defined, _INTERVAL)]


def _finite(value):
    return value if value is not None and math.isfinite(value) else None
