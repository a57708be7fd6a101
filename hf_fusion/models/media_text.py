"""Transcripts: words with their times, read from subtitles or given, and cut into sentences and windows."""

import html
import math
import os
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from transformers.utils import logging

from .processing_text import InputError, is_blank, text_problem

logger = logging.get_logger(__name__)

SUBTITLE_ENDINGS = (".srt", ".vtt")
_LEAST = 0.01  # seconds of a word
MAX_SUBTITLE_BYTES = 8 * 2**20  # some 100 hours of speech
_ACCEPTED = (
    "A transcript is a text, the path of an .srt or .vtt file, or a list of words with times in seconds: "
    '`Word(start, end, text)`, `(start, end, text)` or `{"start": ..., "end": ..., "text": ...}`.'
)


class Word(NamedTuple):
    """
    A word of a transcript; or several that share their times, such as a line of subtitles or a sentence.

    Args:
        start (`float`): its start, in seconds from the start of the recording.
        end (`float`): its end, in seconds.
        text (`str`): the text.

    Example:

    ```python
    from hf_fusion.models.media_text import Word, sentences_of

    words = [Word(0.0, 0.4, "Good"), Word(0.4, 1.0, "morning.")]
    sentences_of(words)  # [Word(0.0, 1.0, "Good morning.")]
    ```
    """

    start: float
    end: float
    text: str


def words_of(transcript, warn=logger.warning):
    """
    Reads a transcript in any of its forms.

    Args:
        transcript (`str`, `os.PathLike`, `list` or `None`):
            a text; the path of subtitles, which ends in `.srt` or `.vtt`; or a list of words in the order of their
            starts, each a [`Word`], a tuple `(start, end, text)` or a dictionary with these three keys.
        warn (`Callable`, *optional*, defaults to a warning in the log): is called with the text of each warning.

    Returns:
        `list[Word]`; a `str` for a text, which has no times; or `None` for no transcript.

    Raises:
        InputError: the transcript is none of these, or cannot be read.
    """
    if transcript is None:
        return None
    if isinstance(transcript, os.PathLike) or (isinstance(transcript, str) and _is_subtitle_name(transcript)):
        return read_subtitles(transcript, warn)
    if isinstance(transcript, str):
        _check_text(transcript)
        return transcript
    if isinstance(transcript, (bytes, dict)) or not isinstance(transcript, Iterable):
        raise InputError(f"The transcript is {type(transcript).__name__}. {_ACCEPTED}")
    words = [_word(value, number) for number, value in enumerate(transcript)]
    for number in range(1, len(words)):
        if words[number].start < words[number - 1].start:
            raise InputError(
                f"Word {number} of the transcript starts at {words[number].start:g} s, before word {number - 1} "
                f"({words[number - 1].start:g} s). Sort the words by their starts."
            )
    if words:
        _check_text(text_of(words))
    return words


def text_of(words):
    """`str` or `None`: the whole text of words, or of a transcript without times; `None` if there is none."""
    return words if isinstance(words, str) else _join(word.text for word in words or ()) or None


def spread_words(text, regions):
    """
    Gives the words of a text without times a place, by their numbers of characters over the time that is spoken.

    Args:
        text (`str`): all that is said.
        regions (`list[tuple[float, float]]`): where something is said, in seconds.

    Returns:
        `list[Word]`: a guess; the words in their order, none of them across a pause.
    """
    tokens, total = text.split(), sum(end - start for start, end in regions)
    length = sum(map(len, tokens))
    words, done, passed, waiting = [], 0.0, 0.0, iter(regions)
    start, end = next(waiting)
    for token in tokens:
        middle = total * (done + len(token) / 2) / length  # in seconds of speech
        while middle > passed + end - start and (following := next(waiting, None)) is not None:
            passed += end - start
            start, end = following
        half = total * len(token) / length / 2
        place = start + middle - passed
        words.append(Word(max(start, place - half), max(start, min(end, place + half)), token))
        done += len(token)
    return words


def single_words(words):
    """
    Splits lines of several words, whose times are estimated by the number of characters, so that each is in the window
    and the sentence in which it is said. A word has at least 10 ms.

    Args:
        words (`list[Word]`): words or lines.

    Returns:
        `list[Word]`: those of a line after each other, also where lines overlap.
    """
    pieces = [
        piece
        for word in words
        for piece in _share_time(word, [part for text in _split_at_ends(word.text) for part in text.split()])
    ]
    return [Word(start, max(end, start + _LEAST), text) for start, end, text in pieces]


