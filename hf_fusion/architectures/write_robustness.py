"""Writes the robustness of a checkpoint to corruptions: curves over severity, their summary and a figure."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from hf_fusion.architectures.base import architecture_of
from hf_fusion.architectures.evaluate_checkpoint import load_split
from hf_fusion.data.arguments import DataArguments
from hf_fusion.data.corruption import SEVERITIES
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.plots import plot_robustness, plots_available, save_figure
from hf_fusion.evaluation.robustness import (
    check_same_metrics,
    check_scenarios,
    default_scenarios,
    robustness_curves,
    summarize_curves,
    text_verdict,
)
from hf_fusion.evaluation.tables import latex_table
from hf_fusion.hub.checkpoint_names import result_folder
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.records import describe_environment, fingerprint, write_json

_SHOWN = ("clean", "worst", "area")


def write_robustness(
    checkpoint: str,
    data_args: DataArguments,
    corruptions: list[str] | None = None,
    baseline: str | None = None,
    seeds: int = 1,
    split: str = "test",
    output_dir: str | Path | None = None,
    batch_size: int = 32,
    device: str | None = None,
    format: str = "png",
    track: Callable[[list, str], Iterable] = lambda severities, name: severities,
) -> tuple[dict, Path]:
    """
    Measures the metrics of a checkpoint on corrupted input.

    Args:
        checkpoint (`str`): a run folder, or a name on the Hub.
        data_args ([`DataArguments`]): the clean data.
        corruptions (`list[str]`, *optional*): names of corruptions; `"a+b"` applies both. By default each one that fits
            the data.
        baseline (`str`, *optional*): another checkpoint, for the effective robustness.
        seeds (`int`): the number of seeds of each corruption, over which the metrics are averaged.
        split (`str`): the name of the split.
        output_dir (`str`, *optional*): the folder for `robustness.json` (curves of all metrics, their areas),
            `robustness.csv`, `robustness.tex` and, with the extra `plots`, a figure; `CHECKPOINT/robustness-SPLIT` by
            default.
        batch_size, device, format: see [`write_evaluation`].
        track (`Callable`): wraps the severities for a progress bar; called with them and the name of the checkpoint.

    Returns:
        `tuple`: the content of `robustness.json` with `main_metrics`, and the folder.

    Raises:
        RecipeError, DataError, OSError: see [`write_evaluation`]; also if a corruption is unknown.
    """
    if seeds < 1:
        raise RecipeError(f"`seeds` must be at least 1, got {seeds}.")
    if data_args.damage:
        raise RecipeError("`damage` is for evaluation and analysis; use `corruptions` here.")

    def measure_curves(name, scenarios=None):
        classify = load_pipeline(name, device=device)
        config = classify.model.config
        own_args = replace(data_args)  # a copy, which the model completes
        rows = load_split(config, own_args, split, classify.processor)
        if scenarios is None:
            scenarios = corruptions or default_scenarios(rows.column_names)
            check_scenarios(scenarios, rows.column_names)
        measure = partial(architecture_of(config).measure, classify, batch_size=batch_size)
        curves = robustness_curves(measure, rows, scenarios, range(seeds), lambda severities: track(severities, name))
        return config, own_args.dataset, rows, curves

    config, dataset, rows, curves = measure_curves(checkpoint)
    baseline_curves, baseline_without_text = None, False
    if baseline:
        _, _, its_rows, baseline_curves = measure_curves(baseline, list(curves))
        check_same_metrics(curves, baseline_curves)
        baseline_without_text = "text" not in its_rows.column_names
    summary = summarize_curves(curves, baseline_curves)
    main = [metric for metric in architecture_of(config).main_metrics if metric in next(iter(curves.values()))]
    verdict = text_verdict(summary, main[-1], baseline_curves if baseline_without_text else None)

    folder = Path(output_dir or result_folder(checkpoint, f"robustness-{split}"))
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"checkpoint": Path(checkpoint).name, "dataset": Path(dataset).name, "split": split}
    facts.update(rows=len(rows), data_fingerprint=fingerprint({split: rows}), damage_seeds=seeds)
    record = {"curves": curves, "baseline": baseline_curves, "summary": summary, "text": verdict}
    write_json(folder / "robustness.json", {**record, **describe_environment(**facts)})
    _tidy(curves).to_csv(folder / "robustness.csv", index=False)
    caption = "Corrupted input: clean, at severity 5, and the mean over severities."
    (folder / "robustness.tex").write_text(latex_table(summary_rows(summary, main), caption), encoding="utf-8")
    if plots_available():
        figure = plot_robustness(curves, main, f"{Path(checkpoint).name}: corrupted input")
        save_figure(figure, folder / f"robustness.{format}")
    return {**record, "main_metrics": main}, folder


def summary_rows(summary: dict, metrics: list[str]) -> list[dict[str, str]]:
    """Returns the rows of a table: the clean, worst and mean value of each metric by corruption."""
    return [
        {"corruption": scenario} | {name: " ".join(f"{cells[name][key]:.3f}" for key in _SHOWN) for name in metrics}
        for scenario, cells in summary.items()
    ]


def _tidy(curves):
    """Returns a table with one row per number."""
    return pd.DataFrame(
        {"scenario": scenario, "metric": metric, "severity": severity, "value": value}
        for scenario, metrics in curves.items()
        for metric, values in metrics.items()
        for severity, value in zip(SEVERITIES, values, strict=True)
    )
