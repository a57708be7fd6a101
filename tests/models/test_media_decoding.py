"""Decoding of media files: any container, on the container's clock, in bounded memory, within limits."""

import gc
import re
import wave
from fractions import Fraction

import numpy as np
import pytest
import torch

pytest.importorskip("av")

from media_files import (
    Film,
    Sound,
    beeps,
    gray_film,
    harmonic_sound,
    level_at,
    moving_film,
    quadrants,
    tone,
    turn_upright,
    write_media,
)

from hf_fusion.models import media_decoding
from hf_fusion.models.media_decoding import SAMPLE_RATE, MediaError, MediaLimits, MediaReader
from hf_fusion.models.processing_text import InputError


def read_audio(source, seconds=30.0, **options):
    blocks = list(MediaReader(source, **options).audio_blocks(seconds))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def facts(reader):
    return reader.facts


def onsets(samples):
    """Seconds at which sound begins after 0.2 s of silence."""
    loud = np.flatnonzero(np.abs(samples) > 0.1)
    return [loud[k] / SAMPLE_RATE for k in range(len(loud)) if k == 0 or loud[k] - loud[k - 1] > 0.2 * SAMPLE_RATE]


def levels(pictures):
    return [float(picture.mean()) for picture in pictures]


def corners(picture):
    """Names of the colors of the four quadrants, row by row."""
    height, width = picture.shape[:2]
    points = [picture[y, x].astype(int) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    colors = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
    return [min(colors, key=lambda name: np.abs(point - colors[name]).sum()) for point in points]


# ------------------------------------------------------------------------------------------- containers and codecs

AUDIO = [
    ("wav", "pcm_s16le", 16000), ("wav", "pcm_s24le", 48000), ("flac", "flac", 44100), ("mp3", "libmp3lame", 44100),
    ("m4a", "aac", 44100), ("m4a", "alac", 44100), ("ogg", "libopus", 48000), ("opus", "libopus", 48000),
    ("webm", "libopus", 48000), ("mkv", "aac", 48000), ("mov", "pcm_s16le", 16000), ("mp4", "aac", 48000),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "codec", "rate"), AUDIO)
def test_sound_keeps_its_place_in_any_container(tmp_path, ending, codec, rate):
    path = write_media(tmp_path / f"a.{ending}", Sound(beeps([0.5, 1.5], 2.0, rate), rate, codec))
    reader = MediaReader(path)
    samples = np.concatenate(list(reader.audio_blocks()))
    assert samples.dtype == np.float32 and samples.ndim == 1
    np.testing.assert_allclose(onsets(samples), [0.5, 1.5], atol=0.003)
    assert 2.0 <= len(samples) / SAMPLE_RATE < 2.03 and 0.4 < np.abs(samples).max() < 0.6
    assert reader.facts.has_audio and not reader.facts.has_video and reader.facts.sample_rate == rate
    assert list(reader.pictures(10)) == [] and reader.warnings == []


VIDEO = [
    ("mp4", "mpeg4", "aac", "yuv420p"), ("webm", "libvpx-vp9", "libopus", "yuv420p"), ("mkv", "ffv1", "flac", "bgr0"),
    ("mov", "mjpeg", "pcm_s16le", "yuvj420p"), ("mkv", "libx264", "aac", "yuv444p"),
    ("mp4", "libx264", "aac", "yuv420p"), ("mkv", "libx264", "aac", "yuv420p10le"),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "codec", "audio", "pixels"), VIDEO)
def test_pictures_and_sound_keep_their_places(tmp_path, ending, codec, audio, pixels):
    film = Film(gray_film([k / 10 for k in range(20)]), codec, pixels, rate=10, exact=False)
    path = write_media(tmp_path / f"v.{ending}", film, Sound(beeps([1.0], 2.0, 48000), 48000, audio))
    reader = MediaReader(path)
    pictures = list(reader.pictures(10))
    np.testing.assert_allclose(levels(pictures), [level_at(k / 10) for k in range(20)], atol=3)
    assert pictures[0].shape == (48, 64, 3) and pictures[0].dtype == np.uint8
    np.testing.assert_allclose(onsets(np.concatenate(list(reader.audio_blocks()))), [1.0], atol=0.003)
    found = reader.facts
    assert (found.width, found.height, found.rotation, found.video_tracks, found.audio_tracks) == (64, 48, 0, 1, 1)
    assert found.seconds == pytest.approx(2.0, abs=0.05) and reader.warnings == []


