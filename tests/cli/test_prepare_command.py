"""Preparing clips as a user does it."""

import json
import pickle
import re

import numpy as np
import pytest
import yaml
from tiny_runs import script, script_here

from hf_fusion.data.clips import ClipSource, load_clips
from hf_fusion.training.recipe import parse_recipe
from hf_fusion.training.run import run_training
from hf_fusion.utils.records import fingerprint

TINY = {
    "model_type": "dashfusion", "hidden_size": 16, "num_attention_heads": 2, "num_encoder_layers": 1,
    "num_bottleneck_tokens": 2, "alignment_head_size": 8, "max_length": 16, "num_train_epochs": 1,
    "per_device_train_batch_size": 4, "disable_tqdm": True, "metric_for_best_model": "mae", "greater_is_better": False,
    "text_encoder": {"model_type": "bert", "tokenizer": "wordpiece", "vocab_size": 100, "hidden_size": 16,
                     "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """An MMSA file, with a label that is missing and one outside of the range among the last of the training clips."""
    rng = np.random.default_rng(0)
    data = {}
    for split, count in (("train", 12), ("valid", 4), ("test", 5)):
        data[split] = {
            "id": [f"{split} {i // 2}$_${i}" for i in range(count)],
            "raw_text": [f"clip {i} is {'good' if i % 2 else 'bad'}" for i in range(count)],
            "regression_labels": np.linspace(-2, 2.5, count),
            "audio": rng.normal(size=(count, 6, 2)).astype(np.float32),
            "audio_lengths": [i % 6 for i in range(count)],
            "vision": rng.normal(size=(count, 3, 4)).astype(np.float32),
        }
        for clip, length in zip(data[split]["audio"], data[split]["audio_lengths"], strict=True):
            clip[length:] = 0
    data["train"]["regression_labels"][10:] = np.nan, 9
    path = tmp_path_factory.mktemp("source") / "features.pkl"
    path.write_bytes(pickle.dumps(data))
    return path


@pytest.fixture(scope="module")
def done(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("done") / "data" / "clips"
    process = script("prepare", source, folder, "--label_range", "-3", "3", "--rejected_rows", "drop")
    assert process.returncode == 0, process.stderr
    return folder, process


def test_the_table_shows_what_was_written(done):
    folder, process = done
    cells = {}
    for line in process.stdout.splitlines():
        name, *values = (cell.strip() for cell in re.split("[│┃]", line.strip("│┃ ")))
        cells[name] = values
    assert cells["clips"] == ["10", "4", "5"]
    assert cells["label"][1:] == ["+0.250 in [-2, 2.5]"] * 2
    assert cells["without text"] == cells["without vision"] == ["0", "0", "0"]
    assert cells["without audio"] == ["2", "1", "1"]
    assert cells["audio features"] == ["2"] * 3 and cells["vision features"] == ["4"] * 3
    assert cells["audio frames: median / 95 % / max"] == ["2 / 4.55 / 5", "1.5 / 2.85 / 3", "2 / 3.8 / 4"]
    assert cells["vision frames: median / 95 % / max"] == ["3 / 3 / 3"] * 3
    report = json.loads((folder / "prepared.json").read_text())
    assert cells["fingerprint"] == list(report["fingerprint"].values())
    assert "features.pkl" in process.stdout and f"Written: {folder}" in process.stdout


def test_clips_that_were_left_out_are_named(done):
    _, process = done
    for words in ("2 unusable rows", "1 x no label: row 11 (train 5$_$10)", "outside the range -3 to 3: row 12"):
        assert words in process.stderr
    assert "Traceback" not in process.stderr


def test_the_folder_is_what_the_source_is(done, source):
    folder, _ = done
    clips = load_clips(ClipSource(str(folder)))
    assert fingerprint(clips) == fingerprint(load_clips(ClipSource(str(source), label_range=(-3, 3), rejected="drop")))
    assert [path.name for path in folder.parent.iterdir()] == ["clips"]


def test_the_folder_trains(done, tmp_path):
    folder, _ = done
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**TINY, "dataset": str(folder), "output_dir": str(tmp_path / "run")}))
    metrics = run_training(*parse_recipe(["--config", str(recipe)]))
    assert metrics["train_samples"] == 10 and np.isfinite(metrics["test"]["mae"])
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["data_fingerprint"] == json.loads((folder / "prepared.json").read_text())["fingerprint"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["SOURCE", "new"], "1 x no label: row 11 (train 5$_$10)\nMend them, or set `rejected_rows` to drop"),
        (["nothing.npz", "new", "--options", '{"context": 2}'], "nothing.npz"),
    ],
    ids=["unusable rows", "missing file"],
)
def test_errors_are_a_message_and_leave_nothing(args, words, source, tmp_path):
    places = {"SOURCE": source, "new": tmp_path / "new"}
    process = script("prepare", *(places.get(word, word) for word in args))
    assert process.returncode == 2
    assert "hf-fusion prepare: " in process.stderr and words in process.stderr and "Traceback" not in process.stderr
    assert not list(tmp_path.iterdir()) and "Written" not in process.stdout


def test_classes(tmp_path):
    folder = tmp_path / "voices"
    folder.mkdir()
    for name in "abcd":
        np.savez(folder / f"{name}.npz", audio=np.ones((2, 3), np.float32))
    (folder / "labels.csv").write_text("id,label,split\na,sad,train\nb,calm,train\nc,sad,valid\nd,sad,test\n")
    flags = ["--modalities", "audio", "--classes"]
    process = script("prepare", folder, tmp_path / "prepared", *flags, "auto")
    assert process.returncode == 0, process.stderr
    assert re.search(r"class calm +│ 1 +│ 0 +│ 0", process.stdout)
    assert re.search(r"class sad +│ 1 +│ 1 +│ 1", process.stdout)
    process = script("prepare", folder, tmp_path / "other", *flags, "calm", "glad")
    assert process.returncode and "none of the classes calm, glad: 'sad'" in process.stderr


def test_several_labels(tmp_path):
    folder = tmp_path / "voices"
    folder.mkdir()
    for name in "abc":
        np.savez(folder / f"{name}.npz", audio=np.ones((2, 3), np.float32))
    (folder / "labels.csv").write_text("id,label,split\na,sad;calm,train\nb,calm,train\nc,[],test\n")
    process = script("prepare", folder, tmp_path / "prepared", "--modalities", "audio", "--several_labels")
    assert process.returncode == 0, process.stderr
    assert re.search(r"class calm +│ 2 +│ 0", process.stdout) and re.search(r"class sad +│ 1 +│ 0", process.stdout)
    assert re.search(r"without a class +│ 0 +│ 1", process.stdout)


class TestOwnFiles:
    """As extractors write them; in this process."""

    @pytest.fixture
    def run(self, monkeypatch):
        return script_here("prepare", monkeypatch)

    def test_padding_at_the_start_and_settings(self, run, tmp_path, caplog):
        rng = np.random.default_rng(1)
        data, clips = {"config": {"audio": {"tool": "librosa"}}}, {}
        for split, count in (("train", 5), ("valid", 2), ("test", 2)):
            clips[split] = [rng.normal(size=(1 + i % 4, 3)).astype(np.float32) for i in range(count)]
            data[split] = {
                "id": [f"{split}$_${i}" for i in range(count)],
                "raw_text": np.array(["good", np.nan] * count)[:count],
                "regression_labels": np.ones(count),
                "audio": np.stack([np.pad(clip, ((5 - len(clip), 0), (0, 0))) for clip in clips[split]]),
                "audio_lengths": np.array([len(clip) for clip in clips[split]]),
            }
        (tmp_path / "unaligned_50.pkl").write_bytes(pickle.dumps(data))
        own = ["--dataset_options", '{"own_file": true}']
        assert run(tmp_path / "unaligned_50.pkl", tmp_path / "out") == 2
        assert run(tmp_path / "unaligned_50.pkl", tmp_path / "out", *own) == 0
        found = load_clips(ClipSource(str(tmp_path / "out")))
        for split, name in (("train", "train"), ("valid", "validation"), ("test", "test")):
            for row, clip in zip(found[name].with_format("numpy"), clips[split], strict=True):
                assert np.array_equal(row["audio"], clip)
        assert list(found["train"]["text"]) == ["good", None, "good", None, "good"]
        for words in ("'config' is no split", "padded at the start", "4 texts are NaN or 'nan'"):
            assert words in caplog.text
        assert json.loads((tmp_path / "out" / "prepared.json").read_text())["source"]["options"] == {"own_file": True}

    def test_too_few_features(self, run, tmp_path):
        (tmp_path / "clips").mkdir()
        np.savez(tmp_path / "clips" / "a.npz", audio=np.ones((2, 2)))
        (tmp_path / "clips" / "labels.csv").write_text("id,label,split,text\na,1,train,x\nb,1,train,y\n")
        assert run(tmp_path / "clips", tmp_path / "out") == 2
        assert run(tmp_path / "clips", tmp_path / "out", "--allow_missing_features") == 0
        assert len(load_clips(ClipSource(str(tmp_path / "out")))["train"]) == 2


class TestBaselinesOfReviews:
    @pytest.fixture
    def run(self, monkeypatch):
        return script_here("baselines", monkeypatch)

    def test_of_a_file_with_other_columns(self, run, tmp_path):
        rows = [f"a {'good' if i % 2 else 'bad'} room {i},{5 if i % 2 else 1},{'train' if i < 20 else 'test'}"
                for i in range(30)]  # fmt: skip
        (tmp_path / "r.csv").write_text("\n".join(["review,stars,split", *rows]) + "\n")
        flags = ["--dataset", tmp_path / "r.csv", "--columns", '{"text": "review"}', "--output", tmp_path / "b.json"]
        assert run(*flags) == 0
        result = json.loads((tmp_path / "b.json").read_text())
        assert result["test"]["TF-IDF + linear"]["fine_accuracy"] == 1
        assert result["test"]["majority"]["fine_accuracy"] == 0.5 and result["rows"]["test"] == 10
        assert result["test"]["majority"].keys() == result["test"]["TF-IDF + linear"].keys()

    def test_a_type_of_model_that_does_not_exist(self, run, capsys):
        assert run("--model_type", "bert") == 2
        assert "`model_type` must be one of dyfulm, dashfusion" in capsys.readouterr().err

    def test_results_go_to_the_runs_and_not_over_those_of_other_data(self, run, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        rows = [f"a {'good' if i % 2 else 'bad'} room {i},{5 if i % 2 else 1},{'train' if i < 20 else 'test'}"
                for i in range(30)]  # fmt: skip
        for folder, text in (("one", rows), ("other", [row.replace("room", "bed") for row in rows])):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "r.csv").write_text("\n".join(["text,stars,split", *text]) + "\n")
        assert run("--dataset", "one/r.csv") == run("--dataset", "one/r.csv") == 0
        assert (tmp_path / "runs/baselines_r/baselines_r.json").is_file()
        assert run("--dataset", "other/r.csv") == 2
        assert "holds results of other data; set another file by --output" in capsys.readouterr().err
