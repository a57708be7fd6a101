"""Extraction of files into the cache: in this process and in others, after interruptions, of damaged entries."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from made_clips import WORDS, MadeExtractor
from media_files import Film, Sound, harmonic_sound, moving_film, write_media
from tiny_runs import Script

from hf_fusion.media.cache import MediaCache
from hf_fusion.media.extraction import FileExtraction
from hf_fusion.media.extractor import make_extractor
from hf_fusion.utils.errors import DataError

_MANY = 60  # files, of which some are left when the first is done


class TestHere:
    """With made frames, in this process."""

    @pytest.fixture
    def files(self, tmp_path):
        for name, content in (("a", "1"), ("b", "broken"), ("c", "2")):
            (tmp_path / f"{name}.mp4").write_text(content)
        return {tmp_path / f"{name}.mp4": False for name in "abc"}

    @pytest.fixture
    def extraction(self, tmp_path):
        return FileExtraction(MadeExtractor(), tmp_path / "cache", workers=0)

    def calls(self, extraction):
        calls = [name for name, _ in extraction.extractor.calls]
        extraction.extractor.calls.clear()
        return calls

    def test_an_error_of_one_file_ends_no_other(self, files, extraction):
        done = {file.path.name: file for file in extraction.extract(files)}
        assert list(done) == ["a.mp4", "b.mp4", "c.mp4"]
        assert "FFmpeg reads nothing" in done["b.mp4"].error and done["c.mp4"].error is None
        assert (extraction.clip(done["c.mp4"], False).audio == 2).all()

    def test_the_second_run_reads_the_cache(self, files, extraction):
        list(extraction.extract(files))
        assert self.calls(extraction) == ["a.mp4", "b.mp4", "c.mp4"]
        again = list(extraction.extract(files))
        assert self.calls(extraction) == ["b.mp4"], "an error may have passed"
        assert [(file.cached, file.seconds) for file in again] == [(True, 3.0), (True, 3.0), (False, 0.0)]

    def test_changed_files_are_read_again_and_renamed_ones_not(self, files, extraction):
        list(extraction.extract(files))
        self.calls(extraction)
        first, _, last = files
        last.rename(last.with_name("d.mp4"))
        first.write_text("9")
        done = list(extraction.extract({first: False, last.with_name("d.mp4"): False}))
        assert self.calls(extraction) == ["a.mp4"]
        assert (extraction.clip(done[1], False).audio == 9).all()

    def test_other_settings_are_read_anew(self, files, extraction, tmp_path):
        list(extraction.extract(files))
        other = FileExtraction(MadeExtractor(audio_rate=10), tmp_path / "cache", workers=0)
        list(other.extract(files))
        assert len(other.extractor.calls) == 3

    def test_words_are_of_their_own(self, files, extraction, tmp_path, monkeypatch):
        monkeypatch.setattr("hf_fusion.media.extraction.Transcriber", lambda *args, **options: None)
        list(extraction.extract(files))
        self.calls(extraction)
        first = next(iter(files))
        heard = FileExtraction(extraction.extractor, tmp_path / "cache", 0, asr="folder/tiny", language="en")
        (done,) = heard.extract({first: True})
        assert extraction.extractor.calls == [("a.mp4", ("text",))], "its frames are known"
        clip = heard.clip(done, True)
        assert clip.words == WORDS and clip.report["transcript"] == "tiny"
        assert heard.clip(done, False).words == []

    def test_damaged_entries_are_read_again(self, files, extraction, caplog):
        (done, *_) = extraction.extract(files)
        self.calls(extraction)
        (entry,) = extraction.cache_folder.rglob(f"{done.sha256}*")
        entry.write_bytes(entry.read_bytes()[:-40])
        list(extraction.extract({done.path: False}))
        assert self.calls(extraction) == ["a.mp4"] and f"{entry}: a damaged entry of the cache" in caplog.text
        assert (extraction.clip(done, False).audio == 1).all()

    def test_absent_files(self, extraction, tmp_path):
        (done,) = extraction.extract({tmp_path / "x.mp4": False})
        assert "x.mp4 cannot be read: no such file" in done.error

    def test_a_wrong_recogniser_is_told_before_all_files(self, files, extraction, tmp_path):
        extraction = FileExtraction(extraction.extractor, tmp_path / "cache", 0, asr=str(tmp_path / "none"))
        with pytest.raises(DataError, match=r"none' cannot be loaded"):
            list(extraction.extract(dict.fromkeys(files, True)))
        assert not extraction.extractor.calls

    def test_a_full_disk_is_no_fault_of_the_file(self, files, extraction, monkeypatch):
        def fail(*args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(MediaCache, "write_frames", fail)
        with pytest.raises(OSError, match="No space left"):
            list(extraction.extract(files))

    def test_progress_ends_at_one(self, files, extraction):
        shares = []
        list(extraction.extract(files, lambda share, seconds: shares.append((share, seconds))))
        assert shares[0] == (0.0, 0.0) and shares[-1] == (1.0, 6.0) and shares == sorted(shares)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A sound, a video with sound, and a text file."""
    folder = tmp_path_factory.mktemp("media")
    write_media(folder / "voice.wav", Sound(harmonic_sound(2.3)))
    write_media(folder / "film.mp4", Sound(harmonic_sound(1.5, seed=1), codec="aac"), Film(moving_film(1.5)))
    (folder / "text.mp4").write_text("this is no video")
    return folder


