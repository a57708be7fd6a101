"""Media files -> cached frames and words, several at a time, each process with one thread."""

import logging
import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from hf_fusion.data.pickles import sha256_of
from hf_fusion.data.temporary import temporary_folder
from hf_fusion.media.cache import DEFAULT_FOLDER, MediaCache, with_words
from hf_fusion.media.extractor import load_extractor, save_extractor
from hf_fusion.media.sandbox import Sandbox
from hf_fusion.models.media_frames import MediaClip, MediaExtractor
from hf_fusion.models.media_transcription import Transcriber
from hf_fusion.models.processing_text import InputError
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.extras import import_extra

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.3
_FRAMES = ("audio", "vision")


@dataclass
class Extraction:
    """
    What came of a media file.

    Args:
        path: the file.
        sha256: of its content.
        seconds: its length.
        error: why it could not be read; `None` if it was.
        cached: whether all of it was in the cache.
    """

    path: Path
    sha256: str = ""
    seconds: float = 0.0
    error: str | None = None
    cached: bool = False


@dataclass
class FileExtraction:
    """
    Extracts files into a cache. Files whose content was extracted before by the same settings are read from there.

    Args:
        extractor: how frames are made.
        cache_folder: see [`MediaCache`].
        workers: processes, each with one thread; 0 extracts in this process.
        timeout: seconds for a file; no limit by default. Not without workers.
        asr: speech recognition checkpoint for files without text; by default that of the settings of the extractor,
            if they name one.
        language: what is spoken, for `asr`.
    """

    extractor: MediaExtractor
    cache_folder: Path = DEFAULT_FOLDER
    workers: int = 1
    timeout: float | None = None
    asr: str | None = None
    language: str | None = None

    def __post_init__(self):
        self.asr = self.asr or self.extractor.settings.asr
        self.language = self.language or self.extractor.settings.language

    def extract(
        self, files: Mapping[Path, bool], track: Callable[[float, float], None] = lambda share, seconds: None
    ) -> Iterator[Extraction]:
        """
        Extracts files; gives each as it is done. An error of one file ends no other.

        Args:
            files: for each file whether `asr` is to write its words.
            track: is called again and again with the share of the files that are done, by their sizes, and with the
                seconds of sound and of pictures that were read.

        Raises:
            DataError: if `asr` or `language` is wrong.
            ImportError: if PyAV is not installed.
            OSError: if a network or the cache cannot be read or written, which would fail for all files.
        """
        import_extra("av", "media")
        sizes, done, absent = {path: _size(path) for path in files}, 0, {}
        for path, found in self._look_up(files):
            if isinstance(found, Extraction):
                done += sizes[path]
                yield found
            else:
                absent[path] = (found, files[path])
        if any(needs_words for _, needs_words in absent.values()):
            self._check_recogniser()
        total = sum(sizes.values())
        if files:
            track(done / total, 0.0)
        extract = self._extract_apart if self.workers and absent else self._extract_here
        for extraction, seconds in extract(absent):
            if extraction is not None:
                done += sizes[extraction.path]
                yield extraction
            track(done / total, seconds)

    def clip(self, extraction: Extraction, needs_words: bool) -> MediaClip:
        """The clip of a file that was extracted, from the cache; with the recognised words if they are needed."""
        clip = self._cached(MediaCache(self.cache_folder), extraction.sha256, needs_words)
        if clip is None:
            raise OSError(f"{self.cache_folder}: an entry of {extraction.path.name} was removed: start again.")
        return clip

    def _look_up(self, files):
        """Each file with its extraction, if it is in the cache or cannot be opened, else with its SHA-256."""
        media_cache = MediaCache(self.cache_folder)
        with ThreadPoolExecutor(max(1, self.workers)) as threads:
            for (path, needs_words), sha256 in zip(files.items(), threads.map(_sha256_or_error, files), strict=True):
                if isinstance(sha256, InputError):
                    yield path, Extraction(path, error=sha256.reason)
                    continue
                clip = self._cached(media_cache, sha256, needs_words)
                yield path, sha256 if clip is None else Extraction(path, sha256, clip.seconds, cached=True)
        for entry in media_cache.damaged:
            logger.warning("%s: a damaged entry of the cache; the file is extracted again.", entry)

    def _cached(self, media_cache, sha256, needs_words):
        """The clip of a file from the cache, `None` if it is not there whole."""
        clip = media_cache.read_frames(sha256, self.extractor.settings)
        if clip is None or not needs_words:
            return clip
        found = media_cache.read_words(sha256, self.asr, self.language)
        return None if found is None else with_words(clip, found[0], Path(self.asr).name, found[1])

    def _job(self, path, sha256, needs_words):
        """The arguments of [`extract_file`] beside the extractor."""
        return str(path), sha256, str(self.cache_folder), self.asr if needs_words else None, self.language

    def _check_recogniser(self):
        """Loads the speech recogniser once, so that a wrong name is an error before all files and not one of each."""
        try:
            Transcriber(self.asr, language=self.language)
        except ValueError as error:
            raise DataError(str(error)) from error

    def _extract_here(self, files):
        seconds = 0.0
        for path, (sha256, needs_words) in files.items():
            read = partial(extract_file, self.extractor, *self._job(path, sha256, needs_words))
            extraction = _outcome(path, sha256, read)
            seconds += extraction.seconds
            yield extraction, seconds

    def _extract_apart(self, files):
        with (
            temporary_folder("hf_fusion-media-") as folder,
            _sandboxes(min(self.workers, len(files)), self.timeout) as run,
        ):
            save_extractor(self.extractor, folder)
            # (files,) seconds that were read so far; processes write into it
            seconds = np.memmap(Path(folder) / "seconds", dtype=np.float64, mode="w+", shape=len(files))
            waiting = {}
            for number, (path, found) in enumerate(files.items()):
                waiting[run(extract_in_worker, *self._job(path, *found), folder, number, os.getpid())] = path
            while waiting:
                ended, _ = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
                for future in ended:
                    path = waiting.pop(future)
                    yield _outcome(path, files[path][0], future.result), float(seconds.sum())
                yield None, float(seconds.sum())


