"""The commands on clips, as a user runs them."""

import json
import pickle
import shutil

import matplotlib.image
import numpy as np
import pytest
import yaml
from safetensors.torch import load_file
from tiny_runs import ROOT, script, script_here
from transformers import AutoModelForSequenceClassification, AutoProcessor

from hf_fusion import (
    DashFusionConfig,
    DashFusionFeatureExtractor,
    DashFusionForSequenceClassification,
    DashFusionProcessor,
    FusionSentimentPipeline,
)
from hf_fusion.data.files import read_rows

OPTIONS = {"num_train": 5, "num_validation": 5, "num_test": 30}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, wordpiece):
    from conftest import encoder_config

    folder = tmp_path_factory.mktemp("checkpoint")
    sizes = {"audio_feature_size": 8, "vision_feature_size": 8, "max_audio_length": 60, "max_vision_length": 40}
    small = {"hidden_size": 16, "num_attention_heads": 4, "num_encoder_layers": 1}
    model = DashFusionForSequenceClassification(DashFusionConfig(encoder_config("bert"), **sizes, **small))
    processor = DashFusionProcessor(wordpiece, DashFusionFeatureExtractor(**sizes))
    FusionSentimentPipeline(model, processor=processor, device="cpu").save_pretrained(folder)
    recipe = {"model_type": "dashfusion", "dataset": "synthetic-clips", "dataset_options": OPTIONS}
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture(scope="module")
def mmsa(tmp_path_factory):
    """A feature file as MMSA writes them, with padding."""
    rng = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", 16), ("valid", 6), ("test", 7)):
        lengths = {name: rng.integers(1, 6, count) for name in ("audio", "vision")}
        splits[split] = {
            "raw_text": [f"the room was {'good' if i % 2 else 'bad'}" for i in range(count)],
            "id": [f"{split}{i // 3}$_${i}" for i in range(count)],
            "regression_labels": np.array([1.5 if i % 2 else -1.5 for i in range(count)]),
        }
        for name, width in (("audio", 8), ("vision", 8)):
            frames = rng.normal(size=(count, 6, width))
            frames[np.arange(6) >= lengths[name][:, None]] = 0
            splits[split] |= {name: frames, f"{name}_lengths": lengths[name].tolist()}
    path = tmp_path_factory.mktemp("mmsa") / "features.pkl"
    path.write_bytes(pickle.dumps(splits))
    return path


@pytest.mark.parametrize("name", ["prepare", "convert", "baselines"])
def test_help_teaches(name):
    process = script(name, "--help")
    assert process.returncode == 0 and "    hf-fusion " in process.stdout
    assert len(process.stdout.splitlines()) > 8


def test_from_a_feature_file_to_predictions(mmsa, tmp_path):
    """Prepare, train, evaluate, predict, compare with the baselines: the README's example on a tiny file."""
    process = script("prepare", mmsa, tmp_path / "clips")
    assert process.returncode == 0, process.stderr
    recipe = yaml.safe_load((ROOT / "hf_fusion/recipes/dashfusion_synthetic.yaml").read_text())
    recipe |= {"dataset": str(tmp_path / "clips"), "dataset_options": None, "num_train_epochs": 2, "logging_steps": 1}
    recipe |= {"output_dir": str(tmp_path / "run"), "per_device_train_batch_size": 4}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    process = script("train", "--config", tmp_path / "recipe.yaml")
    assert process.returncode == 0, process.stderr
    trained = json.loads((tmp_path / "run/metrics.json").read_text())["test"]
    assert f"{trained['mae']:.4f}" in process.stdout

    process = script("evaluate", tmp_path / "run", "--dataset", mmsa)
    assert process.returncode == 0, process.stderr
    found = json.loads((tmp_path / "run/evaluation-test/metrics.json").read_text())["test"]
    assert found["mae"] == pytest.approx(trained["mae"], abs=1e-4)

    process = script("predict", mmsa, "-c", tmp_path / "run", "-o", tmp_path / "out.parquet")
    assert process.returncode == 0, process.stderr
    rows = list(read_rows(tmp_path / "out.parquet"))
    assert len(rows) == 29 and "audio" not in rows[0] and rows[0]["id"] == "train0$_$0"
    test = [row for row in rows if row["split"] == "test"]
    mae = np.mean([abs(row["prediction"]["score"] - row["label"]) for row in test])
    assert mae == pytest.approx(trained["mae"], abs=1e-4)

    process = script("baselines", "--dataset", mmsa, "--output", tmp_path / "baselines.json")
    assert process.returncode == 0, process.stderr
    baselines = json.loads((tmp_path / "baselines.json").read_text())
    assert baselines["test"]["ridge: text"]["acc2_non0"] == 1 and baselines["rows"]["test"] == 7
    assert set(baselines["test"]) == {"mean", *(f"ridge: {m}" for m in ("text", "audio", "vision")),
                                      "ridge: text + audio + vision"}  # fmt: skip


