import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from transformers import BertConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from hf_fusion.models.media_voice import VoiceDescriptors
from hf_fusion.models.media_whisper import WhisperFrames, build_encoder, encode_sound, encoder_from_pretrained

RATE = 16000
TINY = {
    "activation_function": "gelu",
    "d_model": 32,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 37,
    "encoder_layers": 2,
    "max_source_positions": 500,  # 10 seconds
    "num_mel_bins": 80,
}


def make_whisper(**fields):
    torch.manual_seed(0)
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 8, "vocab_size": 99}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = WhisperConfig(**{**TINY, **decoder, **special, "suppress_tokens": None, **fields})
    return WhisperForConditionalGeneration(config).eval()


def make_encoder(**fields):
    weights = make_whisper(**fields).model.encoder.state_dict()
    # as large as trained ones, so that positions and context matter
    weights = {name: weight * (10 if "proj" in name else 1) for name, weight in weights.items()}
    return build_encoder({**TINY, **fields}, weights)


@pytest.fixture(scope="module")
def encoder():
    return make_encoder()


def noise(seconds, seed=0):
    """Noise whose level changes, so that frames differ."""
    samples = 0.1 * np.random.default_rng(seed).normal(size=round(seconds * RATE))
    return (samples * np.sin(np.arange(len(samples)) / RATE * 2)).astype(np.float32)


def encode(encoder, samples, rate=50, cuts=()):
    frames = WhisperFrames(encoder, rate)
    for block in np.split(samples, cuts):
        frames.feed(block)
    return frames.finish()


@torch.inference_mode()
def encode_as_transformers(encoder, samples):
    """All positions, by the encoder's own forward pass."""
    seconds = encoder.config.max_source_positions // 50
    extractor = WhisperFeatureExtractor(feature_size=encoder.config.num_mel_bins, chunk_length=seconds)
    features = extractor(samples, sampling_rate=RATE, return_tensors="pt").input_features
    return encoder(features).last_hidden_state[0].numpy()


@pytest.mark.parametrize("bands", [80, 128])
def test_full_length_equals_the_encoder_of_transformers(bands):
    encoder = make_encoder(num_mel_bins=bands)
    samples = noise(10)
    hidden = encode_sound(encoder, WhisperFeatureExtractor(feature_size=bands), samples)
    assert hidden.shape == (500, 32) and hidden.dtype == np.float32
    np.testing.assert_allclose(hidden, encode_as_transformers(encoder, samples), atol=1e-5)


