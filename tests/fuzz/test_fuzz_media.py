"""Audio and video files with damaged bytes: read, or refused with a clear error, in bounded time and memory."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hostile import cases, damaged, result_or
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("av")

from media_files import Film, Sound, harmonic_sound, moving_film, tone, write_media

from hf_fusion.models.media_decoding import SAMPLE_RATE, MediaError, MediaLimits, MediaReader

LIMITS = MediaLimits(max_seconds=120, max_pixels=2**20)


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory):
    """Content of small files of many formats."""
    folder = tmp_path_factory.mktemp("media")
    film, sound = moving_film(0.6), harmonic_sound(0.6, 48000)
    tracks = {
        "a.mp4": [Film(film, "libx264"), Sound(sound, 48000, "aac")],
        "b.mkv": [Film(film, "mpeg4"), Sound(sound, 48000, "flac"), Sound(sound, 48000, "ac3")],
        "c.webm": [Film(film, "libvpx", exact=False), Sound(sound, 48000, "libopus")],
        "d.avi": [Film(film, "mjpeg", "yuvj420p", exact=False), Sound(tone(0.6), 16000, "adpcm_ms")],
        "e.ts": [Film(film, "mpeg2video", exact=False), Sound(sound, 48000, "mp2")],
        "f.wav": [Sound(tone(0.6), 16000, "pcm_s16le")],
        "g.mp3": [Sound(sound, 48000, "libmp3lame")],
        "h.flac": [Sound(sound, 48000, "flac", "stereo")],
        "i.ogg": [Sound(sound, 48000, "libopus")],
        "j.mov": [Film(film, "png", "rgb24", exact=False), Sound(sound, 48000, "alac")],
    }
    return [Path(write_media(folder / name, *parts)).read_bytes() for name, parts in tracks.items()]


def read(content):
    """Reads all, and checks what comes."""
    reader = MediaReader(content, LIMITS, name="damaged file")
    facts = reader.facts
    assert facts.has_audio or facts.has_video
    samples = 0
    for block in reader.audio_blocks(seconds=1):
        assert block.dtype == np.float32 and len(block) <= SAMPLE_RATE and np.isfinite(block).all()
        samples += len(block)
    pictures = 0
    for picture in reader.pictures(rate=5, longest=64):
        assert picture.dtype == np.uint8 and picture.ndim == 3 and max(picture.shape[:2]) <= 64
        pictures += 1
    assert samples <= LIMITS.max_seconds * SAMPLE_RATE + SAMPLE_RATE and pictures <= LIMITS.max_seconds * 5 + 1
    assert all(0 < len(message) < 1000 for message in reader.warnings)


@cases(25)
@given(data=st.data())
def test_damaged_files(sound_files, data):
    content = data.draw(damaged(sound_files))
    with result_or(MediaError, seconds=20):
        read(content)


@cases(25)
@given(seed=st.integers(0, 2**32), number=st.integers(0, 9), share=st.sampled_from([1e-4, 1e-3, 1e-2]))
def test_flipped_bytes(sound_files, seed, number, share):
    """Most bytes stay, so that the damage comes to the decoders; half of it in the header."""
    generator, content = random.Random(seed), bytearray(sound_files[number])
    for _ in range(max(1, int(len(content) * share))):
        content[generator.randrange(min(2000, len(content)) if generator.random() < 0.5 else len(content))] = (
            generator.choice([0, 1, 127, 128, 255, generator.randrange(256)])
        )
    with result_or(MediaError, seconds=20):
        read(bytes(content))


@cases(10)
@given(seed=st.integers(0, 2**32), number=st.integers(0, 9))
def test_moved_parts(sound_files, seed, number):
    """Parts of a file left out, repeated, or of another file."""
    generator, content = random.Random(seed), sound_files[number]
    for _ in range(generator.randrange(1, 4)):
        start, end = sorted(generator.randrange(len(content) + 1) for _ in range(2))
        other = generator.choice([b"", content[start:end] * 2, generator.choice(sound_files)[start:end]])
        content = content[:start] + other + content[end:]
    with result_or(MediaError, seconds=20):
        read(content)


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory of Unix")
def test_memory_stays_bounded(sound_files):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(20):
        generator, content = random.Random(seed), bytearray(sound_files[seed % len(sound_files)])
        for _ in range(20):
            content[generator.randrange(len(content))] = 255
        with result_or(MediaError, seconds=20):
            read(bytes(content))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024
