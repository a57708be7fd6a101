"""The predictions of a run: `predictions.parquet` beside its `metrics.json`."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from datasets import Dataset

from hf_fusion.architectures.base import architecture_of
from hf_fusion.architectures.evaluate_checkpoint import load_split
from hf_fusion.architectures.outputs import compute_outputs
from hf_fusion.architectures.rows import encode_readable
from hf_fusion.data.temporary import temporary_data
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.kept_predictions import (
    PREDICTIONS_FILE,
    Predictions,
    describe_predictions,
    digest_weights,
    join_predictions,
    make_predictions,
    write_predictions,
)
from hf_fusion.training.recipe import read_data_arguments, read_recipe
from hf_fusion.training.trainer import find_labels
from hf_fusion.utils.errors import FusionError
from hf_fusion.utils.records import ENVIRONMENT_FILE, METRICS_FILE, fingerprint

# The splits of a run that are evaluated.
SPLITS = ("validation", "test")
# Measurements of the trainer that are no metrics.
_MACHINERY = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


def evaluate_split(trainer, dataset: Dataset, split: str) -> tuple[dict[str, float], Predictions]:
    """
    Evaluates one split, the longest rows first, so that a lack of memory shows at once.

    Args:
        trainer ([`FusionTrainer`]): the trainer with the model.
        dataset (`Dataset`): the encoded rows. Rows without a column `id` get their number in `dataset` as id.
        split (`str`): the name of the split.

    Returns:
        `tuple`: the metrics with the loss, and the predictions that they were computed from, in the order of the rows.
    """
    order = np.argsort(-np.array(dataset["length"]), kind="stable")
    result = trainer.predict(dataset.select(order), metric_key_prefix="eval")
    names = {name: name.removeprefix("eval_") for name in result.metrics}
    metrics = {short: result.metrics[name] for name, short in names.items() if short not in _MACHINERY}
    places = np.argsort(order)
    config = trainer.model.config
    outputs = {name: part[places] for name, part in zip(config.heads, _parts(result.predictions), strict=True)}
    label_names = trainer.args.label_names or find_labels(dataset)
    labels = {name: part[places] for name, part in zip(label_names, _parts(result.label_ids), strict=True)}
    return metrics, make_predictions(config, dataset, split, outputs, labels)


def _parts(arrays):
    return arrays if isinstance(arrays, (tuple, list)) else (arrays,)


def keep_run_predictions(
    folder: Path, parts: list[Predictions], dataset: str, fingerprints: Mapping[str, str], seed: int, **facts
) -> None:
    """
    Writes the predictions of a run beside its `metrics.json`; nothing without any.

    Args:
        folder (`Path`): the run folder with the checkpoint.
        parts (`list[Predictions]`): the predictions of each split.
        dataset, fingerprints, seed, facts: see [`describe_predictions`].
    """
    if parts:
        predictions = join_predictions(parts)
        predictions.facts |= describe_predictions(folder, dataset, fingerprints, seed, **facts)
        write_predictions(folder / PREDICTIONS_FILE, predictions)


@temporary_data()
def complete_run(folder: Path, say: Callable[[str], None]) -> str | None:
    """
    Writes the predictions of a finished run that has none, by evaluating its checkpoint. Its `metrics.json` stays; the
    facts of the predictions say `recomputed`, since a training in lower precision has slightly other outputs.

    Args:
        folder (`Path`): the run folder.
        say (`Callable`): called with a line before the checkpoint is evaluated.

    Returns:
        `str`: the reason why the run still has no predictions, `None` if it has them.
    """
    if (folder / PREDICTIONS_FILE).exists():
        return None
    if digest_weights(folder) is None:
        return "its checkpoint is gone"
    say("no predictions yet, evaluating its checkpoint")
    metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    try:
        parts, prints = _predict_splits(folder, [split for split in SPLITS if split in metrics])
    except (FusionError, OSError) as error:
        return f"its checkpoint cannot be evaluated: {error}"
    known = _read_fingerprints(folder)
    if changed := [split for split, digest in prints.items() if known.get(split, digest) != digest]:
        return f"its {changed[0]} data is not that of its training (another fingerprint)"
    dataset = read_data_arguments(folder).dataset
    keep_run_predictions(folder, parts, dataset, prints, metrics["seed"], recomputed=True)
    return None


def _read_fingerprints(folder):
    """Returns the fingerprints of the data that a run was trained and evaluated on."""
    path = folder / ENVIRONMENT_FILE
    return json.loads(path.read_text(encoding="utf-8")).get("data_fingerprint", {}) if path.exists() else {}


def _predict_splits(folder, splits):
    """Returns the predictions of a checkpoint on splits of the data of its recipe, and their fingerprints."""
    classify = load_pipeline(str(folder))
    model, processor = classify.model, classify.processor
    parts, prints = [], {}
    long_texts = read_recipe(str(folder / "config.yaml")).get("long_texts", "cut")
    for split in splits:
        data_args = read_data_arguments(folder)
        rows = load_split(model.config, data_args, split, processor)
        place = f"{data_args.dataset} ({split})"
        architecture = architecture_of(model.config)
        encoded, rows, _ = encode_readable(architecture, rows, processor, place, data_args.rejected_rows, long_texts)
        outputs = compute_outputs(model, processor, encoded)
        parts.append(make_predictions(model.config, encoded, split, outputs))
        prints |= fingerprint({split: rows})
    return parts, prints
