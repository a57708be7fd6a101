"""How the losses pull at what they share: the gradient of each one alone, its norm, and the angles between them."""

from itertools import combinations

import torch
from torch import nn


def weighted_losses(outputs, config) -> dict[str, torch.Tensor]:
    """
    The parts of a training loss, each with its weight in it.

    Args:
        outputs: of a DyFuLM or a DashFusion, with labels.
        config: of the model.

    Returns:
        By name (`fine`, `coarse`, `intensity`; `prediction`, `contrastive`, `distillation`) the parts that pull at the
        parameters.
    """
    task_weights = outputs.get("loss_weights")  # none where a student learns from its teacher alone
    tasks = [head.task for head in config.heads.values()]
    weights = {} if task_weights is None else dict(zip(tasks, task_weights, strict=True))
    weights |= config.loss_factors
    parts = {name: outputs.get(f"{name}_loss") for name in weights}
    return {name: weights[name] * part for name, part in parts.items() if part is not None and part.requires_grad}


def task_gradients(model: nn.Module, losses: dict[str, torch.Tensor]) -> dict[str, float]:
    """
    Gradients of single losses on the parameters that all of them share, those of the base model.

    Args:
        model: the model with its heads, not wrapped.
        losses: what [`weighted_losses`] returns; their graph is kept.

    Returns:
        `gradient_norm_NAME` of each loss, `gradient_cosine_NAME_NAME` of each pair (-1 = they pull against each other;
        0 where one of them does not pull), and for a DyFuLM with guidance `gradient_norm_guidance`, that of the fine
        loss on the guidance.
    """
    shared = [parameter for parameter in model.base_model.parameters() if parameter.requires_grad]
    flat = {name: _flat_gradient(loss, shared) for name, loss in losses.items()}
    found = {f"gradient_norm_{name}": gradient.norm().item() for name, gradient in flat.items()}
    for (first, a), (second, b) in combinations(flat.items(), 2):
        found[f"gradient_cosine_{first}_{second}"] = nn.functional.cosine_similarity(a, b, dim=0).item()
    guidance = getattr(model, "guidance", None)
    if guidance is not None and "fine" in losses:
        found["gradient_norm_guidance"] = _flat_gradient(losses["fine"], list(guidance.parameters())).norm().item()
    return found


def _flat_gradient(loss, parameters):
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    filled = (torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True))
    return torch.cat([gradient.flatten().float() for gradient in filled])
