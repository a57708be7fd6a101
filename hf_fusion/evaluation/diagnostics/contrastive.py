"""DashFusion: the space of clips that the contrastive losses shape."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from datasets import Dataset
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from hf_fusion.data.clip_classes import has_label_sets
from hf_fusion.data.label_sets import label_vectors
from hf_fusion.evaluation.diagnostics.collect import Diagnosis, read_training_logs
from hf_fusion.evaluation.diagnostics.findings import Finding, Section, at_least, at_most
from hf_fusion.evaluation.plots import BETTER, UNCLEAR, legend_below, new_figure, plain_text
from hf_fusion.evaluation.similarity import SIMILARITIES, clip_vectors, pair_similarities

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The least share of comparisons in which a pair of one class is closer than a pair of two classes; 0.5 is chance.
_LEAST_ORDER = 0.7
# The least difference of the mean cosines of pairs of one class and of two classes in a training batch.
_LEAST_DIFFERENCE = 0.05
# log mean exp(-2 d^2) is 0 if all clips are one point, and -4 if they are spread evenly in many dimensions.
_COLLAPSED = -0.1
_MOST_CLIPS = 2000


class ContrastiveDiagnosis(Diagnosis):
    """
    Similarity of clips of one class and of two classes, alignment and uniformity (Wang & Isola 2020), a projection.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline of a DashFusion. Does not apply if the model was trained
            without supervised contrastive loss.
        clips (`Dataset`): clips with `label`; at most 2,000 of them are examined, in a fixed random sample.
    """

    def __init__(self, classify, clips: Dataset):
        self.config = classify.model.config
        self.applies = self.config.supervised_contrastive
        drawn = np.random.default_rng(0).permutation(len(clips))[:_MOST_CLIPS]  # a file may be sorted
        self._places = {int(row): place for place, row in enumerate(sorted(drawn))}
        labels = [clips["label"][row] for row in self._places]
        self._labels = torch.as_tensor(
            label_vectors(labels, self.config.num_labels) if has_label_sets(clips) else labels
        )
        self._vectors: list = [None] * len(self._places)

    def observe(self, numbers, outputs):
        """Keeps the contrastive vectors of the clips."""
        for row, vector in zip(numbers, clip_vectors(outputs, self.config), strict=True):
            if row in self._places:
                self._vectors[self._places[row]] = vector

    def section(self):
        """Compares pairs of one class with pairs of two classes."""
        vectors = torch.stack(self._vectors)
        cosines, same, different = pair_similarities(vectors, self._labels, self.config)
        positives, negatives = cosines[same].numpy(), cosines[different].numpy()
        if not len(positives) or not len(negatives):
            return None
        projection = PCA(2, random_state=0)
        plane = projection.fit_transform(vectors.numpy())
        variance = np.nan_to_num(projection.explained_variance_ratio_)  # NaN if all clips are one point
        near = -torch.cdist(*[torch.as_tensor(plane)] * 2).numpy()
        order, order_in_plane = (
            _order(positives, negatives), _order(near[same.numpy()], near[different.numpy()])
        )  # fmt: skip
        result = {
            "positives": float(positives.mean()),
            "negatives": float(negatives.mean()),
            "alignment": float((2 - 2 * positives).mean()),
            "uniformity": (-2 * (2 - 2 * cosines[torch.ones_like(same).triu(1)])).exp().mean().log().item(),
            "order": order,
            "order_in_plane": order_in_plane,
        }
        seen = order_in_plane >= _LEAST_ORDER
        text = (
            "Cosine similarity of clips by the vectors that the contrastive loss compares: text, audio, vision and "
            f"aligned sequence in one. The projection shows {variance.sum():.0%} of the variance of these vectors; "
            + ("classes show in it." if seen else "classes do not show in it. ")
        )
        if not seen and order >= _LEAST_ORDER:
            text += "They lie apart in the other dimensions: the histogram tells more than the projection."
        figure = plot_contrastive_space(positives, negatives, plane, variance, self._labels.numpy(), self.config)
        return Section(
            "Contrastive space",
            text,
            [
                at_least("share of comparisons in which a pair of one class is closer than a pair of two (0.5 = "
                         "chance)", order, _LEAST_ORDER, "clips of one class lie together",
                         "classes mix in the space"),
                Finding("the same in the projection", order_in_plane, "chance is 0.5", None,
                        "as clear as the scatter can be"),
                at_most("uniformity", result["uniformity"], _COLLAPSED, "clips are spread out",
                        "all clips are nearly one point: the space has collapsed"),
                Finding("alignment", result["alignment"], "none", None,
                        "mean squared distance of two clips of one class; less is closer"),
            ],
            {"contrastive_space": figure},
            data={"contrastive": result},
        )  # fmt: skip


def plot_contrastive_space(
    positives: np.ndarray, negatives: np.ndarray, plane: np.ndarray, variance: np.ndarray, labels: np.ndarray, config
) -> Figure:
    """
    Plots a histogram of the similarities of pairs, and the clips in the plane of most variance.

    Args:
        positives, negatives (`np.ndarray`): cosines of the pairs of one class, and of two classes.
        plane (`np.ndarray` of shape `(clips, 2)`): coordinates of the clips.
        variance (`np.ndarray` of shape `(2,)`): share of the variance on each axis.
        labels (`np.ndarray` of shape `(clips,)` or `(clips, labels)`): scores, classes or several labels.
        config ([`DashFusionConfig`]): the configuration of the model. The colour scale of scores spans its
            `label_range`, with a neutral colour in the middle.
    """
    figure = new_figure(10.5, 4.8)
    left, right = figure.subplots(1, 2)
    bins = np.linspace(-1, 1, 61)
    for values, name, color in ((positives, "one class", BETTER), (negatives, "two classes", UNCLEAR)):
        left.hist(values, bins, density=True, alpha=0.55, label=name, color=color)
        left.axvline(values.mean(), color=color, linestyle=":")
    left.set(title="Similarity of two clips (dotted: mean)", xlabel="cosine", ylabel="density", xlim=(-1, 1))
    if config.num_labels == 1:
        low, high = config.label_range
        points = right.scatter(*plane.T, c=labels, cmap="coolwarm", s=10, vmin=low, vmax=high)
        figure.colorbar(points, ax=right, label="score")
    else:
        classes, members = np.unique(labels.reshape(len(labels), -1), axis=0, return_inverse=True)
        for i, row in enumerate(classes):
            names = [config.id2label[int(row[0])]] if len(row) == 1 else _names(row, config)
            right.scatter(*plane[members.reshape(-1) == i].T, s=10, label=", ".join(names) or "none")
    right.set(title="Clips in the plane of most variance", xticks=[], yticks=[])
    right.set(xlabel=f"{variance[0]:.0%} of the variance", ylabel=f"{variance[1]:.0%} of the variance")
    handles = [handle for axes in (left, right) for handle in axes.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return plain_text(figure)


def contrastive_training_section(checkpoint: str | Path) -> Section | None:
    """
    Reports the similarity of clips of one class and of two classes in the training batches over time.

    Args:
        checkpoint (`str` or `Path`): a run folder.

    Returns:
        [`Section`] or `None`: the section; `None` if the run logged similarities fewer than twice.
    """
    logs = [log for log in read_training_logs(checkpoint, SIMILARITIES[0]) if SIMILARITIES[1] in log]
    if len(logs) < 2:
        return None
    series = {name: np.array([log[name] for log in logs]) for name in SIMILARITIES}
    differences = series[SIMILARITIES[0]] - series[SIMILARITIES[1]]
    growth = float(differences[-1] - differences[0])
    return Section(
        "Contrastive space over training",
        f"Mean cosine of all pairs in a training batch. The classes' difference was {differences[0]:.3f} at the first "
        f"log and {differences[-1]:.3f} at the last.",
        [
            at_least("difference of the classes at the end", float(differences[-1]), _LEAST_DIFFERENCE,
                     "in training batches clips of one class are more alike than others",
                     "in training batches clips of one class are hardly more alike than others"),
            Finding("growth of that difference", growth, "none", None,
                    "from the first log to the last; mined batches, made of near clips, start from less"),
        ],
        {"contrastive_training": plot_contrastive_training([log["step"] for log in logs], *series.values())},
        data={"contrastive_training": {name: values.tolist() for name, values in series.items()}},
    )  # fmt: skip


def plot_contrastive_training(steps: list[int], same: np.ndarray, other: np.ndarray) -> Figure:
    """Plots the mean cosine of pairs of one class and of two classes over training; shades the area between them."""
    figure = new_figure(7, 4.2, "Similarity of clips over training")
    axes = figure.subplots()
    axes.fill_between(steps, same, other, color="lightgrey", alpha=0.6, label="difference")
    axes.plot(steps, same, marker=".", color=BETTER, label="one class")
    axes.plot(steps, other, marker=".", color=UNCLEAR, label="two classes")
    axes.set(xlabel="step", ylabel="mean cosine")
    legend_below(figure, axes)
    return plain_text(figure)


def _order(positives, negatives):
    """Returns the share of comparisons in which a pair of one class is closer than one of two; 0.5 is chance."""
    classes = np.repeat([1, 0], [len(positives), len(negatives)])
    return float(roc_auc_score(classes, np.concatenate([positives, negatives])))


def _names(row, config):
    return [config.id2label[i] for i, on in enumerate(row) if on == 1]
