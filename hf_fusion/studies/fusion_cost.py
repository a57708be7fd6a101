"""Counts the multiply-adds of a DashFusion's fusion, without its encoders, for clips of a given shape."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig

from hf_fusion.models.configuration_dashfusion import MODALITIES, DashFusionConfig
from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.models.modeling_dashfusion import DashFusionModel
from hf_fusion.models.modeling_dashfusion_layers import Stream

VOCABULARY = 1000


@dataclass(frozen=True)
class ClipShape:
    """The numbers of words, audio frames and vision frames of a clip, and the widths of the frames."""

    words: int
    audio_frames: int
    audio_features: int
    vision_frames: int
    vision_features: int

    @property
    def limits(self) -> dict[str, int]:
        """Returns the number of positions of each modality."""
        return {"text": self.words, "audio": self.audio_frames, "vision": self.vision_frames}

    @property
    def config_fields(self) -> dict[str, int]:
        """Returns the shape as fields of `DashFusionConfig`."""
        frames = {f"max_{name}_length": getattr(self, f"{name}_frames") for name in STREAMS}
        return frames | {f"{name}_feature_size": getattr(self, f"{name}_features") for name in STREAMS}

    def times(self, factor: float) -> "ClipShape":
        """Returns a shape with the same widths and `factor` times the lengths."""
        scaled = (max(round(factor * n), 1) for n in (self.words, self.audio_frames, self.vision_frames))
        words, audio, vision = scaled
        return ClipShape(words, audio, self.audio_features, vision, self.vision_features)


def build_fusion(shape: ClipShape, device: str = "cpu", **fields) -> nn.Module:
    """Builds the fusion module of a DashFusion of the paper's size, in evaluation mode."""
    torch.manual_seed(0)
    config = DashFusionConfig(stub_text_config(), **{**shape.config_fields, **fields})
    return DashFusionModel(config).eval().requires_grad_(False).fusion.to(device)


def stub_text_config() -> BertConfig:
    """Returns the configuration of a text encoder without layers, with the width of BERT and almost no cost."""
    return BertConfig(vocab_size=VOCABULARY, num_hidden_layers=0, intermediate_size=1)


def fusion_inputs(
    shape: ClipShape, batch_size: int, device: str = "cpu", hidden_size: int = 128, aligned: int | None = None
):
    """
    Creates the inputs `(aligned, streams)` of the fusion at full length; audio and vision start with their class token.
    The aligned sequence has the length of the text, or the given one.
    """
    torch.manual_seed(0)
    limits = shape.limits
    positions = {"aligned": aligned or limits["text"], **{name: limits[name] + (name != "text") for name in MODALITIES}}
    streams = {
        name: Stream.of(
            torch.randn(batch_size, count, hidden_size).to(device), torch.ones(batch_size, count).bool().to(device)
        )
        for name, count in positions.items()
    }
    return streams.pop("aligned"), streams


def multiply_adds(run: Callable, *inputs) -> int:
    """
    Counts the multiply-adds of all matrix products in `run(*inputs)`.

    The counter silently ignores the fused attention of a CPU; plain attention has the same two products.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run(*inputs)
    return counter.get_total_flops() // 2