@pytest.mark.parametrize(("ending", "codec", "audio"), [("avi", "mpeg4", "pcm_s16le"), ("mpg", "mpeg2video", "mp2")])
def test_older_containers(tmp_path, ending, codec, audio):
    film = Film(gray_film([k / 25 for k in range(50)]), codec, rate=25, exact=False)
    path = write_media(tmp_path / f"v.{ending}", film, Sound(beeps([1.0], 2.0, 48000), 48000, audio))
    pictures = list(MediaReader(path).pictures(10))
    assert 20 <= len(pictures) <= 21
    np.testing.assert_allclose(levels(pictures)[:20], [level_at((k + 0.5) / 10 - 0.02) for k in range(20)], atol=11)
    np.testing.assert_allclose(onsets(read_audio(path)), [1.0], atol=0.03)


def test_bytes_equal_path_and_blocks_equal_the_whole(tmp_path):
    sound = Sound(harmonic_sound(3.3, 44100), 44100, "aac")
    path = write_media(tmp_path / "a.mp4", Film(moving_film(3.3), "libx264"), sound)
    content = (tmp_path / "a.mp4").read_bytes()
    whole = read_audio(path)
    for seconds in (0.01, 0.37, 1.0):
        blocks = list(MediaReader(content).audio_blocks(seconds))
        assert {len(block) for block in blocks[:-1]} == {round(seconds * SAMPLE_RATE)}
        np.testing.assert_array_equal(np.concatenate(blocks), whole)
    pictures = list(MediaReader(path).pictures(7.5))
    reader = MediaReader(bytearray(content))
    for _ in range(2):  # may be iterated again
        assert all(np.array_equal(*pair) for pair in zip(pictures, reader.pictures(7.5), strict=True))
    assert MediaReader(content).facts == MediaReader(path).facts


def test_threads_do_not_change_pictures(tmp_path):
    path = write_media(tmp_path / "a.mp4", Film(moving_film(2.0, size=(160, 120)), "libx264"))
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(np.stack(list(MediaReader(path).pictures(10))))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(*found)


# ----------------------------------------------------------------------------------------------------------- sound


@pytest.mark.parametrize(("layout", "channels"), [("stereo", 2), ("5.1", 6)])
def test_channels_become_one_without_a_change_of_loudness(tmp_path, layout, channels):
    for codec in ("pcm_s16le", "pcm_f32le"):
        path = write_media(tmp_path / f"{codec}.wav", Sound(tone(1.0), codec=codec, layout=layout))
        reader = MediaReader(path)
        samples = np.concatenate(list(reader.audio_blocks()))
        assert reader.facts.channels == channels
        np.testing.assert_allclose(samples, tone(1.0), atol=2e-4)


def test_8_khz_is_said(tmp_path):
    reader = MediaReader(write_media(tmp_path / "a.wav", Sound(tone(1.0, 8000), 8000)))
    assert len(np.concatenate(list(reader.audio_blocks()))) == SAMPLE_RATE
    assert len(reader.warnings) == 1 and "8000 samples a second" in reader.warnings[0]


def test_late_sound_and_gaps_are_silence(tmp_path):
    pieces = [(0.75, tone(0.5)), (2.0, tone(0.5))]
    film = Film(gray_film([k / 10 for k in range(30)]), rate=10, exact=False)
    reader = MediaReader(write_media(tmp_path / "a.mkv", film, Sound(pieces)))
    samples = np.concatenate(list(reader.audio_blocks()))
    np.testing.assert_allclose(onsets(samples), [0.75, 2.0], atol=0.002)
    assert len(samples) == 2.5 * SAMPLE_RATE
    for start, end in ((0, 0.75), (1.26, 2.0)):
        assert not samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)].any()
    assert [message for message in reader.warnings if "gaps: 0.75 s" in message]
    assert [message for message in reader.warnings if "starts at 0.75 s" in message]
    list(reader.audio_blocks())
    assert len(reader.warnings) == 2  # each is said once