@contextmanager
def _sandboxes(count, timeout):
    """Gives a function that runs another one in the next free process, as a future; ends all processes on leaving."""
    sandboxes = [Sandbox(timeout) for _ in range(count)]
    free: queue.SimpleQueue[Sandbox] = queue.SimpleQueue()
    for sandbox in sandboxes:
        free.put(sandbox)

    def run(function, *args):
        sandbox = free.get()
        try:
            return sandbox.run(function, *args)
        finally:
            free.put(sandbox)

    threads = ThreadPoolExecutor(count)
    futures = []

    def submit(function, *args):
        futures.append(threads.submit(run, function, *args))
        return futures[-1]

    try:
        yield submit
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in futures):  # after Ctrl-C: those that run end with their process
            for sandbox in sandboxes:
                sandbox.close()
            time.sleep(0.02)
        for sandbox in sandboxes:
            sandbox.close()


def _outcome(path, sha256, read):
    """The [`Extraction`] of a file whose seconds `read` gives, or whose error, if that is one of the file alone."""
    try:
        return Extraction(path, sha256, read())
    except InputError as error:
        return Extraction(path, sha256, error=error.reason)
    except (OSError, ImportError, torch.OutOfMemoryError):  # of networks, libraries and the cache
        raise
    except Exception as error:  # of a library, by what is in the file
        return Extraction(path, sha256, error=unexpected(path, error))


def unexpected(path: str | os.PathLike, error: Exception) -> str:
    """The reason of a file on which a library fails."""
    return f"{path} cannot be read: {type(error).__name__}: {str(error)[:300]}"


def extract_file(extractor, path, sha256, cache_folder, asr, language, progress=None):
    """
    Extracts one file into the cache: its frames, and with `asr` its words.

    Args:
        extractor (`MediaExtractor`): how frames are made.
        path (`str`): the file.
        sha256 (`str`): of its content.
        cache_folder (`str`): see [`MediaCache`].
        asr, language (`str`, *optional*): as in `read_media`.
        progress (`Callable[[float], None]`, *optional*): as in `read_media`.

    Returns:
        `float`: the length in seconds.
    """
    media_cache = MediaCache(Path(cache_folder))

    def read(modalities):
        return extractor.read(path, None, asr, language, None, "cpu", progress, modalities)

    # two passes, so that each entry depends on nothing but its own settings; the first is much the cheaper one
    clip = media_cache.read_frames(sha256, extractor.settings)
    if clip is None:
        clip = read(_FRAMES)
        media_cache.write_frames(sha256, clip)
    if asr is not None and media_cache.read_words(sha256, asr, language) is None:
        spoken = read(("text",))
        warnings = [warning for warning in spoken.report["warnings"] if warning not in clip.report["warnings"]]
        media_cache.write_words(sha256, asr, language, spoken.words, warnings)
    return float(clip.seconds)


def extract_in_worker(path, sha256, cache_folder, asr, language, folder, number, parent):
    """
    Runs [`extract_file`] in another process.

    Args:
        path, sha256, cache_folder, asr, language: as in [`extract_file`].
        folder (`str`): what [`save_extractor`] wrote, and the file `seconds`.
        number (`int`): place of the file there.
        parent (`int`): the process that waits; without it, this one ends.
    """
    torch.set_num_threads(1)
    seconds = np.memmap(Path(folder) / "seconds", dtype=np.float64, mode="r+")

    def progress(more):
        if os.getppid() != parent:
            os._exit(1)
        seconds[number] += more

    return extract_file(_loaded_extractor(folder), path, sha256, cache_folder, asr, language, progress)


@cache
def _loaded_extractor(folder):
    return load_extractor(folder)


def _sha256_or_error(path):
    try:
        return sha256_of(path)
    except OSError as error:
        return InputError(f"{path} cannot be read: {error.strerror or 'no such file'}.")


def _size(path):
    try:
        return max(1, path.stat().st_size)
    except OSError:
        return 1
