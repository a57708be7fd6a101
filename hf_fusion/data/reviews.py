"""Reviews from a file, a Hub data set or the synthetic corpus -> text and labels, in train / validation / test."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from datasets import DatasetDict, Features, Value

from hf_fusion.data.class_values import ClassValues
from hf_fusion.data.decoding import TextFormat, check_taken
from hf_fusion.data.in_memory import Data, Splits, check_no_options, name_and_splits
from hf_fusion.data.label_columns import PlanMaker
from hf_fusion.data.label_plan import CLASS_FIELDS, LABEL_FIELDS, RATING_FIELDS, LabelPlan, log_plan
from hf_fusion.data.labels import LabelError, LabelRules
from hf_fusion.data.review_tables import SYNTHETIC, find_tables, loaded_tables
from hf_fusion.data.split_writer import SplitWriter
from hf_fusion.data.splits import (
    NO_SPLIT,
    SPLITS,
    WAY_OUT,
    SplitChooser,
    are_training,
    check_shares,
    divide_training,
    report_rejected,
    split_by_hash,
)
from hf_fusion.models.processing_text import is_blank, is_file_name
from hf_fusion.utils.errors import DataError, listed

logger = logging.getLogger(__name__)

_FEATURES = Features({
    "id": Value("string"), "text": Value("string"), "source": Value("string"), "labels": Value("int64"),
    "coarse_labels": Value("int64"), "intensity_labels": Value("float32"),
})  # fmt: skip
# Names of the fields; `ReviewSource.columns` maps each to the file's own column.
FIELDS = ("id", "text", "stars", "score", "label", "coarse_label", "intensity", "split", "source")


@dataclass
class ReviewSource:
    """
    Where reviews come from, and the meaning of their columns.

    Args:
        name: "synthetic-reviews"; a file of rows (.csv, .tsv, .jsonl, .json, .xlsx, .parquet ...), a folder or pattern
            of such files, see [`find_tables`]; or the name of a data set on the Hub.
        columns: the source's own column for each of `text`, `id`, `split`, `stars`, `score`, `label` (fine class),
            `coarse_label`, `intensity` and `source`; `None` or "" leaves a field out. Fields that are not named are
            taken from columns of the same name, where there are any, but labels only where the mapping names no label.
            Only `text` and one kind of label are needed.
        rules: how stars, scores and classes become labels. Labels that are given directly take precedence. By default,
            and where `num_labels` is `None`, classes and their names are derived from the data.
        rejected: "error" stops at unusable rows (empty text, rating outside the scale), "drop" leaves them out and
            logs how many and why.
        split_shares: shares of train, validation and test where there is no split, or none but train; drawn by a hash
            of the text and `split_seed`, so that the same text never lies in two splits.
        options: keyword arguments of the synthetic corpus, or of `datasets.load_dataset` for a Hub data set.
        sources: take only the rows whose `source` is one of these; all by default.
        encoding, delimiter, header: of the files of text, where their content does not tell; see [`TextFormat`].
        data: the rows by split (`None` for rows in one piece) where they are loaded; `name` is then for messages alone.

    Example:

    ```python
    import pandas
    from hf_fusion.data.reviews import ReviewSource, load_reviews

    reviews = pandas.DataFrame({"review": ["Good bed.", "Dirty room.", "Cold soup."], "rating": [5, 1, 2]})
    reviews.to_csv("reviews.csv")
    source = ReviewSource("reviews.csv", columns={"text": "review", "stars": "rating"}, split_shares=(1, 0, 0))
    load_reviews(source)["train"]  # text and the labels of the three heads
    ```
    """

    name: str = SYNTHETIC
    columns: dict[str, str | None] = field(default_factory=dict)
    rules: LabelRules | None = None
    rejected: str = "error"
    split_shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] | None = None
    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    data: Splits | None = field(default=None, repr=False)

    def __post_init__(self):
        texts = isinstance(self.columns, dict) and all(isinstance(own, str | None) for own in self.columns.values())
        if not texts:
            raise DataError(f"`columns` must be a mapping from fields to names of columns, got {self.columns!r:.100}.")
        unknown = sorted(set(map(str, self.columns)) - set(FIELDS))
        if unknown:
            raise DataError(f"Unknown field {', '.join(unknown)} in the column mapping; there are {', '.join(FIELDS)}.")
        if self.rejected not in ("error", "drop"):
            raise DataError(f"`rejected` must be 'error' or 'drop', got {self.rejected!r:.100}.")
        if self.sources is not None and not isinstance(self.sources, (list, tuple)):
            raise DataError(f"`sources` must be a list of names, got {self.sources!r:.100}.")
        check_shares(self.split_shares)
        if self.data is not None:
            check_taken(self.text_format, self.name)
            check_no_options(self.name, self.options)
        _ = self.text_format  # is checked
        if self.rules is None:
            self.rules = rules_for(self.name)

    @property
    def text_format(self) -> TextFormat:
        """How its files of text are written."""
        return TextFormat(self.encoding, self.delimiter, self.header)


def rules_for(
    name: str | None,
    scale: Sequence[float] | None = None,
    num_labels: int | None = None,
    class_words: Sequence[str] | None = None,
    coarse_starts: Sequence[int] | None = None,
    intensity_range: Sequence[float] | None = None,
    has_coarse: bool | None = True,
    has_intensity: bool | None = True,
) -> LabelRules:
    """
    The rules of the data of a name (`None`: the synthetic corpus), whose scale and classes differ from those of files.
    The other arguments are fields of [`LabelRules`].

    Raises:
        LabelError: if the values do not fit together.
    """
    synthetic = name in (None, SYNTHETIC)
    if num_labels is None and synthetic and not class_words:
        num_labels = 5
    ranges: dict[str, Any] = {  # of two numbers, as `LabelRules` checks
        "scale": tuple(scale or ((0.0, 1.0) if synthetic else (1.0, 5.0))),
        "intensity_range": tuple(intensity_range or (0.0, 1.0)),
    }
    coarse = None if coarse_starts is None else tuple(coarse_starts)
    names = tuple(class_words) if class_words else None
    return LabelRules(
        num_labels=num_labels,
        coarse=coarse,
        names=names,
        has_coarse=has_coarse,
        has_intensity=has_intensity,
        **ranges,
    )


def load_reviews(
    data: Data | ReviewSource = SYNTHETIC,
    *,
    columns: dict[str, str | None] | None = None,
    scale: Sequence[float] | None = None,
    num_labels: int | None = None,
    class_words: Sequence[str] | None = None,
    coarse_starts: Sequence[int] | None = None,
    intensity_range: Sequence[float] | None = None,
    sources: Sequence[str] | None = None,
    rejected_rows: Literal["error", "drop"] | None = None,
    split_shares: Sequence[float] | None = None,
    split_seed: int | None = None,
    options: dict[str, Any] | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
) -> DatasetDict:
    """
    Reads, checks and labels reviews. The arguments are the fields of a recipe.

    Args:
        data (`str`, `Path`, `pandas.DataFrame`, `Dataset` or `DatasetDict`, defaults to `"synthetic-reviews"`): a file
            (.csv, .tsv, .jsonl, .json, .xlsx, .parquet ...), a folder or pattern of such files, a data set on the Hub,
            or the rows themselves. Or a [`ReviewSource`], which holds all other arguments.
        columns (`dict`, *optional*): the data's own name for each of `text`, `id`, `split`, `stars`, `score`, `label`,
            `coarse_label`, `intensity`, `source`; `None` leaves a field out. Other fields are found by their names.
        scale (`tuple(float, float)`, *optional*, defaults to `(1, 5)`): lowest and highest score.
        num_labels (`int`, *optional*): fine classes; by default as many as the data has.
        class_words (`list[str]`, *optional*): names of the fine classes, from worst to best.
        coarse_starts (`list[int]`, *optional*): the fine class that each coarse class begins with.
        intensity_range (`tuple(float, float)`, *optional*, defaults to `(0, 1)`): lowest and highest intensity.
        sources (`list[str]`, *optional*): takes only the reviews with one of these values of `source`.
        rejected_rows (`str`, *optional*, defaults to `"error"`): `"drop"` leaves unusable rows out and logs them.
        split_shares (`tuple(float, float, float)`, *optional*, defaults to `(0.8, 0.1, 0.1)`): shares of train,
            validation and test where there is no split; `(1, 0, 0)` keeps all rows in train.
        split_seed (`int`, *optional*, defaults to 0): seed of that division.
        options (`dict`, *optional*): of the synthetic corpus, or of `datasets.load_dataset` for a name on the Hub.
        encoding, delimiter, header: of files of text, where their content does not tell; see [`TextFormat`].

    Returns:
        `DatasetDict`: as of [`read_reviews`].

    Raises:
        DataError: if a file, a column or a row is not as declared.
        FileNotFoundError: if the file does not exist.

    Example:

    ```python
    import pandas
    from hf_fusion import load_reviews

    reviews = pandas.DataFrame({"body": ["Dirty room.", "Good bed."], "stars": [1, 5]})
    load_reviews(reviews, columns={"text": "body"}, split_shares=(1, 0, 0))["train"]["labels"][:]  # [0, 4]
    ```
    """
    rules: dict[str, Any] = {
        "scale": scale, "num_labels": num_labels, "class_words": class_words, "coarse_starts": coarse_starts,
        "intensity_range": intensity_range,
    }  # fmt: skip
    fields: dict[str, Any] = {
        "columns": columns, "sources": sources, "rejected": rejected_rows, "split_shares": split_shares,
        "split_seed": split_seed, "options": options, "encoding": encoding, "delimiter": delimiter, "header": header,
    }  # fmt: skip
    given = {name: value for name, value in fields.items() if value is not None}
    if isinstance(data, ReviewSource):
        if more := [name for name, value in {**rules, **fields}.items() if value is not None]:
            raise TypeError(f"A ReviewSource holds all arguments: set `{more[0]}` there.")
        return read_reviews(data)[0]
    name, splits = name_and_splits(data)
    return read_reviews(ReviewSource(name, rules=rules_for(name, **rules), data=splits, **given))[0]


def read_reviews(source: ReviewSource) -> tuple[DatasetDict, LabelRules]:
    """
    Reads, checks and labels reviews. They go to a temporary file as they are read, from which the data set is mapped:
    a corpus may be larger than memory. Columns of classes are read twice: first to find out which classes there are.

    Returns:
        `DatasetDict` of the splits found, with the columns `id`, `text`, `source` and those of `labels` (fine class),
        `coarse_labels` and `intensity_labels` (in [0, 1]) that the source allows; `None` where a row has none. And the
        rules by which they were made, with every class known.

    Raises:
        DataError: if a file, a column or a row is not as declared.
        FileNotFoundError: if the file does not exist.
    """
    if source.data is None:
        tables = find_tables(source.name, source.options, source.text_format)
    else:
        tables = loaded_tables(source.name, source.data)
    shares = _shares_to_draw(tables, source.split_shares)
    plan = _plan(tables, source)
    chooser = SplitChooser(source.split_seed)

    others: set[str] = set()
    counts: Counter[str | None] = Counter()
    with SplitWriter(_FEATURES) as writer:
        for table in tables:
            others |= _label_rows(table, shares, source, plan, chooser, writer, counts)
        _settle_waiting(writer, chooser, source)
        filled = {split: writer.filled[split] for split in SPLITS if split in writer.filled}
        if others and not filled:
            wanted = listed(source.sources or ())
            raise DataError(f"{source.name} has no rows of {wanted}; its sources are {listed(sorted(others))}.")
        if not filled:
            raise DataError(f"{source.name} has no rows.")
        splits = DatasetDict({split: _informative(writer.finish(split), filled[split]) for split in filled})
    named: set[str | None] = {*chooser.named} or {table.split for table in tables}
    only_training = are_training(named) and (not chooser.named or set(splits) == {"train"})
    splits = divide_training(
        splits, only_training, source.name, source.split_shares, source.split_seed, lambda rows: rows["text"]
    )
    return splits, plan.rules


def _plan(tables, source) -> LabelPlan:
    """Derives the plan of the labels, by the classes that occur."""
    columns: dict[str, str] = {}
    ignored: set[str] = set()
    values: dict[str, ClassValues] = {}
    for table in tables:
        names = None
        rows = table.read()
        for row in rows:
            if isinstance(row, DataError):
                continue
            if names is None:
                _resolve_columns(row, table.origin, source.columns)
            if row.keys() != names:
                names, own = row.keys(), present_columns(row, source.columns)
                columns |= own
                ignored |= {name for name in LABEL_FIELDS if name in row and name not in own.values()}
                _add_columns(values, own, rows, table.origin)
            if not values and table.uniform:
                break
            if _is_counted(row, own, source):
                _count(values, own, row)
    seen = {name: found for name, found in values.items() if found.counts or found.names}
    try:
        plan = PlanMaker(source.name, columns, source.rules, seen).make()
    except LabelError as error:
        raise DataError(f"{source.name}: scale, number and beginnings of the classes do not fit: {error}") from error
    if columns:
        log_plan(source.name, plan, columns, source.columns, sorted(ignored))
    return plan


def _add_columns(values, columns, rows, origin):
    """An entry for each column of classes, with the names of a `ClassLabel`, which are those of every table."""
    features = getattr(rows, "features", None) or {}
    for name in RATING_FIELDS:
        if name in columns and (names := getattr(features.get(columns[name]), "names", None)):
            own = json.dumps(columns[name], ensure_ascii=False)
            raise DataError(
                f"{origin}: column {columns[name]!r} holds the numbers of the classes {listed(names)}, no {name}. "
                f'To take them for classes, set `columns` to {{"label": {own}}}.'
            )
    for name in CLASS_FIELDS:
        if name not in columns:
            continue
        names = getattr(features.get(columns[name]), "names", None)
        known = values.setdefault(name, ClassValues(name, columns[name], names)).names
        if names and known and names != known:
            raise DataError(
                f"{origin}: the classes of column {columns[name]!r} are {listed(names)} in this order, those of the "
                f"tables before {listed(known)}. Write all tables with the same `ClassLabel`."
            )


def _is_counted(row, columns, source):
    """Whether a row counts: it has a text, and its source is wanted."""
    text = row.get(columns.get("text"))
    if not isinstance(text, str) or is_blank(text):
        return False
    return source.sources is None or str(row.get(columns.get("source"))) in map(str, source.sources)


def _count(values, columns, row):
    found = {name for name, counted in values.items() if counted.add(row.get(columns.get(name)))}
    found |= {name for name in ("stars", "score") if row.get(columns.get(name)) not in (None, "")}
    for name, counted in values.items():
        others = ("label", "stars", "score") if name == "coarse_label" else ("stars", "score")
        counted.missing += name not in found and not found.isdisjoint(others)


def _shares_to_draw(tables, shares):
    """The shares by which rows without a split of their own are drawn; `None` if the tables are splits.

    "train" as the only one is what `datasets` calls a source in one piece.
    """
    names = {table.split for table in tables}
    return shares if names == {None} or are_training(names) else None


def _settle_waiting(writer, chooser, source):
    """Rows with an empty cell for their split: drawn if all are empty, else unusable."""
    if None not in writer.filled:
        return
    if chooser.named:
        report_rejected(source.name, {f"{NO_SPLIT} ({WAY_OUT})": chooser.waiting}, source.rejected)
        return
    for row in writer.finish(None):
        writer.write(split_by_hash(row["text"], source.split_shares, source.split_seed), row)


def _informative(rows, filled):
    """The columns in which a row has a value, and those that a data set always has."""
    return rows.select_columns([name for name in _FEATURES if name in filled | {"id", "text"}])


def _label_rows(table, shares, source, plan, chooser, writer, counts):
    """Writes each usable row, counts the others by reason; returns the sources that are left out."""
    split, origin = table.split, table.origin
    columns = None
    others = set()
    rejected: dict[str, list[str]] = {}
    for number, row in enumerate(table.read(), 1):
        counts[split] += 1
        if isinstance(row, DataError):
            rejected.setdefault("malformed row", []).append(str(row))
            continue
        if columns is None:
            names, columns = row.keys(), _resolve_columns(row, origin, source.columns)
        elif row.keys() != names:  # objects of a .jsonl file need not have the same fields
            names, columns = row.keys(), present_columns(row, source.columns)
        try:
            clean, own = _label_row(row, columns, plan)
            place = f"{origin}, row {number}"
            row_split = chooser.choose(own, "split" in columns, split, shares, clean["text"], place)
        except LabelError as error:
            rejected.setdefault(error.reason, []).append(f"row {number}: {error.detail or error.reason}")
            continue
        if source.sources is not None and clean["source"] not in map(str, source.sources):
            others.add(str(clean["source"]))
            continue
        if clean["id"] is None:
            place = counts[split] - 1
            clean["id"] = str(place) if split is None else f"{split}-{place}"
        writer.write(row_split, clean)
    report_rejected(origin, rejected, source.rejected)
    return others


def _resolve_columns(row, origin, mapping):
    """The row's own name of every field that it has."""
    columns = present_columns(row, mapping)
    if missing := [name for name, own in mapping.items() if own and name not in columns]:
        raise DataError(
            f"{origin}: no column {mapping[missing[0]]!r} (declared as {missing[0]}); there are {listed(row)}."
        )
    if "text" not in columns:
        raise DataError(f"{origin}: no column 'text'; there are {listed(row)}. Name it in `columns`.")
    if not set(columns) & set(LABEL_FIELDS):
        raise DataError(
            f"{origin}: no labels. Needed is a column of stars, score, label, coarse_label or intensity; there are "
            f"{listed(row)}."
        )
    return columns


