"""Results of a study: means and paired differences with intervals, as JSON, tables and figures."""

import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers import AutoConfig

from hf_fusion.evaluation.kept_predictions import Predictions
from hf_fusion.evaluation.metrics import lower_is_better
from hf_fusion.evaluation.plots import MOST_PANELS, plot_differences, plot_pareto, plots_available, save_figure
from hf_fusion.evaluation.statistics import (
    holm_by_family,
    knee,
    paired_difference,
    pareto_front,
    smallest_detectable_difference,
    standard_deviation,
)
from hf_fusion.evaluation.tables import latex_table
from hf_fusion.studies.costs import compare_checkpoints
from hf_fusion.studies.facts import describe_selection, sum_compute
from hf_fusion.studies.fusion_cost import ClipShape, build_fusion, fusion_inputs, multiply_adds
from hf_fusion.studies.intervals import Resampled, resample_folds, resample_predictions
from hf_fusion.studies.power import note_power
from hf_fusion.studies.predictions import FOLDER as PREDICTIONS_FOLDER
from hf_fusion.studies.predictions import RunKey, collect_study_predictions, write_study_predictions
from hf_fusion.studies.protocols import (
    describe_protocols,
    draw_protocols,
    protocol_tables,
    published_table,
    summary_names,
)
from hf_fusion.studies.study import Study, StudyError, file_name, get_run_folder
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import ENVIRONMENT_FILE, describe_environment, write_json

Results = dict[str, dict[int, dict]]
Families = dict[str, dict[str, list[str]]]
_SIGNIFICANT = 0.05
_SENTENCES = ("prompt", "labels")  # of a baseline


def summarize(
    results: Results,
    split: str = "test",
    interval: str = "t",
    families: Families | None = None,
    predictions: dict[RunKey, Predictions] | None = None,
    clusters: str | None = None,
) -> dict[str, dict]:
    """
    Computes mean and standard deviation of each variant, and its paired difference to the first one.

    Args:
        results (`Results`): the result of [`run_study`].
        split (`str`, *optional*, defaults to `"test"`): `"validation"`, `"test"` or the name of other data.
        interval (`str`, *optional*, defaults to `"t"`): see [`paired_difference`].
        families (`dict`, *optional*): the families of comparisons for Holm's correction, see [`Study`].
        predictions (`dict[RunKey, Predictions]`, *optional*): the predictions of all runs, see
            [`collect_study_predictions`], for intervals over seeds and test rows. With folds these are over seeds and
            folds, and the predictions may be empty. By default there are none of either.
        clusters (`str`, *optional*): see [`Study`].

    Returns:
        `dict[str, dict]`: for each variant `seeds` (metrics by seed, with folds their means), with folds `folds`
        (metrics by seed and fold), and by metric `mean`, `std` (ddof=1; `None` for a single seed), `interval` (95 %,
        over seeds) and, except for the first variant, `difference`: the [`paired_difference`] of variant minus
        reference with `p_holm`, the p-value corrected within its family (`None` outside of all families), and
        `smallest_detectable` (see [`smallest_detectable_difference`]). With predictions or folds also `hierarchical`:
        the interval of each metric over seeds and rows, and within `difference` the [`hierarchical_estimate`] with its
        own `p_holm` and `smallest_detectable`, or the `reason` why there is none.
    """
    reference, *others = results
    summary = {name: _summarize_variant(runs, split, interval) for name, runs in results.items()}
    for name in others:
        summary[name]["difference"] = _compare_seeds(summary[name], summary[reference], interval)
    if predictions is not None and any("folds" in entry for entry in summary.values()):
        _add_hierarchical(summary, {name: resample_folds(entry["folds"]) for name, entry in summary.items()})
    elif of_split := {key: run for key, run in (predictions or {}).items() if key.data == split}:
        _add_hierarchical(summary, _resample_variants(summary, of_split, clusters))
    _correct_p_values(summary, families)
    return summary


def _compare_seeds(entry, base, interval):
    """Returns the differences of a variant to another one, over seeds."""
    differences = {}
    for metric in entry["mean"]:
        values, others = _column(entry["seeds"], metric), _column(base["seeds"], metric)
        difference = paired_difference(values, others, interval)
        deviation = standard_deviation(np.subtract(values, others))
        if difference["p"] is None:
            difference["smallest_detectable"] = None
        else:
            error = deviation / np.sqrt(len(values))
            difference["smallest_detectable"] = smallest_detectable_difference(error, len(values) - 1)
        differences[metric] = difference
    return differences


