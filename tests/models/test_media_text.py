"""Subtitles in every coding and style, transcripts in every form, sentences and windows."""

import codecs
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from hf_fusion.models.media_text import (
    MAX_SUBTITLE_BYTES,
    Word,
    read_subtitles,
    sentences_of,
    text_of,
    words_of,
)
from hf_fusion.models.processing_text import InputError, text_problem

TWO = [Word(1.0, 2.5, "Good morning."), Word(100 * 3600 + 2.0, 100 * 3600 + 3.25, "Café, naïve?")]
SRT = "1\n00:00:01,000 --> 00:00:02,500\nGood morning.\n\n2\n100:00:02,000 --> 100:00:03,250\nCafé,\nnaïve?\n"
VTT = """WEBVTT - talk

STYLE
::cue { color: red }

REGION
id:a

NOTE made
by hand --> not a cue

00:01.000 --> 00:02.500 align:start position:0%
<v Ann>Good <i>morning</i>.

NOTE 00:00:01.000 --> 00:00:02.000 was wrong

intro
100:00:02.000 --> 100:00:03.250
<c.yellow>Caf&eacute;,</c>
na&#239;ve?
"""


def warnings_of(source):
    warnings = []
    return read_subtitles(source, warnings.append), warnings


@pytest.mark.parametrize("text", [SRT, VTT], ids=["srt", "vtt"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("coding", "mark"),
    [
        ("utf-8", b""), ("utf-8", codecs.BOM_UTF8), ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE), ("utf-16-le", b""), ("utf-16-be", b""),
    ],
)  # fmt: skip
def test_codings(text, newline, coding, mark):
    assert warnings_of(mark + text.replace("\n", newline).encode(coding)) == (TWO, [])


def test_windows_1252_is_said():
    words, warnings = warnings_of(SRT.encode("cp1252"))
    assert words == TWO
    assert len(warnings) == 1 and "is not UTF-8 and is read as Windows-1252" in warnings[0]


def test_a_broken_place_in_utf_8_is_said():
    raw = SRT.replace("Good", "Göod").encode().replace("ö".encode(), b"\xff")
    words, warnings = warnings_of(raw)
    assert words == [TWO[0]._replace(text="G\ufffdod morning."), TWO[1]]
    assert "1 places are not valid UTF-8" in warnings[0]


def test_a_file_by_its_path(tmp_path):
    for name in ("a b.srt", "Talk.SRT"):
        (tmp_path / name).write_text(SRT, encoding="utf-8")
        assert words_of(tmp_path / name) == words_of(str(tmp_path / name)) == TWO


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("00:01,5 --> 00:02\nno number", [Word(1.5, 2, "no number")]),
        ("0:00:01.000-->0:00:02.000 X1:1 Y1:2\n{\\an8}top <b>bold</b>", [Word(1, 2, "top bold")]),
        ("1\n00:01,0 --> 00:02,0\na\n2\n00:02,0 --> 00:03,0\nb", [Word(1, 2, "a"), Word(2, 3, "b")]),
        ("1\n00:01,0 --> 00:02,0\na\n\nb\n\n2\n00:02,0 --> 00:03,0\n1984", [Word(1, 2, "a b"), Word(2, 3, "1984")]),
        ("00:05.0 --> 00:06.0\nlate\n\n00:01.0 --> 00:09.0\nearly", [Word(1, 9, "early"), Word(5, 6, "late")]),
        ("-00:01.0 --> 00:02.0\nshifted", [Word(0, 2, "shifted")]),
        ("1\n00:00:01,000 --> 00:00:02,000\n\n\n2\n00:00:02,000 --> 00:00:03,000\nb", [Word(2, 3, "b")]),
        ("00:01.0 --> 00:02.0\n&lt;i&gt; 1 < 2 &amp; 3", [Word(1, 2, "<i> 1 < 2 & 3")]),
        ("00:01.0 --> 00:02.0\n你好\n世界", [Word(1, 2, "你好世界")]),
    ],
)  # fmt: skip
def test_styles(text, words):
    assert warnings_of(text.encode()) == (words, [])


@pytest.mark.parametrize("text", ["", " \n\n", "\ufeff", "WEBVTT\n", "WEBVTT\n\nNOTE nothing is said\n"])
def test_an_empty_file_has_no_words(text):
    assert warnings_of(text.encode()) == ([], []) and words_of([]) == [] and text_of([]) is None


