"""
Predictions of more rows than memory holds: a folder of parquet files ("shards") that any number of processes fill.

Shard i holds the predictions of the rows `i * shard_rows` to `(i + 1) * shard_rows` of the input, so that what is done
and what is not can be read from the folder, whoever did it. A process claims a shard by a lock that the system takes
back when the process ends, however it ends. So nobody waits for the dead, a run that was killed goes on where it was,
with as many processes as one likes, and nobody writes what another one is writing.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from threading import Event, Thread

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from hf_fusion.data.decoding import AS_FOUND, TextFormat
from hf_fusion.data.parts import Parts, stamp, survey
from hf_fusion.deployment.predictions import output_schema, predict_rows
from hf_fusion.hub.repository import CHECKPOINT_FILES, SECOND_TOKENIZER
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import write_json

# Readers of folders of parquet files pass over names that begin with _ or a dot.
SETTINGS_FILE = "_predictions.json"
_SCHEMA_FILE = "_common_metadata"
_LOCK_FILE = ".lock"
# Where the files of a checkpoint are; "base" is the model of a LoRA adapter.
_PLACES = ("", SECOND_TOKENIZER, "base", f"base/{SECOND_TOKENIZER}")
# Rows of a row group, about.
_GROUP_ROWS = 8192
_POLL_SECONDS = 0.5
# The rows done so far, in a claim; of one length, so that each overwrites the last.
_COUNT = b"%20d"


class PredictionShards:
    """
    The folder of one run's predictions. The first process to come surveys the input and writes the settings to
    `_predictions.json`, the others read them.

    Args:
        folder: of the shards `part-00000-of-00042.parquet` ...; made if there is none.
        paths: files of rows.
        checkpoint, dtype: of the pipeline, see [`load_pipeline`].
        config: of its model.
        text_column: where the text is.
        shard_rows: rows of a shard; the last one may have fewer.
        text_format: of the files of text among them.

    Raises:
        DataError: if the folder was filled with other settings or holds other things, or the input cannot be read.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        paths: list[str],
        checkpoint: str,
        config,
        dtype: str = "float32",
        text_column: str = "text",
        shard_rows: int = 100_000,
        text_format: TextFormat = AS_FOUND,
    ):
        if shard_rows < 1:
            raise DataError(f"`shard_rows` must be at least 1, got {shard_rows}.")
        self.folder, self.text_column, self.shard_rows = Path(folder), text_column, shard_rows
        settings = {
            "inputs": {path: stamp(path) for path in paths},
            "checkpoint": checkpoint,
            "files of the checkpoint": _checkpoint_stamps(checkpoint),
            "revision": getattr(config, "_commit_hash", None),
            "dtype": dtype,
            "text_column": text_column,
            "shard_rows": shard_rows,
            **asdict(text_format),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        others = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith((".", "_")))
        if others and not (self.folder / SETTINGS_FILE).is_file():
            raise DataError(f"{self.folder} holds other files ({others[0]} ...): give a new folder, or an empty one.")
        with _lock(self.folder / _LOCK_FILE, wait=True):
            if not (self.folder / SETTINGS_FILE).is_file():
                self._begin(paths, config, settings, text_format)
        found = json.loads((self.folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        if differences := [*_differences(found["settings"], settings)]:
            raise DataError(
                f"{folder} was filled with other settings: {'; '.join(differences)}. Repeat them to go on, or give "
                "another folder."
            )
        self.parts = Parts(paths, found["rows"], [settings["inputs"][path] for path in paths], text_format)
        self.schema = pq.read_schema(self.folder / _SCHEMA_FILE)

    def _begin(self, paths, config, settings, text_format):
        counts, columns = survey(paths, text_format)
        pq.write_metadata(output_schema(columns, config), self.folder / _SCHEMA_FILE)
        write_json(self.folder / SETTINGS_FILE, {"settings": settings, "rows": counts})  # last: now all is there

    def __len__(self):
        return max(-(-len(self.parts) // self.shard_rows), 1)  # an empty input has one empty shard

    def path(self, number: int) -> Path:
        """Where a shard is once it is complete."""
        return self.folder / f"part-{number:05d}-of-{len(self):05d}.parquet"

    def _aside(self, number, kind):
        return self.folder / f".part-{number:05d}.{kind}"

    def _range(self, number):
        return number * self.shard_rows, min((number + 1) * self.shard_rows, len(self.parts))

    def fill(
        self,
        classify,
        batch_size: int = 32,
        rank: int = 0,
        world: int = 1,
        report: Callable[[int, str], None] = lambda row, error: None,
    ) -> None:
        """
        Predicts shards until each one is complete or, on other ranks than 0, claimed by a process that is alive.

        Each process begins at its own place and goes forward, so that its input is one long piece; who is done early
        helps the others from the end of theirs. The one of rank 0 stays to the last, and takes over what a process
        that died has left.

        Args:
            classify ([`FusionSentimentPipeline`]): the pipeline.
            batch_size: rows per forward pass.
            rank, world: number of this process, and of processes; they need not know of each other.
            report: called with the number of a row in the input, from 1, and its error.

        Raises:
            DataError: if the input cannot be read, or a row does not fit.
        """
        first, last = (len(self) * (rank + k) // world for k in (0, 1))
        order = [*range(first, last), *reversed(range(last, len(self))), *reversed(range(first))]
        while order := [number for number in order if not self.path(number).is_file()]:
            claimed = [self._claimed(number, classify, batch_size, report) for number in order]
            if rank:
                return
            if not any(claimed):
                time.sleep(_POLL_SECONDS)

    def _claimed(self, number, classify, batch_size, report):
        """Writes a shard unless another process does; whether this one could have it."""
        claim = self._aside(number, "claim")
        with _lock(claim) as file:
            if file is None:
                return False
            if not self.path(number).is_file():  # as it may be since we looked
                start, stop = self._range(number)
                windows = predict_rows(classify, self.parts.read(start, stop), self.text_column, batch_size)
                self._write(number, self._watched(windows, start, file, report))
            claim.unlink(missing_ok=True)
        return True

    def _watched(self, windows, start, file, report):
        """The rows of the windows one by one; how many there were stands in the claim, for [`rows_done`]."""
        done = 0
        os.pwrite(file, _COUNT % done, 0)
        for window in windows:
            for row in window:
                done += 1
                if row["error"]:
                    report(start + done, row["error"])
            yield from window
            os.pwrite(file, _COUNT % done, 0)

    def _write(self, number, rows):
        aside = self._aside(number, "tmp")
        with pq.ParquetWriter(aside, self.schema) as writer:
            while group := list(islice(rows, _GROUP_ROWS)):
                try:
                    writer.write_table(pa.Table.from_pylist(group, schema=self.schema))
                except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
                    raise DataError(f"{self.path(number)}: a row does not fit into parquet: {error}") from error
        os.replace(aside, self.path(number))

    def rows_done(self) -> int:
        """Rows that all processes have predicted, in complete shards and others; a cheap look at the folder."""
        names, done = {entry.name for entry in os.scandir(self.folder)}, 0
        for number in range(len(self)):
            start, stop = self._range(number)
            if self.path(number).name in names:
                done += stop - start
            elif (claim := self._aside(number, "claim")).name in names:
                done += _read_count(claim)
        return done

    @contextmanager
    def progress_bar(self):
        """One bar over the rows of all processes, as long as the `with` statement lasts."""
        ended = Event()

        def show():
            bar.update(self.rows_done() - bar.n)

        def watch():
            while not ended.wait(_POLL_SECONDS):
                show()

        with tqdm(total=len(self.parts), initial=self.rows_done(), unit="row", file=sys.stderr) as bar:
            watcher = Thread(target=watch, daemon=True)
            watcher.start()
            try:
                yield
            finally:
                ended.set()
                watcher.join()
                show()

    def count(self) -> tuple[int, int]:
        """
        The number of rows with an error instead of a prediction, and of those that were cut, when all shards are
        complete.

        Raises:
            DataError: if a shard is damaged or has not as many rows as it should; names it.
        """
        failed = cut = 0
        for number in range(len(self)):
            start, stop = self._range(number)
            try:
                with pq.ParquetFile(self.path(number)) as file:
                    found = file.read(columns=["error", "truncated"])
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{self.path(number)} is damaged; delete it and go on. {error}") from error
            if len(found) != stop - start:
                raise DataError(
                    f"{self.path(number)} has {len(found)} rows instead of {stop - start}; delete it and go on."
                )
            failed += len(found) - found["error"].null_count
            cut += pc.sum(found["truncated"]).as_py() or 0
        return failed, cut


def _checkpoint_stamps(checkpoint: str) -> dict[str, list[int]]:
    """Stamps of the files of a checkpoint folder that decide its answers; none for a name on the Hub."""
    folder = Path(checkpoint)
    found = (path for place in _PLACES for kind in CHECKPOINT_FILES for path in (folder / place).glob(kind))
    return {path.relative_to(folder).as_posix(): stamp(path) for path in sorted(found) if path.is_file()}


def _differences(before, now):
    """What is not the same, in words."""
    for name, value in now.items():
        old = before.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            changed = [key for key in {**old, **value} if old.get(key) != value.get(key)]
            if changed:
                yield f"of the {name}, {changed[0]} is new, gone or changed ({len(changed)} in all)"
            elif list(old) != list(value):
                yield f"the {name} are in another order"
        elif old != value:
            yield f"{name} was {old!r} and is {value!r}"


@contextmanager
def _lock(path, wait=False):
    """
    A file that one process at a time can hold, as the number of the open file; `None` if another one holds it. The
    system frees it when the process ends, even by `kill -9`.
    """
    try:
        import fcntl
    except ImportError as error:
        raise DataError("Predictions into a folder need the file locks of Linux or macOS.") from error
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        except OSError as error:
            raise DataError(f"{path}: this file system cannot lock files; choose another one. {error}") from error
        else:
            yield file
    finally:
        os.close(file)


def _read_count(claim):
    try:
        return int(claim.read_bytes() or 0)
    except FileNotFoundError:  # just completed
        return 0
