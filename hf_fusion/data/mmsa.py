"""Clips of MMSA feature files: MOSI, MOSEI, CH-SIMS and files of MMSA-FET."""

import logging
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hf_fusion.data.decoding import SURROGATE
from hf_fusion.data.padding import PADDINGS, PaddedClips, unpad
from hf_fusion.data.pickles import read_pickle, sha256_of
from hf_fusion.data.splits import SPLIT_ALIASES, SPLITS, canonical_split
from hf_fusion.data.tally import tally
from hf_fusion.utils.errors import DataError, listed

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


# The other fields of MMSA and MMSA-FET, which no model of this package reads.
_UNREAD = ("text", "text_bert", "annotations", "classification_labels", "mode")
_CLIP_FIELDS = ("id", "raw_text", "text", "text_bert", "audio", "vision", "video", *LABELS.values())


def read_mmsa(
    path: str | os.PathLike, padding: str | None = None, use_lengths: bool = True, own_file: bool = False
) -> Iterator[dict[str, Any]]:
    """
    Clips of an MMSA feature file, one by one; the whole file is checked before the first.

    The file holds splits; without them, the fields of clips or those of one clip (as `run_single` of MMSA-FET writes
    them), whose `split` is `None`. Other keys, such as the settings of an extractor, are named in the log and left out.

    Args:
        path: the file.
        padding: where padding is: "start", "end" or "none"; by default found from the frames, see [`unpad`].
        use_lengths: whether to look at `audio_lengths` and `vision_lengths`.
        own_file: whether a file that has a published name and another hash is read.

    Yields:
        dict: `id`, `split` ("train", "validation", "test" or None), `text` (str, None or NaN), `audio` and `vision`
            (float32 arrays (frames, features) without padding, or None where there is no frame but zeros) and `label`
            (float, a list where the field has two dimensions, or None where it is NaN or absent); `label_text`,
            `label_audio` and `label_vision` where the file has them. Values that are not finite stay in the arrays. An
            array may be a read-only view of the whole file's.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if the file is damaged, is no published one in spite of its name, has another format, or if lengths
            and frames contradict each other; names split, field and clip.
    """
    path = str(path)
    if padding is not None and padding not in PADDINGS:
        raise DataError(f"{path}: the option `padding` must be one of {', '.join(PADDINGS)}, got {_shown(padding)}.")
    for name, value in (("use_lengths", use_lengths), ("own_file", own_file)):
        if not isinstance(value, bool):
            raise DataError(f"{path}: the option `{name}` must be true or false, got {_shown(value)}.")
    _check_hash(path, own_file)
    splits = _splits(path, read_pickle(path))
    for name in ("audio", "vision"):
        _report_absent_stream(splits, name)
        _unpad(path, splits, name, padding, use_lengths)
    for split, columns in splits.items():
        yield from _clips(split, columns)


def _check_hash(path, own_file):
    digest, name = sha256_of(path), Path(path).name
    known = {sha: title for published in PUBLISHED.values() for sha, title in published.items()}
    if name in PUBLISHED and digest not in PUBLISHED[name] and not own_file:
        raise DataError(
            f"{path}: SHA-256 {digest} is not that of a published {name} ({' or '.join(PUBLISHED[name].values())}): "
            "the file is damaged or was changed. Get it again; if it is your own file, give it another name or say so "
            'in the options: {"own_file": true}.'
        )
    if digest in known:
        logger.info("%s: the published features of %s.", path, known[digest])
    else:
        logger.warning("%s: not one of the published feature files (SHA-256 %s).", path, digest)


def _splits(path, data):
    """Columns of each split by its name in rows; drops the other fields, which may take most of the memory."""
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected a dict of splits, got {_shown(data)}.")
    if any(_is_field(data.get(name)) for name in _CLIP_FIELDS):
        return {None: _without_splits(path, data)}
    splits, known = {}, ", ".join((*SPLITS, *SPLIT_ALIASES))
    for name, fields in data.items():
        split = _split_of(name)
        if split is None:
            if _has_clips(fields):
                raise DataError(
                    f"{path}: unknown split {_shown(name)}; known are {known}. Rename it, or write the file without it."
                )
            logger.warning("%s: the key %s is no split (%s); it is not read.", path, _shown(name), _summary(fields))
            continue
        if split in splits:
            raise DataError(f"{path}: the split {split} comes twice, again as {name!r}; keep one of them.")
        splits[split] = _columns(f"{path}, split {name!r}", fields)
    if not splits:
        raise DataError(f"{path}: has no split; known are {known}. {_shown_keys(data)}")
    return splits