def test_other_processes_find_the_same(media, tmp_path):
    """Bit for bit."""
    files = dict.fromkeys(sorted(media.iterdir()), False)
    found = {}
    for workers in (0, 2):
        extraction = FileExtraction(make_extractor("descriptors", None), tmp_path / str(workers), workers)
        done = {file.path.name: file for file in extraction.extract(files)}
        assert "text.mp4" in done["text.mp4"].error
        found[workers] = {name: extraction.clip(file, False) for name, file in done.items() if not file.error}
    assert found[0].keys() == found[2].keys() == {"film.mp4", "voice.wav"}
    for name, clip in found[0].items():
        assert len(clip.audio) > 20 and np.array_equal(clip.audio, found[2][name].audio)
        assert np.array_equal(clip.voiced, found[2][name].voiced) and clip.report == found[2][name].report
    assert not list(tmp_path.glob("*/writing-*"))


def test_files_that_take_too_long(media, tmp_path):
    extraction = FileExtraction(make_extractor("descriptors", None), tmp_path, 1, timeout=0.001)
    (done,) = extraction.extract({media / "voice.wav": False})
    assert "voice.wav cannot be read: it took longer than the limit of 0.001 s" in done.error


def finished_files(cache):
    return [path for path in cache.rglob("*.npz") if not path.parent.name.startswith("writing-")]


def workers_of(folder):
    """Processes that have this temporary folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={folder}".encode() in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_continues(number, tmp_path):
    """Nothing is left but whole entries of the cache, and no process; the next run reads the rest."""
    videos, temporary, cache = (tmp_path / name for name in ("videos", "tmp", "cache"))
    for folder in (videos, temporary):
        folder.mkdir()
    write_media(videos / "0.wav", Sound(harmonic_sound(20.0)))
    names = [f"{i}.wav" for i in range(_MANY)]
    for i, name in enumerate(names):
        content = (videos / "0.wav").read_bytes()
        (videos / name).write_bytes(content[:-2] + i.to_bytes(2, "little"))
    (videos / "labels.csv").write_text("id,label\n" + "".join(f"{i},{i % 3}\n" for i in range(_MANY)))
    words = (videos, tmp_path / "out", "--vision", "none", "--cache", cache)
    run = Script("prepare", *words, "--workers", "2", environment={"TMPDIR": str(temporary)})
    while not finished_files(cache):
        assert run.process.is_alive(), run.join().stderr
        time.sleep(0.02)
    os.kill(run.process.pid, number)
    end = run.join()
    ended = time.monotonic()
    while workers_of(temporary) and time.monotonic() - ended < 30:
        time.sleep(0.1)
    assert not workers_of(temporary)
    known = finished_files(cache)
    assert 0 < len(known) < _MANY and not (tmp_path / "out").exists(), (end.returncode, end.stderr[-3000:])
    if number == signal.SIGINT:
        assert (end.returncode, "the same command continues" in end.stderr) == (130, True), end.stderr[-2000:]
    stamps = {path: path.stat().st_mtime_ns for path in known}
    few = min(len(known) + 6, _MANY)  # of the rest six, which say as much as all
    for name in names[few:]:
        (videos / name).unlink()
    (videos / "labels.csv").write_text("id,label\n" + "".join(f"{i},{i % 3}\n" for i in range(few)))
    end = Script("prepare", *words, "--workers", "0").join()
    assert end.returncode == 0, end.stderr
    assert {path: path.stat().st_mtime_ns for path in known} == stamps, "what was whole is not read again"
    assert len(list(cache.rglob("*.npz"))) == few and not list(cache.glob("writing-*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out", "tmp", "videos"]
