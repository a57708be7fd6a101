"""Converts the weights of the DashFusion authors to this package."""

import re
from collections.abc import Mapping

import torch
from transformers import AutoConfig

from hf_fusion.models.configuration_dashfusion import DashFusionConfig
from hf_fusion.models.modeling_dashfusion import DashFusionForSequenceClassification
from hf_fusion.utils.errors import FusionError

# Parameters that the released code never uses or holds twice.
_DEAD = re.compile(
    r"temporal_alignment\.(ffn|norm1|norm2)\.|(audio|vision)_encoder\.(fc|dense)\.|text_projector\.proj\."
    r"|text_encoder\.extractor\.(pooler\.|embeddings\.position_ids)|\.num_batches_tracked$"
)
_LAYER = {"0.fn": "attention", "0.norm": "attention_norm", "1.fn": "feed_forward", "1.norm": "feed_forward_norm"}
_STACK = r"(\w+_encoder)\.encoder\.transformer_encoder"
_PLAIN = [
    (r"text_encoder\.extractor\.(.+)", r"text_encoder.\1"),
    (r"text_projector\.MLP\.0\.(.+)", r"text_projector.dense.\1"),
    (r"text_projector\.MLP\.2\.(.+)", r"text_projector.out_proj.\1"),
    (r"(text_projector|audio_encoder|vision_encoder)\.layernorm\.(.+)", r"\1.layer_norm.\2"),
    (r"(\w+_encoder)\.encoder\.pos_encoder\.cls_token", r"\1.class_token"),
    (r"(\w+_encoder)\.encoder\.pos_encoder\.position_embeddings", r"\1.position_embeddings"),
    (r"(\w+_encoder)\.encoder\.pos_encoder\.proj\.(.+)", r"\1.projection.\2"),
    (rf"{_STACK}\.layers\.(\d+)\.self_attn\.out_proj\.(.+)",
     r"\1.layers.\2.attention.out_proj.\3"),
    (rf"{_STACK}\.layers\.(\d+)\.linear1\.(.+)", r"\1.layers.\2.feed_forward.0.\3"),
    (rf"{_STACK}\.layers\.(\d+)\.linear2\.(.+)", r"\1.layers.\2.feed_forward.3.\3"),
    (rf"{_STACK}\.layers\.(\d+)\.norm1\.(.+)", r"\1.layers.\2.attention_norm.\3"),
    (rf"{_STACK}\.layers\.(\d+)\.norm2\.(.+)", r"\1.layers.\2.feed_forward_norm.\3"),
    (r"temporal_alignment\.to_q\.(.+)", r"temporal_alignment.text.attention.query.\1"),
    (r"temporal_alignment\.to_out\.0\.(.+)", r"temporal_alignment.text.out_proj.\1"),
    (r"HBF\.encoder_q2tav\.(\d+)\.to_q\.(.+)", r"fusion.levels.\1.attention.query.\2"),
    (r"HBF\.encoder_q2tav\.(\d+)\.ffn\.net\.(.+)", r"fusion.levels.\1.feed_forward.\2"),
    (r"HBF\.encoder_q2tav\.(\d+)\.norm1\.(.+)", r"fusion.levels.\1.attention_norm.\2"),
    (r"HBF\.encoder_q2tav\.(\d+)\.norm2\.(.+)", r"fusion.levels.\1.feed_forward_norm.\2"),
]  # fmt: skip


class ConversionError(FusionError, ValueError):
    """The weights do not fit the authors' model; the message names them."""