class TestEvaluate:
    def test_on_the_data_of_the_recipe(self, checkpoint, tmp_path):
        process = script("evaluate", checkpoint, "--output_dir", tmp_path)
        assert process.returncode == 0, process.stderr
        result = json.loads((tmp_path / "metrics.json").read_text())
        assert result["rows"] == 30 and f"{result['test']['mae']:.4f}" in process.stdout
        assert matplotlib.image.imread(tmp_path / "scores.png")[..., :3].std() > 0.02

    def test_frames_of_another_width(self, checkpoint, tmp_path):
        np.savez(tmp_path / "a.npz", audio=np.ones((2, 3)))
        (tmp_path / "labels.csv").write_text("id,label,split\na,1,test\n")
        process = script("evaluate", checkpoint, "--dataset", tmp_path, "--output_dir", tmp_path / "out")
        assert process.returncode == 2 and "Traceback" not in process.stderr
        assert "audio frames of 8 features, those of the data have 3" in process.stderr

    def test_fields_of_reviews_are_refused(self, checkpoint):
        process = script("evaluate", checkpoint, "--scale", 1, 5)
        assert process.returncode == 2 and "`scale` is a field of reviews" in process.stderr


class TestPredict:
    def test_texts_alone(self, checkpoint):
        process = script("predict", "-c", checkpoint, stdin="Not bad.\nGood\n")
        assert process.returncode == 0, process.stderr
        rows = [json.loads(line) for line in process.stdout.splitlines()]
        assert [row["text"] for row in rows] == ["Not bad.", "Good"]
        assert all(set(row["prediction"]) == {"label", "score"} for row in rows)

    def test_bad_clips_are_reported_and_kept_in_place(self, checkpoint, tmp_path):
        frames = np.ones((3, 8)).tolist()
        rows = [
            {"n": 0, "text": "good", "audio": frames, "vision": None},
            {"n": 1, "text": None, "audio": np.ones((3, 7)).tolist(), "vision": None},
            {"n": 2, "text": None, "audio": None, "vision": None},
            {"n": 3, "text": None, "audio": None, "vision": frames},
        ]
        (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        process = script("predict", tmp_path / "in.jsonl", "-c", checkpoint, "-o", tmp_path / "out.parquet")
        assert process.returncode == 1 and "2 of 4 rows" in process.stderr, process.stderr
        found = list(read_rows(tmp_path / "out.parquet"))
        assert [row["n"] for row in found] == [0, 1, 2, 3] and "audio" not in found[0]
        assert found[0]["prediction"]["label"] and found[3]["prediction"]["label"]
        assert "width 7 where 8 is expected" in found[1]["error"] and found[1]["prediction"]["score"] is None
        assert found[2]["error"]

    def test_a_folder_of_features_is_not_taken_for_files_of_rows(self, checkpoint, tmp_path):
        """It has a labels file, whose rows would be predicted without their frames."""
        (tmp_path / "clips").mkdir()
        (tmp_path / "clips/labels.csv").write_text("id,text,label\na,good,1\n")
        process = script("predict", tmp_path / "clips", "-c", checkpoint, "-o", tmp_path / "out")
        assert process.returncode == 2 and "clips cannot be divided into shards" in process.stderr
        assert not (tmp_path / "out").exists()

    def test_blank_texts_and_values_that_are_not_finite_score_as_in_evaluation(self, checkpoint, tmp_path):
        rng = np.random.default_rng(0)
        frames = rng.normal(size=(2, 4, 8))
        frames[0, 1, 2] = -np.inf
        split = {
            "raw_text": ["", "good bed"], "id": ["a$_$0", "b$_$0"], "regression_labels": np.array([1.0, -1.0]),
            "audio": frames, "vision": frames[:, :3],
        }  # fmt: skip
        path = tmp_path / "clips.pkl"
        path.write_bytes(pickle.dumps({"test": split}))
        process = script("evaluate", checkpoint, "--dataset", path, "--output_dir", tmp_path)
        assert process.returncode == 0, process.stderr
        process = script("predict", path, "-c", checkpoint, "-o", tmp_path / "out.jsonl")
        assert process.returncode == 0, process.stderr
        errors = [abs(row["prediction"]["score"] - row["label"]) for row in read_rows(tmp_path / "out.jsonl")]
        mae = json.loads((tmp_path / "metrics.json").read_text())["test"]["mae"]
        assert np.mean(errors) == pytest.approx(mae, abs=1e-6)

    def test_a_model_of_text_reads_the_text_of_full_clips(self, checkpoint, mmsa, tmp_path):
        folder = shutil.copytree(checkpoint, tmp_path / "text")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"modalities": ["text"]}))
        process = script("predict", mmsa, "-c", folder, "-o", tmp_path / "out.jsonl")
        assert process.returncode == 0, process.stderr
        process = script("evaluate", folder, "--dataset", mmsa, "--output_dir", tmp_path)
        assert process.returncode == 0, process.stderr
        rows = [row for row in read_rows(tmp_path / "out.jsonl") if row["split"] == "test"]
        mae = json.loads((tmp_path / "metrics.json").read_text())["test"]["mae"]
        assert np.mean([abs(row["prediction"]["score"] - row["label"]) for row in rows]) == pytest.approx(mae, abs=1e-6)

    @pytest.mark.parametrize("flags", [("--dtype", "int"), ("--device", "cuda:99")], ids=" ".join)
    def test_impossible_options(self, checkpoint, flags):
        for command in (("evaluate", checkpoint, *flags), ("predict", "-c", checkpoint, *flags)):
            process = script(*command, stdin="good\n")
            assert process.returncode == 2 and "Traceback" not in process.stderr and flags[1] in process.stderr

    def test_one_clip_as_an_extractor_writes_it(self, checkpoint, tmp_path, monkeypatch):
        """As if the padding had never been: its frames alone score the same."""
        run = script_here("predict", monkeypatch)
        rng = np.random.default_rng(3)
        audio, vision = rng.normal(size=(4, 8)), rng.normal(size=(2, 8))
        padded = {"audio": np.pad(audio, ((0, 5), (0, 0))), "vision": np.pad(vision, ((3, 0), (0, 0))), "config": {}}
        own = {"raw_text": "good bed", "text_bert": np.zeros((3, 6))}
        (tmp_path / "new clip.pkl").write_bytes(pickle.dumps(padded | own))
        assert run(tmp_path / "new clip.pkl", "-c", checkpoint, "-o", tmp_path / "a.jsonl") == 0
        row = {"text": "good bed", "audio": audio.tolist(), "vision": vision.tolist()}
        (tmp_path / "row.jsonl").write_text(json.dumps(row) + "\n")
        assert run(tmp_path / "row.jsonl", "-c", checkpoint, "-o", tmp_path / "b.jsonl") == 0
        (found,), (expected,) = read_rows(tmp_path / "a.jsonl"), read_rows(tmp_path / "b.jsonl")
        assert found["id"] == "new clip" and found["label"] is None and found["error"] is None
        assert found["prediction"]["score"] == pytest.approx(expected["prediction"]["score"], abs=1e-5)

    def test_options_of_the_reader(self, checkpoint, tmp_path, monkeypatch, capsys):
        run = script_here("predict", monkeypatch)
        np.savez(tmp_path / "a.npz", audio=np.ones((2, 8)))
        (tmp_path / "labels.csv").write_text("id,text\na,good\nb,bad\n")
        assert run(tmp_path, "-c", checkpoint, "-o", tmp_path / "out.jsonl") == 2
        assert "1 of 2 clips have no file of features (b)" in capsys.readouterr().err
        allowed = ["--dataset_options", '{"allow_missing_features": true}']
        assert run(tmp_path, "-c", checkpoint, "-o", tmp_path / "out.jsonl", *allowed) == 0
        assert len(list(read_rows(tmp_path / "out.jsonl"))) == 2

    def test_missing_file(self, checkpoint):
        process = script("predict", "nowhere.pkl", "-c", checkpoint)
        assert process.returncode == 2 and "nowhere.pkl" in process.stderr and "Traceback" not in process.stderr


