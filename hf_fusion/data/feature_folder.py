"""Folders of features: a labels file, and for each clip an npz file or parquet files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_fusion.data.files import DataError, listed, read_rows
from hf_fusion.models.feature_extraction_dashfusion import STREAMS

LABEL_FILES = ("labels.csv", "labels.tsv", "labels.jsonl", "labels.parquet")


MAX_ID_BYTES = 200  # a file system takes names of 255


def read_feature_folder(folder: str) -> Iterator[dict[str, Any]]:
    """
    Clips of a folder, one by one.

    The folder holds one of `labels.csv`, `.tsv`, `.jsonl` or `.parquet` with the column `id`, and if there
    are any `label`, `text` and `split`. The frames of the clip ID are the arrays `audio` and `vision` (frames,
    features) of `ID.npz`, or the rows of `ID.audio.parquet` and `ID.vision.parquet`. Each of the files may be absent.

    Raises:
        DataError: if the labels file is absent or lacks a column, or if a file of features is damaged; names it.
    """
    labels = next((Path(folder) / name for name in LABEL_FILES if (Path(folder) / name).is_file()), None)
    if labels is None:
        raise DataError(f"{folder}: no labels file; expected one of {', '.join(LABEL_FILES)}.")
    for number, row in enumerate(read_rows(labels), 1):
        if "id" not in row:
            raise DataError(f"{labels}: no column 'id'; there are {listed(row)}.")
        clip_id = "" if row["id"] is None else str(row["id"])
        if not clip_id or Path(clip_id).name != clip_id or len(clip_id.encode()) > MAX_ID_BYTES:
            raise DataError(f"{labels}, row {number}: the id {clip_id!r:.100} is no file name.")
        yield {
            "id": clip_id,
            "split": row.get("split") or None,
            "text": row.get("text"),
            "label": None if row.get("label") == "" else row.get("label"),
            **_features(Path(folder), clip_id),
        }


def _features(folder, clip_id):
    found = dict.fromkeys(STREAMS)
    path = folder / f"{clip_id}.npz"
    if path.is_file():
        found.update(_read_npz(path))
    for name in STREAMS:
        path = folder / f"{clip_id}.{name}.parquet"
        if path.is_file():
            found[name] = _read_parquet(path)
    return found


def _read_npz(path):
    try:
        with np.load(path, allow_pickle=False) as content:
            if not set(STREAMS) & set(content):
                raise DataError(
                    f"{path}: expected the arrays 'audio' or 'vision', found {', '.join(map(repr, content)) or 'none'}."
                )
            return {name: content[name] for name in STREAMS if name in content}
    except DataError:
        raise
    except Exception as error:  # wrong bytes can make numpy and zipfile fail in any way
        raise DataError(f"{path}: cannot be read as arrays of numbers: {error}") from error


def _read_parquet(path):
    try:
        table = pq.read_table(path)
        return np.stack([column.to_numpy().astype(np.float32) for column in table.columns], axis=1)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: expected a row for each frame and a column of numbers for each feature: {error}"
        ) from error
