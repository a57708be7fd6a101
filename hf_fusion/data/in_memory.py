"""Data that is in memory already: a `pandas.DataFrame`, or data sets of `datasets`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import pandas as pd
from datasets import Array2D, Dataset, IterableDataset

from hf_fusion.utils.errors import DataError

Rows: TypeAlias = Dataset | IterableDataset
# By the names of the splits; `None` for rows in one piece.
Splits: TypeAlias = dict[str | None, Rows]
# What functions accept as data: a name (a file, folder, pattern or data set on the Hub), or the rows themselves.
Data: TypeAlias = str | Path | pd.DataFrame | Rows | Mapping[str, Rows | pd.DataFrame]


def name_and_splits(data: Data) -> tuple[str, Splits | None]:
    """
    The name of data for messages, and its splits; `None` if the data is nothing but a name.

    Raises:
        DataError: if it is of another type.
    """
    if isinstance(data, (str, Path)):
        return str(data), None
    if isinstance(data, Mapping):
        return "DatasetDict", {str(split): _rows_of(rows) for split, rows in data.items()}
    return type(data).__name__, {None: _rows_of(data)}


def check_no_options(name: str, options: dict) -> None:
    """Raises `DataError` if there are options, which data in memory does not take."""
    if options:
        raise DataError(f"{name}: data in memory takes no `options`, got {options!r:.200}.")


def _rows_of(data):
    if isinstance(data, pd.DataFrame):
        categories = data.select_dtypes("category").columns
        kinds = {name: object if data[name].hasnans else data[name].cat.categories.dtype for name in categories}
        plain = data.astype(kinds)
        return Dataset.from_pandas(plain.rename(columns=str), preserve_index=False)
    if isinstance(data, Dataset):
        frames = [name for name, feature in data.features.items() if isinstance(feature, Array2D)]
        return data.with_format("numpy" if frames else None, columns=frames or None, output_all_columns=bool(frames))
    if isinstance(data, IterableDataset):
        return data.with_format(None)
    raise DataError(
        "Data must be a path, a name on the Hub, a pandas.DataFrame, a datasets.Dataset or a DatasetDict, got "
        f"{type(data).__name__}."
    )
