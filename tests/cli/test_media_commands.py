"""prepare, train and extract with made media files, as a user does it; descriptors alone, which need no network."""

import json
import os

import numpy as np
import pytest
import yaml
from media_files import Film, Sound, harmonic_sound, moving_film, write_media
from tiny_runs import TINY_CLIPS, script_here

from hf_fusion.cli.arguments import make_extraction
from hf_fusion.cli.prepare import parse_args
from hf_fusion.data.clips import ClipSource, load_clips
from hf_fusion.models.feature_extraction_dashfusion import DashFusionFeatureExtractor
from hf_fusion.models.media_frames import Network
from hf_fusion.training.recipe import parse_recipe
from hf_fusion.training.run import run_training

SUBTITLES = "1\n00:00:00,000 --> 00:00:01,000\nit is good\n"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """24 recordings, of which one is silent, one is broken and one has a text of its own; a film without a row."""
    folder = tmp_path_factory.mktemp("media") / "videos"
    folder.mkdir()
    rows = ["id,label,split,text"]
    for i in range(24):
        sound = (
            np.zeros(16000, np.float32) if i == 3 else harmonic_sound(1.0 + 0.05 * i, pitch=110 + 10 * (i % 3), seed=i)
        )
        write_media(folder / f"r{i}.wav", Sound(sound))
        (folder / f"r{i}.srt").write_text(SUBTITLES)
        split = "test" if i > 19 else "validation" if i > 15 else "train"
        rows.append(f"r{i},{('low', 'middle', 'high')[i % 3]},{split},{'own text' if i == 2 else ''}")
    (folder / "r7.wav").write_bytes(b"no sound at all")
    (folder / "r7.srt").unlink()
    write_media(folder / "film.mp4", Sound(harmonic_sound(1.0), codec="aac"), Film(moving_film(1.0)))
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


@pytest.fixture
def flags(place):
    return ["--vision", "none", "--workers", 0, "--cache", place / "cache"]


@pytest.fixture
def prepared(videos, place, flags, monkeypatch):
    """The folder that prepare wrote, once."""
    if not (place / "mine").exists():
        run = script_here("prepare", monkeypatch)
        assert run(videos, place / "mine", "--classes", "auto", *flags) == 0
    return place / "mine"


@pytest.fixture
def checkpoint(prepared, place):
    """A run on it, once."""
    if not (place / "run" / "model.safetensors").exists():
        fields = {**TINY_CLIPS, "dataset": str(prepared), "output_dir": str(place / "run")}
        fields |= {"metric_for_best_model": "uar", "greater_is_better": True}
        fields.pop("dataset_options")
        (place / "recipe.yaml").write_text(yaml.safe_dump(fields))
        run_training(*parse_recipe(["--config", str(place / "recipe.yaml"), "--modalities", "text", "audio"]))
    return place / "run"


def test_a_folder_of_recordings_is_prepared(prepared):
    clips = load_clips(ClipSource(str(prepared), modalities=("text", "audio")))
    assert {split: len(table) for split, table in clips.items()} == {"train": 15, "validation": 4, "test": 4}
    assert clips["train"].features["label"].names == ["high", "low", "middle"]
    texts = dict(zip(clips["train"]["id"], clips["train"]["text"], strict=True))
    assert texts["r0"] == "it is good" and texts["r2"] == "own text" and "r7" not in texts
    row = clips["train"].with_format("numpy")[1]
    assert row["audio"].shape == (21, 23) and row["id"] == "r1"


def test_counts_are_in_the_report(prepared):
    report = json.loads((prepared / "prepared.json").read_text())
    assert report["left_out_or_filled"] == {
        "media files cannot be read": 1, "media files belong to no row": 1, "clips have no voice": 1,
        "clips left out: no text, no audio and no vision": 1,
    }  # fmt: skip
    assert report["source"]["media"]["files"] == 24 and report["source"]["media"]["longest_clip"] == 2.15


