import math
from itertools import pairwise

import numpy as np
import pytest

from hf_fusion.models.media_voice import DESCRIPTORS, VoiceDescriptors, check_samples, speech_regions

RATE = 16000


def describe(samples, rate=20, cuts=()):
    voice = VoiceDescriptors(rate)
    for block in np.split(samples, cuts):
        voice.feed(block)
    return voice.finish()


def column(frames, name):
    return frames[:, DESCRIPTORS.index(name)]


def tone(pitch, seconds=1.0, harmonics=10, level=0.05):
    time = np.arange(round(seconds * RATE)) / RATE
    return level * sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, harmonics + 1))


def noise(seconds=1.0, level=0.1, seed=0):
    return level * np.random.default_rng(seed).normal(size=round(seconds * RATE))


def describe_step(window):
    """The descriptors of one step without its flux, from the 800 samples around its middle; and its spectrum."""
    short = [value - sum(window[200:600]) / 400 for value in window[200:600]]
    energy = math.log(sum(value**2 for value in short) / 400 + 1e-8)
    hamming = [0.54 - 0.46 * math.cos(2 * math.pi * i / 399) for i in range(400)]
    spectrum = np.fft.fft([value * weight for value, weight in zip(short, hamming, strict=True)], 512)
    power = [abs(value) ** 2 + 1e-10 for value in spectrum[:257]]
    hertz = [i * 31.25 for i in range(257)]
    total = sum(power)
    mean = sum(hertz) / 257
    deviation = math.sqrt(sum((f - mean) ** 2 for f in hertz) / 257)
    decibel = [10 * math.log10(value) for value in power]

    def band(lowest, end):
        return [value for value, f in zip(power, hertz, strict=True) if lowest <= f < end]

    cepstrum = []
    edges = [
        700 * (math.exp(mel / 1127) - 1) for mel in np.linspace(*(1127 * math.log(1 + f / 700) for f in (20, 8000)), 28)
    ]
    bands = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        sum_ = 0.0
        for value, f in zip(power, hertz, strict=True):
            emphasis = abs(1 - 0.97 * np.exp(-2j * math.pi * f / RATE)) ** 2
            sum_ += value * emphasis * max(0.0, min((f - low) / (middle - low), (high - f) / (high - middle)))
        bands.append(math.log(sum_ + 1e-8))
    for k in range(1, 14):
        cosines = [value * math.cos(math.pi / 26 * (i + 0.5) * k) for i, value in enumerate(bands)]
        cepstrum.append(math.sqrt(2 / 26) * sum(cosines))

    hann = np.array([0.5 - 0.5 * math.cos(2 * math.pi * i / 799) for i in range(800)])
    smooth = (np.array(window) - np.mean(window)) * hann

    def peak(lag):
        own = np.dot(smooth[: 800 - lag], smooth[lag:]) / (np.dot(smooth, smooth) + 1e-6)
        return own / (np.dot(hann[: 800 - lag], hann[lag:]) / np.dot(hann, hann))

    lag = max(range(40, 267), key=lambda lag: peak(lag) - 0.01 * math.log2(lag / 40))
    left, middle, right = peak(lag - 1), peak(lag), peak(lag + 1)
    bend = left - 2 * middle + right
    offset = min(max(0.5 * (left - right) / bend, -0.5), 0.5) if abs(bend) > 1e-9 else 0
    voicing = min(max(middle, 0), 1)
    pitch = 12 * math.log2(RATE / (lag + offset) / 27.5) if voicing > 0.55 and energy > -14 else 0
    crossings = sum((a < 0) != (b < 0) for a, b in pairwise(short)) / 399
    return [
        energy,
        pitch,
        voicing,
        sum(value * f for value, f in zip(power, hertz, strict=True)) / total,
        sum(value * (f - mean) / deviation for value, f in zip(decibel, hertz, strict=True)) / 257,
        0.0,
        10 * math.log10(sum(band(1000, 5000)) / sum(band(50, 1000))),
        10 * math.log10(max(band(0, 2000)) / max(band(2000, 5000))),
        math.exp(sum(math.log(value) for value in power) / 257) / (total / 257),
        crossings,
        *cepstrum,
    ], [value / total for value in power]


