"""Learning to do without a modality: from what the same model says when it has all of them."""

import torch
from torch import nn

# What says where a modality is; a mask of zeros is a missing one.
_MASKS = {
    "text": ("attention_mask", "attention_mask_b"),
    "audio": ("audio_attention_mask",),
    "vision": ("vision_attention_mask",),
}


def hide_modalities(inputs: dict[str, torch.Tensor], probability: float) -> dict[str, torch.Tensor]:
    """
    The inputs of a DashFusion with modalities taken from single clips.

    Args:
        inputs: a batch of the collator.
        probability: with which each modality of each clip is hidden; a clip keeps one that it has.

    Returns:
        The inputs with other masks; what is hidden is drawn by torch's generator.
    """
    masks = {name: [mask for mask in names if mask in inputs] for name, names in _MASKS.items()}
    masks = {name: found for name, found in masks.items() if found}
    present = torch.stack([inputs[found[0]].bool().any(-1) for found in masks.values()], dim=1)  # (batch, modalities)
    draws = torch.rand(present.shape, device=present.device).masked_fill(~present, -1)
    kept = (draws > probability) | (draws == draws.amax(1, keepdim=True))
    hidden = dict(inputs)
    for found, here in zip(masks.values(), kept.unbind(1), strict=True):
        for mask in found:
            hidden[mask] = inputs[mask] * here.unsqueeze(1).to(inputs[mask].dtype)
    return hidden


def distillation_loss(logits: torch.Tensor, whole: torch.Tensor, problem_type: str) -> torch.Tensor:
    """
    How far the answers to clips with hidden modalities are from those to the whole clips.

    Args:
        logits (`torch.Tensor` of shape `(batch, labels)`): of the clips with hidden modalities.
        whole (`torch.Tensor` of the same shape): of the whole clips; no gradient flows into it.
        problem_type: of the model's configuration.

    Returns:
        `torch.Tensor` of shape `()`: mean squared error of scores; Kullback-Leibler divergence of classes; binary
        cross-entropy of several labels.
    """
    logits, whole = logits.float(), whole.detach().float()
    if problem_type == "regression":
        return nn.functional.mse_loss(logits, whole)
    if problem_type == "single_label_classification":
        log_probabilities = (values.log_softmax(-1) for values in (logits, whole))
        return nn.functional.kl_div(*log_probabilities, reduction="batchmean", log_target=True)
    return nn.functional.binary_cross_entropy_with_logits(logits, whole.sigmoid())
