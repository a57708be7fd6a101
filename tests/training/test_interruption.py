"""SIGTERM: a checkpoint, and the end."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from asserts import assert_close
from tiny_runs import CHILDREN, LONGEST_SECONDS
from transformers import TrainerCallback

from hf_fusion.training import interruption
from hf_fusion.training.checkpoints import newest_sound_checkpoint
from hf_fusion.training.recipe import parse_recipe
from hf_fusion.training.run import run_training
from hf_fusion.utils.errors import TrainingInterrupted


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
    with pytest.raises(TrainingInterrupted, match=f"after step {step} of 16.*set `resume_from_checkpoint` to last"):
        run(recipe(), tmp_path / "run", *flags, callbacks=[Terminate(step)])
    assert signal.getsignal(signal.SIGTERM) == handler
    newest, skipped = newest_sound_checkpoint(tmp_path / "run")
    assert newest.name == f"checkpoint-{step}" and not skipped
    assert not (tmp_path / "run" / "metrics.json").exists(), "the run is not finished"
    run(recipe(), tmp_path / "run", *flags, "--resume_from_checkpoint", "last")
    run(recipe(), tmp_path / "whole", *flags)
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    assert_close(metrics(tmp_path / "run"), metrics(tmp_path / "whole"))


def test_what_it_saves_is_the_newest_though_a_broken_one_had_a_higher_number(recipe, tmp_path):
    folder, flags = tmp_path / "run", ["--num_train_epochs", "2", "--save_total_limit", "1"]
    with pytest.raises(TrainingInterrupted):
        run(recipe(), folder, *flags, callbacks=[Terminate(8)])
    shutil.copytree(folder / "checkpoint-8", folder / "checkpoint-16", dirs_exist_ok=True)
    (folder / "checkpoint-16" / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(TrainingInterrupted, match="after step 11 of 16"):
        run(recipe(), folder, *flags, "--resume_from_checkpoint", "last", callbacks=[Terminate(11)])
    assert newest_sound_checkpoint(folder) == (folder / "checkpoint-11", {})
    assert (folder / "_passed_over-checkpoint-16").is_dir(), "nothing is lost"


def test_in_the_last_step_there_is_nothing_to_interrupt(recipe, tmp_path):
    metrics = run(recipe(), tmp_path / "run", callbacks=[Terminate(8)])
    assert "test" in metrics and (tmp_path / "run" / "metrics.json").exists()


class TerminateTwice(Terminate):
    """As a scheduler and a launcher do that both pass it on."""

    def on_step_begin(self, args, state, control, **kwargs):
        for _ in range(2):
            super().on_step_begin(args, state, control)
            time.sleep(0.01)


def train_and_terminate_twice(recipe, folder):
    interruption._SAME_SECONDS = 0
    run(recipe, folder, callbacks=[TerminateTwice(2)])


def test_two_at_a_time_are_one(recipe, tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(recipe(), tmp_path / "run", callbacks=[TerminateTwice(2)])
    assert newest_sound_checkpoint(tmp_path / "run")[0].name == "checkpoint-2"


def test_whoever_listened_does_so_after_an_error(recipe, tmp_path):
    class Fails(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            raise RuntimeError("no more")

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="no more"):
        run(recipe(), tmp_path / "run", callbacks=[Fails()])
    assert signal.getsignal(signal.SIGTERM) == handler


def test_one_that_comes_after_the_last_step_changes_nothing(recipe, tmp_path):
    """Not even where early stopping ended the training: the processes agreed on nothing."""

    class InEvaluation(TrainerCallback):
        def on_evaluate(self, args, state, control, **kwargs):
            os.kill(os.getpid(), signal.SIGTERM)
            control.should_training_stop = True

    metrics = run(recipe(), tmp_path / "run", "--num_train_epochs", "2", callbacks=[InEvaluation()])
    assert "test" in metrics


def test_a_second_one_later_ends_at_once(recipe, tmp_path):
    child = CHILDREN.Process(target=train_and_terminate_twice, args=(recipe(), tmp_path / "run"))
    child.start()
    child.join(LONGEST_SECONDS)
    assert child.exitcode == -signal.SIGTERM and newest_sound_checkpoint(tmp_path / "run") == (None, {})


def weights(folder):
    return Path(folder, "model.safetensors").read_bytes()


def metrics(folder):
    return {**json.loads(Path(folder, "metrics.json").read_text()), "train_seconds": None, "evaluation_seconds": None}
