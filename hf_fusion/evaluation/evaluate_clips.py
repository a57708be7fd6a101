"""A checkpoint on labelled clips: metrics and a picture."""

from pathlib import Path

from datasets import Dataset

from hf_fusion.evaluation.metrics import sentiment_metrics_for
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
        clips: with `label` and some of `text`, `audio` and `vision`.
        folder: if given, gets `scores.png`: predicted against true scores.
        batch_size: clips per forward pass.
        track: wraps the answers, for a progress bar.
        picture_format: "png", "pdf" or "svg".

    Returns:
        [`SentimentRegressionMetrics`], those of CH-SIMS if the model's labels lie in [-1, 1].

    Raises:
        DataError: if the model predicts classes.
    """
    if classify.model.config.num_labels != 1:
        raise DataError("These are the metrics of scores, but the model predicts classes.")
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
    return sentiment_metrics_for(classify.model.config.label_range).compute(predictions=scores, references=labels)