def convert_released_weights(
    weights: Mapping[str, torch.Tensor], text_config, num_heads: int = 8, exchanged: bool = True, **config_kwargs
) -> DashFusionForSequenceClassification:
    """
    Builds a DashFusion with the outputs of the authors' code for input without padding.

    Three differences are resolved in the weights:

    - The released code calls its fusion with audio and vision exchanged. The weights named audio belong to vision, and
      the head reads [bottleneck, text, vision, audio] (`exchanged=True`).
      - Its self- and cross-attention scale by hidden_size ** -0.5 instead of head_dim ** -0.5. The query weights absorb
    the factor.
      - Parameters that the released code never uses are left out.

    Args:
        weights (`Mapping[str, torch.Tensor]`): a state dict with the authors' names; a prefix `module.` is removed.
        text_config (`PretrainedConfig`): the configuration of the text encoder. If the state dict has no weights for it
            (`text_encoder.extractor.`), it is initialised at random.
        num_heads (`int`): the number of attention heads, which the weights do not show.
        exchanged (`bool`): whether the fusion was trained with audio and vision exchanged, as in the released code.
        config_kwargs: other fields of [`DashFusionConfig`]. Sizes are read from the weights.

    Raises:
        ConversionError: if a name is unknown, a parameter is missing or a shape does not fit.
    """
    weights = {str(name).removeprefix("module."): value for name, value in weights.items()}
    if empty := [name for name, value in weights.items() if not value.numel()]:  # an empty tensor can claim any size
        raise ConversionError(f"{empty[0]} has the shape {tuple(weights[empty[0]].shape)}, and no values.")
    if num_heads < 1:
        raise ConversionError(f"The number of attention heads must be at least 1, got {num_heads}.")
    try:
        config = DashFusionConfig(text_config, **{**_sizes(weights, num_heads), **config_kwargs})
    except KeyError as error:
        raise ConversionError(f"No weights named {error}: this is not a DashFusion of the authors.") from error
    except (ValueError, IndexError) as error:  # an invalid number of heads, range or shape
        raise ConversionError(str(error)) from error
    model = DashFusionForSequenceClassification(config).eval()
    try:
        converted = _convert_names(weights, config, exchanged)
    except ConversionError:
        raise
    except (ValueError, LookupError, RuntimeError) as error:  # an unknown shape or name
        raise ConversionError(f"The weights are not those of a DashFusion of the authors: {error}") from error
    expected = model.state_dict()
    unknown = sorted(set(converted) - set(expected))
    if unknown:
        raise ConversionError(f"{len(unknown)} parameters are unknown to the model, such as {unknown[0]}.")
    missing = sorted(set(expected) - set(converted) - {"dashfusion.missing_embeddings.weight"})
    if not any(name.startswith("text_encoder.extractor.") for name in weights):
        missing = [name for name in missing if not name.startswith("dashfusion.text_encoder.")]
    if missing:
        raise ConversionError(f"No weights for {len(missing)} parameters, such as {missing[0]}.")
    for name, value in converted.items():
        if value.shape != expected[name].shape:
            raise ConversionError(f"{name}: expected {tuple(expected[name].shape)}, found {tuple(value.shape)}.")
    model.load_state_dict(converted, strict=False)
    return model


def load_released_weights(path: str) -> dict[str, torch.Tensor]:
    """Loads the tensors of a .safetensors, .pt or .pth file without executing code from it."""
    if path.endswith(".safetensors"):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ConversionError(f"{path}: not a weights file: {error}") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged or malicious file fails in many ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConversionError(f"{path}: not a file of plain weights: {reason}") from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ConversionError(f"{path}: expected a state dict (names to tensors), got {type(content).__name__}.")
    return dict(content)


def released_text_config(weights: Mapping[str, torch.Tensor], name: str | None = None):
    """Returns the configuration of `name` (on the Hub, or a folder), or of a BERT with the sizes of the weights."""
    if name is not None:
        return AutoConfig.from_pretrained(name)
    prefix = "text_encoder.extractor."
    bert = {key.partition(prefix)[2]: value for key, value in weights.items() if prefix in key}
    if not bert:
        raise ConversionError(
            "The file has no weights of a text encoder: pass the name of the encoder that it was trained with."
        )
    try:
        return _bert_config(bert)
    except (KeyError, ValueError, IndexError) as error:
        raise ConversionError(f"The weights of the text encoder are not those of a BERT: {error}") from error


