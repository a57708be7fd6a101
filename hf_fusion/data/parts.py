"""Many files of rows as one long table: found, surveyed once, and read from any row on."""

import logging
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hf_fusion.data.decoding import AS_FOUND, KNOWN_FILES, TextFormat, is_row_file, kind_of
from hf_fusion.data.files import count_rows, read_rows_or_errors
from hf_fusion.data.tally import tally
from hf_fusion.utils.errors import DataError, listed

logger = logging.getLogger(__name__)

# In folders these are rather notes and settings than rows; a pattern that ends so takes them.
_OTHER_KINDS = (".txt", ".json")

# Rows whose types are found together.
_SURVEY_ROWS = 1024


def find_parts(names: Iterable[str | os.PathLike]) -> list[str]:
    """
    The files of rows behind names, in the order of the names.

    Args:
        names: files; folders, of which all files of rows are taken, sorted by name, but those that begin with `.` or
            `_` and those of .txt and .json; and patterns such as `reviews/2024-*.parquet` (`**` is any depth), sorted
            by path, which take .txt and .json only if they end so.

    Raises:
        DataError: if there is none behind a name, or one comes twice.
        FileNotFoundError: if a name that is that of a folder by its form is not there.
    """
    parts = []
    for name in map(str, names):
        if Path(name).is_dir():
            found = _parts_among(name, sorted(Path(name).iterdir()))
        elif has_magic(name) and not Path(name).exists():
            found = _parts_among(name, map(Path, sorted(glob(name, recursive=True))))
        else:
            if not Path(name).exists() and (name.endswith(("/", os.sep)) or not Path(name).suffix):
                raise FileNotFoundError(f"{name}: no such file or folder.")
            found = [name]
        if not found:
            raise DataError(f"{name}: no file of rows there; known are {KNOWN_FILES}.")
        parts += found
    seen = set()
    for path in parts:
        if (real := os.path.realpath(path)) in seen:
            raise DataError(f"{path} is given twice.")
        seen.add(real)
    return parts


def _parts_among(name, paths):
    files = [path for path in paths if is_row_file(path) and not path.name.startswith((".", "_")) and path.is_file()]
    others = [] if is_row_file(name) else [path.name for path in files if kind_of(path) in _OTHER_KINDS]
    tally("files of .txt or .json are left out", len(others))
    if others:
        logger.warning("%s: %d files of .txt or .json are left out: %s.", name, len(others), listed(others))
    return [str(path) for path in files if path.name not in others]


def survey(paths: list[str], text_format: TextFormat = AS_FOUND) -> tuple[list[int], pa.Schema]:
    """
    The number of rows of each file, malformed ones included, and the columns of all of them together.

    Of a parquet file its footer is read, of any other all rows. A column that a file does not have is empty (null) in
    its rows; numbers of several kinds become the widest; a column without any value counts as text.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if a file cannot be read, or a column has types that do not go together; names file and column.
    """
    counts, schema = [], pa.schema([])
    for path in paths:
        counts.append(0)
        for count, found in _pieces(path, text_format):
            counts[-1] += count
            schema = _merged(schema, found, path)
    fields = [pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in schema]
    return counts, pa.schema(fields)


def _pieces(path, text_format):
    """The number of rows and the columns of a file, piece by piece."""
    if kind_of(path) == ".parquet":
        yield count_rows(path), pq.read_schema(path).remove_metadata()
        return
    rows = read_rows_or_errors(path, text_format=text_format)
    while chunk := list(islice(rows, _SURVEY_ROWS)):
        good = [row for row in chunk if isinstance(row, dict)]
        names = dict.fromkeys(name for row in good for name in row)
        yield len(chunk), pa.schema([(name, _type_of([row.get(name) for row in good], name, path)) for name in names])


def _type_of(values, name, path):
    try:
        return pa.array(values).type
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        raise DataError(f"{path}: the column {name!r} is not of one type that parquet can hold: {error}") from error


def _merged(schema, found, path):
    try:
        return pa.unify_schemas([schema, found], promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"{path}: columns do not go together with those before: {error}") from error


def stamp(path: str | os.PathLike) -> list[int]:
    """Size in bytes and time of the last change in nanoseconds, which show whether a file has changed."""
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


class Parts:
    """
    Files as one table.

    Args:
        paths: of the files, in their order.
        counts: the number of rows of each, as [`survey`] found it.
        stamps: the [`stamp`] of each at that time.
        text_format: of the files of text among them.
    """

    def __init__(
        self, paths: list[str], counts: list[int], stamps: list[list[int]], text_format: TextFormat = AS_FOUND
    ):
        self.paths, self._stamps, self._text_format = paths, stamps, text_format
        self._starts = [0, *accumulate(counts)]
        self._rows: Iterator = iter(())
        self._next = None  # file and row where `_rows` goes on

    def __len__(self):
        return self._starts[-1]

    def read(self, start: int, stop: int) -> Iterator[dict[str, Any] | DataError]:
        """
        The rows `start` to `stop` (not included), or a [`DataError`] for each malformed one. Going on where the last
        call ended is free; any other start reads the file from its beginning.

        Raises:
            DataError: if a file cannot be read, or was changed since its rows were counted.
        """
        while start < stop:
            part = bisect_right(self._starts, start) - 1
            end = min(stop, self._starts[part + 1])
            if self._next != (part, start):
                first = start - self._starts[part]
                self._rows = read_rows_or_errors(self.paths[part], first, self._text_format)
            self._next = None
            for row in islice(self._rows, end - start):
                start += 1
                yield row
            if start < end or stamp(self.paths[part]) != self._stamps[part]:
                raise DataError(f"{self.paths[part]} was changed since its rows were counted: begin anew.")
            self._next = (part, end)
