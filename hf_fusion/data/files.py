"""Rows of files, one by one, and back; YAML."""

import csv
import gzip
import inspect
import json
import logging
import lzma
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from hf_fusion.data.decoding import (
    AS_FOUND,
    FILE_KINDS,
    TextFormat,
    check_signature,
    encoding_of,
    kind_of,
    other_encoding,
    unicode_or_error,
)
from hf_fusion.data.json_files import count_json_lines, read_json, read_json_lines
from hf_fusion.data.tables import read_table, read_texts, read_workbook
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.errors import listed as listed

logger = logging.getLogger(__name__)

# Endings of files of rows and of clips, in lower case.
DATA_FILE_KINDS = (*FILE_KINDS, ".npz", ".pkl")
# of outputs without nested columns
FLAT_KINDS = (".csv", ".csv.gz")
OUTPUT_KINDS = (".jsonl", ".parquet", *FLAT_KINDS)
# Rows of a parquet file that become Python objects at a time, and bytes that are read ahead of each column.
_PARQUET_ROWS = 256
_PARQUET_BUFFER = 1 << 20
# Errors of Arrow for values that do not fit one column.
_NO_COLUMN = (pa.ArrowException, TypeError, UnicodeEncodeError, OverflowError)
_MAX_YAML_DEPTH, _MAX_YAML_VALUES = 50, 20_000


def read_yaml(path: str | os.PathLike) -> Any:
    """
    The content of a YAML file; see [`parse_yaml`].

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return parse_yaml(Path(path).read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error


def parse_yaml(text: str, place: str, language: str = "YAML") -> Any:
    """
    Plain values of YAML: null, true and false, numbers, texts, dates, lists and mappings; no tag makes anything else.

    Args:
        text: the YAML; JSON is YAML too.
        place: where it stands, for messages.
        language: what messages call it.

    Raises:
        DataError: if it is no YAML, is nested deeply, or is long or endless once its aliases are followed; begins with
            `place`.
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_YAML_DEPTH:
                raise DataError(f"{place}: more than {_MAX_YAML_DEPTH} levels of lists and mappings.")
        content = yaml.safe_load(text)
    except DataError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # also a date or a number that cannot be
        raise DataError(f"{place}: no valid {language}: {str(error)[:500]}") from error
    waiting, count = [content], 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, (list, tuple, set, dict)):
            count += len(value)
            waiting += [*value, *value.values()] if isinstance(value, dict) else value
        if count > _MAX_YAML_VALUES:
            raise DataError(f"{place}: more than {_MAX_YAML_VALUES:,} values, or aliases without an end.")
    return content


def with_options(name: str, read: Callable, options: dict[str, Any]) -> Any:
    """`read(**options)`; raises [`DataError`] if these are not the options that the reader of `name` takes."""
    try:
        inspect.signature(read).bind(**options)  # its error names no function
        return read(**options)
    except (TypeError, OverflowError) as error:
        raise DataError(f"{name}: the options {options!r:.200} are not those of this source: {error}") from error


def read_rows(path: str | os.PathLike, text_format: TextFormat = AS_FOUND) -> Iterator[dict[str, Any]]:
    """
    Rows of a file of any of `FILE_KINDS`, one by one.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if the ending is unknown or a row is malformed; names the line.
    """
    for row in read_rows_or_errors(path, text_format=text_format):
        if isinstance(row, DataError):
            raise row
        yield row


def read_rows_or_errors(
    path: str | os.PathLike, first: int = 0, text_format: TextFormat = AS_FOUND
) -> Iterator[dict[str, Any] | DataError]:
    """
    As [`read_rows`], but a malformed row comes as a [`DataError`] in its place and reading goes on.

    Args:
        path: the file. It is read as a stream, whatever its size, but for .json files without a list of rows.
        first: rows to pass over at the start; that is faster than to read them.
        text_format: of .csv, .tsv, .jsonl, .json and .txt files, where their content does not tell.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if the ending is unknown or the rest of the file cannot be read.
        ImportError: if it is an Excel workbook and openpyxl is not installed.
    """
    path = str(path)
    with _checking(path):
        kind = kind_of(path)
        if kind == ".parquet":
            yield from _read_parquet(path, first)
            return
        read = partial(read_json_lines, first=first) if kind == ".jsonl" else _READERS[kind]
        for place, row in islice(read(path, text_format), 0 if kind == ".jsonl" else first, None):
            yield row if isinstance(row, DataError) else _decoded_or_error(row, place, path, text_format)


def count_rows(path: str | os.PathLike, text_format: TextFormat = AS_FOUND) -> int:
    """
    Rows of a file, malformed ones included.

    Raises:
        FileNotFoundError, DataError, ImportError: as [`read_rows_or_errors`].
    """
    path = str(path)
    with _checking(path):
        kind = kind_of(path)
        if kind == ".parquet":
            metadata = pq.read_metadata(path)
            _check_names(path, metadata.schema.to_arrow_schema().names)
            return metadata.num_rows
        return (
            count_json_lines(path, text_format)
            if kind == ".jsonl"
            else sum(1 for _ in _READERS[kind](path, text_format))
        )


_READERS = {
    ".csv": read_table, ".tsv": read_table, ".txt": read_texts, ".xlsx": read_workbook, ".json": read_json,
}  # fmt: skip


