"""Gradients of single losses on the shared parameters: their norms and the cosines between them."""

from itertools import combinations

import torch
from torch import nn


def weighted_losses(outputs, config) -> dict[str, torch.Tensor]:
    """
    Returns the weighted components of a training loss.

    Args:
        outputs (`ModelOutput`): the outputs of the model for a batch with labels.
        config ([`PretrainedConfig`]): the configuration of the model.

    Returns:
        `dict[str, torch.Tensor]`: the components with a gradient by name (`fine`, `coarse`, `intensity`; `prediction`,
        `contrastive`, `distillation`).
    """
    task_weights = outputs.get("loss_weights")  # `None` if a student learns from its teacher alone
    tasks = [head.task for head in config.heads.values()]
    weights = {} if task_weights is None else dict(zip(tasks, task_weights, strict=True))
    weights |= config.loss_factors
    parts = {name: outputs.get(f"{name}_loss") for name in weights}
    return {name: weights[name] * part for name, part in parts.items() if part is not None and part.requires_grad}


def task_gradients(model: nn.Module, losses: dict[str, torch.Tensor]) -> dict[str, float]:
    """
    Computes norms and cosines of the gradients of single losses on the parameters of the base model.

    Args:
        model (`nn.Module`): the unwrapped model with its heads.
        losses (`dict[str, torch.Tensor]`): the result of [`weighted_losses`]; their graph is retained.

    Returns:
        `dict[str, float]`: `gradient_norm_NAME` of each loss, `gradient_cosine_NAME_NAME` of each pair (-1 = opposite;
        0 if one gradient is zero), and `gradient_norm_guidance` for a DyFuLM with guidance, the norm of the fine loss's
        gradient on the guidance.
    """
    shared = [parameter for parameter in model.base_model.parameters() if parameter.requires_grad]
    flat = {name: _flat_gradient(loss, shared) for name, loss in losses.items()}
    values = {f"gradient_norm_{name}": gradient.norm().item() for name, gradient in flat.items()}
    for (first, a), (second, b) in combinations(flat.items(), 2):
        values[f"gradient_cosine_{first}_{second}"] = nn.functional.cosine_similarity(a, b, dim=0).item()
    guidance = getattr(model, "guidance", None)
    if guidance is not None and "fine" in losses:
        values["gradient_norm_guidance"] = _flat_gradient(losses["fine"], list(guidance.parameters())).norm().item()
    return values


def _flat_gradient(loss, parameters):
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    filled = (torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True))
    return torch.cat([gradient.flatten().float() for gradient in filled])
