"""Calibrates a checkpoint on labelled data, and writes the result into its configuration."""

import json
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import CONFIG_NAME

from hf_fusion.architectures.evaluate_checkpoint import load_splits
from hf_fusion.data.arguments import DataArguments
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.calibrate_reviews import Calibration, calibrate_reviews, has_temperatures
from hf_fusion.evaluation.calibration import CalibrationError
from hf_fusion.evaluation.kept_predictions import (
    PREDICTIONS_FILE,
    Predictions,
    measure_predictions,
    predict_labelled,
    read_predictions,
    write_predictions,
)
from hf_fusion.evaluation.plots import plots_available
from hf_fusion.evaluation.review_evidence import describe_answers
from hf_fusion.hub.model_card import write_model_card
from hf_fusion.hub.repository import CALIBRATION_FOLDER, RECORDS
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.records import METRICS_FILE, describe_environment, fingerprint, write_json

RECORD_FILE = "calibration.json"
_SPLITS = ("validation", "test")
_TRAINING_STATES = ("checkpoint-*", "runs", "*.pt", "*.pth", "optimizer.*", "logs")


def write_calibration(
    checkpoint: str,
    data_args: DataArguments,
    target_accuracy: float | None = None,
    abstain_below: float | None = None,
    output: str | Path | None = None,
    batch_size: int = 32,
    device: str | None = None,
    track: Callable[..., Iterable] = lambda answers, total, unit: answers,
) -> tuple[Calibration, Path]:
    """
    Fits the temperatures and `abstain_below` of a DyFuLM on the validation split, measures them on validation and test,
    and writes them into its configuration. Weights, processor and logits stay as they are.

    Args:
        checkpoint (`str`): a run folder, or a name on the Hub.
        data_args ([`DataArguments`]): the data.
        target_accuracy, abstain_below (`float`, *optional*): see [`calibrate_reviews`].
        output (`str` or `Path`, *optional*): a new folder for the calibrated checkpoint; by default the run folder
            itself is changed.
        batch_size (`int`): the number of rows per forward pass.
        device (`str`, *optional*): see [`load_pipeline`].
        track (`Callable`): wraps the predictions for a progress bar; called with the predictions, `total` (their
            number) and `unit`.

    Returns:
        `tuple`: the [`Calibration`], and the folder of the calibrated checkpoint. Its folder `calibration` has
        `calibration.json` and, with the extra `plots`, the pictures of [`Calibration.draw`]. A run folder with records
        has the result in `metrics.json` and in its model card; where it has kept its predictions, its metrics and their
        evidence are measured again, as those of the calibrated answers.

    Raises:
        CalibrationError: if nothing can be fitted, or the answers do not reach `target_accuracy`; nothing is written.
        DataError: if the kept predictions of the run are damaged; nothing is written.
        RecipeError, DataError, OSError: see [`load_pipeline`] and [`load_split`]; also for a model without
            temperatures, an `output` that is not empty, and a name on the Hub without `output`.
    """
    _check_choice(target_accuracy, abstain_below)
    _check_output(checkpoint, output)
    classify = load_pipeline(checkpoint, device=device)
    config = classify.model.config
    if not has_temperatures(config):
        raise RecipeError(f"{checkpoint} is a {config.model_type}, whose answers have no temperature: give a DyFuLM.")
    rows = load_splits(config, data_args, _SPLITS, classify.processor)
    parts = {
        split: predict_labelled(classify, part, split, batch_size, partial(track, total=len(part), unit="review"))
        for split, part in rows.items()
    }
    calibration = calibrate_reviews(parts, target_accuracy, abstain_below)
    if reason := calibration.record["not_fitted"].get("abstain_below"):
        raise CalibrationError(f"`target_accuracy` {target_accuracy} cannot be reached: {reason}. Nothing was changed.")
    kept = _read_kept(Path(checkpoint))
    folder = _place(classify, checkpoint, output)
    _write_fields(folder, calibration.fields, classify.model)
    calibration.record["dataset"] = Path(data_args.dataset).name
    facts = {"checkpoint": Path(checkpoint).name, "data_fingerprint": fingerprint(rows)}
    write_json(folder / CALIBRATION_FOLDER / RECORD_FILE, {**calibration.record, **describe_environment(**facts)})
    if plots_available():
        calibration.draw(folder / CALIBRATION_FOLDER)
    _update_records(folder, calibration, kept)
    return calibration, folder


