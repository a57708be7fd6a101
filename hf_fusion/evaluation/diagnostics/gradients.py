"""Did one task drown the others in training? From the gradients that `--log_gradients_every` logged."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from hf_fusion.evaluation.diagnostics.collect import training_logs
from hf_fusion.evaluation.diagnostics.findings import Section, at_least, at_most
from hf_fusion.evaluation.plots import save_figure

_NORM, _COSINE = "gradient_norm_", "gradient_cosine_"
_LARGEST_SHARE = 0.9
_LEAST_COSINE = -0.2
# The guidance learns if the fine loss pulls at it with at least this share of its pull at everything shared.
_LEAST_GUIDANCE = 1e-3


def gradient_section(checkpoint: str | Path, folder: Path) -> Section | None:
    """
    Norms and cosines of the tasks' gradients over training.

    Args:
        checkpoint: a run folder.
        folder: gets `task_gradients.png`.

    Returns:
        The section; `None` if the run logged no gradients.
    """
    logs = training_logs(checkpoint, _NORM)
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
                    f"all losses are heard, {strongest} most", f"{strongest} drowns the others")
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
    picture = folder / "task_gradients.png"
    _plot(picture, [log["step"] for log in logs], series)
    text = "Gradient of each weighted loss on the parameters that all share, as a mean over training."
    return Section("Task gradients", text, findings, [picture], data={"gradients": means})


def _plot(path, steps, series):
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 5.5), sharex=True)
    for name, values in series.items():
        axes, prefix = (top, _NORM) if name.startswith(_NORM) else (bottom, _COSINE)
        axes.plot(steps, values, marker=".", label=name.removeprefix(prefix).replace("_", " "))
    top.set(title="Gradients of the losses", ylabel="norm", yscale="log")
    bottom.set(xlabel="step", ylabel="cosine", ylim=(-1.05, 1.05))
    bottom.axhline(0, color="grey", linestyle=":")
    for axes in (top, bottom):
        if axes.lines:
            axes.legend(fontsize=8)
    save_figure(figure, path)
