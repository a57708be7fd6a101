"""Encodes data sets of users into rows for the collator."""

import logging
from collections.abc import Mapping
from typing import Any

from datasets import Dataset, List
from transformers import PretrainedConfig, ProcessorMixin

from hf_fusion.architectures.base import architecture_of
from hf_fusion.architectures.clips import name_clip_classes
from hf_fusion.architectures.reviews import name_classes
from hf_fusion.architectures.rows import encode_readable, warn_of_truncation
from hf_fusion.data.arguments import DataArguments, DataKind
from hf_fusion.data.collator import LABEL_FILLS
from hf_fusion.data.in_memory import Data, name_and_splits
from hf_fusion.data.label_columns import LABEL_FIELDS
from hf_fusion.data.reviews import FIELDS
from hf_fusion.evaluation.kept_predictions import LABELS_OF_TASKS
from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.utils.errors import DataError, listed

logger = logging.getLogger(__name__)

# The fields of rows by the kind of data, and the inputs and labels of which at least one is required.
_FIELDS: dict[DataKind, tuple[str, ...]] = {
    "reviews": tuple(name for name in FIELDS if name != "split"),
    "clips": ("id", *MODALITIES, "label"),
}
_INPUTS: dict[DataKind, tuple[str, ...]] = {"reviews": ("text",), "clips": MODALITIES}
_LABELS: dict[DataKind, tuple[str, ...]] = {"reviews": LABEL_FIELDS, "clips": ("label",)}


def data_arguments_for(config: PretrainedConfig, data: Data, **fields: Any) -> DataArguments:
    """
    Creates the data arguments for a model. Its modalities and label range are the defaults for `fields`; its classes
    are used when the data is loaded.

    Args:
        config ([`PretrainedConfig`]): the configuration of the model.
        data (`Data`): a path, a name, or the rows.
        fields: fields of [`DataArguments`].

    Raises:
        DataError: if the data has another type.
        RecipeError: if a field belongs to another kind of data.
        TypeError: if a field does not exist.
    """
    kind = architecture_of(config).data_kind
    if kind == "clips":
        fields = {"modalities": list(config.modalities), **fields}
        if config.num_labels == 1:
            fields = {"label_range": list(config.label_range), **fields}
    name, splits = name_and_splits(data)
    data_args = DataArguments(dataset=name, **fields)
    data_args.data = splits
    data_args.complete(kind)
    return data_args


def needs_encoding(rows: Any) -> bool:
    """Whether a data set is a `Dataset` with texts, frames and labels that are not encoded yet."""
    if not isinstance(rows, Dataset) or rows.format["type"] == "custom":  # a transform encodes the rows
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
    long_texts: str = "cut",
) -> Dataset:
    """
    Reads, checks, labels and encodes rows for the classes of a model, in the same way as training with a recipe.
    Classes without names in the model get the names of the data.

    Args:
        rows (`Dataset`): rows with the fields of reviews or clips, or the result of [`load_reviews`] or [`load_clips`].
        config ([`PretrainedConfig`]): the configuration of the model.
        processor (`ProcessorMixin`): the processor of the model.
        place (`str`): the name of the argument that holds the rows, for error messages.
        column_mapping (`dict[str, str]`, *optional*): the field of each column with another name.
        train_rows (`Dataset`, *optional*): the training rows, if `rows` are others. The classes are taken from both.
        rejected_rows (`str`, *optional*, defaults to `"error"`): `"drop"` leaves out unusable rows.
        long_texts (`str`, *optional*, defaults to `"cut"`): `"window"` keeps all windows of texts beyond the limit.

    Raises:
        DataError: if a column is missing, or a row does not fit its declaration.
        RecipeError: if the labels are not the classes of the model.
    """
    architecture = architecture_of(config)
    split = "train" if train_rows is None else "validation"
    if not _is_labelled(rows, architecture.data_kind):
        splits = {split: (place, rows)}
        if needs_encoding(train_rows) and not _is_labelled(train_rows, architecture.data_kind):
            splits["train"] = ("train_dataset", train_rows)
        rows = _label_splits(splits, config, place, column_mapping or {}, rejected_rows)[split]
    rows = _without_other_labels(rows, config, place)
    encoded, rows, truncated = encode_readable(architecture, rows, processor, place, rejected_rows, long_texts)
    _check_labels(encoded, config, place)
    warn_of_truncation({split: truncated}, {split: len(rows)}, architecture.unit, processor)
    return encoded


def _without_other_labels(rows, config, place):
    """Removes the labels of heads that the model does not have."""
    used = {LABELS_OF_TASKS[head.task] for head in config.heads.values()}
    if unused := [name for name in LABEL_FILLS if name in rows.column_names and name not in used]:
        logger.warning("`%s`: the model has no heads for %s, which are left out.", place, listed(unused))
    return rows.remove_columns(unused)


def _label_splits(splits, config, place, mapping, rejected_rows):
    """Labels splits, each with the name of its argument, for a model, and names the classes of the model."""
    architecture = architecture_of(config)
    kind = architecture.data_kind
    checked = {split: _check_fields(rows, argument, kind, mapping) for split, (argument, rows) in splits.items()}
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
    else:
        name_clip_classes(config, data_args.classes)
    return loaded


def _is_labelled(rows, kind):
    """Whether rows have the labels of the heads already, such as the result of [`load_reviews`]."""
    return kind == "reviews" and any(name in rows.column_names for name in LABEL_FILLS)


def _check_fields(rows, place, kind, mapping):
    """Checks the fields of rows, and renames the columns of clips; raises `DataError` if a field is missing."""
    names = rows.column_names
    accepted = f"the fields of {kind} are {', '.join(_FIELDS[kind])}"
    if unknown := [name for name in mapping.values() if name not in _FIELDS[kind]]:
        raise DataError(f"`column_mapping` names {unknown[0]!r}, but {accepted}.")
    if absent := [own for own in mapping if own not in names]:
        raise DataError(f"`column_mapping` names the column {absent[0]!r}; `{place}` has {listed(names)}.")
    known = {mapping.get(name, name) for name in names}
    for required in (_INPUTS[kind], _LABELS[kind]):
        if known.isdisjoint(required):
            own = next((name for name in names if name not in mapping), "column")
            raise DataError(
                f"`{place}` has the columns {listed(names)}, but needs {' or '.join(required)}. Rename them by "
                f"`column_mapping`, such as column_mapping={{{own!r}: {required[0]!r}}}; {accepted}."
            )
    if kind == "clips":
        rows = rows.remove_columns([name for own, name in mapping.items() if name in names and name not in mapping])
        rows = rows.rename_columns({own: name for own, name in mapping.items() if own != name})
    return rows


def _check_labels(encoded, config, place):
    """Raises `DataError` if given labels are not classes of the model."""
    for column, count in (("labels", config.num_labels), ("coarse_labels", getattr(config, "num_coarse_labels", None))):
        if column not in encoded.column_names or count in (None, 1) or isinstance(encoded.features[column], List):
            continue
        if wrong := sorted({label for label in encoded[column] if label is not None and not 0 <= label < count}):
            raise DataError(
                f"`{place}`: the column {column!r} holds {wrong[0]}, but the model has the classes 0 to {count - 1}."
            )
