"""Clips of media files: the rows of a labels file with the recordings and subtitles that belong to them."""

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_fusion.data.decoding import AS_FOUND, TextFormat
from hf_fusion.data.feature_folder import LABEL_FILES, has_features, read_labels
from hf_fusion.models.media_text import SUBTITLE_ENDINGS
from hf_fusion.models.processing_text import MEDIA_ENDINGS
from hf_fusion.utils.errors import DataError


@dataclass(frozen=True)
class MediaRow:
    """
    A clip of a media file, or a row without one.

    Args:
        id: of the clip.
        media: the file; `None` if there is none.
        subtitles: the file of subtitles beside it.
        start, end: of the clip, in seconds; `None` for start and end of the file.
        video: the name of the recording, which several clips may share.
        fields: all columns of the row.
    """

    id: str
    media: Path | None = None
    subtitles: Path | None = None
    start: float | None = None
    end: float | None = None
    video: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass
class MediaTable:
    """
    Clips of media files.

    Args:
        name: of the labels file or of the input, for messages.
        rows: the clips in their order.
        unused: media files that belong to no row.
        segmented: whether rows name parts of recordings.
    """

    name: str
    rows: list[MediaRow]
    unused: list[str] = field(default_factory=list)
    segmented: bool = False


def is_media_folder(folder: str | os.PathLike) -> bool:
    """Whether a folder holds a labels file and media files, and no files of features."""
    folder = Path(folder)
    labels = folder.is_dir() and any((folder / name).is_file() for name in LABEL_FILES)
    return labels and not has_features(folder) and any(map(is_media_name, names_in(folder)))


def is_media_name(name: str | os.PathLike) -> bool:
    """Whether a file has the ending of a video or a recording."""
    return Path(name).suffix[1:].lower() in MEDIA_ENDINGS


def read_media_folder(folder: str | os.PathLike, text_format: TextFormat = AS_FOUND) -> MediaTable:
    """
    Reads the labels file of a folder of media files.

    The file of a row is `ID.mp4` (or another ending of audio or video). With a column `video` it is the file of that
    name, with or without ending, also in a folder inside; rows may share it and name their parts by `start` and `end`,
    in seconds. Subtitles have the same name and the ending `.srt` or `.vtt`.

    Raises:
        DataError: if the labels file cannot be read, a time is wrong, or two files fit one row; names the row.
    """
    labels, rows = read_labels(folder, text_format)
    names = sorted(names_in(Path(folder)))
    files, stems = {name: Path(folder) / name for name in names}, defaultdict(list)
    for name in filter(is_media_name, names):
        stems[_stem(name)].append(name)
    segmented = any(
        "video" in row or not (_is_empty(row.get("start")) and _is_empty(row.get("end"))) for _, row in rows
    )
    found, used = [], set()
    for number, (clip_id, row) in enumerate(rows, 1):
        place = f"{labels}, row {number} ({clip_id:.100})"
        video = clip_id if _is_empty(row.get("video")) else str(row["video"])
        name = _find(video, files, stems, place)
        used.add(name)
        start, end = (_seconds(row.get(column), column, place) for column in ("start", "end"))
        if end is not None and end <= (start or 0.0):
            raise DataError(f"{place}: 'end' ({end:g}) must be after 'start' ({start or 0.0:g}).")
        media = None if name is None else files[name]
        found.append(MediaRow(clip_id, media, find_subtitles(media), start, end, _stem(name or video), row))
    return MediaTable(
        str(labels), found, [name for name in names if is_media_name(name) and name not in used], segmented
    )


def find_media(inputs: Iterable[str | os.PathLike]) -> MediaTable:
    """
    A row for each media file: those given, and all in folders, and in folders inside. The id is the name without
    ending; for files of the same name, with the folders before it.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        DataError: if there is no media file, or two have the same id.
    """
    paths = {}
    for given in map(Path, inputs):
        if given.is_dir():
            paths |= {given / name: name for name in sorted(names_in(given)) if is_media_name(name)}
        elif given.is_file():
            paths[given] = given.name
        else:
            raise FileNotFoundError(f"{given}: no such file or folder.")
    name = ", ".join(map(str, inputs))
    if not paths:
        raise DataError(f"{name}: no media files; known are the endings {', '.join(MEDIA_ENDINGS)}.")
    ids = {path: Path(name).stem for path, name in paths.items()}
    if len(set(ids.values())) < len(ids):
        ids = {path: re.sub(r"[/\\]", "_", _stem(name)) for path, name in paths.items()}
    first = {}
    for path, clip_id in ids.items():
        if clip_id in first:
            raise DataError(f"{first[clip_id]} and {path} would both have the id {clip_id!r}: rename one of them.")
        first[clip_id] = path
    return MediaTable(name, [MediaRow(ids[path], path, find_subtitles(path), video=ids[path]) for path in paths])


def find_subtitles(media: Path | None) -> Path | None:
    """The subtitles beside a media file, if there are any."""
    endings = [*SUBTITLE_ENDINGS, *map(str.upper, SUBTITLE_ENDINGS)]
    paths = [] if media is None else [media.with_suffix(ending) for ending in endings]
    return next((path for path in paths if path.is_file()), None)


def names_in(folder: str | os.PathLike) -> Iterator[str]:
    """Gives the names of all files in a folder and in those inside, but hidden ones."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                yield (Path(parent) / name).relative_to(folder).as_posix()


def _find(video, files, stems, place):
    """The name of the media file that a row names, `None` if there is none."""
    if is_media_name(video) and video in files:
        return video
    among = stems.get(video, [])
    if len(among) > 1:
        raise DataError(f"{place}: {' and '.join(among)} both fit; name one of them in the column 'video'.")
    return among[0] if among else None


def _stem(name):
    return name.rpartition(".")[0] if is_media_name(name) else name


def _is_empty(value):
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _seconds(value, column, place):
    if _is_empty(value):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(f"{place}: {column!r} must be a number of seconds from 0 on, got {value!r:.50}.")
    return seconds
