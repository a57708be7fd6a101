"""The balance of the losses in training, from the gradients that `log_gradients_every` logged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_fusion.evaluation.diagnostics.collect import read_training_logs
from hf_fusion.evaluation.diagnostics.findings import Section, at_least, at_most
from hf_fusion.evaluation.plots import UNCLEAR, log_scale, new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NORM, _COSINE = "gradient_norm_", "gradient_cosine_"
_LARGEST_SHARE = 0.9
_LEAST_COSINE = -0.2
# The least norm of the fine loss's gradient on the guidance, relative to that on all shared parameters.
_LEAST_GUIDANCE = 1e-3


def gradient_section(checkpoint: str | Path) -> Section | None:
    """
    Reports norms and cosines of the gradients of the losses over training.

    Args:
        checkpoint (`str` or `Path`): a run folder.

    Returns:
        [`Section`] or `None`: the section; `None` if the run logged no gradients.
    """
    logs = read_training_logs(checkpoint, _NORM)
    if not logs:
        return None
    names = sorted({name for log in logs for name in log if name.startswith((_NORM, _COSINE))})
    series = {name: np.array([log.get(name, np.nan) for log in logs], dtype=float) for name in names}
    means = {name: float(np.nanmean(values)) for name, values in series.items()}
    norms = {name.removeprefix(_NORM): value for name, value in means.items() if name.startswith(_NORM)}
    guidance = norms.pop("guidance", None)
    findings = []
    if len(norms) > 1:
        strongest = max(norms, key=norms.get)
        findings.append(
            at_most("share of the strongest loss", norms[strongest] / max(sum(norms.values()), 1e-30), _LARGEST_SHARE,
                    f"all losses count, {strongest} most", f"{strongest} drowns the others")
        )  # fmt: skip
    for name, value in means.items():
        if name.startswith(_COSINE):
            pair = name.removeprefix(_COSINE).replace("_", " and ")
            findings.append(
                at_least(f"cosine of {pair}", value, _LEAST_COSINE, "they get along", "they pull against each other")
            )
    if guidance is not None:
        share = guidance / max(norms.get("fine", 0.0), 1e-30)
        findings.append(
            at_least("pull of the fine loss at the guidance, as a share", share, _LEAST_GUIDANCE,
                     "the guidance learns", "next to no gradient reaches the guidance: the path is not learning")
        )  # fmt: skip
    text = "Gradient of each weighted loss on the parameters that all share; the checks are of means over training."
    figures = {"task_gradients": plot_gradients([log["step"] for log in logs], series)}
    return Section("Task gradients", text, findings, figures, data={"gradients": means})


def plot_gradients(steps: list[int], series: dict[str, np.ndarray]) -> Figure:
    """
    Plots the norms of the losses' gradients over training, and the cosines of each pair.

    Args:
        steps (`list[int]`): the training steps.
        series (`dict[str, np.ndarray]`): the logged values by name (`gradient_norm_...`, `gradient_cosine_...`).
    """
    figure = new_figure(8, 5.4, "Gradients of the losses")
    top, bottom = figure.subplots(2, 1, sharex=True)
    for name, values in series.items():
        axes, prefix = (top, _NORM) if name.startswith(_NORM) else (bottom, _COSINE)
        axes.plot(steps, values, marker=".", label=name.removeprefix(prefix).replace("_", " and "))
    top.set(ylabel="norm")
    log_scale(top, "y", [v for name, values in series.items() if name.startswith(_NORM) for v in values])
    bottom.set(xlabel="step", ylabel="cosine", ylim=(-1.05, 1.05))
    bottom.axhline(0, color=UNCLEAR, linestyle=":")
    for axes in (top, bottom):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return plain_text(figure)
