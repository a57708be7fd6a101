"""DashFusion: text, audio and vision, aligned in time and meaning, fused through bottleneck tokens.

Paper: "DashFusion" (arXiv 2512.05515). What differs from the authors' released code, on purpose:

- padding is masked in every attention, so a clip's prediction does not depend on the batch that it is in; on input
  without padding both agree;
- all attention scales by head_dim ** -0.5; released weights are converted (`hf-fusion convert`);
- the head reads [bottleneck, text, audio, vision]: audio and vision are not exchanged inside the fusion;
- the contrastive losses take their pairs from the batch itself, so that no clip is encoded twice (`partner_mask` is
  the paper's way);
- a missing modality is one learned token (the paper has none missing), and `modality_distillation` trains for it.
"""

import inspect
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput, logging

from .configuration_common import FusionConfigMixin  # noqa: F401 - travels too
from .configuration_dashfusion import MODALITIES, DashFusionConfig
from .configuration_dyfulm import DyFuLMConfig  # noqa: F401 - travels too
from .modeling_common import FusionModelMixin
from .modeling_dashfusion_layers import (
    FUSION_CLASSES,
    DashFusionSequenceEncoder,
    DashFusionTemporalAlignment,
    DashFusionTextProjector,
    Stream,
)
from .modeling_dyfulm import DyFuLMModel
from .modeling_fingerprint import check_loaded  # noqa: F401 - travels too
from .modeling_labels import class_labels, score_labels, several_labels
from .modeling_losses import (
    at_least_float32,
    binary_cross_entropy,
    contrastive_pairs,
    cross_entropy,
    distillation_loss,
    encoded_partner_loss,
    gather_clips,
    joint_features,
    label_classes,
    semantic_alignment_loss,
    squared_error,
    supervised_contrastive_loss,
)
from .modeling_text_encoder import (
    encoder_class,
    encoder_from_config,
    encoder_kwargs,
    layer_class_names,
    masked_mean,
    output_option,
    position_inputs,
    symbolic_max,
)
from .pipeline_common import FusionSentimentAnswers  # noqa: F401 - travels too
from .pipeline_fusion_sentiment import FusionSentimentPipeline  # noqa: F401 - so that its code travels with the model
from .pipeline_media import is_media  # noqa: F401 - travels too
from .processing_dyfulm import rows_without_tokens  # noqa: F401 - travels too
from .processing_text import is_blank  # noqa: F401 - travels too

logger = logging.get_logger(__name__)

TEXT_INPUTS = (
    "input_ids", "attention_mask", "token_type_ids", "span_ids", "input_ids_b", "attention_mask_b", "span_ids_b",
    "inputs_embeds", "inputs_embeds_b",
)  # fmt: skip


