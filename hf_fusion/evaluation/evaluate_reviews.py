"""Evaluates a pipeline on labelled reviews: metrics and figures."""

from pathlib import Path

from datasets import Dataset

from hf_fusion.evaluation.metrics import ReviewMetrics, mask_single_class
from hf_fusion.evaluation.plots import calibration_error, plot_calibration, plot_confusion, save_figure

_COLUMNS = {"fine": "labels", "coarse": "coarse_labels", "intensity": "intensity_labels"}


def evaluate_reviews(
    classify,
    reviews: Dataset,
    folder: Path | None = None,
    batch_size: int = 32,
    track=iter,
    picture_format: str = "png",
) -> dict:
    """
    Measures a pipeline on reviews.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline.
        reviews (`Dataset`): rows with `text` and any of `labels`, `coarse_labels`, `intensity_labels`.
        folder (`Path`, *optional*): if set, `confusion_fine.png`, `confusion_coarse.png` and `calibration.png` are
            written there.
        batch_size (`int`): the number of texts per forward pass.
        track (`Callable`): wraps the predictions for a progress bar.
        picture_format (`str`): the format of the figures, `"png"`, `"pdf"` or `"svg"`.

    Returns:
        `dict[str, float]`: [`ReviewMetrics`] (NaN for a task with a single class in the reviews), and
        `fine_calibration_error` if there are fine labels.
    """
    config = classify.model.config
    answers = list(track(classify(iter(reviews["text"]), batch_size=batch_size)))
    names = {head.task: list(getattr(config, head.names).values()) for head in config.heads.values() if head.names}
    predicted = {head.task: _read_answers(head.task, answers, names) for head in config.heads.values()}
    columns = {task: column for task, column in _COLUMNS.items() if task in predicted}
    expected = {task: list(reviews[column]) for task, column in columns.items() if column in reviews.column_names}
    metrics = ReviewMetrics().compute(predictions={task: predicted[task] for task in expected}, references=expected)
    metrics = mask_single_class(metrics, {task: expected[task] for task in ("fine", "coarse") if task in expected})

    for task in ("fine", "coarse"):
        rows = [i for i, value in enumerate(expected.get(task, [])) if value is not None]
        if not rows:
            continue
        true, guess = [expected[task][i] for i in rows], [predicted[task][i] for i in rows]
        if task == "fine":
            correct = [a == b for a, b in zip(true, guess, strict=True)]
            confidence = [answers[i]["score"] for i in rows]
            metrics["fine_calibration_error"] = calibration_error(correct, confidence)
            if folder:
                figure = plot_calibration(correct, confidence, "Calibration of fine sentiment")
                save_figure(figure, folder / f"calibration.{picture_format}")
        if folder:
            figure = plot_confusion(true, guess, names[task], f"{task.capitalize()} sentiment")
            save_figure(figure, folder / f"confusion_{task}.{picture_format}")
    return metrics


def _read_answers(task, answers, names):
    """Converts the answers of the pipeline to class numbers, or intensities."""
    if task == "intensity":
        return [answer["intensity"] for answer in answers]
    numbers = {name: i for i, name in enumerate(names[task])}
    return [numbers[(answer["coarse"] if task == "coarse" else answer)["label"]] for answer in answers]
