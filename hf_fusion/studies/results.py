"""Results of a study: means and paired differences with intervals, as JSON, tables and figures."""

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
from hf_fusion.studies.fusion_cost import ClipShape, build_fusion, fusion_inputs, multiply_adds
from hf_fusion.studies.predictions import FOLDER as PREDICTIONS_FOLDER
from hf_fusion.studies.predictions import collect_study_predictions, write_study_predictions
from hf_fusion.studies.protocols import (
    describe_protocols,
    draw_protocols,
    protocol_tables,
    published_table,
    summary_names,
)
from hf_fusion.studies.study import Study, StudyError, file_name, get_run_folder
from hf_fusion.utils.records import ENVIRONMENT_FILE, describe_environment, write_json

Results = dict[str, dict[int, dict]]
_SIGNIFICANT = 0.05


def summarize(results: Results, split: str = "test", interval: str = "t") -> dict[str, dict]:
    """
    Computes mean and standard deviation of each variant, and its paired difference to the first one.

    Args:
        results (`Results`): the result of [`run_study`].
        split (`str`, *optional*, defaults to `"test"`): `"validation"`, `"test"` or the name of other data.
        interval (`str`, *optional*, defaults to `"t"`): see [`paired_difference`].

    Returns:
        `dict[str, dict]`: for each variant `seeds` (metrics by seed, with folds their means), with folds `folds`
        (metrics by seed and fold), `mean`, `std` (ddof=1; `None` for a single seed) and, except for the first one,
        `difference`: the [`paired_difference`] of variant minus reference by metric, with `p_holm`, the p-value
        corrected for the number of variants.
    """
    reference, *others = results
    summary = {name: _summarize_variant(runs, split) for name, runs in results.items()}
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
    """Raises [`StudyError`] if the study shows an unknown metric; the runs are kept."""
    known = next(iter(summary.values()))["mean"]
    if strangers := [metric for metric in study.metrics if metric not in known]:
        raise StudyError(
            f"metrics has {strangers[0]!r}; there are {', '.join(known)}. Correct the study and start it again."
        )


def _summarize_variant(runs, split):
    if any(split not in run for run in runs.values()):
        raise StudyError(f"A study compares runs on their {split} split, which the data lacks: choose other data.")
    by_seed = {str(seed): run[split] for seed, run in runs.items()}
    columns = {metric: _column(by_seed, metric) for metric in next(iter(by_seed.values()))}
    folds = {
        str(seed): {fold: metrics[split] for fold, metrics in run["folds"].items()}
        for seed, run in runs.items()
        if "folds" in run
    }
    return {
        "seeds": by_seed,
        **({"folds": folds} if folds else {}),
        "mean": {metric: float(np.mean(column)) for metric, column in columns.items()},
        "std": {metric: standard_deviation(column) for metric, column in columns.items()},
        "last_log": {str(seed): run["last_log"] for seed, run in runs.items()},
        "train_seconds": {str(seed): run["train_seconds"] for seed, run in runs.items()},
        "parameters": next(iter(runs.values()))["parameters"],
    }


def _column(by_seed, metric):
    values = [row.get(metric) for row in by_seed.values()]  # only the splits of the training have a loss
    return [np.nan if value is None else value for value in values]


def tidy(results: Results, splits: list[str]) -> pd.DataFrame:
    """Returns a table with one row per number: `variant`, `seed`, `split`, `metric`, `value`."""
    rows = [
        {"variant": name, "seed": seed, "split": split, "metric": metric, "value": value}
        for name, runs in results.items()
        for seed, run in runs.items()
        for split in splits
        for metric, value in run[split].items()
    ]
    return pd.DataFrame(rows, columns=["variant", "seed", "split", "metric", "value"])


