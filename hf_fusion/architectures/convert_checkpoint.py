"""A checkpoint of the DashFusion authors' code -> a checkpoint of this package, with its processor."""

from pathlib import Path

from transformers import AutoTokenizer

from hf_fusion.architectures.encoders import resolve_name
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
        weights: the file (.pt, .pth or .safetensors).
        folder: where the converted checkpoint goes; nothing is written if the conversion fails.
        tokenizer: name or folder of the text encoder's tokenizer; with it the processor is saved too.
        text_encoder: name or folder of the text encoder's configuration; BERT's by default, read from the weights.
        num_heads, num_bottleneck_tokens: which the weights do not show.
        label_range: of the data that the weights were trained on.
        named_order: whether the fusion was called with audio and vision in their own places.

    Returns:
        The model, and whether the file has weights of the text encoder (else they are random).

    Raises:
        ConversionError: if the weights, the tokenizer or an argument are not those of such a model.
        OSError: if there is no such file, tokenizer or configuration.
    """
    try:
        tokenizer = tokenizer and AutoTokenizer.from_pretrained(resolve_name(tokenizer))
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
    except ValueError as error:  # also of the tokenizer's library
        raise ConversionError(str(error)) from error
    processor = tokenizer and _processor(model.config, tokenizer)
    model.save_pretrained(folder)
    if processor:
        processor.save_pretrained(folder)
    return model, any("text_encoder.extractor." in name for name in content)


def _processor(config, tokenizer):
    """The processor of a converted model; its features pass as they are."""
    if len(tokenizer) > config.text_config.vocab_size:
        raise ConversionError(
            f"The tokenizer has {len(tokenizer)} pieces, the text encoder {config.text_config.vocab_size}: it is "
            "another model's."
        )
    sizes = (config.audio_feature_size, config.vision_feature_size, config.max_audio_length, config.max_vision_length)
    return DashFusionProcessor(tokenizer, DashFusionFeatureExtractor(*sizes))
