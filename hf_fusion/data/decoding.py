"""Text files of any kind, compression and encoding -> lines."""

import bz2
import codecs
import gzip
import io
import logging
import lzma
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, product
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import pyarrow as pa

from hf_fusion.utils.errors import DataError, listed

logger = logging.getLogger(__name__)

TEXT_KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".txt")
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zip", ".zst")
# Every ending, in lower case; [`is_row_file`] compares.
FILE_KINDS = (*TEXT_KINDS, *map("".join, product(TEXT_KINDS, COMPRESSIONS)), ".xlsx", ".parquet")
KNOWN_FILES = f"{', '.join(TEXT_KINDS)} (also compressed: {', '.join(COMPRESSIONS)}), .xlsx and .parquet"
# How other files begin; the first that fits.
_SIGNATURES = {
    b"PAR1": "a parquet file",
    b"PK\x03\x04": "a zip archive or an Excel workbook (.xlsx)",
    b"\x1f\x8b": "a gzip file (.gz)",
    b"\xfd7zXZ\x00": "an xz file (.xz)",
    b"\x28\xb5\x2f\xfd": "a zstd file (.zst)",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Office document (.xls, .doc)",
    b"%PDF-": "a PDF document",
    b"ARROW1": "an Arrow file",
    b"SQLite format 3\x00": "an SQLite database",
    b"\x93NUMPY": "a numpy array (.npy)",
    b"\x89HDF": "an HDF5 file",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"version https://git-lfs": "a pointer of Git LFS; get the file itself by `git lfs pull`",
}
_COMPRESSED = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\x00", ".zip": b"PK", ".zst": b"\x28\xb5\x2f\xfd"}
_PAGES = (b"<!doctype", b"<html", b"<?xml")
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_HEAD = 1 << 18
_GUESS_LINES, _GUESS_BYTES = 100, 32_000
# Encodings that enough bytes beyond ASCII show, and others, which look alike.
_CERTAIN = ("cp1251", "shift_jis", "gb18030", "big5", "euc_kr")
_UNCERTAIN = ("cp1250", "cp1252", "cp1253", "cp1254", "koi8_r")
_SURE_BYTES, _MOST_CHAOS = 50, 0.05
ZERO_BYTE = "holds a zero byte; the file is damaged, or no text."
SURROGATE = re.compile("[\ud800-\udfff]")
# A longer line is no line of a text table; it could fill the memory.
_MAX_LINE = 1 << 28


@dataclass(frozen=True)
class TextFormat:
    """
    Encoding, delimiter and header of text files, where they cannot be found from the content.

    Args:
        encoding (`str`, *optional*): such as "cp1252"; found by default: UTF-8, or UTF-16 and UTF-32 by their marks.
        delimiter (`str`, *optional*): one character between the fields of .csv and .tsv; "tab" is one, too. Found by
            default, in the first lines.
        header (`bool`, *optional*): whether the first line of .csv, .tsv and .xlsx names the columns; otherwise they
            are called "1", "2" ... Yes by default, unless it looks like a row of data, which is an error.

    Raises:
        DataError: if there is no such encoding, or the delimiter is no single character.
    """

    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None

    def __post_init__(self):
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
                b"".decode(self.encoding)
            except (LookupError, TypeError, ValueError, UnicodeError) as error:
                raise DataError(
                    f"`encoding` {self.encoding!r:.50} is none that Python knows, such as cp1252."
                ) from error
        if self.delimiter in ("tab", "\\t"):
            object.__setattr__(self, "delimiter", "\t")
        if self.delimiter is not None and not (
            isinstance(self.delimiter, str) and len(self.delimiter) == 1 and self.delimiter not in '"\r\n\0'
        ):
            raise DataError(f"`delimiter` must be one character such as ; or tab, got {self.delimiter!r:.50}.")
        if self.header not in (None, True, False):
            raise DataError(f"`header` must be true or false, got {self.header!r:.50}.")


AS_FOUND = TextFormat()
# Kinds of files that each field is of.
_TAKERS = {
    "encoding": TEXT_KINDS, "delimiter": (".csv", ".tsv"), "header": (".csv", ".tsv", ".xlsx"),
}  # fmt: skip


