"""The picture of a protocol for missing modalities: metrics by missing rate, or by condition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_fusion.evaluation.metrics import lower_is_better
from hf_fusion.evaluation.plots import new_figure, plain_text, wrap
from hf_fusion.utils.extras import import_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST_NAME = 36
_STYLES = ("-", "--", ":")
_BAND = 0.18


def plot_protocol(curves: dict[str, dict[str, dict]], metrics: list[str], title: str, note: str) -> Figure:
    """
    Plots metrics by condition, one panel per metric: lines with a band over the missing rates, or bars with error bars
    where the conditions are no rates. Both show the interval of a condition or, without one, its standard deviation.

    Args:
        curves (`dict[str, dict]`): for each model or variant the conditions by name, each with `rate`, `mean` and
            `interval` or `std` by metric (see [`summarize_curves`]).
        metrics (`list[str]`): the metrics, one per panel.
        title (`str`): the title of the figure.
        note (`str`): the meaning of the bands, below the panels.

    Example:

    ```python
    >>> from hf_fusion.evaluation.protocol_plot import plot_protocol
    >>> curve = {str(r): {"rate": r, "mean": {"mae": 1 + r}, "std": {"mae": 0.05}} for r in (0.0, 0.5, 1.0)}
    >>> figure = plot_protocol({"mine": curve}, ["mae"], "tfr", "standard deviation over mask seeds")
    ```
    """
    first = next(iter(curves.values()))
    by_rate = all(cell["rate"] is not None for cell in first.values())
    height = 3.6 if by_rate else max(3.0, 1.4 + len(first) * (0.14 + 0.16 * len(curves)))
    figure = new_figure(2.6 + 3.6 * len(metrics), height, title)
    panels = figure.subplots(1, len(metrics), squeeze=False, sharey=not by_rate)[0]
    colors = import_extra("matplotlib", "plots").colormaps["tab10"].colors
    for axes, metric in zip(panels, metrics, strict=True):
        for i, (name, conditions) in enumerate(curves.items()):
            style = {"color": colors[i % len(colors)], "label": wrap(name, _LONGEST_NAME)}
            means = np.array([cell["mean"][metric] for cell in conditions.values()], dtype=float)
            low, high = np.array([_band(cell, metric) for cell in conditions.values()], dtype=float).T
            if by_rate:
                rates = [cell["rate"] for cell in conditions.values()]
                axes.plot(rates, means, marker=".", linestyle=_STYLES[i // len(colors) % len(_STYLES)], **style)
                axes.fill_between(rates, low, high, alpha=_BAND, color=style["color"], linewidth=0)
            else:
                thickness = 0.8 / len(curves)
                places = np.arange(len(means)) - 0.4 + thickness * (i + 0.5)
                axes.barh(
                    places, means, thickness, xerr=(means - low, high - means), error_kw={"elinewidth": 1}, **style
                )
        direction = "less" if lower_is_better(metric) else "more"
        axes.set_title(f"{metric} ({direction} is better)", fontsize=10)
        if by_rate:
            axes.set_xlabel("missing rate")
    if not by_rate:
        panels[0].set_yticks(range(len(first)), [wrap(name, _LONGEST_NAME) for name in first], fontsize=9)
        panels[0].set_ylim(len(first) - 0.5, -0.5)
    figure.supxlabel(f"{'bands' if by_rate else 'error bars'}: {note}", fontsize=8)
    if len(curves) > 1:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    return plain_text(figure)


def _band(cell, metric):
    """The lower and upper end of the band of a condition."""
    if interval := cell.get("interval", {}).get(metric):
        return interval
    mean, std = cell["mean"][metric], cell["std"][metric] or 0.0
    return mean - std, mean + std
