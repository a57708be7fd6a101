"""Runs several trainings at a time, each in a separate process."""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hf_fusion.utils.errors import RecipeError

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_SECONDS_TO_SAVE = 60


@dataclass
class Run:
    """
    One training run.

    Args:
        name (`str`): the name in messages.
        recipe (`str`): the recipe, as in `hf-fusion train --config`.
        folder (`Path`): the run folder; the output of the run is appended to its `train.log`.
        flags (`list[str]`): command-line flags for other recipe fields.
    """

    name: str
    recipe: str
    folder: Path
    flags: list[str] = field(default_factory=list)


def run_all(runs: list[Run], slots: int, report: Callable[[Run, int], None] = lambda run, epochs: None) -> None:
    """
    Trains all runs, at most `slots` at a time, which share the cores. The checkpoints of a finished run, which are
    several times as large as its model, are removed.

    Args:
        runs (`list[Run]`): the runs to train.
        slots (`int`): the number of processes at a time.
        report (`Callable`, *optional*): called with a run and 0 when it starts, and with the number of finished epochs
            after each one.

    Raises:
        RecipeError: if a run fails, or `slots` is below 1. The other runs are then stopped; also if this process is
            interrupted, terminated or loses its terminal.
    """
    if slots < 1:
        raise RecipeError(f"`slots` must be at least 1, got {slots}.")
    threads = max((os.cpu_count() or 1) // slots, 1)
    processes: list[subprocess.Popen] = []
    with _signals_as_exceptions(), ThreadPoolExecutor(slots) as pool:
        waiting = [pool.submit(_train, run, threads, processes, report) for run in runs]
        try:
            for run in wait(waiting, return_when=FIRST_EXCEPTION).done:
                run.result()
        except BaseException:  # including Ctrl-C
            pool.shutdown(wait=False, cancel_futures=True)
            _stop(processes)
            raise


@contextmanager
def _signals_as_exceptions():
    """Turns SIGTERM and SIGHUP into exceptions, as Ctrl-C is one, so that the runs can be stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number, frame):
        raise SystemExit(128 + number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), leave) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _train(run, threads, processes, report):
    run.folder.mkdir(parents=True, exist_ok=True)
    log = run.folder / "train.log"
    before, start = _epochs(log), log.stat().st_size if log.exists() else 0
    report(run, 0)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with open(log, "a", encoding="utf-8") as file:
        process = subprocess.Popen(
            _command(run, threads), stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    processes.append(process)
    reported = 0
    while process.poll() is None:
        time.sleep(_POLL_SECONDS)
        if (epochs := _epochs(log) - before) != reported:
            reported = epochs
            report(run, epochs)
    if process.returncode:
        raise RecipeError(
            f"{run.name}: training failed with status {process.returncode}{_reason(log, start)}; see {log}."
        )
    for checkpoint in run.folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def _reason(log, start):
    """The message of a training that ended with an error of its user, from its part of a log; else nothing."""
    text = log.read_bytes()[start:].decode("utf-8", errors="replace")
    messages = re.findall(r"^hf-fusion \w+: (.+)$", text, re.MULTILINE)
    return f": {messages[-1].strip().removesuffix('.')}" if messages else ""


def _stop(processes):
    """Stops launchers and their trainings, which save first; returns after all have ended."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        _signal(process, signal.SIGTERM)
    end = time.monotonic() + _SECONDS_TO_SAVE
    while time.monotonic() < end and any(_signal(process, 0) for process in running):
        time.sleep(_POLL_SECONDS)
    for process in running:
        _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))


def _signal(process, number):
    """Sends a signal to a process and its children; returns whether any of them was alive."""
    process.poll()  # removes a process that has ended
    if not hasattr(os, "killpg"):
        process.terminate()
        return False
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _command(run, threads):
    """Returns the command `accelerate launch --num_processes 1 -m hf_fusion.cli.train` with its configuration."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", str(threads)]
    command += ["-m", "hf_fusion.cli.train", "--config", run.recipe, "--output_dir", str(run.folder)]
    command += ["--disable_tqdm", "true"]
    return [*command, *run.flags]


def _epochs(log):
    return log.read_text(encoding="utf-8", errors="replace").count("'eval_loss'") if log.exists() else 0