def _split_of(name):
    """The split that a key names, in any case; `None` for other keys."""
    split = canonical_split(name) if isinstance(name, str) else None
    return split if split in SPLITS else None


def _is_field(value):
    """Whether it can be the field of a split or of a clip; the settings of an extractor are dicts, texts or numbers."""
    return isinstance(value, np.ndarray) or (isinstance(value, list | tuple) and len(value) > 0)


def _has_clips(fields):
    return isinstance(fields, dict) and any(_is_field(fields.get(name)) for name in _CLIP_FIELDS)


def _shown_keys(data):
    return f"Its keys are {', '.join(map(_shown, list(data)[:10]))}." if data else "It is empty."


def _summary(value):
    if isinstance(value, dict):
        return f"a dict of {listed(map(_shown, value))}" if value else "an empty dict"
    return _shown(value)


def _without_splits(path, data):
    """Columns of a file that holds the fields of clips, or those of one clip."""
    one = next((data[name] for name in ("audio", "vision", "video", "text") if _is_field(data.get(name))), None)
    if one is not None and np.ndim(one) == 2 and not _is_field(data.get("id")):
        logger.warning("%s: one clip, without splits.", path)
        data = _one_clip(path, data)
    else:
        logger.warning("%s: fields of clips without splits: a split is drawn for each clip where one is needed.", path)
    return _columns(path, data)


def _one_clip(path, data):
    """The fields of a split of this clip alone."""
    settings = [name for name, value in data.items() if isinstance(value, dict)]
    if settings:
        logger.warning("%s: %s is no field of the clip; it is not read.", path, listed(map(repr, settings)))
    fields = {name: value for name, value in data.items() if value is not None and name not in settings}
    one = {name: [value] for name, value in fields.items()}
    return {"id": [Path(path).stem]} | {name: _stacked(value) for name, value in one.items()}


def _stacked(values):
    return np.stack(values) if isinstance(values[0], np.ndarray) and values[0].ndim == 2 else values


def _columns(place, fields):
    """Checked values of the fields of a split, one for each clip; None for an absent field."""
    if not isinstance(fields, dict):
        raise DataError(f"{place}: expected a dict of fields, got {_shown(fields)}.")
    if fields.get("id") is None:
        raise DataError(f"{place}: field 'id' is missing.")
    ids = _values(place, fields, "id", _is_text, "a text")
    columns = {"place": place, "id": ids}
    columns["raw_text"] = _values(place, fields, "raw_text", _is_text_or_missing, "a text, NaN or None", ids)
    for name in LABELS.values():
        labels = fields.get(name)
        if isinstance(labels, np.ndarray) and labels.ndim == 2 and labels.shape[1] > 1:  # several for each clip
            several = {name: labels.tolist()}
            columns[name] = _values(place, several, name, lambda row: all(map(_is_label, row)), "finite numbers", ids)
        else:
            columns[name] = _values(place, fields, name, _is_label, "a finite number, NaN or None", ids)
    for name in ("audio", "vision"):
        columns[name] = _features(place, fields, name, ids)
    _report_absent(place, fields)
    return columns


def _report_absent(place, fields):
    """Logs the consequences of absent and unread fields."""
    read = ("id", "raw_text", *LABELS.values(), *_UNREAD)
    read += tuple(f"{name}{end}" for name in ("audio", "vision", "text") for end in ("", "_lengths"))
    tokens = [name for name in ("text_bert", "text") if fields.get(name) is not None]
    hint = ""
    if tokens:
        hint = (
            f" {' and '.join(map(repr, tokens))} cannot take its place: add the transcripts as 'raw_text' (the ids of "
            "'text_bert' give them back with the tokenizer of the extractor: tokenizer.decode)."
        )
    if all(fields.get(name) is None for name in ("raw_text", "audio", "vision")):
        raise DataError(f"{place}: needs one of the fields 'raw_text', 'audio' and 'vision'; has none.{hint}")
    if fields.get("raw_text") is None:
        logger.warning("%s: no field 'raw_text': these clips have no text.%s", place, hint)
    if fields.get(LABELS["label"]) is None:
        logger.warning(
            "%s: no field %r: clips without labels, for prediction but not for training.", place, LABELS["label"]
        )
    if fields.get("vision") is None and fields.get("video") is not None:
        logger.warning(
            "%s: no field 'vision': these clips have no vision. If 'video' holds it (clips, frames, features), rename "
            "it (and 'video_lengths').", place,
        )  # fmt: skip
    if unread := [name for name in fields if name not in read]:
        logger.warning("%s: the fields %s are not read.", place, listed(map(_shown, unread)))


