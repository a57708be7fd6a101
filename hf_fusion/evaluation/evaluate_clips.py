"""Evaluates a pipeline on labelled clips: metrics and a figure."""

from pathlib import Path

from datasets import Dataset

from hf_fusion.evaluation.metrics import select_sentiment_metrics
from hf_fusion.evaluation.plots import plot_scores, save_figure
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
        classify ([`FusionSentimentPipeline`]): the pipeline of a DashFusion that predicts scores.
        clips (`Dataset`): rows with `label` and any of `text`, `audio` and `vision`.
        folder (`Path`, *optional*): if set, `scores.png` (predicted against true scores) is written there.
        batch_size (`int`): the number of clips per forward pass.
        track (`Callable`): wraps the predictions for a progress bar.
        picture_format (`str`): the format of the figure, `"png"`, `"pdf"` or `"svg"`.

    Returns:
        `dict[str, float]`: [`SentimentRegressionMetrics`], those of CH-SIMS if the `label_range` of the model is [-1,
        1].

    Raises:
        DataError: if the model predicts classes.
    """
    if classify.model.config.num_labels != 1:
        raise DataError("Clips are evaluated by the metrics of scores, but the model predicts classes.")
    names = [name for name in ("text", "audio", "vision") if name in clips.column_names]
    rows = clips.select_columns(names).with_format("numpy")
    inputs = (
        {**row, "text": None if row.get("text") is None else str(row["text"])} if "text" in row else row for row in rows
    )
    scores = [answer["score"] for answer in track(classify(inputs, batch_size=batch_size))]
    labels = list(clips["label"])
    if folder:
        figure = plot_scores(labels, scores, "Sentiment score", classify.model.config.label_range)
        save_figure(figure, folder / f"scores.{picture_format}")
    return select_sentiment_metrics(classify.model.config.label_range).compute(predictions=scores, references=labels)
