"""Calibrates predictions of reviews: temperatures of the classes, and the lowest probability of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_fusion.evaluation.calibration import (
    CalibrationError,
    choose_threshold,
    fit_temperature,
    measure_coverage,
    risk_coverage,
)
from hf_fusion.evaluation.kept_predictions import LABELS_OF_TASKS, Predictions, choose_classes, measure_predictions
from hf_fusion.evaluation.metrics import find_metric
from hf_fusion.evaluation.plots import plot_calibration, plot_risk_coverage, save_figure
from hf_fusion.models.configuration_common import temperature_of

# The metrics of `ReviewMetrics` that a temperature changes.
_METRICS = ("expected_calibration_error", "brier_score", "negative_log_likelihood")
_FITTED, _MEASURED = "validation", ("validation", "test")
_NO_TEMPERATURES = {"temperature": 1.0, "coarse_temperature": 1.0}


@dataclass
class Calibration:
    """
    The result of [`calibrate_reviews`].

    Args:
        fields (`dict`): the fields of the configuration: `temperature`, `coarse_temperature` (with a coarse head) and
            `abstain_below`.
        record (`dict`): what `metrics.json` keeps: these fields; `target_accuracy`; for each split `rows`, the metrics
            `before` and `after`, and with a limit and fine labels `coverage` and `answered_accuracy`; and `not_fitted`,
            the reason for each head or limit that could not be found.
        predictions (`dict[str, Predictions]`): the predictions of each split with these fields.

    Example:

    ```python
    from hf_fusion.evaluation.calibrate_reviews import Calibration

    fields = {"temperature": 1.8, "coarse_temperature": 1.0, "abstain_below": None}
    calibration = Calibration(fields, {**fields, "not_fitted": {"coarse": "all rows are of one class"}}, {})
    calibration.problems  # ["coarse is not calibrated: all rows are of one class."]
    ```
    """

    fields: dict[str, float | None]
    record: dict[str, Any]
    predictions: dict[str, Predictions] = field(repr=False)

    @property
    def problems(self) -> list[str]:
        """`list[str]`: what could not be found, and why."""
        return [f"{name} is not calibrated: {reason}." for name, reason in self.record["not_fitted"].items()]

    def draw(self, folder: Path, picture_format: str = "png") -> None:
        """
        Writes `reliability_fine.png` and `reliability_coarse.png` (before and after, of test or else validation), and,
        where fine labels are known, `risk_coverage.png`.

        Args:
            folder (`Path`): the folder, which is created.
            picture_format (`str`, *optional*, defaults to `"png"`): `"png"`, `"pdf"` or `"svg"`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        *_, split = (name for name, part in self.predictions.items() if any(_heads_with_labels(part)))
        for output, head, labels in _heads_with_labels(self.predictions[split]):
            right, before = _judge(self.predictions[split], output, labels, 1.0)
            after = _judge(self.predictions[split], output, labels)[1]
            title = f"{head.task.capitalize()} sentiment, {split}"
            figure = plot_calibration(right, after, title, before=before)
            save_figure(figure, folder / f"reliability_{head.task}.{picture_format}")
        answers = {name: _fine_answers(part) for name, part in self.predictions.items()}
        curves = {name: risk_coverage(*part) for name, part in answers.items() if len(part[0])}
        if curves:
            figure = plot_risk_coverage(curves, "Answers of fine sentiment", self.fields["abstain_below"])
            save_figure(figure, folder / f"risk_coverage.{picture_format}")


def has_temperatures(config: Any) -> bool:
    """Whether the probabilities of a model's answers have temperatures in its configuration."""
    return any(head.temperature is not None for head in config.heads.values())


