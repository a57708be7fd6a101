"""What a study found: means, paired differences and what they are worth, as JSON, table and picture."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers import AutoConfig

from hf_fusion.evaluation.metrics import lower_is_better
from hf_fusion.evaluation.plots import MOST_PANELS, plot_differences, plot_pareto, plots_available, save_figure
from hf_fusion.evaluation.statistics import holm, knee, paired_difference, pareto_front, standard_deviation
from hf_fusion.evaluation.tables import latex_table
from hf_fusion.studies.costs import compare_checkpoints
from hf_fusion.studies.fusion_cost import ClipShape, fusion_inputs, fusion_of, multiply_adds
from hf_fusion.studies.study import Study, StudyError, run_folder_of
from hf_fusion.utils.records import ENVIRONMENT_FILE, describe_environment, write_json

Results = dict[str, dict[int, dict]]
_SIGNIFICANT = 0.05


def summarize(results: Results, split: str = "test", interval: str = "t") -> dict[str, dict]:
    """
    Mean and spread of each variant, and its paired difference to the first.

    Args:
        results: what [`run_study`] returns.
        split: "validation", "test" or the name of other data.
        interval: see [`paired_difference`].

    Returns:
        For each variant: `seeds` (metrics by seed), `mean`, `std` (ddof=1; `None` for a single seed) and, but for the
        first, `difference`: for each metric what [`paired_difference`] says of variant minus reference, and `p_holm`,
        the p-value corrected for the number of variants.
    """
    reference, *others = results
    summary = {name: _of_variant(runs, split) for name, runs in results.items()}
    base = summary[reference]["seeds"]
    for name in others:
        entry = summary[name]
        entry["difference"] = {
            metric: paired_difference(_column(entry["seeds"], metric), _column(base, metric), interval)
            for metric in entry["mean"]
        }
    for metric in summary[reference]["mean"]:
        differences = [summary[name]["difference"][metric] for name in others]
        for difference, p in zip(differences, holm([d["p"] for d in differences]), strict=True):
            difference["p_holm"] = p
    return summary


def check_metrics(study: Study, summary: dict[str, dict]) -> None:
    """Raises [`StudyError`] if the study wants to show a metric that there is not; the runs are kept."""
    known = next(iter(summary.values()))["mean"]
    if strangers := [metric for metric in study.metrics if metric not in known]:
        raise StudyError(
            f"metrics has {strangers[0]!r}; there are {', '.join(known)}. Mend the study and start it again."
        )


def _of_variant(runs, split):
    by_seed = {str(seed): run[split] for seed, run in runs.items()}
    columns = {metric: _column(by_seed, metric) for metric in next(iter(by_seed.values()))}
    return {
        "seeds": by_seed,
        "mean": {metric: float(np.mean(column)) for metric, column in columns.items()},
        "std": {metric: standard_deviation(column) for metric, column in columns.items()},
        "last_log": {str(seed): run["last_log"] for seed, run in runs.items()},
        "train_seconds": {str(seed): run["train_seconds"] for seed, run in runs.items()},
        "parameters": next(iter(runs.values()))["parameters"],
    }


def _column(by_seed, metric):
    values = [row.get(metric) for row in by_seed.values()]  # a loss is of the training's own splits alone
    return [np.nan if value is None else value for value in values]


def tidy(results: Results, splits: list[str]) -> pd.DataFrame:
    """One row for each number: `variant`, `seed`, `split`, `metric`, `value`."""
    rows = [
        {"variant": name, "seed": seed, "split": split, "metric": metric, "value": value}
        for name, runs in results.items()
        for seed, run in runs.items()
        for split in splits
        for metric, value in run[split].items()
    ]
    return pd.DataFrame(rows, columns=["variant", "seed", "split", "metric", "value"])


def fusion_costs(study: Study, folder: Path) -> dict[str, int]:
    """Multiply-adds of each variant's fusion (DashFusion) for one clip of the lengths `study.pareto`."""
    words, audio, vision = study.pareto
    costs = {}
    for name in study.pareto_variants or study.variants:
        config = AutoConfig.from_pretrained(run_folder_of(folder, name, study.seeds[0]), trust_remote_code=False)
        shape = ClipShape(words, audio, config.audio_feature_size, vision, config.vision_feature_size)
        fields = ("fusion", "num_bottleneck_tokens", "num_fusion_layers", "hidden_size", "num_attention_heads",
                  "intermediate_size")  # fmt: skip
        fusion = fusion_of(shape, **{field: getattr(config, field) for field in fields})
        lengths = {"text": words, "audio": audio + 1, "vision": vision + 1}
        aligned = len(config.anchors) * max(lengths[anchor] for anchor in config.anchors)
        inputs = fusion_inputs(shape, 1, hidden_size=config.hidden_size, aligned=aligned)
        costs[name] = multiply_adds(fusion, *inputs)
    return costs


