"""Media files -> cached frames and words, several at a time, each process with one thread."""

import os
import queue
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from hf_fusion.data.pickles import sha256_of
from hf_fusion.media.cache import DEFAULT_FOLDER, MediaCache, with_words
from hf_fusion.media.extractor import load_extractor, save_extractor
from hf_fusion.media.sandbox import Sandbox
from hf_fusion.models.media_frames import MediaClip, MediaExtractor
from hf_fusion.models.processing_text import InputError
from hf_fusion.utils.extras import import_extra

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
        damaged: entries of the cache that were damaged, and are replaced.
    """

    path: Path
    sha256: str = ""
    seconds: float = 0.0
    error: str | None = None
    cached: bool = False
    damaged: list[str] = field(default_factory=list)


@dataclass
class FileExtraction:
    """
    Extracts files into a cache. Files whose content was extracted before by the same settings are read from there.

    Args:
        extractor: how frames are made; its settings name the speech recognition checkpoint, if any.
        cache_folder: see [`MediaCache`].
        workers: processes, each with one thread; 0 extracts in this process.
        timeout: seconds for a file; no limit by default. Not without workers.
    """

    extractor: MediaExtractor
    cache_folder: Path = DEFAULT_FOLDER
    workers: int = 1
    timeout: float | None = None

    def extract(
        self, files: Mapping[Path, bool], track: Callable[[float, float], None] = lambda share, seconds: None
    ) -> Iterator[Extraction]:
        """
        Extracts files; gives each as it is done. An error of one file ends no other.

        Args:
            files: for each file whether speech recognition is to write its words.
            track: is called again and again with the share of the files that are done, by their sizes, and with the
                seconds of sound and of pictures that were read.

        Raises:
            ImportError: if PyAV is not installed.
            OSError: if a network or the cache cannot be read or written, which would fail for all files.
        """
        import_extra("av", "media")
        if self.workers:
            yield from self._extract_apart(files, track)
            return
        for path, needs_words in files.items():
            yield _outcome(path, partial(extract_file, self.extractor, path, self.cache_folder, needs_words))

    def clip(self, extraction: Extraction, needs_words: bool) -> MediaClip:
        """The clip of a file that was extracted, from the cache; with the recognised words if they are needed."""
        settings, cache_ = self.extractor.settings, MediaCache(self.cache_folder)
        clip = cache_.read_frames(extraction.sha256, settings)
        words = cache_.read_words(extraction.sha256, settings.asr, settings.language) if needs_words else None
        if clip is None or (needs_words and words is None):
            raise OSError(f"{cache_.folder}: an entry of {extraction.path.name} was removed meanwhile: start again.")
        return clip if words is None else with_words(clip, words, settings.asr)

    def _extract_apart(self, files, track):
        sizes = {path: _size(path) for path in files}
        with tempfile.TemporaryDirectory(prefix="hf_fusion-") as folder, _sandboxes(self.workers, self.timeout) as run:
            save_extractor(self.extractor, folder)
            # (files,) seconds that were read so far; processes write into it
            seconds = np.memmap(Path(folder) / "seconds", dtype=np.float64, mode="w+", shape=max(1, len(files)))
            waiting = {
                run(
                    extract_in_worker, str(path), folder, str(self.cache_folder), needs_words, number, os.getpid()
                ): path
                for number, (path, needs_words) in enumerate(files.items())
            }
            done = 0
            while waiting:
                ended, _ = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
                for future in ended:
                    path = waiting.pop(future)
                    done += sizes[path]
                    yield _outcome(path, future.result)
                track(done / sum(sizes.values()), float(seconds.sum()))


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


def _outcome(path, read):
    """The [`Extraction`] that `read` gives as a `dict`, or its error, if that is one of the file alone."""
    try:
        return Extraction(path, **read())
    except InputError as error:
        return Extraction(path, error=error.reason)
    except (OSError, ImportError):  # of networks, libraries and the cache
        raise
    except Exception as error:  # of a library, by what is in the file
        return Extraction(path, error=f"{path} cannot be read: {type(error).__name__}: {str(error)[:300]}")


def extract_file(extractor, path, cache_folder, needs_words, progress=None):
    """
    Extracts one file into the cache.

    Args:
        extractor (`MediaExtractor`): how frames are made.
        path (`str` or `Path`): the file.
        cache_folder (`str` or `Path`): see [`MediaCache`].
        needs_words (`bool`): whether speech recognition is to write the words.
        progress (`Callable[[float], None]`, *optional*): as in `read_media`.

    Returns:
        `dict`: the fields of [`Extraction`] beside `path`.
    """
    settings, media_cache = extractor.settings, MediaCache(Path(cache_folder))
    try:
        sha256 = sha256_of(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error

    def read(modalities):
        return extractor.read(path, None, None, None, None, "cpu", progress, modalities)

    clip = media_cache.read_frames(sha256, settings)
    cached = clip is not None
    if clip is None:
        clip = read(_FRAMES)
        media_cache.write_frames(sha256, clip)
    if needs_words and media_cache.read_words(sha256, settings.asr, settings.language) is None:
        cached = False
        media_cache.write_words(sha256, settings.asr, settings.language, read(("text",)).words)
    damaged = [path.name for path in media_cache.damaged]
    return {"sha256": sha256, "seconds": float(clip.seconds), "cached": cached, "damaged": damaged}


def extract_in_worker(path, folder, cache_folder, needs_words, number, parent):
    """
    Runs [`extract_file`] in another process.

    Args:
        path, cache_folder, needs_words: as in [`extract_file`].
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

    return extract_file(_loaded_extractor(folder), path, cache_folder, needs_words, progress)


@cache
def _loaded_extractor(folder):
    return load_extractor(folder)


def _size(path):
    try:
        return max(1, path.stat().st_size)
    except OSError:
        return 1
