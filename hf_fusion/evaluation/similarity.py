"""How alike clips are in the space that the contrastive losses shape."""

import torch
from torch import nn

from hf_fusion.models.modeling_dashfusion import contrastive_embeds
from hf_fusion.models.modeling_losses import joint_features, label_classes

# Names in the logs of training: mean cosine of pairs of one class, and of pairs of different ones.
SIMILARITIES = ("similarity_same_class", "similarity_other_classes")


def clip_vectors(outputs, config) -> torch.Tensor:
    """The vectors `(batch, kinds * hidden)` of length 1 that clips are compared by; no gradient flows."""
    return nn.functional.normalize(joint_features(*contrastive_embeds(outputs, config)).detach().float(), dim=1)


def pair_similarities(vectors: torch.Tensor, labels: torch.Tensor, config) -> tuple[torch.Tensor, ...]:
    """
    Cosine similarities of all pairs of clips, and which pairs are of one class.

    Args:
        vectors (`torch.Tensor` of shape `(clips, width)`): see [`clip_vectors`].
        labels: see [`label_classes`]; scores are rounded to multiples of `contrastive_label_step`.
        config ([`DashFusionConfig`]): of the model.

    Returns:
        The similarities, and which of them are of pairs of one class, and of different ones: three tensors of shape
        `(clips, clips)`, the last two bool, with each pair once.
    """
    same, different = label_classes(labels, config.contrastive_label_step if config.num_labels == 1 else None)
    return vectors @ vectors.T, same.triu(1), different.triu(1)