def words_beyond(words, seconds):
    """`list[str]`: a warning if words of a recording of so many seconds start after its end."""
    count = sum(word.start > seconds + _LEAST for word in words)
    if not count:
        return []
    return [
        f"{count} of {len(words)} words of the transcript start after the end of the file ({seconds:.1f} s): is it the "
        "transcript of another file?"
    ]


# ------------------------------------------------------------------------------------------------------- given words


def _word(value, number):
    """A word from any of its forms."""
    if isinstance(value, dict):
        value = [value.get(name) for name in Word._fields]
    if isinstance(value, str) or not isinstance(value, Iterable) or len(value := list(value)) != 3:
        raise InputError(f"Word {number} of the transcript is {value!r:.100}. {_ACCEPTED}")
    *times, text = value
    try:
        start, end = map(float, times)
    except (TypeError, ValueError, OverflowError):
        start = end = math.nan
    if not (math.isfinite(start) and math.isfinite(end) and 0 <= start <= end):
        raise InputError(
            f"Word {number} of the transcript lasts from {value[0]!r:.40} to {value[1]!r:.40}. Both are numbers of "
            "seconds from 0 on, and the end is not before the start."
        )
    if not isinstance(text, str) or is_blank(text):
        raise InputError(f"The text of word {number} of the transcript is {text!r:.40}. Leave out words without text.")
    return Word(start, end, text.strip())


def _check_text(text):
    if problem := text_problem(text):
        raise InputError(f"The transcript {problem}. {_ACCEPTED}")


# Scripts without spaces between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese, and full-width punctuation.
_SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")


def _join(texts):
    """Joins texts by spaces, except between characters of scripts that have none."""
    joined, last = [], ""
    for text in filter(None, texts):
        if last and not (_SPACELESS.match(last) and _SPACELESS.match(text)):
            joined.append(" ")
        joined.append(text)
        last = text[-1]
    return "".join(joined)


# --------------------------------------------------------------------------------------------------------- sentences

_SENTENCE_END = re.compile(r"(?:[.!?…]+[\"'”’»)\]]*(?=\s|$)|[。！？]+[\"'”’」』）]*)")
_ABBREVIATION = re.compile(  # before its point; single letters are initials
    r"(?:^|[\s(\"'])(?:[^\W\d_]|mr|mrs|ms|dr|prof|st|vs|jr|sr|etc|e\.g|i\.e|approx|z\.b|d\.h|bzw)$", re.IGNORECASE
)


def sentences_of(words, shortest=1.0, longest=20.0, pause=0.6):
    """
    Cuts a transcript into sentences: at the marks that end them and at pauses.

    Args:
        words (`list[Word]`): words in the order of their starts. Inside a line of several words, the times are
            estimated by the number of characters.
        shortest (`float`, *optional*, defaults to 1.0): a shorter sentence is joined to its nearer neighbour, unless
            that is further away than this or both together are longer than `longest`. In seconds.
        longest (`float`, *optional*, defaults to 20.0): a longer sentence is cut at its longest pauses. In seconds.
        pause (`float`, *optional*, defaults to 0.6): a pause between words that ends a sentence, in seconds.

    Returns:
        `list[Word]`: start, end and text of each sentence. A word is in one of them, whole.
    """
    pieces = [piece for word in words for piece in _split_line(word, longest)]
    groups = []
    for piece in pieces:
        if not groups or _ends_sentence(groups[-1][-1].text) or piece.start - groups[-1][-1].end >= pause:
            groups.append([])
        groups[-1].append(piece)
    groups = [part for group in groups for part in _cut_long(group, longest)]
    return _join_short([_span(group) for group in groups], shortest, longest)


def _split_line(word, longest):
    """A line of subtitles as its sentences; where these are too long, as its words."""
    parts = [part for part in _split_at_ends(word.text) if part]
    if word.end - word.start > longest:
        parts = word.text.split()
    return _share_time(word, parts)


def _share_time(word, parts):
    """The parts of a text as words, which share its time by their numbers of characters."""
    if len(parts) < 2:
        return [word]
    total, done, pieces = sum(map(len, parts)), 0, []
    for part in parts:
        times = [word.start + (word.end - word.start) * share / total for share in (done, done + len(part))]
        pieces.append(Word(*times, part))
        done += len(part)
    return pieces


def _split_at_ends(text):
    first = 0
    for match in _SENTENCE_END.finditer(text):
        if not _ABBREVIATION.search(text[max(first, match.start() - 12) : match.start()]):
            yield text[first : match.end()].strip()
            first = match.end()
    yield text[first:].strip()


def _ends_sentence(text):
    *_, rest = _split_at_ends(text)
    return not rest


