"""Protocols for missing modalities in a study: every run is measured by them, and variants are compared."""

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from hf_fusion.architectures.evaluate_checkpoint import NothingLeftError
from hf_fusion.architectures.measure_protocol import ProtocolSettings
from hf_fusion.architectures.write_protocol import known_protocol, write_protocol
from hf_fusion.evaluation.protocol_curves import SUMMARIES
from hf_fusion.evaluation.protocol_plot import plot_protocol
from hf_fusion.evaluation.published_results import PublishedResult
from hf_fusion.training.recipe import read_data_arguments
from hf_fusion.utils.errors import RecipeError

Protocols = dict[str, ProtocolSettings]
_SIGNIFICANT = 0.05


def read_protocols(content: dict[str, Any]) -> Protocols:
    """
    Reads the field `protocols` of a study: settings by name, which is that of the protocol unless they name one.

    Raises:
        RecipeError: if a setting is unknown or not valid.
    """
    protocols = {}
    for name, fields in content.items():
        try:
            protocols[name] = ProtocolSettings(**{"protocol": name, **(fields or {})})
        except TypeError as error:
            raise RecipeError(f"protocols.{name}: unknown setting: {error}") from error
    return protocols


def check_published(protocols: Protocols, published: list[PublishedResult]) -> None:
    """Raises [`RecipeError`] if a published result belongs to no protocol of the study, or to other conditions."""
    for result in published:
        if result.protocol is None:
            continue
        counts = [len(condition_names(s)) for s in protocols.values() if s.protocol == result.protocol]
        if not counts:
            raise RecipeError(f"reference ({result.model}): the study has no protocol {result.protocol}.")
        if wrong := [metric for metric, curve in result.curve.items() if len(curve) not in counts]:
            raise RecipeError(
                f"reference ({result.model}): the curve of {wrong[0]} has {len(result.curve[wrong[0]])} values, but "
                f"{result.protocol} has {counts[0]} conditions here."
            )


def part_name(name: str, part: str) -> str:
    """Returns the name under which the metrics of a condition or summary stand among the splits of a run."""
    return f"{name}: {part}"


def condition_names(settings: ProtocolSettings) -> list[str]:
    """Returns the names of the conditions of a protocol."""
    return [condition.name for condition in settings.resolve().conditions]


def summary_names(protocols: Protocols) -> list[str]:
    """Returns the names of the summaries of all protocols, see [`part_name`]."""
    return [part_name(name, summary) for name, settings in protocols.items() for summary in settings.summaries]


def part_names(protocols: Protocols) -> list[str]:
    """Returns the names of all conditions and summaries of all protocols, see [`part_name`]."""
    conditions = [part_name(name, c) for name, settings in protocols.items() for c in condition_names(settings)]
    return [*conditions, *summary_names(protocols)]


def measure_run(
    run_folder: Path, protocols: Protocols, metric_names: list[str], say: Callable[[str], None]
) -> dict[str, dict[str, float | None]]:
    """
    Measures a finished run by protocols; results with the same settings, weights and data are reused.

    Args:
        run_folder (`Path`): the folder of the run.
        protocols (`Protocols`): the protocols.
        metric_names (`list[str]`): the metrics of the run, all of which are `None` where the protocol does not apply:
            the model reads a single modality, and the protocol loses whole ones. They are also `None` in conditions
            that do not fit the modalities of the model, and then in the summaries, which could not be compared.
        say (`Callable`): called with the name of each protocol that is measured.

    Returns:
        `dict[str, dict]`: the metrics, means over the mask seeds, by the names of [`part_names`].
    """
    parts: dict[str, dict[str, float | None]] = {}
    for name, settings in protocols.items():
        data_args = read_data_arguments(run_folder)
        record = known_protocol(run_folder, data_args, settings)
        if record is None:
            say(f"protocol {name}")
            try:
                write_protocol(run_folder, copy(data_args), settings, format=None)  # the copy takes the model's classes
                record = known_protocol(run_folder, data_args, settings)
            except NothingLeftError:
                record = {"conditions": {}, "summary": {}}
        nothing = dict.fromkeys(metric for metric in metric_names if metric != "loss")
        conditions = condition_names(settings)
        for part in conditions:
            parts[part_name(name, part)] = record["conditions"].get(part, {}).get("mean", nothing)
        is_whole = record["conditions"].keys() == set(conditions)
        for part in settings.summaries:
            parts[part_name(name, part)] = record["summary"][part]["mean"] if is_whole else nothing
    return parts


def describe_protocols(
    protocols: Protocols, summaries: dict[str, dict], published: list[PublishedResult]
) -> dict[str, dict]:
    """
    Returns the part of a study's record on its protocols.

    Args:
        protocols (`Protocols`): the protocols.
        summaries (`dict[str, dict]`): the results of [`summarize`] by split, with those of [`part_names`].
        published (`list[PublishedResult]`): the published results of the study.
    """
    record = {}
    for name, settings in protocols.items():
        protocol = settings.resolve()
        record[name] = {
            "settings": settings.to_dict(),
            "title": protocol.title,
            "source": protocol.source,
            "selection": protocol.selection,
            "published_selection": protocol.published_selection,
            "defects": list(protocol.defects),
            "conditions": {
                c.name: {
                    "rate": c.rate,
                    "complete": c.is_complete,
                    "variants": _without_details(summaries[part_name(name, c.name)]),
                }
                for c in protocol.conditions
            },
            "summary": {
                part: {"variants": _without_details(summaries[part_name(name, part)])} for part in settings.summaries
            },
            "published": [result.to_dict() for result in published if result.protocol == settings.protocol],
        }
    return record


def _without_details(summary):
    """The entries of a summary without the facts on the runs, which stand elsewhere in the record."""
    details = ("last_log", "train_seconds", "parameters")
    return {name: {key: value for key, value in entry.items() if key not in details} for name, entry in summary.items()}


