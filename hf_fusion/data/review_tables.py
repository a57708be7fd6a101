"""Where the rows of reviews are: files, folders, patterns, the Hub or the generator -> tables that can be read."""

import json
import os
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from glob import has_magic
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel

from hf_fusion.data.decoding import TextFormat, check_taken, is_row_file, kind_of
from hf_fusion.data.files import read_rows_or_errors, with_options
from hf_fusion.data.hub import is_saved, load_from_hub
from hf_fusion.data.in_memory import Splits
from hf_fusion.data.parts import find_parts
from hf_fusion.data.splits import split_in_name
from hf_fusion.data.synthetic_reviews import synthetic_reviews
from hf_fusion.utils.errors import DataError

SYNTHETIC = "synthetic-reviews"


class Table(NamedTuple):
    """
    Rows of one file or of one split.

    Args:
        split: its name as the source has it; `None` if the source tells of none.
        origin: its name for messages.
        read: reads its rows, with a [`DataError`] for each malformed one, from the beginning; the result may have
            `features`.
        uniform: whether all rows have the same columns; objects of JSON need not.
    """

    split: str | None
    origin: str
    read: Callable[[], Iterable]
    uniform: bool = True


class _FileRows:
    """Rows of a file, with a [`DataError`] for each malformed one."""

    def __init__(self, path, text_format):
        self.path, self.text_format = path, text_format

    def __iter__(self):
        return read_rows_or_errors(self.path, text_format=self.text_format)

    @cached_property
    def features(self):
        """Each `ClassLabel` that `datasets` noted in a parquet file."""
        if kind_of(self.path) != ".parquet":
            return {}
        try:
            noted = json.loads((pq.read_schema(self.path).metadata or {}).get(b"huggingface", b"{}"))
            features = noted["info"]["features"].items()
            return {
                name: ClassLabel(names=feature["names"])
                for name, feature in features
                if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
            }
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError):  # no note of `datasets`
            return {}


def find_tables(name: str, options: dict[str, Any], text_format: TextFormat) -> list[Table]:
    """
    The tables behind a name, in their order.

    Args:
        name: "synthetic-reviews"; a file of rows; a folder or pattern of such files, of which each is a split if their
            names tell (`train.csv`, `dev-00000-of-00002.parquet`, and `train/a.csv` where the pattern is `*/a.csv`), or
            a part of one table if none does; a folder that `save_to_disk` wrote; or a data set on the Hub.
        options: of the synthetic corpus or of `datasets.load_dataset`.
        text_format: of the files of text.

    Raises:
        DataError: if there are none, if options are given that nothing takes, or a file has no labels by its kind.
        FileNotFoundError: if there is no such file or folder.
    """
    if name == SYNTHETIC or not _are_files(name, options):
        check_taken(text_format, name)
    if name == SYNTHETIC:
        corpus = with_options(SYNTHETIC, synthetic_reviews, options)
        return [Table(split, f"{SYNTHETIC} ({split})", lambda rows=rows: rows) for split, rows in corpus.items()]
    if not _are_files(name, options):
        return loaded_tables(name, load_from_hub(name, options))
    if options:
        raise DataError(f"{name}: files of rows take no options, got {options!r:.200}.")
    paths = find_parts([name])
    check_taken(text_format, name, map(kind_of, paths))
    for path in paths:
        if kind_of(path) == ".txt":
            raise DataError(f"{path}: a .txt file has one text a line and no labels; give .csv, .tsv, .jsonl ...")
    splits = [split_in_name(_below_folder(name, path)) for path in paths] if len(paths) > 1 else [None]
    if None in splits and len(set(splits)) > 1:
        other = paths[splits.index(None)]
        raise DataError(f"{name}: some files are named after their split, but {other} is not. Name it so, or move it.")
    return [
        Table(split, path, partial(_FileRows, path, text_format), kind_of(path) not in (".json", ".jsonl"))
        for split, path in zip(splits, paths, strict=True)
    ]


def loaded_tables(name: str, splits: Splits) -> list[Table]:
    """The tables of splits that are loaded; `name` is theirs for messages."""
    return [
        Table(split, name + (f" ({split})" if split else ""), lambda rows=rows: rows) for split, rows in splits.items()
    ]


def _below_folder(name, path):
    """The part of a path that lies below a folder, or below the last folder before the signs of a pattern."""
    parts = Path(name).parts
    if not Path(name).is_dir():
        parts = takewhile(lambda part: not has_magic(part), parts[:-1])
    return os.path.relpath(path, os.path.join("", *parts) or ".")


def _are_files(name, options):
    """Whether a name stands for files of rows that we read ourselves."""
    if Path(name).is_dir():
        files = any(is_row_file(path) and kind_of(path) not in (".txt", ".json") for path in Path(name).iterdir())
        return files and not options and not is_saved(name)
    return is_row_file(name) or (has_magic(name) and not Path(name).exists())