def _cut_long(group, longest):
    """Parts of a group of words, none longer than `longest` where the words allow it."""
    parts, waiting = [], [group]
    while waiting:
        group = waiting.pop()
        span = _span(group)
        if span.end - span.start <= longest or len(group) < 2:
            parts.append(group)
            continue
        middle = (span.start + span.end) / 2  # of pauses of the same length, the one nearest to the middle

        def rank(cut, group=group, middle=middle):
            return round(group[cut].start - group[cut - 1].end, 2), -abs(group[cut].start - middle)

        cut = max(range(1, len(group)), key=rank)
        waiting += [group[cut:], group[:cut]]
    return parts


def _span(group):
    return Word(group[0].start, max(word.end for word in group), _join(word.text for word in group))


def _join_short(sentences, shortest, longest):
    """Joins each short sentence to its nearer neighbour, where both together are not too long."""
    joined = []
    for number, sentence in enumerate(sentences):
        following = sentences[number + 1] if number + 1 < len(sentences) else None
        after = following.start - sentence.end if following else math.inf
        if joined:
            last, before = joined[-1], sentence.start - joined[-1].end
            is_short = sentence.end - sentence.start < shortest and before <= after
            is_short |= last.end - last.start < shortest
            if is_short and before <= shortest and max(last.end, sentence.end) - last.start <= longest:
                joined[-1] = _span([last, sentence])
                continue
        joined.append(sentence)
    return joined


# --------------------------------------------------------------------------------------------------------- subtitles

_STAMP = r"(?:(\d{1,9}):)?(\d{1,9}):(\d{1,9})(?:[.,](\d{1,9}))?"
_TIMES = re.compile(rf"\s*(-?){_STAMP}\s*-->\s*(-?){_STAMP}(?![\d:])", re.ASCII)
_WORD_STAMP = re.compile(rf"<{_STAMP}>", re.ASCII)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|</?>|\{\\[^{}]*\}")
_TOUCH = 0.1  # cues that follow each other at once are so near, in seconds
_MOST_REPEATED = 200  # tokens of one cue that the next repeats


def read_subtitles(source, warn=logger.warning):
    """
    Reads subtitles of the formats SubRip (.srt) and WebVTT (.vtt), in UTF-8, UTF-16 or Windows-1252.

    Tags, settings, styles and notes are left out. Lines that roll, so that each cue repeats the one before, are read
    once. Words that have times of their own keep them.

    Args:
        source (`str`, `os.PathLike` or `bytes`): the file, or its content.
        warn (`Callable`, *optional*, defaults to a warning in the log): is called with the text of each warning.

    Returns:
        `list[Word]`: a line per cue, or its words where they have times, in the order of their starts. Empty for an
        empty file.

    Raises:
        InputError: the file cannot be read, has no cue, or is larger than `MAX_SUBTITLE_BYTES`.
    """
    name = "The given content" if isinstance(source, bytes) else os.fspath(source)
    text = _decode(_read(source, name), name, warn)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    is_vtt = lines[0].startswith("WEBVTT") or name.lower().endswith(".vtt")
    cues = list(_cues(lines, is_vtt))
    if not cues and not (is_blank(text) or lines[0].startswith("WEBVTT")):
        raise InputError(
            f"{name} has no subtitles: there is no line with times, such as 00:00:01,000 --> 00:00:02,500. "
            "Accepted are the formats .srt and .vtt."
        )
    kept = [cue for cue in cues if cue.end > cue.start >= 0]
    if len(kept) < len(cues):
        warn(f"{name}: {len(cues) - len(kept)} of {len(cues)} cues end before they start, or as they do. Left out.")
    words = [word for cue in _unroll(kept) for word in cue.words()]
    return sorted(words, key=lambda word: word.start)


def _is_subtitle_name(text):
    return text.strip().lower().endswith(SUBTITLE_ENDINGS) and len(text.strip().splitlines()) == 1


def _read(source, name):
    if isinstance(source, bytes):
        raw = source
    else:
        if not name.lower().endswith(SUBTITLE_ENDINGS):
            raise InputError(f"{name} is no file of subtitles by its name. {_ACCEPTED}")
        try:
            with open(source, "rb") as file:
                raw = file.read(MAX_SUBTITLE_BYTES + 1)
        except (OSError, ValueError) as error:
            raise InputError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if len(raw) > MAX_SUBTITLE_BYTES:
        raise InputError(f"{name} has more than {MAX_SUBTITLE_BYTES} bytes, the limit for subtitles.")
    return raw


