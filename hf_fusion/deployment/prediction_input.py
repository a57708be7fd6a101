"""Reads the rows to predict: standard input, files of rows, or a source of clips."""

import os
import sys
from collections.abc import Iterable, Iterator
from glob import escape, glob
from itertools import chain, islice
from typing import Any

from hf_fusion.data.clips import ClipSource, is_clip_source, read_clips
from hf_fusion.data.decoding import AS_FOUND, ZERO_BYTE, TextFormat, check_taken, kind_of
from hf_fusion.data.files import count_rows, read_rows_or_errors
from hf_fusion.data.parts import find_parts
from hf_fusion.utils.errors import DataError, listed

# Number of rows of a file that are searched for the text column.
_FIRST_ROWS = 100
# Types of files whose rows are counted in advance, which is cheap compared with the predictions.
_COUNTED = (".parquet", ".jsonl", ".csv", ".txt")
# The byte order marks of UTF-16, decoded as UTF-8.
_UTF16_MARKS = ("\udcff\udcfe", "\udcfe\udcff")


def read_input(
    names: list[str], text_column: str, config, options: dict[str, Any], text_format: TextFormat = AS_FOUND
) -> tuple[Iterator[dict[str, Any] | DataError], int | None]:
    """
    Returns the rows of the input, and their number if it can be counted cheaply.

    Args:
        names: files of rows, folders or patterns of them, a source of clips for a DashFusion, or `-` for standard
            input.
        text_column: the column with the text.
        config: the configuration of the model.
        options: options for the reader of a source of clips.
        text_format: the format of text files and of standard input.

    Raises:
        DataError: if the input does not exist, or has no such text column.
        FileNotFoundError: if a file does not exist.
    """
    are_clips = _are_clips(names, config)
    if options and not are_clips:
        raise DataError("`dataset_options` are only for a source of clips, such as an MMSA pickle.")
    if names == ["-"]:
        check_taken(text_format, "standard input", [".txt"])
        return _lines_of_input(text_column, text_format.encoding), None
    if are_clips:
        if text_column != "text":
            raise DataError(f"{names[0]} has its text in the column 'text': remove `text_column` ({text_column}).")
        modalities = tuple(config.modalities)
        return read_clips(ClipSource(names[0], modalities, options=options, text_format=text_format)), None
    parts = find_parts(names)
    check_text_column(parts, text_column, config, text_format)
    rows = chain.from_iterable(read_rows_or_errors(path, text_format=text_format) for path in parts)
    counted = all(kind_of(path) in _COUNTED for path in parts)
    return rows, sum(count_rows(path, text_format) for path in parts) if counted else None


def _are_clips(names, config):
    return bool(config.frame_columns) and len(names) == 1 and names != ["-"] and is_clip_source(names[0])


def check_output(output: str, names: Iterable[str]) -> None:
    """Raises [`DataError`] if an output would overwrite a file of the input."""
    paths = (path for name in names for path in (name, *glob(name, recursive=True), *glob(f"{escape(name)}/*")))
    if output != "-" and os.path.realpath(output) in map(os.path.realpath, paths):
        raise DataError(f"{output} is an input file and would be overwritten: choose another `output`.")


def _lines_of_input(text_column, encoding):
    # an invalid byte is an error of its line only
    sys.stdin.reconfigure(encoding=encoding or "utf-8", errors="hf_fusion.mark_bytes")
    for number, line in enumerate(sys.stdin, 1):
        text = line.rstrip("\r\n")
        if number == 1:
            text = text.removeprefix("\ufeff")
            if text.startswith(_UTF16_MARKS):
                raise DataError("standard input has the byte order mark of UTF-16: set `encoding` to utf-16.")
        yield DataError(f"standard input, line {number}: {ZERO_BYTE}") if "\0" in text else {text_column: text}


def check_text_column(paths: list[str], text_column: str, config, text_format: TextFormat = AS_FOUND) -> None:
    """
    Checks that the first rows of each file have the text column.

    Raises:
        DataError: if a file has no such column; the message lists its columns. For a DashFusion, files with frames need
            no text column unless `text_column` is set. Also raised if `text_format` has a field that no file takes.
    """
    check_taken(text_format, ", ".join(paths), map(kind_of, paths))
    for path in paths:
        first = islice(read_rows_or_errors(path, text_format=text_format), _FIRST_ROWS)
        rows = [row for row in first if isinstance(row, dict)]
        check_columns_of_text(path, dict.fromkeys(name for row in rows for name in row), text_column, config)


def check_columns_of_text(place: str, names: Iterable[str], text_column: str, config) -> None:
    """Checks the column names of one place as [`check_text_column`] does. An empty list passes."""
    names, modalities = list(names), config.modalities
    if not names or text_column in names or "text" not in modalities:
        return
    if text_column != "text" or not set(modalities).intersection(names):
        raise DataError(
            f"{place}: no column {text_column!r}; there are {listed(names)}. Set `text_column` to the "
            "column with the text."
        )