def test_cues_without_length_are_counted():
    cues = "00:01.0 --> 00:02.0\na\n\n00:03.0 --> 00:03.0\nb\n\n00:05.0 --> 00:04.0\nc\n\n-00:05.0 --> -00:04.0\nd"
    words, warnings = warnings_of(cues.encode())
    assert words == [Word(1, 2, "a")]
    assert len(warnings) == 1 and "3 of 4 cues end before they start" in warnings[0]


ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:00.160 --> 00:00:02.350 align:start position:0%
 
hello<00:00:00.480><c> and</c><00:00:00.640><c> welcome</c>

00:00:02.350 --> 00:00:02.360 align:start position:0%
hello and welcome
 

00:00:02.360 --> 00:00:04.309 align:start position:0%
hello and welcome
to<00:00:02.520><c> the</c><00:00:02.680><c> show</c>

00:00:04.309 --> 00:00:04.319 align:start position:0%
to the show
 

00:00:04.319 --> 00:00:05.000 align:start position:0%
to the show
show
"""  # noqa: W293 - a line with a space is part of a cue


def test_rolling_captions_with_times_of_words():
    assert read_subtitles(ROLLING.encode()) == [
        Word(0.16, 0.48, "hello"), Word(0.48, 0.64, "and"), Word(0.64, 2.35, "welcome"),
        Word(2.36, 2.52, "to"), Word(2.52, 2.68, "the"), Word(2.68, 4.309, "show"), Word(4.319, 5.0, "show"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "cues",
    [
        ["a b", "a b\nc d", "c d\ne f", "e f"],
        ["a b", "a b\nc d", "a b\nc d\ne f"],
        ["a b", "a b c d", "a b c d e f"],
    ],
    ids=["two lines", "three lines", "growing"],
)
def test_rolling_captions_of_lines(cues):
    text = "\n\n".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n + 1},000\n{cue}" for n, cue in enumerate(cues))
    assert text_of(read_subtitles(text.encode())) == "a b c d e f"


@pytest.mark.parametrize(
    "cues",
    [
        ["No.", "No.", "No."],
        ["No.", "No.", "Never\nagain", "again", "and again", "Go!\nGo!"],
        ["Once", "upon", "a time", "a time\nlong ago", "there", "was", "one."],
    ],
)
def test_what_is_said_twice_stays(cues):
    text = "\n\n".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n + 1},000\n{cue}" for n, cue in enumerate(cues))
    assert text_of(read_subtitles(text.encode())) == " ".join(cues).replace("\n", " ")


def test_times_of_words_out_of_order_are_no_times():
    text = "WEBVTT\n\n00:01.000 --> 00:03.000\na <00:02.000>b <00:01.500>c <00:09.000>d"
    assert read_subtitles(text.encode()) == [Word(1, 2, "a"), Word(2, 3, "b c d")]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.srt", b"Hello there,\nno times here.", r"a\.srt' has no subtitles|a\.srt has no subtitles"),
        ("a.vtt", bytes(range(256)) * 20, "has no subtitles"),
        ("a.srt", b"00:00:01 -> 00:00:02\nx", "has no subtitles"),
        ("a.txt", SRT.encode(), "no file of subtitles by its name"),
        ("a.srt", b"1" * (MAX_SUBTITLE_BYTES + 1), f"more than {MAX_SUBTITLE_BYTES} bytes"),
        ("missing.srt", None, "cannot be read: No such file"),
        ("folder.srt", "folder", "cannot be read: Is a directory"),
    ],
    ids=["text", "bytes", "arrow", "ending", "large", "missing", "folder"],
)
def test_refused_files(tmp_path, name, content, words):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words) as refused:
        words_of(path)
    assert name in str(refused.value)


@pytest.mark.parametrize("piece", [b"1", b"<", b"{\\", b"&", b"00:", b"-->\n", b"a\n", b"\0-\0-\0>", b"<00:00:01.000>"])
def test_junk_is_read_in_bounded_time(piece):
    raw = b"00:00:01,000 --> 00:00:02,000\n" + piece * (2**20 // len(piece))
    start = time.process_time()
    with suppress(InputError):
        read_subtitles(raw)
    assert time.process_time() - start < 10


# --------------------------------------------------------------------------------------------------- property tests

# a letter first, so that no line is a number or a tag of any kind
lines = st.text("aeiäéß9 .,!?'\"-", max_size=20).map(lambda text: " ".join(f"x{text}y".split()))


@dataclass
class File:
    words: list = field(default_factory=list)
    text: str = ""


@st.composite
def files(draw):
    """Cues and a file of them in a style of its own; no cue begins with the text of the one before."""
    is_vtt, file, now = draw(st.booleans()), File(), draw(st.integers(0, 2 * 3600_000))
    point = "." if is_vtt else draw(st.sampled_from(",."))
    blocks = ["WEBVTT" + draw(st.sampled_from(["", " title", "\nKind: captions"]))] if is_vtt else []
    for number in range(draw(st.integers(1, 6))):
        start = now + draw(st.integers(0, 400_000_000 if number == 5 else 5000))
        now = start + draw(st.integers(1, 9000))
        text = [f"{'abcdef'[number]}{line}" for line in draw(st.lists(lines, min_size=1, max_size=3))]
        file.words.append(Word(start / 1000, now / 1000, " ".join(text)))
        times = [_clock(time, point, is_vtt and draw(st.booleans())) for time in (start, now)]
        body = [f"{times[0]} --> {times[1]}" + draw(st.sampled_from(["", " align:start", "  "])), *text]
        if not is_vtt or draw(st.booleans()):
            body.insert(0, str(number + 1))
        blocks.append("\n".join(body))
        if is_vtt and draw(st.booleans()):
            blocks.append("NOTE " + draw(lines))
    file.text = draw(st.sampled_from(["\n\n", "\n\n\n"])).join(blocks) + draw(st.sampled_from(["", "\n", "\n\n"]))
    return file


def _clock(milliseconds, point, is_short):
    seconds, milliseconds = divmod(milliseconds, 1000)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    hours = "" if is_short and not hours else f"{hours:02}:"
    return f"{hours}{minutes:02}:{seconds % 60:02}{point}{milliseconds:03}"


@given(files(), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]),
       st.sampled_from(["\n", "\r\n", "\r"]))  # fmt: skip
def test_written_cues_are_read(file, coding, newline):
    words = read_subtitles(file.text.replace("\n", newline).encode(coding), warn=lambda text: None)
    assert [word.text for word in words] == [word.text for word in file.words]
    for read, written in zip(words, file.words, strict=True):
        assert read.start == pytest.approx(written.start, abs=1e-6) and read.end == pytest.approx(written.end, abs=1e-6)


nasty = st.lists(
    st.sampled_from(["WEBVTT", "\n", "\n\n", "00:01.000 --> 00:02.000", "-->", "NOTE", "<00:00:01.5>", "<c>", "</",
                     "&#xD800;", "{\\an8}", "1", "\r", "999999999:99:99,9", "\x00", "\ufffd", "\u2028", "a b", "-"])
    | st.text(max_size=5),
    max_size=25,
).map("".join)  # fmt: skip


@given(st.binary(max_size=200) | nasty.map(lambda text: text.encode("utf-8", "surrogatepass")) | nasty.map(
    lambda text: text.encode("utf-16", "surrogatepass")))  # fmt: skip
@example(b"\xff\xfe")
@example(b"\xfe\xff\x00")
def test_hostile_bytes_give_words_or_an_input_error(raw):
    try:
        words = read_subtitles(raw, warn=lambda text: None)
    except InputError:
        return
    assert words == sorted(words, key=lambda word: word.start)
    for word in words:
        assert 0 <= word.start < word.end < float("inf")
        word.text.encode("utf-8")
    check_sentences(words)


@given(st.text(max_size=30))
def test_hostile_texts_are_texts_or_input_errors(text):
    assume(not text.strip().lower().endswith((".srt", ".vtt")))
    try:
        assert words_of(text) == text and text_problem(text) is None
    except InputError:
        assert text_problem(text)


scalars = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.binary(max_size=3)


@given(scalars | st.lists(scalars | st.tuples(scalars, scalars, scalars) | st.dictionaries(
    st.sampled_from(["start", "end", "text"]), scalars), max_size=4) | st.dictionaries(scalars, scalars))  # fmt: skip
@example([(0, 10**400, "a")])
@example([(0, 1, "\ud800")])
def test_hostile_values_are_words_or_input_errors(value):
    assume(not isinstance(value, str))
    try:
        words = words_of(value)
    except InputError:
        return
    assert words is None or all(isinstance(word, Word) for word in words)


# ------------------------------------------------------------------------------------------------------- given words


def test_forms_of_words():
    given = [Word(0, 1, "a"), (1, 2, " b "), {"start": 2, "end": 2, "text": "c", "score": 0.9}, ["3", 4.5, "d"]]
    words = words_of(iter(given))
    assert words == [Word(0, 1, "a"), Word(1, 2, "b"), Word(2, 2, "c"), Word(3, 4.5, "d")]
    assert text_of(words) == "a b c d" and words_of(None) is None and words_of("Hi there.") == "Hi there."
    assert words_of(Path(__file__).name.replace(".py", ". See it")) == "test_media_text. See it"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (5, "The transcript is int"), (b"x", "The transcript is bytes"), ({"start": 1}, "The transcript is dict"),
        (Path("a.txt"), "a.txt is no file of subtitles"), ("talk.srt", "talk.srt cannot be read"),
        ("", "is empty"), ("nan", "stands for a missing one"), ("a.mp4", "is the name of a file"),
        (["a b"], "Word 0 of the transcript is 'a b'"), ([(0, 1)], r"Word 0 of the transcript is \[0, 1\]"),
        ([(0, 1, "a"), (2, 1, "b")], "Word 1 of the transcript lasts from 2 to 1"),
        ([(-1, 1, "a")], "lasts from -1 to 1"), ([(0, float("inf"), "a")], "lasts from 0 to inf"),
        ([("x", 1, "a")], "lasts from 'x' to 1"), ([{"text": "a"}], "lasts from None to None"),
        ([(0, 1, " ")], "The text of word 0 of the transcript is ' '"), ([(0, 1, None)], "is None"),
        ([(1, 2, "a"), (0, 1, "b")], r"Word 1 of the transcript starts at 0 s, before word 0 \(1 s\)"),
        ([(0, 1, "a\ud800")], "lone surrogate"),
    ],
)  # fmt: skip
def test_refused_transcripts(value, words):
    with pytest.raises(InputError, match=words):
        words_of(value)


# ------------------------------------------------------------------------------------------------ windows, sentences


def spoken(text, start=0.0, pause=0.0, length=0.5):
    words = []
    for part in text.split():
        words.append(Word(start, start + length, part))
        start += length + pause
    return words


def test_sentences_end_at_marks_and_pauses():
    words = spoken('Mr. Smith paid 3.5 dollars, e.g. here. Really?! "Yes." So then', 0) + spoken("he left…", 8)
    assert [s.text for s in sentences_of(words, shortest=0)] == [
        "Mr. Smith paid 3.5 dollars, e.g. here.", "Really?!", '"Yes."', "So then", "he left…",
    ]  # fmt: skip
    assert [s.text for s in sentences_of(spoken("a b", pause=0.59))] == ["a b"]
    assert [s.text for s in sentences_of(spoken("a b", pause=0.61), shortest=0)] == ["a", "b"]


def test_short_sentences_join_their_nearer_neighbour():
    words = [Word(0, 2, "One two."), Word(2.5, 2.9, "Yes."), Word(3, 5, "Three four."), Word(8, 8.2, "No.")]
    assert sentences_of(words) == [
        Word(0, 2, "One two."), Word(2.5, 5, "Yes. Three four."), Word(8, 8.2, "No."),
    ]  # fmt: skip
    assert len(sentences_of(words, longest=2.2)) == 4


def test_long_sentences_are_cut_at_their_longest_pauses():
    words = spoken("a b c d", 0) + spoken("e f g h", 2.4)
    assert [s.text for s in sentences_of(words, longest=3)] == ["a b c d", "e f g h"]
    even = sentences_of(spoken("a b c d e f g h"), longest=2.5)
    assert [s.text for s in even] == ["a b c d", "e f g h"]


def test_lines_of_several_sentences():
    line = [Word(0, 6, "Hello there. What is"), Word(6, 7, "that?")]
    assert sentences_of(line) == [
        Word(0, pytest.approx(6 * 12 / 19), "Hello there."), Word(pytest.approx(6 * 12 / 19), 7, "What is that?"),
    ]  # fmt: skip
    assert [s.text for s in sentences_of([Word(0, 3, "你好。世界！再見")], shortest=0)] == ["你好。", "世界！", "再見"]
    assert max(s.end - s.start for s in sentences_of([Word(0, 60, "aa bb cc dd ee ff")], longest=20)) <= 20


def check_sentences(words):
    sentences = sentences_of(words)
    assert "".join("".join(s.text.split()) for s in sentences) == "".join("".join(w.text.split()) for w in words)
    assert all(before.start <= after.start for before, after in pairwise(sentences))


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3), lines), max_size=20))
def test_sentences_keep_every_word(steps):
    words, now = [], 0.0
    for pause, length, text in steps:
        words.append(Word(now + pause, now + pause + length, text))
        now += pause + length
    check_sentences(words)
    for sentence in sentences_of(words):
        assert sentence.end - sentence.start <= 20 + 1e-6
