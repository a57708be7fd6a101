"""Flags that hold a JSON object."""

import pytest
from tiny_runs import script_here


@pytest.mark.parametrize("command", ["predict", "prepare", "demo"])
@pytest.mark.parametrize(
    ("value", "words"),
    [("{", "no JSON: Expecting property name"), ("[1]", "expected an object"), ("[" * 100_000, "no JSON: ")],
    ids=["half", "list", "deep"],
)
def test_other_values_are_named(command, value, words, monkeypatch, capsys):
    assert script_here(command, monkeypatch)("runs/x", "--dataset_options", value) == 2
    assert f"argument --dataset_options{'/--options' * (command == 'prepare')}: {words}" in capsys.readouterr().err
