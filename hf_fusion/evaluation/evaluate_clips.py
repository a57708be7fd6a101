"""Evaluates predictions of labelled clips: metrics and figures."""

from pathlib import Path

from hf_fusion.evaluation.kept_predictions import Predictions, choose_classes, measure_predictions
from hf_fusion.evaluation.plots import plot_calibration, plot_confusion, plot_scores, save_figure
from hf_fusion.utils.errors import DataError


def evaluate_clips(
    predictions: Predictions, folder: Path | None = None, picture_format: str = "png"
) -> dict[str, float]:
    """
    Measures predictions of clips.

    Args:
        predictions ([`Predictions`]): the predictions of one split by a DashFusion, scores or classes.
        folder (`Path`, *optional*): if set, `scores.png` (predicted against true scores), or `confusion.png` and
            `calibration.png` for classes, are written there.
        picture_format (`str`): the format of the figure, `"png"`, `"pdf"` or `"svg"`.

    Returns:
        `dict[str, float]`: [`SentimentRegressionMetrics`], those of CH-SIMS if the `label_range` of the model is [-1,
        1]; for classes [`class_metrics`] and `calibration_error`.

    Raises:
        DataError: if the model predicts several labels for each clip.
    """
    config = predictions.config
    if config.num_labels > 1 and config.problem_type == "multi_label_classification":
        raise DataError("Clips are evaluated by one label each, but the model predicts several.")
    labels, logits = predictions.labels["labels"], predictions.outputs["logits"]
    metrics = measure_predictions(predictions)
    if folder and config.num_labels == 1:
        figure = plot_scores(labels, logits[:, 0], "Sentiment score", config.label_range)
        save_figure(figure, folder / f"scores.{picture_format}")
    elif folder:
        classes, confidence = choose_classes(logits)
        names = list(config.id2label.values())
        save_figure(plot_confusion(labels, classes, names, "Classes"), folder / f"confusion.{picture_format}")
        figure = plot_calibration(classes == labels, confidence, "Calibration of the classes")
        save_figure(figure, folder / f"calibration.{picture_format}")
    return metrics