def describe_naively(samples, rate):
    padded = [0.0] * 320 + list(samples) + [0.0] * 320
    rows, before = [], None
    for step in range(len(samples) // 160):
        row, shape = describe_step(padded[step * 160 : step * 160 + 800])
        if before is not None:
            row[5] = math.sqrt(sum((math.sqrt(a) - math.sqrt(b)) ** 2 for a, b in zip(shape, before, strict=True)))
        before = shape
        rows.append(row)
    frames = []
    for start in range(0, len(rows), 100 // rate):
        part = np.array(rows[start : start + 100 // rate])
        frame = part.mean(axis=0)
        voiced = part[part[:, 1] > 0, 1]
        frame[1] = voiced.mean() if len(voiced) else 0
        frames.append(frame)
    return np.array(frames)


def test_descriptors_equal_a_straight_reference():
    # voiced, unvoiced and in between, over more than one segment; the noise keeps samples away from 0
    samples = np.concatenate([tone(120, 0.3), noise(0.2), tone(230, 0.37)]) + noise(0.87, level=0.005, seed=1)
    expected = describe_naively(samples, rate=20)
    actual = describe(samples)
    assert actual.dtype == np.float32 and actual.shape == expected.shape == (18, 23)
    scale = np.maximum(1, np.abs(expected).max(axis=0))  # hertz and decibels beside shares
    assert (np.abs(actual - expected) / scale).max() < 1e-4


def test_blocks_do_not_change_a_bit():
    samples = np.concatenate([tone(150, 1.3), noise(0.9), np.zeros(4000), tone(90, 1.05)])
    whole = describe(samples)
    generator = np.random.default_rng(0)
    for cuts in (generator.integers(0, len(samples), 40), np.arange(160, len(samples), 160), [8800, 8800, 16480]):
        assert np.array_equal(describe(samples, cuts=np.sort(cuts)), whole)


@pytest.mark.parametrize("length", [0, 1, 159, 160, 161, 399, 799, 800, 801, 8000, 8001, 16000, 16159, 16160])
@pytest.mark.parametrize("rate", [1, 10, 20, 50, 100])
def test_number_of_frames(length, rate):
    frames = describe(noise()[:1].repeat(length), rate)
    assert frames.shape == (math.ceil(length // 160 / (100 / rate)), 23) and np.isfinite(frames).all()


def test_last_frame_averages_its_own_steps():
    samples = tone(150, 0.57)
    steps = describe(samples, rate=100)
    np.testing.assert_allclose(describe(samples, rate=20)[-1], steps[55:].mean(axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pitch", [70, 110, 150, 220, 380])
def test_pitch_of_a_harmonic_tone(pitch):
    frames = describe(tone(pitch))[2:-2]
    assert np.abs(column(frames, "f0_semitones") - 12 * math.log2(pitch / 27.5)).max() < 0.1
    assert column(frames, "voicing").min() > 0.95


def test_pitch_averages_voiced_steps_only():
    frames = describe(np.concatenate([tone(150, 0.48), noise(0.52)]), rate=10)
    assert abs(column(frames, "f0_semitones")[4] - 12 * math.log2(150 / 27.5)) < 0.5  # voiced for .08 of .1 s


def test_noise_is_unvoiced_flat_and_bright():
    frames = describe(noise(2.0))
    assert (frames[:, 1] > 0).mean() < 0.03
    assert abs(column(frames, "centroid").mean() - 4000) < 100
    assert column(frames, "flatness").mean() > 0.5 > column(describe(tone(150)), "flatness").max()
    assert abs(column(frames, "zero_crossings").mean() - 0.5) < 0.02


def test_energy_and_bands_of_sines():
    time = np.arange(RATE) / RATE
    low, high = (describe(0.5 * np.sin(2 * np.pi * f * time))[2:-2] for f in (500, 3000))
    assert np.abs(column(low, "log_energy") - math.log(0.125)).max() < 0.01
    assert np.abs(column(high, "centroid") - 3000).max() < 30
    assert column(low, "alpha_ratio").max() < -20 and column(high, "alpha_ratio").min() > 20
    assert column(low, "hammarberg").min() > 20 and column(high, "hammarberg").max() < -20
    assert column(low, "slope").max() < column(high, "slope").min()
    assert column(low, "flux").max() < 0.1 < column(describe(noise()), "flux").mean()


def test_silence_has_no_voice():
    frames = describe(np.zeros(RATE))
    assert np.isfinite(frames).all() and (frames[:, 1] > 0).mean() == 0
    assert np.ptp(frames, axis=0).max() < 1e-6
    assert abs(frames[0, 0] - math.log(1e-8)) < 1e-4


def test_constant_offset_changes_nothing():
    samples = tone(150) + noise(level=0.01)
    np.testing.assert_allclose(describe(samples + 0.3)[2:-2], describe(samples)[2:-2], rtol=1e-2, atol=1e-2)


def test_odd_samples_stay_finite():
    clicks = np.zeros(RATE)
    clicks[::1500] = 1
    for samples in (clicks, np.sign(tone(100)), np.full(RATE, 1e30), np.full(RATE, np.inf), np.full(RATE, np.nan)):
        assert np.isfinite(describe(samples)).all()
    broken = tone(150)
    broken[100], broken[200], broken[300] = np.nan, np.inf, -np.inf
    mended = tone(150)
    mended[100], mended[200], mended[300] = 0, 1, -1
    assert np.array_equal(describe(broken), describe(mended))


def test_recordings_do_not_influence_each_other():
    alone = describe(tone(150))
    describe(noise())
    assert np.array_equal(describe(tone(150)), alone)


def test_samples_are_not_changed():
    samples = np.array([2.0, np.nan])
    check_samples(samples)
    assert samples[0] == 2 and np.isnan(samples[1])


@pytest.mark.parametrize("rate", [0, -1, 3, 200, 20.0, "20"])
def test_refuses_rates(rate):
    with pytest.raises(ValueError, match="divides 100"):
        VoiceDescriptors(rate)


@pytest.mark.parametrize("samples", [np.zeros(100, np.int16), np.zeros((2, 100)), np.array(["a"])])
def test_refuses_samples(samples):
    with pytest.raises(ValueError, match="mono sound at 16000 Hz"):
        VoiceDescriptors().feed(samples)


def test_speech_regions_are_the_voiced_stretches():
    pause = np.zeros(RATE)
    samples = np.concatenate([pause, tone(150), pause, tone(120, 0.5), np.zeros(RATE // 10), tone(150, 0.5), pause])
    regions = speech_regions(describe(samples), 20)
    np.testing.assert_allclose(regions, [(0.9, 2.1), (2.9, 4.2)], atol=0.051)
    assert len(speech_regions(describe(samples), 20, shortest_pause=0.05)) == 3
    assert len(speech_regions(describe(samples), 20, shortest_pause=1.5)) == 1
    assert not speech_regions(describe(samples), 20, shortest_speech=2.5)
    exact = speech_regions(describe(samples), 20, hangover=0)
    np.testing.assert_allclose(exact, [(1, 2), (3, 4.1)], atol=0.051)


def test_speech_regions_stay_apart_and_inside():
    voiced = np.zeros((100, 23), np.float32)
    voiced[:, 0] = -18
    for start, end in ((0, 10), (16, 30), (40, 42), (90, 100)):
        voiced[start:end, :2] = -3, 30
    regions = speech_regions(voiced, 20, hangover=5)
    assert regions[0][0] == 0 and regions[-1][1] == 5
    assert all(a[1] <= b[0] + 1e-9 for a, b in pairwise(regions)) and len(regions) == 4


@pytest.mark.parametrize(
    "samples",
    [np.zeros(0), np.zeros(RATE), noise(3.0), noise(3.0, level=0.005), tone(150, 3.0), np.sign(tone(100, 3.0)) / 9],
    ids=["nothing", "silence", "noise", "faint noise", "tone", "buzz"],
)
def test_no_speech_in_noise_and_steady_tones(samples):
    assert speech_regions(describe(samples), 20) == []


def test_a_hum_does_not_hide_pauses():
    samples = tone(110, 6.0, level=0.005)
    samples[RATE : 2 * RATE] += tone(150)
    samples[4 * RATE : 5 * RATE] += tone(150)
    regions = speech_regions(describe(samples), 20)
    np.testing.assert_allclose(regions, [(0.9, 2.1), (3.9, 5.1)], atol=0.051)


def test_level_of_the_background_is_local():
    """Half a minute of faint speech before four minutes of loud sound."""
    descriptors = np.zeros((9 * 600, 23), np.float32)
    voice = np.arange(len(descriptors)) // 20 % 2 == 1  # every other second
    descriptors[:, 0] = np.where(voice, -2, -5)
    descriptors[:600, 0] = np.where(voice[:600], -9, -12)
    descriptors[:, 1] = 30 * voice
    regions = speech_regions(descriptors, 20)
    assert len(regions) == 9 * 15 and regions[0] == (0.9, 2.1)