def check_taken(text_format: TextFormat, place: str, kinds: Iterable[str] = ()) -> None:
    """
    Checks that each field that is given is one of the input.

    Args:
        text_format: as given.
        place: of the input, for messages.
        kinds: of the files there, as [`kind_of`] tells; none by default.

    Raises:
        DataError: if a field is given that none of them takes.
    """
    kinds = set(kinds)
    for name, takers in _TAKERS.items():
        if getattr(text_format, name) is not None and kinds.isdisjoint(takers):
            raise DataError(f"{place}: takes no `{name}`, which is of {', '.join(takers)}: leave it out.")


def is_row_file(name: str | os.PathLike) -> bool:
    """Whether a name ends like that of a file of rows, in capitals or not."""
    return str(name).lower().endswith(FILE_KINDS)


def kind_of(path: str | os.PathLike) -> str:
    """
    The ending of a file in lower case, without that of its compression; ".jsonl" for .ndjson, which is the same.

    Raises:
        DataError: if it is none of `FILE_KINDS`.
    """
    if not is_row_file(path):
        raise DataError(f"{path}: unknown kind of file; known are {KNOWN_FILES}.")
    name = str(path).lower()
    return Path(name.removesuffix(_compression(path))).suffix.replace(".ndjson", ".jsonl")


def _compression(path):
    return next((ending for ending in COMPRESSIONS if str(path).lower().endswith(ending)), "")


def check_signature(path: str, head: bytes) -> None:
    """Raises [`DataError`] if the first bytes of a file are those of another kind of file; says which."""
    other = next((words for signature, words in _SIGNATURES.items() if head.startswith(signature)), None)
    if head.removeprefix(codecs.BOM_UTF8).lstrip()[:20].lower().startswith(_PAGES):
        other = "an HTML or XML page, such as a failed download leaves"
    if head[:3] == b"BZh" and head[4:10] == b"1AY&SY":
        other = "a bzip2 file (.bz2)"
    if other:
        raise DataError(f"{path}: the ending is that of another kind of file; by its content it is {other}.")


def _open_bytes(path) -> BinaryIO:
    compression = _compression(path)
    if compression in (".gz", ".bz2", ".xz"):
        return {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}[compression](path, "rb")
    if compression == ".zip":
        return _open_member(path)
    if compression == ".zst":
        if not pa.Codec.is_available("zstd"):
            raise DataError(f"{path}: this pyarrow cannot read zstd; decompress the file first.")
        return io.BufferedReader(_Zstd(path))
    return open(path, "rb")


def _open_member(path):
    archive = zipfile.ZipFile(path)
    members = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if len(members) != 1:
        archive.close()
        raise DataError(f"{path}: a .zip must hold one file, this one holds {len(members)}: {listed(members)}.")
    return archive.open(members[0])  # which keeps the archive open


class _Zstd(io.RawIOBase):
    def __init__(self, path):
        self._stream = pa.input_stream(str(path), compression="zstd")

    def readable(self):
        return True

    def readinto(self, buffer):
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self):
        self._stream.close()
        super().close()


def read_head(path: str) -> bytes:
    """
    The first bytes of a file of text, decompressed.

    Raises:
        DataError: if the file is of another kind; says which.
    """
    if compression := _compression(path):
        with open(path, "rb") as file:
            begin = file.read(16)
        if begin and not begin.startswith(_COMPRESSED[compression]):
            check_signature(path, begin)
            raise DataError(f"{path}: cannot be read to the end: no {compression} file by its first bytes.")
    with _open_bytes(path) as file:
        head = file.read(_HEAD)
    check_signature(path, head)
    return head