def test_overlaps_do_not_shift_later_sound(tmp_path):
    pieces = [(0.0, beeps([0.5], 1.0))] + [(1.0 + 0.07 * k, np.zeros(1600, np.float32)) for k in range(50)]
    reader = MediaReader(write_media(tmp_path / "a.mkv", Sound([*pieces, (4.6, beeps([0.0], 1.0))])))
    samples = np.concatenate(list(reader.audio_blocks()))
    np.testing.assert_allclose(onsets(samples), [0.5, 4.6], atol=0.051)  # the shift would be 1.5 s
    assert any("were left out" in message for message in reader.warnings)


def test_jitter_of_timestamps_changes_nothing(tmp_path):
    sound, generator = harmonic_sound(2.0), np.random.default_rng(0)
    pieces = [(k / 10 + generator.uniform(0, 0.03), sound[k * 1600 : (k + 1) * 1600]) for k in range(20)]
    pieces[0] = (0.0, pieces[0][1])
    reader = MediaReader(write_media(tmp_path / "a.mkv", Sound(pieces)))
    np.testing.assert_allclose(np.concatenate(list(reader.audio_blocks())), sound, atol=1e-4)
    assert reader.warnings == []


def test_a_file_that_starts_late_starts_at_zero(tmp_path):
    film = Film(gray_film([k / 10 for k in range(20)]), "libx264", rate=10, exact=False)
    path = write_media(tmp_path / "a.ts", film, Sound(beeps([1.0], 2.0, 48000), 48000, "aac"), start=100.0)
    np.testing.assert_allclose(levels(MediaReader(path).pictures(10)), [level_at(k / 10) for k in range(20)], atol=3)
    np.testing.assert_allclose(onsets(read_audio(path)), [1.0], atol=0.03)


def test_sound_before_zero_is_left_out(tmp_path):
    """Samples that warm up a decoder."""
    film = Film(gray_film([k / 10 for k in range(20)]), "ffv1", "bgr0", rate=10)
    sound = Sound([(-0.25, beeps([0.0, 0.75], 2.0))])
    path = write_media(tmp_path / "a.mkv", film, sound, options={"avoid_negative_ts": "disabled"})
    samples = read_audio(path)
    np.testing.assert_allclose(onsets(samples), [0.5], atol=0.002)
    assert len(samples) == 1.75 * SAMPLE_RATE
    np.testing.assert_allclose(
        levels(MediaReader(path).pictures(10))[:19], [level_at(k / 10) for k in range(19)], atol=2
    )


def test_a_jump_of_the_clock_is_no_silence(tmp_path):
    pieces = [(0.0, tone(1.0)), (9 * 3600.0, tone(1.0))]
    reader = MediaReader(write_media(tmp_path / "a.mkv", Sound(pieces)), MediaLimits(max_seconds=1e6))
    assert sum(map(len, reader.audio_blocks())) == 2 * SAMPLE_RATE
    assert any("jumps by 32399 s at 1.0 s" in message for message in reader.warnings)
    with pytest.raises(MediaError, match="max_seconds"):
        facts(MediaReader(tmp_path / "a.mkv"))


def test_a_gap_within_an_hour_counts_to_the_limit_before_it_is_filled(tmp_path):
    path = write_media(tmp_path / "a.mkv", Sound([(0.0, tone(1.0)), (3000.0, tone(1.0))]))
    reader = MediaReader(path, MediaLimits(max_seconds=3600))
    assert sum(map(len, reader.audio_blocks())) == 3001 * SAMPLE_RATE
    with pytest.raises(MediaError, match="max_seconds=60"):
        facts(MediaReader(path, MediaLimits(max_seconds=60)))


