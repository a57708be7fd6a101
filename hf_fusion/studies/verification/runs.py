"""Checks of run folders and of the folders of `hf-fusion evaluate`: metrics from predictions, and their origin."""

import json
from pathlib import Path
from typing import Any

from hf_fusion.evaluation.calibrate_reviews import measure_calibration
from hf_fusion.evaluation.kept_predictions import PREDICTIONS_FILE, read_predictions
from hf_fusion.evaluation.review_evidence import describe_answers
from hf_fusion.studies.run_folders import TRANSFER_FILE, other_predictions_file
from hf_fusion.studies.verification.checks import PREDICTIONS, RECORD, FileChecks, count_numbers
from hf_fusion.studies.verification.kept import check_weights, compare_with_predictions, read_kept
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import ENVIRONMENT_FILE, METRICS_FILE

SPLITS = ("train", "validation", "test")


def read_metrics(folder: Path) -> dict[str, dict[str, float | None]]:
    """Reads the metrics of a folder by split; raises [`DataError`] if its `metrics.json` is damaged."""
    content = _read_json(folder / METRICS_FILE)
    return {split: content[split] for split in SPLITS if isinstance(content.get(split), dict)}


def read_evidence(folder: Path) -> dict[str, Any] | None:
    """Reads the evidence of a folder on its last split, which its card shows; `None` without."""
    *_, last = [None, *_read_evidence(_read_json(folder / METRICS_FILE)).values()]
    return last


def _read_evidence(content):
    """Returns the evidence by split; raises [`DataError`] if it is damaged."""
    splits, parts = content.get("evidence", {}).get("splits", {}), {"intervals", "classes", "confusion"}
    if not all(isinstance(part, dict) and parts <= set(part) for part in splits.values()):
        raise DataError(f"{METRICS_FILE}: the evidence is damaged.")
    return splits


def read_calibration(folder: Path) -> dict[str, Any] | None:
    """Reads the record of a calibration; `None` if there is none, or it failed."""
    return _read_calibration(_read_json(folder / METRICS_FILE))


def _read_calibration(content):
    """Returns the record of a calibration; raises [`DataError`] if it is damaged."""
    record = content.get("calibration")
    if record is None or (isinstance(record, dict) and "problem" in record):
        return None
    splits = [record[split] for split in SPLITS if split in record] if isinstance(record, dict) else []
    if not any(isinstance(part, dict) and {"before", "after"} <= set(part) for part in splits):
        raise DataError(f"{METRICS_FILE}: the calibration is damaged.")
    return record


def check_run(folder: Path) -> FileChecks:
    """
    Checks the metrics of a folder against its predictions, and these against the other files.

    Args:
        folder (`Path`): a run folder, or a folder that `hf-fusion evaluate` wrote.

    Raises:
        DataError: if a file in JSON is damaged.
    """
    checks = FileChecks(folder, "run")
    splits, content = read_metrics(folder), _read_json(folder / METRICS_FILE)
    checks.count(RECORD, count_numbers({name: content.get(name) for name in ("parameters", "train_seconds")}))
    predictions = read_kept(checks, folder / PREDICTIONS_FILE, read_predictions)
    if predictions is not None:
        has_environment = (folder / ENVIRONMENT_FILE).is_file()
        _check_facts(checks, predictions, _read_json(folder / ENVIRONMENT_FILE) if has_environment else content)
        check_weights(checks, folder, PREDICTIONS_FILE, predictions.facts)
    for split, metrics in splits.items():
        is_kept = predictions is not None and split in predictions.splits
        compare_with_predictions(checks, split, metrics, predictions.of_split(split) if is_kept else None)
    for split, part in _read_evidence(content).items():
        is_kept = predictions is not None and split in predictions.splits
        found = describe_answers(predictions.of_split(split)) if is_kept else {}
        checks.compare_all(f"evidence of {split}", part, found, PREDICTIONS)
    _check_calibration(checks, _read_calibration(content), predictions)
    if (folder / TRANSFER_FILE).is_file():
        _check_other_data(checks, _read_json(folder / TRANSFER_FILE))
    return checks


def _check_facts(checks, predictions, environment):
    """Compares data and number of rows of the predictions with those of the run."""
    known = predictions.facts
    checks.name_commit(known.get("commit"))
    for split, fingerprint in environment.get("data_fingerprint", {}).items():
        if split in known.get("data_fingerprint", ()) and known["data_fingerprint"][split] != fingerprint:
            checks.fail(f"{PREDICTIONS_FILE}, data of {split}", known["data_fingerprint"][split], fingerprint)
    rows = environment.get("rows", {})
    for split in dict.fromkeys(predictions.splits.tolist()):
        found = rows.get(split) if isinstance(rows, dict) else rows
        if found is not None:
            checks.compare(f"{PREDICTIONS_FILE}, rows of {split}", int((predictions.splits == split).sum()), found)


def _check_calibration(checks, record, predictions):
    """Compares a calibration with the predictions that it was fitted on; one on other data rests on its record."""
    if record is None:
        return
    found = {}
    if "dataset" not in record and predictions is not None and not predictions.facts.get("recomputed"):
        splits = [split for split in SPLITS if split in record and split in predictions.splits]
        found = measure_calibration({split: predictions.of_split(split) for split in splits})
    checks.compare_all("calibration", record, found, PREDICTIONS)


def _check_other_data(checks, transfer):
    """Checks the metrics on the other data of a study."""
    for name, entry in transfer.items():
        path = checks.path / other_predictions_file(name)
        predictions = read_kept(checks, path, read_predictions) if count_numbers(entry["metrics"]) else None
        if predictions is not None:
            check_weights(checks, checks.path, path.name, predictions.facts)
        compare_with_predictions(checks, f"{TRANSFER_FILE}, {name}", entry["metrics"], predictions)


def _read_json(path):
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not JSON ({error}).") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: not an object in JSON.")
    return content
