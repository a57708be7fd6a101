"""The result files of a study: JSON, CSV, tables, predictions and figures."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import AutoConfig

from hf_fusion.evaluation.metrics import lower_is_better
from hf_fusion.evaluation.plots import MOST_PANELS, plot_differences, plot_pareto, plots_available, save_figure
from hf_fusion.evaluation.statistics import (
    knee,
    pareto_front,
)
from hf_fusion.evaluation.tables import latex_table
from hf_fusion.studies.costs import compare_checkpoints
from hf_fusion.studies.facts import describe_selection, sum_compute
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
from hf_fusion.studies.run_folders import file_name, get_run_folder
from hf_fusion.studies.study import Study
from hf_fusion.studies.study_tables import cost_table, latex_note, latex_rows, markdown_table
from hf_fusion.studies.summaries import Results, resolve_families
from hf_fusion.utils.records import ENVIRONMENT_FILE, describe_environment, write_json

_SENTENCES = ("prompt", "labels")  # of a baseline


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
