"""Predictions of media files: what is found, one row for each stretch, and runs that continue."""

import json
from pathlib import Path

import pytest
from media_files import Sound, harmonic_sound, write_media

from hf_fusion import FusionSentimentPipeline
from hf_fusion.deployment.predict_media import (
    MediaParts,
    MediaPrediction,
    MediaPredictor,
    find_media,
    flat_media_row,
    media_types,
    predict_media,
    run_settings,
)
from hf_fusion.media.sandbox import Sandbox
from hf_fusion.models.pipeline_common import MODALITIES
from hf_fusion.utils.errors import DataError

SUBTITLES = (
    "1\n00:00:00,200 --> 00:00:01,400\nThe room was good.\n\n2\n00:00:04,000 --> 00:00:05,500\nThe bed was bad.\n"
)


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """Six seconds of voice, with subtitles beside the file."""
    folder = tmp_path_factory.mktemp("talk")
    (folder / "talk.srt").write_text(SUBTITLES)
    return write_media(folder / "talk.wav", Sound(harmonic_sound(6)))


@pytest.fixture
def bad(tmp_path):
    path = tmp_path / "bad.mp4"
    path.write_bytes(b"no film at all" * 99)
    return str(path)


class TestFindMedia:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "in/deep").mkdir(parents=True)
        for name in ("b.MP4", "a.wav", "notes.pdf", "labels.csv", "._a.wav", "_c.mp3", "deep/d.ogg"):
            (tmp_path / "in" / name).touch()
        (tmp_path / "rows.csv").touch()

    @pytest.mark.usefixtures("folder")
    def test_files_folders_and_patterns_in_their_order(self):
        assert find_media(["in/b.MP4", "in/deep"]) == (["in/b.MP4", "in/deep/d.ogg"], [])
        assert find_media(["in"]) == (["in/_c.mp3", "in/a.wav", "in/b.MP4", "in/deep/d.ogg"], ["in/labels.csv"])
        assert find_media(["in/**/*.[ow]*"])[0] == ["in/a.wav", "in/deep/d.ogg"]
        assert find_media(["rows.csv", "-", "nowhere.csv", "*.csv"]) == ([], [])

    @pytest.mark.usefixtures("folder")
    def test_what_does_not_go_together(self):
        with pytest.raises(DataError, match=r"in/a.wav is a media file and rows.csv leads to none"):
            find_media(["in/a.wav", "rows.csv"])
        with pytest.raises(DataError, match=r"in/a.wav is given twice"):
            find_media(["in", "in/a.wav"])
        with pytest.raises(FileNotFoundError, match=r"in/c.wav: no such file"):
            find_media(["in/a.wav", "in/c.wav"])


