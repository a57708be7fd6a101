"""Writes metrics and figures of a checkpoint on labelled data."""

from collections.abc import Callable, Iterable
from pathlib import Path

from hf_fusion.architectures.base import architecture_of
from hf_fusion.architectures.evaluate_checkpoint import load_split
from hf_fusion.data.arguments import DataArguments
from hf_fusion.deployment.predictions import load_pipeline, settle_long_texts
from hf_fusion.evaluation.kept_predictions import (
    PREDICTIONS_FILE,
    describe_predictions,
    predict_labelled,
    write_predictions,
)
from hf_fusion.evaluation.plots import plots_available
from hf_fusion.evaluation.tables import latex_table
from hf_fusion.hub.checkpoint_names import result_folder
from hf_fusion.utils.records import METRICS_FILE, describe_environment, fingerprint, write_json


def write_evaluation(
    checkpoint: str,
    data_args: DataArguments,
    split: str = "test",
    output_dir: str | Path | None = None,
    batch_size: int = 32,
    dtype: str = "float32",
    device: str | None = None,
    format: str = "png",
    track: Callable[[Iterable, int, str], Iterable] = lambda answers, total, unit: answers,
    long_texts: str | None = None,
) -> tuple[dict, Path]:
    """
    Evaluates a checkpoint on one split of labelled data.

    Args:
        checkpoint (`str`): a run folder, or a name on the Hub.
        data_args ([`DataArguments`]): the data.
        split (`str`): the name of the split.
        output_dir (`str`, *optional*): the folder for `metrics.json` (metrics, environment and data), `metrics.tex`,
            `predictions.parquet` (see [`write_predictions`]) and, with the extra `plots`, figures (confusion and
            calibration, or true and predicted scores); `CHECKPOINT/evaluation-SPLIT` by default.
        batch_size (`int`): the number of rows per forward pass.
        dtype, device (`str`): see [`load_pipeline`].
        format (`str`): the format of the figures, `"png"`, `"pdf"` or `"svg"`.
        track (`Callable`): wraps the predictions for a progress bar; called with the predictions, their number and
            unit.
        long_texts (`str`, *optional*): `"window"` or `"cut"`; by default windows, if the model can read them.

    Returns:
        `tuple`: the content of `metrics.json`, and the folder.

    Raises:
        RecipeError, DataError, OSError: see [`load_pipeline`] and [`load_split`].
    """
    classify = load_pipeline(checkpoint, dtype, device)
    config = classify.model.config
    long_texts = settle_long_texts(config, long_texts)
    rows = load_split(config, data_args, split, classify.processor)
    folder = Path(output_dir or result_folder(checkpoint, f"evaluation-{split}"))
    folder.mkdir(parents=True, exist_ok=True)
    architecture = architecture_of(config)
    predictions = predict_labelled(
        classify, rows, split, batch_size, lambda outputs: track(outputs, len(rows), architecture.unit), long_texts
    )
    metrics = architecture.evaluate(predictions, folder if plots_available() else None, format)
    prints, changes = fingerprint({split: rows}), {"dtype": dtype, "damage": data_args.damage, "long_texts": long_texts}
    predictions.facts |= describe_predictions(checkpoint, data_args.dataset, prints, **changes)
    write_predictions(folder / PREDICTIONS_FILE, predictions)
    facts = {"checkpoint": Path(checkpoint).name, "dataset": Path(data_args.dataset).name, "dtype": dtype}
    facts.update(split=split, rows=len(rows), long_texts=long_texts, data_fingerprint=prints, damage=data_args.damage)
    record = {split: metrics, **describe_environment(**facts)}
    write_json(folder / METRICS_FILE, record)
    caption = f"Results on the {split} split ({len(rows):,} {architecture.unit}s)."
    cells = [{"metric": name, "value": value} for name, value in metrics.items()]
    (folder / "metrics.tex").write_text(latex_table(cells, caption), encoding="utf-8")
    return record, folder
