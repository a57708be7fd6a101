"""Runs that are killed at any moment, also while they save, and go on: the end is that of a run left alone."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from asserts import assert_close, assert_same_weights
from safetensors.torch import load_file
from tiny_runs import CHILDREN, LONGEST_SECONDS, processes_environment
from torch.distributed import TCPStore
from transformers import TrainerCallback

from hf_fusion.cli.errors import exit_status
from hf_fusion.training.checkpoints import STAGING, newest_sound_checkpoint
from hf_fusion.training.recipe import parse_recipe
from hf_fusion.training.run import run_training
from hf_fusion.utils.errors import TrainingInterrupted


class WaitNearTheEnd(TrainerCallback):
    """
    Two steps before its end, a training waits until there is a file "go on": one that is to be killed cannot be over
    first, however late this process, which is to kill it, gets its turn on a busy machine.
    """

    def __init__(self, folder):
        self.folder = folder

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == state.max_steps - 2:
            (self.folder / f"waiting-{args.process_index}").touch()
            while not (self.folder / "go on").exists():
                time.sleep(0.01)


def train(recipe, flags, rank, world_size, port, callbacks):
    """One process of a training, in a child."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the process lives
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    if world_size > 1:
        os.environ.update(processes_environment(rank, world_size, port))
    try:
        flags = ["--config", recipe, "--use_cpu", "true", "--resume_from_checkpoint", "last", *flags]
        run_training(*parse_recipe(flags), callbacks=callbacks)
    except TrainingInterrupted as error:
        sys.exit(exit_status(error))


class Training:
    """
    A run in processes of its own, in a folder of its own.

    Args:
        signals: a folder for the files of `WaitNearTheEnd`; without it the run goes to its end.
    """

    def __init__(self, recipe, folder, world_size, signals=None):
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.folder, self.signals = folder, signals
        flags = ["--output_dir", str(folder), "--per_device_train_batch_size", str(8 // world_size)]
        callbacks = []
        if signals is not None:
            signals.mkdir()
            callbacks.append(WaitNearTheEnd(signals))
        self.processes = [
            CHILDREN.Process(target=train, args=(recipe, flags, rank, world_size, self.store.port, callbacks))
            for rank in range(world_size)
        ]
        for process in self.processes:
            process.start()

    def kill(self):
        for process in self.processes:
            os.kill(process.pid, signal.SIGKILL) if process.is_alive() else None
        for process in self.processes:
            process.join()

    def terminate(self, rank):
        """Asks one process alone to end; returns how all of them did."""
        os.kill(self.processes[rank].pid, signal.SIGTERM)
        (self.signals / "go on").touch()
        return self.join()

    def wait(self, moment):
        """Until `moment` says that it has come, or all wait near the end; returns whether the run goes on."""
        while all(process.is_alive() for process in self.processes):
            if moment() or len([*self.signals.glob("waiting-*")]) == len(self.processes):
                return True
            time.sleep(0.002)
        return False

    def join(self):
        """Waits for all to end; returns how they did."""
        for process in self.processes:
            process.join(LONGEST_SECONDS)
        return [process.exitcode for process in self.processes]

    def finish(self):
        assert self.join() == [0] * len(self.processes)

    @property
    def is_saving(self):
        return any((self.folder / STAGING).glob("*/model.safetensors"))


def checkpoints(folder):
    return sorted(int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoint-*"))


@pytest.mark.parametrize(("world_size", "kind", "kills"), [(1, "dyfulm", 2), (2, "dashfusion", 2)])
def test_ends_as_a_run_left_alone(recipe, clip_recipe, tmp_path, request, world_size, kind, kills):
    """
    Once while a checkpoint is written, else soon after one, whatever the training does then; in the end SIGTERM for
    one process, with which all end.
    """
    kills = 10 if request.config.getoption("--nightly") else kills
    common = {"num_train_epochs": max(kills // 2, 2), "save_strategy": "steps", "eval_strategy": "steps",
              "save_steps": 1, "eval_steps": 1, "early_stopping_patience": 50, "save_total_limit": None}  # fmt: skip
    if kind == "dyfulm":
        path = recipe(**common, loss_weighting="dwa", gradient_accumulation_steps=2)
    else:
        path = clip_recipe(**common, contrastive_partners="mined", modality_dropout=0.2)
    Training(path, tmp_path / "whole", world_size).finish()

    folder = tmp_path / "killed"
    draw = random.Random(world_size)
    for number in range(kills):
        before = checkpoints(folder)
        training = Training(path, folder, world_size, tmp_path / f"signals-{number}")
        if number % 3 == 0:
            was_running = training.wait(lambda training=training: training.is_saving)
        else:
            was_running = training.wait(lambda before=before: checkpoints(folder) != before)
            time.sleep(draw.random() * 0.3)
        training.kill()
        assert was_running and not (folder / "metrics.json").exists(), "the run was over first"
    before = checkpoints(folder)
    training = Training(path, folder, world_size, tmp_path / "signals")
    assert training.wait(lambda: checkpoints(folder) != before)
    assert training.terminate(world_size - 1) == [128 + signal.SIGTERM] * world_size, "all know why they end"
    newest, skipped = newest_sound_checkpoint(folder)
    assert not skipped and int(newest.name.rpartition("-")[2]) > max(before) and not (folder / "metrics.json").exists()
    Training(path, folder, world_size).finish()
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert_same_weights(second, first)
    assert_close(history(folder), history(tmp_path / "whole"))
    assert not Path(folder, STAGING).exists()


def history(folder):
    """What was logged; but for speeds, and the loss, which `Trainer` averages from the start of the process."""
    logs = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    others = ("runtime", "per_second", "train_loss", "total_flos")
    return [
        {name: value for name, value in log.items() if name != "loss" and not any(part in name for part in others)}
        for log in logs
    ]