class TestMediaPredictor:
    def test_rows_are_the_answers_of_the_pipeline(self, media_pipeline, talk):
        prediction = MediaPredictor(media_pipeline, window=2.0, hop=1.0).predict(talk)
        expected = media_pipeline({"media": talk, "text": Path(talk).with_suffix(".srt")}, window=2.0, hop=1.0)
        rows = prediction.rows()
        assert [(row["start"], row["end"]) for row in rows] == [(i, i + 2) for i in range(5)]
        assert [row["prediction"]["score"] for row in rows] == pytest.approx([a["score"] for a in expected], abs=1e-5)
        assert rows[0]["text"] == "The room was good." and rows[0]["file"] == talk
        assert rows[0]["modalities"]["audio"] == expected[0]["modalities"]["audio"] > 0
        assert rows[0]["modalities"]["vision"] is None and rows[0]["error"] is None and rows[0]["truncated"] is False
        assert any("talk.srt" in note for note in prediction.notes)
        whole = MediaPredictor(media_pipeline).predict(talk)
        assert whole.answers == [whole.overall] == [prediction.overall]

    def test_columns_are_declared(self, media_pipeline, talk, bad):
        predictor = MediaPredictor(media_pipeline)
        for file in (talk, bad):
            (row,) = predictor.predict(file).rows()
            assert list(row) == list(media_types(media_pipeline.model.config))
            flat = flat_media_row(row)
            assert list(flat) == list(media_types(media_pipeline.model.config, flat=True))
            assert [flat[f"{name}_share"] for name in MODALITIES] == list(row["modalities"].values())

    def test_a_file_without_an_answer_has_an_error(self, media_pipeline, bad, tmp_path):
        silence = write_media(tmp_path / "silence.wav", Sound(0 * harmonic_sound(2)))
        predictor = MediaPredictor(media_pipeline, window="sentence")
        for file, words in ((bad, "bad.mp4"), (silence, "Nothing is known of the file")):
            (row,) = predictor.predict(file).rows()
            assert words in row["error"] and row["prediction"] == {"label": None, "score": None}

    def test_an_unexpected_error_is_that_of_its_file(self, media_pipeline, talk, monkeypatch):
        def fail(*args, **options):
            raise RuntimeError("a library fails")

        monkeypatch.setattr(media_pipeline.processor, "read_media", fail)
        prediction = MediaPredictor(media_pipeline).predict(talk)
        assert prediction.error == f"{talk} cannot be read: RuntimeError: a library fails"

    def test_a_broken_transcript_is_the_error_of_its_file(self, media_pipeline, tmp_path):
        file = write_media(tmp_path / "talk.wav", Sound(harmonic_sound(1)))
        (tmp_path / "talk.vtt").write_text("no subtitles")
        assert "talk.vtt" in MediaPredictor(media_pipeline).predict(file).error

    def test_progress_adds_up_to_the_length(self, media_pipeline, talk):
        steps = []
        MediaPredictor(media_pipeline).predict(talk, steps.append)
        assert sum(steps) == pytest.approx(6, abs=0.01)

    def test_another_process_reads_the_same(self, media_pipeline, media_checkpoint, talk, bad):
        here = MediaPredictor(media_pipeline, window=2.0)
        with Sandbox(timeout=600) as sandbox:
            apart = MediaPredictor(media_pipeline, window=2.0, sandbox=sandbox, checkpoint=str(media_checkpoint))
            assert apart.seconds_of(talk) == here.seconds_of(talk) == 6
            found, expected = apart.predict(talk), here.predict(talk)
            assert found.notes == expected.notes and apart.predict(bad) == here.predict(bad)
        for answer, other in zip(found.answers, expected.answers, strict=True):
            assert answer["score"] == pytest.approx(other["score"], abs=1e-5) and answer["text"] == other["text"]

    def test_refused_at_once(self, media_pipeline, clip_model, clip_processor):
        with pytest.raises(DataError, match=r"`window` is 11 seconds, but this model reads at most 10 seconds"):
            MediaPredictor(media_pipeline, window=11)
        with pytest.raises(DataError, match="`hop` is the time from one window to the next"):
            MediaPredictor(media_pipeline, hop=1.0)
        with pytest.raises(DataError, match="This model reads no media files"):
            MediaPredictor(FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu"))


class TestMediaParts:
    def test_a_run_continues_with_the_files_that_are_left(self, media_pipeline, talk, bad, tmp_path, monkeypatch):
        predictor = MediaPredictor(media_pipeline, window=2.0)
        parts = MediaParts(tmp_path / "out.parts", {"window": 2.0})
        run = predict_media(predictor, [bad, talk], parts)
        first = next(run)
        run.close()

        asked = []
        predict = predictor.predict
        monkeypatch.setattr(predictor, "predict", lambda file, *args: asked.append(file) or predict(file, *args))
        parts = MediaParts(tmp_path / "out.parts", {"window": 2.0})
        again = list(predict_media(predictor, [bad, talk], parts))
        assert asked == [talk] and again[0] == first
        assert list(predict_media(predictor, [talk, bad], parts)) == again[::-1] and asked == [talk]
        parts.remove()
        assert not (tmp_path / "out.parts").exists()

    def test_a_changed_file_or_transcript_is_read_again(self, media_pipeline, tmp_path):
        file = write_media(tmp_path / "talk.wav", Sound(harmonic_sound(1)))
        parts, predictor = MediaParts(tmp_path / "parts", {}), MediaPredictor(media_pipeline)
        (before,) = predict_media(predictor, [file], parts)
        assert parts.load(file) == before
        (tmp_path / "talk.srt").write_text(SUBTITLES)
        assert parts.load(file) is None
        (after,) = predict_media(predictor, [file], parts)
        assert after.overall["text"] is not None and before.overall["text"] is None
        write_media(tmp_path / "talk.wav", Sound(harmonic_sound(2)))
        assert parts.load(file) is None

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"stamps": {}, "prediction": {"colour": 1}}', "not json"])
    def test_a_damaged_part_is_predicted_again(self, media_pipeline, tmp_path, content):
        file = write_media(tmp_path / "talk.wav", Sound(harmonic_sound(1)))
        parts, predictor = MediaParts(tmp_path / "parts", {}), MediaPredictor(media_pipeline)
        (before,) = predict_media(predictor, [file], parts)
        (part,) = (path for path in (tmp_path / "parts").iterdir() if not path.name.startswith("_"))
        part.write_text(content)
        assert parts.load(file) is None
        assert list(predict_media(predictor, [file], parts)) == [before] == [parts.load(file)]

    def test_other_settings_are_not_mixed(self, media_pipeline, media_checkpoint, tmp_path):
        settings = run_settings(MediaPredictor(media_pipeline, window=2.0), str(media_checkpoint), plot=None)
        MediaParts(tmp_path / "parts", settings)
        MediaParts(tmp_path / "parts", json.loads(json.dumps(settings)))
        for changed, words in (
            ({**settings, "window": 3.0}, "window was 2.0 and is 3.0"),
            ({**settings, "files of the checkpoint": {}}, "of the files of the checkpoint"),
        ):
            with pytest.raises(DataError, match=f"interrupted run with other settings: {words}"):
                MediaParts(tmp_path / "parts", changed)

    def test_a_folder_of_something_else_is_left_alone(self, tmp_path):
        (tmp_path / "out.parts").mkdir()
        (tmp_path / "out.parts/mine.txt").touch()
        with pytest.raises(DataError, match="holds other files"):
            MediaParts(tmp_path / "out.parts", {})


def test_rows_of_several_labels():
    answer = {"start": 0.0, "end": 1.0, "text": None, "label": "sad", "score": 0.7, "labels": ["sad"], "modalities": {},
              "truncated": False}  # fmt: skip
    (row,) = MediaPrediction("a.wav", [answer]).rows(several_labels=True)
    assert row["prediction"] == {"label": "sad", "score": 0.7, "labels": ["sad"]}
    (row,) = MediaPrediction("a.wav", error="broken").rows(several_labels=True)
    assert row["prediction"] == {"label": None, "score": None, "labels": None}
