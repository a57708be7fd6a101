"""Rows of media files to clips: texts, segments, and counts of all that is missing."""

import json
import re

import numpy as np
import pytest
from made_clips import MadeExtractor

from hf_fusion.data.clips import ClipSource, load_clips
from hf_fusion.data.tally import tallied
from hf_fusion.media.clips import MediaClips
from hf_fusion.media.extraction import FileExtraction
from hf_fusion.media.features import write_features
from hf_fusion.media.folder import find_media, read_media_folder
from hf_fusion.media.prepare import prepare_features, prepare_media
from hf_fusion.utils.errors import DataError

SUBTITLES = "1\n00:00:00,000 --> 00:00:01,000\nsaid first\n\n2\n00:00:02,000 --> 00:00:03,000\nsaid last\n"


@pytest.fixture
def folder(tmp_path):
    """Makes a folder of files with a content each, and a labels file."""

    def make(labels, **files):
        folder = tmp_path / "videos"
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            stem, _, ending = name.rpartition("_")
            (folder / f"{stem}.{ending}").write_text(content)
        (folder / "labels.csv").write_text(labels)
        return folder

    return make


@pytest.fixture
def extraction(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_fusion.media.extraction.Transcriber", lambda *args, **options: None)
    return lambda asr=None, **settings: FileExtraction(MadeExtractor(**settings), tmp_path / "cache", 0, asr=asr)


def read(folder, extraction, **options):
    clips = MediaClips(read_media_folder(folder), extraction, **options)
    clips.extract()
    with tallied() as counts:
        rows = list(clips)
    return {row["id"]: row for row in rows}, dict(counts), clips


def test_clips_of_whole_files(folder, extraction):
    rows, counts, clips = read(folder("id,label,split\na,1,train\nb,2,test\n", a_mp4="4", b_wav="5"), extraction())
    assert rows["a"]["audio"].shape == (60, 23) and (rows["b"]["vision"] == 5).all() and len(rows["a"]["vision"]) == 30
    assert (rows["b"]["label"], rows["b"]["split"], rows["b"]["text"]) == ("2", "test", None)
    assert counts == {"clips have no transcript": 2} and "video" not in rows["a"]
    assert clips.facts() == {"files": 2, "seconds": 6.0, "longest_clip": 3.0}


def test_segments_are_cut_from_one_reading(folder, extraction):
    labels = "id,label,video,start,end\na1,1,talk,0,1\na2,2,talk,1.0,\na3,0,talk,1,9\na4,0,talk,7,9\n"
    extraction = extraction()
    rows, counts, clips = read(folder(labels, talk_mp4="4", talk_srt=SUBTITLES), extraction)
    assert [len(rows[name]["audio"]) for name in ("a1", "a2", "a3")] == [20, 40, 40]
    assert [rows[name]["text"] for name in ("a1", "a2")] == ["said first", "said last"]
    assert rows["a2"]["words"] == [(1.0, 1.5, "said"), (1.5, 2.0, "last")], "from the start of the clip"
    assert "a4" not in rows and clips.longest == 2.0 and rows["a1"]["video"] == "talk"
    assert len(extraction.extractor.calls) == 1
    assert counts == {
        "clips start after the end of their file": 1, "clips end after their file, and are cut there": 1,
        "clips left out: no text, no audio and no vision": 1,
    }  # fmt: skip


def test_warnings_of_files_are_told_once(folder, extraction, monkeypatch, caplog):
    read_made = MadeExtractor.read

    def warned(self, source, *args):
        clip = read_made(self, source, *args)
        clip.report["warnings"].append(f"Only {1 + len(source) / 100} of 3.0 s of the audio could be read.")
        return clip

    monkeypatch.setattr(MadeExtractor, "read", warned)
    late = SUBTITLES.replace("00:00:02", "00:00:12").replace("00:00:03", "00:00:13")
    rows = "id,label\na,1\nbbb,2\n"
    _, counts, _ = read(folder(rows, a_mp4="1", bbb_mp4="2", bbb_srt=late), extraction())
    assert counts["files with a warning"] == 3
    assert re.search(r"a.mp4: Only .* of 3.0 s of the audio could be read. The same in 1 more files.", caplog.text)
    assert "bbb.mp4: 2 of 4 words of the transcript start after the end of the file (3.0 s)" in caplog.text


def test_an_unreadable_recording_counts_with_all_its_rows(folder, extraction):
    rows = "".join(f"s{i},1,talk\n" for i in range(20)) + "".join(f"t{i},1,other\n" for i in range(20))
    path = folder("id,label,video\n" + rows, talk_mp4="broken", other_mp4="1")
    with pytest.raises(DataError, match=r"1 media files cannot be read \(talk.mp4\). More than a tenth of the rows"):
        read(path, extraction())


def test_empty_subtitles_say_that_nothing_is_said(folder, extraction):
    rows, counts, _ = read(folder("id,label\na,1\n", a_mp4="1", a_vtt="WEBVTT\n"), extraction(asr="whisper"))
    assert rows["a"]["text"] is None and counts == {"clips have no transcript": 1}


def test_text_before_subtitles_before_recognition(folder, extraction):
    labels = "id,label,text\na,1,own text\nb,1,\nc,1,nan\nd,1,\n"
    path = folder(
        labels, a_mp4="1", a_srt=SUBTITLES, b_mp4="2", b_srt=SUBTITLES, c_mp4="3", d_mp4="4", d_srt="no times"
    )
    extraction = extraction("tiny")
    rows, counts, _ = read(path, extraction)
    expected = {"a": "own text", "b": "said first said last", "c": "one two three", "d": "one two three"}
    assert {name: row["text"] for name, row in rows.items()} == expected
    heard = [name for name, modalities in extraction.extractor.calls if "text" in modalities]
    assert heard == ["c.mp4", "d.mp4"], "recognition costs much, and runs where there is no text"
    assert rows["c"]["report"]["transcript"] == "tiny" and rows["b"]["report"]["transcript"] == "b.srt"
    assert counts == {"files of subtitles cannot be read": 1}


def test_a_model_without_text_needs_no_transcript(folder, extraction):
    extraction = extraction("tiny")
    rows, counts, _ = read(folder("id,label,text\na,1,own\n", a_mp4="1"), extraction, with_text=False)
    assert rows["a"]["text"] is None and not counts and len(extraction.extractor.calls) == 1


def test_what_is_missing_is_counted_and_named(folder, extraction, caplog):
    contents = {"a": "broken", "b": "silent", "c": "voiceless", "d": "faceless", "e": "1", "f": "strange"}
    labels = "id,label,text\n" + "".join(f"{name},1,{'x' if name != 'f' else ''}\n" for name in [*contents, "absent"])
    path = folder(labels, extra_mkv="1", **{f"{name}_mp4": content for name, content in contents.items()})
    with pytest.raises(DataError, match=r"2 media files cannot be read \(a\.mp4, f\.mp4\).*More than a tenth"):
        read(path, extraction(), allow_missing=True)[2].allow_missing = False
        clips = MediaClips(read_media_folder(path), extraction())
        clips.table.rows = [row for row in clips.table.rows if row.media]
        clips.extract()
    rows, counts, _ = read(path, extraction(), allow_missing=True)
    assert list(rows) == ["a", "b", "c", "d", "e", "absent"] and rows["absent"]["text"] == "x"
    assert counts == {
        "media files cannot be read": 2, "rows have no media file": 1, "media files belong to no row": 1,
        "clips have no sound": 1, "clips have no voice": 1, "clips have no face": 1,
        "clips left out: no text, no audio and no vision": 1,
    }  # fmt: skip
    for words in ("FFmpeg reads nothing", "RuntimeError: a library fails", "(a.mp4, f.mp4)", "(absent)", "(extra.mkv)"):
        assert words in caplog.text


class TestPrepare:
    LABELS = "id,label,video,start,end,text\n" + "".join(
        f"{video}{part},{part},{video},{part},{part + 1},x\n" for video in "abcdefgh" for part in range(3)
    )

    @pytest.fixture
    def source(self, folder):
        return ClipSource(str(folder(self.LABELS, **{f"{video}_mp4": str(i) for i, video in enumerate("abcdefgh", 1)})))

    def test_the_folder_is_a_data_set_with_its_extraction(self, source, extraction, tmp_path):
        report = prepare_media(source, str(tmp_path / "out"), extraction())
        assert report["source"] == {"name": "videos", "media": {"files": 8, "seconds": 24.0, "longest_clip": 1.0}}
        assert json.loads((tmp_path / "out" / "media.json").read_text())["audio"] == "descriptors"
        clips = load_clips(ClipSource(str(tmp_path / "out")))
        assert sum(map(len, clips.values())) == 24
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out", "videos"]

    def test_segments_of_a_video_stay_together(self, source, extraction, tmp_path):
        source.split_shares = (0.5, 0.25, 0.25)
        prepare_media(source, str(tmp_path / "out"), extraction())
        clips = load_clips(ClipSource(str(tmp_path / "out")))
        videos = [set(table["video"]) for table in clips.values()]
        assert len(clips) > 1 and sum(map(len, videos)) == len(set.union(*videos)) == 8

    def test_training_rows_are_divided_by_video(self, source, extraction, tmp_path):
        path = tmp_path / "videos" / "labels.csv"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([f"{lines[0]},split", *(f"{line},train" for line in lines[1:])]) + "\n")
        prepare_media(source, str(tmp_path / "out"), extraction())
        clips = load_clips(ClipSource(str(tmp_path / "out"), split_shares=(0.5, 0.25, 0.25)))
        videos = [set(table["video"]) for table in clips.values()]
        assert len(clips) > 1 and sum(map(len, videos)) == 8

    def test_wrong_labels_are_told_before_anything_is_extracted(self, source, extraction, tmp_path):
        extraction = extraction()
        path = tmp_path / "videos" / "labels.csv"
        path.write_text(path.read_text().replace("h2,2", "h2,good"))
        with pytest.raises(DataError, match=r"1 x a label that is no number.*row 24 \(h2\)"):
            prepare_media(source, str(tmp_path / "out"), extraction)
        assert not extraction.extractor.calls and not (tmp_path / "out").exists()

    def test_modalities_choose_what_is_extracted(self, source, extraction, tmp_path):
        source.modalities = ("audio",)
        prepare_media(source, str(tmp_path / "out"), extraction())
        settings = json.loads((tmp_path / "out" / "media.json").read_text())
        assert settings["vision"] is None and settings["audio"] == "descriptors"
        assert set(load_clips(ClipSource(str(tmp_path / "out"), ("audio",)))["train"].column_names) >= {
            "audio",
            "video",
        }

    def test_features_go_the_same_way(self, source, extraction, tmp_path):
        """extract, then prepare: as prepare alone."""
        direct = prepare_media(source, str(tmp_path / "out"), extraction())
        clips = MediaClips(read_media_folder(source.name), extraction())
        write_features(clips, str(tmp_path / "features"))
        by_way = prepare_features(ClipSource(str(tmp_path / "features")), str(tmp_path / "out2"))
        assert by_way["fingerprint"] == direct["fingerprint"]
        assert (tmp_path / "out2" / "media.json").read_text() == (tmp_path / "out" / "media.json").read_text()