def test_values_that_are_no_sound_become_silence(tmp_path):
    sound = tone(1.0)
    sound[4000:4010] = np.nan
    sound[8000:8010] = 1e30
    reader = MediaReader(write_media(tmp_path / "a.wav", Sound(sound, codec="pcm_f32le")))
    samples = np.concatenate(list(reader.audio_blocks()))
    assert np.isfinite(samples).all() and np.abs(samples).max() <= 0.51
    assert len(reader.warnings) == 1 and "not finite" in reader.warnings[0]


# -------------------------------------------------------------------------------------------------------- pictures


def test_variable_frame_rate_by_time(tmp_path):
    times = [0.0, 0.1, 0.12, 0.3, 0.31, 0.32, 0.33, 1.0, 1.7, 1.74]
    path = write_media(tmp_path / "a.mkv", Film(gray_film(times), "ffv1", "bgr0"))
    pictures = list(MediaReader(path).pictures(20))
    latest = [max(t for t in times if t <= (k + 0.5) / 20) for k in range(len(pictures))]
    np.testing.assert_allclose(levels(pictures), [level_at(t) for t in latest], atol=2)
    assert 35 <= len(pictures) <= 36
    assert pictures[20] is pictures[33]  # stands still: the same array


@pytest.mark.parametrize("rate", [1, 3, 10, 12.5, 25, 60])
def test_number_of_pictures_is_time_by_rate(tmp_path, rate):
    path = write_media(tmp_path / "a.mp4", Film(gray_film([k / 25 for k in range(100)]), "libx264", exact=False))
    assert len(list(MediaReader(path).pictures(rate))) == pytest.approx(4 * rate, abs=1)


def test_frames_are_freed_at_once(tmp_path):
    """Not only when Python collects cycles: memory would grow by hundreds of pictures until then."""
    import av

    film = Film(moving_film(4.0), "libx264", exact=False)
    path = turn_upright(write_media(tmp_path / "a.mp4", film, Sound(tone(4.0, 44100), 44100, "aac")), 90)
    reader, most = MediaReader(path), 0
    gc.collect()
    gc.disable()
    try:
        for things in (reader.pictures(25), reader.audio_blocks(0.1)):
            for _ in things:
                most = max(most, sum(isinstance(thing, (av.VideoFrame, av.AudioFrame)) for thing in gc.get_objects()))
    finally:
        gc.enable()
    assert 1 <= most < 10


TURNED = {
    0: ["red", "green", "blue", "white"], 90: ["blue", "red", "white", "green"],
    180: ["white", "blue", "green", "red"], 270: ["green", "white", "red", "blue"],
}  # fmt: skip


@pytest.mark.parametrize("rotation", TURNED)
@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_pictures_are_turned_upright(tmp_path, rotation, ending):
    film = Film([(k / 10, quadrants()) for k in range(5)], "libx264", "yuv444p", rate=10, exact=False)
    reader = MediaReader(turn_upright(write_media(tmp_path / f"a.{ending}", film), rotation))
    picture = next(reader.pictures(10))
    assert corners(picture) == TURNED[rotation] and picture.flags.c_contiguous
    assert picture.shape == ((48, 64, 3) if rotation % 180 == 0 else (64, 48, 3))
    assert (reader.facts.width, reader.facts.height, reader.facts.rotation) == (64, 48, rotation)


def test_mirrored_pictures_are_turned_back(tmp_path):
    film = Film([(k / 10, quadrants()) for k in range(5)], "libx264", "yuv444p", rate=10, exact=False)
    path = turn_upright(write_media(tmp_path / "a.mp4", film), 0, mirrored=True)
    assert corners(next(MediaReader(path).pictures(10))) == ["green", "red", "white", "blue"]


def test_long_side_odd_sizes_and_pixels_that_are_not_square(tmp_path):
    path = write_media(tmp_path / "a.mkv", Film(moving_film(0.4, size=(101, 57)), "ffv1", "bgr0"))
    for longest, shape in ((640, (57, 101, 3)), (50, (28, 50, 3)), (1, (1, 1, 3))):
        assert next(MediaReader(path).pictures(10, longest)).shape == shape
    path = write_media(tmp_path / "b.mp4", Film(moving_film(0.4, size=(64, 64)), aspect=Fraction(16, 11)))
    assert next(MediaReader(path).pictures(10)).shape == (64, 93, 3)