@dataclass
class DashFusionModelOutput(ModelOutput):
    """
    Output of [`DashFusionModel`].

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(batch, positions, hidden)`):
            The aligned sequence: the anchor's states, each with its attention to the other modalities added. With
            `anchor="symmetric"` the three sequences take turns, position by position.
        pooler_output (`torch.FloatTensor` of shape `(batch, 4 * hidden)`):
            The fused vector that the head reads: bottleneck (aligned states if there is none), text, audio, vision.
        sequence_mask (`torch.BoolTensor` of shape `(batch, positions)`):
            True where `last_hidden_state` is real.
        text_embeds, audio_embeds, vision_embeds, aligned_embeds (`torch.FloatTensor` of shape `(batch, hidden)`):
            Each modality before fusion, and the aligned sequence, averaged over their real positions. Where a modality
            is missing: its learned stand-in.
        present (`torch.BoolTensor` of shape `(batch, 3)`):
            Which of text, audio and vision a clip has (after modality dropout).
        bottleneck (`torch.FloatTensor` of shape `(batch, tokens, hidden)`):
            The bottleneck tokens of the last level; only with `fusion="hbf"`. Where a clip has fewer positions than
            tokens, the rest is 0.
        partial_output (`torch.FloatTensor` of shape `(batch, 4 * hidden)`):
            `pooler_output` of the same clips with modalities hidden; only in training with `modality_distillation`.
        alignment_attentions (`dict[str, torch.FloatTensor]`):
            For each pair such as `"text_audio"` the attention `(batch, heads, anchor positions, other positions)`, with
            `output_fusion=True`. Position 0 of audio and vision is their class token.
        hidden_states, attentions:
            The text encoder's, when asked for.
    """

    last_hidden_state: torch.FloatTensor | None = None
    pooler_output: torch.FloatTensor | None = None
    sequence_mask: torch.BoolTensor | None = None
    text_embeds: torch.FloatTensor | None = None
    audio_embeds: torch.FloatTensor | None = None
    vision_embeds: torch.FloatTensor | None = None
    aligned_embeds: torch.FloatTensor | None = None
    present: torch.BoolTensor | None = None
    bottleneck: torch.FloatTensor | None = None
    partial_output: torch.FloatTensor | None = None
    alignment_attentions: dict[str, torch.FloatTensor] | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class DashFusionSequenceClassifierOutput(ModelOutput):
    """
    Output of [`DashFusionForSequenceClassification`].

    Args:
        loss (`torch.FloatTensor` of shape `()`):
            `prediction_loss + config.contrastive_weight * contrastive_loss + distillation_loss`.
        logits (`torch.FloatTensor` of shape `(batch, num_labels)`):
            The score, on the scale of the labels (regression), or one logit for each class.
        prediction_loss (`torch.FloatTensor` of shape `()`):
            Mean squared error, cross-entropy or binary cross-entropy.
        contrastive_loss (`torch.FloatTensor` of shape `()`):
            Sum of the two losses below.
        semantic_loss, supervised_loss (`torch.FloatTensor` of shape `()`):
            Semantic alignment and supervised contrastive loss, where switched on.
        distillation_loss (`torch.FloatTensor` of shape `()`):
            How far the answers with modalities hidden are from `logits`; only in training with
            `modality_distillation`.

    The other fields are those of [`DashFusionModelOutput`].
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    prediction_loss: torch.FloatTensor | None = None
    contrastive_loss: torch.FloatTensor | None = None
    semantic_loss: torch.FloatTensor | None = None
    supervised_loss: torch.FloatTensor | None = None
    distillation_loss: torch.FloatTensor | None = None
    text_embeds: torch.FloatTensor | None = None
    audio_embeds: torch.FloatTensor | None = None
    vision_embeds: torch.FloatTensor | None = None
    aligned_embeds: torch.FloatTensor | None = None
    present: torch.BoolTensor | None = None
    bottleneck: torch.FloatTensor | None = None
    alignment_attentions: dict[str, torch.FloatTensor] | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


def hide_modalities(present, probability):
    """
    Draws which modalities of each clip are hidden; one that a clip has always stays.

    Args:
        present (`torch.BoolTensor` of shape `(batch, 3)`): which of text, audio and vision the clips have.
        probability (`float`): with which each of them is hidden.

    Returns:
        `torch.BoolTensor` of the same shape: the modalities that remain.
    """
    draws = torch.rand(present.shape, device=present.device).masked_fill(~present, -1)
    return present & ((draws > probability) | (draws == draws.amax(1, keepdim=True)))


def _first_real_in_front(features, mask):
    """Frames and mask without the padding before the first real frame, which comes to the end: on whichever side
    frames are padded, that frame has the first position."""
    padding_before = (mask.long().cumsum(1) == 0).sum(1, keepdim=True)
    places = torch.arange(mask.shape[1], device=mask.device)
    # no two keys are equal: ONNX has no stable sort; and none needs more than 32 bits, in which some runtimes compute
    order = (places + 2**30 * (places < padding_before)).argsort(dim=1)  # (batch, frames)
    return features.gather(1, order.unsqueeze(-1).expand_as(features)), mask.gather(1, order)


def _complete_text_masks(inputs):
    """
    Completes the attention masks of the text in `inputs`: real where they are absent, and one real token for a text
    without any, which an encoder must not see.

    Returns:
        `torch.BoolTensor` of shape `(batch,)`: whether a clip has a text.

    Raises:
        ValueError: if a mask does not fit its tokens.
    """
    tokens = inputs["input_ids"] if inputs["inputs_embeds"] is None else inputs["inputs_embeds"]
    second = inputs["input_ids_b"] if inputs["inputs_embeds_b"] is None else inputs["inputs_embeds_b"]
    present = tokens.new_ones(tokens.shape[0], dtype=torch.bool)
    for name, values in (("attention_mask", tokens), ("attention_mask_b", second)):
        if inputs[name] is None and values is not None:
            inputs[name] = torch.ones(values.shape[:2], dtype=torch.long, device=values.device)
        if inputs[name] is not None:
            if inputs[name].shape != values.shape[:2]:
                raise ValueError(
                    f"`{name}` has the shape {tuple(inputs[name].shape)}, but the tokens have "
                    f"{tuple(values.shape[:2])}."
                )
            some = inputs[name].any(-1)
            present &= some
            # the states of such a text are replaced
            inputs[name] = inputs[name] + nn.functional.pad((~some).unsqueeze(-1), (0, inputs[name].shape[1] - 1)).to(
                inputs[name].dtype
            )
    return present


class DashFusionPreTrainedModel(FusionModelMixin, PreTrainedModel):
    """Base of all DashFusion classes: weight initialisation, and the settings that loading reads."""

    config_class = DashFusionConfig
    base_model_prefix = "dashfusion"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the loss is a mean over the batch: the Trainer must divide it by accumulation steps
    # The own layers call transformers' attention interface (`attend`), with packed keys for flash attention and a block
    # mask for flex attention. The text encoder keeps eager attention where it has no other.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True  # without dropout: training needs `attention_probs_dropout_prob=0`
    _supports_attention_backend = True
    # names in checkpoints of version 0.1.0; peft asks for it too
    _checkpoint_conversion_mapping = {
        rf"attention\.{old}\.({'|'.join(MODALITIES)})\.": rf"attention.{old}s.\1." for old in ("key", "value")
    }

    @classmethod
    def from_pretrained(cls, *args, key_mapping=None, **kwargs):
        """As `PreTrainedModel.from_pretrained`, from a checkpoint of this or an earlier version."""
        old_names = cls._checkpoint_conversion_mapping
        loaded = super().from_pretrained(*args, key_mapping={**old_names, **(key_mapping or {})}, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        # saving would give the old names back
        conversions = getattr(model, "_weight_conversions", None) or []
        kept = [one for one in conversions if one.target_patterns[0] not in old_names.values()]
        model._weight_conversions = kept or None
        return loaded

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, DashFusionSequenceEncoder):
            nn.init.zeros_(module.position_embeddings)
            nn.init.normal_(module.class_token, std=self.config.initializer_range)

    @property
    def dummy_inputs(self):
        """Inputs of the smallest valid call."""
        tokens = torch.tensor([[1, 2, 3]], device=self.device)
        return {"input_ids": tokens} | ({"input_ids_b": tokens} if self.config.has_two_tokenizations else {})


class DashFusionModel(DashFusionPreTrainedModel):
    """Encoders, alignment and fusion, without a head: a clip to one vector.

    See [`DashFusionForSequenceClassification.forward`] for the inputs and [`DashFusionModelOutput`] for the outputs.

    Example:

    ```python
    import torch
    from hf_fusion import DashFusionConfig, DashFusionModel

    encoder = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = DashFusionConfig(
        text_config=encoder, audio_feature_size=5, vision_feature_size=20, hidden_size=16, num_attention_heads=2
    )
    model = DashFusionModel(config).eval()
    outputs = model(
        input_ids=torch.tensor([[2, 7, 8, 3]]), audio_features=torch.randn(1, 30, 5), output_fusion=True
    )  # without vision
    outputs.present  # text and audio
    outputs.alignment_attentions["text_audio"].shape  # (1, heads, 4, 31): the class token and 30 frames
    ```
    """

    def __init__(self, config):
        super().__init__(config)
        config.check()  # `from_pretrained` may have changed fields of a checked configuration
        text_config = config.text_config
        if text_config.model_type == "dyfulm":
            self.text_encoder = DyFuLMModel(text_config)
        else:
            self.text_encoder = encoder_from_config(text_config)
        self.text_inputs = frozenset(inspect.signature(self.text_encoder.forward).parameters)
        self.text_projector = DashFusionTextProjector(text_config.hidden_size, config)
        self.audio_encoder = DashFusionSequenceEncoder(config.audio_feature_size, config.max_audio_length, config)
        self.vision_encoder = DashFusionSequenceEncoder(config.vision_feature_size, config.max_vision_length, config)
        self.missing_embeddings = nn.Embedding(len(MODALITIES), config.hidden_size)
        self.temporal_alignment = nn.ModuleDict(
            {name: DashFusionTemporalAlignment(config, name) for name in config.anchors if config.temporal_alignment}
        )
        self.fusion = FUSION_CLASSES[config.fusion](config)
        self._no_split_modules = layer_class_names(self)
        self.post_init()

    def get_input_embeddings(self):
        """The token embeddings of the text encoder."""
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value):
        """Replaces the token embeddings of the text encoder."""
        self.text_encoder.set_input_embeddings(value)

    @property
    def encoders(self):
        """`dict`: the pretrained encoders: `"text"`, or a DyFuLM's `"a"` and `"b"`."""
        return getattr(self.text_encoder, "encoders", {"text": self.text_encoder})

    @property
    def text_input_names(self):
        """`set(str)`: the tensors of a text that the text encoder reads."""
        return getattr(self.text_encoder, "text_input_names", self.text_inputs | {"attention_mask"})

    def _check_given(self, given):
        """The number of clips; raises `ValueError` if the given modalities differ in it, or the model reads others."""
        if not given:
            raise ValueError("Give at least one of `input_ids`, `audio_features` and `vision_features`.")
        untrained = [name for name in given if name not in self.config.modalities]
        if untrained:
            raise ValueError(
                f"This model was trained on {', '.join(self.config.modalities)} (`config.modalities`): leave "
                f"{untrained[0]} out."
            )
        rows = {name: values.shape[0] for name, values in given.items()}
        if any(count != next(iter(rows.values())) for count in rows.values()):
            raise ValueError(f"All modalities must have the same number of clips, got {rows}.")
        return next(iter(rows.values()))

    def _encode_text(self, inputs, options):
        """The text stream `(states, mask, present)`, real tokens in front, and the text encoder's outputs."""
        present = _complete_text_masks(inputs)
        given = {name: value for name, value in inputs.items() if value is not None}
        not_optional = sorted(set(given) - self.text_inputs - {"token_type_ids"})
        if not_optional:
            raise ValueError(
                f"The text encoder ({type(self.text_encoder).__name__}) takes no `{not_optional[0]}`; only a DyFuLM "
                "text encoder reads two tokenisations."
            )
        given |= position_inputs(self.text_encoder, inputs["attention_mask"], inputs["inputs_embeds"] is not None)
        outputs = self.text_encoder(
            **{name: value for name, value in given.items() if name in self.text_inputs}, **options, return_dict=True
        )
        if options["output_attentions"] and not outputs.attentions:
            raise ValueError(
                f"The text encoder returns no attentions with {self.config.text_config._attn_implementation} "
                "attention. Load the model with attn_implementation='eager', or call set_attn_implementation('eager')."
            )
        mask = outputs.get("sequence_mask")
        mask = inputs["attention_mask"].bool() if mask is None else mask
        states = self.text_projector(outputs.last_hidden_state)  # (batch, tokens, hidden)
        if self.training and outputs.get("pooler_output") is not None:  # a gradient for a pooler that is not used
            states = states + outputs.pooler_output.mean() * 0
        # Real tokens in front, whichever side the tokenizer pads: the fusion takes the first ones.
        # No two keys are equal: ONNX has no stable sort; and none needs more than 32 bits.
        order = (torch.arange(mask.shape[1], device=mask.device) - 2**30 * mask.long()).argsort(dim=1)
        states = states.gather(1, order.unsqueeze(-1).expand_as(states))
        return (states, mask.gather(1, order), present), outputs

    def _encode_frames(self, name, features, mask):
        """The stream `(states, mask, present)` of audio or vision."""
        width, longest = (getattr(self.config, field) for field in (f"{name}_feature_size", f"max_{name}_length"))
        if features.dim() != 3 or features.shape[-1] != width:
            raise ValueError(
                f"`{name}_features` must have the shape (batch, frames, {width}), got {tuple(features.shape)}: this "
                f"model reads {name} frames of {width} features."
            )
        if features.shape[1] > longest:
            raise ValueError(
                f"`{name}_features` has {features.shape[1]} frames, this model reads at most {longest} "
                f"(`max_{name}_length`). The processor cuts longer clips."
            )
        if mask is None:
            mask = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        elif mask.shape != features.shape[:2]:
            raise ValueError(
                f"`{name}_attention_mask` has the shape {tuple(mask.shape)}, but `{name}_features` has "
                f"{tuple(features.shape)}."
            )
        else:
            features, mask = _first_real_in_front(features, mask.bool())
        states, mask_with_class = getattr(self, f"{name}_encoder")(features, mask)
        return states, mask_with_class, mask.any(-1)

    def _stand_for_absent(self, streams, batch_size):
        """
        Adds a stream without anything present for each modality that is absent from the batch.

        Training reads an empty clip for it: distributed training wants a gradient for every parameter, if only 0.
        """
        device = next(iter(streams.values()))[0].device
        nothing = torch.zeros(batch_size, dtype=torch.bool, device=device)
        for name in MODALITIES:
            if name in streams:
                continue
            states = mask = None
            if self.training and torch.is_grad_enabled():
                states, mask = (part[:, :1] for part in self._encode_nothing(name, device)[:2])
            streams[name] = (states, mask, nothing)

    def _encode_nothing(self, name, device):
        if name == "text":
            token = torch.zeros(1, 1, dtype=torch.long, device=device)
            inputs = {**dict.fromkeys(TEXT_INPUTS), "input_ids": token}
            if self.config.has_two_tokenizations:
                inputs |= {"input_ids_b": token, "span_ids": token, "span_ids_b": token}
            return self._encode_text(inputs, {"output_attentions": False, "output_hidden_states": False})[0]
        frame = torch.zeros(1, 1, getattr(self.config, f"{name}_feature_size"), device=device)
        return self._encode_frames(name, frame, torch.zeros(1, 1, dtype=torch.bool, device=device))

    def _with_stand_ins(self, streams, present):
        """Puts one learned token in the place of each modality that a clip lacks."""
        completed = {}
        # called, not read by its weight: only a call brings weights back that are offloaded
        learned = self.missing_embeddings(torch.arange(len(MODALITIES), device=present.device))
        for i, name in enumerate(MODALITIES):
            stand_in = learned[i].expand(present.shape[0], 1, -1)
            states, mask, _ = streams[name]
            states = stand_in if states is None else states
            only_first = torch.zeros(states.shape[:2], dtype=torch.bool, device=present.device)
            only_first[:, 0] = True
            here = present[:, i]
            states = torch.where(here[:, None, None], states, stand_in.to(states.dtype))
            # (a `where` of booleans is not in ONNX Runtime)
            mask = only_first if mask is None else (here[:, None] & mask) | (~here[:, None] & only_first)
            completed[name] = Stream.of(states, mask)
        return completed

    def _align(self, streams, need_weights):
        """The aligned sequence, and the attention by pair."""
        aligned, weights = [], {}
        for name in self.config.anchors:
            if self.config.temporal_alignment:
                stream, found = self.temporal_alignment[name](streams, need_weights)
                weights.update(found)
            else:
                stream = streams[name]
            aligned.append(stream)
        if len(aligned) == 1:
            return aligned[0], weights
        # several anchors take turns, so that the first tokens come from all of them
        longest = symbolic_max(*(stream.states.shape[1] for stream in aligned))
        padding = [longest - stream.states.shape[1] for stream in aligned]
        pad = nn.functional.pad
        states = [pad(stream.states, (0, 0, 0, more)) for stream, more in zip(aligned, padding, strict=True)]
        masks = [pad(stream.mask, (0, more)) for stream, more in zip(aligned, padding, strict=True)]
        return Stream.of(torch.stack(states, dim=2).flatten(1, 2), torch.stack(masks, dim=2).flatten(1, 2)), weights

    def _partial_output(self, streams, present):
        """The fused vector of the first clips, as many as `present` has, that lose modalities after the encoders."""
        streams = {
            name: [part if part is None else part[: len(present)] for part in parts] for name, parts in streams.items()
        }
        hidden = self._with_stand_ins(streams, hide_modalities(present, self.config.modality_distillation))
        return self.fusion(self._align(hidden, need_weights=False)[0], hidden)[0]

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        audio_features=None,
        audio_attention_mask=None,
        vision_features=None,
        vision_attention_mask=None,
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
        num_fused=None,
    ):
        """See [`DashFusionForSequenceClassification.forward`]; only the first `num_fused` clips (all by default) are
        fused, the rest is encoded and aligned."""
        return_dict = self.config.return_dict if return_dict is None else return_dict
        output_attentions = output_option(output_attentions, self.config.output_attentions)
        output_hidden_states = output_option(output_hidden_states, self.config.output_hidden_states)

        given = {"text": input_ids if inputs_embeds is None else inputs_embeds}
        given |= {"audio": audio_features, "vision": vision_features}
        # a sequence without positions is absent
        given = {name: values for name, values in given.items() if values is not None and values.shape[1] > 0}
        batch_size = self._check_given(given)

        streams, text_outputs = {}, None
        if "text" in given:
            values = (input_ids, attention_mask, token_type_ids, span_ids, input_ids_b, attention_mask_b, span_ids_b)
            inputs = dict(zip(TEXT_INPUTS, (*values, inputs_embeds, inputs_embeds_b), strict=True))
            options = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
            streams["text"], text_outputs = self._encode_text(inputs, options)
        if "audio" in given:
            streams["audio"] = self._encode_frames("audio", audio_features, audio_attention_mask)
        if "vision" in given:
            streams["vision"] = self._encode_frames("vision", vision_features, vision_attention_mask)
        self._stand_for_absent(streams, batch_size)
        present = torch.stack([streams[name][2] for name in MODALITIES], dim=1)  # (batch, 3)
        if self.training and self.config.modality_dropout > 0:
            present = hide_modalities(present, self.config.modality_dropout)
        encoded, streams = streams, self._with_stand_ins(streams, present)

        aligned, alignment_attentions = self._align(streams, output_fusion)
        fused = {name: stream.clips(num_fused) for name, stream in streams.items()}
        pooled, bottleneck = self.fusion(aligned.clips(num_fused), fused)
        partial_output = None
        if self.training and self.config.modality_distillation > 0 and len(self.config.modalities) > 1:
            partial_output = self._partial_output(encoded, present[:num_fused])
        embeds = {f"{name}_embeds": masked_mean(streams[name].states, streams[name].mask) for name in MODALITIES}
        output = DashFusionModelOutput(
            last_hidden_state=aligned.states,
            pooler_output=pooled,
            sequence_mask=aligned.mask,
            **embeds,
            aligned_embeds=masked_mean(aligned.states, aligned.mask),
            present=present,
            bottleneck=bottleneck,
            partial_output=partial_output,
            alignment_attentions=alignment_attentions if output_fusion and self.config.temporal_alignment else None,
            hidden_states=text_outputs.hidden_states if output_hidden_states and text_outputs else None,
            attentions=text_outputs.attentions if output_attentions and text_outputs else None,
        )
        return output if return_dict else output.to_tuple()


