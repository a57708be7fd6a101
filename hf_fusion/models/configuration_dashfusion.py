"""Configuration of DashFusion."""

from typing import Literal, get_args

from transformers import AutoConfig, PretrainedConfig

from .configuration_common import (
    FusionConfigMixin,
    add_code_map,
    as_value_error,
    check_choice,
    check_positive,
    check_positive_integers,
    check_probability,
    check_range,
    checked_config,
    is_number,
    settle_labels,
)
from .configuration_dyfulm import DyFuLMConfig

Modality = Literal["text", "audio", "vision"]
MODALITIES = get_args(Modality)


class DashFusionConfig(FusionConfigMixin, PretrainedConfig):
    r"""
    Configuration of [`DashFusionModel`] and [`DashFusionForSequenceClassification`] (arXiv 2512.05515). The defaults
    are the paper's for CMU-MOSI.

    Args:
        text_config (`PretrainedConfig` or `dict`, *optional*):
            Configuration of the text encoder: any text model, or a [`DyFuLMConfig`], whose two encoders then read the
            text together. Defaults to a BERT-base configuration.
        audio_feature_size (`int`, *optional*, defaults to 5):
            Width of an audio frame.
        vision_feature_size (`int`, *optional*, defaults to 20):
            Width of a vision frame.
        max_audio_length (`int`, *optional*, defaults to 375):
            Largest number of audio frames of a clip; a position is learned for each.
        max_vision_length (`int`, *optional*, defaults to 500):
            Largest number of vision frames of a clip; a position is learned for each.
        hidden_size (`int`, *optional*, defaults to 128):
            Width of all streams (the paper's d_model).
        num_attention_heads (`int`, *optional*, defaults to 8):
            Attention heads outside the text encoder, which has its own.
        num_encoder_layers (`int`, *optional*, defaults to 2):
            Layers of the audio and of the vision encoder. The paper has 2 for MOSI and CH-SIMS, 4 for MOSEI.
        num_fusion_layers (`int`, *optional*, defaults to 2):
            Levels of the hierarchical bottleneck fusion, or layers of `"concat_attention"`. The paper has 2 for MOSI
            and CH-SIMS, 3 for MOSEI.
        num_bottleneck_tokens (`int`, *optional*, defaults to 8):
            Bottleneck tokens of the first level (the paper's p). Each level has half of the one before, and at least
            one.
        fusion (`Literal["hbf", "concat_attention", "concat"]`, *optional*, defaults to `"hbf"`):
            How the modalities are fused. `"hbf"` is the hierarchical bottleneck fusion; the paper's comparisons are
            `"concat_attention"`, self-attention over all streams in one sequence, and `"concat"`, their means side by
            side.
        temporal_alignment (`bool`, *optional*, defaults to `True`):
            Whether the anchor attends to the other modalities. Without it, the anchor's own states take the place of
            the aligned ones.
        anchor (`Literal["text", "audio", "vision", "symmetric"]`, *optional*, defaults to `"text"`):
            The modality that the others are aligned to, in time and in meaning. With `"symmetric"` each is the anchor
            in turn.
        semantic_alignment (`bool`, *optional*, defaults to `True`):
            Whether training pulls the modalities of one clip together and those of different clips apart.
        supervised_contrastive (`bool`, *optional*, defaults to `True`):
            Whether training pulls clips of one class together and clips of different classes apart.
        contrastive_weight (`float`, *optional*, defaults to 0.2):
            Factor of the contrastive losses in the loss.
        temperature (`float`, *optional*, defaults to 0.5):
            Temperature of both contrastive losses. Lower values give the most similar negatives more weight.
        modality_dropout (`float`, *optional*, defaults to 0.0):
            Probability that training hides a modality of a clip; at least one remains.
        modalities (`tuple[Literal["text", "audio", "vision"], ...]`, *optional*, defaults to all three):
            The modalities that the model is trained on. Others are refused, since their encoders are not trained.
        label_range (`tuple[float, float]`, *optional*, defaults to `(-3.0, 3.0)`):
            Lowest and highest score of the labels. Its middle separates negative from positive; predictions are not
            clipped to it.
        intermediate_size (`int`, *optional*):
            Width of the feed-forward layers. Defaults to `2 * hidden_size`.
        alignment_head_size (`int`, *optional*, defaults to 32):
            Width of each head of the temporal alignment.
        contrastive_label_step (`float`, *optional*, defaults to 1.0):
            Scores count as one class if they round to the same multiple of this step. Used in regression: 1 for MOSI
            and MOSEI, 0.2 (each label its own class) for CH-SIMS.
        num_positives (`int`, *optional*, defaults to 2):
            Positive partners of each clip in the supervised contrastive loss: the most similar clips of its class.
        num_hard_negatives (`int`, *optional*, defaults to 2):
            Hard negatives of each clip in the supervised contrastive loss: the most similar clips of other classes.
        num_easy_negatives (`int`, *optional*, defaults to 2):
            Easy negatives of each clip in the supervised contrastive loss: the least similar clips of other classes.
        hidden_dropout_prob (`float`, *optional*, defaults to 0.1):
            Dropout of positions and sublayers, outside the text encoder.
        classifier_dropout (`float`, *optional*, defaults to 0.0):
            Dropout before the head.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of newly initialised weights.
        gather_negatives (`bool`, *optional*, defaults to `False`):
            Whether training on several processes compares clips across the batches of all of them. Without it each
            batch is compared with itself, and so are the parts of an accumulated batch in any case.
        attention_probs_dropout_prob (`float`, *optional*):
            Dropout of attention weights, outside the text encoder. Defaults to `hidden_dropout_prob`, as in the paper.
            With 0 training on a CPU uses its fused attention, which has no dropout and is several times as fast.
        modality_distillation (`float`, *optional*, defaults to 0.0):
            Probability that a second pass through alignment and fusion hides a modality of a clip. In training that
            pass learns to give the answers of the first (`distillation_loss`); the losses of the whole clips stay as
            they are, and the encoders run once. Use it instead of `modality_dropout`, not with it; it has no effect
            with a single modality.
        frame_statistics (`bool`, *optional*, defaults to `False`):
            Whether the class token of audio and of vision also gets mean and standard deviation of the clip's frames,
            by a linear layer. With few clips, attention hardly learns to collect them from the frames.
        num_labels (`int`, *optional*):
            Number of classes, or 1 for a score. Defaults to the number of names in `id2label`, or else 1. With more
            than one, integer labels are classes and float labels of shape `(batch, num_labels)` are several labels at
            once, unless `problem_type` says otherwise.
        id2label (`dict[int, str]`, *optional*):
            Names of the classes, by number. Defaults to LABEL_0, LABEL_1 ...
        problem_type (`Literal["regression", "single_label_classification", "multi_label_classification"]`, *optional*):
            The kind of the labels. Defaults to the kind of the first labels that the model is given.
        kwargs (*optional*):
            Fields of `PretrainedConfig`, such as `label2id`.

    Example:

    ```python
    from hf_fusion import DashFusionConfig, DashFusionForSequenceClassification

    encoder = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = DashFusionConfig(text_config=encoder, hidden_size=32, num_attention_heads=4, anchor="symmetric")
    model = DashFusionForSequenceClassification(config)
    ```
    """

    model_type = "dashfusion"
    paper = "arXiv 2512.05515"
    tuple_fields = ("modalities", "label_range")
    modalities = MODALITIES
    frame_columns = ("audio", "vision")
    answer_fields = (
        "num_labels", "id2label", "problem_type", "label_range", "modalities", "modality_dropout",
        "modality_distillation",
    )  # fmt: skip
    sub_configs = {"text_config": AutoConfig}
    keys_to_ignore_at_inference = [
        "prediction_loss",
        "contrastive_loss",
        "semantic_loss",
        "supervised_loss",
        "distillation_loss",
        "text_embeds",
        "audio_embeds",
        "vision_embeds",
        "aligned_embeds",
        "present",
        "bottleneck",
        "alignment_attentions",
        "hidden_states",
        "attentions",
    ]

    def __init__(
        self,
        text_config: PretrainedConfig | dict | None = None,
        audio_feature_size: int = 5,
        vision_feature_size: int = 20,
        max_audio_length: int = 375,
        max_vision_length: int = 500,
        hidden_size: int = 128,
        num_attention_heads: int = 8,
        num_encoder_layers: int = 2,
        num_fusion_layers: int = 2,
        num_bottleneck_tokens: int = 8,
        fusion: Literal["hbf", "concat_attention", "concat"] = "hbf",
        temporal_alignment: bool = True,
        anchor: Literal["text", "audio", "vision", "symmetric"] = "text",
        semantic_alignment: bool = True,
        supervised_contrastive: bool = True,
        contrastive_weight: float = 0.2,
        temperature: float = 0.5,
        modality_dropout: float = 0.0,
        modalities: tuple[Modality, ...] = MODALITIES,
        label_range: tuple[float, float] = (-3.0, 3.0),
        intermediate_size: int | None = None,
        alignment_head_size: int = 32,
        contrastive_label_step: float = 1.0,
        num_positives: int = 2,
        num_hard_negatives: int = 2,
        num_easy_negatives: int = 2,
        hidden_dropout_prob: float = 0.1,
        classifier_dropout: float = 0.0,
        initializer_range: float = 0.02,
        gather_negatives: bool = False,
        attention_probs_dropout_prob: float | None = None,
        modality_distillation: float = 0.0,
        frame_statistics: bool = False,
        num_labels: int | None = None,
        id2label: dict[int, str] | None = None,
        problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = None,
        **kwargs,
    ):
        # by name: where this file came with a checkpoint, the Auto classes do not know DyFuLM
        self.text_config = checked_config("text_config", text_config, "bert", {"dyfulm": DyFuLMConfig})
        self.audio_feature_size = audio_feature_size
        self.vision_feature_size = vision_feature_size
        self.max_audio_length = max_audio_length
        self.max_vision_length = max_vision_length
        self.hidden_size = hidden_size
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        if intermediate_size is None and isinstance(hidden_size, int):
            self.intermediate_size = 2 * hidden_size
        self.num_encoder_layers = num_encoder_layers
        self.num_fusion_layers = num_fusion_layers
        self.num_bottleneck_tokens = num_bottleneck_tokens
        self.fusion = fusion
        self.temporal_alignment = temporal_alignment
        self.alignment_head_size = alignment_head_size
        self.anchor = anchor
        self.semantic_alignment = semantic_alignment
        self.supervised_contrastive = supervised_contrastive
        self.contrastive_weight = contrastive_weight
        self.temperature = temperature
        self.contrastive_label_step = contrastive_label_step
        self.num_positives = num_positives
        self.num_hard_negatives = num_hard_negatives
        self.num_easy_negatives = num_easy_negatives
        self.modality_dropout = modality_dropout
        self.modality_distillation = modality_distillation
        self.frame_statistics = frame_statistics
        self.modalities = modalities
        self.label_range = label_range
        self.hidden_dropout_prob = hidden_dropout_prob
        self.classifier_dropout = classifier_dropout
        self.initializer_range = initializer_range
        self.gather_negatives = gather_negatives
        if attention_probs_dropout_prob is None:
            attention_probs_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob

        kwargs.update(num_labels=num_labels, id2label=id2label, problem_type=problem_type)
        settle_labels(kwargs, (), 1)
        with as_value_error("No configuration of a DashFusion"):
            add_code_map(kwargs, "DashFusion")
            super().__init__(**kwargs)
            self.to_dict()  # fails where a field of transformers has a wrong type
        self.check()

    def check(self):
        """Raises `ValueError` if a field has no sensible value; names field and value.

        The model calls it again: `from_pretrained(..., field=value)` changes fields of a checked configuration.
        """
        self.check_annotations()
        if self.text_config.model_type == "dyfulm" and self.text_config.cross_fusion == "b":
            raise ValueError("A DyFuLM that reads the text with encoder B alone has no `input_ids`: make it encoder A.")
        check_modalities(self.modalities)
        self._check_numbers()
        self._check_problem()

    def _check_numbers(self):
        positive = (
            "audio_feature_size", "vision_feature_size", "max_audio_length", "max_vision_length", "hidden_size",
            "num_attention_heads", "intermediate_size", "num_encoder_layers", "num_fusion_layers",
            "num_bottleneck_tokens", "alignment_head_size", "num_positives",
        )  # fmt: skip
        check_positive_integers(self, positive)
        check_range("label_range", self.label_range)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`hidden_size` ({self.hidden_size}) must be a multiple of `num_attention_heads` "
                f"({self.num_attention_heads})."
            )
        negatives = (self.num_hard_negatives, self.num_easy_negatives)
        if not all(type(count) is int and count >= 0 for count in negatives) or not any(negatives):
            raise ValueError(
                "`num_hard_negatives` and `num_easy_negatives` must be at least 0 and not both 0, got "
                f"{self.num_hard_negatives!r:.100} and {self.num_easy_negatives!r:.100}."
            )
        for name in ("temperature", "contrastive_label_step", "initializer_range"):
            check_positive(name, getattr(self, name))
        if not is_number(self.contrastive_weight) or not self.contrastive_weight >= 0:
            raise ValueError(f"`contrastive_weight` must be at least 0, got {self.contrastive_weight!r:.100}.")
        probabilities = (
            "modality_dropout", "modality_distillation", "hidden_dropout_prob", "attention_probs_dropout_prob",
            "classifier_dropout",
        )  # fmt: skip
        for name in probabilities:
            check_probability(name, getattr(self, name))
        if self.modality_dropout and self.modality_distillation:
            raise ValueError(
                f"`modality_dropout` ({self.modality_dropout}) would hide from the first pass what "
                f"`modality_distillation` ({self.modality_distillation}) learns from it: choose one of them."
            )

    def _check_problem(self):
        if self.problem_type == "regression" and self.num_labels != 1:
            raise ValueError(
                f"Regression predicts one score, but `num_labels` is {self.num_labels}. For classes also give "
                "problem_type='single_label_classification' (or 'multi_label_classification')."
            )
        if self.problem_type not in (None, "regression") and self.num_labels < 2:
            raise ValueError(
                f"{self.problem_type} needs `num_labels` of at least 2, got {self.num_labels}. For a score give "
                "problem_type='regression'."
            )

    @property
    def loss_factors(self):
        """`dict[str, float]`: the constant factor of each part of the loss."""
        return {"prediction": 1.0, "contrastive": self.contrastive_weight, "distillation": 1.0}

    @property
    def has_contrastive_loss(self):
        """`bool`: whether training compares clips with each other."""
        return self.supervised_contrastive or self.semantic_alignment

    @property
    def has_two_tokenizations(self):
        """`bool`: whether the text encoder is a DyFuLM of two encoders, which reads the tokens of two tokenizers."""
        return len(getattr(self.text_config, "encoder_configs", ())) == 2

    @property
    def anchors(self):
        """`tuple(str)`: the modalities that the others are aligned to."""
        return MODALITIES if self.anchor == "symmetric" else (self.anchor,)

    def get_text_config(self, *args, **kwargs):
        """The configuration that owns the vocabulary of `input_ids`."""
        return self.text_config.get_text_config(*args, **kwargs)


def check_modalities(modalities):
    """Raises `ValueError` unless `modalities` are some of text, audio and vision, each once."""
    for name in modalities:
        check_choice("modalities", name, MODALITIES)
    if not modalities or len(set(modalities)) < len(modalities):
        raise ValueError(f"`modalities` must be some of {', '.join(MODALITIES)}, each once, got {modalities!r:.100}.")


__all__ = ["DashFusionConfig"]
