"""How the commands print."""

import logging
import shutil
import sys

import pytest
from transformers import BertConfig, BertForMaskedLM, BertModel
from transformers.utils.logging import enable_progress_bar, get_verbosity, set_verbosity, set_verbosity_warning

from hf_fusion.cli import output
from hf_fusion.utils.quiet import silence_libraries


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment with the command, as `make install` makes one."""
    for name in ("activate", "hf-fusion"):
        path = tmp_path / ".venv/bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o755)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".venv/bin"


def test_the_hint_says_how_to_activate_the_environment(environment, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    output.print_next([("Do it", "hf-fusion train")])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["  Do it:", "    hf-fusion train", "  (before them, once: source .venv/bin/activate)"]


def test_not_where_it_is_active_or_there_is_none(environment, monkeypatch):
    monkeypatch.setenv("PATH", str(environment))
    assert shutil.which("hf-fusion") and output.activation() is None
    monkeypatch.setenv("PATH", "/nowhere")
    (environment / "activate").unlink()
    assert output.activation() is None


def test_libraries_are_quiet(tmp_path, capfd):
    """A checkpoint with weights too many and too few: no report and no bars, but other warnings."""
    small = dict.fromkeys(("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"), 1)
    BertForMaskedLM(BertConfig(vocab_size=9, **small)).save_pretrained(tmp_path)
    logger, messages = logging.getLogger("transformers.modeling_utils"), []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger.addHandler(handler)
    filters, verbosity = logger.filters[:], get_verbosity()
    logger.filters.clear()  # of commands that ran before
    set_verbosity_warning()
    enable_progress_bar()
    capfd.readouterr()
    try:
        BertModel.from_pretrained(tmp_path)
        assert "LOAD REPORT" in messages.pop() and "Loading weights" in capfd.readouterr().err, "something to hush"
        silence_libraries()
        BertModel.from_pretrained(tmp_path)
        assert not messages and "Loading weights" not in capfd.readouterr().err
        logger.warning("something else")
        assert messages == ["something else"]
    finally:
        logger.removeHandler(handler)
        logger.filters[:] = filters
        set_verbosity(verbosity)


def test_metrics_fit_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    output.print_metrics("runs/mine (seed 1)", {"validation": {"mae": 0.5}, "test": {"mae": 0.25}})
    text = capsys.readouterr().out
    assert "0.5000" in text and "0.2500" in text and max(map(len, text.splitlines())) <= 80


def test_evidence_of_the_last_split(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    classes = {"[bold]": {"rows": 12, "predicted": 0, "precision": None, "recall": 0.0, "f1": 0.0},
               "good": {"rows": 1208, "predicted": 1220, "precision": 0.99, "recall": 1.0, "f1": 0.995}}  # fmt: skip
    part = {
        "rows": 1220,
        "intervals": {"fine_accuracy": [0.38, 0.81], "intensity_corr": None},
        "classes": {"fine": classes},
        "confusion": {"fine": [[0, 12], [0, 1208]]},
        "baselines": {"majority": {"fine_accuracy": 0.6}, "bag of words": {"fine_accuracy": 0.75}},
        "lead": {"fine_macro_f1": {"mean": -0.1, "interval": [-0.2, 0.05]}},
        "warnings": ["On test the model is not ahead."],
    }
    record = {"test": {"fine_accuracy": 0.7, "intensity_corr": None}, "evidence": {"splits": {"test": part}}}
    output.print_evidence(record)
    lines = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    for line in ("fine_accuracy 0.7000 0.3800 to 0.8100 0.6000 0.7500", "intensity_corr - - - -",
                 "[bold] 12 0 - 0.0000 0.0000", "good 1,208 1,220 0.9900 1.0000 0.9950", "good 0 1,208",
                 "Lead over bag of words in fine_macro_f1: -0.100 (95 % interval -0.200 to +0.050)"):  # fmt: skip
        assert line in lines, line
    assert lines[-1] == "Warning: On test the model is not ahead."
    for name in ("baselines", "lead"):
        del part[name]
    record["evidence"]["no_baselines"] = "the data has no train split"
    output.print_evidence(record)
    assert capsys.readouterr().out.startswith("No baselines: the data has no train split.")
    output.print_evidence({"test": {}})
    assert capsys.readouterr().out == ""
