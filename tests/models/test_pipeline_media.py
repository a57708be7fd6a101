"""Media files as inputs of the pipeline: whole, by windows, by sentences."""

import wave

import numpy as np
import pytest
import torch
from media_files import Sound, harmonic_sound, write_media

from hf_fusion import DashFusionFeatureExtractor, DashFusionProcessor, FusionSentimentPipeline
from hf_fusion.models.media_frames import MediaClip, MediaSettings
from hf_fusion.models.media_text import Word
from hf_fusion.models.pipeline_media import stretches_of
from hf_fusion.models.processing_text import InputError

SETTINGS = MediaSettings("descriptors", 20)


@pytest.fixture
def make_classify(clip_model, wordpiece):
    """A pipeline that reads 100 audio frames, 5 seconds, at most."""

    def make(**fields):
        extractor = DashFusionFeatureExtractor(media=SETTINGS.to_dict(), max_audio_length=100)
        model = clip_model(audio_feature_size=23, max_audio_length=100, **fields)
        return FusionSentimentPipeline(model, processor=DashFusionProcessor(wordpiece, extractor), device="cpu")

    return make


def clip_of(seconds=12.0, voiced=None, words=(), settings=SETTINGS):
    frames = round(seconds * 20)
    audio = np.random.default_rng(0).normal(size=(frames, 23)).astype(np.float32)
    voiced = np.ones(frames, dtype=bool) if voiced is None else np.array([bool(voiced(i / 20)) for i in range(frames)])
    text = " ".join(word.text for word in words) or None
    return MediaClip(text, list(words), audio, None, seconds, settings, voiced, [(0.0, seconds)], {})


def test_stretches(make_classify):
    processor = make_classify().processor
    clip = clip_of(12.0)
    assert stretches_of(clip, processor) == [(0.0, 4.0), (4.0, 8.0), (8.0, 12.0)], "the model reads 5 seconds"
    assert stretches_of(clip_of(5.0), processor) == [(0.0, 5.0)]
    assert stretches_of(clip, processor, 5.0) == [(0.0, 5.0), (5.0, 10.0), (10.0, 12.0)]
    assert stretches_of(clip, processor, 5.0, 3.0) == [(0.0, 5.0), (3.0, 8.0), (6.0, 11.0), (9.0, 12.0)]
    assert stretches_of(clip_of(5.1), processor, 5) == [(0.0, 5)], "a crumb gets no window"
    assert stretches_of(clip_of(8.1), processor, 4) == [(0.0, 4), (4.0, 8.1)], "but belongs to one, if it has room"
    with pytest.raises(InputError, match="`window` is 6 seconds, but the model reads at most 5 seconds"):
        stretches_of(clip, processor, 6)
    words = [Word(0.0, 1.0, "Good morning."), Word(2.0, 9.0, "A long, long sentence without an end")]
    sentences = stretches_of(clip_of(12.0, words=words), processor, "sentence")
    assert sentences == [(0.0, 1.0), (2.0, 5.5), (5.5, 9.0)]


def test_a_short_file_is_one_clip(make_classify):
    classify = make_classify()
    clip = clip_of(4.0, words=[Word(0.0, 1.0, "good"), Word(1.0, 2.0, "bed")])
    answer = classify(clip)
    plain = classify({"text": "good bed", "audio": clip.audio})
    assert answer["score"] == pytest.approx(plain["score"], rel=1e-5) and answer["label"] == plain["label"]
    assert (answer["start"], answer["end"], answer["text"]) == (0.0, 4.0, "good bed")
    assert answer["modalities"] == pytest.approx({"text": 0.5, "audio": 1.0})
    assert classify({"media": clip}) == answer
    assert classify([clip, {"text": "good bed"}, clip])[2]["score"] == pytest.approx(answer["score"])


def test_a_long_file_has_the_mean_over_its_known_time(make_classify):
    classify = make_classify()
    clip = clip_of(12.0, voiced=lambda time: not 4 <= time < 8)
    parts = [classify({"audio": clip.between(*stretch)["audio"]})["score"] for stretch in ((0, 4), (8, 12))]
    answer = classify(clip)
    assert answer["score"] == pytest.approx(np.mean(parts), rel=1e-5) and answer["end"] == 12.0
    assert abs(parts[0] - parts[1]) > 1e-5, "the mean is of different numbers"


