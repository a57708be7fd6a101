"""Parameter groups with separate learning rates for encoders, fusion and loss weighting."""

import re

# A DyFuLM as `text_encoder` has its own encoders; its other parameters belong to the fusion.
_ENCODER = re.compile(
    r"(?:^|\.)(encoder_[ab]|text_encoder(?!\.(?:encoder_[ab]|layer_fusion_[ab]|projection_[ab]|cross_fusion|pooling)\.))\."
)
_LAYER = re.compile(r"\.layers?\.(\d+)\.")
_LOSS_WEIGHTING = re.compile(r"(?:^|\.)loss_weighting\.")


def parameter_groups(model, args, decay_names):
    """
    Groups the trainable parameters by learning rate and weight decay.

    Encoders get `learning_rate * layer_decay ** depth`, where the last layer has depth 0 and the embeddings are one
    level below the first layer. Fusion and heads get `fusion_learning_rate`; the loss weighting has its own rate and no
    decay.

    Args:
        model (`torch.nn.Module`): the model.
        args ([`FusionTrainingArguments`]): the rates.
        decay_names (`Collection[str]`): the names of the parameters with weight decay.

    Returns:
        `list[dict]`: groups with `params`, `lr` and `weight_decay`, for an optimizer.
    """
    decay_names = set(decay_names)
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    num_layers = _count_layers(name for name, _ in model.named_parameters())
    groups = {}
    for name, parameter in named:
        decay = args.weight_decay if name in decay_names and not _LOSS_WEIGHTING.search(name) else 0.0
        key = (_learning_rate(name, args, num_layers), decay)
        groups.setdefault(key, []).append(parameter)
    return [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()]


def _count_layers(names):
    counts = {}
    for name in names:
        encoder, layer = _ENCODER.search(name), _LAYER.search(name)
        if encoder and layer:
            counts[encoder[1]] = max(counts.get(encoder[1], 0), int(layer[1]) + 1)
    return counts


def _learning_rate(name, args, num_layers):
    if _LOSS_WEIGHTING.search(name):
        return args.loss_weighting_learning_rate
    encoder = _ENCODER.search(name)
    if encoder is None:
        return args.learning_rate if args.fusion_learning_rate is None else args.fusion_learning_rate
    total = num_layers.get(encoder[1], 0)
    layer = _LAYER.search(name)
    depth = total - 1 - int(layer[1]) if layer else total
    return args.learning_rate * args.layer_decay**depth
