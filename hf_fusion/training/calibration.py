"""Calibrates the model of a finished training on its validation split."""

import logging
from pathlib import Path
from typing import Any

from hf_fusion.evaluation.calibrate_reviews import calibrate_reviews, has_temperatures
from hf_fusion.evaluation.calibration import CalibrationError
from hf_fusion.evaluation.kept_predictions import Predictions, measure_predictions
from hf_fusion.evaluation.plots import plots_available
from hf_fusion.hub.repository import CALIBRATION_FOLDER

logger = logging.getLogger(__name__)


def calibrate_trained(
    trainer, model_args, predictions: dict[str, Predictions], metrics: dict[str, Any]
) -> dict[str, Predictions]:
    """
    Fits temperatures and `abstain_below` of a trained model, if its recipe says `calibrate` and its answers have
    temperatures. A collective call: every process of a training makes it, with the same predictions.

    Args:
        trainer ([`FusionTrainer`]): the trainer; the configuration of its model is changed.
        model_args ([`ModelArguments`]): the model part of the recipe.
        predictions (`dict[str, Predictions]`): the predictions of each split.
        metrics (`dict`): the content of `metrics.json`, which gets the metrics of the calibrated predictions, and
            `calibration`, the record of [`Calibration`], or `problem`, the reason why there is none.

    Returns:
        `dict[str, Predictions]`: the calibrated predictions; those given if no temperature can be fitted.
    """
    config = trainer.model.config
    if not (model_args.calibrate and has_temperatures(config)):
        return predictions
    try:
        calibration = calibrate_reviews(predictions, model_args.target_accuracy)
    except CalibrationError as error:
        problem = str(error)
        if model_args.target_accuracy is not None:
            problem += (
                f" `target_accuracy` {model_args.target_accuracy:g} chooses no `abstain_below` without it: no answer "
                "is unsure."
            )
        logger.warning(problem)
        metrics["calibration"] = {"problem": problem}
        return predictions
    for problem in calibration.problems:
        logger.warning(problem)
    for name, value in calibration.fields.items():
        setattr(config, name, value)
    for split, part in calibration.predictions.items():
        metrics[split] |= measure_predictions(part)
    metrics["calibration"] = calibration.record
    if trainer.args.should_save and plots_available():
        calibration.draw(Path(trainer.args.output_dir) / CALIBRATION_FOLDER)
    return calibration.predictions