def test_one_picture(tmp_path):
    path = write_media(tmp_path / "a.mp4", Film(gray_film([0.0]), "libx264", exact=False))
    for rate in (1, 10, 100):
        assert 1 <= len(list(MediaReader(path).pictures(rate))) <= 5


def test_late_pictures(tmp_path):
    sound = Sound(beeps([0.0], 3.0))
    path = write_media(tmp_path / "a.mkv", Film(gray_film([1.0 + k / 10 for k in range(20)]), "ffv1", "bgr0"), sound)
    reader = MediaReader(path)
    expected = [0] * 10 + [level_at(1 + k / 10) for k in range(19)]
    np.testing.assert_allclose(levels(reader.pictures(10))[:29], expected, atol=2)
    assert any("starts at 1.00 s" in message for message in reader.warnings)
    path = write_media(tmp_path / "b.mkv", Film(gray_film([0.2 + k / 10 for k in range(20)]), "ffv1", "bgr0"), sound)
    reader = MediaReader(path)
    np.testing.assert_allclose(levels(reader.pictures(10))[:4], [level_at(t) for t in (0.2, 0.2, 0.2, 0.3)], atol=2)
    assert reader.warnings == []


@pytest.mark.parametrize(("rate", "longest"), [(0, 640), (-1, 640), (float("nan"), 640), (10, 0)])
def test_rates_and_sizes_that_are_none(tmp_path, rate, longest):
    with pytest.raises(ValueError, match="must be above 0"):
        next(MediaReader(b"x").pictures(rate, longest))


# ---------------------------------------------------------------------------------------------------------- tracks


@pytest.mark.parametrize(("ending", "codec"), [("mp3", "libmp3lame"), ("m4a", "aac"), ("flac", "flac")])
def test_cover_art_is_no_video(tmp_path, ending, codec):
    container = "mp4" if ending == "m4a" else None
    sound = Sound(tone(1.0, 44100), 44100, codec)
    path = write_media(tmp_path / f"a.{ending}", sound, cover=quadrants(), container=container)
    reader = MediaReader(path)
    assert reader.facts.has_audio and not reader.facts.has_video
    assert list(reader.pictures(10)) == [] and len(read_audio(path)) > 0.9 * SAMPLE_RATE


@pytest.mark.parametrize(("default", "number", "pitch"), [(0, 1, 440), (1, 2, 1000)])
def test_the_default_of_several_tracks_is_read(tmp_path, default, number, pitch):
    sounds = [Sound(tone(1.0, pitch=440.0)), Sound(tone(1.0, pitch=1000.0))]
    reader = MediaReader(write_media(tmp_path / "a.mkv", *sounds, default=default))
    samples = np.concatenate(list(reader.audio_blocks()))
    assert np.abs(np.fft.rfft(samples)).argmax() == pitch
    assert reader.facts.audio_tracks == 2
    assert reader.warnings == [f"The file has 2 audio tracks: number {number} is read."]


# ------------------------------------------------------------------------------------------------- damage and limits


