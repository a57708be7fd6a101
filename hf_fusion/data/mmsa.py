"""Clips of MMSA feature files: MOSI, MOSEI, CH-SIMS and what MMSA-FET writes."""

import logging
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hf_fusion.data.decoding import SURROGATE
from hf_fusion.data.files import DataError
from hf_fusion.data.pickles import read_pickle, sha256_of
from hf_fusion.data.splits import SPLIT_ALIASES, SPLITS

logger = logging.getLogger(__name__)

# SHA-256 of the feature files as the MMSA framework publishes them
PUBLISHED = {
    "unaligned_50.pkl": {
        "78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524": "MOSI",
        "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f": "MOSEI",
    },
    "unaligned_39.pkl": {"c9e20c13ec0454d98bb9c1e520e490c75146bfa2dfeeea78d84de047dbdd442f": "CH-SIMS"},
}
LABELS = {
    "label": "regression_labels",
    "label_text": "regression_labels_T",
    "label_audio": "regression_labels_A",
    "label_vision": "regression_labels_V",
}


def read_mmsa(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """
    Clips of an MMSA feature file, one by one; the whole file is checked before the first.

    Yields:
        dict: `id`, `split` ("train", "validation" or "test"), `text` (str or None), `audio` and `vision` (float32
            arrays (frames, features) without padding, or None where there is no frame) and `label` (float, or None
            where it is NaN); `label_text`, `label_audio` and `label_vision` where the file has them. Values that are
            not finite stay in the arrays. An array may be a read-only view of the whole file's.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if the file is damaged, is no published one in spite of its name, or has another format; names
            split, field and clip.
    """
    path = str(path)
    _check_hash(path)
    for split, columns in _splits(path, read_pickle(path)).items():
        yield from _clips(split, columns)


def _check_hash(path):
    digest, name = sha256_of(path), Path(path).name
    known = {sha: title for published in PUBLISHED.values() for sha, title in published.items()}
    if name in PUBLISHED and digest not in PUBLISHED[name]:
        raise DataError(
            f"{path}: SHA-256 {digest} is not that of a published {name} ({' or '.join(PUBLISHED[name].values())}): "
            "the file is damaged or was changed. Get it again; if it is your own file, give it another name."
        )
    if digest in known:
        logger.info("%s: the published features of %s.", path, known[digest])
    else:
        logger.warning("%s: not one of the published feature files (SHA-256 %s).", path, digest)


def _splits(path, data):
    """Columns of each split by its name in rows; drops the other fields, which may take most of the memory."""
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected a dict of splits, got {_shown(data)}.")
    splits, known = {}, ", ".join((*SPLITS, *SPLIT_ALIASES))
    for name, fields in data.items():
        split = SPLIT_ALIASES.get(name, name)
        if split not in SPLITS:
            raise DataError(f"{path}: unknown split {_shown(name)}; known are {known}.")
        if split in splits:
            raise DataError(f"{path}: the split {split} comes twice, again as {name!r}; keep one of them.")
        splits[split] = _columns(f"{path}, split {name!r}", fields)
    if not splits:
        raise DataError(f"{path}: has no split; known are {known}.")
    return splits


def _columns(place, fields):
    """Checked values of the fields of a split, one for each clip; None for an absent field."""
    if not isinstance(fields, dict):
        raise DataError(f"{place}: expected a dict of fields, got {_shown(fields)}.")
    for name in ("id", LABELS["label"]):
        if fields.get(name) is None:
            raise DataError(f"{place}: field {name!r} is missing.")
    if all(fields.get(name) is None for name in ("raw_text", "audio", "vision")):
        raise DataError(f"{place}: needs one of the fields 'raw_text', 'audio' and 'vision'; has none.")
    ids = _values(place, fields, "id", _is_text, "a text")
    columns = {"id": ids, "raw_text": _values(place, fields, "raw_text", _is_text, "a text", ids)}
    for name in LABELS.values():
        columns[name] = _values(place, fields, name, _is_label, "a finite number, NaN or None", ids)
    for name in ("audio", "vision"):
        columns[name] = _features(place, fields, name, ids)
    return columns


def _values(place, fields, name, accepts, accepted, ids=None):
    """A field that is a list or an array of one dimension, as a list with one value for each of the `ids`."""
    values = fields.get(name)
    if values is None:
        return None
    if not isinstance(values, list | tuple) and not (isinstance(values, np.ndarray) and values.ndim == 1):
        raise DataError(f"{place}, field {name!r}: expected a list or array of one dimension, got {_shown(values)}.")
    if ids is not None:
        _check_count(place, name, values, ids)
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    for index, value in enumerate(values):
        if not accepts(value):
            clip = f"clip {ids[index]!r}" if ids else f"clip number {index}"
            raise DataError(f"{place}, field {name!r}, {clip}: expected {accepted}, got {_shown(value)}.")
    return values


def _check_count(place, name, values, ids):
    if len(values) != len(ids):
        raise DataError(f"{place}: field 'id' has {len(ids)} clips, but field {name!r} has {len(values)}.")


def _is_text(value):
    return isinstance(value, str) and not SURROGATE.search(value)


def _is_label(value):
    if type(value) is float:
        return not math.isinf(value)
    return value is None or (type(value) is int and abs(value) <= sys.float_info.max)


def _features(place, fields, name, ids):
    """Array (clips, frames, features) and the number of frames of each clip; None for the numbers if not given."""
    array = fields.get(name)
    if array is None:
        return None
    if not isinstance(array, np.ndarray) or array.ndim != 3 or array.dtype.kind not in "fiu" or not array.shape[2]:
        raise DataError(
            f"{place}, field {name!r}: expected a numeric array (clips, frames, features), got {_shown(array)}."
        )
    _check_count(place, name, array, ids)
    frames = array.shape[1]

    def is_length(value):
        return type(value) is int and 0 <= value <= frames

    accepted = f"an integer from 0 to {frames}, the frames of {name!r}"
    return array, _values(place, fields, f"{name}_lengths", is_length, accepted, ids)


def _shown(value):
    if isinstance(value, np.ndarray):
        return f"an array of type {value.dtype} and shape {value.shape}"
    if isinstance(value, str | float) or (type(value) is int and abs(value) < 1e18):
        return f"{value!r:.50}"
    return type(value).__name__


def _clips(split, columns):
    texts = columns["raw_text"]
    for index, clip in enumerate(columns["id"]):
        row = {"id": clip, "split": split, "text": None if texts is None else texts[index]}
        row |= {name: _frames(columns[name], index) for name in ("audio", "vision")}
        for name, field in LABELS.items():
            if columns[field] is not None:
                value = columns[field][index]
                row[name] = None if value is None or math.isnan(value) else float(value)
        yield row


def _frames(features, index):
    """Frames (frames, features) of a clip as float32, or None if it has none."""
    if features is None:
        return None
    array, lengths = features
    frames = array[index]
    if lengths is not None:
        frames = frames[: lengths[index]]
    else:
        filled = np.flatnonzero((frames != 0).any(axis=1))
        frames = frames[: filled[-1] + 1 if len(filled) else 0]
    with np.errstate(over="ignore"):  # becomes infinite, as others that are not finite
        return np.ascontiguousarray(frames, dtype=np.float32) if len(frames) else None
