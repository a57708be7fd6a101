"""Predicts an uploaded file of rows, for a table on the page and a file to download."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from hf_fusion.data.decoding import AS_FOUND, TextFormat
from hf_fusion.data.files import RowWriter, count_rows, read_rows_or_errors
from hf_fusion.deployment.demo.checkpoints import DemoModel
from hf_fusion.deployment.prediction_input import check_text_column
from hf_fusion.deployment.predictions import flat_row, predict_rows, prediction_types
from hf_fusion.utils.errors import DataError

BATCH_SIZE = 16
_FIRST_ROWS = 100
_AT_THE_END = ("truncated", "error")
# Spreadsheets read texts that begin with one of these as formulas, and run them.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


@dataclass
class PredictedTable:
    """
    The answers to the rows of a file.

    Args:
        rows: each with the columns of the input and the answers.
        total: the number of rows in the file.
        failed: rows with an error instead of an answer.
        cut: rows that were longer than the model reads.
        renamed: columns of the input that have another name in `rows`.
        agreement: of two checkpoints, the share of answered rows with the same label; an unsure answer has none.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    failed: int = 0
    cut: int = 0
    renamed: dict[str, str] = field(default_factory=dict)
    agreement: float | None = None


def text_columns(path: str, text_format: TextFormat = AS_FOUND) -> tuple[list[str], str | None]:
    """
    Finds the columns of a file.

    Returns:
        `tuple`: their names, and the likely one with the text: "text", or the one with the longest values.

    Raises:
        DataError: if the file cannot be read.
    """
    found = list(islice(read_rows_or_errors(path, text_format=text_format), _FIRST_ROWS))
    rows = [row for row in found if isinstance(row, dict)]
    if not found:
        raise DataError(f"{path} has no rows.")
    if not rows:
        raise found[0]
    lengths: dict[str, int] = {}
    for row in rows:
        for name, value in row.items():
            lengths[name] = lengths.get(name, 0) + (len(value) if isinstance(value, str) else 0)
    return list(lengths), "text" if "text" in lengths else max(lengths, key=lengths.__getitem__, default=None)


def predict_table(
    models: list[DemoModel],
    path: str,
    text_column: str,
    max_rows: int,
    text_format: TextFormat = AS_FOUND,
) -> PredictedTable:
    """
    Predicts the rows of a file with each model.

    Args:
        models: the checkpoints. Of two, the columns of the answers begin with their names.
        path: the file.
        text_column: the column with the text.
        max_rows: rows beyond this number are left out; `total` counts them.
        text_format: the format of a text file, where its content does not tell.

    Raises:
        DataError: if the file cannot be read, or has no such column.
    """
    config = models[0].config
    check_text_column([path], text_column, config, text_format)
    total = count_rows(path, text_format)
    if not total:
        raise DataError(f"{path} has no rows.")
    names = {name for model in models for name in prediction_types(model.config, flat=True)} | {"prediction"}
    table = PredictedTable(total=total)
    rows = [
        _renamed(row, names, table.renamed)
        for row in islice(read_rows_or_errors(path, text_format=text_format), max_rows)
    ]
    text_column = table.renamed.get(text_column, text_column)
    answered = [
        [flat_row(row) for window in predict_rows(model, rows, text_column, BATCH_SIZE) for row in window]
        for model in models
    ]
    for row in (row for rows in answered for row in rows if row["error"]):
        row["error"] = without_folders(row["error"], [path])
    table.failed = sum(any(row["error"] for row in parts) for parts in zip(*answered, strict=True))
    table.cut = sum(any(row["truncated"] for row in parts) for parts in zip(*answered, strict=True))
    if len(models) == 1:
        table.rows = answered[0]
        return table
    table.rows = [_beside(models, parts, names) for parts in zip(*answered, strict=True)]
    labels = [[row["label"] for row in parts] for parts in zip(*answered, strict=True) if not parts[0]["error"]]
    table.agreement = sum(one == other is not None for one, other in labels) / len(labels) if labels else None
    return table


def _renamed(row, names, renamed):
    """A row whose columns do not have the names of answers."""
    if isinstance(row, DataError):
        return row
    changed = {}
    for name, value in row.items():
        if name in names:
            new = f"input_{name}"
            while new in row or new in names:
                new += "_"
            renamed[name] = name = new
        changed[name] = value
    return changed


def _beside(models, parts, names):
    """The answers of two models to a row in one row."""
    first = parts[0]
    joined = {name: value for name, value in first.items() if name not in names}
    for model, row in zip(models, parts, strict=True):
        joined |= {f"{model.name}: {name}": row[name] for name in row if name in names and name not in _AT_THE_END}
    return {
        **joined,
        "truncated": any(row["truncated"] for row in parts) if not first["error"] else None,
        "error": next((row["error"] for row in parts if row["error"]), None),
    }


def write_table(table: PredictedTable, folder: Path, name: str) -> Path:
    """
    Writes the rows as csv into a folder; returns the file, NAME_predictions.csv. Texts that spreadsheets would run as
    formulas begin with an apostrophe there, as spreadsheets themselves mark texts.
    """
    path = folder / f"{Path(name).name.partition('.')[0] or 'rows'}_predictions.csv"
    with RowWriter(str(path)) as writer:
        writer.write([{_as_text(name): _as_text(value) for name, value in row.items()} for row in table.rows])
    return path


def _as_text(value):
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) and not _is_number(value) else value


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def without_folders(message: str, files: Iterable[str]) -> str:
    """A message without the folders of uploaded files, which concern nobody."""
    for path in files:
        message = message.replace(f"{Path(path).parent}{os.sep}", "")
    return message
