"""The model card of an export to ONNX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from hf_fusion.hub.model_card import is_hub_name, pipeline_tag

_TEMPLATE = Path(__file__).with_name("export_card_template.md")


def write_export_card(folder: str | Path, checkpoint: str, config, description: Mapping[str, Any]) -> Path:
    """
    Writes the card of an export, which names the exported model as its base if that is on the Hub.

    Args:
        folder (`str` or `Path`): the folder of the export.
        checkpoint (`str`): the exported checkpoint.
        config ([`DyFuLMConfig`] or [`DashFusionConfig`]): its configuration.
        description (`Mapping`): the result of [`export_onnx`].

    Returns:
        `Path`: `README.md`.
    """
    is_public = "/" in checkpoint and is_hub_name(checkpoint)
    data = ModelCardData(
        library_name="onnx",
        pipeline_tag=pipeline_tag(config),
        tags=["sentiment-analysis", config.model_type, "hf-fusion", "onnx"],
        base_model=checkpoint if is_public else None,
        # that of the Hub for other formats and precisions of the same weights
        **({"base_model_relation": "quantized"} if is_public else {}),
    )
    path = Path(folder, "README.md")
    ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        name=Path(folder).resolve().name,
        architecture=type(config).__name__.removesuffix("Config"),
        source=f"[{checkpoint}](https://huggingface.co/{checkpoint})" if is_public else f"`{Path(checkpoint).name}`",
        int8=description["check"].get("largest_difference_int8"),
        **{name: description[name] for name in ("precision", "opset", "check")},
    ).save(path)
    return path