@contextmanager
def _checking(path):
    """Turns errors of reading a file into [`DataError`] with its name."""
    kind = kind_of(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        yield
    except DataError:
        raise
    except UnicodeError as error:
        raise DataError(f"{path}: cannot be decoded: {error}") from error
    except (pa.ArrowException, ValueError, OverflowError) as error:  # what Arrow reads may be no value of Python
        if kind == ".parquet":
            with open(path, "rb") as file:
                head = file.read(64)
            if not head.startswith(b"PAR1"):
                check_signature(path, head)
        raise DataError(f"{path}: no {kind.removeprefix('.')} file, or a damaged one: {str(error)[:200]}") from error
    except (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read to the end: {error}") from error


def _read_parquet(path, first):
    with pq.ParquetFile(path, buffer_size=_PARQUET_BUFFER) as file:
        _check_names(path, file.schema_arrow.names)
        texts = [field.name for field in file.schema_arrow if "string" in str(field.type)]
        number = first
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if first >= rows:
                first -= rows
                continue
            for batch in file.iter_batches(_PARQUET_ROWS, row_groups=[group]):
                passed = min(first, len(batch))
                first -= passed
                for row in batch.slice(passed).to_pylist():
                    number += 1
                    checked = unicode_or_error({name: row[name] for name in texts}, f"{path}, row {number}")
                    yield checked if isinstance(checked, DataError) else row


def _check_names(path, names):
    if len(set(names)) < len(names):
        raise DataError(f"{path}: a column is named twice; there are {listed(names)}.")


def _decoded_or_error(row, place, path, text_format):
    if not isinstance(unicode_or_error(row, place), DataError):
        return row
    encoding = encoding_of(path, text_format)
    if encoding != "utf-8":
        return unicode_or_error(row, place, encoding)
    advice = other_encoding(path)
    checked = unicode_or_error(row, place, "UTF-8" if advice else "")
    return DataError(f"{checked} {advice}") if str(checked).endswith("is not UTF-8.") else checked


def is_flat(path: str) -> bool:
    """Whether an output has no nested columns, by its ending."""
    return path.lower().endswith(FLAT_KINDS)


class RowWriter:
    """
    Writes rows to a .jsonl, .parquet, .csv or .csv.gz file, batch by batch; use it in a `with` statement.

    The file appears under its name when it is complete: an interrupted run leaves `NAME.tmp`. In csv nested values are
    JSON, and what is missing is empty.

    Args:
        path: the file; `-` writes JSON lines to standard output.
        types: types of columns that the first rows may not show (parquet); the columns of a file without rows.

    Raises:
        DataError: if the ending is unknown, or if a row has other columns or types than the first batch (parquet, csv).
    """

    def __init__(self, path: str, types: dict[str, pa.DataType] | None = None):
        if path != "-" and not path.lower().endswith(OUTPUT_KINDS):
            raise DataError(f"{path}: unknown kind of output; known are {', '.join(OUTPUT_KINDS)}.")
        self.path = path
        self._flat, self._parquet = is_flat(path), path.lower().endswith(".parquet")
        self._aside = f"{path}.tmp"
        self._file = None
        self._types = types or {}
        self._columns = None

    def __enter__(self):
        if self.path == "-":
            sys.stdout.reconfigure(errors="backslashreplace")
            self._file = sys.stdout
        return self

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Appends rows; all have the same keys."""
        if self._file is None:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._open(rows)
        if self._columns is not None:
            known = set(getattr(self._columns, "names", self._columns))
            good = list(takewhile(known.issuperset, rows))
            (self._write_parquet if self._parquet else self._write_csv)(good)
            if len(good) < len(rows):
                unknown = next(name for name in rows[len(good)] if name not in known)
                raise DataError(
                    f"{self.path}: a row differs from the first ones (new column {unknown!r}). A .jsonl output takes "
                    "any."
                )
        else:
            for row in rows:
                self._file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
            self._file.flush()

    def _open(self, rows):
        names = list(dict.fromkeys(name for row in rows for name in row)) or list(self._types)
        if self._parquet:
            self._columns = pa.schema([(name, self._type_of(name, rows)) for name in names])
            self._file = pq.ParquetWriter(self._aside, self._columns)
            return
        # a lone surrogate of a bad input becomes an escape
        options = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
        open_text = gzip.open if self.path.lower().endswith(".gz") else open
        self._file = open_text(self._aside, "wt", **options)
        if self._flat:
            self._columns = names
            csv.writer(self._file).writerow(names)

    def _write_csv(self, rows):
        csv.writer(self._file).writerows([_cell(row.get(name)) for name in self._columns] for row in rows)
        self._file.flush()

    def _write_parquet(self, rows):
        try:
            self._file.write_table(pa.Table.from_pylist(rows, schema=self._columns))
        except _NO_COLUMN as error:
            raise DataError(
                f"{self.path}: a row differs from the first ones ({error}). A .jsonl output takes any."
            ) from error

    def _type_of(self, name, rows):
        if name in self._types:
            return self._types[name]
        try:
            found = pa.array([row.get(name) for row in rows]).type
        except _NO_COLUMN as error:
            raise DataError(
                f"{self.path}: the values of {name!r} are of several types ({error}). A .jsonl output takes any."
            ) from error
        return pa.string() if pa.types.is_null(found) else found

    def __exit__(self, kind, value, traceback):
        if self.path == "-":
            return
        if kind is None and self._file is None:
            self.write([])
        if self._file is not None:
            self._file.close()
            if kind is not None:
                logger.warning("%s is not complete; what was written of it is in %s.", self.path, self._aside)
        if kind is None:
            os.replace(self._aside, self.path)


def _cell(value):
    """A value as the text of a csv cell; the csv module writes numbers so that they are read back exactly."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value
