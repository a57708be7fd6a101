"""A checkpoint on labelled data of any kind, also on other data than it was trained on."""

from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_fusion.architectures.base import architecture_of
from hf_fusion.data.arguments import DataArguments
from hf_fusion.data.corruption import CORRUPTIONS, LOSSES, MAX_SEVERITY, corrupt, modality_of
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.utils.errors import DataError, RecipeError


class NothingLeftError(DataError):
    """Rows from which everything was taken that a model reads."""


def load_split(config, data_args: DataArguments, split: str) -> Dataset:
    """
    The labelled rows of one split, with what a model can read, damaged if `data_args.damage` says so.

    Args:
        config ([`DyFuLMConfig`] or [`DashFusionConfig`]): of the model.
        data_args: the data.
        split: which part.

    Raises:
        RecipeError: if classes or feature widths are not those of the model.
        DataError: if the data cannot be read, or lacks the split.
        NothingLeftError: if `damage` takes all that the model reads from every row.
    """
    architecture = architecture_of(config)
    data_args.complete(architecture.data_kind)
    data_args.modalities = [name for name in data_args.modalities if name in config.modalities]
    data = architecture.load(data_args, config)
    if split not in data:
        raise DataError(f"{data_args.dataset} has no {split} split; it has {', '.join(data)}.")
    rows = data[split]
    rows = data_args.limit_evaluation(rows)
    if data_args.damage:
        lost = {LOSSES[name] for name, level in data_args.damage.items() if name in LOSSES and level == MAX_SEVERITY}
        if lost >= set(config.modalities):
            raise NothingLeftError(
                f"The damage leaves nothing that this model reads: it takes {', '.join(sorted(lost))}."
            )
        damage = {name: level for name, level in data_args.damage.items() if _is_read(name, config)}
        rows = corrupt(rows, damage) if damage else rows
    architecture.check_data(config, data_args, rows)
    return rows


def _is_read(corruption, config):
    """Whether a model reads what is damaged. (What does not exist passes: it is an error that names it.)"""
    return corruption not in CORRUPTIONS or modality_of(corruption) in config.modalities


def evaluate_checkpoint(checkpoint: str | Path, data_fields: dict[str, Any], batch_size: int = 32) -> dict[str, float]:
    """
    Measures a checkpoint.

    Args:
        checkpoint: a run folder, or a name on the Hub.
        data_fields: fields of [`DataArguments`], and `split` ("test" by default).
        batch_size: rows of a forward pass.

    Returns:
        The metrics of [`evaluate_reviews`] or [`evaluate_clips`].

    Raises:
        RecipeError, DataError: as [`load_split`], or if a field does not exist.
    """
    data_fields = dict(data_fields)
    split = data_fields.pop("split", "test")
    try:
        data_args = DataArguments(**data_fields)
    except TypeError as error:
        raise RecipeError(f"Data has no such field: {error}") from error
    classify = load_pipeline(str(checkpoint))
    rows = load_split(classify.model.config, data_args, split)
    return architecture_of(classify.model.config).measure(classify, rows, batch_size=batch_size)
