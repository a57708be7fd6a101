"""Recordings: their files, limits and errors, and the picture of the answers over time."""

from types import SimpleNamespace

import pytest
from media_files import Sound, harmonic_sound, write_media

from hf_fusion.deployment.demo.recordings import HEIGHT, MOST_WINDOWS, WIDTH, Recording, RecordingReader, draw
from hf_fusion.deployment.demo.rendering import render_recording
from hf_fusion.deployment.predict_media import MediaPrediction
from hf_fusion.models.processing_text import InputError
from hf_fusion.utils.errors import DataError

pytest_plugins = ["demo_models"]


def answers(*entries, length=2.0, hop=1.0):
    """Answers of windows; `None` where nothing is known."""
    return [
        {"start": i * hop, "end": i * hop + length, "text": f"word <{i}>" if entry else None, "modalities": {},
         "label": entry and entry[0], "score": entry and entry[1], "truncated": False}
        for i, entry in enumerate(entries)
    ]  # fmt: skip


def prediction(*entries):
    found = answers(*entries)
    overall = {"start": 0.0, "end": found[-1]["end"], "label": entries[0][0], "score": entries[0][1],
               "modalities": {"text": 0.5}}  # fmt: skip
    return MediaPrediction("talk.wav", found, overall)


def test_scores_are_steps_between_the_middles_of_overlaps(recording_model):
    curve = draw(recording_model, prediction(("positive", 3.0), ("neutral", 0.0), None, ("negative", -3.0)), [])
    # of 5 seconds: [0, 1.5], [1.5, 2.5], a gap, [3.5, 5]
    assert [stretch.left for stretch in curve.stretches] == [0, 300, 500, 700]
    assert [stretch.width for stretch in curve.stretches] == [300, 200, 200, 300]
    assert [stretch.height for stretch in curve.stretches] == [HEIGHT, HEIGHT / 2, None, 0]
    assert curve.lines == ["0.0,0.0 300.0,0.0 300.0,100.0 500.0,100.0", "700.0,200.0 1000.0,200.0"]
    assert curve.ends == ("-3", "+3") and curve.classes == [] and curve.shares == "text 50%"
    html = render_recording(Recording("/tmp/a b.wav", False, 5.0, [curve]))
    assert html.count("<polyline") == 2 and html.count('class="hf-gap"') == 1 and "word &lt;0&gt;" in html
    assert '<audio controls preload="metadata" src="gradio_api/file=/tmp/a%20b.wav"' in html and "<video" not in html


def test_classes_are_bars_in_their_colors(recording_model):
    model = SimpleNamespace(
        name="classes", has_classes=True, written=lambda score: f"{score:.0%}" if score else "", place=lambda p: p
    )
    curve = draw(model, prediction(("angry", 0.5), ("glad", 0.75), ("angry", 0.25)), [])
    assert curve.classes == ["angry", "glad"] and [stretch.color for stretch in curve.stretches] == [0, 1, 0]
    assert [stretch.height for stretch in curve.stretches] == [100, 150, 50] and curve.lines == []
    html = render_recording(Recording("/tmp/a.mp4", True, 4.0, [curve]))
    assert html.count('<rect class="hf-class-0"') == 2 and "<video controls" in html and f"0 0 {WIDTH} {HEIGHT}" in html


@pytest.fixture(scope="module")
def reader(recording_model):
    reader = RecordingReader([recording_model], timeout=120)
    yield reader
    reader.close()


@pytest.mark.parametrize("names", [[], ["a.srt"], ["a.mp4", "b.wav"], ["a.mp4", "a.srt", "a.vtt"], ["a.mp4", "a.txt"]])
def test_one_recording_with_or_without_subtitles(reader, names):
    with pytest.raises(DataError, match="Upload one video or recording, and its subtitles"):
        reader.predict(names, 4.0, 1.0, ["text", "audio"])


def test_a_recording_is_read_with_the_modalities_that_are_on(reader, recording_model, tmp_path):
    write_media(tmp_path / "talk.wav", Sound(harmonic_sound(3)))
    (tmp_path / "words.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nThe room was good.\n")
    files = [str(tmp_path / "talk.wav"), str(tmp_path / "words.vtt")]
    (both,), (voice,) = (reader.predict(files, 1.0, 1.0, chosen).curves for chosen in (["text", "audio"], ["audio"]))
    assert both.notes[0] == "the words are those of words.vtt" and "text" in both.shares and "text" not in voice.shares
    expected = recording_model({"media": files[0], "text": files[1]})
    assert both.overall == expected["label"] and both.score == f"{expected['score']:+.2f}" != voice.score
    with pytest.raises(DataError, match="Switch on at least one modality"):
        reader.predict(files, 1.0, 1.0, [])
    with pytest.raises(DataError, match=r"has 3 seconds: choose a hop of at least 0\.0"):
        reader.predict(files, 1.0, 3 / (MOST_WINDOWS + 1), ["audio"])


def test_a_file_that_is_no_recording_is_named_without_its_folder(reader, tmp_path):
    (tmp_path / "talk.mp4").write_bytes(bytes(999))
    with pytest.raises(InputError) as error:
        reader.predict([str(tmp_path / "talk.mp4")], 1.0, 1.0, ["audio"])
    assert "talk.mp4" in str(error.value)
