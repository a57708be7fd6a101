"""The layers of DashFusion: attention over several streams, encoders of frames, temporal alignment, fusions.

Sequences go through them as [`Stream`]s: states, mask, and the bias by which attention leaves padding out.
"""

from typing import NamedTuple

import torch
from torch import nn
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_dashfusion import MODALITIES
from .modeling_text_encoder import masked_mean


class Stream(NamedTuple):
    """A sequence for each clip."""

    states: torch.Tensor  # (batch, positions, hidden)
    mask: torch.Tensor  # (batch, positions), True = real
    bias: torch.Tensor | None  # (batch, 1, 1, positions): 0 = real, -inf = padding; None if all is real

    @classmethod
    def of(cls, states, mask):
        """A stream with its bias, which every attention to it adds to the scores."""
        return cls(states, mask, attention_bias(mask, states.dtype))

    def first(self, count):
        """The first `count` positions; padding where there are fewer, so that one graph serves all lengths."""
        places = torch.arange(count, device=self.mask.device)
        last = self.mask.shape[1] - 1
        there = places <= last
        places = places.clamp(max=last)
        return Stream.of(self.states[:, places], self.mask[:, places] & there)

    def clips(self, count):
        """The first clips of the batch; all of them if `count` is `None`."""
        return Stream(self.states[:count], self.mask[:count], None if self.bias is None else self.bias[:count])