def test_windows_say_where_nothing_is_known(make_classify):
    classify = make_classify()
    clip = clip_of(12.0, voiced=lambda time: time < 4)
    answers = classify(clip, window=4)
    assert [answer["start"] for answer in answers] == [0, 4, 8]
    assert answers[0]["score"] == pytest.approx(classify({"audio": clip.audio[:80]})["score"], rel=1e-5)
    assert all(answer["label"] is None and answer["score"] is None for answer in answers[1:])
    assert answers[1]["modalities"] == {} and answers[1]["text"] is None
    with pytest.raises(InputError, match="Nothing is known of the file"):
        classify(clip_of(voiced=lambda time: False))


def test_classes_have_mean_probabilities(make_classify):
    classify = make_classify(num_labels=3, id2label={0: "sad", 1: "calm", 2: "glad"})
    clip = clip_of(8.0)
    parts = [
        {entry["label"]: entry["score"] for entry in classify({"audio": clip.between(*stretch)["audio"]}, top_k=None)}
        for stretch in ((0, 4), (4, 8))
    ]
    answers = classify(clip, top_k=None)
    assert sum(answer["score"] for answer in answers) == pytest.approx(1.0, rel=1e-5)
    for answer in answers:
        assert answer["score"] == pytest.approx(np.mean([part[answer["label"]] for part in parts]), rel=1e-5)
    assert [answer["score"] for answer in answers] == sorted((answer["score"] for answer in answers), reverse=True)
    assert classify(clip)["label"] == answers[0]["label"]
    assert len(classify(clip, top_k=2)) == 2
    with pytest.raises(ValueError, match="`top_k` is for whole inputs"):
        classify(clip, top_k=2, window=3)


def test_several_labels_have_mean_probabilities(make_classify):
    classify = make_classify(num_labels=3, problem_type="multi_label_classification")
    with torch.no_grad():
        classify.model.classifier[-1].weight.zero_()
        classify.model.classifier[-1].bias.copy_(torch.tensor([4.0, -4.0, 3.0]))
    clip = clip_of(12.0, voiced=lambda time: time < 8)
    answer, every = classify(clip), classify(clip, top_k=None)
    assert answer["labels"] == ["LABEL_0", "LABEL_2"] and answer["end"] == 12.0
    assert {name: answer[name] for name in ("label", "score")} == {name: every[0][name] for name in ("label", "score")}
    windows = classify(clip, window=4)
    assert [window["labels"] for window in windows] == [["LABEL_0", "LABEL_2"]] * 2 + [None]
    assert windows[2]["label"] is None


def test_a_stream_gives_each_file_as_it_was_read(make_classify):
    classify, read = make_classify(), []

    def inputs():
        for i in range(3):
            read.append(i)
            yield clip_of(2.0)

    answers = classify(inputs())
    next(answers)
    assert read == [0], "the next file is read when it is asked for"
    assert len(list(answers)) == 2


def test_cut_texts_are_told(make_classify):
    classify = make_classify()
    words = [Word(i * 0.01, i * 0.01 + 0.01, "bed") for i in range(200)]
    clip = clip_of(4.0, words=words)
    assert classify(clip, return_truncated=True)["truncated"] is True
    answers = classify(clip, window=1, return_truncated=True)
    assert [answer["truncated"] for answer in answers] == [False] * 4
    assert "truncated" not in classify(clip)


def test_warnings_of_files_are_told(make_classify, tmp_path, monkeypatch):
    classify = make_classify()
    told = []
    monkeypatch.setattr("hf_fusion.models.pipeline_media.logger.warning", told.append)
    path = write_media(tmp_path / "talk.wav", Sound(harmonic_sound(2)))
    assert classify({"media": path})["modalities"].keys() == {"audio"}
    assert told == [f"{path}: No transcript is given, and no `asr` to write one: the text counts as missing."]


@pytest.mark.parametrize("options", [{}, {"window": 4}])
def test_a_text_beside_a_file_without_a_sample(options, make_classify, tmp_path):
    path = tmp_path / "empty.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
    answer = make_classify()({"media": path, "text": "good bed"}, **options)
    answer = answer[0] if options else answer
    assert np.isfinite(answer["score"]) and answer["text"] == "good bed" and answer["end"] == 0.0


