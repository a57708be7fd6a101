"""Reviews from a file, a Hub data set or the synthetic corpus -> text and labels, in train / validation / test."""

import atexit
import logging
import math
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from datasets import Dataset, DatasetDict, Features, Value
from datasets.arrow_writer import ArrowWriter

from hf_fusion.data.decoding import TextFormat
from hf_fusion.data.errors import DataError, listed
from hf_fusion.data.labels import LabelError, LabelRules
from hf_fusion.data.review_tables import SYNTHETIC, find_tables
from hf_fusion.data.splits import (
    NO_SPLIT,
    SPLITS,
    WAY_OUT,
    SplitChooser,
    canonical_split,
    check_shares,
    report_rejected,
    split_by_hash,
)

logger = logging.getLogger(__name__)

_FEATURES = Features({
    "id": Value("string"), "text": Value("string"), "source": Value("string"), "labels": Value("int64"),
    "coarse_labels": Value("int64"), "intensity_labels": Value("float32"),
})  # fmt: skip
_ROWS_AT_A_TIME = 256  # that lie in memory before they are written
# What users call a column; `ReviewSource.columns` maps each to the file's own name.
FIELDS = ("id", "text", "stars", "score", "label", "coarse_label", "intensity", "split", "source")


@dataclass
class ReviewSource:
    """
    Where reviews come from and what their columns mean.

    Args:
        name: "synthetic-reviews"; a file of rows (.csv, .tsv, .jsonl, .json, .xlsx, .parquet ...), a folder or pattern
            of such files, see [`find_tables`]; or the name of a data set on the Hub.
        columns: the source's own column for each of `text`, `id`, `split`, `stars`, `score`, `label` (fine class),
            `coarse_label`, `intensity` and `source`. Fields that are not named are taken from columns of the same
            name, where there are any; only `text` and one kind of label are needed.
        rules: how stars and scores become labels. Labels that are given directly take precedence.
        rejected: "error" stops at unusable rows (empty text, rating outside the scale), "drop" leaves them out and
            logs how many and why.
        split_shares: shares of train, validation and test where there is no split column; drawn by a hash of the text
            and `split_seed`, so that the same text never lies in two splits.
        options: keyword arguments of the synthetic corpus, or of `datasets.load_dataset` for a Hub data set.
        sources: take only the rows whose `source` is one of these; all by default.
        encoding, delimiter, header: of the files of text, where their content does not tell; see [`TextFormat`].
    """

    name: str = SYNTHETIC
    columns: dict[str, str] = field(default_factory=dict)
    rules: LabelRules | None = None
    rejected: str = "error"
    split_shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] | None = None
    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None

    def __post_init__(self):
        if not isinstance(self.columns, dict) or not all(isinstance(own, str) for own in self.columns.values()):
            raise DataError(f"`columns` must be a mapping from fields to names of columns, got {self.columns!r:.100}.")
        unknown = sorted(set(map(str, self.columns)) - set(FIELDS))
        if unknown:
            raise DataError(f"Unknown field {', '.join(unknown)} in the column mapping; there are {', '.join(FIELDS)}.")
        if self.rejected not in ("error", "drop"):
            raise DataError(f"`rejected` must be 'error' or 'drop', got {self.rejected!r:.100}.")
        if self.sources is not None and not isinstance(self.sources, (list, tuple)):
            raise DataError(f"`sources` must be a list of names, got {self.sources!r:.100}.")
        check_shares(self.split_shares)
        _ = self.text_format  # is checked
        if self.rules is None:
            self.rules = LabelRules(scale=(0.0, 1.0)) if self.name == SYNTHETIC else LabelRules()

    @property
    def text_format(self) -> TextFormat:
        """How its files of text are written."""
        return TextFormat(self.encoding, self.delimiter, self.header)