def present_columns(row, mapping):
    """Fields by the mapping, else by their names; labels only by the mapping, where that names any."""
    declared = any(mapping.get(name) for name in LABEL_FIELDS)
    by_name = [name for name in FIELDS if name not in mapping and not (declared and name in LABEL_FIELDS)]
    wanted = {name: own for name, own in mapping.items() if own} | {name: name for name in by_name}
    return {name: wanted[name] for name in FIELDS if wanted.get(name) in row}


def _label_row(row, columns, plan):
    values = read_values(row, columns)
    fine, coarse, intensity = plan.labels_of(row)
    if fine is None and coarse is None and intensity is None:
        raise LabelError("all label fields are empty", "no label")
    labels = {"labels": fine, "coarse_labels": coarse, "intensity_labels": intensity}
    return {name: values[name] for name in ("id", "text", "source")} | labels, values["split"]


def read_values(row: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
    """
    Reads the fields of a review that are no labels.

    Args:
        row: a row of a table.
        columns: the row's own name of every field that it has.

    Returns:
        `dict`: `text`, and `id`, `source` (texts) and `split`, each `None` where the row has none.

    Raises:
        LabelError: if the text is empty, no string or the name of a file.
    """
    values = {name: row.get(columns[name]) if name in columns else None for name in ("id", "text", "source", "split")}
    text, place = values["text"], columns.get("text", "text")
    if text is not None and not isinstance(text, str):
        raise LabelError(f"field {place!r} is {text!r:.100}", "text is no string", "text", text)
    if text is None or is_blank(text):
        raise LabelError(f"field {place!r} is {text!r:.100}", "empty text", "text", text)
    if is_file_name(text):
        raise LabelError(f"field {place!r} is {text!r:.100}", "text is the name of a file", "text", text)
    as_text = {name: None if values[name] is None else str(values[name]) for name in ("id", "source")}
    return values | as_text
