"""Frames and words that were extracted from media files, kept by the content of the file and the settings."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from huggingface_hub.constants import HF_HOME

from hf_fusion.data.parts import stamp
from hf_fusion.data.temporary import temporary_folder
from hf_fusion.models.media_frames import MEDIA_VERSION, MediaClip, MediaSettings
from hf_fusion.models.media_text import Word, single_words, text_of, words_beyond, words_of

DEFAULT_FOLDER = Path(HF_HOME) / "hf_fusion" / "media"
_ARRAYS = ("audio", "vision", "voiced")


@dataclass
class MediaCache:
    """
    A folder of extracted frames (`.npz`) and recognised words (`.json`). An entry appears when it is complete; one that
    is damaged counts as absent.

    Args:
        folder: the folder; made where it is needed.

    Attributes:
        damaged: paths of the damaged entries that were met.

    Example:

    ```python
    >>> cache = MediaCache(Path("cache"))
    >>> cache.write_frames(sha256, clip)
    >>> cache.read_frames(sha256, clip.settings).seconds == clip.seconds
    True
    ```
    """

    folder: Path = DEFAULT_FOLDER
    damaged: list[Path] = field(default_factory=list)

    def read_frames(self, sha256: str, settings: MediaSettings) -> MediaClip | None:
        """The clip of a file without its words, by the SHA-256 of its content; `None` if it was not extracted."""
        return self._read(self._frames_path(sha256, settings), lambda path: _load_frames(path, settings))

    def write_frames(self, sha256: str, clip: MediaClip) -> None:
        """Keeps the frames of a clip, not its words."""
        self._write(self._frames_path(sha256, clip.settings), lambda path: _save_frames(path, clip))

    def read_words(self, sha256: str, asr: str, language: str | None) -> tuple[list[Word], list[str]] | None:
        """
        The words that a speech recognition checkpoint (a name, or the files of a folder) found, and its warnings;
        `None` if it was not asked.
        """
        return self._read(self._words_path(sha256, asr, language), _load_words)

    def write_words(self, sha256: str, asr: str, language: str | None, words: list[Word], warnings: list[str]) -> None:
        """Keeps recognised words."""
        text = json.dumps({"words": [list(word) for word in words], "warnings": warnings}, ensure_ascii=False)
        self._write(self._words_path(sha256, asr, language), lambda path: path.write_text(text, encoding="utf-8"))

    def _frames_path(self, sha256, settings):
        frame_settings = {name: value for name, value in settings.to_dict().items() if name not in ("asr", "language")}
        return self._path(sha256, frame_settings, "npz")

    def _words_path(self, sha256, asr, language):
        settings = {"asr": asr, "files": _stamps(asr), "language": language, "version": MEDIA_VERSION}
        return self._path(sha256, settings, "json")

    def _path(self, sha256, settings, ending):
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        return Path(self.folder) / sha256[:2] / f"{sha256}.{key}.{ending}"

    def _read(self, path, load):
        if not path.is_file():
            return None
        try:
            return load(path)
        except Exception:  # wrong bytes can make numpy, zipfile and json fail in any way
            self.damaged.append(path)
            return None

    def _write(self, path: Path, save: Callable[[Path], object]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder("writing-", parent=self.folder) as aside:
            save(Path(aside) / path.name)
            os.replace(Path(aside) / path.name, path)


def _stamps(checkpoint):
    """The files of a checkpoint in a folder, which may hold another one the next time; `None` for a name on the Hub."""
    folder = Path(checkpoint)
    return {path.name: stamp(path) for path in sorted(folder.iterdir())} if folder.is_dir() else None


def with_words(clip: MediaClip, words: list[Word], origin: str, warnings: Iterable[str] = ()) -> MediaClip:
    """A clip with words; `origin` says in the report where they are from."""
    text, words = text_of(words), single_words(words)
    warnings = [*clip.report["warnings"], *warnings, *words_beyond(words, clip.seconds)]
    report = {**clip.report, "words": len(words), "transcript": origin, "warnings": warnings}
    return replace(clip, text=text, words=words, report=report)


def _save_frames(path, clip):
    facts = {"seconds": clip.seconds, "speech": clip.speech, "report": clip.report}
    arrays = {name: getattr(clip, name) for name in _ARRAYS if getattr(clip, name) is not None}
    np.savez(path, facts=np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8), **arrays)


def _load_frames(path, settings):
    with np.load(path, allow_pickle=False) as content:  # compares the checksum of each array
        arrays = {name: content[name] for name in _ARRAYS if name in content}
        facts = json.loads(content["facts"].tobytes())
    speech = [tuple(times) for times in facts["speech"]]
    return MediaClip(
        None, [], arrays.get("audio"), arrays.get("vision"), facts["seconds"], settings, arrays["voiced"], speech,
        facts["report"],
    )  # fmt: skip


def _load_words(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    return words_of(content["words"]), content["warnings"]