def load_reviews(source: ReviewSource) -> DatasetDict:
    """
    Reads, checks and labels reviews. They go to a temporary file as they are read, from which the data set is mapped:
    a corpus may be larger than memory.

    Returns:
        `DatasetDict` of the splits found, with the columns `id`, `text`, `source` and those of `labels` (fine class),
        `coarse_labels` and `intensity_labels` (in [0, 1]) that the source allows; `None` where a row has none.

    Raises:
        DataError: if a file, a column or a row is not as declared.
        FileNotFoundError: if the file does not exist.
    """
    tables = find_tables(source.name, source.options, source.text_format)
    shares = _shares_to_draw(tables, source.split_shares)
    chooser = SplitChooser(source.split_seed)

    cleaned: dict[str | None, _Split] = {}
    others: set[str] = set()
    counts = Counter()
    for table in tables:
        others |= _label_rows(table, shares, source, chooser, cleaned, counts)
    _settle_waiting(cleaned, chooser, source)
    if others and not cleaned:
        raise DataError(
            f"{source.name} has no rows of {listed(source.sources)}; its sources are {listed(sorted(others))}."
        )
    if not cleaned:
        raise DataError(f"{source.name} has no rows.")
    splits = DatasetDict({split: cleaned[split].to_dataset() for split in SPLITS if split in cleaned})
    return _with_validation(splits, source)


class _Split:
    """The rows of a split, which go to a file as they come (below `TMPDIR`, until the process ends)."""

    def __init__(self):
        handle, self.path = tempfile.mkstemp(".arrow", dir=_temporary_folder())
        os.close(handle)
        self.writer = ArrowWriter(path=self.path, features=_FEATURES, writer_batch_size=_ROWS_AT_A_TIME)
        self.filled = set()  # columns with a value

    def add(self, row):
        self.filled.update(name for name, value in row.items() if value is not None)
        self.writer.write(row)

    def all_rows(self):
        """With every column."""
        self.writer.finalize()
        return Dataset.from_file(self.path)

    def to_dataset(self):
        """With the columns that say something."""
        self.writer.finalize()
        always = {"id", "text"}
        return Dataset.from_file(self.path).select_columns([name for name in _FEATURES if name in self.filled | always])


