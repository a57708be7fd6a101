"""Temporary folders; those of killed processes are removed by the next process that needs one."""

import atexit
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# Only folders that hold this file are ever removed. Its owner has it locked, and the system frees the lock with the
# process, however it ends.
LOCK_FILE = ".hf_fusion.lock"
_data_folder: ContextVar[str | None] = ContextVar("data_folder", default=None)


@contextmanager
def temporary_folder(
    prefix: str = "hf_fusion-", suffix: str = "", parent: str | os.PathLike | None = None
) -> Iterator[str]:
    """
    Makes a folder and removes it in the end. If the process is killed before, the next call with the same arguments, in
    any process, removes it; the folders of living processes stay.

    Args:
        prefix (`str`, *optional*, defaults to `"hf_fusion-"`): the beginning of its name.
        suffix (`str`, *optional*, defaults to `""`): the end of its name.
        parent (`str` or `os.PathLike`, *optional*): the folder above it; `TMPDIR` by default.

    Yields:
        `str`: the folder's path.
    """
    parent = Path(parent or tempfile.gettempdir()).absolute()
    _remove_abandoned(parent, f"{glob.escape(prefix)}*{glob.escape(suffix)}")
    folder = Path(tempfile.mkdtemp(suffix, prefix, parent))
    lock = None
    try:
        lock = _mark(folder)
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def temporary_data() -> Iterator[None]:
    """Removes the data sets that were read in the `with` statement, or in the decorated function, when it ends."""
    with temporary_folder() as folder:
        token = _data_folder.set(folder)
        try:
            yield
        finally:
            _data_folder.reset(token)


def new_data_folder() -> str:
    """A new folder for the files of data sets; it goes with [`temporary_data`], else when the process ends."""
    return tempfile.mkdtemp(dir=_data_folder.get() or _process_folder())


@cache
def _process_folder():
    until_exit = ExitStack()
    atexit.register(until_exit.close)
    return until_exit.enter_context(temporary_folder())


def _mark(folder):
    """Puts the lock file into the folder, locked before it has its name; `None` where files cannot be locked."""
    lock = os.open(folder / f"{LOCK_FILE}.new", os.O_RDWR | os.O_CREAT, 0o600)
    if not _locks(lock):
        os.close(lock)
        return None
    os.rename(folder / f"{LOCK_FILE}.new", folder / LOCK_FILE)
    return lock


def _remove_abandoned(parent, names):
    for path in parent.glob(f"{names}/{LOCK_FILE}"):
        try:
            lock = os.open(path, os.O_RDWR)
        except OSError:  # another user's, or gone by now
            continue
        try:
            if _locks(lock):
                shutil.rmtree(path.parent, ignore_errors=True)
        finally:
            os.close(lock)


def _locks(file):
    """Whether the open file could be locked: its owner is dead, or it is new."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (AttributeError, OSError):  # no locks on this system, or on this file system; held by another process
        return False
    return True
