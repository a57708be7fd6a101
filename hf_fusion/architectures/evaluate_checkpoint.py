"""Evaluates a checkpoint on labelled data, also on other data than its training data."""

from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_fusion.architectures.base import architecture_of
from hf_fusion.data.arguments import DataArguments
from hf_fusion.data.corruption import CORRUPTIONS, LOSSES, MAX_SEVERITY, corrupt, modality_of
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.kept_predictions import describe_predictions, predict_labelled, write_predictions
from hf_fusion.media.extractor import check_extraction
from hf_fusion.utils.errors import DataError, RecipeError
from hf_fusion.utils.records import fingerprint


class NothingLeftError(DataError):
    """A corruption removed all inputs of the model from the rows."""


def load_split(config, data_args: DataArguments, split: str, processor=None) -> Dataset:
    """
    Loads the labelled rows of a split for a model, and applies the corruptions of `data_args.damage`.

    Args:
        config ([`DyFuLMConfig`] or [`DashFusionConfig`]): the configuration of the model.
        data_args ([`DataArguments`]): the data.
        split (`str`): the name of the split.
        processor (*optional*): the processor of the model, to check that it reads frames as those of the data.

    Raises:
        RecipeError: if classes or feature widths do not fit the model.
        DataError: if the data cannot be read, lacks the split, or was extracted from media by other settings.
        NothingLeftError: if `damage` removes all inputs of the model from every row.
    """
    return _prepare(config, data_args, _load(config, data_args, split)[split], processor)


def load_with_train(config, data_args: DataArguments, split: str, processor=None) -> tuple[Dataset, Dataset | None]:
    """As [`load_split`]; also returns all rows of the train split as they are, `None` if the data has none."""
    data = _load(config, data_args, split)
    return _prepare(config, data_args, data[split], processor), data.get("train")


def load_splits(config, data_args: DataArguments, splits: tuple[str, ...], processor=None) -> dict[str, Dataset]:
    """As [`load_split`], of the first of `splits`, which the data must have, and of the others that it has."""
    data = _load(config, data_args, splits[0])
    return {split: _prepare(config, data_args, data[split], processor) for split in splits if split in data}


def _load(config, data_args, split):
    """Loads all splits of the data; raises [`DataError`] if it lacks one."""
    architecture = architecture_of(config)
    data_args.complete(architecture.data_kind)
    data_args.modalities = [name for name in data_args.modalities if name in config.modalities]
    data = architecture.load(data_args, config)
    if split not in data:
        raise DataError(f"{data_args.dataset} has no {split} split; it has {', '.join(data)}.")
    return data


def _prepare(config, data_args, rows, processor):
    """Limits and corrupts rows, and checks that they fit the model."""
    rows = data_args.limit_evaluation(rows)
    if data_args.damage:
        lost = {LOSSES[name] for name, level in data_args.damage.items() if name in LOSSES and level == MAX_SEVERITY}
        if lost >= set(config.modalities):
            raise NothingLeftError(
                f"The damage leaves nothing that this model reads: it takes {', '.join(sorted(lost))}."
            )
        damage = {name: level for name, level in data_args.damage.items() if _is_read(name, config)}
        rows = corrupt(rows, damage) if damage else rows
    architecture_of(config).check_data(config, data_args, rows)
    if processor is not None:
        check_extraction(processor, data_args.dataset)
    return rows


def _is_read(corruption, config):
    """Whether a model reads the corrupted modality. Unknown corruptions pass; a later error names them."""
    return corruption not in CORRUPTIONS or modality_of(corruption) in config.modalities


def evaluate_checkpoint(
    checkpoint: str | Path, data_fields: dict[str, Any], batch_size: int = 32, keep: str | Path | None = None
) -> dict[str, float]:
    """
    Evaluates a checkpoint on texts that are cut to its limit, as training does unless the recipe says otherwise: the
    results of a study are comparable with those of its runs.

    Args:
        checkpoint (`str` or `Path`): a run folder, or a name on the Hub.
        data_fields (`dict[str, Any]`): fields of [`DataArguments`], and `split` ("test" by default).
        batch_size (`int`, *optional*, defaults to 32): the number of rows per forward pass.
        keep (`str` or `Path`, *optional*): if set, the predictions are written to this file, see
            [`write_predictions`].

    Returns:
        `dict[str, float]`: the metrics of [`evaluate_reviews`] or [`evaluate_clips`].

    Raises:
        RecipeError, DataError: see [`load_split`]; also if a field does not exist.
    """
    data_fields = dict(data_fields)
    split = data_fields.pop("split", "test")
    try:
        data_args = DataArguments(**data_fields)
    except TypeError as error:
        raise RecipeError(f"Unknown data field: {error}") from error
    classify = load_pipeline(str(checkpoint))
    rows = load_split(classify.model.config, data_args, split, classify.processor)
    predictions = predict_labelled(classify, rows, split, batch_size, long_texts="cut")
    metrics = architecture_of(classify.model.config).evaluate(predictions)
    if keep is not None:
        prints = fingerprint({split: rows})
        predictions.facts |= describe_predictions(checkpoint, data_args.dataset, prints, damage=data_args.damage)
        write_predictions(keep, predictions)
    return metrics
