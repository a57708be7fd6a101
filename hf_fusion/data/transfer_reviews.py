"""Reviews without labels, on which a student learns the answers of its teacher."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable

from datasets import Dataset, Features, Value

from hf_fusion.data.label_plan import LABEL_FIELDS
from hf_fusion.data.labels import LabelError
from hf_fusion.data.review_tables import find_tables
from hf_fusion.data.reviews import ReviewSource, present_columns, read_values
from hf_fusion.data.split_writer import SplitWriter
from hf_fusion.data.splits import canonical_split, report_rejected
from hf_fusion.utils.errors import DataError, listed

logger = logging.getLogger(__name__)

_FEATURES = Features(id=Value("string"), text=Value("string"), source=Value("string"))


def read_transfer_reviews(
    source: ReviewSource, trained: Iterable[str], held_out: Iterable[str], count: int | None = None, seed: int = 0
) -> tuple[Dataset, dict[str, int]]:
    """
    Reads the texts of reviews, whatever labels they have. Each text is kept once. Two texts that differ only in case
    and white space are the same.

    Args:
        source ([`ReviewSource`]): the data. Of its `columns` only `id`, `text`, `source` and `split` are read. Rows of
            a validation or test split are left out.
        trained (`Iterable[str]`): texts that have labels in the training.
        held_out (`Iterable[str]`): texts of validation and test.
        count (`int`, *optional*): the number of texts to draw; all by default.
        seed (`int`, *optional*, defaults to 0): the seed of the draw.

    Returns:
        `tuple[Dataset, dict[str, int]]`: the texts, with the columns `id`, `text` and `source`; and the number of
        usable rows that were left out, by reason.

    Raises:
        DataError: if a column is missing, a row is not usable (unless `source.rejected` is "drop"), or no row remains.
        FileNotFoundError: if the file does not exist.
    """
    known = dict.fromkeys(map(_key, trained), "with labels in the training")
    known |= dict.fromkeys(map(_key, held_out), "in validation or test")
    left_out: Counter[str] = Counter()
    with SplitWriter(_FEATURES) as writer:
        for table in find_tables(source.name, source.options, source.text_format):
            _write_texts(table, source, known, left_out, writer)
        if not writer.filled:
            raise DataError(f"{source.name}: no text remains for the transfer set; left out {_describe(left_out)}.")
        rows = writer.finish("train")
    if count is not None and count < len(rows):
        left_out["not drawn"] = len(rows) - count
        rows = rows.shuffle(seed=seed).select(range(count))
    logger.warning("%s: %d texts without labels; left out %s.", source.name, len(rows), _describe(left_out))
    return rows, dict(left_out)


def _write_texts(table, source, known, left_out, writer):
    """Writes the new texts of a table, and counts the others by reason."""
    rejected: dict[str, list[str]] = {}
    for number, row in enumerate(table.read(), 1):
        if isinstance(row, DataError):
            rejected.setdefault("malformed row", []).append(str(row))
            continue
        columns = _text_columns(row, source.columns, table.origin)
        try:
            values = read_values(row, columns)
        except LabelError as error:
            rejected.setdefault(error.reason, []).append(f"row {number}: {error.detail or error.reason}")
            continue
        key = _key(values["text"])
        if canonical_split(str(values["split"] or table.split)) in ("validation", "test"):
            left_out["of its validation or test split"] += 1
        elif source.sources is not None and values["source"] not in map(str, source.sources):
            left_out["of another source"] += 1
        elif key in known:
            left_out[known[key]] += 1
        else:
            known[key] = "repeated"
            values["id"] = values["id"] or f"transfer-{number - 1}"
            writer.write("train", values)
    report_rejected(table.origin, rejected, source.rejected)


def _text_columns(row, mapping, origin):
    """Returns the row's own name of every field that is no label."""
    columns = present_columns(row, {**mapping, **dict.fromkeys(LABEL_FIELDS)})
    if "text" not in columns:
        raise DataError(
            f"{origin}: no column {mapping.get('text') or 'text'!r}; there are {listed(row)}. It needs the same "
            "`columns` as `dataset`."
        )
    return columns


def _key(text):
    """Returns a short key that is the same for texts that differ only in case and white space."""
    words = " ".join(text.lower().split())
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()[:16]


def _describe(left_out):
    return listed(f"{count} {reason}" for reason, count in left_out.items()) if left_out else "none"
