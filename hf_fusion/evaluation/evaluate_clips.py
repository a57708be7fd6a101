"""Evaluates predictions of labelled clips: metrics and figures."""

from pathlib import Path

from hf_fusion.evaluation.kept_predictions import Predictions, choose_classes, judge_answers, measure_predictions
from hf_fusion.evaluation.plots import plot_calibration, plot_confusion, plot_scores, save_figure


def evaluate_clips(
    predictions: Predictions, folder: Path | None = None, picture_format: str = "png"
) -> dict[str, float]:
    """
    Measures predictions of clips.

    Args:
        predictions ([`Predictions`]): the predictions of one split by a DashFusion.
        folder (`Path`, *optional*): if set, `scores.png` (predicted against true scores), or `confusion.png` and
            `calibration.png` for classes, are written there; for several labels `calibration.png` of all answers, since
            a matrix has no cell for a set of classes.
        picture_format (`str`): the format of the figure, `"png"`, `"pdf"` or `"svg"`.

    Returns:
        `dict[str, float]`: [`SentimentRegressionMetrics`], those of CH-SIMS if the `label_range` of the model is [-1,
        1]; for classes [`class_metrics`], for several labels [`label_set_metrics`], and `calibration_error`.
    """
    config = predictions.config
    labels, logits = predictions.labels["labels"], predictions.outputs["logits"]
    metrics = measure_predictions(predictions)
    if folder and config.num_labels == 1:
        figure = plot_scores(labels, logits[:, 0], "Sentiment score", config.label_range)
        save_figure(figure, folder / f"scores.{picture_format}")
    elif folder:
        if labels.ndim == 1:
            classes, _ = choose_classes(logits)
            names = list(config.id2label.values())
            save_figure(plot_confusion(labels, classes, names, "Classes"), folder / f"confusion.{picture_format}")
        figure = plot_calibration(*judge_answers(logits, labels), "Calibration of the classes")
        save_figure(figure, folder / f"calibration.{picture_format}")
    return metrics
