"""Tables of text: .csv, .tsv and .xlsx -> rows."""

import csv
import logging
import os
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice

from hf_fusion.data.decoding import ZERO_BYTE, TextFormat, encoding_of, kind_of, lines
from hf_fusion.utils.errors import DataError, listed
from hf_fusion.utils.extras import import_extra

logger = logging.getLogger(__name__)

_DELIMITERS = (",", ";", "\t", "|")
_NO_DELIMITER = "\x1f"  # of a file with one column: a character that no text has
_NAMES = {"\t": "a tab", " ": "a space"}
# A row of more lines is one whose quotation mark was never closed.
_MAX_ROW_LINES = 1000
_SAMPLE_LINES, _SAMPLE_CHARACTERS = 1000, 1 << 20
# Rows by which a header is told from data, and a few short values from texts.
_PEEK_ROWS, _MAX_VALUES, _MAX_VALUE = 100, 10, 30
# Rows without a space behind a delimiter after which a line with one is none.
_TIGHT_ROWS = 10
_LINE_END = re.compile("\r\n|\r|\n")

csv.field_size_limit(sys.maxsize)  # a text may be longer than the 131,072 characters that csv takes for an error


@dataclass(frozen=True)
class Layout:
    """
    Delimiter, quotation and header of a file of separated fields.

    Args:
        encoding: of its characters.
        delimiter: between fields.
        quoted: whether quotation marks enclose fields; they are text otherwise.
        spaced: whether a space follows each delimiter.
        declares: whether the first line is `sep=;`, which Excel reads.
        values: by its index, the values of each column that has only numbers (`None`) or a few short texts.
        width: number of columns.
        sampled: whether `values` are known.
        tight: whether no space follows a delimiter in many rows, as it does in prose.
    """

    encoding: str
    delimiter: str
    quoted: bool = True
    spaced: bool = False
    declares: bool = False
    values: tuple[tuple[int, frozenset[str] | None], ...] = ()
    width: int = 0
    sampled: bool = False
    tight: bool = False

    def reader(self, file: Iterable[str]):
        """The parser of the standard library for this layout."""
        quoting = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        return csv.reader(file, delimiter=self.delimiter, quoting=quoting, skipinitialspace=self.spaced, strict=True)


def read_table(path: str, text_format: TextFormat) -> Iterator[tuple[str, dict[str, str] | DataError]]:
    """Rows of a .csv or .tsv file, or what is wrong with them, and the place of each."""
    layout = find_layout(path, text_format)
    numbered = enumerate(lines(path, layout.encoding), 1)
    numbered = islice(numbered, int(layout.declares), None)
    yield from _to_rows(_records(numbered, layout, path), path, "line", text_format)


def read_texts(path: str, text_format: TextFormat) -> Iterator[tuple[str, dict[str, str]]]:
    """Lines of a .txt file, each a text of its own, and the place of each."""
    encoding = encoding_of(path, text_format)
    for number, line in enumerate(lines(path, encoding), 1):
        yield f"{path}, line {number}", {"text": line.rstrip("\r\n")}


def read_workbook(path: str, text_format: TextFormat) -> Iterator[tuple[str, dict[str, str] | DataError]]:
    """Rows of the first sheet of an .xlsx file as texts, and the place of each; formulas are not computed."""
    yield from _to_rows(_sheet_records(path), path, "row", text_format)


def _to_rows(records, path, unit, text_format):
    """Pairs of a number and fields (or an error) -> pairs of a place and a row (or an error)."""
    records = iter(records)
    peek = list(islice(records, _PEEK_ROWS))
    if not peek:
        return
    number, first = peek[0]
    if isinstance(first, DataError):
        raise DataError(f"{first} The first {unit} should name the columns.")
    others = [fields for _, fields in peek[1:] if not isinstance(fields, DataError)]
    if text_format.header is False:
        names = [str(index + 1) for index in range(len(first))]
    else:
        names = _column_names(first, others, f"{path}, {unit} {number}", text_format.header)
        peek = peek[1:]
    for number, fields in chain(peek, records):
        place = f"{path}, {unit} {number}"
        yield place, fields if isinstance(fields, DataError) else _to_row(fields, names, place)