@pytest.mark.parametrize("ending", ["mkv", "webm", "mp4", "avi", "flac", "wav", "mp3"])
def test_truncated_files_give_what_came(tmp_path, ending):
    if ending in ("flac", "wav", "mp3"):
        codec = {"flac": "flac", "wav": "pcm_s16le", "mp3": "libmp3lame"}[ending]
        tracks = [Sound(harmonic_sound(6.0, 44100), 44100, codec)]
    else:
        webm = ending == "webm"
        sound = Sound(harmonic_sound(6.0, 48000), 48000, "libopus" if webm else "libmp3lame")
        tracks = [Film(moving_film(6.0), "libvpx" if webm else "mpeg4", exact=False), sound]
    options = {"movflags": "faststart"} if ending == "mp4" else {}
    path = tmp_path / f"a.{ending}"
    write_media(path, *tracks, options=options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    reader = MediaReader(path)
    seconds = sum(map(len, reader.audio_blocks())) / SAMPLE_RATE
    assert 1.5 < seconds < 4.5
    said = [re.search(r"Only ([\d.]+) of ([\d.]+) s of the audio", message) for message in reader.warnings]
    came, claimed = next(match for match in said if match).groups()
    assert float(came) == pytest.approx(seconds, abs=0.2) and float(claimed) == pytest.approx(6.0, abs=0.3)
    if len(tracks) == 2:
        assert 15 < len(list(reader.pictures(10))) < 45
        assert any("of the video could be read" in message for message in reader.warnings)


def test_damaged_parts_do_not_end_the_reading(tmp_path):
    path = tmp_path / "a.mkv"
    write_media(path, Sound(harmonic_sound(4.0, 48000), 48000, "flac"))
    content = bytearray(path.read_bytes())
    for start in range(len(content) // 3, len(content) // 2, 1500):
        content[start : start + 200] = bytes(200)
    path.write_bytes(content)
    reader = MediaReader(path)
    assert sum(map(len, reader.audio_blocks())) / SAMPLE_RATE > 3.9
    assert any("damaged" in message for message in reader.warnings)


def no_moov(path):
    write_media(path, Sound(tone(1.0, 44100), 44100, "aac"))
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"moov") - 4])


