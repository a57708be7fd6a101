"""Measures the baselines of an architecture on the data of a recipe."""

from datasets import DatasetDict

from hf_fusion.architectures.base import architecture_of
from hf_fusion.data.arguments import DataArguments
from hf_fusion.data.clips import is_clip_source
from hf_fusion.data.reviews import SYNTHETIC as SYNTHETIC_REVIEWS
from hf_fusion.utils.errors import DataError, RecipeError


def measure_baselines(
    data_args: DataArguments, model_type: str | None = None
) -> tuple[dict[str, dict[str, float]], DatasetDict]:
    """
    Measures simple models on the test split.

    Args:
        data_args ([`DataArguments`]): the data.
        model_type (`str`, *optional*): the architecture that reads the data. By default that of reviews if the data is
            a file of rows or has named columns, otherwise that of clips.

    Returns:
        `tuple`: the metrics of each baseline by name, and the data.

    Raises:
        RecipeError: if the model type is unknown, or fields of the data do not fit it.
        DataError: if the data cannot be read, or lacks a split.
    """
    architecture = architecture_of(model_type or _guess_model_type(data_args))
    data_args.complete(architecture.data_kind)
    for name in ("damage", "augmentations", "missing_protocol", "max_train_samples", "max_eval_samples"):
        if getattr(data_args, name):
            raise RecipeError(f"`{name}` does nothing for baselines, which take all rows as they are: leave it out.")
    splits = architecture.load(data_args)
    if missing := [split for split in ("train", "test") if split not in splits]:
        raise DataError(f"{data_args.dataset} has no {missing[0]} split; it has {', '.join(splits)}.")
    return architecture.measure_baselines(splits, data_args), splits


def _guess_model_type(data_args):
    name = data_args.dataset
    reviews = data_args.columns or (name and (name == SYNTHETIC_REVIEWS or not is_clip_source(name)))
    return "dyfulm" if reviews else "dashfusion"
