"""Rows of csv, jsonl and parquet files, one by one, and back."""

import csv
import gzip
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

FILE_KINDS = (".csv", ".csv.gz", ".tsv", ".jsonl", ".parquet")
OUTPUT_KINDS = (".jsonl", ".parquet")

csv.field_size_limit(sys.maxsize)  # a text may be longer than the 131,072 characters that csv takes for an error


class DataError(ValueError):
    """Data that cannot be read as declared; the message names file, row and field."""


def read_rows(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """
    Rows of a .csv, .csv.gz, .tsv, .jsonl or .parquet file, one by one.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if the ending is unknown or a row is malformed; names the line.
    """
    for row in read_rows_or_errors(path):
        if isinstance(row, DataError):
            raise row
        yield row


def read_rows_or_errors(path: str | os.PathLike) -> Iterator[dict[str, Any] | DataError]:
    """
    As [`read_rows`], but a malformed row comes as a [`DataError`] in its place and reading goes on.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if the ending is unknown or the rest of the file cannot be read.
    """
    path = str(path)
    if not path.endswith(FILE_KINDS):
        raise DataError(f"{path}: unknown kind of file; known are {', '.join(FILE_KINDS)}.")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        if path.endswith(".parquet"):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    yield from batch.to_pylist()
        elif path.endswith(".jsonl"):
            yield from _read_jsonl(path)
        else:
            yield from _read_csv(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason}); convert it first.") from error
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: no parquet file, or a damaged one: {error}") from error
    except (EOFError, OSError) as error:
        raise DataError(f"{path}: cannot be read to the end: {error}") from error


def _open(path):
    # "utf-8-sig" drops the mark that some spreadsheets put in front
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def _read_jsonl(path):
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                yield DataError(f"{path}, line {number}: no JSON: {error}")
                continue
            if not isinstance(row, dict):
                row = DataError(f"{path}, line {number}: expected an object, got {type(row).__name__}.")
            yield row


def _read_csv(path):
    with _open(path) as file:
        reader = csv.DictReader(file, delimiter="\t" if path.endswith(".tsv") else ",", strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield DataError(f"{path}, line {reader.reader.line_num}: malformed csv: {error}")
                continue
            if None in row or None in row.values():
                row = DataError(
                    f"{path}, line {reader.line_num}: {len(reader.fieldnames)} columns are declared in the first line, "
                    f"but the row has {'more' if None in row else 'fewer'}."
                )
            yield row


class RowWriter:
    """
    Writes rows to a .jsonl or .parquet file, batch by batch; use it in a `with` statement.

    The file appears under its name when it is complete: an interrupted run leaves `NAME.tmp`.

    Args:
        path: the file; `-` writes JSON lines to standard output.

    Raises:
        DataError: if the ending is unknown, or if a batch has other types than the first one (parquet).
    """

    def __init__(self, path: str):
        if path != "-" and not path.endswith(OUTPUT_KINDS):
            raise DataError(f"{path}: unknown kind of output; known are {', '.join(OUTPUT_KINDS)}.")
        self.path = path
        self._aside = f"{path}.tmp"
        self._file = None
        self._schema = None

    def __enter__(self):
        if self.path == "-":
            self._file = sys.stdout
        elif self.path.endswith(".jsonl"):
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._aside, "w", encoding="utf-8")
        return self

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Appends rows; all have the same keys."""
        if self.path.endswith(".parquet"):
            self._write_parquet(rows)
            return
        for row in rows:
            self._file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        self._file.flush()

    def _write_parquet(self, rows):
        if self._file is None:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            fields = [
                pa.field(f.name, pa.string()) if pa.types.is_null(f.type) else f
                for f in pa.Table.from_pylist(rows).schema
            ]
            self._schema = pa.schema(fields)
            self._file = pq.ParquetWriter(self._aside, self._schema)
        try:
            self._file.write_table(pa.Table.from_pylist(rows, schema=self._schema))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(
                f"{self.path}: a row has other types than the first rows ({error}). A .jsonl output takes any."
            ) from error

    def __exit__(self, kind, value, traceback):
        if self.path == "-" or self._file is None:
            return
        self._file.close()
        if kind is None:
            os.replace(self._aside, self.path)