def _decode(raw, name, warn):
    """The text of a file; other codings than UTF-8 and UTF-16 cannot be told apart and are read as Windows-1252."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", errors="replace")
    arrow = raw.find(b"\0-\0-\0>")  # each line with times has one; in UTF-16 without a mark its place tells the order
    if arrow >= 0:
        return raw.decode("utf-16-le" if arrow % 2 else "utf-16-be", errors="replace")
    text = raw.decode("utf-8-sig", errors="replace")
    broken = text.count("\ufffd")
    if not broken:
        return text
    if broken > sum(character > "\x7f" for character in text) / 2:
        warn(f"{name} is not UTF-8 and is read as Windows-1252. If its text is wrong, save it as UTF-8.")
        return raw.decode("cp1252", errors="replace")
    warn(f"{name}: {broken} places are not valid UTF-8; a mark stands in their place.")
    return text


class _Cue:
    """A cue of subtitles: times, and its tokens (the parts between white space) with the starts that they have."""

    def __init__(self, start, end, lines):
        self.start, self.end = start, end
        self.tokens = _tokens("\n".join(lines))
        last = next((line for line in reversed(lines) if line.strip()), "")
        self.last_line = max(1, len(_tokens(last)))  # its number of tokens

    @property
    def texts(self):
        return [text for _, text in self.tokens]

    def words(self):
        """Its words: one for the tokens up to each time that is later than the one before."""
        starts, groups = [self.start], [[]]
        for stamp, text in self.tokens:
            if stamp is not None and starts[-1] < stamp < self.end:
                starts.append(stamp)
                groups.append([])
            groups[-1].append(text)
        ends = [*starts[1:], self.end]
        spans = zip(starts, ends, map(_join, groups), strict=True)
        return [Word(*span) for span in spans if not is_blank(span[2])]


def _tokens(text):
    """The parts of a text between white space, each with the time that stands before it, or `None`."""
    matches = list(_WORD_STAMP.finditer(text))
    stamps = [None, *(_seconds(match.groups()) for match in matches)]
    starts = [0, *(match.end() for match in matches)]
    ends = [*(match.start() for match in matches), len(text)]
    parts = [html.unescape(_TAG.sub("", text[start:end])) for start, end in zip(starts, ends, strict=True)]
    return [(stamp, token) for stamp, part in zip(stamps, parts, strict=True) for token in part.split()]


def _cues(lines, is_vtt):
    """The cues between lines with times; those without text too, since a cue of nothing is still a subtitle."""
    marks = [(number, match) for number, line in enumerate(lines) if (match := _TIMES.match(line[:200]))]
    followings = [*(number for number, _ in marks), len(lines)][1:]
    for (number, match), following in zip(marks, followings, strict=True):
        body = lines[number + 1 : following]
        if is_vtt and "" in body:  # notes, styles and names of cues stand after the empty line
            body = body[: body.index("")]
        elif following < len(lines) and _is_cue_name(body):
            body = body[:-1]
        sign, *start = match.groups()[:5]
        end_sign, *end = match.groups()[5:]
        start = 0.0 if sign else _seconds(start)  # some tools shift the first cues to before the start
        yield _Cue(start, -1.0 if end_sign else _seconds(end), body)


def _is_cue_name(body):
    """Whether the line before one with times is the number or the name of its cue, not the end of the cue before."""
    return bool(body) and (body[-1].strip().isdecimal() or (len(body) > 1 and not body[-2].strip()))


def _seconds(groups):
    hours, minutes, seconds, fraction = groups
    return int(hours or 0) * 3600 + int(minutes) * 60 + float(f"{seconds}.{fraction or 0}")


def _unroll(cues):
    """
    Takes out of each cue the lines of the one before it, if the subtitles roll: at least half of the cues begin with
    the last line of a cue that they follow at once, and one of these goes on after it.
    """
    repeats = [0] * bool(cues) + [_repeated(before, cue) for before, cue in pairwise(cues)]
    goes_on = any(0 < repeat < len(cue.tokens) for repeat, cue in zip(repeats, cues, strict=True))
    if goes_on and sum(map(bool, repeats)) * 2 >= len(cues) - 1:
        for repeat, cue in zip(repeats, cues, strict=True):
            cue.tokens = cue.tokens[repeat:]
    return cues


def _repeated(before, cue):
    """Number of tokens at the start of a cue that are the end of the one before: its last line or more, else 0."""
    if not before.tokens or abs(cue.start - before.end) > _TOUCH:
        return 0
    old, new = before.texts, cue.texts
    sizes = range(min(len(old), len(new), _MOST_REPEATED), before.last_line - 1, -1)
    return next((size for size in sizes if old[-size:] == new[:size]), 0)
