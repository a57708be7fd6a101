"""
Predictions for more rows than memory holds: a folder of parquet files ("shards") that any number of processes fill.

Shard i holds the predictions for the rows `i * shard_rows` to `(i + 1) * shard_rows` of the input, so that the folder
itself shows which shards are complete. A process claims a shard with a file lock, which the system releases when the
process ends for any reason. Hence two processes never write the same shard, no process waits for one that was killed,
and an interrupted run can be continued with any number of processes.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from hf_fusion.data.decoding import AS_FOUND, TextFormat
from hf_fusion.data.parts import Parts, stamp, survey
from hf_fusion.deployment.predictions import (
    Aspects,
    check_consistent,
    output_schema,
    predict_rows,
    settle_aspects,
    settle_long_texts,
)
from hf_fusion.hub.repository import CHECKPOINT_FILES, SECOND_TOKENIZER
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import write_json

# Readers of parquet folders ignore names that begin with _ or a dot.
SETTINGS_FILE = "_predictions.json"
_SCHEMA_FILE = "_common_metadata"
_LOCK_FILE = ".lock"
# Folders with the files of a checkpoint; "base" holds the base model of a LoRA adapter.
_PLACES = ("", SECOND_TOKENIZER, "base", f"base/{SECOND_TOKENIZER}")
# Approximate number of rows per row group.
_GROUP_ROWS = 8192
_POLL_SECONDS = 0.5
# The number of rows done, written into the claim; has a fixed length, so that each value overwrites the last.
_COUNT = b"%20d"


class PredictionShards:
    """
    The folder with the predictions of a run. The first process counts the rows of the input and writes the settings to
    `_predictions.json`; the others read them.

    Args:
        folder: the folder for the shards `part-00000-of-00042.parquet` ...; created if it does not exist.
        paths: the files of rows.
        checkpoint, dtype: see [`load_pipeline`].
        config: the configuration of the model.
        text_column: the column with the text.
        shard_rows: the number of rows per shard; the last one may have fewer.
        text_format: the format of text files.
        calibration, abstain_below: the arguments of [`set_answers`] that changed `config`.
        long_texts, consistent, aspects: see [`predict_rows`].

    Raises:
        DataError: if the folder has other settings or other files, or the input cannot be read.
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
        calibration: bool = True,
        abstain_below: float | None = None,
        long_texts: str | None = None,
        consistent: bool = True,
        aspects: Aspects | None = None,
    ):
        if shard_rows < 1:
            raise DataError(f"`shard_rows` must be at least 1, got {shard_rows}.")
        self.folder, self.text_column, self.shard_rows = Path(folder), text_column, shard_rows
        self.long_texts, self.consistent = settle_long_texts(config, long_texts), consistent
        self.aspects = settle_aspects(config, aspects)
        check_consistent(config, consistent)
        settings = {
            "inputs": {path: stamp(path) for path in paths},
            "checkpoint": checkpoint,
            "files of the checkpoint": checkpoint_stamps(checkpoint),
            "revision": getattr(config, "_commit_hash", None),
            "dtype": dtype,
            "text_column": text_column,
            "shard_rows": shard_rows,
            **asdict(text_format),
            # `None` by default, as in folders of earlier versions
            "uncalibrated": None if calibration else True,
            "abstain_below": abstain_below,
            # folders of earlier versions, which cut, do not say
            "long_texts": None if self.long_texts == "cut" else self.long_texts,
            "inconsistent": None if consistent else True,
            "aspects": self.aspects,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        others = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith((".", "_")))
        if others and not (self.folder / SETTINGS_FILE).is_file():
            raise DataError(f"{self.folder} holds other files ({others[0]} ...): choose a new or empty folder.")
        with _lock(self.folder / _LOCK_FILE, wait=True):
            if not (self.folder / SETTINGS_FILE).is_file():
                self._begin(paths, config, settings, text_format)
        saved = json.loads((self.folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        if differences := [*describe_differences(saved["settings"], settings)]:
            raise DataError(
                f"{folder} was filled with other settings: {'; '.join(differences)}. Use the same settings to "
                "continue, or choose another folder."
            )
        self.parts = Parts(paths, saved["rows"], [settings["inputs"][path] for path in paths], text_format)
        self.schema = pq.read_schema(self.folder / _SCHEMA_FILE)

    def _begin(self, paths, config, settings, text_format):
        counts, columns = survey(paths, text_format)
        pq.write_metadata(output_schema(columns, config, self.long_texts, self.aspects), self.folder / _SCHEMA_FILE)
        write_json(
            self.folder / SETTINGS_FILE, {"settings": settings, "rows": counts}
        )  # written last: it marks the folder as ready

    def __len__(self):
        return max(-(-len(self.parts) // self.shard_rows), 1)  # an empty input has one empty shard

    def path(self, number: int) -> Path:
        """Returns the path of a complete shard."""
        return self.folder / f"part-{number:05d}-of-{len(self):05d}.parquet"

    def _hidden_path(self, number, kind):
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
        Predicts shards until all are complete. Ranks other than 0 return once all others are complete or claimed.

        Each process starts at its own offset and goes forward, so that it reads a contiguous part of the input. When it
        is done, it continues with the shards of the others, from the end. Rank 0 returns last, and takes over the
        shards of processes that died.

        Args:
            classify ([`FusionSentimentPipeline`]): the pipeline.
            batch_size: the number of rows per forward pass.
            rank, world: the rank of this process and the number of processes. The processes need no communication.
            report: called with the number of a row in the input, from 1, and its error.

        Raises:
            DataError: if the input cannot be read, or a row does not fit the schema.
        """
        first, last = (len(self) * (rank + k) // world for k in (0, 1))
        order = [*range(first, last), *reversed(range(last, len(self))), *reversed(range(first))]
        while order := [number for number in order if not self.path(number).is_file()]:
            claimed = [self._try_shard(number, classify, batch_size, report) for number in order]
            if rank:
                return
            if not any(claimed):
                time.sleep(_POLL_SECONDS)

    def _try_shard(self, number, classify, batch_size, report):
        """Claims and writes a shard; returns `False` if another process holds its claim."""
        claim = self._hidden_path(number, "claim")
        with _lock(claim) as file:
            if file is None:
                return False
            if not self.path(number).is_file():  # another process may have completed it meanwhile
                start, stop = self._range(number)
                rows = self.parts.read(start, stop)
                windows = predict_rows(
                    classify, rows, self.text_column, batch_size, self.long_texts, self.consistent, self.aspects
                )
                self._write(number, self._count_rows(windows, start, file, report))
            claim.unlink(missing_ok=True)
        return True

    def _count_rows(self, windows, start, file, report):
        """Yields the rows of the windows, and writes their number to the claim for [`rows_done`]."""
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
        aside = self._hidden_path(number, "tmp")
        with pq.ParquetWriter(aside, self.schema) as writer:
            while group := list(islice(rows, _GROUP_ROWS)):
                try:
                    writer.write_table(pa.Table.from_pylist(group, schema=self.schema))
                except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
                    raise DataError(f"{self.path(number)}: a row does not fit into parquet: {error}") from error
        os.replace(aside, self.path(number))

    def rows_done(self) -> int:
        """Returns the number of rows that all processes have predicted so far; does not open any shard."""
        names, done = {entry.name for entry in os.scandir(self.folder)}, 0
        for number in range(len(self)):
            start, stop = self._range(number)
            if self.path(number).name in names:
                done += stop - start
            elif (claim := self._hidden_path(number, "claim")).name in names:
                done += _read_count(claim)
        return done

    @contextmanager
    def progress_bar(self):
        """Shows one progress bar for the rows of all processes, inside a `with` statement."""
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

    def count(self) -> tuple[int, int, int | None]:
        """
        Returns the number of rows with an error, of truncated rows, and of unsure ones (`None` if no answer may be).
        All shards must be complete.

        Raises:
            DataError: if a shard is damaged or has a wrong number of rows; the message names it.
        """
        failed = cut = unsure = 0
        may_abstain = any(field.name == "unsure" for field in self.schema.field("prediction").type)
        columns = ["error", "truncated", *(["prediction.unsure"] if may_abstain else [])]
        for number in range(len(self)):
            start, stop = self._range(number)
            try:
                with pq.ParquetFile(self.path(number)) as file:
                    shard = file.read(columns=columns)
            except (pa.ArrowException, OSError) as error:
                raise DataError(
                    f"{self.path(number)} is damaged; delete it and start again to continue. {error}"
                ) from error
            if len(shard) != stop - start:
                raise DataError(
                    f"{self.path(number)} has {len(shard)} rows instead of {stop - start}; delete it and start again."
                )
            failed += len(shard) - shard["error"].null_count
            cut += pc.sum(shard["truncated"]).as_py() or 0
            if may_abstain:
                unsure += pc.sum(pc.struct_field(shard["prediction"], "unsure")).as_py() or 0
        return failed, cut, unsure if may_abstain else None


def checkpoint_stamps(checkpoint: str) -> dict[str, list[int]]:
    """Returns the stamps of the files that decide a checkpoint's predictions; empty for a name on the Hub."""
    folder = Path(checkpoint)
    paths = (path for place in _PLACES for pattern in CHECKPOINT_FILES for path in (folder / place).glob(pattern))
    return {path.relative_to(folder).as_posix(): stamp(path) for path in sorted(paths) if path.is_file()}


def describe_differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Describes the differences of two settings in words."""
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
    Locks a file for this process and yields its file descriptor, or `None` if another process holds the lock. The
    system releases the lock when the process ends, even by `kill -9`.
    """
    try:
        import fcntl
    except ImportError as error:
        raise DataError("Predictions to a folder need the file locks of Linux or macOS.") from error
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
    except FileNotFoundError:  # completed meanwhile
        return 0
