"""Measures zero-shot baselines on the rows on which the variants of a study are measured."""

import time
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from hf_fusion.architectures import architecture_of
from hf_fusion.architectures.evaluate_checkpoint import load_split
from hf_fusion.data.arguments import DataArguments
from hf_fusion.evaluation.kept_predictions import Predictions, describe_predictions, join_predictions, make_predictions
from hf_fusion.evaluation.metrics import compute_metrics
from hf_fusion.evaluation.zero_shot import ZeroShotBaseline
from hf_fusion.training.recipe import recipe_arguments
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.records import describe_environment, fingerprint


@dataclass
class ZeroShotResult:
    """
    The results of a baseline, as those of a run folder.

    Args:
        metrics (`dict`): the content of `metrics.json`, with `zero_shot`, `train_samples` 0, `answered_rows` and
            `answer_seconds`.
        predictions ([`Predictions`]): of validation and test.
        others (`dict[str, Predictions]`): those of other data by name.
        environment (`dict`): the content of `environment.json`.
    """

    metrics: dict[str, Any]
    predictions: Predictions
    others: dict[str, Predictions]
    environment: dict[str, Any]


def measure_zero_shot(recipe: str, changes: dict[str, Any], evaluate_on: dict[str, dict[str, Any]]) -> ZeroShotResult:
    """
    Measures a baseline on validation, test and other data, without training it.

    Args:
        recipe (`str`): the recipe of the study, which describes the data.
        changes (`dict[str, Any]`): changed recipe fields, and `baseline`, the fields of [`ZeroShotBaseline`].
        evaluate_on (`dict[str, dict]`): further data: the data fields and `split` by name.

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
    model = baseline.load()

    def predict(rows: Dataset, split: str, dataset: str) -> Predictions:
        probabilities = model.class_probabilities(list(rows["text"]), list(config.id2label.values()))
        outputs = architecture.zero_shot_outputs(probabilities, data_args)
        facts = describe_predictions(baseline.model, dataset, {split: fingerprint({split: rows})[split]})
        return make_predictions(config, rows, split, outputs, facts={**facts, "task": baseline.task})

    rows = {split: data_args.limit_evaluation(data[split]) for split in ("validation", "test") if split in data}
    started = time.perf_counter()
    parts = {split: predict(part, split, data_args.dataset) for split, part in rows.items()}
    seconds = time.perf_counter() - started
    others = {}
    for name, fields in evaluate_on.items():
        other_args = DataArguments(**{field: value for field, value in fields.items() if field != "split"})
        split = fields.get("split", "test")
        others[name] = predict(load_split(config, other_args, split), split, other_args.dataset)
    metrics = {
        "seed": training_args.seed,
        "zero_shot": True,
        "train_samples": 0,
        "train_seconds": 0.0,
        "parameters": model.num_parameters,
        "answered_rows": sum(map(len, rows.values())),
        "answer_seconds": round(seconds, 1),
        **{split: {"loss": None, **_run_metrics(part)} for split, part in parts.items()},
    }
    facts = {"data_fingerprint": fingerprint(rows), "rows": {split: len(part) for split, part in rows.items()}}
    environment = describe_environment(seed=training_args.seed, dataset=data_args.dataset, **facts)
    return ZeroShotResult(metrics, join_predictions(parts.values()), others, environment)


def _run_metrics(predictions):
    """Computes the metrics of predictions that a training computes, all but the loss."""
    labels = predictions.labels
    if not labels:
        raise RecipeError("The rows have no labels to measure the baseline by.")
    outputs = tuple(predictions.outputs.values())
    return compute_metrics(predictions.config, outputs, list(labels.values()), list(labels))
