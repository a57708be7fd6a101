"""Measures zero-shot baselines on the rows on which the variants of a study are measured."""

import time
from typing import Any

import numpy as np
from datasets import Dataset

from hf_fusion.architectures import Architecture, architecture_of
from hf_fusion.architectures.evaluate_checkpoint import load_split
from hf_fusion.data.arguments import DataArguments
from hf_fusion.data.collator import LABEL_FILLS
from hf_fusion.evaluation.metrics import compute_metrics
from hf_fusion.evaluation.zero_shot import ZeroShotBaseline, ZeroShotModel
from hf_fusion.training.recipe import recipe_arguments
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.records import describe_environment, fingerprint


def measure_zero_shot(
    recipe: str, changes: dict[str, Any], evaluate_on: dict[str, dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, dict[str, float]], dict[str, Any]]:
    """
    Measures a baseline on validation, test and other data, without training it.

    Args:
        recipe (`str`): the recipe of the study, which describes the data.
        changes (`dict[str, Any]`): changed recipe fields, and `baseline`, the fields of [`ZeroShotBaseline`].
        evaluate_on (`dict[str, dict]`): further data: the data fields and `split` by name.

    Returns:
        `tuple`: the content of `metrics.json` (as that of a run, with `train_samples` 0, `answered_rows` and
        `answer_seconds`), the metrics on the other data by name, and the content of `environment.json`.

    Raises:
        RecipeError: if the baseline is not valid, or the rows are no texts with classes.
        DataError: if the data cannot be read.
        MissingExtraError, OSError: see [`ZeroShotBaseline.load`].
    """
    baseline = ZeroShotBaseline.from_fields(changes["baseline"])
    recipe_fields = {name: value for name, value in changes.items() if name != "baseline"}
    model_args, data_args, training_args = recipe_arguments(recipe, **recipe_fields)
    architecture = architecture_of(model_args.model_type)
    data = architecture.load(data_args)
    config = architecture.zero_shot_config(data_args)
    rows = {split: data_args.limit_evaluation(data[split]) for split in ("validation", "test") if split in data}
    model, started = baseline.load(), time.perf_counter()
    metrics = {split: _measure(architecture, model, config, data_args, part) for split, part in rows.items()}
    result = {
        "seed": training_args.seed,
        "zero_shot": True,
        "train_samples": 0,
        "train_seconds": 0.0,
        "parameters": model.num_parameters,
        "answered_rows": sum(map(len, rows.values())),
        "answer_seconds": round(time.perf_counter() - started, 1),
        **metrics,
    }
    others = {}
    for name, data_fields in evaluate_on.items():
        other_args = DataArguments(**{field: value for field, value in data_fields.items() if field != "split"})
        part = load_split(config, other_args, data_fields.get("split", "test"))
        others[name] = _measure(architecture, model, config, data_args, part)
    facts = {"data_fingerprint": fingerprint(rows), "rows": {split: len(part) for split, part in rows.items()}}
    return result, others, describe_environment(seed=training_args.seed, dataset=data_args.dataset, **facts)


def _measure(
    architecture: Architecture, model: ZeroShotModel, config: Any, data_args: DataArguments, rows: Dataset
) -> dict[str, float]:
    """Computes the metrics of a split as training does, but for the loss."""
    probabilities = model.class_probabilities(list(rows["text"]), list(config.id2label.values()))
    outputs = architecture.zero_shot_outputs(probabilities, data_args)
    label_names = [name for name in LABEL_FILLS if name in rows.column_names]
    if not label_names:
        raise RecipeError("The rows have no labels to measure the baseline by.")
    labels = [np.array([LABEL_FILLS[name] if value is None else value for value in rows[name]]) for name in label_names]
    return {"loss": None, **compute_metrics(config, tuple(outputs.values()), labels, label_names)}
