"""Media files to a folder of features, as [`read_feature_folder`] reads it."""

import csv
import json
import os
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hf_fusion.data.prepare import check_is_new
from hf_fusion.data.tally import tallied
from hf_fusion.data.temporary import temporary_folder
from hf_fusion.media.clips import MediaClips
from hf_fusion.media.extractor import save_extractor
from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import write_json

EXTRACTION_FILE = "extraction.json"
_COLUMNS = ("id", "label", "text", "split", "video")


def write_features(
    clips: MediaClips, folder: str, track_files: Callable[[float, float], None] = lambda share, seconds: None
) -> dict[str, Any]:
    """
    Extracts media files, and writes `labels.csv`, for each clip `ID.npz` (the arrays `audio` and `vision`) and
    `ID.words.json` (a list of `[start, end, text]`, in seconds), the settings and networks of the extraction, and the
    report. The folder appears under its name when it is complete.

    Args:
        clips: the clips, not yet extracted.
        folder: where the features go; must not exist.
        track_files: see [`FileExtraction.extract`].

    Returns:
        `dict`, also written to `extraction.json`: `settings`, `files`, `seconds` (of all files), `longest_clip`
        (seconds), `left_out_or_filled` (counts by reason), `unreadable` (reasons by file) and `clips` (for each id the
        report of its file, see [`MediaClip`]).

    Raises:
        DataError: if the folder exists, two clips have the same id, or too many files cannot be read.
    """
    check_is_new(folder)
    _check_ids(clips.table)
    clips.extract(track_files)
    path = Path(folder).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(f"{path.name}.", ".tmp", path.parent) as aside:
        content = Path(aside) / "features"
        save_extractor(clips.extraction.extractor, content)
        with tallied() as counts, _labels(content, clips.table) as write_row:
            reports = {clip["id"]: _write_clip(clip, content, write_row) for clip in clips}
        if not reports:
            raise DataError(f"{clips.table.name}: no clip has text, audio or vision.")
        report = {
            "settings": clips.extraction.extractor.settings.to_dict(), **clips.facts(),
            "left_out_or_filled": dict(counts),
            "unreadable": {file.path.name: file.error for file in clips.files.values() if file.error},
            "clips": reports,
        }  # fmt: skip
        write_json(content / EXTRACTION_FILE, report)
        os.replace(content, path)
    return report


def _check_ids(table):
    seen = set()
    for row in table.rows:
        if row.id in seen:
            raise DataError(f"{table.name}: two rows have the id {row.id!r:.100}.")
        seen.add(row.id)


@contextmanager
def _labels(folder, table):
    """Writes `labels.csv`, with all columns of the rows; gives the function that writes a clip."""
    own = dict.fromkeys(name for row in table.rows for name in row.fields)
    columns = [name for name in _COLUMNS if name in {"id", "text", *own} or (name == "video" and table.segmented)]
    columns += [name for name in own if name not in columns]
    fields = {row.id: row.fields for row in table.rows}
    with open(folder / "labels.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        yield lambda clip: writer.writerow({**fields[clip["id"]], **clip})


def _write_clip(clip, folder, write_row):
    """Writes the files of a clip; returns its report."""
    write_row(clip)
    frames = {name: clip[name] for name in STREAMS if clip[name] is not None}
    if frames:
        np.savez(folder / f"{clip['id']}.npz", **frames)
    if clip["words"]:
        words = json.dumps(
            [[round(start, 3), round(end, 3), text] for start, end, text in clip["words"]], ensure_ascii=False
        )
        (folder / f"{clip['id']}.words.json").write_text(words, encoding="utf-8")
    return {**clip["report"], "clip_seconds": round(clip["seconds"], 3)}