def _bert_config(bert):
    layers = {int(match[1]) for key in bert if (match := re.match(r"encoder\.layer\.(\d+)\.", key))}
    vocab_size, hidden_size = bert["embeddings.word_embeddings.weight"].shape
    return AutoConfig.for_model(
        "bert",
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=len(layers),
        num_attention_heads=max(hidden_size // 64, 1),
        intermediate_size=bert["encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=len(bert["embeddings.position_embeddings.weight"]),
        type_vocab_size=len(bert["embeddings.token_type_embeddings.weight"]),
    )


def _sizes(weights, num_heads):
    def count(pattern):
        return len({match[1] for name in weights if (match := re.match(pattern, name))})

    sizes = {"hidden_size": weights["text_projector.MLP.2.weight"].shape[0], "num_attention_heads": num_heads}
    for name in ("audio", "vision"):
        prefix = f"{name}_encoder.encoder.pos_encoder"
        sizes[f"{name}_feature_size"] = weights[f"{prefix}.proj.weight"].shape[1]
        sizes[f"max_{name}_length"] = weights[f"{prefix}.position_embeddings"].shape[1] - 1
    layer = "audio_encoder.encoder.transformer_encoder.layers.0.linear1.weight"
    sizes["intermediate_size"] = weights[layer].shape[0]
    sizes["num_encoder_layers"] = count(r"audio_encoder\.encoder\.transformer_encoder\.layers\.(\d+)\.")
    sizes["num_fusion_layers"] = count(r"HBF\.encoder_q\.(\d+)\.")
    sizes["alignment_head_size"] = weights["temporal_alignment.to_q.weight"].shape[0] // num_heads
    sizes["num_labels"] = weights["classifier.MLP.4.weight"].shape[0]
    return sizes


def _convert_names(weights, config, exchanged):
    modality = {"t": "text", "a": "vision" if exchanged else "audio", "v": "audio" if exchanged else "vision"}
    converted = {}
    for name, value in weights.items():
        if _DEAD.search(name):
            continue
        if match := re.fullmatch(r"classifier\.MLP\.(.+)", name):
            if match[1] == "0.weight" and exchanged:
                value = _exchange_last_two(value)
            converted[f"classifier.{match[1]}"] = value
        elif match := re.fullmatch(
            r"(\w+_encoder)\.encoder\.transformer_encoder\.(.+)\.self_attn\.in_proj_(\w+)", name
        ):
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                converted[f"dashfusion.{match[1]}.{match[2]}.attention.{part}.{match[3]}"] = piece
        elif match := re.fullmatch(r"temporal_alignment\.to_(k|v)_t(a|v)\.weight", name):
            kind, source = {"k": "keys", "v": "values"}[match[1]], {"a": "audio", "v": "vision"}[match[2]]
            converted[f"dashfusion.temporal_alignment.text.attention.{kind}.{source}.weight"] = value
        elif match := re.fullmatch(r"HBF\.encoder_q2tav\.(\d+)\.to_(k|v)_(t|a|v)\.weight", name):
            kind = {"k": "keys", "v": "values"}[match[2]]
            converted[f"dashfusion.fusion.levels.{match[1]}.attention.{kind}.{modality[match[3]]}.weight"] = value
        elif match := re.fullmatch(r"HBF\.encoder_([qtav])\.(\d+)\.layers\.0\.([01]\.(?:fn|norm))\.(.+)", name):
            place = "compression" if match[1] == "q" else f"expansion.{modality[match[1]]}"
            rest = re.sub(r"^net\.|^to_", "", match[4])
            if rest.startswith("query."):
                value = value * config.num_attention_heads**-0.5
            converted[f"dashfusion.fusion.levels.{match[2]}.{place}.{_LAYER[match[3]]}.{rest}"] = value
        else:
            converted[f"dashfusion.{_rename(name)}"] = value
    # copied, since safetensors does not save views
    return {name: value.detach().clone().float() for name, value in converted.items()}


def _rename(name):
    for pattern, ours in _PLAIN:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, ours, name)
    raise ConversionError(f"Unknown parameter {name}: this is not a DashFusion of the authors.")


def _exchange_last_two(weight):
    """Reorders the head's input weights from [..., vision, audio] to [..., audio, vision]."""
    bottleneck, text, vision, audio = weight.chunk(4, dim=1)
    return torch.cat([bottleneck, text, audio, vision], dim=1)
