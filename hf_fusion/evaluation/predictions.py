"""A checkpoint over many texts: rows in, rows with predictions out, none lost."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import AutoModelForSequenceClassification, AutoProcessor, pipeline

import hf_fusion  # noqa: F401 - registers pipeline and models
from hf_fusion.data.files import DataError

# Rows read ahead: enough that texts of like length find each other.
WINDOW_BATCHES = 16
# Parquet types of the two columns that are added.
_CLASS = [("label", pa.string()), ("score", pa.float64())]
PREDICTION_TYPES = {
    "prediction": pa.struct([*_CLASS, ("coarse", pa.struct(_CLASS)), ("intensity", pa.float64())]),
    "error": pa.string(),
}
NO_PREDICTION = {"label": None, "score": None, "coarse": {"label": None, "score": None}, "intensity": None}


def load_pipeline(checkpoint: str, dtype: str = "float32", device: str | None = None):
    """
    The `fusion-sentiment` pipeline of a checkpoint, run by this package's code.

    Args:
        checkpoint: a folder (also of a LoRA run that was not merged), or a name on the Hub.
        dtype: "float32", "bfloat16" or "float16".
        device: "cpu", "cuda:0" ...; by default the accelerator, if there is one.

    Raises:
        DataError: if weights are missing, which would be random.
    """
    if (Path(checkpoint) / "adapter_config.json").is_file():
        from hf_fusion.deployment.adapters import load_merged

        model = load_merged(checkpoint)
    else:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            checkpoint, output_loading_info=True, dtype=torch.float32
        )
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])
            raise DataError(
                f"{checkpoint} has no weights for {missing[0]}, {len(missing)} parameters in all: it is no trained "
                "checkpoint of this version."
            )
    processor = AutoProcessor.from_pretrained(checkpoint)
    return pipeline("fusion-sentiment", model=model.to(getattr(torch, dtype)), processor=processor, device=device)


def predict_rows(
    classify, rows: Iterable[dict[str, Any] | DataError], text_column: str = "text", batch_size: int = 32
) -> Iterator[list[dict[str, Any]]]:
    """
    Adds `prediction` and `error` to each row, window by window, in the order of the rows.

    `prediction` is what the pipeline returns, with `None` in all its fields where there is an `error`: the row was
    malformed (then nothing else is left of it), or its text is missing or no text.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline.
        rows: dicts, or the error of a row that could not be read.
        text_column: where the text is.
        batch_size: texts per forward pass.

    Raises:
        DataError: if the input has a column `prediction` or `error` of its own.
    """
    rows = iter(rows)
    names: list[str] = []
    while window := list(islice(rows, WINDOW_BATCHES * batch_size)):
        problems = [_problem(row, text_column) for row in window]
        good = [row[text_column] for row, problem in zip(window, problems, strict=True) if problem is None]
        answers = iter(classify(good, batch_size=batch_size))
        names = names or next((list(row) for row in window if isinstance(row, dict)), [])
        if taken := set(PREDICTION_TYPES) & {name for row in window if isinstance(row, dict) for name in row}:
            raise DataError(f"The input has a column {sorted(taken)[0]!r}, which would be overwritten; rename it.")
        yield [
            {
                **(dict.fromkeys(names) if isinstance(row, DataError) else row),
                "prediction": next(answers) if problem is None else NO_PREDICTION,
                "error": problem,
            }
            for row, problem in zip(window, problems, strict=True)
        ]


def _problem(row, text_column):
    if isinstance(row, DataError):
        return str(row)
    if text_column not in row:
        return f"no column {text_column!r}; there are {', '.join(map(str, row))}"
    text = row[text_column]
    if not isinstance(text, str):
        return f"{text_column!r} is no text but {type(text).__name__}"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"{text_column!r} is no valid Unicode at character {error.start}"
    return None
