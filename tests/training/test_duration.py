"""The estimate of a training's duration."""

import logging
from types import SimpleNamespace

import pytest

from hf_fusion.training import duration
from hf_fusion.training.duration import EstimateDuration


@pytest.fixture
def train(monkeypatch):
    """Runs the callback over a training of so many steps of so many seconds."""

    def run(steps, seconds, device="cpu", main_process=True, first=0):
        clock = {"now": 0.0}
        monkeypatch.setattr(duration.time, "perf_counter", lambda: clock["now"])
        args = SimpleNamespace(device=SimpleNamespace(type=device))
        state = SimpleNamespace(global_step=first, max_steps=steps, is_world_process_zero=main_process)
        callback = EstimateDuration()
        callback.on_train_begin(args, state, None)
        for step in range(first + 1, steps + 1):
            clock["now"] += seconds if step > first + 1 else 100  # the first step is no measure
            state.global_step = step
            callback.on_step_end(args, state, None)

    return run


def test_says_how_long(train, capsys, caplog):
    train(245, 2)
    assert "240 steps of 2 s on this CPU: about 8 minutes" in capsys.readouterr().out and not caplog.text


def test_counts_from_where_it_resumes(train, capsys):
    train(245, 2, first=120)
    assert "120 steps of 2 s on this CPU: about 4 minutes" in capsys.readouterr().out


def test_warns_of_more_than_half_an_hour(train, caplog):
    with caplog.at_level(logging.WARNING):
        train(3605, 2)
    assert "about 2.0 hours" in caplog.text and "`max_train_samples`" in caplog.text


@pytest.mark.parametrize("case", [{"device": "cuda"}, {"main_process": False}, {"steps": 4}], ids=str)
def test_says_nothing_elsewhere(train, capsys, caplog, case):
    train(**{"steps": 3605, "seconds": 2, **case})
    assert not capsys.readouterr().out and not caplog.text