# By problem type: how labels are read, and their loss.
PROBLEMS = {
    "regression": (score_labels, squared_error),
    "single_label_classification": (class_labels, cross_entropy),
    "multi_label_classification": (several_labels, binary_cross_entropy),
}


class DashFusionForSequenceClassification(DashFusionPreTrainedModel):
    """
    DashFusion with a head: a sentiment score (regression), a class, or several labels.

    Example:

    ```python
    import torch
    from hf_fusion import DashFusionConfig, DashFusionForSequenceClassification

    encoder = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = DashFusionConfig(
        text_config=encoder, audio_feature_size=5, vision_feature_size=20, hidden_size=16, num_attention_heads=2
    )
    model = DashFusionForSequenceClassification(config)
    outputs = model(
        input_ids=torch.tensor([[2, 7, 8, 3], [2, 9, 8, 3]]),
        audio_features=torch.randn(2, 30, 5),
        vision_features=torch.randn(2, 12, 20),
        labels=torch.tensor([1.5, -2.0]),
    )
    outputs.loss.backward()
    outputs.logits.shape  # (2, 1)
    ```
    """

    def __init__(self, config):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.dashfusion = DashFusionModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        size = config.hidden_size
        self.classifier = nn.Sequential(
            nn.Linear(4 * size, 2 * size), nn.GELU(), nn.Linear(2 * size, size), nn.GELU(),
            nn.Linear(size, config.num_labels),
        )  # fmt: skip
        self.register_buffer("class_weights", None, persistent=False)  # in the prediction loss; not saved
        self._no_split_modules = layer_class_names(self)
        self.post_init()

    @classmethod
    def from_text_encoder(cls, text_encoder, **config_kwargs):
        """Builds a DashFusion on a text encoder; everything else is initialised.

        Args:
            text_encoder (`str`, `os.PathLike`, `PreTrainedModel` or `PretrainedConfig`):
                A pretrained text encoder or DyFuLM: its name on the Hub, its folder, or itself (its weights are
                copied). Or the configuration of one that starts from scratch.
            config_kwargs: fields of [`DashFusionConfig`].

        Returns:
            [`DashFusionForSequenceClassification`] in float32 and evaluation mode, as `from_pretrained` gives it.

        Raises:
            ValueError: if it is no text encoder.
        """
        pretrained = text_encoder if isinstance(text_encoder, PreTrainedModel) else None
        if pretrained is not None:
            pretrained = pretrained.base_model  # of a model with a head
            text_encoder = pretrained.config
        elif not isinstance(text_encoder, PretrainedConfig):
            text_config = AutoConfig.from_pretrained(text_encoder)
            is_dyfulm = text_config.model_type == "dyfulm"
            model_class = DyFuLMModel if is_dyfulm else encoder_class(text_config)
            options = {} if is_dyfulm else encoder_kwargs(text_config)
            pretrained = model_class.from_pretrained(text_encoder, dtype=torch.float32, **options)
            text_encoder = pretrained.config
        model = cls(DashFusionConfig(text_encoder, **config_kwargs))
        if pretrained is not None:
            own = model.dashfusion.text_encoder.state_dict()  # a given model may have a pooler, which is not used
            weights = {name: value for name, value in pretrained.state_dict().items() if name in own}
            model.dashfusion.text_encoder.load_state_dict(weights)
        return model.eval()

    def get_input_embeddings(self):
        """The token embeddings of the text encoder."""
        return self.dashfusion.get_input_embeddings()

    def set_input_embeddings(self, value):
        """Replaces the token embeddings of the text encoder."""
        self.dashfusion.set_input_embeddings(value)

    def _problem_type(self, labels):
        """The configured problem type, or that of the first labels, as in other sequence-classification models."""
        if self.config.problem_type is not None:
            return self.config.problem_type
        several = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
        return "regression" if self.num_labels == 1 else several

    def _prediction_loss(self, logits, labels, problem_type):
        """The loss, and the labels as the contrastive losses take them."""
        logits = at_least_float32(logits)
        read, loss = PROBLEMS[problem_type]
        labels = read("labels", labels, logits)
        weights = () if problem_type == "regression" else (self.class_weights,)
        return loss(logits, labels, *weights)[0], labels

    def _contrastive_losses(self, base, labels, problem_type):
        """Semantic and supervised contrastive loss; `None` where switched off."""
        config = self.config
        embeds, present = contrastive_embeds(base, config)
        if config.gather_negatives and self.training:
            embeds, present, labels = gather_clips(embeds, present, labels)
        semantic = supervised = None
        if config.semantic_alignment:
            modalities = {name: embeds[name] for name in MODALITIES}
            semantic = semantic_alignment_loss(modalities, present, config.anchors, config.temperature)
        if config.supervised_contrastive:
            step = config.contrastive_label_step if problem_type == "regression" else None
            same, different = label_classes(labels, step)
            features = joint_features(embeds, present)
            counts = (config.num_positives, config.num_hard_negatives, config.num_easy_negatives)
            positives, negatives = contrastive_pairs(features, same, different, *counts)
            supervised = supervised_contrastive_loss(embeds, present, positives, negatives, config.temperature)
        return semantic, supervised

    def _encoded_partner_loss(self, base, partner_mask):
        config = self.config
        anchors = config.anchors if config.semantic_alignment else ()
        embeds, present = contrastive_embeds(base, config)
        return encoded_partner_loss(
            embeds, present, partner_mask, config.num_positives, anchors, config.supervised_contrastive,
            config.temperature,
        )  # fmt: skip

    def _losses(self, base, logits, labels, partner_mask):
        """`dict`: the loss and its parts, by the names of the outputs; `None` where switched off."""
        problem_type = self._problem_type(labels)
        prediction_loss, labels = self._prediction_loss(logits, labels, problem_type)
        self.config.problem_type = problem_type  # the labels were of this kind
        semantic_loss = supervised_loss = contrastive_loss = partial_loss = None
        with torch.autocast(logits.device.type, enabled=False):  # similarities in float32
            if partner_mask is not None:
                contrastive_loss = self._encoded_partner_loss(base, partner_mask)
            else:
                semantic_loss, supervised_loss = self._contrastive_losses(base, labels, problem_type)
                parts = [part for part in (semantic_loss, supervised_loss) if part is not None]
                contrastive_loss = sum(parts) if parts else None
        loss = prediction_loss
        if contrastive_loss is not None:
            loss = prediction_loss + self.config.contrastive_weight * contrastive_loss
        if base.partial_output is not None:
            partial_logits = self.classifier(self.dropout(base.partial_output))
            partial_loss = distillation_loss(partial_logits, logits, problem_type)
            loss = loss + partial_loss
        return {
            "loss": loss,
            "prediction_loss": prediction_loss,
            "contrastive_loss": contrastive_loss,
            "semantic_loss": semantic_loss,
            "supervised_loss": supervised_loss,
            "distillation_loss": partial_loss,
        }

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        audio_features=None,
        audio_attention_mask=None,
        vision_features=None,
        vision_attention_mask=None,
        labels=None,
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
        partner_mask=None,
    ):
        r"""
        A modality may be missing for the whole batch (`None`) or for single clips (a mask of zeros).

        Args:
            input_ids, attention_mask, token_type_ids (`torch.LongTensor` of shape `(batch, tokens)`):
                The text, as the text encoder reads it.
            audio_features (`torch.FloatTensor` of shape `(batch, frames, audio_feature_size)`):
                Audio frames, at most `config.max_audio_length`.
            audio_attention_mask (`torch.Tensor` of shape `(batch, frames)`, *optional*):
                1 for real frames, 0 for padding. Defaults to all real.
            vision_features, vision_attention_mask: the same for vision, which may have another frame rate.
            labels (`torch.Tensor`, *optional*):
                Scores of shape `(batch,)` or `(batch, 1)` (NaN = missing), classes of the same shapes (-100 = missing),
                or several labels of shape `(batch, num_labels)`, each in [0, 1] (NaN = missing).
            span_ids, input_ids_b, attention_mask_b, span_ids_b (`torch.LongTensor`, *optional*):
                The second tokenisation and the common spans, for a DyFuLM text encoder; see its `forward`.
            inputs_embeds, inputs_embeds_b (`torch.FloatTensor` of shape `(batch, tokens, encoder hidden)`, *optional*):
                Token embeddings in place of `input_ids` and `input_ids_b`.
            output_attentions, output_hidden_states (`bool`, *optional*):
                Whether to return those of the text encoder.
            output_fusion (`bool`, defaults to `False`):
                Whether to return `alignment_attentions`.
            partner_mask (`torch.BoolTensor` of shape `(clips, partners)`, *optional*):
                For the paper's way of training: behind the `clips` that are predicted, the inputs have the first
                partner of each, then the second, and so on, `config.num_positives` positive ones first. They are
                encoded for the contrastive loss alone, which then has no other pairs and no parts; `False` = none.

        Returns:
            [`DashFusionSequenceClassifierOutput`], or a tuple of its fields that are not `None` if `return_dict=False`.

        Raises:
            ValueError: if all modalities are `None`, one is given that is not in `config.modalities`, shapes do not
                fit, or a label has no sensible value; names the modality, or the value and its row.
        """
        return_dict = self.config.return_dict if return_dict is None else return_dict
        if labels is not None:
            given = {"text": input_ids if inputs_embeds is None else inputs_embeds}
            _warn_of_absent({**given, "audio": audio_features, "vision": vision_features}, self.config)
        base = self.dashfusion(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            audio_features=audio_features,
            audio_attention_mask=audio_attention_mask,
            vision_features=vision_features,
            vision_attention_mask=vision_attention_mask,
            span_ids=span_ids,
            input_ids_b=input_ids_b,
            attention_mask_b=attention_mask_b,
            span_ids_b=span_ids_b,
            inputs_embeds=inputs_embeds,
            inputs_embeds_b=inputs_embeds_b,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            output_fusion=output_fusion,
            return_dict=True,
            num_fused=None if partner_mask is None else len(partner_mask),
        )
        logits = self.classifier(self.dropout(base.pooler_output))  # (batch, num_labels)

        losses = {} if labels is None else self._losses(base, logits, labels, partner_mask)
        output = DashFusionSequenceClassifierOutput(
            **losses,
            logits=logits,
            text_embeds=base.text_embeds,
            audio_embeds=base.audio_embeds,
            vision_embeds=base.vision_embeds,
            aligned_embeds=base.aligned_embeds,
            present=base.present,
            bottleneck=base.bottleneck,
            alignment_attentions=base.alignment_attentions,
            hidden_states=base.hidden_states,
            attentions=base.attentions,
        )
        return output if return_dict else output.to_tuple()


