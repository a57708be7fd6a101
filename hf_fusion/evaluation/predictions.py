"""A checkpoint over many texts: rows in, rows with predictions out, none lost."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import torch
from transformers import pipeline

import hf_fusion  # noqa: F401 - registers the pipeline
from hf_fusion.data.files import DataError, listed
from hf_fusion.deployment.loading import load_checkpoint
from hf_fusion.models.feature_extraction_dashfusion import STREAMS

# Rows read ahead: enough that texts of like length find each other.
WINDOW_BATCHES = 16
DTYPES = ("float32", "bfloat16", "float16")
_CLASS = [("label", pa.string()), ("score", pa.float64())]


def prediction_types(config) -> dict[str, pa.DataType]:
    """Parquet types of the two columns that are added, for a model of this configuration."""
    fields = [*_CLASS]
    if config.model_type == "dyfulm":
        fields += [("coarse", pa.struct(_CLASS)), ("intensity", pa.float64())]
    return {"prediction": pa.struct(fields), "error": pa.string()}


def output_schema(columns: pa.Schema, config) -> pa.Schema:
    """
    Columns of the predictions for rows with these columns: without the frames of clips, with those that are added.

    Raises:
        DataError: if a column has the name of one that is added.
    """
    _check_columns(columns.names)
    kept = [column for column in columns if column.name not in _streams(config)]
    return pa.schema([*kept, *prediction_types(config).items()])


def _streams(config):
    """The columns that hold frames."""
    return STREAMS if config.model_type == "dashfusion" else ()


def _no_prediction(config):
    nothing = {"label": None, "score": None}
    return {**nothing, "coarse": nothing, "intensity": None} if config.model_type == "dyfulm" else nothing


def load_pipeline(checkpoint: str, dtype: str = "float32", device: str | None = None, compiled: bool = False):
    """
    The `fusion-sentiment` pipeline of a checkpoint, run by this package's code.

    Args:
        checkpoint: a folder (also of a LoRA run that was not merged), or a name on the Hub.
        dtype: "float32", "bfloat16" or "float16".
        device: "cpu", "cuda:0" ...; by default the accelerator, if there is one.
        compiled: whether `torch.compile` is to compile the model, for any length, as the first batches come.

    Raises:
        DataError: if weights are missing, which would be random, or too many, a file of the checkpoint is damaged or
            none of this package's models, or there is no such dtype or device.
        OSError: if there is no such checkpoint, or none with weights in `.safetensors`: pickles are not read.
    """
    if dtype not in DTYPES:
        raise DataError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    _check_device(device)
    model, processor = load_checkpoint(checkpoint)
    model = model.to(getattr(torch, dtype))
    if compiled:
        model.compile(dynamic=True)
    return pipeline("fusion-sentiment", model=model, processor=processor, device=device)


def _check_device(device):
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise DataError(f"`device` {device!r} cannot be used here: {reason}") from error


def predict_rows(
    classify, rows: Iterable[dict[str, Any] | DataError], text_column: str = "text", batch_size: int = 32
) -> Iterator[list[dict[str, Any]]]:
    """
    Adds `prediction` and `error` to each row, window by window, in the order of the rows.

    `prediction` is what the pipeline returns, with `None` in all its fields where there is an `error`: the row was
    malformed (then nothing else is left of it), or the model cannot read it. For a DashFusion the fields `audio` and
    `vision` of a row are its frames; they are not part of the output. A modality that the model was not trained on is
    not read.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline.
        rows: dicts, or the error of a row that could not be read.
        text_column: where the text is.
        batch_size: rows per forward pass.

    Raises:
        DataError: if the input has a column `prediction` or `error` of its own.
    """
    if batch_size < 1:
        raise DataError(f"`batch_size` must be at least 1, got {batch_size}.")
    rows = iter(rows)
    config = classify.model.config
    streams = _streams(config)
    modalities = getattr(config, "modalities", ("text",))
    names: list[str] = []
    while window := list(islice(rows, WINDOW_BATCHES * batch_size)):
        problems = [_problem(row, text_column, streams) for row in window]
        good = [i for i, problem in enumerate(problems) if problem is None]
        clips = [_clip(window[i], text_column, modalities) for i in good]
        answers = dict(zip(good, _answers(classify, clips, batch_size), strict=True))
        names = names or next((list(row) for row in window if isinstance(row, dict)), [])
        _check_columns({name for row in window if isinstance(row, dict) for name in row})
        yield [
            {
                **{
                    name: value
                    for name, value in (dict.fromkeys(names) if isinstance(row, DataError) else row).items()
                    if name not in streams
                },
                **(answers[i] if i in answers else {"prediction": _no_prediction(config), "error": problems[i]}),
            }
            for i, row in enumerate(window)
        ]


def _check_columns(names):
    if taken := {"prediction", "error"}.intersection(names):
        raise DataError(f"The input has a column {sorted(taken)[0]!r}, which would be overwritten; rename it.")


def _clip(row, text_column, modalities):
    """What the model reads of a row; a blank text beside frames counts as missing, as in training."""
    clip = {name: row.get(text_column if name == "text" else name) for name in modalities}
    text = clip.get("text")
    if text is not None and not text.strip() and any(clip[name] is not None for name in modalities if name != "text"):
        clip["text"] = None
    return clip


def _answers(classify, clips, batch_size):
    """For each clip its `prediction` and `error`."""
    try:
        return [{"prediction": answer, "error": None} for answer in classify(clips, batch_size=batch_size)]
    except ValueError as error:  # one of them cannot be read: halving finds it in few passes
        if len(clips) == 1:
            reason = str(error).removeprefix("Input 0 cannot be read. ")
            return [{"prediction": _no_prediction(classify.model.config), "error": reason}]
        half = len(clips) // 2
        return _answers(classify, clips[:half], batch_size) + _answers(classify, clips[half:], batch_size)


def _problem(row, text_column, streams):
    if isinstance(row, DataError):
        return str(row)
    if text_column not in row and not set(streams) & set(row):
        return f"no column {text_column!r}; there are {listed(row)}"
    text = row.get(text_column)
    if text is None and any(row.get(name) is not None for name in streams):
        return None
    if not isinstance(text, str):
        return f"{text_column!r} is no text but {type(text).__name__}"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"{text_column!r} is no valid Unicode at character {error.start}"
    return None
