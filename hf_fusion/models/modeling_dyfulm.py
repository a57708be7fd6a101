"""DyFuLM: two text encoders, fused over their layers and with each other, for three sentiment tasks.

Paper: "DyFuLM" (arXiv 2512.01410). What the paper leaves open is decided as follows:

- the gate works on the *common spans* of the two tokenisations (the pieces of text between positions where both
  tokenizers have a boundary), since token i of one encoder is not token i of the other;
- the layer BiLSTM reads the masked mean of each layer's token states;
- the heads read a learned attention pooling of the fused states (`pooling`);
- a text beyond the limit is read in windows, whose pooled vectors are averaged, weighted by their numbers of spans;
- the guidance is a two-layer MLP over [softmax(coarse logits); intensity], passed through 2 * sigmoid so that 1 is
  neutral; a model without one of these heads is guided by the other, without both by none.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_common import FusionConfigMixin  # noqa: F401 - travels too
from .configuration_dyfulm import DyFuLMConfig
from .modeling_common import FusionModelMixin
from .modeling_fingerprint import check_loaded  # noqa: F401 - travels too
from .modeling_labels import class_labels, score_labels
from .modeling_losses import (
    at_least_float32,
    corn_log_probabilities,
    corn_loss,
    cross_entropy,
    focal_loss,
    ordinal_log_loss,
    squared_error,
)
from .modeling_text_encoder import (
    encoder_from_config,
    layer_class_names,
    masked_mean,
    optional_labels,
    output_option,
    position_inputs,
    pretrained_encoder,
    symbolic_min,
)
from .pipeline_common import FusionSentimentAnswers  # noqa: F401 - travels too
from .pipeline_fusion_sentiment import FusionSentimentPipeline  # noqa: F401 - so that its code travels with the model
from .pipeline_media import is_media  # noqa: F401 - travels too
from .processing_dyfulm import rows_without_tokens  # noqa: F401 - travels too
from .processing_text import is_blank  # noqa: F401 - travels too

# The tasks in the order of `config.loss_weights`, and the argument with the labels of each.
_TASKS = ("fine", "coarse", "intensity")
_LABELS = dict(zip(_TASKS, ("labels", "coarse_labels", "intensity_labels"), strict=True))
# Losses of the fine classes that know their order.
_ORDINAL_LOSSES = {"ordinal_log_loss": ordinal_log_loss, "corn": corn_loss}


@dataclass
class DyFuLMModelOutput(ModelOutput):
    """
    Output of [`DyFuLMModel`].

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(batch, positions, hidden)`):
            The fused states; a position is a common span, a token (single encoder), or the whole text.
        pooler_output (`torch.FloatTensor` of shape `(batch, hidden)`):
            The fused states pooled into one vector. With `window_texts` of shape `(texts, hidden)`: the mean over the
            windows of a text, weighted by their numbers of spans.
        window_sums (`torch.FloatTensor` of shape `(texts, hidden + 1)`):
            For each text the weighted sum of the pooled vectors of its windows, and last the sum of their weights. Only
            with `window_texts`.
        sequence_mask (`torch.BoolTensor` of shape `(batch, positions)`):
            True where `last_hidden_state` is real.
        gate (`torch.FloatTensor` of shape `(batch, spans, hidden)` or `(batch, hidden)`):
            Share of encoder A, in [0, 1]. With `output_fusion=True`, and only if there is a gate.
        span_mask (`torch.BoolTensor` of shape `(batch, spans)`):
            True where a span of the gate is real. With `output_fusion=True`, and only for the gate over spans.
        layer_attention_a, layer_attention_b (`torch.FloatTensor` of shape `(batch, layers)`):
            Weight of each layer of the encoder; sums to 1.
        hidden_states, attentions:
            Encoder A's (B's if A is absent), when asked for.
        hidden_states_b, attentions_b:
            Encoder B's next to A's, when asked for.
    """

    last_hidden_state: torch.FloatTensor | None = None
    pooler_output: torch.FloatTensor | None = None
    sequence_mask: torch.BoolTensor | None = None
    gate: torch.FloatTensor | None = None
    span_mask: torch.BoolTensor | None = None
    layer_attention_a: torch.FloatTensor | None = None
    layer_attention_b: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    hidden_states_b: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    attentions_b: tuple[torch.FloatTensor, ...] | None = None
    window_sums: torch.FloatTensor | None = None


@dataclass
class DyFuLMSequenceClassifierOutput(ModelOutput):
    """
    Output of [`DyFuLMForSequenceClassification`].

    Args:
        loss (`torch.FloatTensor` of shape `()`):
            Weighted sum of the losses of the tasks that have labels.
        logits (`torch.FloatTensor` of shape `(batch, num_labels)`):
            Fine sentiment. With `config.fine_loss="corn"` these are log probabilities, in float32 or more.
        coarse_logits (`torch.FloatTensor` of shape `(batch, num_coarse_labels)`):
            Coarse sentiment; `None` without a coarse head.
        intensity (`torch.FloatTensor` of shape `(batch,)`):
            Intensity, inside `config.intensity_range`; `None` without an intensity head.
        fine_loss, coarse_loss, intensity_loss (`torch.FloatTensor` of shape `()`):
            The loss of each task before weighting: `config.fine_loss`, cross-entropy, mean squared error.
        loss_weights (`torch.FloatTensor` of shape `(heads,)`):
            Factor of the fine, coarse and intensity loss in `loss`, of those that the model has.
        guidance (`torch.FloatTensor` of shape `(batch, hidden)`):
            Factor on the features of the fine head, in [0, 2]. With `output_fusion=True`.
        pooler_output (`torch.FloatTensor` of shape `(batch, hidden)`):
            The fused states pooled into one vector, which the heads read. With `output_fusion=True`.

    The other fields are those of [`DyFuLMModelOutput`]. With `window_texts` a row of `logits`, `coarse_logits`,
    `intensity`, `guidance` and `pooler_output` is a text; a row of the fields on the fusion inside is a window.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    coarse_logits: torch.FloatTensor | None = None
    intensity: torch.FloatTensor | None = None
    fine_loss: torch.FloatTensor | None = None
    coarse_loss: torch.FloatTensor | None = None
    intensity_loss: torch.FloatTensor | None = None
    loss_weights: torch.FloatTensor | None = None
    gate: torch.FloatTensor | None = None
    span_mask: torch.BoolTensor | None = None
    layer_attention_a: torch.FloatTensor | None = None
    layer_attention_b: torch.FloatTensor | None = None
    guidance: torch.FloatTensor | None = None
    pooler_output: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    hidden_states_b: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    attentions_b: tuple[torch.FloatTensor, ...] | None = None
    window_sums: torch.FloatTensor | None = None


class DyFuLMLayerLSTM(nn.Module):
    """A one-layer bidirectional LSTM, with the parameter names of `nn.LSTM`.

    It calls the operator behind `nn.LSTM`: `torch.compile` traces the operator, but breaks the graph at the module.
    """

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.hidden_size = hidden_size
        gates = 4 * hidden_size
        shapes = {"weight_ih": (gates, input_size), "weight_hh": (gates, hidden_size)}
        shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
        for direction in ("_l0", "_l0_reverse"):
            for name, shape in shapes.items():
                self.register_parameter(name + direction, nn.Parameter(torch.empty(shape)))

    def forward(self, inputs):
        """`(batch, steps, input)` -> `(batch, steps, 2 * hidden)`."""
        start = inputs.new_zeros(2, inputs.shape[0], self.hidden_size)
        weights = list(self.parameters())
        outputs, _, _ = torch.lstm(
            inputs,
            (start, start),
            weights,
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=self.training,
            bidirectional=True,
            batch_first=True,
        )
        return outputs


class DyFuLMLayerFusion(nn.Module):
    """Hierarchical dynamic fusion: the layers of one encoder, weighted for each sample.

    H_fused = sum_l alpha_l H^(l); alpha = softmax over layers of w . BiLSTM(mean H^(1), ..., mean H^(L)).
    """

    def __init__(self, config, encoder_hidden_size):
        super().__init__()
        self.kind = config.layer_fusion
        if self.kind == "bilstm":
            self.lstm = DyFuLMLayerLSTM(encoder_hidden_size, config.layer_fusion_hidden_size)
            # without a bias, which would cancel in the softmax
            self.scorer = nn.Linear(2 * config.layer_fusion_hidden_size, 1, bias=False)

    def forward(self, hidden_states, attention_mask):
        layers = hidden_states[1:]  # the embeddings are no layer
        batch_size, num_layers = layers[0].shape[0], len(layers)
        if self.kind == "last":
            alpha = layers[-1].new_zeros(batch_size, num_layers)
            alpha[:, -1] = 1
            return layers[-1], alpha

        stacked = torch.stack(layers, dim=1)  # (batch, layers, tokens, hidden)
        if self.kind == "mean":
            return stacked.mean(dim=1), stacked.new_full((batch_size, num_layers), 1 / num_layers)
        read = self.lstm(masked_mean(stacked, attention_mask))  # (batch, layers, 2 * lstm hidden)
        alpha = self.scorer(read).squeeze(-1).softmax(dim=-1)  # (batch, layers)
        fused = torch.einsum("bl,blth->bth", alpha.to(stacked.dtype), stacked)
        return fused, alpha


class DyFuLMCrossFusion(nn.Module):
    """Gated cross-model fusion: g = sigmoid(W [a ; b] + bias), h = g * a + (1 - g) * b, or its ablations."""

    def __init__(self, config):
        super().__init__()
        self.kind = config.cross_fusion
        if self.kind in ("gate", "concat"):
            self.dense = nn.Linear(2 * config.fusion_hidden_size, config.fusion_hidden_size)

    def forward(self, states_a, states_b):
        if self.kind == "mean":
            return (states_a + states_b) / 2, None
        joined = self.dense(torch.cat([states_a, states_b], dim=-1))
        if self.kind == "concat":
            return joined, None
        gate = torch.sigmoid(joined)
        return gate * states_a + (1 - gate) * states_b, gate


class DyFuLMIdentityLinear(nn.Linear):
    """A linear layer that starts as the identity, so that its input is not hidden by random weights at first."""


class DyFuLMPooling(nn.Module):
    """All positions where the mask is true as one vector.

    - `"attention"`: their mean, weighted by softmax(w . tanh(dense(states))).
    - `"first"`: tanh(dense(first state)), as in the classifiers of BERT and RoBERTa.
    """

    def __init__(self, config):
        super().__init__()
        self.kind = config.pooling
        linear = DyFuLMIdentityLinear if self.kind == "first" else nn.Linear
        self.dense = linear(config.fusion_hidden_size, config.fusion_hidden_size)
        if self.kind == "attention":
            self.scorer = nn.Linear(config.fusion_hidden_size, 1, bias=False)

    def forward(self, states, mask):
        if self.kind == "first":
            # padding may be on the left; floats, since ONNX Runtime has no argmax of every integer type
            first = mask.to(states.dtype).argmax(dim=-1)  # (batch,)
            places = first.view(-1, 1, 1).expand(-1, 1, states.shape[-1])
            return torch.tanh(self.dense(states.gather(1, places).squeeze(1)))  # (batch, hidden)
        scores = self.scorer(torch.tanh(self.dense(states))).squeeze(-1)  # (batch, positions)
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = (scores.softmax(dim=-1) * mask).to(states.dtype)
        return torch.matmul(weights.unsqueeze(1), states).squeeze(1)  # (batch, hidden)


class DyFuLMGuidance(nn.Module):
    """g' = 2 * sigmoid(MLP([softmax(coarse logits) ; intensity])): the easy tasks guide the fine one."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.num_coarse_labels + config.has_intensity, config.fusion_hidden_size)
        self.activation = nn.GELU()
        self.out_proj = nn.Linear(config.fusion_hidden_size, config.fusion_hidden_size)

    def forward(self, coarse_logits, unit_intensity):
        evidence = [] if coarse_logits is None else [coarse_logits.softmax(dim=-1)]
        evidence += [] if unit_intensity is None else [unit_intensity.unsqueeze(-1)]
        evidence = torch.cat(evidence, dim=-1)  # (batch, coarse classes + 1)
        return 2 * torch.sigmoid(self.out_proj(self.activation(self.dense(evidence.to(self.dense.weight.dtype)))))


class DyFuLMCoarseHead(nn.Module):
    """A linear layer that is not an `nn.Linear`.

    With `task_type="SEQ_CLS"` peft trains and saves modules named `...classifier` in full, and fails where
    `target_modules="all-linear"` has put LoRA matrices on them before.
    """

    def __init__(self, input_size, output_size):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(output_size, input_size))
        self.bias = nn.Parameter(torch.empty(output_size))

    def forward(self, features):
        return nn.functional.linear(features, self.weight, self.bias)


class DyFuLMCornHead(nn.Linear):
    """Ordered classes by CORN (Shi et al. 2023): features -> log probabilities `(batch, classes)`, in float32 or more.

    A row of the weight belongs to each class but the last: its logit says whether the text lies above the class, given
    that it lies in it or above. The logits are shifted such that 0 everywhere gives all classes the same probability,
    as in other heads; without that a new head would halve the probability from class to class.
    """

    def __init__(self, input_size, num_classes):
        super().__init__(input_size, num_classes - 1)

    def forward(self, features):
        logits = at_least_float32(super().forward(features))  # (batch, classes - 1)
        num_above = torch.arange(self.out_features, 0, -1, dtype=logits.dtype, device=logits.device)
        return corn_log_probabilities(logits + num_above.log())


class DyFuLMLossWeighting(nn.Module):
    """Weights of the K losses of the heads that the model has: fine, coarse, intensity. A single loss is not weighted.

    - `"uncertainty"`: sum_k exp(-s_k) c_k L_k + s_k / 2 with learned s_k = log sigma_k^2, c = 1 for the
      classifications and 1/2 for the regression (Kendall, Gal & Cipolla 2018, Eq. 10).
    - `"dwa"`: w_k = K softmax_k(r_k / T), r_k = L_k(t-1) / L_k(t-2), the loss ratio of the last two epochs
      (Liu et al. 2019, Eq. 7-8). The history is a buffer, so that it is saved and resumed with the weights.
    - `"fixed"`: w_k = 1.

    `config.loss_weights` multiplies each task's whole term.
    """

    def __init__(self, config):
        super().__init__()
        self.tasks = tasks = [head.task for head in config.heads.values()]
        self.kind = config.loss_weighting if len(tasks) > 1 else "fixed"
        self.factors = [dict(zip(_TASKS, config.loss_weights, strict=True))[task] for task in tasks]
        self.temperature = config.dwa_temperature
        if self.kind == "uncertainty":
            self.log_variance = nn.Parameter(torch.zeros(len(tasks)))
        elif self.kind == "dwa":
            # mean losses of the last two epochs, the later one last; 0 = no such epoch yet
            self.register_buffer("loss_history", torch.zeros(2, len(tasks)))
        # 1/2 for the squared error of the intensity
        self.scales = [0.5 if task == "intensity" else 1.0 for task in tasks]

    def record_epoch(self, mean_losses):
        """Takes an epoch's mean loss of each of `tasks` (0 = task without labels)."""
        if self.kind == "dwa":
            self.loss_history[0] = self.loss_history[1]
            self.loss_history[1] = self.loss_history.new_tensor(mean_losses)

    def forward(self, losses, has_labels):
        """`losses` and `has_labels` of shape `(heads,)` -> weighted sum `()` and weights `(heads,)`."""
        factors = losses.new_tensor(self.factors) * has_labels
        if self.kind == "uncertainty":
            log_variance = self.log_variance.to(losses.dtype)
            weights = factors * torch.exp(-log_variance) * losses.new_tensor(self.scales)
            return (weights * losses + factors * log_variance / 2).sum(), weights
        if self.kind == "dwa":
            before, last = self.loss_history.to(losses.dtype)
            ratio = torch.where((before > 0) & (last > 0), last / before.clamp(min=1e-12), torch.ones_like(last))
            factors = factors * len(ratio) * (ratio / self.temperature).softmax(dim=-1)
        return (factors * losses).sum(), factors


def pool_windows(pooled, weights, window_texts, earlier_windows=None):
    """
    The weighted mean of the windows of each text.

    Args:
        pooled (`torch.Tensor` of shape `(windows, hidden)`): the pooled vector of each window.
        weights (`torch.Tensor` of shape `(windows,)`): its weight: the number of its spans, or of its tokens where
            there are no spans.
        window_texts (`torch.Tensor` of shape `(windows,)`): the number of its text.
        earlier_windows (`torch.Tensor` of shape `(texts, hidden + 1)`, *optional*): the sums of windows that were read
            before; zeros where there are none.

    Returns:
        `tuple`: the means of shape `(texts, hidden)`, and the sums of all windows so far. A text without a window has
        zeros.

    Raises:
        ValueError: if `window_texts` has another shape.
    """
    if window_texts.shape != weights.shape:
        raise ValueError(
            f"`window_texts` must have the shape {tuple(weights.shape)}, one text for each row, got "
            f"{tuple(window_texts.shape)}."
        )
    vectors = at_least_float32(pooled)
    weights = weights.unsqueeze(-1).to(vectors.dtype)
    rows = torch.cat([vectors * weights, weights], dim=-1)  # (windows, hidden + 1)
    if earlier_windows is None:
        earlier_windows = rows.new_zeros(int(window_texts.max()) + 1, rows.shape[1])
    window_sums = earlier_windows.index_add(0, window_texts, rows.to(earlier_windows.dtype))  # (texts, hidden + 1)
    means = window_sums[:, :-1] / window_sums[:, -1:].clamp(min=1)
    return means.to(pooled.dtype), window_sums


class DyFuLMPreTrainedModel(FusionModelMixin, PreTrainedModel):
    """Base of all DyFuLM classes: weight initialisation, and the settings that loading reads."""

    config_class = DyFuLMConfig
    base_model_prefix = "dyfulm"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the loss is a mean over the batch: the Trainer must divide it by accumulation steps
    # All attention with queries and keys is the encoders', which keep eager attention where they have no other. The own
    # layers weigh layers and positions by one score each.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, DyFuLMLayerLSTM):
            for name, parameter in module.named_parameters():
                nn.init.zeros_(parameter) if "bias" in name else nn.init.xavier_uniform_(parameter)
        elif isinstance(module, DyFuLMIdentityLinear):
            nn.init.eye_(module.weight)
        elif isinstance(module, DyFuLMCoarseHead):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            nn.init.zeros_(module.bias)
        elif isinstance(module, DyFuLMLossWeighting):
            if module.kind == "uncertainty":
                nn.init.zeros_(module.log_variance)
            elif module.kind == "dwa":
                nn.init.zeros_(module.loss_history)

    @property
    def dummy_inputs(self):
        """Inputs of the smallest valid call."""
        tokens = torch.tensor([[1, 2, 3]], device=self.device)
        return {"input_ids": tokens, "input_ids_b": tokens}


class DyFuLMModel(DyFuLMPreTrainedModel):
    """The two encoders with layer fusion and cross fusion, without heads: text to one vector.

    See [`DyFuLMForSequenceClassification.forward`] for the inputs and [`DyFuLMModelOutput`] for the outputs.

    Example:

    ```python
    import torch
    from hf_fusion import DyFuLMConfig, DyFuLMModel

    encoder = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = DyFuLMModel(DyFuLMConfig(encoder_a_config=encoder, encoder_b_config=encoder)).eval()
    ids, spans = torch.tensor([[2, 7, 8, 9, 3]]), torch.tensor([[-1, 0, 0, 1, -1]])  # -1: special tokens
    outputs = model(input_ids=ids, span_ids=spans, input_ids_b=ids, span_ids_b=spans, output_fusion=True)
    outputs.gate.shape  # (1, 2, 32): share of encoder A in the two spans
    ```
    """

    def __init__(self, config):
        super().__init__(config)
        config.check()  # `from_pretrained` may have changed fields of a checked configuration
        self.encoder_a = self.encoder_b = None
        for name, encoder_config in config.encoder_configs.items():
            width = encoder_config.hidden_size
            same_width = width == config.fusion_hidden_size
            setattr(self, f"encoder_{name}", encoder_from_config(encoder_config))
            setattr(self, f"layer_fusion_{name}", DyFuLMLayerFusion(config, width))
            setattr(
                self,
                f"projection_{name}",
                nn.Identity() if same_width else nn.Linear(width, config.fusion_hidden_size),
            )
        if len(config.encoder_configs) == 2:
            self.cross_fusion = DyFuLMCrossFusion(config)
        self.pooling = DyFuLMPooling(config)
        self._no_split_modules = layer_class_names(self)
        self.post_init()

    def get_input_embeddings(self):
        """The token embeddings of encoder A (of B where A is absent)."""
        return next(iter(self.encoders.values())).get_input_embeddings()

    def set_input_embeddings(self, value):
        """Replaces the token embeddings of encoder A (of B where A is absent)."""
        next(iter(self.encoders.values())).set_input_embeddings(value)

    @property
    def encoders(self):
        """`dict`: the encoders in use, by `"a"` and `"b"`."""
        return {name: getattr(self, f"encoder_{name}") for name in self.config.encoder_configs}

    @property
    def text_input_names(self):
        """`set(str)`: the tensors of a text that the model reads."""
        suffixes = ["_b" if name == "b" else "" for name in self.config.encoder_configs]
        names = {f"{name}{suffix}" for name in ("input_ids", "attention_mask") for suffix in suffixes}
        has_spans = len(suffixes) == 2 and self.config.gate_level == "span"
        return names | {"span_ids", "span_ids_b"} if has_spans else names

    def _encode(self, name, input_ids, inputs_embeds, attention_mask, output_attentions):
        suffix = "_b" if name == "b" else ""
        if input_ids is None and inputs_embeds is None:
            raise ValueError(
                f"`input_ids{suffix}` is missing: with cross_fusion={self.config.cross_fusion!r} the model reads "
                f"{' and '.join(f'encoder {n.upper()}' for n in self.config.encoder_configs)}. "
                "DyFuLMProcessor makes the inputs of both encoders, and the pipeline `fusion-sentiment` uses it."
            )
        if input_ids is not None and inputs_embeds is not None:
            raise ValueError(f"Give either `input_ids{suffix}` or `inputs_embeds{suffix}`, not both.")
        tokens = input_ids if input_ids is not None else inputs_embeds[..., 0]  # (batch, tokens)
        if attention_mask is None:
            attention_mask = torch.ones_like(tokens, dtype=torch.long)
        if attention_mask.shape != tokens.shape:
            raise ValueError(
                f"`attention_mask{suffix}` has the shape {tuple(attention_mask.shape)}, but the tokens of encoder "
                f"{name.upper()} have {tuple(tokens.shape)}."
            )
        encoder = getattr(self, f"encoder_{name}")
        outputs = encoder(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            output_hidden_states=True,
            output_attentions=output_attentions,
            return_dict=True,
            **position_inputs(encoder, attention_mask, from_embeds=inputs_embeds is not None),
        )
        if output_attentions and not outputs.attentions:
            implementation = self.config.encoder_configs[name]._attn_implementation
            raise ValueError(
                f"Encoder {name.upper()} returns no attentions with {implementation} attention. Load the model with "
                "attn_implementation='eager', or call set_attn_implementation('eager')."
            )
        states, alpha = getattr(self, f"layer_fusion_{name}")(outputs.hidden_states, attention_mask)
        states = getattr(self, f"projection_{name}")(states)  # (batch, tokens, fusion hidden)
        return states, attention_mask.bool(), alpha, outputs

    def _fuse_spans(self, states_a, mask_a, span_ids, states_b, mask_b, span_ids_b):
        """Averages both encoders' token states inside the common spans, then fuses span by span."""
        # A text without any span (an empty one) becomes a single span of all its tokens, special ones included.
        no_span = (span_ids < 0).all(dim=-1, keepdim=True) | (span_ids_b < 0).all(dim=-1, keepdim=True)
        span_ids = torch.where(no_span, mask_a.long() - 1, span_ids)
        span_ids_b = torch.where(no_span, mask_b.long() - 1, span_ids_b)
        # Every span holds a token of each side, so the shorter side bounds their number without looking at values.
        num_spans = symbolic_min(span_ids.shape[1], span_ids_b.shape[1])
        spans = torch.arange(num_spans, device=span_ids.device).view(1, -1, 1)
        members_a = (span_ids.unsqueeze(1) == spans) & mask_a.unsqueeze(1)  # (batch, spans, tokens a)
        members_b = (span_ids_b.unsqueeze(1) == spans) & mask_b.unsqueeze(1)
        span_mask = members_a.any(-1) & members_b.any(-1)  # (batch, spans)
        averages = []
        for states, members in ((states_a, members_a), (states_b, members_b)):
            weights = members.to(states.dtype)
            averages.append(torch.bmm(weights / weights.sum(-1, keepdim=True).clamp(min=1), states))
        fused, gate = self.cross_fusion(*averages)  # (batch, spans, hidden)
        return fused, span_mask, gate

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        span_ids=None,
        input_ids_b=None,
        attention_mask_b=None,
        span_ids_b=None,
        inputs_embeds=None,
        inputs_embeds_b=None,
        output_attentions=None,
        output_hidden_states=None,
        output_fusion=False,
        return_dict=None,
        window_texts=None,
        earlier_windows=None,
    ):
        return_dict = self.config.return_dict if return_dict is None else return_dict
        output_attentions = output_option(output_attentions, self.config.output_attentions)
        output_hidden_states = output_option(output_hidden_states, self.config.output_hidden_states)

        inputs = {
            "a": (input_ids, inputs_embeds, attention_mask),
            "b": (input_ids_b, inputs_embeds_b, attention_mask_b),
        }
        encoded = {name: self._encode(name, *inputs[name], output_attentions) for name in self.config.encoder_configs}
        gate = span_mask = None
        if len(encoded) == 1:
            ((states, mask, _, _),) = encoded.values()
            pooled, weights = self.pooling(states, mask), mask.sum(-1)
        else:
            (states_a, mask_a, _, _), (states_b, mask_b, _, _) = encoded["a"], encoded["b"]
            if states_a.shape[0] != states_b.shape[0]:
                raise ValueError(
                    f"`input_ids` has {states_a.shape[0]} rows, but `input_ids_b` has {states_b.shape[0]}."
                )
            if (span_ids is None) != (span_ids_b is None):
                raise ValueError("`span_ids` and `span_ids_b` belong together: give both, or neither.")
            if self.config.gate_level == "span" and span_ids is not None:
                states, mask, gate = self._fuse_spans(states_a, mask_a, span_ids, states_b, mask_b, span_ids_b)
                span_mask = mask
                pooled, weights = self.pooling(states, mask), mask.sum(-1)
            else:
                pooled, gate = self.cross_fusion(self.pooling(states_a, mask_a), self.pooling(states_b, mask_b))
                states, weights = pooled.unsqueeze(1), mask_a.sum(-1) + mask_b.sum(-1)
                mask = torch.ones_like(states[..., 0], dtype=torch.bool)
        window_sums = None
        if window_texts is not None:
            pooled, window_sums = pool_windows(pooled, weights, window_texts, earlier_windows)
        elif earlier_windows is not None:
            raise ValueError("`earlier_windows` needs `window_texts`.")

        outputs = [encoded[name][3] for name in encoded]
        second = outputs[1] if len(outputs) == 2 else None
        output = DyFuLMModelOutput(
            last_hidden_state=states,
            pooler_output=pooled,
            sequence_mask=mask,
            gate=gate if output_fusion else None,
            span_mask=span_mask if output_fusion and gate is not None else None,
            layer_attention_a=encoded["a"][2] if "a" in encoded else None,
            layer_attention_b=encoded["b"][2] if "b" in encoded else None,
            hidden_states=outputs[0].hidden_states if output_hidden_states else None,
            hidden_states_b=second.hidden_states if output_hidden_states and second is not None else None,
            attentions=outputs[0].attentions if output_attentions else None,
            attentions_b=second.attentions if output_attentions and second is not None else None,
            window_sums=window_sums,
        )
        return output if return_dict else output.to_tuple()


class DyFuLMForSequenceClassification(DyFuLMPreTrainedModel):
    """
    DyFuLM with its heads: fine sentiment (`logits`), and coarse sentiment and intensity unless the configuration leaves
    them out.

    Example:

    ```python
    import torch
    from hf_fusion import DyFuLMConfig, DyFuLMForSequenceClassification

    encoder = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = DyFuLMConfig(encoder_a_config=encoder, cross_fusion="a")  # encoder A alone
    model = DyFuLMForSequenceClassification(config)
    outputs = model(input_ids=torch.tensor([[2, 7, 8, 3]]), labels=torch.tensor([4]))
    outputs.loss.backward()
    outputs.logits.shape, outputs.coarse_logits.shape, outputs.intensity.shape  # (1, 5), (1, 3), (1,)
    ```
    """

    def __init__(self, config):
        super().__init__(config)
        self._check_problem_type()
        self.num_labels = config.num_labels
        self.dyfulm = DyFuLMModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        width, heads = config.fusion_hidden_size, config.heads
        self.coarse_classifier = DyFuLMCoarseHead(width, config.num_coarse_labels) if "coarse_logits" in heads else None
        self.intensity_regressor = nn.Linear(width, 1) if "intensity" in heads else None
        self.guidance = DyFuLMGuidance(config) if config.use_guidance and len(heads) > 1 else None
        linear = DyFuLMCornHead if config.fine_loss == "corn" else nn.Linear
        self.classifier = linear(width, config.num_labels)
        self.loss_weighting = DyFuLMLossWeighting(config)
        for name in ("class_weights", "coarse_class_weights"):  # of the classes in the loss; not saved
            self.register_buffer(name, None, persistent=False)
        self._no_split_modules = layer_class_names(self)
        self.post_init()

    @classmethod
    def from_encoders(cls, encoder_a=None, encoder_b=None, **config_kwargs):
        """Builds a DyFuLM on two encoders; fusion and heads are initialised.

        Args:
            encoder_a, encoder_b (`str`, `os.PathLike`, `PreTrainedModel` or `PretrainedConfig`, *optional*):
                A pretrained encoder by its name on the Hub, its folder or itself (without a pooler; its weights are
                copied), or the configuration of an encoder that starts from scratch. The one that `cross_fusion` ("a"
                or "b") leaves out is not loaded and may be absent.
            config_kwargs: fields of [`DyFuLMConfig`].

        Returns:
            [`DyFuLMForSequenceClassification`] in float32 and evaluation mode, as `from_pretrained` gives it.

        Raises:
            ValueError: if an encoder that is needed is missing, or is no text encoder.
        """
        encoders = {"a": encoder_a, "b": encoder_b}
        only = config_kwargs.get("cross_fusion")
        pretrained = {}
        for name, encoder in encoders.items():
            if only in encoders and name != only:
                continue
            if encoder is None:
                raise ValueError(f"`encoder_{name}` is missing: give a name on the Hub, a folder or a configuration.")
            if not isinstance(encoder, PretrainedConfig):
                pretrained[name] = encoder if isinstance(encoder, PreTrainedModel) else pretrained_encoder(encoder)
                encoder = pretrained[name].config
            config_kwargs[f"encoder_{name}_config"] = encoder
        model = cls(DyFuLMConfig(**config_kwargs))
        for name, encoder in pretrained.items():
            model.dyfulm.encoders[name].load_state_dict(encoder.state_dict())
        return model.eval()

    def get_input_embeddings(self):
        """The token embeddings of encoder A (of B where A is absent)."""
        return self.dyfulm.get_input_embeddings()

    def set_input_embeddings(self, value):
        """Replaces the token embeddings of encoder A (of B where A is absent)."""
        self.dyfulm.set_input_embeddings(value)

    def _check_problem_type(self):
        if self.config.problem_type not in (None, "single_label_classification"):
            raise ValueError(
                "A DyFuLM learns one class for each text (and a coarse class and an intensity): `problem_type` must be "
                f"None or 'single_label_classification', got {self.config.problem_type!r:.100}. Scores go into "
                "`intensity_labels`."
            )

    def _losses(self, predictions, targets):
        """The losses of the heads, each with whether it has any label; predictions (the intensity in (0, 1)) and labels
        by task. A task without labels costs 0 and trains nothing."""
        self._check_problem_type()
        pairs = []
        for task, prediction in predictions.items():
            target, name, prediction = targets[task], _LABELS[task], at_least_float32(prediction)
            if target is None:
                # `0 * sum` keeps an unlabelled head in the graph: distributed training wants a gradient for every
                # parameter
                pairs.append((prediction.sum() * 0, prediction.new_zeros(())))
            elif task == "intensity":
                low, high = limits = self.config.intensity_range
                prediction = low + (high - low) * prediction
                pairs.append(squared_error(prediction, score_labels(name, target, prediction, limits)))
            else:
                pairs.append(self._class_loss(task, class_labels(name, target, prediction), prediction))
        losses, has_labels = map(torch.stack, zip(*pairs, strict=True))
        return losses, has_labels

    def _class_loss(self, task, labels, logits):
        """The loss of the fine or the coarse classes, and whether there is any label."""
        is_fine, gamma = task == "fine", self.config.focal_gamma
        class_weights = self.class_weights if is_fine else self.coarse_class_weights
        if is_fine and self.config.fine_loss in _ORDINAL_LOSSES:
            return _ORDINAL_LOSSES[self.config.fine_loss](logits, labels, class_weights)
        if gamma > 0:
            return focal_loss(logits, labels, class_weights, gamma)
        return cross_entropy(logits, labels, class_weights)

    def _check_heads(self, targets):
        """Raises `ValueError` for labels of a head that the model does not have."""
        tasks = [head.task for head in self.config.heads.values()]
        for task, target in targets.items():
            if target is not None and task not in tasks:
                raise ValueError(f"`{_LABELS[task]}` are given, but the model has no {task} head: leave them out.")

    @optional_labels("coarse_labels", "intensity_labels")
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        span_ids=None,
        input_ids_b=None,
        attention_mask_b=None,
        span_ids_b=None,
        labels=None,
        coarse_labels=None,
        intensity_labels=None,
        inputs_embeds=None,
        inputs_embeds_b=None,
        output_attentions=None,
        output_hidden_states=None,
        output_fusion=False,
        return_dict=None,
        window_texts=None,
        earlier_windows=None,
    ):
        r"""
        Args:
            input_ids, input_ids_b (`torch.LongTensor` of shape `(batch, tokens)`):
                The text in the tokens of encoder A and of encoder B; their lengths may differ.
            attention_mask, attention_mask_b (`torch.Tensor` of the same shapes, *optional*):
                1 for real tokens, 0 for padding. Defaults to all real.
            span_ids, span_ids_b (`torch.LongTensor` of the same shapes, *optional*):
                Number of the common span that a token belongs to, -1 for special tokens and padding. Without them the
                pooled vectors of the two encoders are fused.
            labels (`torch.LongTensor` of shape `(batch,)` or `(batch, 1)`, *optional*):
                Fine class, -100 where missing.
            coarse_labels (`torch.LongTensor` of shape `(batch,)` or `(batch, 1)`, *optional*):
                Coarse class, -100 where missing. Not for a model without a coarse head.
            intensity_labels (`torch.FloatTensor` of shape `(batch,)` or `(batch, 1)`, *optional*):
                Intensity inside `config.intensity_range`, NaN where missing. Not for a model without an intensity head.
            inputs_embeds, inputs_embeds_b (`torch.FloatTensor` of shape `(batch, tokens, encoder hidden)`, *optional*):
                Token embeddings in place of `input_ids` and `input_ids_b`.
            output_fusion (`bool`, defaults to `False`):
                Whether to return `gate`, `span_mask`, `guidance` and `pooler_output`.
            window_texts (`torch.LongTensor` of shape `(batch,)`, *optional*):
                Number of the text, from 0, that each row is a window of. The outputs of the heads, and the labels, then
                have one row for each text: the heads read the mean of the windows' pooled vectors, weighted by their
                numbers of spans (of real tokens, without spans). Spans in the overlap of two windows count in both.
            earlier_windows (`torch.FloatTensor` of shape `(texts, hidden + 1)`, *optional*):
                The output `window_sums` of an earlier call for the same texts, to which the windows of this call are
                added: a text of any length can be read a few windows at a time. Zeros in the first call.

        Returns:
            [`DyFuLMSequenceClassifierOutput`], or a tuple of its fields that are not `None` if `return_dict=False`.

        Raises:
            ValueError: if inputs or labels have another shape, a label is none of the classes or outside the range or
                belongs to a head that the model does not have, or `config.problem_type` is another problem; names the
                argument.
        """
        return_dict = self.config.return_dict if return_dict is None else return_dict
        base = self.dyfulm(
            input_ids,
            attention_mask,
            span_ids,
            input_ids_b,
            attention_mask_b,
            span_ids_b,
            inputs_embeds,
            inputs_embeds_b,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            output_fusion=output_fusion,
            return_dict=True,
            window_texts=window_texts,
            earlier_windows=earlier_windows,
        )
        features = self.dropout(base.pooler_output)  # (batch, hidden)
        coarse_logits = unit_intensity = intensity = None
        if self.coarse_classifier is not None:
            coarse_logits = self.coarse_classifier(features)
        if self.intensity_regressor is not None:
            low, high = self.config.intensity_range
            unit_intensity = torch.sigmoid(self.intensity_regressor(features)).squeeze(-1)  # (batch,) in (0, 1)
            intensity = low + (high - low) * unit_intensity
        guidance = self.guidance(coarse_logits, unit_intensity) if self.guidance is not None else None
        logits = self.classifier(features if guidance is None else features * guidance)

        loss = loss_weights = None
        component_losses = {}
        targets = {"fine": labels, "coarse": coarse_labels, "intensity": intensity_labels}
        if any(target is not None for target in targets.values()):
            self._check_heads(targets)
            outputs = {"fine": logits, "coarse": coarse_logits, "intensity": unit_intensity}
            outputs = {task: values for task, values in outputs.items() if values is not None}
            losses, has_labels = self._losses(outputs, targets)
            loss, loss_weights = self.loss_weighting(losses, has_labels)
            losses = zip(outputs, losses, strict=True)
            component_losses = {task: value for task, value in losses if targets[task] is not None}

        output = DyFuLMSequenceClassifierOutput(
            loss=loss,
            logits=logits,
            coarse_logits=coarse_logits,
            intensity=intensity,
            fine_loss=component_losses.get("fine"),
            coarse_loss=component_losses.get("coarse"),
            intensity_loss=component_losses.get("intensity"),
            loss_weights=loss_weights.detach() if loss_weights is not None else None,
            gate=base.gate,
            span_mask=base.span_mask,
            layer_attention_a=base.layer_attention_a,
            layer_attention_b=base.layer_attention_b,
            guidance=guidance if output_fusion else None,
            pooler_output=base.pooler_output if output_fusion else None,
            hidden_states=base.hidden_states,
            hidden_states_b=base.hidden_states_b,
            attentions=base.attentions,
            attentions_b=base.attentions_b,
            window_sums=base.window_sums,
        )
        return output if return_dict else output.to_tuple()


__all__ = ["DyFuLMForSequenceClassification", "DyFuLMModel", "DyFuLMPreTrainedModel"]
