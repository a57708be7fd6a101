"""Checks of run folders and of the folders of `hf-fusion evaluate`: metrics from predictions, facts, the card."""

import json
from pathlib import Path
from typing import Any

from hf_fusion.evaluation.kept_predictions import (
    PREDICTIONS_FILE,
    Predictions,
    digest_weights,
    measure_predictions,
    read_predictions,
)
from hf_fusion.studies.verification.checks import PREDICTIONS, RECORD, FileChecks, count_numbers
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import ENVIRONMENT_FILE, METRICS_FILE

SPLITS = ("train", "validation", "test")


def read_metrics(folder: Path) -> dict[str, dict[str, float | None]]:
    """Reads the metrics of a folder by split; raises [`DataError`] if there are none."""
    content = _read_json(folder / METRICS_FILE)
    return {split: content[split] for split in SPLITS if isinstance(content.get(split), dict)}


def check_run(folder: Path) -> FileChecks:
    """
    Checks the metrics of a folder against its predictions, and these against the other files.

    Args:
        folder (`Path`): a run folder, or a folder that `hf-fusion evaluate` wrote.

    Raises:
        DataError: if its `metrics.json` is damaged.
    """
    checks = FileChecks(folder, "run")
    splits, content = read_metrics(folder), _read_json(folder / METRICS_FILE)
    checks.count(RECORD, count_numbers({name: content.get(name) for name in ("parameters", "train_seconds")}))
    predictions = read_kept(checks, folder / PREDICTIONS_FILE)
    facts = _read_json(folder / ENVIRONMENT_FILE) if (folder / ENVIRONMENT_FILE).is_file() else content
    if predictions is not None:
        _check_facts(checks, predictions, facts, folder)
    for split, metrics in splits.items():
        compare_with_predictions(checks, split, metrics, predictions, split)
    return checks


def read_kept(checks: FileChecks, path: Path) -> Predictions | None:
    """Reads predictions; `None` with a note if they were not kept, and with a disagreement if they are damaged."""
    if not path.is_file():
        checks.notes.append(f"its predictions were not kept ({path.name})")
        return None
    try:
        return read_predictions(path)
    except DataError as error:
        checks.fail(path.name, "predictions", str(error))
        return None


def compare_with_predictions(
    checks: FileChecks, place: str, metrics: dict[str, Any], predictions: Predictions | None, split: str | None = None
) -> None:
    """Compares metrics with those of predictions; without them the metrics count as those of a record."""
    if predictions is None or (split is not None and split not in predictions.splits):
        checks.count(RECORD, count_numbers(metrics))
    else:
        checks.compare_all(place, metrics, measure_predictions(predictions, split), PREDICTIONS)


def _check_facts(checks, predictions, environment, folder):
    """Compares what the predictions say of their origin with the other files of the folder."""
    known = predictions.facts
    for split, fingerprint in environment.get("data_fingerprint", {}).items():
        if split in known.get("data_fingerprint", ()) and known["data_fingerprint"][split] != fingerprint:
            checks.fail(f"{PREDICTIONS_FILE}, data of {split}", known["data_fingerprint"][split], fingerprint)
    rows = environment.get("rows", {})
    for split in dict.fromkeys(predictions.splits.tolist()):
        given = rows.get(split) if isinstance(rows, dict) else rows
        if given is not None:
            checks.compare(f"{PREDICTIONS_FILE}, rows of {split}", int((predictions.splits == split).sum()), given)
    # the checkpoint is the run folder itself, or the one around the folder of an evaluation
    place = folder.resolve() if known.get("checkpoint") == folder.resolve().name else folder.resolve().parent
    weights = digest_weights(place) if known.get("checkpoint") == place.name else None
    for name, digest in (known.get("weights_sha256") or {}).items():
        if weights and digest != weights.get(name):
            checks.fail(f"{PREDICTIONS_FILE}, SHA-256 of {name}", digest, weights.get(name, "no such file"))


def _read_json(path):
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not JSON ({error}).") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: not an object in JSON.")
    return content
