"""Rows of media files to clips with text, audio and vision."""

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_fusion.data.tally import tally
from hf_fusion.media.cache import with_words
from hf_fusion.media.extraction import Extraction, FileExtraction
from hf_fusion.media.folder import MediaRow, MediaTable
from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.models.media_text import Word, read_subtitles
from hf_fusion.models.processing_text import InputError, is_blank
from hf_fusion.utils.errors import DataError

logger = logging.getLogger(__name__)

_MAX_FAILED = 0.1
_MAX_SHOWN = 5
_NUMBER = re.compile(r"\d[\d.,]*")
_TOLERANCE = 0.05  # seconds by which a clip may end after its file


@dataclass
class MediaClips:
    """
    The clips of a table of media files. First [`extract`], then iterate over the clips.

    The text of a clip is that of the column `text`, else of the subtitles, else of speech recognition, if the
    extraction has a checkpoint for it.

    Args:
        table: the rows.
        extraction: how files are extracted.
        with_text: whether the texts are needed; without, nothing is recognised.
        allow_missing: whether more than a tenth of the rows may have no media file, or one that cannot be read.

    Attributes:
        files (`dict[Path, Extraction]`): the files, once extracted.
        longest (`float`): seconds of the longest clip so far.
    """

    table: MediaTable
    extraction: FileExtraction
    with_text: bool = True
    allow_missing: bool = False
    files: dict[Path, Extraction] = field(default_factory=dict)
    longest: float = 0.0
    _subtitles: dict[Path, list[Word]] = field(default_factory=dict)
    _recognised: set[Path] = field(default_factory=set)
    # names of files and clips, by what is missing or was left out
    _lacking: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    # warnings of files by their names, those that differ in numbers alone together
    _warnings: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def extract(self, track: Callable[[float, float], None] = lambda share, seconds: None) -> None:
        """
        Extracts all files; see [`FileExtraction.extract`].

        Raises:
            DataError: if too many rows have no file, or one that cannot be read; names the first.
        """
        self._read_subtitles()
        without = [row.id for row in self.table.rows if row.media is None]
        self._check_missing(without, "rows have no media file", len(without))
        needs_words = self._files_without_text() if self.with_text and self.extraction.asr else set()
        files = {row.media: row.media in needs_words for row in self.table.rows if row.media is not None}
        self._recognised = needs_words
        for done in self.extraction.extract(files, track):
            self.files[done.path] = done
            if done.error:
                logger.warning("%s", done.error)
        failed = {path: path.name for path in files if self.files[path].error}
        rows = sum(row.media in failed for row in self.table.rows)
        self._check_missing(list(failed.values()), "media files cannot be read", rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """
        The clips as [`read_clips`] gives them, with `words` (`list[Word]`, seconds from the start of the clip),
        `seconds` and `report` beside. Those without text, audio and vision are left out. At the end, the log says what
        is missing, and where.
        """
        path, clip = None, None
        for row in self.table.rows:
            if row.media is not None and row.media != path:
                path, clip = row.media, self._clip(row.media, row.subtitles)
            found = self._row(row, clip if row.media is not None else None)
            if all(found[name] is None for name in ("text", *STREAMS)):
                self._lacking["clips left out: no text, no audio and no vision"].append(row.id)
                continue
            self.longest = max(self.longest, found["seconds"])
            yield found
        self._tell()

    def facts(self) -> dict[str, Any]:
        """`files`, `seconds` of all files, and `longest_clip`, in seconds."""
        seconds = sum(file.seconds for file in self.files.values())
        return {"files": len(self.files), "seconds": round(seconds, 3), "longest_clip": round(self.longest, 3)}

    def _read_subtitles(self):
        for path in dict.fromkeys(row.subtitles for row in self.table.rows if row.subtitles and self.with_text):
            try:
                self._subtitles[path] = read_subtitles(path)
            except InputError as error:
                logger.warning("%s", error)
                self._lacking["files of subtitles cannot be read"].append(path.name)

    def _files_without_text(self):
        return {
            row.media for row in self.table.rows
            if row.media is not None and _text(row) is None and row.subtitles not in self._subtitles
        }  # fmt: skip

    def _check_missing(self, names, what, rows):
        self._lacking[what] += names
        if rows > _MAX_FAILED * len(self.table.rows) and not self.allow_missing:
            raise DataError(
                f"{self.table.name}: {len(names)} {what} ({_first(names)}). More than a tenth of the rows is missing: "
                "name the files after the ids, or allow it by `allow_missing_features`."
            )

    def _clip(self, path, subtitles):
        """The clip of a whole file with its words, `None` if it could not be read."""
        extraction = self.files[path]
        if extraction.error:
            return None
        clip = self.extraction.clip(extraction, path in self._recognised)
        if subtitles in self._subtitles:  # empty ones too, as in predictions: nothing is said
            clip = with_words(clip, self._subtitles[subtitles], subtitles.name)
        for warning in clip.report["warnings"]:
            self._warnings[_NUMBER.sub("#", warning)][path.name] = warning
        return clip

    def _row(self, row, clip):
        fields = {"id": row.id, "split": row.fields.get("split") or None, "label": row.fields.get("label")}
        fields["label"] = None if fields["label"] == "" else fields["label"]
        if self.table.segmented:
            fields["video"] = row.video
        text = _text(row) if self.with_text else None
        nothing = {"text": text, **dict.fromkeys(STREAMS), "words": [], "seconds": 0.0, "report": {}}
        if clip is None:
            return {**fields, **nothing}
        start, end = row.start or 0.0, clip.seconds if row.end is None else row.end
        if start >= clip.seconds:
            self._lacking["clips start after the end of their file"].append(row.id)
            return {**fields, **nothing}
        if end > clip.seconds + _TOLERANCE:
            self._lacking["clips end after their file, and are cut there"].append(row.id)
        end = min(end, clip.seconds)
        found = clip.between(start, end)
        found["text"] = text or (found["text"] if self.with_text else None)
        self._note_missing(row, clip, found)
        words = [Word(word.start - start, word.end - start, word.text) for word in clip.words_between(start, end)]
        return {**fields, **found, "words": words, "seconds": end - start, "report": clip.report}

    def _note_missing(self, row, clip, found):
        """Notes which modalities a clip lacks, and why."""
        report = clip.report
        reasons = {
            "text": "transcript",
            "audio": "voice" if report["audio_seconds"] else "sound",
            "vision": "face" if report["vision_seconds"] else "pictures",
        }
        wanted = ["text"] * self.with_text + [name for name in STREAMS if getattr(clip.settings, name)]
        for name in wanted:
            if found[name] is None:
                self._lacking[f"clips have no {reasons[name]}"].append(row.id)

    def _tell(self):
        if self.table.unused:
            self._lacking["media files belong to no row"] += self.table.unused
        for what, names in self._lacking.items():
            tally(what, len(names))
            if names:
                logger.warning("%s: %d %s (%s).", self.table.name, len(names), what, _first(names))
        for by_name in self._warnings.values():
            tally("files with a warning", len(by_name))
            name, warning = next(iter(by_name.items()))
            others = f" The same in {len(by_name) - 1} more files." if len(by_name) > 1 else ""
            logger.warning("%s: %s: %s%s", self.table.name, name, warning, others)


def _text(row: MediaRow) -> str | None:
    """The text of the column, if it has any."""
    text = row.fields.get("text")
    return text if isinstance(text, str) and not is_blank(text) and text.strip().lower() != "nan" else None


def _first(names):
    return ", ".join(f"{name:.100}" for name in names[:_MAX_SHOWN]) + (", ..." if len(names) > _MAX_SHOWN else "")
