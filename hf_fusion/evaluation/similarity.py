"""Similarities of clips in the contrastive space."""

import torch
from torch import nn

from hf_fusion.models.modeling_dashfusion import contrastive_embeds
from hf_fusion.models.modeling_losses import joint_features, label_classes

# Names in the training logs: mean cosine of pairs of one class, and of pairs of different classes.
SIMILARITIES = ("similarity_same_class", "similarity_other_classes")


def clip_vectors(outputs, config) -> torch.Tensor:
    """Returns the detached unit vectors `(batch, parts * hidden)` by which clips are compared."""
    return nn.functional.normalize(joint_features(*contrastive_embeds(outputs, config)).detach().float(), dim=1)


def pair_similarities(vectors: torch.Tensor, labels: torch.Tensor, config) -> tuple[torch.Tensor, ...]:
    """
    Computes the cosine similarities of all pairs of clips, and the masks of pairs of one class and of two.

    Args:
        vectors (`torch.Tensor` of shape `(clips, width)`): see [`clip_vectors`].
        labels (`torch.Tensor`): see [`label_classes`]; scores are rounded to multiples of `contrastive_label_step`.
        config ([`DashFusionConfig`]): the configuration of the model.

    Returns:
        `tuple[torch.Tensor, ...]`: the similarities, and the boolean masks of pairs of one class and of different
        classes, each of shape `(clips, clips)`. The masks hold each pair once.
    """
    same, different = label_classes(labels, config.contrastive_label_step if config.num_labels == 1 else None)
    return vectors @ vectors.T, same.triu(1), different.triu(1)
