"""DashFusion: what the contrastive losses made of the space of clips."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from datasets import Dataset
from sklearn.decomposition import PCA

from hf_fusion.evaluation.diagnostics.collect import outputs_over
from hf_fusion.evaluation.diagnostics.findings import Section, at_least, at_most
from hf_fusion.evaluation.plots import save_figure
from hf_fusion.models.modeling_dashfusion import contrastive_embeds
from hf_fusion.models.modeling_losses import joint_features, label_classes

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
        clips: with `label`; the first 2,000 are looked at.
        folder: gets `contrastive_space.png`.
        batch_size: clips of a forward pass.

    Returns:
        The section; `None` if the model was trained without supervised contrastive loss, or no two clips can be
        compared.
    """
    config = classify.model.config
    if not config.supervised_contrastive:
        return None
    clips = clips.select(range(min(len(clips), _MOST_CLIPS)))
    parts: list = [None] * len(clips)
    for members, _, outputs in outputs_over(classify, clips, batch_size):
        for row, vector in zip(members, joint_features(*contrastive_embeds(outputs, config)), strict=True):
            parts[row] = vector
    vectors = torch.nn.functional.normalize(torch.stack(parts), dim=1)  # (clips, width)
    labels = torch.as_tensor(clips["label"])
    same, different = label_classes(labels, config.contrastive_label_step if config.num_labels == 1 else None)
    upper = torch.ones(len(clips), len(clips), dtype=torch.bool).triu(1)
    cosines = vectors @ vectors.T
    positives, negatives = cosines[same & upper], cosines[different & upper]
    if not len(positives) or not len(negatives):
        return None
    found = {
        "positives": positives.mean().item(),
        "negatives": negatives.mean().item(),
        "alignment": (2 - 2 * positives).mean().item(),
        "uniformity": (-2 * (2 - 2 * cosines[upper])).exp().mean().log().item(),
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