def _column_names(first, others, place, header):
    first = [name.strip() for name in first]
    while first and not first[-1] and not any("".join(fields[len(first) - 1 :]) for fields in others):
        first.pop()  # of a delimiter at the end of the lines
    if header is None and _is_data(first, others):
        raise DataError(
            f"{place}: looks like a row of data, not like names of columns: {listed(first)}. If it is one, set "
            "`header` to false: the columns are then called 1, 2 ... If these are names, set it to true."
        )
    names = [name or f"Unnamed: {index}" for index, name in enumerate(first)]
    if len(set(names)) < len(names):
        raise DataError(f"{place}: a column is named twice; there are {listed(names)}.")
    return names


def _is_data(first, others):
    """Whether the first line is data, with a number in a column of numbers. Numbers that count columns are names."""
    named = [(index, name) for index, name in enumerate(first) if name]
    if all(name in (str(index), str(index + 1)) for index, name in named) and len(named) > 1:
        return False
    return any(
        _is_number(name) and all(_is_number(fields[index]) for fields in others if index < len(fields))
        for index, name in named
    )


def _to_row(fields, names, place):
    if len(fields) != len(names):
        if len(fields) < len(names) or any(fields[len(names) :]):
            return DataError(
                f"{place}: {len(names)} columns are declared in the first line, but the row has "
                f"{'more' if len(fields) > len(names) else 'fewer'} ({len(fields)})."
            )
        fields = fields[: len(names)]
    if any("\0" in field for field in fields):
        return DataError(f"{place}: {ZERO_BYTE}")
    return dict(zip(names, fields, strict=True))


def _is_number(text):
    try:
        float(text.strip().replace(",", ".", 1))
    except ValueError:
        return False
    return True


class _Lines:
    """Numbered lines, of which those that a row has taken can be given back."""

    def __init__(self, numbered):
        self._numbered = iter(numbered)
        self._waiting = deque()
        self.taken = []

    def __iter__(self):
        return self

    def __next__(self):
        if len(self.taken) >= _MAX_ROW_LINES:
            raise csv.Error(f"a quotation mark is not closed within {_MAX_ROW_LINES} lines")
        self.taken.append(self._waiting.popleft() if self._waiting else next(self._numbered))
        return self.taken[-1][1]

    def give_back(self):
        """All but the first."""
        self._waiting.extendleft(reversed(self.taken[1:]))


def _records(numbered, layout, path):
    """
    Pairs of the number of a line and the fields of the row that begins there, or an error. After an error, the next
    line is read as a row of its own: a quotation mark that is never closed takes one line away, not all that follow.
    But a row that is well formed and may be one text or many rows is one error: no row is made of its middle.
    """
    source = _Lines(numbered)
    reader = layout.reader(source)
    failed, doubtful = False, 0  # whether the row before failed, and the last line that a failed row took in
    while True:
        source.taken.clear()
        try:
            fields, problem = next(reader), ""
        except StopIteration:
            return
        except csv.Error as error:
            fields, problem = [], str(error)
        taken = [line for _, line in source.taken]
        number = source.taken[0][0]
        if not problem and len(taken) > 1 and _is_wide(fields, layout) and _swallows(fields, layout):
            failed = False
            yield number, _ambiguous(number, source.taken[-1][0], path)
            continue
        problem = problem or _problem(taken, fields, layout, failed, number <= doubtful)
        failed = bool(problem)
        if problem:
            if len(taken) > 1:
                doubtful = max(doubtful, source.taken[-1][0])
            source.give_back()
            yield number, DataError(f"{path}, line {number}: malformed csv: {problem}.")
        elif fields:  # the line is not blank
            yield number, fields