class TestConvert:
    @pytest.fixture
    def released(self, tmp_path):
        import torch

        reference = load_file(ROOT / "tests/fixtures/dashfusion_reference.safetensors")
        weights = {n.removeprefix("weights."): v for n, v in reference.items() if n.startswith("weights.")}
        torch.save(weights, tmp_path / "released.pth")
        return tmp_path / "released.pth"

    def test_writes_a_checkpoint(self, released, tmp_path, wordpiece):
        from conftest import encoder_config

        encoder_config("bert", hidden_size=48).save_pretrained(tmp_path / "text")
        wordpiece.save_pretrained(tmp_path / "text")
        process = script(
            "convert", released, tmp_path / "out", "--text_encoder", tmp_path / "text",
            "--tokenizer", tmp_path / "text",
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        assert "weights of the text encoder: they are random" in process.stderr
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
        processor = AutoProcessor.from_pretrained(tmp_path / "out")
        batch = processor(text="good bed", audio=np.ones((4, 5)), vision=np.ones((3, 20)), return_tensors="pt")
        assert model(**batch).logits.shape == (1, 1) and model.config.hidden_size == 32

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (["--num_heads", 7], "must be a multiple of `num_attention_heads` (7)"),
            (["--label_range", 1, -1], "`label_range` must be"),
            (["--tokenizer", "nowhere/at/all"], "nowhere/at/all"),
        ],
        ids=["heads", "range", "tokenizer"],
    )
    def test_wrong_options_write_nothing(self, released, tmp_path, flags, words):
        from conftest import encoder_config

        encoder_config("bert", hidden_size=48).save_pretrained(tmp_path / "text")
        flags = ["--text_encoder", tmp_path / "text", *flags]
        process = script("convert", released, tmp_path / "out", *flags)
        assert process.returncode == 2 and words in process.stderr and "Traceback" not in process.stderr
        assert not (tmp_path / "out").exists()

    def test_of_another_model(self, tmp_path):
        import torch

        torch.save({"weight": torch.ones(1)}, tmp_path / "other.pth")
        process = script("convert", tmp_path / "other.pth", tmp_path / "out")
        assert process.returncode == 2 and "Traceback" not in process.stderr
        assert "no weights of a text encoder" in process.stderr
