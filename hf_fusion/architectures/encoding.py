"""Data sets as users have them -> the rows that a model's collator takes."""

import logging
from collections.abc import Mapping
from typing import Any

from datasets import Dataset
from transformers import PretrainedConfig, ProcessorMixin

from hf_fusion.architectures.base import architecture_of
from hf_fusion.architectures.reviews import name_classes
from hf_fusion.architectures.rows import encode_readable, warn_of_truncation
from hf_fusion.data.arguments import DataArguments, DataKind
from hf_fusion.data.collator import LABEL_FILLS
from hf_fusion.data.in_memory import Data, name_and_splits
from hf_fusion.data.label_columns import LABEL_FIELDS
from hf_fusion.data.reviews import FIELDS
from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.utils.errors import DataError, listed

logger = logging.getLogger(__name__)

# By the kind of data: the fields that its rows may have, and those of which one at least must be there.
_FIELDS: dict[DataKind, tuple[str, ...]] = {
    "reviews": tuple(name for name in FIELDS if name != "split"),
    "clips": ("id", *MODALITIES, "label"),
}
_INPUTS: dict[DataKind, tuple[str, ...]] = {"reviews": ("text",), "clips": MODALITIES}
_LABELS: dict[DataKind, tuple[str, ...]] = {"reviews": LABEL_FIELDS, "clips": ("label",)}


def data_arguments_for(config: PretrainedConfig, data: Data, **fields: Any) -> DataArguments:
    """
    The arguments of data that a model is to read: with its modalities and its range of labels, unless `fields` say
    otherwise. (Its classes are taken when the data is loaded.)

    Args:
        config: of the model.
        data: a path, a name, or the rows themselves.
        fields: fields of [`DataArguments`].

    Raises:
        DataError: if the data is of another type.
        RecipeError: if a field is of another kind of data.
        TypeError: if a field does not exist.
    """
    kind = architecture_of(config).data_kind
    if kind == "clips":
        fields = {"modalities": list(config.modalities), "label_range": list(config.label_range), **fields}
    name, splits = name_and_splits(data)
    data_args = DataArguments(dataset=name, **fields)
    data_args.data = splits
    data_args.complete(kind)
    return data_args


def needs_encoding(rows: Any) -> bool:
    """Whether a data set has its texts, frames and labels as users have them. (Only a `Dataset` may.)"""
    if not isinstance(rows, Dataset) or rows.format["type"] == "custom":  # encoded on the fly
        return False
    names = rows.column_names
    return not any(name.startswith("input_ids") for name in names) and ("labels" not in names or "text" in names)


def encode_rows(
    rows: Dataset,
    config: PretrainedConfig,
    processor: ProcessorMixin,
    place: str,
    column_mapping: Mapping[str, str] | None = None,
    train_rows: Dataset | None = None,
    rejected_rows: str = "error",
) -> Dataset:
    """
    Reads, checks, labels and encodes rows for the classes of a model, as a training by a recipe does. Classes that the
    model has no names for get those of the data.

    Args:
        rows: with the fields of reviews or of clips, or what [`load_reviews`] and [`load_clips`] return.
        config: of the model.
        processor: its processor.
        place: the argument that holds the rows, for messages.
        column_mapping: for columns with other names the field that each one is.
        train_rows: the training rows, if these are not; the classes are found in both.
        rejected_rows: `"error"`, or `"drop"` to leave out rows that cannot be used.

    Raises:
        DataError: if a column is missing, or a row is not as declared.
        RecipeError: if the labels are not the classes of the model.
    """
    architecture = architecture_of(config)
    split = "train" if train_rows is None else "validation"
    if not _is_labelled(rows, architecture.data_kind):
        splits = {split: (place, rows)}
        if needs_encoding(train_rows) and not _is_labelled(train_rows, architecture.data_kind):
            splits["train"] = ("train_dataset", train_rows)
        rows = _labelled(splits, config, place, column_mapping or {}, rejected_rows)[split]
    encoded, rows, truncated = encode_readable(architecture, rows, processor, place, rejected_rows)
    _check_labels(encoded, config, place)
    warn_of_truncation({split: truncated}, {split: len(rows)}, architecture.unit, processor)
    return encoded


def _labelled(splits, config, place, mapping, rejected_rows):
    """Splits (each with the argument that it is of) with the labels of a model, which gets the names of its classes."""
    architecture = architecture_of(config)
    kind = architecture.data_kind
    if kind == "clips" and config.num_labels != 1:
        raise DataError(f"`{place}` must be encoded: from clips only scores are read, and the model has classes.")
    checked = {split: _checked(rows, argument, kind, mapping) for split, (argument, rows) in splits.items()}
    fields: dict[str, Any] = {"rejected_rows": rejected_rows, "split_shares": [1.0, 0.0, 0.0]}
    if kind == "reviews":
        fields["columns"] = {"split": None, **{name: own for own, name in mapping.items()}}
    data_args = data_arguments_for(config, checked, **fields)
    data_args.dataset = place
    loaded = architecture.load(data_args, config)
    for rows in loaded.values():
        architecture.check_data(config, data_args, rows)
    if kind == "reviews":
        name_classes(config, data_args.rules())
    return loaded


def _is_labelled(rows, kind):
    """Whether they have the labels of the heads already, as reviews that were loaded have."""
    return kind == "reviews" and any(name in rows.column_names for name in LABEL_FILLS)


def _checked(rows, place, kind, mapping):
    """The rows, those of clips with the names of the fields; raises `DataError` if a field is missing."""
    names = rows.column_names
    accepted = f"the fields of {kind} are {', '.join(_FIELDS[kind])}"
    if unknown := [name for name in mapping.values() if name not in _FIELDS[kind]]:
        raise DataError(f"`column_mapping` names {unknown[0]!r}, but {accepted}.")
    if absent := [own for own in mapping if own not in names]:
        raise DataError(f"`column_mapping` names the column {absent[0]!r}; `{place}` has {listed(names)}.")
    known = {mapping.get(name, name) for name in names}
    for wanted in (_INPUTS[kind], _LABELS[kind]):
        if known.isdisjoint(wanted):
            own = next((name for name in names if name not in mapping), "column")
            raise DataError(
                f"`{place}` has the columns {listed(names)}, but needs {' or '.join(wanted)}. Name them by "
                f"`column_mapping`, such as column_mapping={{{own!r}: {wanted[0]!r}}}; {accepted}."
            )
    if kind == "clips":
        rows = rows.remove_columns([name for own, name in mapping.items() if name in names and name not in mapping])
        rows = rows.rename_columns({own: name for own, name in mapping.items() if own != name})
    return rows


def _check_labels(encoded, config, place):
    """Labels that were given as such must be classes of the model."""
    for column, count in (("labels", config.num_labels), ("coarse_labels", getattr(config, "num_coarse_labels", None))):
        if column not in encoded.column_names or count in (None, 1):
            continue
        if wrong := sorted({label for label in encoded[column] if label is not None and not 0 <= label < count}):
            raise DataError(
                f"`{place}`: the column {column!r} holds {wrong[0]}, but the model has the classes 0 to {count - 1}."
            )