def _ambiguous(first, last, path):
    return DataError(
        f"{path}, lines {first}-{last}: malformed csv: a quotation mark that opens in line {first} would make one text "
        f"of {last - first + 1} lines that look like rows. If it is none, correct it; if it is one text, give the data "
        "as .jsonl or .parquet."
    )


def _problem(taken, fields, layout, failed, doubtful):
    """The reason to reject a row that could be parsed; empty if there is none."""
    if len(taken) > 1:
        if _is_wide(fields, layout):
            return ""
        return f"quotation marks make one row of {len(taken)} lines, but {len(fields)} columns of {layout.width}"
    if (failed or doubtful) and taken[0].count('"') % 2:
        return "a single quotation mark after a row that is malformed, perhaps its rest"
    if doubtful and layout.width and fields and not (layout.width > 1 and _agrees(fields, range(layout.width), layout)):
        return "lies behind a quotation mark that is not closed, and does not look like a row"
    return ""


def _is_wide(fields, layout):
    """Whether a row has all columns and no more, as far as their number is known."""
    return not layout.width or (len(fields) >= layout.width and not any(fields[layout.width :]))


def _swallows(fields, layout):
    """
    Whether a text of several lines is made of rows: most of its lines have the columns that would stand there. Where
    no column shows it by its values, the whole lines between the first and the last decide.
    """
    told = []
    for index, field in enumerate(fields[: layout.width]):
        pieces = _LINE_END.split(field)
        for number, piece in enumerate(pieces if len(pieces) > 1 else ()):
            columns = range(index if number == 0 else 0, index + 1 if number == len(pieces) - 1 else layout.width)
            shown = any(column in columns and column != index for column, _ in layout.values)
            whole = layout.sampled and 0 < number < len(pieces) - 1
            counts = shown or whole or layout.delimiter == "\t" or len(columns) > 3
            if len(columns) > 1 and counts and piece.strip():
                parts = piece.split(layout.delimiter)
                prose = layout.tight and not shown and all(part.startswith(" ") for part in parts[1:])
                told.append(not prose and _agrees(parts, columns, layout, index))
    return 2 * sum(told) > len(told)


def _agrees(fields, columns, layout, text_column=None):
    """Whether fields are as many as columns, and hold such values as these where they hold few."""
    return len(fields) == len(columns) and all(
        _is_among(fields[column - columns.start], values)
        for column, values in layout.values
        if column in columns and column != text_column
    )


def _is_among(field, values):
    field = field.strip().strip('"')
    return _is_number(field) if values is None else field in values


