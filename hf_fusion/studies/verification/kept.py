"""Kept predictions: read, and compared with the metrics of a file."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from hf_fusion.architectures.measure_protocol import MaskedPredictions, ProtocolSettings
from hf_fusion.evaluation.kept_predictions import (
    Predictions,
    damage_explained,
    digest_weights,
    from_table,
    measure_predictions,
    read_table,
)
from hf_fusion.studies.verification.checks import PREDICTIONS, RECORD, FileChecks, count_numbers, is_close, is_number
from hf_fusion.utils.errors import DataError, RecipeError

_LATER_TOLERANCE = 0.01
# Metrics that records of earlier versions name otherwise.
_RENAMED = {"fine_calibration_error": "fine_expected_calibration_error"}
Kept = TypeVar("Kept")


def read_kept(checks: FileChecks, path: Path, read: Callable[[Path], Kept]) -> Kept | None:
    """
    Reads predictions.

    Args:
        checks ([`FileChecks`]): takes a note if there are none, and a disagreement if they are damaged.
        path (`Path`): their file.
        read (`Callable`): [`read_predictions`] or [`read_study_predictions`].
    """
    if not path.is_file():
        checks.notes.append(f"no {path.name}")
        return None
    try:
        return read(path)
    except DataError as error:
        checks.fail(path.name, "predictions", str(error))
        return None


def compare_with_predictions(
    checks: FileChecks, place: str, metrics: dict[str, Any], predictions: Predictions | None
) -> set[str]:
    """
    Compares metrics with those of predictions of one split; without them the metrics count as those of a record, and so
    does the loss. Any other metric that the predictions do not give disagrees.

    Predictions that were made later from the checkpoint (`recomputed` in their facts) may differ from those of a
    training in lower precision: up to 0.01 the metric rests on the record, and the difference is noted.

    Returns:
        `set[str]`: the names of the metrics that rest on the predictions.
    """
    resting = set()
    measured = {} if predictions is None else measure_predictions(predictions)
    for name, given in metrics.items():
        found = measured.get(_RENAMED.get(name, name))
        if predictions is None or (name.endswith("loss") and found is None):
            checks.count(RECORD, count_numbers(given))
        elif (
            predictions.facts.get("recomputed") and is_number(given) and is_number(found) and not is_close(given, found)
        ):
            checks.count(RECORD)
            checks.later.append(abs(given - found))
            checks.compare(f"{place}.{name}", given, found, _LATER_TOLERANCE)
        else:
            checks.compare_all(f"{place}.{name}", given, found, PREDICTIONS)
            resting.add(name)
    return resting


def check_weights(checks: FileChecks, folder: Path, file: str, facts: dict[str, Any]) -> None:
    """
    Compares the hashes of the weights.

    Args:
        checks ([`FileChecks`]): takes disagreements.
        folder (`Path`): a run folder, or the folder of an evaluation in it.
        file (`str`): the name of the file with the hashes.
        facts (`dict`): the facts of predictions.
    """
    place = folder.resolve()
    weights = digest_weights(place)
    if weights is None and facts.get("checkpoint") == place.parent.name:
        weights = digest_weights(place.parent)
    for name, digest in (facts.get("weights_sha256") or {}).items():
        if weights and digest != weights.get(name):
            checks.fail(f"{file}, SHA-256 of {name}", digest, weights.get(name, "no such file"))


def read_masked_predictions(path: Path) -> list[MaskedPredictions]:
    """
    Reads the file of [`write_masked_predictions`]: the predictions in each condition of a protocol and under each mask.

    Raises:
        DataError: if there is no such file, or it holds no predictions of a protocol.
    """
    table, facts = read_table(path)
    with damage_explained(path):
        settings = read_protocol_settings(facts["settings"])
        masks = list(zip(*(table.column(name).to_pylist() for name in ("condition", "mask_seed")), strict=True))
        conditions = {condition.name: condition for condition in settings.resolve().conditions}
        starts = [row for row in range(len(masks)) if row == 0 or masks[row] != masks[row - 1]]
        return [
            MaskedPredictions(conditions[name], seed, {}, from_table(table.slice(start, end - start), facts))
            for start, end in pairwise([*starts, len(masks)])
            for name, seed in [masks[start]]
        ]


def read_protocol_settings(content: dict[str, Any]) -> ProtocolSettings:
    """Returns the settings of a record; raises `ValueError` if they are not valid."""
    fields = {name: content.get(name) for name in ("protocol", "mode", "rates")}
    try:
        settings = ProtocolSettings(**fields)
        # in exact mode the default seeds of a protocol may be triples, which are no valid settings
        if settings.to_dict()["mask_seeds"] != content.get("mask_seeds"):
            settings = ProtocolSettings(**fields, mask_seeds=content.get("mask_seeds"))
    except (RecipeError, TypeError) as error:
        raise ValueError(f"settings: {error}") from error
    return settings
