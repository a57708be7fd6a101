"""What the fusion alone costs: hierarchical bottleneck fusion against self-attention over all streams (CH-SIMS)."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig

from hf_fusion.evaluation.benchmark.inputs import SIMS, VOCABULARY, ClipShape
from hf_fusion.evaluation.benchmark.measure import BenchmarkOptions, Comparison, compare, timed_pairs
from hf_fusion.models.configuration_dashfusion import MODALITIES, DashFusionConfig
from hf_fusion.models.modeling_dashfusion import DashFusionModel
from hf_fusion.models.modeling_dashfusion_layers import Stream, attention_bias

BOTTLENECK_TOKENS = (4, 8, 16, 32)
# The paper counts 145 M multiply-adds of 324 M.
TARGET = 1 / 0.45
_BATCH = 16


def run(options: BenchmarkOptions) -> list[Comparison]:
    """Multiply-adds and seconds of both fusions on CH-SIMS, for 4 to 32 bottleneck tokens."""
    shape = SIMS.times(0.1) if options.quick else SIMS
    comparisons = []
    reference = fusion_of(shape, options.device, fusion="concat_attention")
    for tokens in BOTTLENECK_TOKENS:
        candidate = fusion_of(shape, options.device, fusion="hbf", num_bottleneck_tokens=tokens)
        names = ({"name": "concat_attention"}, {"name": "hbf", "num_bottleneck_tokens": tokens})
        one = fusion_inputs(shape, 1, options.device)
        counts = [(multiply_adds(reference, *one), multiply_adds(candidate, *one))]
        comparisons.append(compare(f"one clip, p = {tokens}", "multiply-adds", counts, *names, target=TARGET))
        counts = [(multiply_adds(lambda *args: only_what_is_read(reference, *args), *one), counts[0][1])]
        sides = ({"name": "concat_attention, four positions of the last layer"}, names[1])
        comparisons.append(compare(f"one clip, p = {tokens}, pruned", "multiply-adds", counts, *sides))
        batch = fusion_inputs(shape, 2 if options.quick else _BATCH, options.device)
        pairs = timed_pairs(lambda b=batch: reference(*b), lambda b=batch, c=candidate: c(*b), options.repeats, 2)
        comparisons.append(compare(f"batch of {len(batch[0].states)}, p = {tokens}", "seconds", pairs, *names))
    return comparisons


def fusion_of(shape: ClipShape, device: str = "cpu", **fields) -> nn.Module:
    """The fusion module of a DashFusion of the paper's size, for inference."""
    torch.manual_seed(0)
    config = DashFusionConfig(stub_text_config(), **{**shape.config_fields, **fields})
    return DashFusionModel(config).eval().requires_grad_(False).fusion.to(device)


def only_what_is_read(fusion: nn.Module, aligned, streams):
    """`concat_attention` whose last layer, too, computes only the four positions that the head reads."""
    parts = [aligned, *(streams[name] for name in MODALITIES)]
    states = torch.cat([part.states for part in parts], dim=1)
    bias = attention_bias(torch.cat([part.mask for part in parts], dim=1), states.dtype)
    for layer in fusion.layers[:-1]:
        states = layer(states, states, bias)
    lengths = [part.states.shape[1] for part in parts]
    first = torch.stack([part[:, 0] for part in states.split(lengths, dim=1)], dim=1)  # (batch, 4, hidden)
    return fusion.layers[-1](first, states, bias).flatten(1)


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