def _warn_of_absent(given, config):
    """Warns once of a modality that a whole batch with labels lacks: a `Trainer` may have dropped its column."""
    absent = [name for name in config.modalities if given[name] is None]
    if absent and not torch.compiler.is_compiling():
        logger.warning_once(
            f"{' and '.join(absent).capitalize()} {'is' if len(absent) == 1 else 'are'} absent from a whole batch with "
            f"labels. If the data has {absent[0]}: `Trainer` drops the columns `audio` and `vision` unless "
            "`remove_unused_columns=False` is set. If not, leave it out of `config.modalities`."
        )


def contrastive_embeds(outputs, config):
    """
    The vectors that the contrastive losses compare.

    Args:
        outputs ([`DashFusionModelOutput`] or [`DashFusionSequenceClassifierOutput`]): of clips.
        config ([`DashFusionConfig`]): of the model.

    Returns:
        For text, audio, vision and, with temporal alignment, "aligned": the vectors `(batch, hidden)`, and where they
        are present `(batch,)`.
    """
    embeds = {name: outputs[f"{name}_embeds"] for name in MODALITIES}
    present = dict(zip(MODALITIES, outputs["present"].unbind(1), strict=True))
    if config.temporal_alignment:
        embeds["aligned"], present["aligned"] = outputs["aligned_embeds"], outputs["present"].any(1)
    return embeds, present


__all__ = ["DashFusionForSequenceClassification", "DashFusionModel", "DashFusionPreTrainedModel"]
