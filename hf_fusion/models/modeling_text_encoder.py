"""Building a text encoder from its configuration, the masked mean, and lengths; shared by both architectures."""

import inspect
from functools import reduce

import torch
from torch import nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel
from transformers.modeling_layers import GradientCheckpointingLayer


def encoder_class(config):
    """The model class behind a text encoder's configuration.

    Raises:
        ValueError: if the configuration belongs to no text encoder of transformers (vision or audio models,
            encoder-decoders, custom code).
    """
    if type(config) not in MODEL_MAPPING:
        raise ValueError(f"`{type(config).__name__}` is no model of transformers that can serve as text encoder.")
    model_class = MODEL_MAPPING[type(config)]
    if isinstance(model_class, tuple):
        model_class = model_class[0]
    if model_class.main_input_name != "input_ids" or getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"`{model_class.__name__}` cannot serve as text encoder: a model is needed that reads `input_ids` and has "
            "no decoder, such as BERT, RoBERTa or DeBERTa-v2."
        )
    return model_class


def encoder_kwargs(config):
    """Keyword arguments that build the encoder without a pooler, whose parameters would never be trained."""
    accepts_pooling = "add_pooling_layer" in inspect.signature(encoder_class(config).__init__).parameters
    return {"add_pooling_layer": False} if accepts_pooling else {}


def pretrained_encoder(name):
    """Loads an encoder by its name on the Hub or its folder, in float32 and without a pooler."""
    config = AutoConfig.from_pretrained(name)
    return encoder_class(config).from_pretrained(name, dtype=torch.float32, **encoder_kwargs(config))


def encoder_from_config(config):
    """Builds an encoder with random weights. Falls back to eager attention where the encoder has no other."""
    if not getattr(encoder_class(config), "_supports_sdpa", False):
        config._attn_implementation = "eager"
    return AutoModel.from_config(config, **encoder_kwargs(config))


def position_inputs(encoder, attention_mask, from_embeds):
    """
    The `position_ids` with which a text's first token has the first position, on whichever side it is padded.

    Encoders with a table of absolute positions count from the left edge of the batch, padding included, so that with
    padding on the left an answer would depend on the longest text beside it. Those that count from the padding token
    itself (RoBERTa and its kin, whose table has a `padding_idx`) do so only where they see tokens.

    Args:
        encoder (`PreTrainedModel`): the text encoder.
        attention_mask (`torch.Tensor` of shape `(batch, tokens)`): 1 for real tokens.
        from_embeds (`bool`): whether the encoder reads `inputs_embeds`.

    Returns:
        `dict`: `position_ids` of shape `(batch, tokens)`; empty for encoders that need none.
    """
    tables = (getattr(module, name, None) for module in encoder.modules() for name in ("position_embeddings", "wpe"))
    table = next((table for table in tables if isinstance(table, nn.Embedding)), None)
    counts_itself = table is not None and table.padding_idx is not None and not from_embeds
    if table is None or counts_itself or "position_ids" not in inspect.signature(encoder.forward).parameters:
        return {}
    # some tables begin with positions that are never used
    unused = table.num_embeddings - getattr(encoder.config, "max_position_embeddings", table.num_embeddings)
    first = unused if table.padding_idx is None else table.padding_idx + 1
    padding_before = ((attention_mask != 0).long().cumsum(1) == 0).sum(1, keepdim=True)
    places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return {"position_ids": (places - padding_before).clamp(min=0) + first}


class _OptionalName(str):
    """The name of a parameter in which `"label" in name` is false."""

    __slots__ = ()

    def __contains__(self, part):
        return part != "label" and super().__contains__(part)


def optional_labels(*names):
    """Decorates `forward` so that `transformers.Trainer` does not require its label arguments `names`.

    By default `Trainer` evaluates only where the data has *every* argument of `forward` with "label" in its name
    (`transformers.utils.generic.find_labels`); without one of them it reports no loss and no metrics, and says nothing.
    The arguments stay in the signature, so that `Trainer` does not remove their columns either.
    """

    def decorate(forward):
        signature = inspect.signature(forward)
        parameters = [
            parameter.replace(name=_OptionalName(name)) if name in names else parameter
            for name, parameter in signature.parameters.items()
        ]
        forward.__signature__ = signature.replace(parameters=parameters)
        return forward

    return decorate


def layer_class_names(model):
    """Names of the module classes in `model` that must stay on one device: transformer layers, and modules that read
    parameters of their own between those of their children."""
    return sorted({type(module).__name__ for module in model.modules() if module is not model and _is_unit(module)})


def _is_unit(module):
    reads_between = any(True for _ in module.parameters(recurse=False)) and any(True for _ in module.children())
    return isinstance(module, GradientCheckpointingLayer) or reads_between


def output_option(asked, default):
    """`bool`: whether to return an output: as asked for, or by `default` if `asked` is `None`."""
    return bool(default if asked is None else asked)


def masked_mean(states, mask):
    """Mean over the positions where `mask` is 1; 0 where none is.

    Args:
        states (`torch.Tensor` of shape `(batch, ..., length, hidden)`): the states to average.
        mask (`torch.Tensor` of shape `(batch, length)`): 1 for real positions.

    Returns:
        `torch.Tensor` of shape `(batch, ..., hidden)`.
    """
    weights = mask.to(states.dtype)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1)
    while weights.dim() < states.dim() - 1:
        weights = weights.unsqueeze(1)
    return torch.matmul(weights.unsqueeze(-2), states).squeeze(-2)


def symbolic_min(*lengths):
    """The smallest of several lengths. An exported graph compares those of its input, not those of the example."""
    return reduce(min if torch.jit.is_tracing() else torch.sym_min, lengths)


def symbolic_max(*lengths):
    """As [`symbolic_min`], the largest."""
    return reduce(max if torch.jit.is_tracing() else torch.sym_max, lengths)