def test_frames_that_do_not_fit_are_no_gap(make_classify):
    classify = make_classify()
    clip = clip_of(8.0)
    clip.audio = clip.audio[:, :5]
    for options in ({}, {"window": 4}):
        with pytest.raises(InputError, match="width 5 where 23 is expected"):
            classify(clip, **options)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"RIFF", 'A file goes in as {"media": file}'),
        ({"media": "talk.mp4", "frames": 3}, "'media' and, if there is a transcript, 'text'; got 'frames'"),
        ({"media": clip_of(2.0), "text": "good"}, "leave 'text' out"),
        ({"media": clip_of(2.0, settings=MediaSettings("descriptors", 10))}, "audio_rate = 10, this model reads"),
        ({"media": "no such file.mp4"}, "no such file.mp4"),
        ({"media": b"no media"}, "FFmpeg"),
        ({"media": "talk.mp4", "text": 3}, "transcript"),
    ],
)
def test_inputs_that_cannot_be_read(make_classify, value, message):
    classify = make_classify()
    with pytest.raises(InputError, match=message):
        classify(value)
    answers = classify([value, {"text": "good bed"}], on_error="return")
    assert isinstance(answers[0], InputError) and answers[0].number == 0
    assert answers[1]["label"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "`window` must be seconds, 0.05 or more, got 0"),
        ({"window": 1, "hop": 1e-9}, "`hop` must be seconds, 0.05 or more, got 1e-09"),
        ({"window": "word"}, "`window` must be one of 'sentence'"),
        ({"hop": 2}, "needs a `window`"),
        ({"window": "sentence", "hop": 2}, "needs a `window`"),
        ({"window": 3, "hop": -1}, "`hop` must be seconds, 0.05 or more"),
        ({"window": True}, "`window` must be seconds"),
    ],
)
def test_wrong_windows_are_refused(make_classify, options, message):
    with pytest.raises(ValueError, match=message):
        make_classify()(clip_of(4.0), **options)


def test_models_without_media_say_so(clip_model, clip_processor, make_model, processor):
    clips = FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")
    with pytest.raises(InputError, match="arrays of frames that were made elsewhere"):
        clips({"media": "talk.mp4"})
    with pytest.raises(InputError, match="arrays of frames that were made elsewhere"):
        clips(clip_of(2.0))
    texts = FusionSentimentPipeline(make_model(), processor=processor, device="cpu")
    with pytest.raises(InputError, match="This model reads text only"):
        texts({"media": "talk.mp4"})
    assert texts("talk me through it")["label"], "a string is a text"


@pytest.mark.nightly
def test_the_exported_model_answers_the_same(make_classify, tmp_path):
    pytest.importorskip("onnxruntime")
    from hf_fusion.deployment import OnnxFusion
    from hf_fusion.deployment.onnx_export import export_onnx

    classify = make_classify()
    export_onnx(classify.model, classify.processor, tmp_path / "onnx", num_checks=2)
    exported = OnnxFusion.from_pretrained(tmp_path / "onnx")
    path = write_media(tmp_path / "talk.wav", Sound(harmonic_sound(7)))
    value = {"media": path, "text": "good bed"}
    for options in ({}, {"window": 2, "hop": 1}, {"window": "sentence"}):
        expected, answers = classify(value, **options), exported(value, **options)
        pairs = zip(expected, answers, strict=True) if options else [(expected, answers)]
        for one, other in pairs:
            assert other["score"] == pytest.approx(one["score"], rel=1e-5)
            assert {**one, "score": 0} == {**other, "score": 0}


def test_a_window_for_other_inputs_is_told(make_classify, monkeypatch):
    classify, lines = make_classify(), []
    monkeypatch.setattr("hf_fusion.models.pipeline_common.logger.warning_once", lines.append)
    answer = classify([{"text": "good bed"}, clip_of(4.0)], window=2)
    assert isinstance(answer[0], dict) and len(answer[1]) == 2
    assert sum("`window` is for media files" in line for line in lines) == 1
    lines.clear()
    classify(clip_of(4.0), window=2)
    assert not any("`window`" in line for line in lines)
