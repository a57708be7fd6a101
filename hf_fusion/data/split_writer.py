"""Rows -> one Arrow file for each split, with a few rows in memory at a time."""

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Array2D, Dataset, Features, List, Value
from datasets.arrow_writer import ArrowWriter
from datasets.table import MemoryMappedTable

from hf_fusion.data.temporary import new_data_folder

# A column of frames, whose width is known once a row has some.
FRAMES = List(List(Value("float32")))

_ROWS_AT_A_TIME = 128  # that lie in memory before they are written
_NO_FRAMES = np.zeros((0, 1), np.float32)


class SplitWriter:
    """
    Writes rows, as they come, to an Arrow file for each split, and gives data sets that are mapped from these files: a
    corpus may be larger than memory. An error inside the `with` statement removes the files.

    Args:
        features (`Features`): the columns. One of the feature [`FRAMES`] takes float32 arrays `(frames, features)`; the
            data sets have it as `Array2D` (`None` becomes an array without frames), or not at all if every row has
            `None`.
        folder (`str` or `Path`, *optional*): gets `SPLIT.arrow`; by default one that [`new_data_folder`] makes.

    Attributes:
        filled (`dict[str | None, set[str]]`): for each split the columns in which a row has a value.

    Example:

    ```python
    >>> with SplitWriter(Features(id=Value("string"), audio=FRAMES)) as writer:
    ...     writer.write("train", {"id": "a", "audio": np.zeros((3, 2), np.float32)})
    ...     writer.write("test", {"id": "b", "audio": None})
    ...     splits = {split: writer.finish(split) for split in writer.filled}
    >>> splits["test"].features
    {'id': Value('string'), 'audio': Array2D(shape=(None, 2), dtype='float32')}
    ```
    """

    def __init__(self, features: Features, folder: str | Path | None = None):
        self.features = features
        self.filled: dict[str | None, set[str]] = defaultdict(set)
        self._folder = Path(folder or new_data_folder())
        self._folder.mkdir(exist_ok=True)
        self._widths = {name: None for name, feature in features.items() if feature == FRAMES}
        self._writers: dict[str | None, ArrowWriter] = {}

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for writer in self._writers.values():
            writer.close()
        if kind is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, split: str | None, row: dict[str, Any]) -> None:
        """Adds a row to a split; fields that are no columns are left out, absent ones are `None`."""
        row = {name: row.get(name) for name in self.features}
        self.filled[split].update(name for name, value in row.items() if value is not None)
        for name in self._widths:
            if row[name] is None:
                row[name] = _NO_FRAMES
            else:
                self._widths[name] = row[name].shape[1]
        if split not in self._writers:
            self._writers[split] = ArrowWriter(
                features=self.features, path=str(self._path(split)), writer_batch_size=_ROWS_AT_A_TIME
            )
        self._writers[split].write(row)

    def finish(self, split: str | None) -> Dataset:
        """The rows of a split, which gets no more; for [`FRAMES`] call it when all splits have their rows."""
        self._writers[split].finalize()
        features = Features(self.features)
        for name, width in self._widths.items():
            if width is None:
                del features[name]
            else:
                features[name] = Array2D((None, width), "float32")
        table = MemoryMappedTable.from_file(str(self._path(split))).select(list(features))
        return Dataset(table.cast(features.arrow_schema))  # frames of any width are stored alike: nothing is copied

    def _path(self, split):
        return self._folder / f"{split}.arrow"
