"""Settings of media, clips and their stretches, and networks in files of their own."""

import copy
import pickle

import numpy as np
import pytest
import torch
from asserts import assert_close
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from hf_fusion import DashFusionFeatureExtractor, DashFusionProcessor
from hf_fusion.media.extractor import (
    check_extraction,
    load_extractor,
    load_settings,
    make_extractor,
    save_extractor,
)
from hf_fusion.models.media_frames import MediaClip, MediaExtractor, MediaSettings, Network, read_networks
from hf_fusion.models.media_text import Word, single_words
from hf_fusion.models.processing_text import InputError
from hf_fusion.utils.errors import DataError

DESCRIPTORS = {"audio": "descriptors", "audio_rate": 20, "vision": None, "vision_rate": None, "version": 1}


@pytest.fixture(scope="session")
def whisper_folder(tmp_path_factory):
    """A Whisper with random weights, as a folder."""
    from transformers import WhisperForConditionalGeneration

    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, num_mel_bins=80,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, pad_token_id=0, bos_token_id=0,
        eos_token_id=0, decoder_start_token_id=0, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("whisper")
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def clip_of(**changes):
    """Four seconds: words in the first and third, a voice from 1 to 3, a face from 2 on."""
    voiced = np.repeat([False, True, True, False], 20)
    vision = np.ones((40, 58), dtype=np.float32)
    vision[:20] = 0
    fields = {
        "text": "good morning", "words": [Word(0.2, 0.6, "good"), Word(2.0, 2.5, "morning")],
        "audio": np.arange(80, dtype=np.float32).reshape(80, 1), "vision": vision, "seconds": 4.0,
        "settings": MediaSettings("descriptors", 20, "face", 10), "voiced": voiced, "speech": [(0.9, 3.1)],
        "report": {},
    }  # fmt: skip
    return MediaClip(**{**fields, **changes})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"audio": "mfcc", "audio_rate": 20}, "'audio' must be 'descriptors', 'whisper' or None|got 'mfcc'"),
        ({"vision": "face", "vision_rate": 0}, "'vision_rate' must be an integer from 1 to 100, got 0"),
        ({"audio": "whisper", "audio_rate": 20}, "'audio_rate' of 'whisper' frames must be one of 10, 25, 50, got 20"),
        ({"audio": "descriptors", "audio_rate": 30}, "of 'descriptors' frames must be one of 1, 2, 4, .*, got 30"),
        ({"vision_rate": 10}, "'vision_rate' is 10, but there is no 'vision'"),
        ({"version": 2}, "version 2.*extracts version 1"),
        ({"colour": 1}, "some of asr, audio"),
        ({"asr": {"name": "x"}}, "'asr' must be a string or None"),
        ({"audio_weights": 7}, "'audio_weights' must be a string or None"),
        ("face", "must be a mapping"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DashFusionFeatureExtractor(media=settings)


def test_the_widths_are_those_of_the_frames():
    extractor = DashFusionFeatureExtractor(media=DESCRIPTORS)
    assert extractor.audio_feature_size == 23 and extractor.vision_feature_size == 20
    assert DashFusionFeatureExtractor().audio_feature_size == 5
    with pytest.raises(ValueError, match="`audio_feature_size` is 5, but 'descriptors' frames of `media` have 23"):
        DashFusionFeatureExtractor(media=DESCRIPTORS, audio_feature_size=5)


def test_stretches_of_a_clip():
    clip = clip_of()
    first, second, third = (clip.between(start, start + 1) for start in (0, 1, 2))
    assert (first["text"], second["text"], third["text"]) == ("good", None, "morning")
    assert first["audio"] is None, "no voice"
    assert_close(second["audio"], clip.audio[20:40])
    assert second["vision"] is None, "no face"
    assert third["vision"].shape == (10, 58)
    assert clip.between(0, 4)["text"] == "good morning"
    assert clip.between(0, 4)["audio"].shape == (80, 1)
    assert clip.shares(0, 4) == pytest.approx({"text": 0.9 / 4, "audio": 0.5, "vision": 0.5})
    assert clip.shares(1, 2) == {"audio": 1.0}


def test_a_text_without_times_belongs_to_the_whole():
    clip = clip_of(words=[])
    assert clip.between(0, 4)["text"] == "good morning" and clip.shares(0, 4)["text"] == 1.0
    assert clip.between(0, 3)["text"] is None
    assert clip.sentences() == [(0.9, 3.1)]


def test_stretches_of_a_length_have_the_same_frames():
    clip = clip_of(audio=np.zeros((2000, 1)), voiced=np.ones(2000, dtype=bool), seconds=100.0)
    lengths = [len(clip.between(i / 8, i / 8 + 1.25)["audio"]) for i in range(100)]
    assert set(lengths) == {25}, "rounding to the even number would give 24 to 26"
    assert {len(clip.between(i / 8, i / 8 + 18.75)["audio"]) for i in range(100)} == {375}


def test_shares_are_of_the_time_of_the_stretch():
    clip = clip_of(seconds=8.0)  # the pictures and the sound end at 4 seconds
    assert clip.shares(2, 8) == pytest.approx({"text": 0.5 / 6, "audio": 1 / 6, "vision": 2 / 6})


def test_each_word_is_in_one_sentence():
    lines = [Word(0, 4, "I liked it very much. But the end was really bad."), Word(4, 4, "Bye."), Word(6, 7, "So.")]
    words = single_words([*lines, Word(6.5, 9, "No, no, no.")])
    assert " ".join(word.text for word in words) == " ".join(line.text for line in lines) + " No, no, no."
    clip = clip_of(text=None, words=words, seconds=9.0)
    texts = [clip.between(*stretch)["text"] for stretch in clip.sentences()]
    assert texts[:2] == ["I liked it very much.", "But the end was really bad. Bye."]
    assert " ".join(texts) == " ".join(word.text for word in words), "also where lines overlap"
    assert clip.between(0, 1)["text"] == "I liked it", "not the whole line where its middle lies"


def test_other_settings_are_refused_by_name():
    expected = MediaSettings("whisper", 10, "face", 10, audio_weights="a", vision_weights="b", asr="x")
    expected.check_same(MediaSettings("whisper", 10, "face", 10, audio_weights="a", vision_weights="b"), "It")
    for changes, message in [
        ({"audio_rate": 25}, "audio_rate = 25, this model reads audio_rate = 10"),
        ({"audio_weights": "c"}, "audio_weights = 'c'"),
        ({"vision": "clip"}, "vision = 'clip', this model reads vision = 'face'"),
    ]:
        other = MediaSettings(**{**expected.to_dict(), **changes})
        with pytest.raises(InputError, match=message):
            expected.check_same(other, "It")
    expected.only(["audio"]).check_same(MediaSettings(**{**expected.to_dict(), "vision_rate": 5}), "unread streams")


def test_networks_are_saved_beside_the_processor(whisper_folder, wordpiece, tmp_path):
    made = make_extractor("whisper", None, audio_encoder=whisper_folder)
    extractor = DashFusionFeatureExtractor(media=made.settings.to_dict(), networks=made.networks)
    assert extractor.audio_feature_size == 16
    DashFusionProcessor(wordpiece, extractor).save_pretrained(tmp_path / "saved")
    again = DashFusionProcessor.from_pretrained(tmp_path / "saved").feature_extractor
    assert again.media == extractor.media
    ours, theirs = extractor.media_extractor.networks["whisper"], again.media_extractor.networks["whisper"]
    assert ours.metadata == theirs.metadata and str(tmp_path) not in str(ours.metadata)
    for name, values in ours.tensors.items():
        np.testing.assert_array_equal(values, theirs.tensors[name])
    # once more, by a copy and by a pickle
    for other in (copy.deepcopy(again), pickle.loads(pickle.dumps(again))):
        other.save_pretrained(tmp_path / "other")
        loaded = DashFusionFeatureExtractor.from_pretrained(tmp_path / "other")
        assert loaded.media_extractor.networks["whisper"].fingerprint == ours.fingerprint
        assert loaded.to_dict() == again.to_dict() and "networks" not in loaded.to_dict()


def test_exchanged_networks_are_refused(whisper_folder, tmp_path):
    made = make_extractor("whisper", None, audio_encoder=whisper_folder)
    save_extractor(made, tmp_path)
    assert load_extractor(tmp_path).settings == made.settings
    network = made.networks["whisper"]
    name = sorted(network.tensors)[0]
    changed = {**network.tensors, name: network.tensors[name] + 1}
    Network(changed, network.metadata).save(tmp_path / "whisper.safetensors")
    with pytest.raises(DataError, match=r"whisper.safetensors holds other weights"):
        load_extractor(tmp_path)
    (tmp_path / "whisper.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError):
        load_extractor(tmp_path)
    (tmp_path / "whisper.safetensors").unlink()
    with pytest.raises(OSError, match=r"need whisper.safetensors"):
        load_extractor(tmp_path).columns("audio")


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0\0\1\0\0{}", b"\2\0\0\0\0\0\0\0{x"])
def test_damaged_networks_are_named(content, whisper_folder, tmp_path):
    made = make_extractor("whisper", None, audio_encoder=whisper_folder)
    DashFusionFeatureExtractor(media=made.settings.to_dict(), networks=made.networks).save_pretrained(tmp_path)
    (tmp_path / "whisper.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"whisper.safetensors is damaged"):
        DashFusionFeatureExtractor.from_pretrained(tmp_path)


@pytest.mark.parametrize("metadata", [{}, {"config": "{"}, {"config": "[1]"}, {"config": '{"d_model": 1e9}'}])
def test_networks_that_cannot_be_built_are_named(metadata, whisper_folder):
    made = make_extractor("whisper", None, audio_encoder=whisper_folder)
    network = Network(made.networks["whisper"].tensors, metadata)
    with pytest.raises(OSError, match=r"whisper.safetensors describes no network that gives 'whisper' frames"):
        MediaExtractor(made.settings, {"whisper": network}).columns("audio")


def test_networks_of_unused_streams_do_not_travel(whisper_folder):
    made = make_extractor("whisper", None, audio_encoder=whisper_folder)
    both = MediaExtractor(
        MediaSettings(**{**made.settings.to_dict(), "vision": "face", "vision_rate": 10}), made.networks
    )
    assert both.only(["audio"]).settings == made.settings and both.only(["audio"]).networks == made.networks
    assert both.only(["vision"]).networks == {} and both.only(["vision"]).settings.audio_weights is None


def test_features_of_other_settings_are_refused(clip_processor, tmp_path):
    save_extractor(make_extractor("descriptors", None), tmp_path)
    assert load_settings(tmp_path).audio == "descriptors"
    clip_processor.feature_extractor = DashFusionFeatureExtractor(media=DESCRIPTORS)
    check_extraction(clip_processor, tmp_path)
    clip_processor.feature_extractor = DashFusionFeatureExtractor(media={**DESCRIPTORS, "audio_rate": 10})
    with pytest.raises(DataError, match=r"audio_rate = 20, this model reads audio_rate = 10"):
        check_extraction(clip_processor, tmp_path)
    check_extraction(clip_processor, "synthetic-clips")
    (tmp_path / "media.json").write_text('{"version": 3}')
    with pytest.raises(DataError, match=r"media.json.*version 3"):
        check_extraction(clip_processor, tmp_path)


def test_a_processor_without_settings_says_so(clip_processor):
    with pytest.raises(ValueError, match="no settings for media"):
        clip_processor.read_media("talk.mp4")


def test_networks_are_read_as_half_precision_says(tmp_path):
    torch.manual_seed(0)
    encoder = WhisperEncoder(WhisperConfig(d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16))
    tensors = {name: values.half().numpy() for name, values in encoder.state_dict().items()}
    network = Network(tensors, {"config": "{}"})
    network.save(tmp_path / "whisper.safetensors")
    settings = MediaSettings("whisper", 10, audio_weights=network.fingerprint)
    found = read_networks(settings, lambda name: str(tmp_path / name))["whisper"].state_dict()
    for name, values in encoder.state_dict().items():
        assert found[name].dtype == torch.float32 and torch.equal(found[name], values.half().float())
