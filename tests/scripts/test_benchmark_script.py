"""scripts/benchmark.py: once as a user runs it, and its options in this process, which saves the start of Python."""

import json

import matplotlib.image
import pytest
from tiny_runs import script, script_here

NAMES = (
    "train-step",
    "mining",
    "fusion-cost",
    "inference",
    "export",
    "long-texts",
    "loading",
    "prediction-memory",
    "media",
    "scaling",
    "serving",
    "start",
)


@pytest.fixture
def benchmark(monkeypatch):
    return script_here("benchmark.py", monkeypatch)


def test_help_teaches(benchmark, capsys):
    assert benchmark("--help") == 0
    text = capsys.readouterr().out
    assert "python scripts/" in text and all(name in text for name in NAMES)


def test_writes_a_complete_record_and_a_picture(tmp_path):
    process = script("benchmark.py", "fusion-cost", "--quick", "--repeats", 2, "--output", tmp_path / "out.json")
    assert process.returncode == 0, process.stderr
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["benchmark"] == "fusion-cost" and record["quick"] and len(record["comparisons"]) == 12
    for row in record["comparisons"]:
        assert row["benchmark"] == "fusion-cost" and row["hardware"]["processor"]
        assert row["command"].startswith("python scripts/benchmark.py fusion-cost --quick")
        ratios = sorted(pair["reference"] / pair["candidate"] for pair in row["pairs"])
        assert len(ratios) == (2 if row["unit"] == "seconds" else 1)
        assert row["ratio"] == pytest.approx(sum(ratios) / len(ratios))
        assert row["reference"]["name"].startswith("concat_attention") and row["candidate"]["name"] == "hbf"
        assert f"{row['ratio']:.3f}" in process.stdout
    assert matplotlib.image.imread(tmp_path / "out.png")[..., :3].std() > 0.02


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--repeats", 0], "--repeats must be at least 1, got 0"),
        (["--device", "cuda:99"], "--device cuda:99 cannot be used"),
        (["--device", "abacus"], "--device abacus cannot be used"),
        (["--text_encoder", "package:no_such_package/model"], "no_such_package is not installed"),
        (["--text_encoder", "no/such/encoder"], "--text_encoder no/such/encoder"),
        (["--output", "out.txt"], "must end in .json"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_bad_options_are_one_line(benchmark, capsys, flags, words):
    assert benchmark("scaling", *flags) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("benchmark.py: ") and len(error.splitlines()) == 1


def test_other_programs_have_a_name_and_a_command(benchmark, capsys):
    assert benchmark("media", "--against", "MediaPipe=") == 2
    assert "--against must be NAME=COMMAND, got 'MediaPipe='" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["scaling", "export"])
def test_flags_of_data_belong_to_a_checkpoint(benchmark, capsys, name):
    assert benchmark(name, "--dataset", "reviews.csv") == 2
    assert "unrecognized arguments: --dataset reviews.csv" in capsys.readouterr().err


def test_a_checkpoint_that_is_none_is_one_line(benchmark, capsys):
    assert benchmark("export", "--checkpoint", "no/such/run") == 2
    assert capsys.readouterr().err.startswith("benchmark.py: no/such/run")


def test_unknown_benchmark(benchmark, capsys):
    assert benchmark("nothing") == 2
    assert "fusion-cost" in capsys.readouterr().err
