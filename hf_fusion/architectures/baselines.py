"""What a model of each architecture has to beat, on the data of a recipe."""

from datasets import DatasetDict

from hf_fusion.data.arguments import DataArguments
from hf_fusion.data.clips import MODALITIES, is_clip_source, load_clips
from hf_fusion.data.reviews import SYNTHETIC as SYNTHETIC_REVIEWS
from hf_fusion.data.reviews import load_reviews
from hf_fusion.evaluation.baselines import majority_baseline, mean_baseline, ridge_baseline, tfidf_baseline
from hf_fusion.utils.errors import DataError, RecipeError

Baselines = dict[str, dict[str, float]]


def measure_baselines(data_args: DataArguments, model_type: str | None = None) -> tuple[Baselines, DatasetDict]:
    """
    Measures the baselines on the test split.

    Args:
        data_args: the data.
        model_type: whose data it is: "dyfulm" (reviews) or "dashfusion" (clips). By default reviews where the data is a
            file of rows or columns are named, else clips.

    Returns:
        The metrics of each baseline by name, and the data.

    Raises:
        RecipeError: if there is no such model type, or fields of the data do not fit it.
        DataError: if the data cannot be read, or lacks a split.
    """
    if model_type not in (None, *_MEASURES):
        raise RecipeError(f"`model_type` must be one of {', '.join(_MEASURES)}, got {model_type!r:.100}.")
    data_args.complete(model_type or guess_model_type(data_args))
    return _MEASURES[data_args.model_type](data_args)


def guess_model_type(data_args: DataArguments) -> str:
    """Whether reviews or clips are meant."""
    name = data_args.dataset
    reviews = data_args.columns or (name and (name == SYNTHETIC_REVIEWS or not is_clip_source(name)))
    return "dyfulm" if reviews else "dashfusion"


def _measure_clips(data_args):
    clips = load_clips(data_args.source())
    _check_splits(data_args, clips, ("train", "validation", "test"))
    present = [name for name in MODALITIES if name in clips["train"].column_names]
    results = {"mean": mean_baseline(clips, data_args.label_range)}
    for modalities in [[name] for name in present] + ([present] if len(present) > 1 else []):
        results["ridge: " + " + ".join(modalities)] = ridge_baseline(clips, modalities, data_args.label_range)
    return results, clips


def _measure_reviews(data_args):
    reviews = load_reviews(data_args.source())
    _check_splits(data_args, reviews, ("train", "test"))
    train, test = reviews["train"], reviews["test"]
    return {"majority": majority_baseline(train, test), "TF-IDF + linear": tfidf_baseline(train, test)}, reviews


_MEASURES = {"dyfulm": _measure_reviews, "dashfusion": _measure_clips}


def _check_splits(data_args, splits, needed):
    missing = [split for split in needed if split not in splits]
    if missing:
        raise DataError(f"{data_args.dataset} has no {missing[0]} split; it has {', '.join(splits)}.")
