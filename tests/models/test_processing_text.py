import time

import pytest

from hf_fusion.models.processing_text import is_file_name, sentences_about, text_problem


@pytest.mark.parametrize(
    "text",
    ["ok", "!", "😀", "好", "see my video.mp4", "v1.2", "a\x00b", "Nice.Really nice.", "0", "my nan", "None", "-"],
)
def test_readable(text):
    assert text_problem(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (" \t\u3000\u2028\n", "is empty"),
        ("\u200b\ufeff", "has no visible character"),
        ("\x07\u200e \u00ad", "has no visible character"),
        ("\u0301", "has no visible character"),
        ("\u3164\ufffd", "has no visible character"),
        ("nan", "is 'nan', which stands for a missing one"),
        (" NaN\n", "is 'NaN', which stands for a missing one"),
        (None, "is no text but NoneType"),
        (float("nan"), "is no text but float"),
        (b"good", "is no text but bytes"),
        ("go\udc80od", r"is no valid Unicode: lone surrogate '\\udc80' at character 2"),
        ("talk_07.WebM", r"is the name of a file, 'talk_07\.WebM'"),
        (" clips/a.flac\n", r"is the name of a file, 'clips/a\.flac'"),
        ("/data/my clips/0 1.mkv", "is the name of a file"),
        ("C:\\Users\\me\\my photo.jpeg", "is the name of a file"),
        ("https://example.org/v/3.m4a", "is the name of a file"),
        ("reviews.parquet", "is the name of a file"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_not_readable(text, words):
    import re

    assert re.match(words, text_problem(text))


def test_a_sentence_is_the_name_of_a_file_where_that_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not is_file_name("my first talk.mov")
    (tmp_path / "my first talk.mov").write_bytes(b"")
    assert is_file_name("my first talk.mov") and not is_file_name("I saw my first talk.mov")


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("Nice room. Rude staff.", ["staff"], "Rude staff."),
        ("Nice room.\nRude staff", ["ROOM"], "Nice room."),
        ("A mushroom. A bedroom!", ["room"], ""),
        ("The check-in (slow) took 1.5 hours. Fine.", ["check-in"], "The check-in (slow) took 1.5 hours."),
        ("部屋は広い。朝食は冷たい。", ["朝食"], "朝食は冷たい。"),
        ("الغرفة نظيفة. الموظفون طيبون.", ["غرفة"], "الغرفة نظيفة."),
        ("a+b is good. ab is bad.", ["a+b"], "a+b is good."),
        ("Nice room. Rude staff.", [" staff "], "Rude staff."),
        ("Nice room  \n\n  rude staff", ["staff"], "rude staff"),
    ],
)
def test_sentences_about(text, words, expected):
    assert sentences_about(text, words) == expected


def test_long_white_space_is_read_once():
    start = time.process_time()
    assert sentences_about("Nice" + " " * 100_000 + "room.", ["room"]).endswith("room.")
    assert time.process_time() - start < 2, "it took half a minute where each space began a search"