@pytest.mark.parametrize("steps", [2, 100, 334])
def test_only_the_real_length_is_encoded(encoder, steps):
    """An encoder with the positions of that length alone gives the same."""
    samples = noise(10)[: steps * 160]
    config = {**TINY, "max_source_positions": steps // 2}
    weights = encoder.state_dict()
    weights["embed_positions.weight"] = weights["embed_positions.weight"][: steps // 2]
    short = build_encoder(config, weights)
    extractor = WhisperFeatureExtractor()
    if len(samples) <= 200:  # the window of the spectrogram does not fit
        samples = np.pad(samples, (0, 201 - len(samples)))
    features = extractor(samples, sampling_rate=RATE, padding="do_not_pad", return_tensors="pt").input_features
    with torch.inference_mode():
        expected = short(features[:, :, :steps]).last_hidden_state[0].numpy()
    np.testing.assert_allclose(encode(encoder, samples), expected, atol=1e-5)
    padded = encode_as_transformers(encoder, samples)[: steps // 2]
    assert np.abs(padded - expected).max() > 1e-2


@pytest.mark.parametrize(
    "length", [0, 1, 159, 160, 161, 200, 201, 319, 320, 481, 16000, 16001, 100000, 160000, 160001, 320000]
)
@pytest.mark.parametrize("rate", [10, 25, 50])
def test_as_many_frames_as_voice_descriptors(encoder, length, rate):
    samples = noise(20)[:length]
    frames, voice = encode(encoder, samples, rate), VoiceDescriptors(rate)
    voice.feed(samples)
    assert len(frames) == len(voice.finish())
    assert frames.shape[1] == 32 and np.isfinite(frames).all()


def test_frames_average_the_encoder(encoder):
    samples = noise(1.07)
    full = encode(encoder, samples)  # 54
    for rate in (10, 25):
        group = 50 // rate
        expected = [full[start : start + group].mean(axis=0) for start in range(0, 54, group)]
        np.testing.assert_allclose(encode(encoder, samples, rate), expected, atol=1e-5)


def test_long_recordings_are_cut_at_pauses(encoder):
    samples = noise(12)
    # the pause of 1.5 s comes too early
    for pause in (1.5, 3.4, 6.8, 9):
        samples[round((pause - 0.1) * RATE) : round((pause + 0.1) * RATE)] *= 0.01
    ends = [0, 34, 68, 90, 120]
    chunks = [samples[a * 1600 : b * 1600] for a, b in pairwise(ends)]
    expected = np.concatenate([encode(encoder, chunk, 10) for chunk in chunks])
    np.testing.assert_allclose(encode(encoder, samples, 10), expected, atol=1e-5)


def test_a_clip_of_five_seconds_is_encoded_at_once(encoder):
    samples = noise(5.1)
    expected = encode_sound(encoder, WhisperFeatureExtractor(), samples[: 5 * RATE])
    np.testing.assert_allclose(encode(encoder, samples[: 5 * RATE]), expected, atol=1e-5)
    assert np.abs(encode(encoder, samples)[:250] - expected).max() > 1e-2


def test_silence_is_cut_too(encoder):
    frames = encode(encoder, np.zeros(20 * RATE, np.float32), 10)
    np.testing.assert_allclose(frames[:20], frames[20:40], atol=1e-5)  # cut after 2 seconds


def test_blocks_do_not_change_the_frames(encoder):
    samples = noise(23.5)
    whole = encode(encoder, samples)
    generator = np.random.default_rng(0)
    for cuts in (
        generator.integers(0, len(samples), 30),
        [160000],
        [159999, 160001],
        np.arange(1024, len(samples), 1024),
    ):
        np.testing.assert_allclose(encode(encoder, samples, cuts=np.sort(cuts)), whole, atol=1e-6)


def test_memory_does_not_grow_with_length(encoder):
    frames = WhisperFrames(encoder, 10)
    for _ in range(40):
        frames.feed(noise(1))
        assert sum(map(len, frames._waiting)) <= 5 * RATE


def test_odd_samples_stay_finite(encoder):
    for value in (0, 1e30, np.inf, np.nan):
        assert np.isfinite(encode(encoder, np.full(RATE, value, np.float32))).all()


def test_recordings_do_not_influence_each_other(encoder):
    alone = encode(encoder, noise(3))
    encode(encoder, noise(12, seed=1))
    np.testing.assert_allclose(encode(encoder, noise(3)), alone, atol=1e-6)


def test_encoder_travels(tmp_path):
    model = make_whisper()
    model.save_pretrained(tmp_path)
    state = torch.random.get_rng_state()
    config, weights = encoder_from_pretrained(tmp_path)
    encoder = build_encoder(json.loads(json.dumps(config)), load(save(weights)))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert config == TINY and {weight.dtype for weight in weights.values()} == {torch.float16}
    assert not encoder.training and not any(weight.requires_grad for weight in encoder.parameters())
    for name, weight in model.model.encoder.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], weight.half().float())
    hidden = encode_sound(encoder, WhisperFeatureExtractor(), noise(10))
    np.testing.assert_allclose(hidden, encode_as_transformers(model.model.encoder, noise(10)), atol=1e-2)


def test_refuses_another_architecture(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'bert'.*Whisper checkpoint"):
        encoder_from_pretrained(tmp_path)


def test_refuses_fields_and_weights_that_do_not_fit(encoder):
    with pytest.raises(ValueError, match="fields"):
        build_encoder({"d_model": 32}, encoder.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        build_encoder({**TINY, "encoder_ffn_dim": 38}, encoder.state_dict())
    with pytest.raises(ValueError, match="weights of 2, not 1000000000 layers"):
        build_encoder({**TINY, "encoder_layers": 10**9}, encoder.state_dict())


def test_refuses_rates_samples_and_short_encoders(encoder):
    with pytest.raises(ValueError, match=r"\(10, 25, 50\)"):
        WhisperFrames(encoder, 20)
    with pytest.raises(ValueError, match="mono sound at 16000 Hz"):
        WhisperFrames(encoder).feed(np.zeros((2, 100)))
    with pytest.raises(ValueError, match=r"200 positions.*at least 250"):
        WhisperFrames(make_encoder(max_source_positions=200))