def _resample_variants(summary, predictions, clusters):
    """Returns for each variant its resampled metrics, or the reason why there are none."""
    resampled: dict[str, Resampled | str] = {}
    reference = None
    for name, entry in summary.items():
        by_seed = {str(key.seed): run for key, run in predictions.items() if key.variant == name}
        if missing := [seed for seed in entry["seeds"] if seed not in by_seed]:
            resampled[name] = f"no predictions of seed {', '.join(missing)}"
            continue
        try:
            resampled[name] = resample_predictions([by_seed[seed] for seed in entry["seeds"]], reference, clusters)
        except DataError as error:
            resampled[name] = str(error)
            continue
        reference = reference or resampled[name].rows
    return resampled


def _add_hierarchical(summary, resampled):
    """Adds the intervals over seeds and rows."""
    reference = resampled[next(iter(summary))]
    for name, entry in summary.items():
        own = resampled[name]
        if isinstance(own, Resampled):
            entry["hierarchical"] = {metric: own.estimate(metric)["interval"] for metric in own.tables}
        for metric, difference in entry.get("difference", {}).items():
            difference["hierarchical"] = _compare_rows(own, reference, metric)


def _compare_rows(own, reference, metric):
    reasons = [side for side in (own, reference) if isinstance(side, str)]
    if not reasons and not all(metric in side.tables for side in (own, reference)):
        reasons = ["not computed for this metric"]
    return {"interval": None, "p": None, "reason": reasons[0]} if reasons else own.compare(reference, metric)


def _correct_p_values(summary, families):
    """Adds `p_holm` to all differences: over seeds, and over seeds and rows."""
    _, *others = summary
    metrics = list(next(iter(summary.values()))["mean"])
    members = {
        family: list(product(content["variants"], content["metrics"]))
        for family, content in resolve_families(families, others, metrics).items()
    }
    differences = {(name, metric): summary[name]["difference"][metric] for name in others for metric in metrics}
    for select in (lambda difference: difference, lambda difference: difference.get("hierarchical", {})):
        parts = {key: select(difference) for key, difference in differences.items()}
        corrected = holm_by_family({key: part.get("p") for key, part in parts.items()}, members)
        for key, part in parts.items():
            if "p" in part:
                part["p_holm"] = corrected[key]


def resolve_families(families: Families | None, variants: list[str], metrics: list[str]) -> dict[str, dict]:
    """
    Returns the families of comparisons with all their `metrics` and `variants`.

    Args:
        families (`dict`, *optional*): the families of a study; by default one for each metric over all variants.
        variants (`list[str]`): the variants that are compared with the first one.
        metrics (`list[str]`): the known metrics; others are left out.
    """
    families = families or {metric: {"metrics": [metric]} for metric in metrics}
    return {
        name: {
            "metrics": [metric for metric in family.get("metrics", metrics) if metric in metrics],
            "variants": [variant for variant in map(str, family.get("variants", variants)) if variant in variants],
        }
        for name, family in families.items()
    }


def check_metrics(study: Study, summary: dict[str, dict]) -> None:
    """Raises [`StudyError`] if the study shows an unknown metric; the runs are kept."""
    known = next(iter(summary.values()))["mean"]
    wanted = {"metrics": study.metrics}
    wanted |= {f"families.{name}.metrics": family.get("metrics", []) for name, family in study.families.items()}
    for place, metric in ((place, metric) for place, metrics in wanted.items() for metric in metrics):
        if metric in known:
            continue
        raise StudyError(f"{place} has {metric!r}; there are {', '.join(known)}. Correct the study and start it again.")


def _summarize_variant(runs, split, interval):
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
        **({"zero_shot": True} if next(iter(runs.values())).get("zero_shot") else {}),
        "mean": {metric: float(np.mean(column)) for metric, column in columns.items()},
        "std": {metric: standard_deviation(column) for metric, column in columns.items()},
        "interval": {
            metric: paired_difference(column, [0.0] * len(column), interval)["interval"]
            for metric, column in columns.items()
        },
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
    for name in study.pareto_variants or study.trained:
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
    Compares size and speed of each trained variant with the first one, in the runs of the first seed, on the CPU.

    Returns:
        `dict[str, list[dict]]`: the result of [`compare_checkpoints`] for each variant except the first one.
    """
    reference, *others = (study.first_run_folder(folder, name) for name in study.trained)
    names = study.trained[1:]
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
    Formats the lines of a table cell: mean and standard deviation; the difference to the reference with its interval
    over seeds and p-value after Holm's correction; its interval and p-value over seeds and rows; the difference in the
    paper.
    """
    mean, std = entry["mean"][metric], entry["std"][metric]
    if not np.isfinite(mean):
        return ["-"]
    lines = [f"{mean:.{digits}f}" + (f" ± {std:.{digits}f}" if std is not None else "")]
    if "difference" in entry:
        difference = entry["difference"][metric]
        lines.append(f"{difference['mean']:+.{digits}f}{_format_interval(difference, digits)}")
        hierarchical = difference.get("hierarchical", {})
        if hierarchical.get("interval"):
            lines.append(f"{hierarchical['over']}{_format_interval(hierarchical, digits)}")
    if metric in paper:
        lines.append(f"paper {paper[metric]:+.4f}")
    return lines