def attention_bias(mask, dtype):
    """
    The bias that gives padding no weight: every attention to a sequence adds it to its scores.

    Args:
        mask (`torch.BoolTensor` of shape `(batch, positions)`): True = real.
        dtype (`torch.dtype`): type of the scores.

    Returns:
        `torch.Tensor` of shape `(batch, 1, 1, positions)`, or `None` if all is real: attention without it is faster.
        The values are only read where that does not stop an accelerator or end a graph.
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing() or type(mask) is not torch.Tensor
    if mask.device.type == "cpu" and not traced and bool(mask.all()):
        return None
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -torch.inf)[:, None, None, :]


def eager_attention_forward(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """
    Scaled dot-product attention in plain operators, as transformers' attention interface calls it.

    Args:
        module (`nn.Module`): the attention layer.
        query, key, value (`torch.Tensor` of shape `(batch, heads, length, head)`): the projected states.
        attention_mask (`torch.Tensor`, *optional*): added to the scores `(batch, heads, query length, key length)`.
        scaling (`float`): factor of the scores.
        dropout (`float`): dropout of the attention weights.

    Returns:
        Values of the queries `(batch, query length, heads, head)`, and the weights
        `(batch, heads, query length, key length)`, without dropout.
    """
    scores = query @ key.transpose(-1, -2) * scaling
    weights = (scores if attention_mask is None else scores + attention_mask).softmax(dim=-1)
    context = nn.functional.dropout(weights, dropout, training=module.training) @ value
    return context.transpose(1, 2).contiguous(), weights


def pack_keys(query, key, value, mask):
    """
    Keys and values without padding, for flash attention with another number of queries than of keys.

    transformers removes padding from queries and keys by one mask, which is right for self-attention alone.

    Args:
        query, key, value (`torch.Tensor` of shape `(batch, heads, length, head)`): the projected states.
        mask (`torch.BoolTensor` of shape `(batch, key length)`): True = real.

    Returns:
        Keys and values `(1, heads, real keys of all rows, head)`, and the arguments that say where each row begins.
    """
    key, value = (states.transpose(1, 2)[mask].transpose(0, 1)[None] for states in (key, value))
    ends = nn.functional.pad(mask.sum(1).cumsum(0), (1, 0)).int()
    rows, length = query.shape[0], query.shape[2]
    return (
        key,
        value,
        {
            "cu_seq_lens_q": torch.arange(rows + 1, dtype=torch.int32, device=mask.device) * length,
            "cu_seq_lens_k": ends,
            "max_length_q": length,
            "max_length_k": mask.shape[1],
        },
    )


def attend(module, query, key, value, bias, need_weights=False):
    """
    Multi-head attention by `config._attn_implementation`.

    Args:
        module (`nn.Module`): the attention layer, with `config`, `num_heads`, `dropout` and `is_causal`.
        query, key, value (`torch.Tensor` of shape `(batch, length, num_heads * head)`): the projected states.
        bias (`torch.Tensor` of shape `(batch, 1, 1, key length)` or `None`): 0 for real keys, -inf for others; every
            row has at least one real key.
        need_weights (`bool`): whether to return the weights; they are computed by eager attention.

    Returns:
        Values of the queries `(batch, query length, num_heads * head)`, and the weights
        `(batch, num_heads, query length, key length)`; `None` where the implementation gives none.
    """
    config = module.config
    implementation = "eager" if need_weights else config._attn_implementation
    attention_mask, packing = bias, {}
    # eager and sdpa take the bias itself, which is the same for all queries and made once for each stream
    if implementation not in ("eager", "sdpa"):
        mask = None if bias is None else bias[:, 0, 0] == 0  # (batch, key length)
        attention_mask = create_bidirectional_mask(config, query, mask, encoder_hidden_states=key)
    query, key, value = (states.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for states in (query, key, value))
    if isinstance(attention_mask, torch.Tensor) and attention_mask.dim() == 2:  # the format of flash attention
        key, value, packing = pack_keys(query, key, value, attention_mask)
        attention_mask = None
    attention = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
    context, weights = attention(
        module,
        query,
        key,
        value,
        attention_mask,
        scaling=query.shape[-1] ** -0.5,
        dropout=module.dropout if module.training else 0.0,
        **packing,
    )
    return context.flatten(-2), weights


class DashFusionAttention(nn.Module):
    """Attention of one sequence to another, or to itself."""

    is_causal = False

    def __init__(self, config, output_projection):
        super().__init__()
        self.config = config
        self.num_heads = config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.query, self.key, self.value = (nn.Linear(config.hidden_size, config.hidden_size) for _ in range(3))
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size) if output_projection else None

    def forward(self, states, context, context_bias):
        """`(batch, positions, hidden)` of the queries and of the context -> `(batch, positions, hidden)`."""
        attended, _ = attend(self, self.query(states), self.key(context), self.value(context), context_bias)
        return attended if self.out_proj is None else self.out_proj(attended)


class DashFusionMultiSourceAttention(nn.Module):
    """Attention to several sequences at once: one query, keys and values for each source, the results summed.

    The names are `keys` and `values`, since tools that look for `key` and `value` expect linear layers. Checkpoints of
    version 0.1.0 have those names.
    """

    is_causal = False

    def __init__(self, config, sources, inner_size):
        super().__init__()
        self.config = config
        self.num_heads = config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.query = nn.Linear(config.hidden_size, inner_size, bias=False)
        self.keys = nn.ModuleDict({name: nn.Linear(config.hidden_size, inner_size, bias=False) for name in sources})
        self.values = nn.ModuleDict({name: nn.Linear(config.hidden_size, inner_size, bias=False) for name in sources})

    def forward(self, states, streams, need_weights=False):
        """Returns the sum `(batch, positions, inner)` and, by source, the weights where asked for."""
        query = self.query(states)
        total, weights = 0, {}
        for name in self.keys:
            source = streams[name]
            key, value = self.keys[name](source.states), self.values[name](source.states)
            attended, weights[name] = attend(self, query, key, value, source.bias, need_weights)
            total = total + attended
        return total, weights

    def _load_from_state_dict(self, state_dict, prefix, *args):
        for name in self.keys:
            for old, new in (("key", "keys"), ("value", "values")):
                if (weight := state_dict.pop(f"{prefix}{old}.{name}.weight", None)) is not None:
                    state_dict[f"{prefix}{new}.{name}.weight"] = weight
        super()._load_from_state_dict(state_dict, prefix, *args)


class DashFusionFeedForward(nn.Sequential):
    """Two linear layers with GELU between."""

    def __init__(self, config):
        super().__init__(
            nn.Linear(config.hidden_size, config.intermediate_size),
            nn.GELU(),
            nn.Dropout(config.hidden_dropout_prob),
            nn.Linear(config.intermediate_size, config.hidden_size),
            nn.Dropout(config.hidden_dropout_prob),
        )


class DashFusionTextProjector(nn.Module):
    """Text states to the width of the other streams."""

    def __init__(self, text_hidden_size, config):
        super().__init__()
        self.dense = nn.Linear(text_hidden_size, config.hidden_size, bias=False)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.layer_norm = nn.LayerNorm(config.hidden_size)

    def forward(self, states):
        gelu = nn.functional.gelu
        return self.layer_norm(gelu(self.out_proj(gelu(self.dense(states)))))


class DashFusionEncoderLayer(GradientCheckpointingLayer):
    """Transformer layer of the audio and vision encoders: LN(x + sublayer(x))."""

    def __init__(self, config):
        super().__init__()
        self.attention = DashFusionAttention(config, output_projection=True)
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.feed_forward = DashFusionFeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, states, bias):
        states = self.attention_norm(states + self.dropout(self.attention(states, states, bias)))
        return self.feed_forward_norm(states + self.feed_forward(states))


def mean_and_deviation(frames, mask):
    """
    Mean and standard deviation of each column over the real frames; near 0 where a clip has none.

    Args:
        frames (`torch.Tensor` of shape `(batch, frames, features)`): 0 in the padding.
        mask (`torch.BoolTensor` of shape `(batch, frames)`): True = real.

    Returns:
        `torch.Tensor` of shape `(batch, 2 * features)`.
    """
    mean = masked_mean(frames, mask)
    variance = masked_mean((frames - mean.unsqueeze(1)).square(), mask)
    return torch.cat([mean, (variance + 1e-6).sqrt()], dim=-1)  # the root has no gradient at 0


class DashFusionSequenceEncoder(nn.Module):
    """Audio or vision frames to states; a learned class token comes first, with `frame_statistics` made of theirs."""

    def __init__(self, feature_size, max_length, config):
        super().__init__()
        self.projection = nn.Linear(feature_size, config.hidden_size)
        self.class_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.statistics = nn.Linear(2 * feature_size, config.hidden_size) if config.frame_statistics else None
        self.position_embeddings = nn.Parameter(torch.empty(1, max_length + 1, config.hidden_size))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(DashFusionEncoderLayer(config) for _ in range(config.num_encoder_layers))
        self.layer_norm = nn.LayerNorm(config.hidden_size)

    def forward(self, features, mask):
        """`(batch, frames, features)` and mask -> `(batch, 1 + frames, hidden)` and mask."""
        mask = nn.functional.pad(mask, (1, 0), value=True)
        # values in the padding, NaN included, must not count
        features = features.masked_fill(~mask[:, 1:, None], 0).to(self.class_token.dtype)
        frames = self.projection(features)
        class_token = self.class_token.expand(frames.shape[0], -1, -1).to(frames.dtype)
        if self.statistics is not None:
            class_token = class_token + self.statistics(mean_and_deviation(features, mask[:, 1:])).unsqueeze(1)
        states = torch.cat([class_token, frames], dim=1)
        states = self.dropout(states + self.position_embeddings[:, : states.shape[1]])
        bias = attention_bias(mask, states.dtype)
        for layer in self.layers:
            states = layer(states, bias)
        return self.layer_norm(states).masked_fill(~mask.unsqueeze(-1), 0), mask


class DashFusionTemporalAlignment(nn.Module):
    """H = X_anchor + O(CA(X_anchor, X_1) + CA(X_anchor, X_2)): each position of the anchor finds its moment."""

    def __init__(self, config, anchor):
        super().__init__()
        inner_size = config.num_attention_heads * config.alignment_head_size
        self.anchor = anchor
        others = [name for name in MODALITIES if name != anchor]
        self.attention = DashFusionMultiSourceAttention(config, others, inner_size)
        self.out_proj = nn.Linear(inner_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, streams, need_weights=False):
        anchor = streams[self.anchor]
        found, weights = self.attention(anchor.states, streams, need_weights)
        named_weights = {f"{self.anchor}_{name}": value for name, value in weights.items()}
        return anchor._replace(states=anchor.states + self.dropout(self.out_proj(found))), named_weights


class DashFusionFusionLayer(GradientCheckpointingLayer):
    """Transformer layer of the fusion: x + LN(sublayer(x)), where the attention may look at another sequence."""

    def __init__(self, config):
        super().__init__()
        self.attention = DashFusionAttention(config, output_projection=False)
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.feed_forward = DashFusionFeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size)

    def forward(self, states, context, context_bias):
        states = states + self.attention_norm(self.attention(states, context, context_bias))
        return states + self.feed_forward_norm(self.feed_forward(states))


class DashFusionBottleneckLevel(nn.Module):
    """One level of the hierarchical bottleneck fusion.

    The first tokens of TransformerLayer(previous tokens) become the bottleneck B; B attends to text, audio and vision
    together; then each of the three attends to B.
    """

    def __init__(self, config, num_tokens, is_last):
        super().__init__()
        self.num_tokens = num_tokens
        self.is_last = is_last
        self.compression = DashFusionFusionLayer(config)
        self.attention = DashFusionMultiSourceAttention(config, MODALITIES, config.hidden_size)
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.feed_forward = DashFusionFeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size)
        self.expansion = nn.ModuleDict({name: DashFusionFusionLayer(config) for name in MODALITIES})

    def forward(self, tokens, streams):
        # Only the tokens that are kept need computing: every position of a layer is computed on its own.
        kept = tokens.first(self.num_tokens)
        states = self.compression(kept.states, tokens.states, tokens.bias)
        states = self.attention_norm(states + self.attention(states, streams)[0])
        bottleneck = kept._replace(states=self.feed_forward_norm(states + self.feed_forward(states)))
        if self.is_last:  # the head reads the first position alone
            streams = {name: stream.first(1) for name, stream in streams.items()}
        streams = {
            name: stream._replace(states=self.expansion[name](stream.states, bottleneck.states, bottleneck.bias))
            for name, stream in streams.items()
        }
        return bottleneck, streams


class DashFusionBottleneckFusion(nn.Module):
    """Hierarchical bottleneck fusion (HBF): level l has the first p / 2^(l-1) tokens, at least one."""

    def __init__(self, config):
        super().__init__()
        sizes = [max(config.num_bottleneck_tokens // 2**level, 1) for level in range(config.num_fusion_layers)]
        self.levels = nn.ModuleList(
            DashFusionBottleneckLevel(config, size, is_last=level == len(sizes)) for level, size in enumerate(sizes, 1)
        )

    def forward(self, aligned, streams):
        tokens = aligned
        for level in self.levels:
            tokens, streams = level(tokens, streams)
        first = [tokens.states[:, 0], *(streams[name].states[:, 0] for name in MODALITIES)]
        return torch.cat(first, dim=-1), tokens.states.masked_fill(~tokens.mask.unsqueeze(-1), 0)


class DashFusionConcatAttentionFusion(nn.Module):
    """The comparison of the paper: self-attention over all streams in one sequence."""

    def __init__(self, config):
        super().__init__()
        self.layers = nn.ModuleList(DashFusionFusionLayer(config) for _ in range(config.num_fusion_layers))

    def forward(self, aligned, streams):
        parts = [aligned, *(streams[name] for name in MODALITIES)]
        states = torch.cat([part.states for part in parts], dim=1)
        bias = attention_bias(torch.cat([part.mask for part in parts], dim=1), states.dtype)
        for layer in self.layers:
            states = layer(states, states, bias)
        lengths = [part.states.shape[1] for part in parts]
        return torch.cat([part[:, 0] for part in states.split(lengths, dim=1)], dim=-1), None


class DashFusionConcatFusion(nn.Module):
    """The plainest comparison: the means of all streams side by side."""

    def __init__(self, config):
        super().__init__()

    def forward(self, aligned, streams):
        parts = [aligned, *(streams[name] for name in MODALITIES)]
        return torch.cat([masked_mean(part.states, part.mask) for part in parts], dim=-1), None


FUSION_CLASSES = {
    "hbf": DashFusionBottleneckFusion,
    "concat_attention": DashFusionConcatAttentionFusion,
    "concat": DashFusionConcatFusion,
}