def test_the_checkpoint_reads_media_in_the_same_way(checkpoint, prepared):
    extractor = DashFusionFeatureExtractor.from_pretrained(checkpoint)
    assert extractor.media == json.loads((prepared / "media.json").read_text())


def test_extract_for_a_checkpoint(checkpoint, videos, place, flags, monkeypatch, capsys):
    run = script_here("extract", monkeypatch)
    assert run(videos / "r1.wav", videos / "film.mp4", place / "new", "-c", checkpoint, *flags[2:]) == 0
    assert "2 clips of 2 files" in capsys.readouterr().out
    with np.load(place / "new" / "r1.npz") as arrays:
        clips = load_clips(ClipSource(str(place / "mine")))["train"].with_format("numpy")
        assert np.array_equal(arrays["audio"], clips[1]["audio"]) and list(arrays) == ["audio"]
    predict = script_here("predict", monkeypatch)
    assert predict(place / "new", "-c", checkpoint, "-o", place / "p.jsonl", "--device", "cpu") == 0
    rows = [json.loads(line) for line in (place / "p.jsonl").read_text().splitlines()]
    assert [(row["id"], row["error"]) for row in rows] == [("r1", None), ("film", None)]


def test_the_recogniser_of_the_new_data_travels(checkpoint):
    given = ["VIDEOS", "new", "-c", str(checkpoint), "--asr", "openai/whisper-tiny", "--language", "de"]
    settings = make_extraction(parse_args(given)).extractor.settings
    assert (settings.asr, settings.language) == ("openai/whisper-tiny", "de")


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (
            "prepare",
            ["VIDEOS", "new", "--audio_rate", "7"],
            "frames must be one of 1, 2, 4, 5, 10, 20, 25, 50, 100, got 7",
        ),
        (
            "prepare",
            ["VIDEOS", "new", "--vision_rate", "101"],
            "'vision_rate' must be an integer from 1 to 100, got 101",
        ),
        ("prepare", ["VIDEOS", "new", "--workers", "-1"], "--workers must be at least 0, got -1"),
        ("prepare", ["VIDEOS", "new", "--timeout", "0"], "--timeout must be above 0 seconds, got 0"),
        ("prepare", ["VIDEOS", "new", "--timeout", "9", "--workers", "0"], "--timeout ends another process"),
        ("prepare", ["FEATURES", "new", "--asr", "x"], "--asr is for folders of media files with a labels file"),
        ("prepare", ["VIDEOS", "OLD"], "exists already"),
        ("extract", ["VIDEOS", "new", "-c", "RUN", "--audio", "descriptors"], "remove --audio"),
        ("extract", ["VIDEOS", "OLD"], "exists already"),
        ("extract", ["nowhere.mp4", "new"], "nowhere.mp4: no such file or folder"),
    ],
)
def test_errors(command, arguments, words, videos, place, tmp_path, monkeypatch, capsys):
    features = tmp_path / "features"
    features.mkdir()
    (features / "labels.csv").write_text("id,label\na,1\n")
    np.savez(features / "a.npz", audio=np.ones((2, 2)))
    places = {"VIDEOS": videos, "OLD": place, "new": tmp_path / "new", "RUN": place / "run", "FEATURES": features}
    run = script_here(command, monkeypatch)
    monkeypatch.setattr("hf_fusion.media.extractor.load_face_weights", lambda: Network({}, {}))
    if "RUN" in arguments and not (place / "run").exists():
        os.mkdir(place / "run")
    assert run(*(places.get(word, word) for word in arguments), "--cache", tmp_path / "cache") == 2
    assert words in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_a_checkpoint_of_arrays_reads_no_media(videos, tmp_path, monkeypatch, capsys):
    DashFusionFeatureExtractor().save_pretrained(tmp_path / "run")
    run = script_here("extract", monkeypatch)
    assert run(videos, tmp_path / "new", "-c", tmp_path / "run") == 2
    assert "was trained on arrays of frames, and has no settings for media files" in capsys.readouterr().err