def _report_absent_stream(splits, name):
    """Logs the splits that lack a stream which another split has."""
    lacking = [columns["place"] for columns in splits.values() if columns[name] is None]
    if len(lacking) < len(splits):
        for place in lacking:
            logger.warning("%s: no field %r: these clips have no %s.", place, name, name)


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


def _is_text_or_missing(value):
    return value is None or (type(value) is float and math.isnan(value)) or _is_text(value)


def _features(place, fields, name, ids):
    """For each clip its padded frames and their number (`None` where not declared)."""
    arrays = fields.get(name)
    if arrays is None:
        return None
    several = isinstance(arrays, list | tuple) or (isinstance(arrays, np.ndarray) and arrays.dtype == object)
    absent = {index for index, frames in enumerate(arrays) if frames is None} if several else set()
    if absent and len(absent) == len(arrays):
        return None
    if absent:
        tally(f"clips have None as {name}, which counts as missing", len(absent))
        logger.warning("%s, field %r: None in %d clips, which miss it.", place, name, len(absent))
    arrays, ragged = _arrays(place, name, arrays)
    _check_count(place, name, arrays, ids)
    accepts = (lambda value: value is None or _is_length(value)) if absent else _is_length
    lengths = _values(place, fields, f"{name}_lengths", accepts, "a whole number of frames", ids)
    if lengths is None:
        lengths = [len(frames) if ragged else None for frames in arrays]
    lengths = [None if length is None else int(length) for length in lengths]
    return list(arrays), [0 if index in absent else length for index, length in enumerate(lengths)]


def _arrays(place, name, arrays):
    """An array (clips, frames, features), or arrays of two dimensions (without frames for `None`); and whether these
    differ in frames."""
    if isinstance(arrays, np.ndarray) and arrays.ndim == 3:
        if arrays.dtype == object and all(type(value) in (int, float) for value in arrays.flat):
            arrays = arrays.astype(np.float64)
        if arrays.dtype.kind in "fiu" and arrays.shape[2]:
            return arrays, False
    elif isinstance(arrays, list | tuple) or (isinstance(arrays, np.ndarray) and arrays.dtype == object):
        shapes = [frames.shape if _is_frames(frames) else None for frames in arrays if frames is not None]
        if None not in shapes and len({shape[1] for shape in shapes}) == 1:
            nothing = np.zeros((0, shapes[0][1]))
            return [nothing if frames is None else frames for frames in arrays], len(set(shapes)) > 1
    raise DataError(
        f"{place}, field {name!r}: expected a numeric array (clips, frames, features), or for each clip one (frames, "
        f"features), got {_shown(arrays)}."
    )


def _is_frames(frames):
    return isinstance(frames, np.ndarray) and frames.ndim == 2 and frames.dtype.kind in "fiu" and frames.shape[1] > 0


def _is_length(value):
    return type(value) in (int, float) and value >= 0 and (type(value) is int or value.is_integer())


def _unpad(path, splits, name, padding, use_lengths):
    """Puts the frames of each clip, without padding, in the place of the field; over all splits of the file."""
    having = [columns for columns in splits.values() if columns[name] is not None]
    labels = [f"clip {clip!r:.100}" for columns in having for clip in columns["id"]]
    frames = [array for columns in having for array in columns[name][0]]
    lengths = [length for columns in having for length in columns[name][1]]
    unpadded = iter(unpad(PaddedClips(f"{path}, field {name!r}", labels, frames, lengths), padding, use_lengths))
    for columns in having:
        columns[name] = [next(unpadded) for _ in columns["id"]]


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
        row["label"] = None
        for name, field in LABELS.items():
            if columns[field] is not None:
                value = columns[field][index]
                row[name] = value if isinstance(value, list) else _score(value)
        yield row


def _score(value):
    return None if value is None or math.isnan(value) else float(value)


def _frames(column, index):
    """Frames (frames, features) of a clip as float32, or None if it has none."""
    if column is None or not len(column[index]):
        return None
    with np.errstate(over="ignore"):  # becomes infinite, as others that are not finite
        return np.ascontiguousarray(column[index], dtype=np.float32)
