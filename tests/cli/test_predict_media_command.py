"""Predictions of videos and recordings, as a user runs them."""

import csv
import json
import time

import matplotlib.image
import pytest
from media_files import Film, Sound, harmonic_sound, moving_film, write_media
from tiny_runs import Script, script, script_here

from hf_fusion import FusionSentimentPipeline
from hf_fusion.data.files import read_rows


@pytest.fixture
def predict(monkeypatch):
    return script_here("predict", monkeypatch)


@pytest.fixture
def lectures(tmp_path):
    """Two recordings, a film and a file of nothing in a folder with labels."""
    folder = tmp_path / "lectures"
    folder.mkdir()
    write_media(folder / "a.wav", Sound(harmonic_sound(3)))
    write_media(folder / "b.mp4", Film(moving_film(2)), Sound(harmonic_sound(2), codec="aac"))
    (folder / "b.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nThe room was good.\n")
    (folder / "c.mp3").write_bytes(b"\0" * 999)
    (folder / "labels.csv").write_text("id,label\na,1\n")
    return folder


def test_rows_and_pictures_of_a_folder(media_checkpoint, lectures, predict, tmp_path, capsys):
    out, plot = tmp_path / "curve.csv", tmp_path / "curve.png"
    assert predict(lectures, "-c", media_checkpoint, "-o", out, "--window", 1, "--hop", 0.5, "--plot", plot) == 1
    messages = capsys.readouterr().err
    assert "Left out: labels.csv: files of rows beside media files are not read." in messages
    assert f"the words are those of {lectures / 'b.vtt'}" in messages
    assert "1 of 9 rows have an error" in messages and "5/5 s of media" in messages
    with open(out, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "file", "start", "end", "text", "label", "score", "text_share", "audio_share", "vision_share", "truncated",
        "error",
    ]  # fmt: skip
    assert [row["file"][-5:] for row in rows] == ["a.wav"] * 5 + ["b.mp4"] * 3 + ["c.mp3"]
    assert [row["start"] for row in rows[:5]] == ["0.0", "0.5", "1.0", "1.5", "2.0"]
    assert rows[5]["text"] == "The room was good." and float(rows[5]["text_share"]) == 1 and not rows[7]["text"]
    assert all(row["label"] and 0 < float(row["audio_share"]) <= 1 for row in rows[:8])
    assert "c.mp3" in rows[8]["error"] and not rows[8]["label"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve-a.png", "curve-b.png", "curve.csv", "lectures"]
    assert matplotlib.image.imread(tmp_path / "curve-b.png")[..., :3].std() > 0.02


def test_one_row_a_file_agrees_with_the_pipeline(media_checkpoint, lectures, predict, tmp_path):
    out = tmp_path / "out.parquet"
    assert predict(lectures / "a.wav", lectures / "b.mp4", "-c", media_checkpoint, "-o", out) == 0
    classify = FusionSentimentPipeline.from_pretrained(media_checkpoint, device="cpu")
    inputs = [{"media": str(lectures / "a.wav")}, {"media": str(lectures / "b.mp4"), "text": str(lectures / "b.vtt")}]
    for row, answer in zip(read_rows(out), classify(inputs), strict=True):
        assert row["prediction"]["score"] == pytest.approx(answer["score"], abs=1e-5)
        assert row["prediction"]["label"] == answer["label"] and row["text"] == answer["text"]
        assert {name: share for name, share in row["modalities"].items() if share is not None} == answer["modalities"]


def test_json_lines_on_standard_output(media_checkpoint, lectures, predict, capsys):
    assert predict(lectures / "b.mp4", "-c", media_checkpoint, "--window", "sentence") == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert row["text"] == "The room was good." and row["prediction"]["label"] and row["start"] == 0.0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["a.wav", "--plot", "curve.png"], "`plot` shows the answers over time: set `window`"),
        (["a.wav", "--window", "1", "--plot", "curve.bmp"], "`plot` must end in .png, .pdf, .svg"),
        (["a.wav", "--window", "60"], "`window` is 60 seconds, but this model reads at most 10 seconds at once"),
        (["a.wav", "--hop", "1"], "`hop` is the time from one window to the next"),
        (["a.wav", "--text_column", "said"], "`text_column` is for files of rows"),
        (["a.wav", "-o", "out/"], "of media files `output` must be .csv, .jsonl or .parquet"),
        (["a.wav", "labels.csv"], "a.wav is a media file and labels.csv leads to none"),
        (["d.wav"], "d.wav: no such file"),
        (["labels.csv", "--window", "1"], "`window` is for media files"),
    ],
)
def test_wrong_calls(media_checkpoint, lectures, predict, monkeypatch, capsys, args, words):
    monkeypatch.chdir(lectures)
    assert predict(*args, "-c", media_checkpoint) == 2
    assert words in capsys.readouterr().err


def test_killed_and_continued(media_checkpoint, lectures, tmp_path):
    (lectures / "c.mp3").unlink()
    for i in range(6):
        write_media(lectures / f"d{i}.wav", Sound(harmonic_sound(4 + i)))
    out, parts = tmp_path / "out.jsonl", tmp_path / "out.jsonl.parts"
    command = ("predict", lectures, "-c", media_checkpoint, "-o", out, "--device", "cpu", "--window", 2)
    first = Script(*command)
    while first.process.is_alive() and len(list(parts.glob("[!_]*.json"))) < 2:
        time.sleep(0.01)
    first.process.kill()
    first.join()
    done = {path.name: path.stat().st_mtime_ns for path in parts.glob("[!_]*.json")}
    assert 2 <= len(done) < 8 and not out.exists(), "in the middle"

    other = script(*command[:-1], 3)
    assert other.returncode == 2 and "window was 2.0 and is 3.0" in other.stderr
    assert done.items() <= {path.name: path.stat().st_mtime_ns for path in parts.iterdir()}.items()

    again = script(*command)
    assert again.returncode == 0 and not parts.exists(), again.stderr
    files = [row["file"] for row in read_rows(out)]
    assert files == sorted(files) and len(set(files)) == 8
    assert again.stderr.count("a.wav") <= 1, "the first file was not read again"