def _check_choice(target_accuracy, abstain_below):
    if target_accuracy is not None and abstain_below is not None:
        raise RecipeError("`target_accuracy` chooses `abstain_below`: give one of the two.")
    if target_accuracy is not None and not 0 < target_accuracy < 1:
        raise RecipeError(f"`target_accuracy` must lie between 0 and 1, got {target_accuracy}.")
    if abstain_below is not None and not 0 <= abstain_below < 1:
        raise RecipeError(f"`abstain_below` must lie in [0, 1), got {abstain_below}.")


def _check_output(checkpoint, output):
    if output is None and _find_config(Path(checkpoint)) is None:
        raise RecipeError(
            f"{checkpoint} is no folder with the configuration of a model: set `output`, a folder for the calibrated "
            "checkpoint."
        )
    if output is not None and Path(output).exists() and (not Path(output).is_dir() or any(Path(output).iterdir())):
        raise RecipeError(f"`output` {output} exists and is not empty: choose a new folder.")


def _place(classify, checkpoint, output):
    """Returns the folder of the checkpoint to change: itself, or a copy without the states of its training."""
    if output is None:
        return Path(checkpoint)
    if _find_config(Path(checkpoint)):
        shutil.copytree(checkpoint, output, ignore=shutil.ignore_patterns(*_TRAINING_STATES), dirs_exist_ok=True)
    else:
        classify.save_pretrained(output)
    return Path(output)


def _find_config(folder):
    """Returns the configuration of a local checkpoint; that of a LoRA adapter is the one of its folder `base`."""
    places = (folder / CONFIG_NAME, folder / "base" / CONFIG_NAME)
    return next((path for path in places if path.is_file()), None)


def _write_fields(folder: Path, fields: dict[str, float | None], model: PreTrainedModel) -> None:
    """Writes fields into the configuration of a checkpoint, beside the code that reads them."""
    path = _find_config(folder)
    custom_object_save(model, path.parent)
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **fields})


def _read_kept(folder):
    """Returns the kept predictions of a run folder; `None` without."""
    path = folder / PREDICTIONS_FILE
    return read_predictions(path) if path.is_file() else None


def _update_records(folder: Path, calibration: Calibration, kept: Predictions | None) -> None:
    """
    Adds the record to `metrics.json` and to the model card of a run folder, and measures its kept predictions again.
    """
    path = folder / METRICS_FILE
    if path.is_file():
        metrics = json.loads(path.read_text(encoding="utf-8"))
        if kept is not None:
            calibrated = kept.with_fields(calibration.fields)
            _measure_again(metrics, kept, calibrated)
            write_predictions(folder / PREDICTIONS_FILE, calibrated)
        write_json(path, {**metrics, "calibration": calibration.record})
    if all((folder / name).is_file() for name in RECORDS):
        write_model_card(folder)


def _measure_again(metrics, before, after):
    """Replaces the metrics of predictions, and the evidence that follows from them alone, by those of others."""
    evidence = metrics.get("evidence", {}).get("splits", {})
    for split in dict.fromkeys(after.splits.tolist()):
        if split in metrics:
            old, part = measure_predictions(before, split), after.of_split(split)
            others = {name: value for name, value in metrics[split].items() if name not in old}
            metrics[split] = {**others, **measure_predictions(part)}
            if split in evidence:
                evidence[split] |= describe_answers(part)
