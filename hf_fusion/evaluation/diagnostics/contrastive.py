"""DashFusion: what the contrastive losses made of the space of clips."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from datasets import Dataset
from sklearn.decomposition import PCA

from hf_fusion.evaluation.diagnostics.collect import outputs_over, training_logs
from hf_fusion.evaluation.diagnostics.findings import Finding, Section, at_least, at_most
from hf_fusion.evaluation.plots import save_figure
from hf_fusion.evaluation.similarity import SIMILARITIES, clip_vectors, pair_similarities

# Clips of one class must be more alike than others by this much, in cosine.
_LEAST_DIFFERENCE = 0.05
# log mean exp(-2 d^2) is 0 if all clips are one point, and -4 where they are spread evenly in many dimensions.
_COLLAPSED = -0.1
_MOST_CLIPS = 2000


def contrastive_section(classify, clips: Dataset, folder: Path, batch_size: int = 32) -> Section | None:
    """
    Similarity of clips of the same and of other classes, alignment and uniformity (Wang & Isola 2020), a projection.

    Args:
        classify ([`FusionSentimentPipeline`]): of a DashFusion.
        clips: with `label`; 2,000 of them are looked at, drawn once for all.
        folder: gets `contrastive_space.png`.
        batch_size: clips of a forward pass.

    Returns:
        The section; `None` if the model was trained without supervised contrastive loss, or no two clips can be
        compared.
    """
    config = classify.model.config
    if not config.supervised_contrastive:
        return None
    drawn = np.random.default_rng(0).permutation(len(clips))[:_MOST_CLIPS]  # a file may be sorted
    clips = clips.select(sorted(drawn.tolist()))
    parts: list = [None] * len(clips)
    for members, _, outputs in outputs_over(classify, clips, batch_size):
        for row, vector in zip(members, clip_vectors(outputs, config), strict=True):
            parts[row] = vector
    vectors, labels = torch.stack(parts), torch.as_tensor(clips["label"])
    cosines, same, different = pair_similarities(vectors, labels, config)
    positives, negatives = cosines[same], cosines[different]
    if not len(positives) or not len(negatives):
        return None
    found = {
        "positives": positives.mean().item(),
        "negatives": negatives.mean().item(),
        "alignment": (2 - 2 * positives).mean().item(),
        "uniformity": (-2 * (2 - 2 * cosines[torch.ones_like(same).triu(1)])).exp().mean().log().item(),
    }
    picture = folder / "contrastive_space.png"
    _plot(picture, positives, negatives, vectors, labels)
    return Section(
        "Contrastive space",
        "Cosine similarity of clips by what the contrastive loss compares: text, audio, vision and aligned sequence in "
        f"one vector. Alignment (mean squared distance of a class, less is closer) {found['alignment']:.3f}; "
        f"uniformity (less is more spread out) {found['uniformity']:.3f}.",
        [
            at_least("cosine of the same class minus others", found["positives"] - found["negatives"],
                     _LEAST_DIFFERENCE, "clips of one class lie together", "classes do not show in the space"),
            at_most("uniformity", found["uniformity"], _COLLAPSED, "clips are spread out",
                    "all clips are nearly one point: the space has collapsed"),
        ],
        [picture],
        data={"contrastive": found},
    )  # fmt: skip


def contrastive_training_section(checkpoint: str | Path, folder: Path) -> Section | None:
    """
    How alike clips of the same and of other classes were over training, within its batches.

    Args:
        checkpoint: a run folder.
        folder: gets `contrastive_training.png`.

    Returns:
        The section; `None` if the run logged no similarities at two moments or more.
    """
    logs = [log for log in training_logs(checkpoint, SIMILARITIES[0]) if SIMILARITIES[1] in log]
    if len(logs) < 2:
        return None
    series = {name: np.array([log[name] for log in logs]) for name in SIMILARITIES}
    differences = series[SIMILARITIES[0]] - series[SIMILARITIES[1]]
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for name, values in series.items():
        axes.plot([log["step"] for log in logs], values, marker=".", label=name.replace("_", " "))
    axes.set(title="Similarity of clips over training", xlabel="step", ylabel="mean cosine")
    axes.legend()
    picture = folder / "contrastive_training.png"
    save_figure(figure, picture)
    growth = float(differences[-1] - differences[0])
    return Section(
        "Contrastive space over training",
        f"Mean cosine of all pairs in a training batch. Classes were {differences[0]:.3f} apart at the first log and "
        f"{differences[-1]:.3f} at the last.",
        [
            at_least("difference of the classes at the end", float(differences[-1]), _LEAST_DIFFERENCE,
                     "in training batches, too, clips of one class lie together",
                     "in training batches classes do not lie apart"),
            Finding("growth of that difference", growth, "none", None,
                    "from the first log to the last; mined batches, made of near clips, start from less"),
        ],
        [picture],
        data={"contrastive_training": {name: values.tolist() for name, values in series.items()}},
    )  # fmt: skip


def _plot(path, positives, negatives, vectors, labels):
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    bins = np.linspace(-1, 1, 61)
    for values, name in ((positives, "same class"), (negatives, "other classes")):
        left.hist(values.numpy(), bins, density=True, alpha=0.5, label=name)
    left.set(title="Similarity of two clips", xlabel="cosine")
    left.legend()
    places = PCA(2, random_state=0).fit_transform(vectors.numpy())
    points = right.scatter(*places.T, c=labels.numpy(), cmap="coolwarm", s=10)
    right.set(title="The clips on their two main axes", xticks=[], yticks=[])
    figure.colorbar(points, ax=right, label="label")
    save_figure(figure, path)
