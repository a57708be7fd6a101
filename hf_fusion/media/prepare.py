"""Folders of media files to data sets: prepared clips for training, or a folder of features."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hf_fusion.data.clips import ClipSource, clean_clips, with_classes
from hf_fusion.data.prepare import check_is_new, prepare_clips, write_clips
from hf_fusion.media.clips import MediaClips
from hf_fusion.media.extraction import FileExtraction
from hf_fusion.media.extractor import load_extractor, save_extractor
from hf_fusion.media.folder import read_media_folder


def prepare_media(
    source: ClipSource,
    folder: str,
    extraction: FileExtraction,
    track_files: Callable[[float, float], None] = lambda share, seconds: None,
    track: Callable = iter,
) -> dict[str, Any]:
    """
    Extracts a folder of media files with a labels file, and writes the clips as [`prepare_clips`] does; with the
    settings and networks of the extraction, which training puts into the checkpoint.

    An interrupted run continues with the files that are not in the cache.

    Args:
        source: the folder as `name`, see [`read_media_folder`]; and how its labels are checked.
        folder: where the data set goes; must not exist.
        extraction: how files are extracted.
        track_files: see [`FileExtraction.extract`].
        track: wraps the clips, for a progress bar.

    Returns:
        `dict`: as [`prepare_clips`], with `source.media`: `files`, `seconds` (of all files), `longest_clip` (seconds).

    Raises:
        DataError: if the folder exists, a row is not as declared, or too many files cannot be read.
    """
    check_is_new(folder)
    table = read_media_folder(source.name, source.text_format)
    if source.rejected == "error":  # before hours of extraction
        labels = ({**row.fields, "id": row.id, "text": "-", "audio": None, "vision": None} for row in table.rows)
        deque(clean_clips(replace(source, modalities=("text",)), labels), maxlen=0)
    extraction = replace(extraction, extractor=extraction.extractor.only(source.modalities))
    clips = MediaClips(table, extraction, "text" in source.modalities, source.allow_missing_features)
    clips.extract(track_files)
    facts: dict[str, Any] = {}

    def rows():
        yield from clips
        facts.update(clips.facts())

    return write_clips(
        track(clean_clips(source, rows())), folder, {"name": Path(source.name).name, "media": facts},
        partial(with_classes, source=source), partial(save_extractor, extraction.extractor),
    )  # fmt: skip


def prepare_features(source: ClipSource, folder: str, track: Callable = iter) -> dict[str, Any]:
    """
    As [`prepare_clips`]; the settings and networks beside features that were extracted from media go with them. Of
    these features any number may be missing: media files without a voice or a face have none.

    Raises:
        DataError: as [`prepare_clips`], or if these files are damaged.
    """
    extractor = load_extractor(source.name)
    if extractor is None:
        return prepare_clips(source, folder, track)
    source = replace(source, allow_missing_features=True)
    return prepare_clips(source, folder, track, partial(save_extractor, extractor.only(source.modalities)))
