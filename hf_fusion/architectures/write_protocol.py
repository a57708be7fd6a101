"""Writes the metrics of a checkpoint under a published protocol for missing modalities."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from hf_fusion.architectures.base import architecture_of
from hf_fusion.architectures.evaluate_checkpoint import load_split
from hf_fusion.architectures.measure_protocol import MaskedPredictions, ProtocolSettings, predict_masked
from hf_fusion.architectures.rows import encode_readable
from hf_fusion.data.arguments import DataArguments
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.kept_predictions import (
    PREDICTIONS_FILE,
    describe_predictions,
    digest_weights,
    measure_predictions,
    to_table,
    write_table,
)
from hf_fusion.evaluation.plots import plots_available, save_figure
from hf_fusion.evaluation.protocol_curves import estimate_intervals, published_decimals, summarize_curves
from hf_fusion.evaluation.protocol_plot import plot_protocol
from hf_fusion.evaluation.published_results import PublishedResult
from hf_fusion.evaluation.tables import latex_table
from hf_fusion.hub.checkpoint_names import result_folder
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.records import describe_environment, fingerprint, write_json

PROTOCOL_FILE = "protocol.json"


def protocol_folder(checkpoint: str | Path, settings: ProtocolSettings, split: str = "test") -> Path:
    """Returns the default folder for the results of a checkpoint under a protocol."""
    return result_folder(checkpoint, f"protocol-{settings.protocol}-{settings.mode}-{split}")


def known_protocol(
    checkpoint: str | Path, data_args: DataArguments, settings: ProtocolSettings, split: str = "test"
) -> dict[str, Any] | None:
    """
    Returns the record of a run folder under a protocol, if it was made by the same settings from the same weights and
    data; otherwise `None`.
    """
    path = protocol_folder(checkpoint, settings, split) / PROTOCOL_FILE
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    same = {
        "settings": settings.to_dict(),
        "weights_sha256": digest_weights(checkpoint),
        "data_sha256": _digest_arguments(data_args),
    }
    return record if all(record.get(name) == value for name, value in same.items()) else None


def _digest_arguments(data_args):
    return hashlib.sha256(json.dumps(asdict(data_args), sort_keys=True, default=str).encode()).hexdigest()


def write_protocol(
    checkpoint: str | Path,
    data_args: DataArguments,
    settings: ProtocolSettings,
    split: str = "test",
    output_dir: str | Path | None = None,
    batch_size: int = 32,
    device: str | None = None,
    format: str | None = "png",
    published: Sequence[PublishedResult] = (),
    track: Callable[[list], Iterable] = iter,
) -> tuple[dict, Path]:
    """
    Measures a checkpoint in all conditions of a protocol, by one checkpoint for all metrics.

    Args:
        checkpoint (`str` or `Path`): a run folder, or a name on the Hub.
        data_args ([`DataArguments`]): the complete data.
        settings ([`ProtocolSettings`]): the protocol.
        split (`str`): the name of the split.
        output_dir (`str`, *optional*): the folder for `protocol.json` (metrics of all conditions and mask seeds, their
            summary, realised rates, defects of the published code), `protocol.csv` (a row for each number),
            `protocol.tex`, `predictions.parquet` (the outputs in each condition) and, with the extra `plots`, a figure;
            by default [`protocol_folder`].
        batch_size, device: see [`write_evaluation`].
        format (`str`, *optional*): the format of the figure, `"png"`, `"pdf"` or `"svg"`; `None` for no figure.
        published (`Sequence[PublishedResult]`): published results; those of this protocol are written beside.
        track (`Callable`): wraps the pairs of condition and mask seed for a progress bar.

    Returns:
        `tuple`: the content of `protocol.json`, and the folder.

    Raises:
        RecipeError, DataError, OSError: see [`write_evaluation`] and [`predict_masked`].
    """
    if data_args.damage:
        raise RecipeError("`damage` is for evaluation and analysis; a protocol takes complete data.")
    if settings.mode == "exact" and data_args.max_eval_samples:
        raise RecipeError("The published masks depend on the place of a row: leave out `max_eval_samples`.")
    data_sha256 = _digest_arguments(data_args)  # before they take the classes of the model
    classify = load_pipeline(str(checkpoint), device=device)
    model, processor, config = classify.model, classify.processor, classify.model.config
    architecture, protocol = architecture_of(config), settings.resolve()
    rows = load_split(config, data_args, split, processor)
    encoded, rows, _ = encode_readable(architecture, rows, processor, data_args.dataset, data_args.rejected_rows)
    masked = list(predict_masked(model, processor, encoded, split, settings, batch_size, track))

    facts = describe_predictions(checkpoint, data_args.dataset, fingerprint({split: rows}))
    decimals = published_decimals(settings.protocol, settings.mode, getattr(config, "label_range", ()))
    curves = measure_curves(masked, settings, decimals)
    metrics = curves["summary"][protocol.summary]["mean"]
    record = {
        "protocol": protocol.name,
        "title": protocol.title,
        "source": protocol.source,
        "settings": settings.to_dict(),
        "split": split,
        "rows": len(rows),
        "main_metrics": [name for name in architecture.main_metrics if name in metrics],
        **curves,
        "selection": protocol.selection,
        "published_selection": protocol.published_selection,
        "defects": list(protocol.defects),
        "published": [result.to_dict() for result in published if result.protocol == protocol.name],
        **facts,
        "data_sha256": data_sha256,
        **describe_environment(),
    }
    folder = Path(output_dir or protocol_folder(checkpoint, settings, split))
    folder.mkdir(parents=True, exist_ok=True)
    write_masked_predictions(folder / PREDICTIONS_FILE, masked, {**facts, "settings": settings.to_dict()})
    _write_tables(folder, record)
    if format and plots_available():
        name = Path(checkpoint).name
        title, note = f"{name}: {protocol.title}, mode {settings.mode}", "95 % intervals over mask seeds and rows"
        figure = plot_protocol({name: record["conditions"]}, record["main_metrics"], title, note)
        save_figure(figure, folder / f"protocol.{format}")
    write_json(folder / PROTOCOL_FILE, record)  # last: its settings say that the folder is complete
    return record, folder


def _write_tables(folder, record):
    tidy_protocol(record).to_csv(folder / "protocol.csv", index=False)
    (folder / "protocol.tex").write_text(protocol_latex(record), encoding="utf-8")


def protocol_latex(record: dict[str, Any]) -> str:
    """Returns the table of [`protocol_rows`] in LaTeX."""
    settings = record["settings"]
    caption = f"{record['title']}, mode {settings['mode']}: mean over {len(settings['mask_seeds'])} mask seed(s) and "
    caption += r"95 \% intervals over mask seeds and rows."
    return latex_table(protocol_rows(record), caption)


def measure_curves(masked: list[MaskedPredictions], settings: ProtocolSettings, decimals: int | None = None) -> dict:
    """
    Computes [`summarize_curves`] and [`estimate_intervals`] of predictions, with the realised rates of each condition.
    """
    conditions = list(dict.fromkeys(part.condition for part in masked))
    seeds = [str(seed) for seed in settings.resolve_seeds()]
    measured: dict[str, dict[str, dict[str, float]]] = {}
    outputs: dict[str, list[dict]] = {}
    for part in masked:
        metrics = measure_predictions(part.predictions)
        names = seeds if part.mask_seed is None else [str(part.mask_seed)]
        measured.setdefault(part.condition.name, {}).update(dict.fromkeys(names, metrics))
        outputs.setdefault(part.condition.name, []).append(part.predictions.outputs)
    curves = summarize_curves(conditions, measured, settings.summaries, decimals)
    first = masked[0].predictions
    intervals = estimate_intervals(conditions, outputs, first.labels, first.config, settings.summaries)
    for side in ("conditions", "summary"):
        for name, cell in curves[side].items():
            cell.update(intervals[side][name])
    for name, cell in curves["conditions"].items():
        cell["realised"] = mean_rates([part.realised for part in masked if part.condition.name == name])
    return curves


def lossless_conditions(record: dict[str, Any]) -> list[str]:
    """Returns the conditions of a protocol that should lose parts of clips, and lost none."""
    return [
        name
        for name, cell in record["conditions"].items()
        if not cell["complete"] and not any(share for rates in cell["realised"].values() for share in rates.values())
    ]


def mean_rates(realised: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Returns the mean of the realised rates of several masks."""
    return {
        name: {unit: sum(rates[name][unit] for rates in realised) / len(realised) for unit in cell}
        for name, cell in realised[0].items()
    }


