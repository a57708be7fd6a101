"""SIGTERM: a checkpoint, and the end."""

import json
import os
import signal
from pathlib import Path

import pytest
from tiny_runs import CHILDREN
from transformers import TrainerCallback

from hf_fusion.training.checkpoints import newest_sound_checkpoint
from hf_fusion.training.interruption import TrainingInterrupted
from hf_fusion.training.recipe import parse_recipe
from hf_fusion.training.run import run_training


class Terminate(TrainerCallback):
    """Sends this process a SIGTERM in the middle of a step."""

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step - 1:
            os.kill(os.getpid(), signal.SIGTERM)


def run(recipe, output_dir, *flags, callbacks=None):
    flags = ["--output_dir", str(output_dir), *flags]
    return run_training(*parse_recipe(["--config", recipe, *flags]), callbacks=callbacks)


@pytest.mark.parametrize(("strategy", "step"), [("epoch", 3), ("epoch", 8), ("no", 3), ("no", 8)])
def test_saves_ends_and_goes_on_as_if_nothing_had_been(recipe, tmp_path, strategy, step):
    """In the middle of an epoch and at its end."""
    flags = ["--num_train_epochs", "2", "--save_strategy", strategy]
    flags += ["--load_best_model_at_end", "false"] * (strategy == "no")
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterrupted, match=f"after step {step} of 16.*--resume_from_checkpoint last"):
        run(recipe(), tmp_path / "run", *flags, callbacks=[Terminate(step)])
    assert signal.getsignal(signal.SIGTERM) == handler
    newest, skipped = newest_sound_checkpoint(tmp_path / "run")
    assert newest.name == f"checkpoint-{step}" and not skipped
    assert not (tmp_path / "run" / "metrics.json").exists(), "the run is not finished"
    run(recipe(), tmp_path / "run", *flags, "--resume_from_checkpoint", "last")
    run(recipe(), tmp_path / "whole", *flags)
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


def test_in_the_last_step_there_is_nothing_to_interrupt(recipe, tmp_path):
    metrics = run(recipe(), tmp_path / "run", callbacks=[Terminate(8)])
    assert "test" in metrics and (tmp_path / "run" / "metrics.json").exists()


class TerminateTwice(Terminate):
    def on_step_begin(self, args, state, control, **kwargs):
        super().on_step_begin(args, state, control)
        super().on_step_begin(args, state, control)


def train_and_terminate_twice(recipe, folder):
    run(recipe, folder, callbacks=[TerminateTwice(2)])


def test_a_second_one_ends_at_once(recipe, tmp_path):
    child = CHILDREN.Process(target=train_and_terminate_twice, args=(recipe(), tmp_path / "run"))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGTERM and newest_sound_checkpoint(tmp_path / "run") == (None, {})


def weights(folder):
    return Path(folder, "model.safetensors").read_bytes()


def metrics(folder):
    return {**json.loads(Path(folder, "metrics.json").read_text()), "train_seconds": None}
