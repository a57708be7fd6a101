"""Rows of a data set as views of its Arrow memory: no Python object for each number, no copy of a frame."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset


class ArrowRows(torch.utils.data.Dataset):
    """
    Reads a `datasets.Dataset` fast: frames as read-only arrays `(frames, features)`, everything else as plain Python
    values.

    Args:
        dataset (`Dataset`): in any format.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        # of a shuffled or selected data set: the rows of the table in its order
        self._order = None if dataset._indices is None else dataset._indices.column(0).to_numpy().astype(np.int64)
        self._columns = {name: _Column(dataset.data.column(name)) for name in dataset.column_names}

    def __reduce__(self):  # into a worker go the files' names, not the memory
        return ArrowRows, (self.dataset,)

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        (row,) = self.__getitems__([index])
        return row

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        rows = np.asarray(indices)
        if len(rows) and not (-len(self) <= rows.min() and rows.max() < len(self)):
            raise IndexError(f"Rows {rows.min()} to {rows.max()} of {len(self)}.")
        rows = rows % len(self) if self._order is None else self._order[rows]
        columns = [column.read(rows) for column in self._columns.values()]
        return [dict(zip(self._columns, values, strict=True)) for values in zip(*columns, strict=True)]


class _Column:
    """One column, in the chunks of its table."""

    def __init__(self, column):
        self.ends = np.cumsum([len(chunk) for chunk in column.chunks])
        self.starts = self.ends - [len(chunk) for chunk in column.chunks]
        width = column.type.shape[1] if isinstance(column.type, pa.ExtensionType) else None
        self.readers = [_plain(chunk) if width is None else _frames(chunk.storage, width) for chunk in column.chunks]

    def read(self, rows):
        """The values of some rows."""
        pieces = np.searchsorted(self.ends, rows, side="right")
        places = zip(pieces.tolist(), (rows - self.starts[pieces]).tolist(), strict=True)
        return [self.readers[piece](i) for piece, i in places]


def _plain(chunk):
    return lambda i: chunk[i].as_py()


def _frames(rows, width):
    """Gives the frames of a row of a nested list array as a view `(frames, features)`; `None` where it is null."""
    frames = rows.values
    values, bounds, starts = frames.values, rows.offsets.to_numpy(), frames.offsets.to_numpy()
    if values.null_count:
        return lambda i: None if rows[i].as_py() is None else np.float32(rows[i].as_py()).reshape(-1, width)
    flat = values.to_numpy()
    valid = None if rows.null_count == 0 else rows.is_valid().to_numpy(zero_copy_only=False)

    def read(i):
        first, last = bounds[i], bounds[i + 1]
        return None if valid is not None and not valid[i] else flat[starts[first] : starts[last]].reshape(-1, width)

    return read


def in_batches(rows, size: int = 256) -> Iterator[dict[str, Any]]:
    """All rows of [`ArrowRows`] in their order, read `size` rows at a time."""
    for start in range(0, len(rows), size):
        yield from rows.__getitems__(list(range(start, min(start + size, len(rows)))))


def lengths_of(dataset: Dataset, name: str) -> list[int]:
    """The number of values of each row of a list column, or of frames; 0 where there is none."""
    column = dataset.select_columns([name]).with_format("arrow")[:].column(name)
    counts = (pc.list_value_length(_storage(chunk)).fill_null(0) for chunk in column.chunks)
    return [count for part in counts for count in part.to_pylist()]


def values_of(dataset: Dataset, name: str) -> list:
    """A column of plain values, in any format of the data set."""
    return dataset.select_columns([name]).with_format("arrow")[:].column(name).to_pylist()


def _storage(chunk):
    return chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