def calibrate_reviews(
    parts: Mapping[str, Predictions], target_accuracy: float | None = None, abstain_below: float | None = None
) -> Calibration:
    """
    Fits a temperature for each head with classes on the validation split, and chooses the lowest probability of an
    answer. What cannot be found stays as it was, and is among the `problems` of the result.

    Args:
        parts (`Mapping[str, Predictions]`): the predictions of `validation`, and of `test` to measure the result.
        target_accuracy (`float`, *optional*): the accuracy in (0, 1) of the answers that are given; sets
            `abstain_below`.
        abstain_below (`float`, *optional*): the limit itself; 0 for none. By default that of the configuration stays.

    Returns:
        [`Calibration`]: the fields for the configuration, the metrics before and after, and the calibrated predictions.

    Raises:
        CalibrationError: if no temperature can be fitted: without a validation split, or for the reasons of
            [`fit_temperature`].

    Example:

    ```python
    import numpy as np
    from hf_fusion import DyFuLMConfig
    from hf_fusion.deployment.answer_config import answer_fields
    from hf_fusion.evaluation.calibrate_reviews import calibrate_reviews
    from hf_fusion.evaluation.kept_predictions import Predictions

    rng = np.random.default_rng(0)
    classes = rng.integers(0, 5, 200)
    outputs = {"logits": 4 * np.eye(5)[classes] + 3 * rng.normal(size=(200, 5)), "coarse_logits": np.zeros((200, 3))}
    outputs["intensity"] = np.zeros(200)
    facts = {"config": answer_fields(DyFuLMConfig({"model_type": "bert"}, cross_fusion="a"))}
    rows = np.arange(200).astype(str), np.full(200, "validation")
    predictions = Predictions(*rows, {"labels": classes}, outputs, facts)
    calibrate_reviews({"validation": predictions}, target_accuracy=0.9).fields["temperature"]  # about 2
    ```
    """
    parts = {split: parts[split] for split in _MEASURED if split in parts}
    if _FITTED not in parts:
        raise CalibrationError("No temperature was fitted: there is no validation split to fit it on.")
    fields, not_fitted = _fit_temperatures(parts[_FITTED])
    fitted = parts[_FITTED].with_fields(fields)
    fields["abstain_below"] = fitted.config.abstain_below if abstain_below is None else abstain_below or None
    if target_accuracy is not None:
        try:
            threshold = choose_threshold(*_fine_answers(fitted), target_accuracy)
        except CalibrationError as error:
            not_fitted["abstain_below"] = str(error)
        else:
            fields["abstain_below"] = threshold or None
    scaled = {split: part.with_fields(fields) for split, part in parts.items()}
    record = {**fields, "target_accuracy": target_accuracy, "not_fitted": not_fitted}
    return Calibration(fields, {**record, **measure_calibration(scaled)}, scaled)


def measure_calibration(parts: Mapping[str, Predictions]) -> dict[str, dict[str, Any]]:
    """
    Measures calibrated predictions, and the same ones without temperatures.

    Args:
        parts (`Mapping[str, Predictions]`): the predictions of each split with the fields of the calibration.

    Returns:
        `dict`: for each split `rows`, the metrics `before` and `after`, and with a limit and fine labels `coverage` and
        `answered_accuracy`.
    """
    record = {}
    for split, part in parts.items():
        before = _measure(part.with_fields(_NO_TEMPERATURES))
        record[split] = {"rows": len(part), "before": before, "after": _measure(part)}
        answers, limit = _fine_answers(part), part.config.abstain_below
        if limit and len(answers[0]):
            record[split] |= measure_coverage(*answers, limit)
    return record


def _fit_temperatures(predictions):
    """Returns the temperatures by their fields, and for each head that keeps its own the reason; raises if all do."""
    config = predictions.config
    fields = {
        head.temperature: temperature_of(config, output) for output, head in config.heads.items() if head.temperature
    }
    fitted, not_fitted = {}, {}
    for output, head, labels in _heads_with_labels(predictions):
        known = labels != -100
        try:
            fitted[head.temperature] = fit_temperature(predictions.outputs[output][known], labels[known])
        except CalibrationError as error:
            not_fitted[head.task] = str(error)
    if not fitted:
        reasons = "; ".join(f"{task}: {reason}" for task, reason in not_fitted.items()) or "no row has a class"
        raise CalibrationError(f"No temperature was fitted on validation ({reasons}): probabilities stay as they are.")
    return fields | fitted, not_fitted


def _heads_with_labels(predictions):
    """Yields output, [`Head`] and labels of each head with classes whose rows have labels."""
    for output, head in predictions.config.heads.items():
        labels = predictions.labels.get(LABELS_OF_TASKS[head.task])
        if head.temperature is not None and labels is not None and (labels != -100).any():
            yield output, head, labels


def _judge(predictions, output, labels, temperature=None):
    """Returns whether each answer of a head is right, and its probability, of the rows with a label."""
    if temperature is None:
        temperature = temperature_of(predictions.config, output)
    known = labels != -100
    classes, confidence = choose_classes(predictions.outputs[output][known] / temperature)
    return classes == labels[known], confidence


def _fine_answers(predictions):
    """[`_judge`] of the fine classes."""
    labels = predictions.labels.get("labels", np.full(len(predictions), -100))
    return _judge(predictions, "logits", labels)


def _measure(predictions):
    """Returns the metrics that a temperature changes."""
    metrics = measure_predictions(predictions)
    return {name: value for name, value in metrics.items() if find_metric(name).name in _METRICS}
