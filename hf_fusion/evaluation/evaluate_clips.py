"""Evaluates a pipeline on labelled clips: metrics and a figure."""

from pathlib import Path

from datasets import Dataset

from hf_fusion.evaluation.metrics import class_metrics, select_sentiment_metrics
from hf_fusion.evaluation.plots import (
    calibration_error,
    plot_calibration,
    plot_confusion,
    plot_scores,
    save_figure,
)
from hf_fusion.utils.errors import DataError


def evaluate_clips(
    classify,
    clips: Dataset,
    folder: Path | None = None,
    batch_size: int = 32,
    track=iter,
    picture_format: str = "png",
) -> dict:
    """
    Measures a pipeline on clips.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline of a DashFusion that predicts scores or classes.
        clips (`Dataset`): rows with `label` and any of `text`, `audio` and `vision`.
        folder (`Path`, *optional*): if set, `scores.png` (predicted against true scores), or `confusion.png` and
            `calibration.png` for classes, are written there.
        batch_size (`int`): the number of clips per forward pass.
        track (`Callable`): wraps the predictions for a progress bar.
        picture_format (`str`): the format of the figure, `"png"`, `"pdf"` or `"svg"`.

    Returns:
        `dict[str, float]`: [`SentimentRegressionMetrics`], those of CH-SIMS if the `label_range` of the model is [-1,
        1]; for classes [`class_metrics`] and `calibration_error`.

    Raises:
        DataError: if the model predicts several labels for each clip.
    """
    config = classify.model.config
    if config.num_labels > 1 and config.problem_type == "multi_label_classification":
        raise DataError("Clips are evaluated by one label each, but the model predicts several.")
    names = [name for name in ("text", "audio", "vision") if name in clips.column_names]
    rows = clips.select_columns(names).with_format("numpy")
    inputs = (
        {**row, "text": None if row.get("text") is None else str(row["text"])} if "text" in row else row for row in rows
    )
    answers, labels = list(track(classify(inputs, batch_size=batch_size))), list(clips["label"])
    if config.num_labels > 1:
        return _evaluate_classes(answers, labels, list(config.id2label.values()), folder, picture_format)
    scores = [answer["score"] for answer in answers]
    if folder:
        figure = plot_scores(labels, scores, "Sentiment score", config.label_range)
        save_figure(figure, folder / f"scores.{picture_format}")
    return select_sentiment_metrics(config.label_range).compute(predictions=scores, references=labels)


def _evaluate_classes(answers, labels, names, folder, picture_format):
    numbers = {name: i for i, name in enumerate(names)}
    predicted = [numbers[answer["label"]] for answer in answers]
    correct = [guess == label for guess, label in zip(predicted, labels, strict=True)]
    confidence = [answer["score"] for answer in answers]
    if folder:
        save_figure(plot_confusion(labels, predicted, names, "Classes"), folder / f"confusion.{picture_format}")
        figure = plot_calibration(correct, confidence, "Calibration of the classes")
        save_figure(figure, folder / f"calibration.{picture_format}")
    return {**class_metrics(predicted, labels, names), "calibration_error": calibration_error(correct, confidence)}
