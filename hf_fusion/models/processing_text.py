"""The rule for texts that can be read, the same in training, in prediction and in exported models; and the error for
inputs that cannot."""

import os
import re
import unicodedata
from collections.abc import Mapping

# Endings of videos and recordings.
MEDIA_ENDINGS = (
    "mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "wmv", "flv", "3gp", "ogv", "mts", "wav", "mp3", "m4a",
    "flac", "ogg", "oga", "opus", "aac", "wma", "aif", "aiff", "amr",
)  # fmt: skip
# Endings of media and data files. A text that is the name of one was meant to be its content.
FILE_ENDINGS = (
    *MEDIA_ENDINGS, "png", "jpg", "jpeg", "gif", "bmp", "tif", "tiff", "webp", "heic", "csv", "tsv", "json", "jsonl",
    "ndjson", "parquet", "arrow", "feather", "xlsx", "xls", "txt", "pkl", "pickle", "npz", "npy", "pt", "pdf", "docx",
    "zip", "tar", "gz", "bz2", "xz", "zst",
)  # fmt: skip
_FILE_NAME = re.compile(rf"[^\r\n]{{1,4096}}\.(?:{'|'.join(FILE_ENDINGS)})", re.IGNORECASE)
_PATH_START = re.compile(r"/\S|\\|~[/\\]|\.{1,2}[/\\]|[a-z]:[/\\]|[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# Categories of characters that show nothing (white space, control and format characters, private use, lone marks) ...
_INVISIBLE = frozenset(("Cc", "Cf", "Co", "Cs", "Zs", "Zl", "Zp", "Mn", "Me"))
# ... and further ones that do not: fillers of Hangul, the blank of Braille, the replacement character.
_BLANKS = frozenset("\u115f\u1160\u3164\uffa0\u2800\ufffd")

# What tools that turn a missing text into a string write.
_MISSING = re.compile(r"\s*nan\s*", re.IGNORECASE)

# Behind the mark that ends a sentence, where white space follows or the script has none; and line breaks. These are
# searched for from the beginning of white space alone: from each place in it, the time would grow with its square.
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？।])\s*|(?<!\s)\s*[\r\n]\s*")


class InputError(ValueError):
    """
    An input that cannot be read. Any other error of a pipeline is one of the program, or of its arguments.

    Args:
        reason (`str`): what is wrong with the input.
        number (`int`, *optional*): position of the input among the inputs, from 0; `None` outside of a pipeline.

    Example:

    ```python
    from hf_fusion.models.processing_text import InputError

    answers = [{"label": "positive", "score": 0.9}, InputError("The text is empty.", 1)]  # with on_error="return"
    [answer.reason for answer in answers if isinstance(answer, InputError)]
    ```
    """

    def __init__(self, reason, number=None):
        super().__init__(reason, number)
        self.reason = reason
        self.number = number

    def __str__(self):
        return self.reason if self.number is None else f"Input {self.number} cannot be read. {self.reason}"


def is_input_error(error):
    """
    Whether an error is an [`InputError`]. It may be of another class of that name: transformers loads the code of a
    checkpoint's pipeline and that of its processor apart.
    """
    return isinstance(error, ValueError) and hasattr(error, "reason") and hasattr(error, "number")


def text_problem(text):
    """
    Why a value cannot be read as a text, in training and in prediction.

    Args:
        text (`Any`): the value.

    Returns:
        `str`, the end of a sentence that begins with "the text"; or `None` for a string of valid Unicode that has a
        visible character, is not "nan" and is not the name of a media or data file.
    """
    if not isinstance(text, str):
        return f"is no text but {type(text).__name__}"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return (
            f"is no valid Unicode: lone surrogate {text[error.start]!r} at character {error.start}. Decode it with "
            "errors='replace'"
        )
    if _MISSING.fullmatch(text):
        return f"is {text.strip()!r}, which stands for a missing one"
    if is_blank(text):
        return "has no visible character" if text.strip() else "is empty"
    if is_file_name(text):
        return (
            f"is the name of a file, {text.strip()[-100:]!r}: give what is said or written in it (audio and vision go "
            "in as frames, files of reviews into `hf-fusion predict`)"
        )
    return None


def is_blank(text):
    """
    `bool`: whether a text says nothing: it is empty, all white space, control characters and the like, or "nan", which
    pandas makes of a missing text.
    """
    return not any(map(_is_visible, text)) or _MISSING.fullmatch(text) is not None


def is_file_name(text):
    """`bool`: whether a text is the name of a media or data file: one word or path, or a file that is there."""
    name = text.strip()
    if not _FILE_NAME.fullmatch(name):
        return False
    return not re.search(r"\s", name) or _PATH_START.match(name) is not None or os.path.isfile(name)


def aspect_words(aspects):
    """
    The words by which a text names each aspect.

    Args:
        aspects (`list[str]` or `dict[str, list[str]]`): the aspects, or each with its synonyms.

    Returns:
        `dict[str, list[str]]`: for each aspect itself and its synonyms.

    Raises:
        ValueError: if `aspects` is something else, or empty.
    """
    if isinstance(aspects, (list, tuple)) and all(isinstance(name, str) for name in aspects):
        aspects = dict.fromkeys(aspects, ())
    words = {}
    if isinstance(aspects, Mapping) and all(isinstance(synonyms, (list, tuple)) for synonyms in aspects.values()):
        words = {name: [name, *synonyms] for name, synonyms in aspects.items()}
    if not words or not all(isinstance(word, str) and word.strip() for names in words.values() for word in names):
        raise ValueError(
            "`aspects` must be words, such as ['room', 'staff'], or words with lists of synonyms, such as "
            f"{{'staff': ['waiter', 'reception']}}, got {aspects!r:.100}."
        )
    return words


def sentences_about(text, words):
    """
    Selects the sentences of a text that name a thing.

    Args:
        text (`str`): the text.
        words (`Sequence[str]`): the words for it, in any case. They are whole words, except in scripts without case,
            most of which join words or write no spaces.

    Returns:
        `str`: the sentences in their order; empty if there is none.
    """
    bare = (word.strip() for word in words)
    whole = (rf"(?<!\w){re.escape(word)}(?!\w)" if word.upper() != word.lower() else re.escape(word) for word in bare)
    named = re.compile("|".join(whole), re.IGNORECASE)
    return " ".join(sentence for sentence in _SENTENCE_END.split(text) if named.search(sentence))


def _is_visible(character):
    return character not in _BLANKS and unicodedata.category(character) not in _INVISIBLE