def write_masked_predictions(path: str | Path, masked: list[MaskedPredictions], facts: dict[str, Any]) -> None:
    """
    Writes the predictions of all conditions into one compressed Parquet file: the columns of [`write_predictions`],
    `condition`, and `mask_seed`, which is null for complete rows.
    """
    tables = []
    for part in masked:
        table = to_table(part.predictions)
        columns = {
            "condition": part.condition.name,
            "mask_seed": None if part.mask_seed is None else str(part.mask_seed),
        }
        for name, value in columns.items():
            table = table.append_column(name, pa.array([value] * len(table), pa.string()))
        tables.append(table)
    write_table(path, pa.concat_tables(tables), facts | masked[0].predictions.facts)


def protocol_rows(record: dict[str, Any]) -> list[dict[str, str]]:
    """
    Returns the rows of a table: mean ± standard deviation over the mask seeds and the 95 % interval over mask seeds and
    rows, of the main metrics by condition, then of the summary.
    """
    cells = {**record["conditions"], **record["summary"]}
    return [
        {"condition": name} | {metric: _cell(cell, metric) for metric in record["main_metrics"]}
        for name, cell in cells.items()
    ]


def _cell(cell, metric):
    mean, std, interval = cell["mean"][metric], cell["std"][metric], cell["interval"].get(metric)
    text = f"{mean:.3f}" + (f" ± {std:.3f}" if std else "")
    return text + (" [{:.3f}, {:.3f}]".format(*interval) if interval else "")


def tidy_protocol(record: dict[str, Any]) -> pd.DataFrame:
    """
    Returns a table with one row per number: `part` ("condition" or "summary"), `name`, `rate`, `mask_seed`, `metric`
    and `value`.
    """
    return pd.DataFrame(
        {"part": part, "name": name, "rate": cell.get("rate"), "mask_seed": seed, "metric": metric, "value": value}
        for part, cells in (("condition", record["conditions"]), ("summary", record["summary"]))
        for name, cell in cells.items()
        for seed, metrics in cell["seeds"].items()
        for metric, value in metrics.items()
    )
