"""Chunks, times and gates with a recogniser that hears tones; Whisper tiny.en on noise and, where there is, speech."""

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)
from transformers.utils import logging

from hf_fusion.models.media_text import Word, text_of
from hf_fusion.models.media_transcription import Transcriber

MEDIA = Path(__file__).parents[3] / "shared/data/media"
RATE = 16000


class Recognizer:
    """Hears square waves: a word is a stretch of sound, its text the frequency in Hz."""

    type = "ctc"
    feature_extractor = SimpleNamespace(sampling_rate=RATE)

    def __init__(self, answer=None, refuse=(), type=type):
        self.answer, self.refuse, self.type, self.calls = answer, refuse, type, []

    def __call__(self, sound, return_timestamps=None, generate_kwargs=None):
        samples = sound["raw"]
        assert sound["sampling_rate"] == RATE and samples.dtype == np.float32
        self.calls.append((len(samples) / RATE, return_timestamps, generate_kwargs))
        if return_timestamps in self.refuse:
            raise ValueError("no such times")
        chunks = self.answer or self.hear(samples)
        return {"text": " ".join(chunk["text"] for chunk in chunks), "chunks": chunks if return_timestamps else None}

    def hear(self, samples):
        loud = np.flatnonzero(np.abs(samples) > 0.05)
        if not len(loud):
            return []
        parts = np.split(loud, np.flatnonzero(np.diff(loud) > 0.1 * RATE) + 1)
        return [self.word(samples, part[0], part[-1] + 1) for part in parts]

    @staticmethod
    def word(samples, start, end):
        rises = np.flatnonzero(np.diff(np.signbit(samples[start:end]).astype(int)) < 0)
        pitch = RATE * (len(rises) - 1) / max(rises[-1] - rises[0], 1) if len(rises) > 1 else 0
        return {"text": f"{pitch:.0f}", "timestamp": (start / RATE, end / RATE)}


def sound_of(words, seconds, noise=1e-4):
    """Square waves of the frequencies that the words name, and faint noise."""
    samples = noise * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    for start, end, text in words:
        time = np.arange(round(start * RATE), round(end * RATE))
        samples[time] += 0.1 * np.sign(np.sin(2 * np.pi * int(text) * time / RATE) + 1e-9)
    return samples.astype(np.float32)


def blocks_of(samples, sizes):
    start = 0
    for size in sizes:
        yield samples[start : start + size]
        start += size
    yield samples[start:]


def assert_same(words, expected):
    assert [word.text for word in words] == [word.text for word in expected]
    for word, other in zip(words, expected, strict=True):
        assert word.start == pytest.approx(other.start, abs=0.011) and word.end == pytest.approx(other.end, abs=0.011)


@pytest.fixture(scope="module")
def talk():
    """Two minutes: words of .4 to 2 s with pauses of .1 to 6 s; each has another pitch."""
    rng, now, words = np.random.default_rng(1), 0.5, []
    for pitch in range(100, 380, 5):
        end = now + rng.uniform(0.4, 2)
        words.append(Word(round(now, 2), round(end, 2), str(pitch)))
        now = end + rng.choice([0.15, 0.4, 0.8, 6], p=[0.4, 0.3, 0.2, 0.1])
    return words, sound_of(words, now + 1)


