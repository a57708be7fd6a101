"""Rows of folders of media files: which file and which part of it belongs to a row."""

import json

import pytest

from hf_fusion.media.folder import find_media, find_subtitles, is_media_folder, read_media_folder
from hf_fusion.utils.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Makes a folder of empty files with a labels file."""

    def make(labels, *names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"")
        (tmp_path / "labels.csv").write_text(labels)
        return tmp_path

    return make


def test_the_file_of_a_row_has_its_id(folder):
    path = folder("id,label\na,1\nb.c,2\nd,0\n", "a.mp4", "b.c.WAV", "a.srt", "b.vtt", "e.mkv", "notes.txt")
    table = read_media_folder(path)
    assert [row.media and row.media.name for row in table.rows] == ["a.mp4", "b.c.WAV", None]
    assert [row.subtitles and row.subtitles.name for row in table.rows] == ["a.srt", None, None]
    assert table.unused == ["e.mkv"] and not table.segmented
    assert [row.fields["label"] for row in table.rows] == ["1", "2", "0"]


def test_rows_share_a_video(folder):
    labels = "id,label,video,start,end\na1,1,in/talk,,2.5\na2,2,in/talk.mp4,2.5,\nb,0,,,\n"
    table = read_media_folder(folder(labels, "in/talk.mp4", "b.ogg"))
    assert [row.media.name for row in table.rows] == ["talk.mp4", "talk.mp4", "b.ogg"] and table.segmented
    assert [(row.start, row.end) for row in table.rows] == [(None, 2.5), (2.5, None), (None, None)]
    assert [row.video for row in table.rows] == ["in/talk", "in/talk", "b"], "one name, with or without the ending"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a,1,,x,", "row 1 (a): 'start' must be a number of seconds from 0 on, got 'x'"),
        ("a,1,,-1,", "row 1 (a): 'start' must be"),
        ("a,1,,0,nan", "row 1 (a): 'end' must be"),
        ("a,1,,3,3", "row 1 (a): 'end' (3) must be after 'start' (3)"),
        ("c,1,,,", "row 1 (c): c.mov and c.mp4 both fit; name one of them in the column 'video'"),
    ],
)
def test_wrong_rows_are_named(row, words, folder):
    path = folder(f"id,label,video,start,end\n{row}\n", "a.mp4", "c.mov", "c.mp4")
    with pytest.raises(DataError) as error:
        read_media_folder(path)
    assert words in str(error.value)


def test_a_video_with_ending_is_unique(folder):
    path = folder("id,label,video\nc,1,c.mp4\n", "c.mov", "c.mp4")
    assert read_media_folder(path).rows[0].media.name == "c.mp4"


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["a.mp4"], True), (["a.mp4", "a.npz"], False), (["a.txt"], False), (["in/a.opus"], True)],
)
def test_media_folders_are_recognised(names, expected, folder):
    assert is_media_folder(folder("id,label\na,1\n", *names)) is expected


def test_a_folder_without_labels_is_none(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    assert not is_media_folder(tmp_path) and not is_media_folder(tmp_path / "a.mp4")


class TestFindMedia:
    def test_ids_are_names(self, folder):
        path = folder("", "x/a.mp4", "x/b.wav", "x/b.txt", "c.mkv")
        table = find_media([path / "x", path / "c.mkv"])
        assert [row.id for row in table.rows] == ["a", "b", "c"]

    def test_equal_names_have_their_folders(self, folder):
        path = folder("", "x/a.mp4", "y/a.mp4")
        assert [row.id for row in find_media([path]).rows] == ["x_a", "y_a"]

    def test_equal_ids(self, folder):
        path = folder("", "a.mp4", "a.wav")
        with pytest.raises(DataError, match=r"a\.mp4 and .*a\.wav would both have the id 'a'"):
            find_media([path])

    def test_nothing(self, folder):
        path = folder("", "a.txt")
        with pytest.raises(DataError, match="no media files"):
            find_media([path])
        with pytest.raises(FileNotFoundError, match=r"b\.mp4"):
            find_media([path / "b.mp4"])


def test_other_labels_files(folder, tmp_path):
    path = folder("", "a.mp4")
    (path / "labels.csv").unlink()
    (path / "labels.jsonl").write_text(json.dumps({"id": "a", "label": 1, "start": 0.5}) + "\n")
    assert read_media_folder(path).rows[0].start == 0.5


def test_subtitles_in_capitals(tmp_path):
    (tmp_path / "TALK.SRT").touch()
    assert find_subtitles(tmp_path / "TALK.MP4") == tmp_path / "TALK.SRT"
