"""Several processes at a time, with small programs in the place of training."""

import os
import signal
import sys
import time

import pytest
from tiny_runs import CHILDREN, LONGEST_SECONDS

from hf_fusion.studies import launch
from hf_fusion.studies.launch import Run, run_all
from hf_fusion.training.arguments import warn_of_single_process
from hf_fusion.utils.errors import RecipeError

PROGRAM = """
import os, sys, time
print("threads", os.environ["OMP_NUM_THREADS"])
for epoch in range(int(sys.argv[1])):
    print({'eval_loss': epoch}, flush=True)
    time.sleep(0.15)
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def _small_programs(monkeypatch):
    monkeypatch.setattr(launch, "_command", lambda run, threads: [sys.executable, "-c", PROGRAM, *run.flags])
    monkeypatch.setattr(launch, "_POLL_SECONDS", 0.05)


def test_runs_all_and_reports_epochs(tmp_path):
    runs = [Run(f"run {i}", "recipe.yaml", tmp_path / str(i), ["2", "0"]) for i in range(3)]
    reports = []
    run_all(runs, slots=2, report=lambda run, epochs: reports.append((run.name, epochs)))
    for run in runs:
        epochs = [count for name, count in reports if name == run.name]
        assert epochs[0] == 0 and epochs[-1] == 2 and epochs == sorted(set(epochs))
        assert "threads" in (run.folder / "train.log").read_text()


def test_checkpoints_go_when_a_run_is_finished(tmp_path):
    for status in ("0", "3"):
        (tmp_path / status / "checkpoint-4").mkdir(parents=True)
    run_all([Run("good", "recipe.yaml", tmp_path / "0", ["1", "0"])], 1)
    with pytest.raises(RecipeError):
        run_all([Run("bad", "recipe.yaml", tmp_path / "3", ["1", "3"])], 1)
    assert not (tmp_path / "0" / "checkpoint-4").exists() and (tmp_path / "3" / "checkpoint-4").exists()


def test_goes_on_in_the_same_log(tmp_path):
    run = Run("run", "recipe.yaml", tmp_path, ["2", "0"])
    reports = []
    run_all([run], 1)
    run_all([run], 1, lambda run, epochs: reports.append(epochs))
    assert (tmp_path / "train.log").read_text().count("eval_loss") == 4 and max(reports) == 2


def test_a_failure_stops_the_others_and_what_they_started(tmp_path, monkeypatch):
    def command(run, threads):
        words = [sys.executable, "-c", PROGRAM, *run.flags]
        return words if run.name != "long" else [sys.executable, "-c", f"import subprocess; subprocess.run({words!r})"]

    monkeypatch.setattr(launch, "_command", command)
    runs = [Run("long", "recipe.yaml", tmp_path / "long", ["200", "0"])]
    runs += [Run("bad", "recipe.yaml", tmp_path / "bad", ["1", "3"])]
    runs += [Run("never", "recipe.yaml", tmp_path / "never", ["1", "0"])]
    with pytest.raises(RecipeError, match=r"bad: training failed with status 3; see .*bad.train\.log"):
        run_all(runs, slots=2)
    log = tmp_path / "long" / "train.log"
    size = log.stat().st_size
    assert log.read_text().count("eval_loss") < 200, "nobody waited for its end"
    time.sleep(0.5)
    assert log.stat().st_size == size, "the program inside the launcher has ended too"


def test_the_reason_of_a_failure_is_told(tmp_path, monkeypatch):
    """As the training said it to its user, in this start, not an earlier one; nothing is made up of other output."""
    program = r"print('hf-fusion train: no.csv: no such file.\nTraceback of the launcher'); exit(2)"
    monkeypatch.setattr(launch, "_command", lambda *_: [sys.executable, "-c", program])
    run = Run("bad", "recipe.yaml", tmp_path)
    with pytest.raises(RecipeError, match=r"^bad: training failed with status 2: no.csv: no such file; see "):
        run_all([run], 1)
    for program in ("print('another'); exit(1)", "exit(1)"):
        monkeypatch.setattr(launch, "_command", lambda *_, program=program: [sys.executable, "-c", program])
        with pytest.raises(RecipeError, match=r"^bad: training failed with status 1; see .*train.log\.$"):
            run_all([run], 1)


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.undo()
    words = launch._command(Run("x", "recipe.yaml", tmp_path, ["--seed", "3"]), 2)
    assert words[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert words[words.index("--num_cpu_threads_per_process") + 1] == "2"
    assert words[words.index("--config") + 1] == "recipe.yaml" and words[-2:] == ["--seed", "3"]


def run_long(folder):
    """A run that takes long, in a child."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the process lives
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what is in the background deaf to Ctrl-C
    launch._command = lambda *_: [sys.executable, "-c", PROGRAM, "200", "0"]
    run_all([Run("long", "recipe.yaml", folder)], 1)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_what_ends_this_process_ends_the_runs(tmp_path, name):
    process = CHILDREN.Process(target=run_long, args=(tmp_path,))
    process.start()
    log = tmp_path / "train.log"
    while not (log.exists() and log.stat().st_size):
        assert process.is_alive()
        time.sleep(0.1)
    os.kill(process.pid, getattr(signal, name))
    process.join(LONGEST_SECONDS)
    assert process.exitcode not in (0, None)
    size = log.stat().st_size
    time.sleep(0.5)
    assert log.stat().st_size == size


def test_no_slot(tmp_path):
    with pytest.raises(RecipeError, match="`slots` must be at least 1, got 0"):
        run_all([Run("run", "recipe.yaml", tmp_path)], 0)


@pytest.mark.parametrize(
    ("environment", "warns"),
    [
        ({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}, True),  # accelerate launch --cpu --num_processes 2
        ({"ACCELERATE_USE_CPU": "True"}, False),
        ({"MASTER_ADDR": "127.0.0.1"}, False),
        ({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2"}, False),
        ({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "PMI_SIZE": "2"}, False),
    ],
)
def test_several_processes_that_accelerate_does_not_start(environment, warns, caplog):
    warn_of_single_process(environment)
    assert ("starts one process" in caplog.text) == warns
