"""Writes metrics and figures of a checkpoint on labelled data."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from hf_fusion.architectures.base import architecture_of
from hf_fusion.architectures.evaluate_checkpoint import load_with_train
from hf_fusion.data.arguments import DataArguments
from hf_fusion.deployment.predictions import load_pipeline, settle_long_texts
from hf_fusion.evaluation.baselines import ReviewBaselines
from hf_fusion.evaluation.kept_predictions import (
    PREDICTIONS_FILE,
    describe_predictions,
    predict_labelled,
    write_predictions,
)
from hf_fusion.evaluation.plots import plots_available
from hf_fusion.evaluation.tables import latex_table
from hf_fusion.hub.checkpoint_names import result_folder
from hf_fusion.utils.records import ENVIRONMENT_FILE, METRICS_FILE, describe_environment, fingerprint, write_json


def write_evaluation(
    checkpoint: str,
    data_args: DataArguments,
    split: str = "test",
    output_dir: str | Path | None = None,
    batch_size: int = 32,
    dtype: str = "float32",
    device: str | None = None,
    format: str = "png",
    evidence: bool = True,
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
        evidence (`bool`): whether to gather evidence beside the metrics of reviews, see [`gather_evidence`]: intervals,
            classes, confusion, and baselines fitted on the training rows of the data (or those that the run kept of the
            same rows).
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
    rows, train = load_with_train(config, data_args, split, classify.processor)
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
    if evidence:
        record |= _gather_evidence(architecture, predictions, rows, train, Path(checkpoint), split, data_args)
    write_json(folder / METRICS_FILE, record)
    caption = f"Results on the {split} split ({len(rows):,} {architecture.unit}s)."
    cells = [{"metric": name, "value": value} for name, value in metrics.items()]
    (folder / "metrics.tex").write_text(latex_table(cells, caption), encoding="utf-8")
    return record, folder


def _gather_evidence(architecture, predictions, rows, train, checkpoint, split, data_args):
    """Returns the evidence for `metrics.json`; nothing for clips."""
    kept = None
    if train is None or data_args.max_train_samples:
        kept = _find_baselines(checkpoint, split, fingerprint({split: rows})[split])
        if kept is None:
            reason = "the data has no train split" if train is None else "`max_train_samples` took a part of the rows"
            kept = ReviewBaselines(absent=f"{reason}, and the run kept no baselines on the same {split} rows")
        train = None
    evidence = architecture.gather_evidence({split: predictions}, {split: rows}, train, kept)
    return {} if evidence is None else {"evidence": evidence}


def _find_baselines(run_folder, split, digest):
    """Returns the baselines that a run kept on the rows with a fingerprint; `None` without."""
    paths = [run_folder / name for name in (METRICS_FILE, ENVIRONMENT_FILE)]
    if not all(path.is_file() for path in paths):
        return None
    metrics, environment = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
    evidence = metrics.get("evidence", {})
    known = evidence.get("splits", {}).get(split, {}).get("baselines")
    if known is None or environment["data_fingerprint"].get(split) != digest:
        return None
    return ReviewBaselines({split: known}, evidence["training_rows"])