class TestFeatures:
    def test_files_without_labels(self, folder, extraction, tmp_path):
        path = folder("", a_mp4="1", b_mp4="2", b_srt=SUBTITLES)
        report = write_features(MediaClips(find_media([path]), extraction()), str(tmp_path / "out"))
        assert (tmp_path / "out" / "labels.csv").read_text() == "id,text\na,\nb,said first said last\n"
        words = json.loads((tmp_path / "out" / "b.words.json").read_text())
        assert words == [[0.0, 0.444, "said"], [0.444, 1.0, "first"], [2.0, 2.5, "said"], [2.5, 3.0, "last"]]
        with np.load(tmp_path / "out" / "a.npz") as arrays:
            assert set(arrays) == {"audio", "vision"} and arrays["audio"].shape == (60, 23)
        assert report["files"] == 2 and report["clips"]["a"]["voiced_share"] == 1.0
        assert json.loads((tmp_path / "out" / "extraction.json").read_text()) == report

    def test_ids_that_come_twice(self, folder, extraction, tmp_path):
        clips = MediaClips(read_media_folder(folder("id,label\na,1\na,2\n", a_mp4="1")), extraction())
        with pytest.raises(DataError, match="two rows have the id 'a'"):
            write_features(clips, str(tmp_path / "out"))
        assert not clips.extraction.extractor.calls