@cache
def _temporary_folder():
    folder = tempfile.mkdtemp(prefix="hf_fusion-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _shares_to_draw(tables, shares):
    """The shares by which rows without a split of their own are drawn; `None` if the tables are splits.

    "train" as the only one is what `datasets` calls a source in one piece.
    """
    names = {table.split and canonical_split(table.split) for table in tables}
    return shares if names in ({None}, {"train"}) else None


def _settle_waiting(cleaned, chooser, source):
    """Rows with an empty cell for their split: drawn if all are empty, else unusable."""
    waiting = cleaned.pop(None, None)
    if waiting is None:
        return
    if chooser.named:
        report_rejected(source.name, {f"{NO_SPLIT} ({WAY_OUT})": chooser.waiting}, source.rejected)
        return
    for row in waiting.all_rows():
        split = split_by_hash(row["text"], source.split_shares, source.split_seed)
        cleaned.setdefault(split, _Split()).add(row)


def _with_validation(splits, source):
    """A source of training and test alone gives up a part of its training rows for validation."""
    train, validation, _ = source.split_shares
    if set(splits) != {"train", "test"} or not validation:
        return splits
    shares = (train / (train + validation), validation / (train + validation), 0.0)
    numbers = {"train": [], "validation": []}
    for number, text in enumerate(splits["train"]["text"]):
        numbers[split_by_hash(text, shares, source.split_seed)].append(number)
    logger.warning(
        "%s: there is no validation split; %d of %d training rows are drawn for it.",
        source.name, len(numbers["validation"]), len(splits["train"]),
    )  # fmt: skip
    drawn = {split: splits["train"].select(rows) for split, rows in numbers.items() if rows}
    return DatasetDict({**drawn, "test": splits["test"]})


def _label_rows(table, shares, source, chooser, cleaned, counts):
    """Adds each usable row to `cleaned`, counts the others by reason; returns the sources that are left out."""
    split, origin, read = table
    columns = None
    others = set()
    rejected: dict[str, list[str]] = {}
    for number, row in enumerate(read(), 1):
        counts[split] += 1
        if isinstance(row, DataError):
            rejected.setdefault("malformed row", []).append(str(row))
            continue
        if columns is None:
            names, columns = row.keys(), _resolve_columns(row, origin, source.columns)
        elif row.keys() != names:  # objects of a .jsonl file need not have the same fields
            names, columns = row.keys(), _present_columns(row, source.columns)
        try:
            clean, own = _label_row(row, columns, source)
            place = f"{origin}, row {number}"
            row_split = chooser.choose(own, "split" in columns, split, shares, clean["text"], place)
        except LabelError as error:
            reason, _, detail = str(error).partition("|")
            rejected.setdefault(reason, []).append(f"row {number}: {detail or reason}")
            continue
        if source.sources is not None and clean["source"] not in source.sources:
            others.add(str(clean["source"]))
            continue
        if clean["id"] is None:
            place = counts[split] - 1
            clean["id"] = str(place) if split is None else f"{split}-{place}"
        if row_split not in cleaned:
            cleaned[row_split] = _Split()
        cleaned[row_split].add(clean)
    report_rejected(origin, rejected, source.rejected)
    return others


def _resolve_columns(row, origin, mapping):
    """The row's own name of every field that it has."""
    columns = _present_columns(row, mapping)
    if missing := [name for name in mapping if name not in columns]:
        raise DataError(
            f"{origin}: no column {mapping[missing[0]]!r} (declared as {missing[0]}); there are {listed(row)}."
        )
    if "text" not in columns:
        raise DataError(f"{origin}: no column 'text'; there are {listed(row)}. Name it in the mapping.")
    if not set(columns) & {"stars", "score", "label", "coarse_label", "intensity"}:
        raise DataError(
            f"{origin}: no labels. Needed is a column of stars, score, label, coarse_label or intensity; there are "
            f"{listed(row)}."
        )
    return columns


def _present_columns(row, mapping):
    return {name: own for name in FIELDS if (own := mapping.get(name, name)) in row}


def _label_row(row, columns, source):
    values = {name: row[own] for name, own in columns.items()}
    text = values.get("text")
    if text is not None and not isinstance(text, str):
        raise LabelError(f"text is no string|field {columns['text']!r} is {text!r:.100}")
    if text is None or not text.strip():
        raise LabelError(f"empty text|field {source.columns.get('text', 'text')!r} is {text!r:.100}")
    number = {name: _number(values, columns, name) for name in FIELDS[2:7]}
    fine, coarse, intensity = _labels(number, columns, source.rules)
    if fine is None and coarse is None and intensity is None:
        raise LabelError("no label|all label fields are empty")
    clean = {
        "id": None if values.get("id") is None else str(values["id"]),
        "text": text,
        "source": None if values.get("source") is None else str(values["source"]),
        "labels": fine,
        "coarse_labels": coarse,
        "intensity_labels": intensity,
    }
    return clean, values.get("split")


def _labels(number, columns, rules):
    """Fine class, coarse class and intensity: as given, else from stars or score; `None` where nothing tells.

    Without a score, the fine classes lie at even distances on the intensity scale.
    """
    try:
        fine = _class(number["label"], rules.num_labels, "label")
        coarse = _class(number["coarse_label"], len(rules.coarse), "coarse_label")
        intensity = number["intensity"]
        if intensity is not None and not 0 <= intensity <= 1:
            raise LabelError(f"{intensity!r} lies outside [0, 1]")
        if intensity is None and number["score"] is not None:
            intensity = rules.intensity(number["score"])
        if fine is None and number["stars"] is not None:
            fine = rules.fine_of_stars(number["stars"])
        if fine is None and number["score"] is not None:
            fine = rules.fine_of_score(number["score"])
    except LabelError as error:
        raise LabelError(f"rating outside the scale|{error} (fields {_given(number, columns)})") from error
    if coarse is None and fine is not None:
        coarse = rules.coarse_of_fine(fine)
    if intensity is None and fine is not None:
        intensity = fine / (rules.num_labels - 1)
    return fine, coarse, intensity


def _given(number, columns):
    return ", ".join(f"{columns[name]}={value:g}" for name, value in number.items() if value is not None)


def _number(values, columns, name):
    value = values.get(name)
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise LabelError(f"no number|field {columns[name]!r} is {value!r:.100}") from None
    if number != number:
        return None
    if math.isinf(number):
        raise LabelError(f"no number|field {columns[name]!r} is {value!r:.100}")
    return number


def _class(number, count, name):
    if number is None:
        return None
    if number != int(number) or not 0 <= number < count:
        raise LabelError(f"{name} {number!r} is none of the classes 0 to {count - 1}")
    return int(number)