def _format_interval(difference, digits):
    low_high, p = difference["interval"], difference["p_holm"]
    text = f" [{low_high[0]:+.{digits}f}, {low_high[1]:+.{digits}f}]" if low_high else ""
    return text + (f" p = {p:.3f}" if p is not None else "")


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
        rows.append(f"| {label_variant(name, entry).replace('|', '/')} | {' | '.join(cells)} |")
    over = count_runs(summary)
    rows += ["", f"Mean ± standard deviation over {over}; below it the paired difference to the first row, its 95 %"]
    rows += [f"interval and its p-value after Holm's correction (bold: below {_SIGNIFICANT})."]
    rows += [""] * bool(note := note_power(summary, metrics)) + [note] * bool(note)
    return "\n".join(rows) + "\n"


def label_variant(name: str, entry: dict[str, Any]) -> str:
    """Returns the name of a variant for tables; says of a baseline that it has seen no training rows."""
    return f"{name} (no training rows)" if entry.get("zero_shot") else name


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
        row = {"variant": label_variant(name, entry)}
        for metric in metrics:
            p = entry["difference"][metric]["p_holm"] if "difference" in entry else None
            star = "*" if p is not None and p < _SIGNIFICANT else ""
            row[metric] = cell_lines(entry, metric, {}, digits=3)[0] + star
        rows.append(row)
    return rows


def latex_note(summary: dict[str, dict]) -> str:
    """Returns the caption of tables in LaTeX, by the summary of the test split."""
    return (
        f"Mean ± standard deviation over {count_runs(summary)}; *: differs from the first row, "
        f"$p < {_SIGNIFICANT}$ after Holm's correction."
    )


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
    data = {name: _read_data(study, folder, name) for name in study.trained}
    first = next(iter(data.values()))
    test = summaries["test"]
    record = {
        "study": _public_path(study_file),
        "recipe": _public_path(study.recipe),
        "overrides": _all_public(study.overrides),
        **({"folds": study.folds} if study.folds else {}),
        "interval": study.interval,
        "families": resolve_families(study.families, list(test)[1:], _all_metrics(summaries)),
        **({"clusters": study.clusters} if study.clusters else {}),
        "selection": study.selection or describe_selection(study, folder),
        "compute": sum_compute(study, folder, results),
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
    tables = [
        f"% {split}\n{latex_table(latex_rows(summary, study.shown(summary)), latex_note(test))}"
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


def _all_metrics(summaries):
    """Returns the metrics of all splits and other data; these may have more than the test split."""
    return list(
        dict.fromkeys(metric for summary in summaries.values() for metric in next(iter(summary.values()))["mean"])
    )


def _keep_predictions(path, study, folder):
    """Writes the predictions of a study beside its result file; returns their entry in the record, `None` if none."""
    runs, missing = collect_study_predictions(study, folder)
    if not runs:
        return None
    file = path.parent / PREDICTIONS_FOLDER / f"{path.stem}.parquet"
    return {
        **write_study_predictions(file, runs, study.hash_ids, study.clusters),
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


def _public_path(path):
    """Removes the directories of a path that lead out of the working directory."""
    return Path(path).name if Path(path).is_absolute() or ".." in Path(path).parts else path


def _all_public(fields):
    """Returns settings without tokens and local directories; sentences for a baseline may have slashes."""
    return {
        name: value if name in _SENTENCES else _public(value)
        for name, value in fields.items()
        if not str(name).endswith("token")
    }


def _public(value):
    """Removes local directories from a setting."""
    if isinstance(value, dict):
        return _all_public(value)
    if isinstance(value, list):
        return [_public(part) for part in value]
    return Path(value).name if isinstance(value, str) and ("/" in value or os.sep in value) else value