def compare_costs(study: Study, folder: Path) -> dict[str, list[dict]]:
    """
    Size and speed of each variant against the first one, in the runs of the first seed, on the CPU.

    Returns:
        For each variant but the first what [`compare_checkpoints`] returns.
    """
    reference, *others = (run_folder_of(folder, name, study.seeds[0]) for name in study.variants)
    names = list(study.variants)[1:]
    return {name: compare_checkpoints(reference, run, study.latency) for name, run in zip(names, others, strict=True)}


def pareto(costs: dict[str, int], summary: dict[str, dict], metric: str) -> dict[str, Any]:
    """
    Quality against cost.

    Returns:
        `metric`, `costs` (multiply-adds by variant), `front` (variants that no other one beats in both) and `knee`, the
        variant after which more cost buys least, see [`knee`]; `None` if there is none.
    """
    names = list(costs)
    sign = -1 if lower_is_better(metric) else 1
    quality = [sign * summary[name]["mean"][metric] for name in names]
    front = pareto_front([costs[name] for name in names], quality)
    bend = knee([costs[names[i]] for i in front], [quality[i] for i in front])
    return {
        "metric": metric,
        "costs": costs,
        "front": [names[i] for i in front],
        "knee": None if bend is None else names[front[bend]],
    }


def cell_lines(entry: dict, metric: str, paper: dict[str, float], digits: int = 4) -> list[str]:
    """
    What a table says of one variant and metric: mean and standard deviation; the difference to the reference, its
    interval and its p-value after Holm's correction; the difference that the paper reports.
    """
    mean, std = entry["mean"][metric], entry["std"][metric]
    if not np.isfinite(mean):
        return ["-"]
    lines = [f"{mean:.{digits}f}" + (f" ± {std:.{digits}f}" if std is not None else "")]
    if "difference" in entry:
        difference = entry["difference"][metric]
        low_high, p = difference["interval"], difference["p_holm"]
        text = f"{difference['mean']:+.{digits}f}"
        text += f" [{low_high[0]:+.{digits}f}, {low_high[1]:+.{digits}f}]" if low_high else ""
        lines.append(text + (f" p = {p:.3f}" if p is not None else ""))
    if metric in paper:
        lines.append(f"paper {paper[metric]:+.4f}")
    return lines


def markdown_table(summary: dict[str, dict], metrics: list[str], paper: dict[str, dict[str, float]]) -> str:
    """
    The table of a summary for a README; bold where a variant differs from the reference after Holm's correction.

    Args:
        summary: what [`summarize`] returns.
        metrics: the columns.
        paper: differences that the paper reports, by variant and metric.
    """
    rows = [f"| variant | {' | '.join(metrics)} |", "|---" * (1 + len(metrics)) + "|"]
    for name, entry in summary.items():
        cells = []
        for metric in metrics:
            lines = cell_lines(entry, metric, paper.get(name, {}), digits=3)
            p = entry["difference"][metric]["p_holm"] if "difference" in entry else None
            if len(lines) > 1 and p is not None and p < _SIGNIFICANT:
                lines[1] = f"**{lines[1]}**"
            cells.append("<br>".join(lines))
        rows.append(f"| {name.replace('|', '/')} | {' | '.join(cells)} |")
    seeds = len(next(iter(summary.values()))["seeds"])
    rows += [
        "",
        f"Mean ± standard deviation over {seeds} seed(s); below it the paired difference to the first row, its 95 %",
    ]
    rows += [f"interval and its p-value after Holm's correction (bold: below {_SIGNIFICANT})."]
    return "\n".join(rows) + "\n"


def latex_rows(summary: dict[str, dict], metrics: list[str]) -> list[dict[str, str]]:
    """
    The rows of a summary for [`latex_table`]: mean ± standard deviation, with a star where a variant differs from the
    reference after Holm's correction.

    Args:
        summary: what [`summarize`] returns.
        metrics: the columns.
    """
    rows = []
    for name, entry in summary.items():
        row = {"variant": name}
        for metric in metrics:
            p = entry["difference"][metric]["p_holm"] if "difference" in entry else None
            star = "*" if p is not None and p < _SIGNIFICANT else ""
            row[metric] = cell_lines(entry, metric, {}, digits=3)[0] + star
        rows.append(row)
    return rows


