"""The cache of extracted frames and words."""

from dataclasses import replace

import numpy as np
import pytest
from made_clips import WORDS, MadeExtractor

from hf_fusion.media.cache import MediaCache, with_words

SHA = "ab" * 32


@pytest.fixture
def clip(tmp_path):
    (tmp_path / "a").write_text("7")
    return MadeExtractor().read(str(tmp_path / "a"), None, None, None, None, "cpu", None, ("audio", "vision"))


@pytest.fixture
def cache(tmp_path):
    return MediaCache(tmp_path / "cache")


def test_frames_come_back(cache, clip):
    assert cache.read_frames(SHA, clip.settings) is None
    cache.write_frames(SHA, clip)
    found = cache.read_frames(SHA, clip.settings)
    for name in ("audio", "vision", "voiced"):
        assert np.array_equal(getattr(found, name), getattr(clip, name))
        assert getattr(found, name).dtype == getattr(clip, name).dtype
    assert (found.seconds, found.speech, found.report) == (clip.seconds, clip.speech, clip.report)
    assert found.text is None and not cache.damaged


def test_streams_that_are_missing(cache, clip):
    cache.write_frames(SHA, replace(clip, audio=None))
    assert cache.read_frames(SHA, clip.settings).audio is None


def test_other_content_and_settings_are_other_entries(cache, clip):
    cache.write_frames(SHA, clip)
    assert cache.read_frames("cd" * 32, clip.settings) is None
    for changed in ({"audio_rate": 10}, {"vision_weights": "0" * 64}, {"audio": None, "audio_rate": None}):
        assert cache.read_frames(SHA, replace(clip.settings, **changed)) is None
    assert cache.read_frames(SHA, replace(clip.settings, asr="x", language="en")), "frames do not depend on these"


def test_words(cache, clip):
    cache.write_words(SHA, "tiny", "en", WORDS, ["noise"])
    assert cache.read_words(SHA, "tiny", "en") == (WORDS, ["noise"])
    assert cache.read_words(SHA, "tiny", None) is None and cache.read_words(SHA, "base", "en") is None
    found = with_words(clip, WORDS, "tiny", ["noise"])
    assert found.text == "one two three" and found.report["transcript"] == "tiny" and found.report["words"] == 3
    assert found.report["warnings"] == ["noise"] and clip.report["warnings"] == []


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped"])
def test_damaged_entries_count_as_absent(damage, cache, clip):
    cache.write_frames(SHA, clip)
    cache.write_words(SHA, "tiny", None, WORDS, [])
    for path in (path for path in cache.folder.rglob("*") if path.is_file()):
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        if damage == "flipped":
            content[middle] ^= 0x80
        path.write_bytes(content[: {"empty": 0, "cut": middle, "flipped": None}[damage]])
    assert cache.read_frames(SHA, clip.settings) is None and cache.read_words(SHA, "tiny", None) is None
    assert len(cache.damaged) == 2


def test_nothing_half_written_remains(cache, clip, monkeypatch):
    monkeypatch.setattr(np, "savez", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cache.write_frames(SHA, clip)
    assert not [path for path in cache.folder.rglob("*") if path.is_file()]


def test_words_of_another_recogniser_in_the_same_folder(cache, tmp_path):
    folder = tmp_path / "asr"
    folder.mkdir()
    (folder / "model.safetensors").write_text("one")
    cache.write_words(SHA, str(folder), None, WORDS, [])
    assert cache.read_words(SHA, str(folder), None) == (WORDS, [])
    (folder / "model.safetensors").write_text("another")
    assert cache.read_words(SHA, str(folder), None) is None
