"""Rows of .jsonl and .json files."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from hf_fusion.data.decoding import TextFormat, encoding_of, lines, open_text
from hf_fusion.utils.errors import DataError, listed

# A .json file without a list of rows is read as a whole, and the rows of a list lie between pieces of this size.
_MAX_CHARACTERS, _PIECE = 1 << 28, 1 << 16
_SHAPES = (
    "a list of objects, one object a line, an object of columns (lists of one length, or objects with the same keys), "
    "or one that holds a list of objects under one key"
)
_SPACE = re.compile(r"\s*")


def read_json_lines(
    path: str, text_format: TextFormat, first: int = 0
) -> Iterator[tuple[str, dict[str, Any] | DataError]]:
    """The object of each non-blank line, or a [`DataError`], and its place."""
    for number, line in islice(_full_lines(path, text_format), first, None):
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # also an integer of thousands of digits
            row = DataError(f"{place}: no JSON: {error}")
        yield place, row if isinstance(row, dict | DataError) else _no_object(row, place)


def count_json_lines(path: str, text_format: TextFormat) -> int:
    """Lines of a file that are not blank."""
    return sum(1 for _ in _full_lines(path, text_format))


def read_json(path: str, text_format: TextFormat) -> Iterator[tuple[str, dict[str, Any] | DataError]]:
    """
    The rows of a .json file, or a [`DataError`] for each malformed one, and their places.

    Raises:
        DataError: if it is no JSON, or has no rows in it; says in which shapes they can come.
    """
    with open_text(path, encoding_of(path, text_format)) as file:
        buffer = _Buffer(iter(lambda: file.read(_PIECE), ""))
        if buffer.next_sign() == "[":
            yield from _numbered(path, _items(path, buffer))
            return
    begin = list(islice(_full_lines(path, text_format), 2))
    if len(begin) == 2 and begin[1][1].lstrip().startswith("{"):  # in an object, a key would follow
        yield from read_json_lines(path, text_format)
    elif begin:
        yield from _numbered(path, _rows_of_object(path, _whole(path, text_format)))


def _full_lines(path, text_format):
    numbered = enumerate(lines(path, encoding_of(path, text_format)), 1)
    return ((number, line) for number, line in numbered if line.strip())


def _no_object(row, place):
    return DataError(f"{place}: expected an object, got {type(row).__name__}.")


def _whole(path, text_format):
    with open_text(path, encoding_of(path, text_format)) as file:
        text = file.read(_MAX_CHARACTERS).removeprefix("\ufeff")
    if len(text) >= _MAX_CHARACTERS:
        raise DataError(f"{path}: {_MAX_CHARACTERS:,} characters or more that are no list; give .jsonl.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON: {error}") from error


def _numbered(path, rows):
    for number, row in enumerate(rows, 1):
        place = f"{path}, row {number}"
        yield place, row if isinstance(row, dict) else _no_object(row, place)


class _Buffer:
    """Text that grows at its end and is consumed at its start."""

    def __init__(self, pieces):
        self._pieces = pieces
        self.text, self.at = next(pieces, "").removeprefix("\ufeff"), 0

    def grow(self):
        """Takes in as much of the text as waits to be consumed, or a piece; whether there was any."""
        waiting = [self.text[self.at :]]
        count = max(1, len(waiting[0]) // _PIECE)
        waiting += islice(self._pieces, count)
        self.text, self.at = "".join(waiting), 0
        return len(waiting) > 1

    def next_sign(self):
        """The next character that is no white space; empty at the end."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()
            if self.at < len(self.text) or not self.grow():
                return self.text[self.at : self.at + 1]


def _items(path, buffer):
    """The items of a list, one by one: no more than one, and a piece of the file, lies in memory."""
    count, opened = 0, "["
    while buffer.next_sign() == opened:
        buffer.at += 1
        if not count and buffer.next_sign() == "]":
            break
        yield _item(buffer, f"{path}, row {count + 1}")
        count, opened = count + 1, ","
    ended = buffer.next_sign() == "]"
    buffer.at += ended
    if not ended or buffer.next_sign():
        found = buffer.next_sign() or "the end"
        raise DataError(
            f"{path}, after row {count}: no JSON: expected {'the end' if ended else ', or ]'}, got {found!r}."
        )


def _item(buffer, place):
    while True:
        buffer.next_sign()
        try:
            item, end = json.JSONDecoder().raw_decode(buffer.text, buffer.at)
        except (ValueError, RecursionError) as error:
            if len(buffer.text) < _MAX_CHARACTERS and buffer.grow():  # the item may go on
                continue
            raise DataError(f"{place}: no JSON: {error}") from error
        if end < len(buffer.text) or not buffer.grow():  # a number may go on, too
            buffer.at = end
            return item


def _rows_of_object(path, content):
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected {_SHAPES}; got {type(content).__name__}.")
    tables = [name for name, value in content.items() if value and isinstance(value, list) and _all(dict, value)]
    if len(tables) == 1 and not any(isinstance(content[name], list) for name in content if name != tables[0]):
        return content[tables[0]]
    values = list(content.values())
    if set(content) >= {"columns", "data"} and _all(list, [content["data"], content["columns"]]):
        return _zipped(content["columns"], content["data"])
    if values and _all(list, values) and len(set(map(len, values))) == 1 and not tables:
        return _zipped(list(content), zip(*values, strict=True))
    if values and _all(dict, values) and all(list(value) == list(values[0]) for value in values):
        if all(key.isdigit() for key in values[0]):
            return _zipped(list(content), zip(*(value.values() for value in values), strict=True))
        if all(key.isdigit() for key in content):
            return values
    if values and not any(isinstance(value, list | dict) for value in values):
        return [content]  # one line of .jsonl
    raise DataError(f"{path}: expected {_SHAPES}; got an object with the keys {listed(content)}.")


def _all(kind, values):
    return all(isinstance(value, kind) for value in values)


def _zipped(names, rows):
    names = list(map(str, names))
    return (
        dict(zip(names, row, strict=True)) if isinstance(row, list | tuple) and len(row) == len(names) else row
        for row in rows
    )
