"""Evaluates predictions of labelled reviews: metrics and figures."""

from pathlib import Path

from hf_fusion.evaluation.kept_predictions import LABELS_OF_TASKS, Predictions, choose_classes, measure_predictions
from hf_fusion.evaluation.plots import plot_calibration, plot_confusion, save_figure
from hf_fusion.models.configuration_common import temperature_of


def evaluate_reviews(
    predictions: Predictions, folder: Path | None = None, picture_format: str = "png"
) -> dict[str, float]:
    """
    Measures predictions of reviews.

    Args:
        predictions ([`Predictions`]): the predictions of one split.
        folder (`Path`, *optional*): if set, `confusion_fine.png`, `confusion_coarse.png` and `calibration.png` are
            written there.
        picture_format (`str`): the format of the figures, `"png"`, `"pdf"` or `"svg"`.

    Returns:
        `dict[str, float]`: [`ReviewMetrics`] of the calibrated probabilities (accuracy and F1 are NaN for a task with a
        single class in the reviews).
    """
    metrics = measure_predictions(predictions)
    if folder:
        for output, head in predictions.config.heads.items():
            labels = predictions.labels.get(LABELS_OF_TASKS.get(head.task))
            if head.names and labels is not None and (labels != -100).any():
                names = list(getattr(predictions.config, head.names).values())
                logits = predictions.outputs[output] / temperature_of(predictions.config, output)
                _draw(head.task, logits, labels, names, folder, picture_format)
    return metrics


def _draw(task, logits, labels, names, folder, picture_format):
    """Draws the figures of a task with classes, of the rows with a label."""
    kept = labels != -100
    classes, confidence = choose_classes(logits[kept])
    if task == "fine":
        figure = plot_calibration(classes == labels[kept], confidence, "Calibration of fine sentiment")
        save_figure(figure, folder / f"calibration.{picture_format}")
    figure = plot_confusion(labels[kept], classes, names, f"{task.capitalize()} sentiment")
    save_figure(figure, folder / f"confusion_{task}.{picture_format}")
