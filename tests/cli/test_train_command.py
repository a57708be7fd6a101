"""`hf-fusion train`: whether it starts a launcher, and what its help has."""

import os
import sys

import pytest
import torch

from hf_fusion.cli import train
from hf_fusion.training.recipe import uses_cpu


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many accelerators; gives the commands that this process became."""
    commands = []

    def make(accelerators, **environment):
        for name in train._LAUNCHED:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: accelerators)
        return commands

    def execv(path, words):
        commands.append(words)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    return make


def test_several_accelerators_start_a_launcher(machine, recipe):
    commands = machine(2)
    with pytest.raises(SystemExit):
        train.main(["--config", recipe(), "--seed", "3"])
    (command,) = commands
    assert command[:5] == [sys.executable, "-m", "accelerate.commands.launch", "-m", "hf_fusion.cli.train"]
    assert command[5:] == ["--config", recipe(), "--seed", "3"]


@pytest.mark.parametrize(
    ("accelerators", "environment", "flags", "changes"),
    [
        (1, {}, [], {}),
        (0, {}, [], {}),
        (2, {"LOCAL_RANK": "0"}, [], {}),
        (2, {"WORLD_SIZE": "1"}, [], {}),
        (2, {"ACCELERATE_MIXED_PRECISION": "no"}, [], {}),
        (2, {}, ["--use_cpu"], {}),
        (2, {}, ["--use-cpu", "true"], {}),
        (2, {}, [], {"use_cpu": True}),
    ],
    ids=str,
)
def test_else_it_trains_itself(machine, recipe, accelerators, environment, flags, changes):
    machine(accelerators, **environment)
    assert not train.wants_launcher(["--config", recipe(**changes), *flags])


def test_help_starts_nothing(machine, capsys):
    commands = machine(2)
    with pytest.raises(SystemExit):
        train.main(["--help"])
    assert not commands and "usage: hf-fusion train" in capsys.readouterr().out


def test_trains_what_the_words_say(machine, recipe, monkeypatch):
    commands, trained = machine(1), []
    monkeypatch.setattr(train, "train", lambda *groups: trained.append(groups))
    train.main(["--config", recipe(), "--seed", "3"])
    assert trained[0][2].seed == 3 and not commands


def test_a_flag_overrides_the_recipe(recipe):
    assert uses_cpu(["--config", recipe(use_cpu=True)])
    assert not uses_cpu(["--config", recipe(use_cpu=True), "--use_cpu", "false"])
    assert not uses_cpu([])
