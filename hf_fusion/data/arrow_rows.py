"""Rows of a data set as views of its Arrow memory: no Python object for each number, no copy of a frame."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset


class ArrowRows(torch.utils.data.Dataset):
    """
    A `datasets.Dataset` read fast: frames come as arrays `(frames, features)` that must not be written to, everything
    else as plain Python values.

    Args:
        dataset (`Dataset`): in any format.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self._tables = dataset.with_format("arrow")

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        (row,) = self.__getitems__([index])
        return row

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        table = self._tables[indices]
        columns = {name: _values(table.column(name)) for name in table.column_names}
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def in_batches(rows, size: int = 256) -> Iterator[dict[str, Any]]:
    """All rows of [`ArrowRows`] in their order, so many at a time."""
    for start in range(0, len(rows), size):
        yield from rows.__getitems__(list(range(start, min(start + size, len(rows)))))


def lengths_of(dataset: Dataset, name: str) -> list[int]:
    """The number of values of each row of a list column, or of frames; 0 where there is none."""
    column = dataset.select_columns([name]).with_format("arrow")[:].column(name)
    counts = (pc.list_value_length(_storage(chunk)).fill_null(0) for chunk in column.chunks)
    return [count for part in counts for count in part.to_pylist()]


def values_of(dataset: Dataset, name: str) -> list:
    """A column of plain values, whatever the format of the data set."""
    return dataset.select_columns([name]).with_format("arrow")[:].column(name).to_pylist()


def _storage(chunk):
    return chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk


def _values(column):
    if not isinstance(column.type, pa.ExtensionType):
        return column.to_pylist()
    width = column.type.shape[1]
    return [frames for chunk in column.chunks for frames in _frames(chunk.storage, width)]


def _frames(rows, width):
    """Views `(frames, features)` of a nested list array; `None` where a row is null."""
    frames = rows.values
    values = frames.values
    if values.null_count:
        return [
            None if row is None else np.asarray(row, dtype=np.float32).reshape(-1, width) for row in rows.to_pylist()
        ]
    flat, starts, bounds = values.to_numpy(), frames.offsets.to_numpy(), rows.offsets.to_numpy()
    valid = rows.is_valid().to_numpy(zero_copy_only=False)
    return [
        flat[starts[first] : starts[last]].reshape(last - first, width) if there else None
        for (first, last), there in zip(pairwise(bounds), valid, strict=True)
    ]
