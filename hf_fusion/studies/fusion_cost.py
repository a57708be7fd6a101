"""What the fusion of a DashFusion costs, without its encoders: multiply-adds for clips of a given shape."""

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
    """Most words, and most frames of audio and vision, with the frames' widths."""

    words: int
    audio_frames: int
    audio_features: int
    vision_frames: int
    vision_features: int

    @property
    def limits(self) -> dict[str, int]:
        """Most positions of each modality."""
        return {"text": self.words, "audio": self.audio_frames, "vision": self.vision_frames}

    @property
    def config_fields(self) -> dict[str, int]:
        """The same as fields of `DashFusionConfig`."""
        frames = {f"max_{name}_length": getattr(self, f"{name}_frames") for name in STREAMS}
        return frames | {f"{name}_feature_size": getattr(self, f"{name}_features") for name in STREAMS}

    def times(self, factor: float) -> "ClipShape":
        """The same widths, `factor` times as long."""
        scaled = (max(round(factor * n), 1) for n in (self.words, self.audio_frames, self.vision_frames))
        words, audio, vision = scaled
        return ClipShape(words, audio, self.audio_features, vision, self.vision_features)


def fusion_of(shape: ClipShape, device: str = "cpu", **fields) -> nn.Module:
    """The fusion module of a DashFusion of the paper's size, for inference."""
    torch.manual_seed(0)
    config = DashFusionConfig(stub_text_config(), **{**shape.config_fields, **fields})
    return DashFusionModel(config).eval().requires_grad_(False).fusion.to(device)


def stub_text_config() -> BertConfig:
    """A text encoder of BERT's width that looks its tokens up and does nothing else: it costs next to nothing."""
    return BertConfig(vocab_size=VOCABULARY, num_hidden_layers=0, intermediate_size=1)


def fusion_inputs(
    shape: ClipShape, batch_size: int, device: str = "cpu", hidden_size: int = 128, aligned: int | None = None
):
    """
    `(aligned, streams)` as the fusion takes them, full length; audio and vision have their class token in front. The
    aligned sequence is as long as the text, or has so many positions.
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
    Multiplications with an addition in all matrix products of `run(*inputs)`.

    The counter passes over the fused attention of a CPU without a word; the plain one is the same two products.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run(*inputs)
    return counter.get_total_flops() // 2