def find_layout(path: str, text_format: TextFormat) -> Layout:
    """
    The layout of a .csv or .tsv file: as given, else as its first lines show; a .tsv file is read to its end to see
    whether its quotation marks enclose fields. What is assumed goes to the log, once for each file.

    Raises:
        DataError: if it is no file of text.
    """
    status = os.stat(path)
    return _find_layout(path, text_format, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _find_layout(path, text_format, *_stamp):
    encoding = encoding_of(path, text_format)
    sample = _sample(path, encoding)
    declared = re.fullmatch("sep=(.)[\r\n]*", sample[0]) if sample else None
    usual = "\t" if kind_of(path) == ".tsv" else ","
    delimiter = text_format.delimiter or (declared and declared[1]) or _found_delimiter(sample, encoding, usual)
    if not text_format.delimiter and delimiter != usual:
        logger.warning("%s: fields are separated by %s.", path, _NAMES.get(delimiter, repr(delimiter)))
    if not text_format.delimiter and not declared and _has_one_column(sample, encoding):
        if any(len(fields) > 1 for fields in _good_rows(enumerate(sample, 1), Layout(encoding, delimiter))):
            logger.warning("%s: one column, since its first line has no delimiter; all else is text.", path)
        delimiter = _NO_DELIMITER
    layout = Layout(encoding, delimiter, declares=bool(declared))
    numbered = list(enumerate(sample, 1))[layout.declares :]
    rows = _good_rows(numbered, layout)
    if rows:
        spaced = len(rows[0]) > 1 and all(name.startswith(" ") for name in rows[0][1:])
        layout = replace(layout, width=len(rows[0]), spaced=spaced)
        rows = _good_rows(numbered, layout)[1:]
        tight = len(rows) >= _TIGHT_ROWS and not any(field[:1] == " " for fields in rows for field in fields[1:])
        layout = replace(layout, values=_few_values(rows, layout.width), sampled=True, tight=tight)
    if delimiter == "\t" and (line := _open_quotation(path, layout)):
        logger.warning("%s: quotation marks are text, as line %d shows.", path, line)
        layout = replace(layout, quoted=False)
    return layout


def _sample(path, encoding):
    sample, characters = [], 0
    for line in islice(lines(path, encoding), _SAMPLE_LINES):
        sample.append(line)
        characters += len(line)
        if characters > _SAMPLE_CHARACTERS:
            break
    return sample


def _good_rows(numbered, layout):
    return [fields for _, fields in _records(numbered, layout, "") if not isinstance(fields, DataError)]


def _found_delimiter(sample, encoding, usual):
    """The usual delimiter, unless it divides nothing and exactly one other divides the lines alike."""
    if _divides(sample, Layout(encoding, usual)):
        return usual
    others = [mark for mark in _DELIMITERS if mark != usual and _divides(sample, Layout(encoding, mark))]
    return others[0] if len(others) == 1 else usual


def _has_one_column(sample, encoding):
    """Whether no delimiter divides the first line, so that those in other lines are text."""
    layouts = [Layout(encoding, mark) for mark in _DELIMITERS]
    return bool(sample) and all(
        len(fields) == 1 for layout in layouts for fields in _good_rows([(1, sample[0])], layout)
    )


def _divides(sample, layout):
    """Whether a delimiter makes the first line, as it stands, several fields, and most other rows as many."""
    records = list(_records(enumerate(sample, 1), layout, ""))
    if not records or isinstance(records[0][1], DataError):
        return False
    first, *others = (fields for _, fields in records if not isinstance(fields, DataError))
    return len(first) > 1 and sum(len(fields) == len(first) for fields in others) >= 0.9 * len(others)


def _few_values(rows, width):
    """For [`Layout`]: the values of the columns that have few."""
    found = []
    for column in range(width):
        values = [field for fields in rows if len(fields) == width and (field := fields[column].strip())]
        if values and all(map(_is_number, values)):
            found.append((column, None))
        elif len(set(values)) <= min(_MAX_VALUES, len(values) // 3) and max(map(len, values), default=99) <= _MAX_VALUE:
            found.append((column, frozenset(values)))
    return tuple(found)


def _open_quotation(path, layout):
    """The number of the first line with a quotation mark that encloses no field; 0 if there is none."""
    numbered = islice(enumerate(lines(path, layout.encoding), 1), int(layout.declares), None)
    found = (number for number, fields in _records(numbered, layout, path) if isinstance(fields, DataError))
    return next(found, 0)


def _sheet_records(path):
    """Pairs of the number of a row and its cells as texts, but of empty rows."""
    openpyxl = import_extra("openpyxl", "excel")
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # wrong bytes can make zipfile and the XML parser fail in any way
        raise DataError(f"{path}: no Excel workbook, or a damaged one: {str(error)[:200]}") from error
    try:
        sheet = book.worksheets[0]
        if len(book.worksheets) > 1:
            logger.warning("%s: the sheet %r is read, not %s.", path, sheet.title, listed(book.sheetnames[1:]))
        sheet.reset_dimensions()  # which some programs write wrongly
        width = 0
        for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
            fields = ["" if value is None else _cell_text(value) for value in cells]
            while fields and not fields[-1]:
                fields.pop()
            if fields:
                width = width or len(fields)
                yield number, fields + [""] * (width - len(fields))
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: no Excel workbook, or a damaged one: {str(error)[:200]}") from error
    finally:
        book.close()


def _cell_text(value) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