def protocol_tables(record: dict[str, dict], metrics: list[str]) -> list[str]:
    """
    Formats the tables of each protocol in Markdown: its summary with paired differences and published results, and the
    metrics by condition.

    Args:
        record (`dict[str, dict]`): the result of [`describe_protocols`].
        metrics (`list[str]`): the metrics to show.
    """
    return [_protocol_table(name, part, metrics) for name, part in record.items()]


def _protocol_table(name, part, metrics):
    summaries, settings = part["summary"], part["settings"]
    first = next(iter(summaries))
    known = next(iter(summaries[first]["variants"].values()))["mean"]
    shown = [metric for metric in metrics if metric in known]
    columns = [(summary, metric) for summary in summaries for metric in shown]
    lines = [f"### protocol {name}: {part['title']}, mode {settings['mode']}", ""]
    lines += _header("summary", [f"{summary}: {metric}" for summary, metric in columns])
    for variant in summaries[first]["variants"]:
        cells = [_cell(summaries[summary]["variants"][variant], metric) for summary, metric in columns]
        lines.append(_row(variant, cells))
    for number, result in enumerate(part["published"], 1):
        cells = [_published_cell(result, metric) if summary == first else "" for summary, metric in columns]
        lines.append(_row(f"{result['model']} [{number}]", cells))  # the published summary is the first one
    notes = "; ".join(f"{summary}: {SUMMARIES[summary]}" for summary in summaries)
    lines += ["", f"{notes}. Below each mean the paired difference to the first row with its 95 %"]
    lines += [f"interval over the training seeds (bold: p < {_SIGNIFICANT} after Holm's correction for the variants)."]
    if part["published"] and settings["mode"] == "sound":
        lines.append(
            "Published results have the masks and the selection of their codes: compare them with the mode exact."
        )
    lines += ["", *(f"- [{i}] {_describe_published(result)}" for i, result in enumerate(part["published"], 1))]
    for metric in shown:
        conditions = part["conditions"]
        lines += ["", *_header(metric, conditions)]
        for variant in next(iter(conditions.values()))["variants"]:
            cells = [_plain_cell(cell["variants"][variant], metric) for cell in conditions.values()]
            lines.append(_row(variant, cells))
        for number, result in enumerate(part["published"], 1):
            if metric in result.get("curve", {}):
                lines.append(_row(f"{result['model']} [{number}]", [f"{v:.3f}" for v in result["curve"][metric]]))
    return "\n".join(lines) + "\n"


def published_table(published: list[dict[str, Any]], metrics: list[str]) -> str:
    """
    Formats published results on complete data as a table in Markdown, with their sources.

    Args:
        published (`list[dict]`): results of [`PublishedResult.to_dict`].
        metrics (`list[str]`): the columns.
    """
    lines = ["### published", "", *_header("", metrics)]
    for number, result in enumerate(published, 1):
        lines.append(_row(f"{result['model']} [{number}]", [_published_cell(result, metric) for metric in metrics]))
    lines += ["", *(f"- [{number}] {_describe_published(result)}" for number, result in enumerate(published, 1))]
    return "\n".join(lines) + "\n"


def _header(first, columns):
    return [_row(first, columns), "|---" * (1 + len(columns)) + "|"]


def _row(first, cells):
    return f"| {' | '.join([first.replace('|', '/'), *cells])} |"


def _plain_cell(entry, metric):
    mean, std = entry["mean"][metric], entry["std"][metric]
    return "-" if not np.isfinite(mean) else f"{mean:.3f}" + (f" ± {std:.3f}" if std is not None else "")


def _cell(entry, metric):
    text, difference = _plain_cell(entry, metric), entry.get("difference", {}).get(metric)
    if text == "-" or not difference:
        return text
    line = f"{difference['mean']:+.3f}"
    if difference["interval"]:
        line += " [{:+.3f}, {:+.3f}]".format(*difference["interval"])
    p = difference["p_holm"]
    return f"{text}<br>**{line}**" if p is not None and p < _SIGNIFICANT else f"{text}<br>{line}"


def _published_cell(result, metric):
    if metric not in result["values"]:
        return ""
    std = result.get("std", {}).get(metric)
    return f"{result['values'][metric]:.3f}" + (f" ± {std:.3f}" if std is not None else "")


def _describe_published(result):
    facts = [f"seeds: {result['seeds']}" if "seeds" in result else "seeds unknown"]
    facts += [f"selection: {result.get('selection', 'unknown')}"]
    facts += ["second-hand"] if "second_hand" in result else []
    note = f" {result['note']}" if "note" in result else ""
    return f"{result['model']}: {result['source']} ({'; '.join(facts)}).{note}"


def draw_protocols(record: dict[str, dict], metrics: list[str], title: str) -> dict[str, Any]:
    """
    Draws a picture of each protocol with all variants; bands are standard deviations over the training seeds.

    Args:
        record (`dict[str, dict]`): the result of [`describe_protocols`].
        metrics (`list[str]`): the metrics, one per panel.
        title (`str`): the start of the titles.

    Returns:
        `dict[str, Figure]`: the figures by protocol.
    """
    figures = {}
    for name, part in record.items():
        variants = next(iter(part["conditions"].values()))["variants"]
        curves = {
            variant: {
                condition: {"rate": cell["rate"], **{key: cell["variants"][variant][key] for key in ("mean", "std")}}
                for condition, cell in part["conditions"].items()
            }
            for variant in variants
        }
        title_of_protocol = f"{title}: {part['title']}, mode {part['settings']['mode']}"
        figures[name] = plot_protocol(curves, metrics, title_of_protocol, "standard deviation over training seeds")
    return figures
