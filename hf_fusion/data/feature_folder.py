"""Folders of features: a labels file, and for each clip an npz file or parquet files."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_fusion.data.decoding import AS_FOUND, TextFormat, check_taken, kind_of
from hf_fusion.data.files import read_rows
from hf_fusion.data.tally import tally
from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.utils.errors import DataError, listed

logger = logging.getLogger(__name__)

LABEL_FILES = ("labels.csv", "labels.tsv", "labels.jsonl", "labels.ndjson", "labels.parquet")
MAX_ID_BYTES = 200  # a file system takes names of 255


# A larger share of clips without features stops the reader.
_MAX_MISSING = 0.1
_MAX_SHOWN = 5
_FEATURE_FILE = re.compile(r"(.*)\.(?:npz|audio\.parquet|vision\.parquet)")


def read_feature_folder(
    folder: str,
    modalities: tuple[str, ...] = ("text", *STREAMS),
    allow_missing_features: bool = False,
    text_format: TextFormat = AS_FOUND,
) -> Iterator[dict[str, Any]]:
    """
    Clips of a folder, one by one.

    The folder holds one of `labels.csv`, `.tsv`, `.jsonl`, `.ndjson` or `.parquet` with the column `id`, and if
    there are any `label`, `text`, `split` and `video` (the clips of one video go to one split). The frames of the clip
    ID are the arrays `audio` and `vision` (frames, features) of `ID.npz`, or the rows of `ID.audio.parquet` and
    `ID.vision.parquet`. Clips without a file of features, and files of features without a clip, are counted and named
    in the log.

    Args:
        folder: the folder.
        modalities: which ones will be used; for text alone no features are looked for.
        allow_missing_features: whether more than a tenth of the clips may have no file of features, or lack a stream
            that others have.
        text_format: of the labels file.

    Raises:
        DataError: if the labels file is absent or lacks a column, if too many clips have no features, or if a file of
            features is damaged; names it.
    """
    labels, clips = read_labels(folder, text_format)
    has_video = any(_video(row) for _, row in clips)
    streams = [name for name in STREAMS if name in modalities]
    if streams and clips:
        _check_files(labels, [clip_id for clip_id, _ in clips], streams, allow_missing_features)
    for clip_id, row in clips:
        yield {
            "id": clip_id,
            "split": row.get("split") or None,
            "text": row.get("text"),
            "label": None if row.get("label") == "" else row.get("label"),
            **({"video": _video(row)} if has_video else {}),
            **_features(Path(folder), clip_id, streams),
        }


def read_labels(
    folder: str | Path, text_format: TextFormat = AS_FOUND
) -> tuple[Path, list[tuple[str, dict[str, Any]]]]:
    """
    Rows of the labels file of a folder.

    Returns:
        `tuple`: the file, and the id and the row of each clip.

    Raises:
        DataError: if there is no labels file, or an id is missing or cannot be a file name.
    """
    labels = next((Path(folder) / name for name in LABEL_FILES if (Path(folder) / name).is_file()), None)
    if labels is None:
        raise DataError(f"{folder}: no labels file; expected one of {', '.join(LABEL_FILES)}.")
    check_taken(text_format, str(labels), [kind_of(labels)])
    rows = enumerate(read_rows(labels, text_format), 1)
    return labels, [(_id_of(row, number, labels), row) for number, row in rows]


def has_features(folder: str | Path) -> bool:
    """Whether a folder holds a file of features."""
    return any(_FEATURE_FILE.fullmatch(name) for name in os.listdir(folder))


def _video(row):
    """The name of the recording; `None` where the cell is empty, which some tools write as NaN."""
    video = row.get("video")
    return None if video is None or video != video or not str(video).strip() else str(video)


def _id_of(row, number, labels):
    if "id" not in row:
        raise DataError(f"{labels}: no column 'id'; there are {listed(row)}.")
    clip_id = "" if row["id"] is None else str(row["id"])
    if not clip_id or Path(clip_id).name != clip_id or len(clip_id.encode()) > MAX_ID_BYTES:
        raise DataError(f"{labels}, row {number}: the id {clip_id!r:.100} is no file name.")
    return clip_id


def _check_files(labels, clip_ids, streams, allow_missing):
    """Logs clips without features and features without a clip; raises if too many clips have none."""
    names = sorted(name for name in os.listdir(labels.parent) if _FEATURE_FILE.fullmatch(name))
    there, known = set(names), set(clip_ids)
    kinds = ["npz", *(f"{name}.parquet" for name in streams)]
    missing = [clip for clip in dict.fromkeys(clip_ids) if not any(f"{clip}.{kind}" in there for kind in kinds)]
    orphans = [name for name in names if _stem(name) not in known]
    facts = []
    if missing:
        facts.append(f"{len(missing)} of {len(known)} clips have no file of features ({_first(missing)})")
    if orphans:
        facts.append(f"{len(orphans)} files of features belong to no clip ({_first(orphans)})")
        facts += _near_names(missing, orphans)
    lacking, unread = _lacking_streams(labels.parent, sorted(known.difference(missing)), streams, there)
    facts += [f"{len(clips)} clips have features, but no {name} ({_first(clips)})" for name, clips in lacking.items()]
    if unread:
        facts.append(f"{len(unread)} arrays of .npz files are not read ({_first(unread)})")
    tally("clips have no file of features", len(missing))
    tally("files of features belong to no clip", len(orphans))
    tally("arrays of .npz files are not read", len(unread))
    for name, clips in lacking.items():
        tally(f"clips have features, but no {name}", len(clips))
    most = len(missing) + max(map(len, lacking.values()), default=0)
    if most > _MAX_MISSING * len(known) and not allow_missing:
        raise DataError(
            f"{labels}: {'; '.join(facts)}. More than a tenth is missing: name the files after the ids, or allow it "
            "by `allow_missing_features` (for predictions in `dataset_options`); for a model of text alone set "
            "`modalities` to text."
        )
    if facts:
        logger.warning("%s: %s.", labels, "; ".join(facts))


def _lacking_streams(folder, clip_ids, streams, files):
    """For each stream that some clips have, those that lack it; and arrays that have other names."""
    lacking, unread = {name: [] for name in streams}, []
    for clip_id in clip_ids:
        there = {name for name in streams if f"{clip_id}.{name}.parquet" in files}
        if f"{clip_id}.npz" in files:
            arrays = _array_names(folder / f"{clip_id}.npz")
            there |= arrays
            unread += [f"{clip_id}.npz: {name}" for name in sorted(arrays - set(STREAMS))]
        for name in lacking.keys() - there:
            lacking[name].append(clip_id)
    return {name: clips for name, clips in lacking.items() if 0 < len(clips) < len(clip_ids)}, unread


def _array_names(path):
    try:
        with np.load(path, allow_pickle=False) as content:
            return set(content)
    except Exception:  # said by name when the clip is read
        return set(STREAMS)


def _stem(name):
    return _FEATURE_FILE.fullmatch(name)[1]


def _near_names(missing, orphans):
    """Files whose names equal an id except for case, punctuation and a suffix."""
    plain = {_plain(clip): clip for clip in missing}
    pairs = []
    for name in orphans:
        stem = _stem(name)
        clip = plain.get(_plain(stem)) or plain.get(_plain(re.sub(r"[^\w]\w*$|_[^_]*$", "", stem)))
        if clip:
            pairs.append(f"{name} for {clip}")
    return [f"near names: {_first(pairs)}"] if pairs else []


def _plain(name):
    return re.sub(r"[\W_]", "", name).casefold()


def _first(names):
    return ", ".join(f"{name:.100}" for name in names[:_MAX_SHOWN]) + (", ..." if len(names) > _MAX_SHOWN else "")


def _features(folder, clip_id, streams):
    found = dict.fromkeys(STREAMS)
    path = folder / f"{clip_id}.npz"
    if streams and path.is_file():
        found.update((name, frames) for name, frames in _read_npz(path).items() if name in streams)
    for name in streams:
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