def find_encoding(head: bytes) -> tuple[str, str]:
    """The encoding of a text by its first bytes, and how it was found: by its byte order mark, by NULs, or UTF-8."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, "" if encoding == "utf-8" else "by its byte order mark"
    if b"\0" in head:
        for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
            text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
            if "\0" not in text and "\ufffd" not in text and ("\n" in text or text.startswith(("[", "{"))):
                return encoding, "by its zero bytes"
    return "utf-8", ""


def encoding_of(path: str, text_format: TextFormat) -> str:
    """
    The encoding of a file: as given, else as [`find_encoding`] finds it, which goes to the log once for each file.

    Raises:
        DataError: if the file is of another kind, or its byte order mark is of another encoding; says which.
    """
    return _encoding_of(path, text_format.encoding, *_stamp(path))


@lru_cache(maxsize=256)
def _encoding_of(path, given, *_stamp):
    head = read_head(path)
    encoding, how = find_encoding(head)
    mark = next((mark for mark, _ in _MARKS if head.startswith(mark)), b"")
    if given and mark.decode(given, "replace").strip("\ufeff"):
        raise DataError(f"{path}: is {encoding} by its byte order mark, not {given}: leave `encoding` out.")
    if how and not given:
        logger.warning("%s: read as %s, %s.", path, encoding, how)
    return given or encoding


def _stamp(path):
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def other_encoding(path: str) -> str | None:
    """
    What to do about a file whose texts are not UTF-8, `None` if all are. It names an encoding only if the bytes leave
    no doubt; those of Latin letters always leave some.
    """
    return _other_encoding(path, *_stamp(path))


@lru_cache(maxsize=256)
def _other_encoding(path, *_stamp):
    with _open_bytes(path) as file:
        sample = b"".join(islice((line for line in file if not _is_utf8(line)), _GUESS_LINES))[:_GUESS_BYTES]
    if not sample:
        return None
    guess = _guess(sample)
    return f"It may be {guess}: set `encoding` to {guess}." if guess else "Set `encoding`, often to cp1252."


def _guess(sample):
    if sum(byte > 127 for byte in sample) < _SURE_BYTES:
        return None
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        return None
    best, *others = [*from_bytes(sample, cp_isolation=[*_CERTAIN, *_UNCERTAIN])] or [None]
    if best is None or best.encoding not in _CERTAIN or best.chaos > _MOST_CHAOS:
        return None
    # in shares of the text: characters that do not go together, and letters as frequent as in a language
    clear = all(other.chaos - best.chaos > 0.1 or best.coherence - other.coherence > 0.2 for other in others)
    return best.encoding if clear else None


def _is_utf8(line):
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def open_text(path: str, encoding: str) -> TextIO:
    """The text of a file, its ends of lines as they are; bad bytes are lone surrogates, see [`unicode_or_error`]."""
    return io.TextIOWrapper(_open_bytes(path), encoding, errors="hf_fusion.mark_bytes", newline="")


def lines(path: str, encoding: str) -> Iterator[str]:
    """
    The lines of a file with their ends; see [`open_text`].

    Raises:
        DataError: if a line is endless.
    """
    with open_text(path, encoding) as file:
        number = 0
        while line := file.readline(_MAX_LINE):
            number += 1
            if len(line) == _MAX_LINE:
                raise DataError(f"{path}, line {number}: longer than {_MAX_LINE:,} characters; no table of texts.")
            yield line if number > 1 else line.removeprefix("\ufeff")


def unicode_or_error(row: dict[str, Any], place: str, encoding: str = "UTF-8") -> dict[str, Any] | DataError:
    """
    The row, or an error if a name or text is no Unicode (bad bytes, or a lone surrogate written as an escape) or holds
    a zero byte.

    Args:
        encoding: in which the bytes of the row were read; "" if they were valid.
    """
    for name, value in row.items():
        for text in _texts((name, value)):
            if found := SURROGATE.search(text):
                if not encoding or not "\udc80" <= found[0] <= "\udcff":
                    return DataError(
                        f"{place}: field {name!r:.100} holds {found[0]!r}, a half of a character, which is no Unicode: "
                        "mend that text."
                    )
                return DataError(f"{place}: field {name!r:.100} is not {encoding}.")
            if "\0" in text:
                return DataError(f"{place}: field {name!r:.100} {ZERO_BYTE}")
    return row


def _texts(value):
    """All texts in a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        yield from _texts([*value, *value.values()])


def _mark_bytes(error):
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("hf_fusion.mark_bytes", _mark_bytes)