def fusion_costs(study: Study, folder: Path) -> dict[str, int]:
    """Counts the multiply-adds of each variant's fusion (DashFusion) for one clip with the lengths `study.pareto`."""
    words, audio, vision = study.pareto
    costs = {}
    for name in study.pareto_variants or study.variants:
        config = AutoConfig.from_pretrained(study.first_run_folder(folder, name), trust_remote_code=False)
        shape = ClipShape(words, audio, config.audio_feature_size, vision, config.vision_feature_size)
        fields = ("fusion", "num_bottleneck_tokens", "num_fusion_layers", "hidden_size", "num_attention_heads",
                  "intermediate_size")  # fmt: skip
        fusion = build_fusion(shape, **{field: getattr(config, field) for field in fields})
        lengths = {"text": words, "audio": audio + 1, "vision": vision + 1}
        aligned = len(config.anchors) * max(lengths[anchor] for anchor in config.anchors)
        inputs = fusion_inputs(shape, 1, hidden_size=config.hidden_size, aligned=aligned)
        costs[name] = multiply_adds(fusion, *inputs)
    return costs


def compare_costs(study: Study, folder: Path) -> dict[str, list[dict]]:
    """
    Compares size and speed of each variant with the first one, in the runs of the first seed, on the CPU.

    Returns:
        `dict[str, list[dict]]`: the result of [`compare_checkpoints`] for each variant except the first one.
    """
    reference, *others = (study.first_run_folder(folder, name) for name in study.variants)
    names = list(study.variants)[1:]
    return {name: compare_checkpoints(reference, run, study.latency) for name, run in zip(names, others, strict=True)}