@pytest.mark.parametrize("sizes", [[], [RATE // 3] * 400, [0, 29 * RATE, 1, 0]])
def test_times_and_texts_whatever_the_blocks(talk, sizes):
    words, samples = talk
    recognizer = Recognizer()
    answer = Transcriber(recognizer)(blocks_of(samples, sizes))
    for word, expected in zip(answer, words, strict=True):
        assert abs(int(word.text) - int(expected.text)) <= 1  # uncut: a part of a word has another pitch or length
        assert word.start == pytest.approx(expected.start, abs=0.11)
        assert word.end == pytest.approx(expected.end, abs=0.11)
    assert len(recognizer.calls) > 3 and max(seconds for seconds, *_ in recognizer.calls) <= 28.01


def test_an_object_takes_several_recordings(talk):
    transcribe, samples = Transcriber(Recognizer()), talk[1][: 40 * RATE]
    first = transcribe([samples])
    transcribe.feed(samples)  # left unfinished
    assert transcribe([samples]) == first
    transcribe.feed(samples)
    assert transcribe.finish() == first and transcribe.finish() == []


def test_a_voice_without_a_pause_is_cut_and_lost_nowhere():
    samples = sound_of([(0, 90, "150")], 90)
    samples *= 1 + 0.9 * np.sin(2 * np.pi * 3 * np.arange(len(samples)) / RATE).astype(np.float32)  # syllables
    recognizer = Recognizer()
    words = Transcriber(recognizer)([samples])
    assert sum(seconds for seconds, *_ in recognizer.calls) == pytest.approx(90, abs=2)
    assert all(before.start <= after.start <= after.end <= 90 for before, after in pairwise(words))


def test_memory_is_bounded(talk):
    transcribe = Transcriber(Recognizer())
    for block in (*np.array_split(talk[1], 50), np.zeros(100 * RATE, np.float32)):
        transcribe.feed(block)
        assert sum(map(len, transcribe._waiting)) <= 28 * RATE
    assert len(transcribe.finish()) == len(talk[0])


def quiet_sounds():
    time, rng = np.arange(40 * RATE) / RATE, np.random.default_rng(0)
    return {
        "nothing": time[:0],
        "a sample": time[1:2],
        "silence": 0 * time,
        "noise": 0.1 * rng.standard_normal(len(time)),
        "faint noise": 0.002 * rng.standard_normal(len(time)),
        "clicks": 0.9 * (np.arange(len(time)) % 8000 < 20),
        "tone": 0.3 * np.sin(2 * np.pi * 150 * time),
        "hum": 0.1 * np.sign(np.sin(2 * np.pi * 100 * time)),
        "broken": np.full(len(time), np.nan),
    }


@pytest.mark.parametrize("name", quiet_sounds())
def test_nothing_is_asked_where_no_voice_is(name):
    recognizer = Recognizer([{"text": "Thanks for watching!", "timestamp": (0.0, 1.0)}])
    assert Transcriber(recognizer)([quiet_sounds()[name].astype(np.float32)]) == [] and recognizer.calls == []


def test_words_far_from_the_voice_are_invented():
    voice = [Word(5, 6, "150"), Word(12, 13, "200")]
    answer = [
        {"text": " here", "timestamp": (0.2, 1.2)}, {"text": " near", "timestamp": (1.3, 1.6)},
        {"text": " far", "timestamp": (3.0, 4.0)}, {"text": " there", "timestamp": (1.0, 99.0)},
        {"text": " end", "timestamp": (8.0, None)},
    ]  # fmt: skip
    words = Transcriber(Recognizer(answer))([sound_of(voice, 20)])
    assert [word.text for word in words] == ["here", "near", "there", "end"]
    # the pauses lie between the words, although the recogniser's words have none between them
    assert 11.8 < words[2].start < 12.1 and 12.9 < words[2].end < 13.2
    assert words[0].start == pytest.approx(5.0, abs=0.11) and words[-1].end < 20


def test_times_never_go_back():
    answer = [{"text": "a", "timestamp": (0.8, 1.0)}, {"text": "b", "timestamp": (0.3, 0.5)}]
    first, second = Transcriber(Recognizer(answer))([sound_of([(5, 6, "150")], 9)])
    assert first.start <= second.start <= second.end


@pytest.mark.parametrize(
    ("kind", "refuse", "texts", "asked"),
    [
        ("ctc", (), ["a", "b"], ["word"]),
        ("ctc", ("word",), ["a b"], ["word", None]),
        ("seq2seq_whisper", (), ["a", "b"], [True]),  # no alignment heads
        ("seq2seq_whisper", (True,), ["a b"], [True, None]),
        ("seq2seq", (), ["a b"], [None]),
    ],
)
def test_coarser_times_where_there_are_no_finer_ones(kind, refuse, texts, asked):
    answer = [{"text": "a", "timestamp": (0.3, 0.5)}, {"text": "b", "timestamp": (0.6, 1.0)}]
    recognizer, warnings = Recognizer(answer, refuse, kind), []
    words = Transcriber(recognizer, warn=warnings.append)([sound_of([(5, 6, "150"), (40, 41, "200")], 50)])
    assert [word.text for word in words] == 2 * texts
    assert [mode for _, mode, _ in recognizer.calls] == 2 * asked
    assert len(warnings) == (asked != ["word"]) and all("no times of words" in text for text in warnings)
    if len(texts) == 1:
        assert words[0].start == pytest.approx(5, abs=0.11) and words[0].end == pytest.approx(6, abs=0.11)


def test_an_error_of_the_recogniser_is_told():
    with pytest.raises(ValueError, match="no such times"):
        Transcriber(Recognizer(refuse=("word", None)))([sound_of([(1, 2, "150")], 3)])


def test_options_of_generation():
    recognizer = Recognizer([{"text": "a", "timestamp": (0.3, 0.5)}], type="seq2seq_whisper")
    Transcriber(recognizer, "de")([sound_of([(1, 2, "150")], 3)])
    assert recognizer.calls[-1][2] == {"language": "de", "task": "transcribe", "max_new_tokens": 40}
    Transcriber(recognizer, "English")([sound_of([(1, 2, "150")], 3)])
    assert recognizer.calls[-1][2]["language"] == "en" and recognizer.calls[-1][2]["max_new_tokens"] == 26
    Transcriber(recognizer)([sound_of([(n, n + 0.8, "150") for n in range(27)], 27)])
    assert recognizer.calls[-1][2] == {"max_new_tokens": 440}


def test_a_loop_is_transcribed_again_without_repeats():
    answer = [{"text": "see you next time " * 20, "timestamp": (0.3, 0.5)}]
    recognizer = Recognizer(answer, type="seq2seq_whisper")
    Transcriber(recognizer)([sound_of([(1, 2, "150")], 3)])
    assert [options.get("no_repeat_ngram_size") for *_, options in recognizer.calls] == [None, 5]


def test_capitals_alone_become_small():
    answer = [{"text": "GOOD", "timestamp": (0.3, 0.5)}, {"text": "I", "timestamp": (0.5, 0.9)}]
    assert text_of(Transcriber(Recognizer(answer))([sound_of([(1, 2, "150")], 3)])) == "good i"
    answer = [{"text": "I", "timestamp": (0.3, 0.5)}, {"text": "see", "timestamp": (0.5, 0.9)}]
    assert text_of(Transcriber(Recognizer(answer))([sound_of([(1, 2, "150")], 3)])) == "I see"


# --------------------------------------------------------------------------------------------------- refused models


@pytest.mark.parametrize(
    ("language", "kind", "words"),
    [
        ("klingon", "seq2seq_whisper", "The language is 'klingon'. Give the name or the code"),
        (5, "seq2seq_whisper", "The language is 5"),
        ("de", "ctc", "knows the language that it was trained on"),
    ],
)
def test_refused_languages(language, kind, words):
    with pytest.raises(ValueError, match=words):
        Transcriber(Recognizer(type=kind), language)


def test_refused_models(tmp_path):
    for model in (5, None, lambda sound: None):
        with pytest.raises(ValueError, match="Give the name or the folder of a checkpoint"):
            Transcriber(model)
    slow = Recognizer()
    slow.feature_extractor = SimpleNamespace(sampling_rate=8000)
    with pytest.raises(ValueError, match=r"8000 Hz\. Give one for 16000 Hz"):
        Transcriber(slow)
    BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
              ).save_pretrained(tmp_path)  # fmt: skip
    for model in (tmp_path, str(tmp_path), tmp_path / "missing", "nobody/nothing"):
        with pytest.raises(ValueError, match=r"cannot be loaded: .+ Give the name or the folder of a checkpoint"):
            Transcriber(model)


@pytest.mark.parametrize("samples", [np.zeros((2, 9), np.float32), np.zeros(9, np.int16)])
def test_refused_samples(samples):
    with pytest.raises(ValueError, match="Give mono sound"):
        Transcriber(Recognizer()).feed(samples)


# ------------------------------------------------------------------------------------------------------ real models


def test_a_ctc_model(tmp_path):
    """A random wav2vec 2.0: its words are nonsense, their times lie in the voice."""
    letters = {letter: number for number, letter in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFG"])}
    (tmp_path / "vocab.json").write_text(json.dumps(letters))
    tokenizer = Wav2Vec2CTCTokenizer(tmp_path / "vocab.json")
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(tmp_path)
    config = Wav2Vec2Config(
        vocab_size=len(letters), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    model = Wav2Vec2ForCTC(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
        model.lm_head.bias[1:4] = -100  # no special token
    model.save_pretrained(tmp_path)
    words = Transcriber(tmp_path)([sound_of([(2, 4, "150"), (35, 36, "250")], 40)])
    assert words and all(
        1.8 <= word.start <= word.end <= 4.2 or 34.8 <= word.start <= word.end <= 36.2 for word in words
    )
    assert text_of(words).islower()


@pytest.fixture(scope="module")
def whisper(whisper_tiny_en):
    return Transcriber(whisper_tiny_en)


def melody():
    rng = np.random.default_rng(0)
    notes = np.repeat(rng.choice([131, 147, 165, 196, 220, 262], 8), RATE // 2)
    phase = np.cumsum(notes) / RATE
    decay = np.tile(np.exp(-np.arange(RATE // 2) / 4000), 8)
    return (0.3 * decay * sum(np.sin(2 * np.pi * k * phase) / k for k in range(1, 6))).astype(np.float32)


def test_whisper_hears_no_words_in_music(whisper, caplog):
    """Left alone it says something here; and it says nothing of its own in the log."""
    samples, recognizer = melody(), whisper.recognizer
    settings = logging.is_progress_bar_enabled(), logging.get_verbosity()
    asked = []
    hook = recognizer.model.register_forward_pre_hook(lambda *inputs: asked.append(1))
    assert whisper([samples]) == [] and asked
    hook.remove()
    assert not caplog.records
    assert settings == (logging.is_progress_bar_enabled(), logging.get_verbosity())
    alone = recognizer({"raw": samples, "sampling_rate": RATE}, generate_kwargs={"max_new_tokens": 8, "num_beams": 1})
    assert alone["text"].strip()


def test_an_english_whisper_takes_no_other_language(whisper):
    assert Transcriber(whisper.recognizer, "english")._options == whisper._options
    with pytest.raises(ValueError, match="'de', but this speech recogniser knows only English"):
        Transcriber(whisper.recognizer, "de")


def decoded(path):
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", "mono", RATE)
        parts = [part.to_ndarray()[0] for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate(parts)


@pytest.mark.data
@pytest.mark.skipif(not MEDIA.exists(), reason=f"{MEDIA} is not there")
def test_whisper_hears_speech_after_noise(whisper):
    speech = decoded(MEDIA / "speech/noisy_audio_narrative.wav")
    noise = 0.002 * np.random.default_rng(0).standard_normal(30 * RATE).astype(np.float32)
    words = whisper([noise, speech])
    assert text_of(words) == (
        "Our method is capable of producing satisfactory results even with audio that contains noise."
    )
    assert words[0].start == pytest.approx(30, abs=1.5) and words[-1].end <= 30 + len(speech) / RATE
    assert all(word.end - word.start < 1.2 for word in words)


@pytest.mark.data
@pytest.mark.skipif(not MEDIA.exists(), reason=f"{MEDIA} is not there")
def test_whisper_without_alignment_heads_gives_segments(whisper, monkeypatch):
    monkeypatch.setattr(whisper.recognizer.model.generation_config, "alignment_heads", None)
    warnings = []
    monkeypatch.setattr(whisper, "warn", warnings.append)
    words = whisper([decoded(MEDIA / "speech/talk_b.mp4")[: 4 * RATE]])
    assert len(warnings) == 1 and "everyone here today" in text_of(words).lower() and len(words) < 5
