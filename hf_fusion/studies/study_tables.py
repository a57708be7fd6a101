"""Tables of a summary of a study, in Markdown and LaTeX."""

from typing import Any

import numpy as np

from hf_fusion.evaluation.metrics import lower_is_better
from hf_fusion.studies.power import note_power

_SIGNIFICANT = 0.05


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
