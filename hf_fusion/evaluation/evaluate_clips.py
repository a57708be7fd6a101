"""Evaluates a pipeline on labelled clips: metrics and a figure."""

from pathlib import Path

import numpy as np
from datasets import Dataset

from hf_fusion.data.label_sets import label_vectors
from hf_fusion.evaluation.metrics import class_metrics, label_set_metrics, select_sentiment_metrics
from hf_fusion.evaluation.plots import (
    calibration_error,
    plot_calibration,
    plot_confusion,
    plot_scores,
    save_figure,
)
from hf_fusion.models.pipeline_common import LABEL_THRESHOLD


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
        classify ([`FusionSentimentPipeline`]): the pipeline of a DashFusion.
        clips (`Dataset`): rows with `label` and any of `text`, `audio` and `vision`.
        folder (`Path`, *optional*): if set, `scores.png` (predicted against true scores), or `confusion.png` and
            `calibration.png` for classes, are written there; of several labels, `calibration.png` of all answers (a
            matrix has no cell for a set of classes).
        batch_size (`int`): the number of clips per forward pass.
        track (`Callable`): wraps the predictions for a progress bar.
        picture_format (`str`): the format of the figure, `"png"`, `"pdf"` or `"svg"`.

    Returns:
        `dict[str, float]`: [`SentimentRegressionMetrics`], those of CH-SIMS if the `label_range` of the model is [-1,
        1]; for classes [`class_metrics`] and `calibration_error`, for several labels [`label_set_metrics`] and it.
    """
    config = classify.model.config
    names = [name for name in ("text", "audio", "vision") if name in clips.column_names]
    rows = clips.select_columns(names).with_format("numpy")
    inputs = (
        {**row, "text": None if row.get("text") is None else str(row["text"])} if "text" in row else row for row in rows
    )
    labels = list(clips["label"])
    class_names = list(config.id2label.values()) if config.num_labels > 1 else None
    if config.num_labels > 1 and config.problem_type == "multi_label_classification":
        answers = track(classify(inputs, batch_size=batch_size, top_k=None))
        expected = label_vectors(labels, len(class_names))
        return _evaluate_label_sets(answers, expected, class_names, folder, picture_format)
    answers = list(track(classify(inputs, batch_size=batch_size)))
    if config.num_labels > 1:
        return _evaluate_classes(answers, labels, class_names, folder, picture_format)
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
    calibration = _calibration(correct, confidence, "Calibration of the classes", folder, picture_format)
    return {**class_metrics(predicted, labels, names), "calibration_error": calibration}


def _evaluate_label_sets(answers, expected, names, folder, picture_format):
    by_name = ({entry["label"]: entry["score"] for entry in entries} for entries in answers)
    probabilities = np.array([[scores[name] for name in names] for scores in by_name])  # (clips, labels)
    predicted = probabilities >= LABEL_THRESHOLD
    correct, confidence = (predicted == expected).ravel(), np.maximum(probabilities, 1 - probabilities).ravel()
    calibration = _calibration(correct, confidence, "Calibration of all labels", folder, picture_format)
    return {**label_set_metrics(probabilities, expected, names), "calibration_error": calibration}


def _calibration(correct, confidence, title, folder, picture_format):
    """Returns the calibration error; draws its picture into the folder, if there is one."""
    if folder:
        save_figure(plot_calibration(correct, confidence, title), folder / f"calibration.{picture_format}")
    return calibration_error(correct, confidence)
