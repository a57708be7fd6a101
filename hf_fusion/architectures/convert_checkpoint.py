"""Converts a checkpoint of the DashFusion authors' code to one of this package, with its processor."""

from pathlib import Path

from transformers import AutoTokenizer

from hf_fusion.architectures.encoders import load_named, resolve_name
from hf_fusion.deployment.released_weights import (
    ConversionError,
    convert_released_weights,
    load_released_weights,
    released_text_config,
)
from hf_fusion.models.feature_extraction_dashfusion import DashFusionFeatureExtractor
from hf_fusion.models.modeling_dashfusion import DashFusionForSequenceClassification
from hf_fusion.models.processing_dashfusion import DashFusionProcessor


def convert_checkpoint(
    weights: str,
    folder: str | Path,
    tokenizer: str | None = None,
    text_encoder: str | None = None,
    num_heads: int = 8,
    num_bottleneck_tokens: int = 8,
    label_range: tuple[float, float] = (-3.0, 3.0),
    named_order: bool = False,
) -> tuple[DashFusionForSequenceClassification, bool]:
    """
    Converts a file of released weights.

    Args:
        weights (`str`): the weights file (.pt, .pth or .safetensors).
        folder (`str`): the output folder; nothing is written if the conversion fails.
        tokenizer (`str`, *optional*): the name or folder of the text encoder's tokenizer. If set, the processor is
            saved too.
        text_encoder (`str`, *optional*): the name or folder of the text encoder's configuration; by default BERT with
            the sizes of the weights.
        num_heads, num_bottleneck_tokens (`int`): sizes that the weights do not show.
        label_range (`tuple[float, float]`): the label range of the training data.
        named_order (`bool`): whether the fusion was trained with audio and vision in the order of their names, not
            exchanged as in the released code.

    Returns:
        `tuple`: the model, and whether the file has weights of the text encoder (otherwise they are random).

    Raises:
        ConversionError: if the tokenizer cannot be loaded, or something does not fit the model of the authors.
        OSError: if the file or the configuration does not exist.
    """
    try:
        tokenizer = tokenizer and load_named("tokenizer", AutoTokenizer, resolve_name(tokenizer))
        content = load_released_weights(weights)
        model = convert_released_weights(
            content,
            released_text_config(content, text_encoder and resolve_name(text_encoder)),
            num_heads,
            exchanged=not named_order,
            num_bottleneck_tokens=num_bottleneck_tokens,
            label_range=label_range,
        )
    except ConversionError:
        raise
    except ValueError as error:  # errors of the tokenizer's library, too
        raise ConversionError(str(error)) from error
    processor = tokenizer and _processor(model.config, tokenizer)
    model.save_pretrained(folder)
    if processor:
        processor.save_pretrained(folder)
    return model, any("text_encoder.extractor." in name for name in content)


def _processor(config, tokenizer):
    """Creates the processor of a converted model, without normalisation of features."""
    if len(tokenizer) > config.text_config.vocab_size:
        raise ConversionError(
            f"The tokenizer has {len(tokenizer)} pieces, the text encoder {config.text_config.vocab_size}: it belongs "
            "to another model."
        )
    sizes = (config.audio_feature_size, config.vision_feature_size, config.max_audio_length, config.max_vision_length)
    return DashFusionProcessor(tokenizer, DashFusionFeatureExtractor(*sizes))