UNREADABLE = {
    "no index.mp4": (no_moov, "cut off before its index"),
    "empty.mp4": (lambda path: path.write_bytes(b""), "the file is empty"),
    "text.mp4": (lambda path: path.write_text("Dear all,\n" * 100), "FFmpeg reads no audio or video"),
    "zeros.mp4": (lambda path: path.write_bytes(bytes(5000)), "FFmpeg reads no audio or video"),
    "folder.mp4": (lambda path: path.mkdir(), "it is a folder"),
    "absent.mp4": (lambda path: None, "No such file"),
    "subtitles.srt": (lambda path: path.write_text("1\n00:00:01,000 --> 00:00:02,000\nhello\n"), "neither audio nor"),
    "null\0.mp4": (lambda path: None, "null"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_files_are_named(tmp_path, name):
    make, message = UNREADABLE[name]
    make(tmp_path / name)
    reader = MediaReader(tmp_path / name)
    for read in (lambda: reader.facts, lambda: list(reader.audio_blocks()), lambda: list(reader.pictures(10))):
        with pytest.raises(MediaError, match=message) as raised:
            read()
        assert isinstance(raised.value, InputError) and str(tmp_path / name) in str(raised.value)


def test_bytes_have_a_name_too(tmp_path):
    with pytest.raises(MediaError, match="upload 7"):
        facts(MediaReader(b"no media", name="upload 7"))
    with pytest.raises(MediaError, match="8 bytes of media"):
        facts(MediaReader(b"no media"))
    with pytest.raises(TypeError, match="not as int"):
        MediaReader(7)


def test_sound_of_no_length(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16000)
    reader = MediaReader(tmp_path / "a.wav")
    assert reader.facts.has_audio and list(reader.audio_blocks()) == []


def test_limits(tmp_path):
    path = write_media(tmp_path / "a.mp4", Film(moving_film(2.0, size=(64, 48))), Sound(tone(2.0, 44100), 44100, "aac"))
    for limit in ({"max_seconds": 1}, {"max_bytes": 1000}, {"max_pixels": 64 * 47}, {"max_streams": 1}):
        ((name, value),) = limit.items()
        with pytest.raises(MediaError, match=f"{name}={value}") as raised:
            facts(MediaReader(path, MediaLimits(**limit)))
        assert path in str(raised.value)
    for value in (0, -1, float("nan"), "1", None, True):
        with pytest.raises(ValueError, match="max_seconds"):
            MediaLimits(max_seconds=value)


@pytest.mark.parametrize("rate", [1, 50, 2_000_000_000])
def test_rates_that_are_no_sound(tmp_path, rate):
    """They would make gigabytes of one small file."""
    path = write_media(tmp_path / "a.wav", Sound(tone(0.5)))
    content = bytearray((tmp_path / "a.wav").read_bytes())
    at = content.index(b"fmt ") + 12
    content[at : at + 4] = rate.to_bytes(4, "little")
    with pytest.raises(MediaError, match="audio has .* samples a second" if rate < 2_000_000 else "cannot be read"):
        list(MediaReader(bytes(content), name=path).audio_blocks())


@pytest.mark.parametrize(("ending", "codec"), [("mkv", "libx264"), ("mp4", "mpeg4")])
def test_pictures_far_beyond_the_limit_are_not_even_decoded(tmp_path, monkeypatch, ending, codec):
    path = write_media(tmp_path / f"a.{ending}", Film(moving_film(0.4, size=(320, 240)), codec))
    reader = MediaReader(path, MediaLimits(max_pixels=64 * 48))
    monkeypatch.setattr(reader, "_check", lambda *_: None)  # as if the container claimed less
    assert list(reader.pictures(10)) == []
    assert any("The video is damaged" in message for message in reader.warnings)
    assert any("far beyond the limit max_pixels" in message for message in reader.warnings) == (ending == "mp4")


def test_limits_hold_for_what_is_decoded(tmp_path):
    """A header that claims less than there is."""
    path = tmp_path / "a.wav"
    write_media(
        path, Film(gray_film([k / 10 for k in range(50)]), "ffv1", "bgr0"), Sound(tone(5.0)), container="matroska"
    )
    content = path.read_bytes()
    at = content.index(b"\x44\x89\x88") + 3  # Duration, a float of 8 bytes
    path.write_bytes(content[:at] + np.array(100.0, ">f8").tobytes() + content[at + 8 :])
    reader = MediaReader(path, MediaLimits(max_seconds=2))
    assert reader.facts.seconds == pytest.approx(0.1)
    with pytest.raises(MediaError, match="max_seconds=2"):
        list(reader.audio_blocks(0.5))
    with pytest.raises(MediaError, match="max_seconds=2"):
        list(reader.pictures(10))


LISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2.0,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "dash": '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet><Representation '
    'id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\na=x:{}\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("as_bytes", [False, True])
def test_lists_open_no_other_files(tmp_path, kind, as_bytes):
    target = write_media(tmp_path / "secret.ts", Sound(tone(1.0, 44100), 44100, "aac"))
    path = tmp_path / f"a.{'m3u8' if kind == 'hls' else 'mp4'}"
    for address in (target, "secret.ts", f"file:{target}", "http://127.0.0.1:9/a.ts"):
        path.write_text(LISTS[kind].format(address))
        with pytest.raises(MediaError, match=r"a\.m|bytes of media") as raised:
            facts(MediaReader(path.read_bytes() if as_bytes else path))
        if kind != "sdp":
            assert "list of other files" in str(raised.value)


def test_names_are_no_patterns_and_no_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_media("a001.wav", Sound(tone(0.2)))
    for name in ("a%03d.wav", "file:a001.wav", "http://127.0.0.1:9/a.wav", "concat:a001.wav", "a*.wav", "pipe:0"):
        with pytest.raises(MediaError, match="No such file"):
            facts(MediaReader(name))


def test_pictures_are_no_video(tmp_path):
    import av

    frame = av.VideoFrame.from_ndarray(quadrants(), format="rgb24")
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 64, 48, "rgb24", Fraction(1, 25)
    content = b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
    with pytest.raises(MediaError, match="FFmpeg reads no audio or video"):
        facts(MediaReader(content))


def test_without_pyav_the_error_comes_when_a_file_is_read(monkeypatch):
    monkeypatch.setattr(media_decoding, "is_av_available", lambda: False)
    reader = media_decoding.MediaReader("a.mp4")
    for read in (lambda: reader.facts, lambda: next(reader.audio_blocks()), lambda: next(reader.pictures(10))):
        with pytest.raises(ImportError, match=r"hf-fusion\[media\]"):
            read()
