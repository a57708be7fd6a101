"""Cost of the fusion alone: hierarchical bottleneck fusion against self-attention over all modalities (CH-SIMS)."""

import torch
from torch import nn

from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.models.modeling_dashfusion_layers import attention_bias
from hf_fusion.studies.fusion_cost import build_fusion, fusion_inputs, multiply_adds
from hf_fusion.studies.measure import BenchmarkOptions, Comparison, compare, timed_pairs
from scripts.benchmarks.inputs import SIMS

BOTTLENECK_TOKENS = (4, 8, 16, 32)
# The paper counts 145 M multiply-adds of 324 M.
TARGET = 1 / 0.45
_BATCH = 16


def run(options: BenchmarkOptions) -> list[Comparison]:
    """Compares multiply-adds and seconds of both fusions on CH-SIMS, for 4 to 32 bottleneck tokens."""
    shape = SIMS.times(0.1) if options.quick else SIMS
    comparisons = []
    reference = build_fusion(shape, options.device, fusion="concat_attention")
    for tokens in BOTTLENECK_TOKENS:
        candidate = build_fusion(shape, options.device, fusion="hbf", num_bottleneck_tokens=tokens)
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


def only_what_is_read(fusion: nn.Module, aligned, streams):
    """Computes `concat_attention` with only the four positions that the head reads in the last layer."""
    parts = [aligned, *(streams[name] for name in MODALITIES)]
    states = torch.cat([part.states for part in parts], dim=1)
    bias = attention_bias(torch.cat([part.mask for part in parts], dim=1), states.dtype)
    for layer in fusion.layers[:-1]:
        states = layer(states, states, bias)
    lengths = [part.states.shape[1] for part in parts]
    first = torch.stack([part[:, 0] for part in states.split(lengths, dim=1)], dim=1)  # (batch, 4, hidden)
    return fusion.layers[-1](first, states, bias).flatten(1)