def cost_table(costs: dict[str, list[dict]], summary: dict[str, dict], metric: str) -> str:
    """
    How much smaller and faster each variant is than the first, and how much of its mean `metric` is left, in Markdown.

    Args:
        costs: what [`compare_costs`] returns.
        summary: what [`summarize`] returns.
        metric: the metric.
    """
    what = [comparison["what"] for comparison in next(iter(costs.values()))]
    share_of = f"share of {metric}" + (" (less is better)" if lower_is_better(metric) else "")
    rows = [f"| variant | {' | '.join(what)} | {share_of} |", "|---" * (2 + len(what)) + "|"]
    reference = next(iter(summary.values()))["mean"][metric]
    for name, comparisons in costs.items():
        cells = [f"{comparison['ratio']:.2f}" for comparison in comparisons]
        share = f"{summary[name]['mean'][metric] / reference:.1%}"
        rows.append(f"| {' | '.join([name.replace('|', '/'), *cells, share])} |")
    return "\n".join(rows) + f"\n\nRatios to {next(iter(summary))}, above 1 = smaller or faster.\n"


def write_study(
    path: Path, study: Study, study_file: str, folder: Path, results: Results, summaries: dict[str, dict]
) -> dict[str, Any]:
    """
    Writes the result files: JSON, beside it a CSV with one row for each number, and the tables in Markdown and
    LaTeX.

    Args:
        path: of the JSON file.
        study, study_file: the study and where it was read.
        folder: of the runs.
        results: what [`run_study`] returns.
        summaries: by split what [`summarize`] returns; "test" at least.

    Returns:
        What the JSON file holds: the study and what was changed, where and on what data it ran, and the summaries.
    """
    data = {name: _data_of(run_folder_of(folder, name, study.seeds[0])) for name in study.variants}
    first = next(iter(data.values()))
    test = summaries["test"]
    record = {
        "study": study_file,
        "recipe": study.recipe,
        "overrides": {name: _public(value) for name, value in study.overrides.items()},
        "interval": study.interval,
        "variants": {name: {"changes": _all_public(study.variants[name]), **entry} for name, entry in test.items()},
        "data": first if all(found == first for found in data.values()) else data,
        **describe_environment(),
    }
    if study.evaluate_on:
        record["evaluate_on"] = {
            name: {"data": _all_public(fields), "variants": summaries[name]}
            for name, fields in study.evaluate_on.items()
        }
    if study.paper:
        record["paper"] = study.paper
    if study.pareto:
        record["pareto"] = pareto(fusion_costs(study, folder), test, study.metrics[0])
    if study.latency:
        record["costs"] = compare_costs(study, folder)
    write_json(path, record)
    tidy(results, list(summaries)).to_csv(path.with_suffix(".csv"), index=False)
    tables = [
        f"### {split}\n\n{markdown_table(summary, study.shown(summary), study.paper if split == 'test' else {})}"
        for split, summary in summaries.items()
        if split != "validation"
    ]
    if study.latency:
        tables.append(f"### size and speed\n\n{cost_table(record['costs'], summaries['test'], study.shown(test)[0])}")
    path.with_suffix(".md").write_text("\n".join(tables), encoding="utf-8")
    note = f"Mean ± standard deviation over {len(study.seeds)} seed(s); *: differs from the first row, "
    note += f"$p < {_SIGNIFICANT}$ after Holm's correction."
    tables = [
        f"% {split}\n{latex_table(latex_rows(summary, study.shown(summary)), note)}"
        for split, summary in summaries.items()
        if split != "validation"
    ]
    path.with_suffix(".tex").write_text("\n".join(tables), encoding="utf-8")
    return record


def draw_study(
    path: Path, study: Study, record: dict[str, Any], summary: dict[str, dict], picture_format: str = "png"
) -> list[str]:
    """
    Draws the pictures of a study beside its result file: differences with intervals and, if the study asks for it,
    quality against cost. Without the extra `plots` there are none.

    Args:
        path: of the JSON file.
        study: the study.
        record: what [`write_study`] returns.
        summary: what [`summarize`] returns, of the test split.
        picture_format: "png", "pdf" or "svg".

    Returns:
        Their file names.
    """
    if not plots_available():
        return []
    figures = {}
    if len(summary) > 1:
        figures[f"{path.stem}.{picture_format}"] = plot_differences(
            summary, study.shown(summary)[:MOST_PANELS], path.stem
        )
    if study.pareto:
        figures[f"{path.stem}_pareto.{picture_format}"] = plot_pareto(record["pareto"], summary, path.stem)
    for name, figure in figures.items():
        save_figure(figure, path.with_name(name))
    return list(figures)


def _data_of(run_folder):
    environment = json.loads((run_folder / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
    return {key: environment[key] for key in ("data_fingerprint", "rows")}


def _all_public(fields):
    return {name: _public(value) for name, value in fields.items()}


def _public(value):
    """A setting without the folders of this machine."""
    return Path(value).name if isinstance(value, str) and ("/" in value or os.sep in value) else value