def pareto(costs: dict[str, int], summary: dict[str, dict], metric: str) -> dict[str, Any]:
    """
    Finds the Pareto front of quality and cost.

    Returns:
        `dict`: `metric`, `costs` (multiply-adds by variant), `front` (the variants that no other one dominates) and
        `knee` (see [`knee`]; `None` if there is none).
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
    Formats the lines of a table cell: mean and standard deviation; the difference to the reference with interval and
    p-value after Holm's correction; the difference in the paper.
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
    Formats a summary as table in Markdown; bold differences are significant after Holm's correction.

    Args:
        summary (`dict`): the result of [`summarize`].
        metrics (`list[str]`): the columns.
        paper (`dict`): the differences in the paper by variant and metric.
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
    over = count_runs(summary)
    rows += ["", f"Mean ± standard deviation over {over}; below it the paired difference to the first row, its 95 %"]
    rows += [f"interval and its p-value after Holm's correction (bold: below {_SIGNIFICANT})."]
    return "\n".join(rows) + "\n"


def count_runs(summary: dict[str, dict]) -> str:
    """Describes the runs of a summary: "3 seed(s)", or "3 seed(s), each the mean of 5 folds"."""
    entry = next(iter(summary.values()))
    folds = next(iter(entry.get("folds", {}).values()), ())
    return f"{len(entry['seeds'])} seed(s)" + (f", each the mean of {len(folds)} folds" if folds else "")


def latex_rows(summary: dict[str, dict], metrics: list[str]) -> list[dict[str, str]]:
    """
    Formats the rows of a summary for [`latex_table`]: mean ± standard deviation, with a star for significant
    differences to the reference after Holm's correction.

    Args:
        summary (`dict`): the result of [`summarize`].
        metrics (`list[str]`): the columns.
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
    Formats a table in Markdown: size and speed of each variant relative to the first one, and its share of the mean
    `metric`.

    Args:
        costs (`dict`): the result of [`compare_costs`].
        summary (`dict`): the result of [`summarize`].
        metric (`str`): the metric.
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
    Writes the result files: JSON, a CSV with one row per number, the tables in Markdown and LaTeX, and
    `predictions/NAME.parquet` with the predictions of all runs on test rows and other data (see
    [`read_study_predictions`]).

    Args:
        path (`Path`): the JSON file.
        study ([`Study`]): the study.
        study_file (`str`): the file of the study.
        folder (`Path`): the folder of the runs.
        results (`Results`): the result of [`run_study`].
        summaries (`dict`): the results of [`summarize`] by split, at least "test".

    Returns:
        `dict`: the content of the JSON file: the study with its changes, environment, data and summaries, and as
            `predictions` the `file`, its `sha256` and number of `rows`, and `missing`, the runs without predictions.
    """
    data = {name: _read_data(study, folder, name) for name in study.variants}
    first = next(iter(data.values()))
    test = summaries["test"]
    record = {
        "study": study_file,
        "recipe": study.recipe,
        "overrides": _all_public(study.overrides),
        **({"folds": study.folds} if study.folds else {}),
        "interval": study.interval,
        "variants": {name: {"changes": _all_public(study.variants[name]), **entry} for name, entry in test.items()},
        "data": first if all(split == first for split in data.values()) else data,
        **describe_environment(),
    }
    if study.evaluate_on:
        record["evaluate_on"] = {
            name: {"data": _all_public(fields), "variants": summaries[name]}
            for name, fields in study.evaluate_on.items()
        }
    if study.protocols:
        record["protocols"] = describe_protocols(study.protocol_settings, summaries, study.published)
    if published := [result.to_dict() for result in study.published if result.protocol is None]:
        record["published"] = published
    if study.paper:
        record["paper"] = study.paper
    if study.pareto:
        record["pareto"] = pareto(fusion_costs(study, folder), test, study.metrics[0])
    if study.latency:
        record["costs"] = compare_costs(study, folder)
    if predictions := _keep_predictions(path, study, folder):
        record["predictions"] = predictions
    write_json(path, record)
    tidy(results, list(summaries)).to_csv(path.with_suffix(".csv"), index=False)
    tested = {split: summaries[split] for split in ("test", *study.evaluate_on)}
    tables = [
        f"### {split}\n\n{markdown_table(summary, study.shown(summary), study.paper if split == 'test' else {})}"
        for split, summary in tested.items()
    ]
    if "published" in record:
        tables.append(published_table(record["published"], study.shown(test)))
    tables += protocol_tables(record.get("protocols", {}), study.shown(test))
    if study.latency:
        tables.append(f"### size and speed\n\n{cost_table(record['costs'], summaries['test'], study.shown(test)[0])}")
    path.with_suffix(".md").write_text("\n".join(tables), encoding="utf-8")
    of_protocols = {part: summaries[part] for part in summary_names(study.protocol_settings)}
    note = f"Mean ± standard deviation over {count_runs(summaries['test'])}; *: differs from the first row, "
    note += f"$p < {_SIGNIFICANT}$ after Holm's correction."
    tables = [
        f"% {split}\n{latex_table(latex_rows(summary, study.shown(summary)), note)}"
        for split, summary in {**tested, **of_protocols}.items()
    ]
    path.with_suffix(".tex").write_text("\n".join(tables), encoding="utf-8")
    return record


def draw_study(
    path: Path, study: Study, record: dict[str, Any], summary: dict[str, dict], picture_format: str = "png"
) -> list[str]:
    """
    Draws the figures of a study beside its result file: differences with intervals and, with `pareto`, quality against
    cost. Does nothing without the extra `plots`.

    Args:
        path (`Path`): the JSON file.
        study ([`Study`]): the study.
        record (`dict`): the result of [`write_study`].
        summary (`dict`): the result of [`summarize`] for the test split.
        picture_format (`str`): `"png"`, `"pdf"` or `"svg"`.

    Returns:
        `list[str]`: the file names.
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
    drawn = draw_protocols(record.get("protocols", {}), study.shown(summary)[:MOST_PANELS], path.stem)
    figures.update({f"{path.stem}_{file_name(name)}.{picture_format}": figure for name, figure in drawn.items()})
    for name, figure in figures.items():
        save_figure(figure, path.with_name(name))
    return list(figures)


def _keep_predictions(path, study, folder):
    """Writes the predictions of a study beside its result file; returns their entry in the record, `None` if none."""
    runs, missing = collect_study_predictions(study, folder)
    if not runs:
        return None
    file = path.parent / PREDICTIONS_FOLDER / f"{path.stem}.parquet"
    return {
        **write_study_predictions(file, runs, study.hash_ids),
        **({"missing": [key._asdict() for key in missing]} if missing else {}),
    }


def _read_data(study, folder, name):
    """Returns fingerprint and number of rows of the data of a variant; with folds by fold."""
    data = {}
    for fold in study.folds or [None]:
        path = get_run_folder(folder, name, study.seeds[0], fold) / ENVIRONMENT_FILE
        environment = json.loads(path.read_text(encoding="utf-8"))
        data[str(fold)] = {key: environment[key] for key in ("data_fingerprint", "rows")}
    return data if study.folds else data["None"]


def _all_public(fields):
    return {name: _public(value) for name, value in fields.items() if not name.endswith("_token")}


def _public(value):
    """Removes local directories from a setting."""
    return Path(value).name if isinstance(value, str) and ("/" in value or os.sep in value) else value
