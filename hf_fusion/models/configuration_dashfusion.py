"""Configuration of DashFusion."""

from transformers import AutoConfig, PretrainedConfig

from .configuration_common import (
    FusionConfigMixin,
    add_code_map,
    as_value_error,
    check_booleans,
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

MODALITIES = ("text", "audio", "vision")
FUSIONS = ("hbf", "concat_attention", "concat")
ANCHORS = (*MODALITIES, "symmetric")
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


class DashFusionConfig(FusionConfigMixin, PretrainedConfig):
    r"""
    Configuration of [`DashFusionModel`] and [`DashFusionForSequenceClassification`] (arXiv 2512.05515). The defaults
    are the paper's for CMU-MOSI.

    Args:
        text_config (`PretrainedConfig` or `dict`, *optional*):
            Configuration of the text encoder: any text model, or a [`DyFuLMConfig`], whose two encoders then read the
            text together. Defaults to a BERT-base configuration.
        audio_feature_size, vision_feature_size (`int`, defaults to 5 and 20):
            Width of an audio and of a vision frame.
        max_audio_length, max_vision_length (`int`, defaults to 375 and 500):
            Most frames of a clip; a position is learned for each.
        hidden_size (`int`, defaults to 128):
            Width of all streams (the paper's d_model).
        num_attention_heads (`int`, defaults to 8):
            Heads of every attention of this model; the text encoder has its own.
        intermediate_size (`int`, *optional*):
            Width of the feed-forward layers. Defaults to `2 * hidden_size`.
        num_encoder_layers (`int`, defaults to 2):
            Layers of the audio and of the vision encoder (MOSI and CH-SIMS 2, MOSEI 4).
        num_fusion_layers (`int`, defaults to 2):
            Levels of the hierarchical bottleneck fusion, or layers of `"concat_attention"` (MOSI and CH-SIMS 2,
            MOSEI 3).
        num_bottleneck_tokens (`int`, defaults to 8):
            Bottleneck tokens of the first level (p); each level has half of the one before, and at least one.
        fusion (`str`, defaults to `"hbf"`):
            `"hbf"` (hierarchical bottleneck fusion), or the paper's comparisons: `"concat_attention"` (self-attention
            over all streams in one sequence) and `"concat"` (their means side by side).
        temporal_alignment (`bool`, defaults to `True`):
            Whether the anchor attends to the other modalities. Without it, its own states take the place of the
            aligned ones.
        alignment_head_size (`int`, defaults to 32):
            Width of each head of the temporal alignment.
        anchor (`str`, defaults to `"text"`):
            The modality that the others are aligned to, in time and in meaning: `"text"`, `"audio"`, `"vision"`, or
            `"symmetric"`: each in turn.
        semantic_alignment (`bool`, defaults to `True`):
            Whether training pulls the modalities of one clip together and those of different clips apart.
        supervised_contrastive (`bool`, defaults to `True`):
            Whether training pulls clips of one class together and clips of different classes apart.
        contrastive_weight (`float`, defaults to 0.2):
            Factor of the contrastive losses in the loss.
        temperature (`float`, defaults to 0.5):
            Temperature of both contrastive losses; lower looks more at the most similar negatives.
        contrastive_label_step (`float`, defaults to 1.0):
            In regression, scores of one class are those that round to the same multiple of this step: 1 for MOSI and
            MOSEI, 0.2 (each label its own class) for CH-SIMS.
        num_positives, num_hard_negatives, num_easy_negatives (`int`, defaults to 2):
            For each anchor of the supervised contrastive loss: the most similar clips of its class, and the most and
            least similar ones of other classes.
        gather_negatives (`bool`, defaults to `False`):
            Whether training on several processes takes the pairs of the contrastive losses from the batches of all of
            them; else each batch has its own (accumulation steps always do).
        modality_dropout (`float`, defaults to 0.0):
            Probability that training hides a modality of a clip; at least one remains.
        modality_distillation (`float`, defaults to 0.0):
            The same in a second pass through alignment and fusion, which in training learns to give the answers of the
            first (`distillation_loss`). The losses of the whole clips stay as they are, and the encoders run once.
            Instead of `modality_dropout`, not with it; does nothing with a single modality.
        modalities (`tuple(str)`, defaults to `("text", "audio", "vision")`):
            The modalities that the model is trained on. Others are refused: their encoders know nothing.
        label_range (`tuple(float, float)`, defaults to `(-3.0, 3.0)`):
            Lowest and highest score of the labels. Its middle separates negative from positive; predictions are not
            clipped to it.
        hidden_dropout_prob (`float`, defaults to 0.1):
            Dropout of positions and sublayers.
        attention_probs_dropout_prob (`float`, *optional*):
            Dropout of attention weights, outside the text encoder. Defaults to `hidden_dropout_prob`, as in the paper.
            With 0 training takes the fused attention of a CPU, which has no dropout and is several times as fast.
        classifier_dropout (`float`, defaults to 0.0):
            Dropout before the head.
        initializer_range (`float`, defaults to 0.02):
            Standard deviation of newly initialised weights.
        kwargs:
            `num_labels` (defaults to 1: regression) and `problem_type` as sequence-classification models have them:
            with more labels, integer labels are classes and float labels of shape `(batch, num_labels)` are several
            labels at once, unless `problem_type` says otherwise.
    """

    model_type = "dashfusion"
    tuple_fields = ("modalities", "label_range")
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
        text_config=None,
        audio_feature_size=5,
        vision_feature_size=20,
        max_audio_length=375,
        max_vision_length=500,
        hidden_size=128,
        num_attention_heads=8,
        num_encoder_layers=2,
        num_fusion_layers=2,
        num_bottleneck_tokens=8,
        fusion="hbf",
        temporal_alignment=True,
        anchor="text",
        semantic_alignment=True,
        supervised_contrastive=True,
        contrastive_weight=0.2,
        temperature=0.5,
        modality_dropout=0.0,
        modalities=MODALITIES,
        label_range=(-3.0, 3.0),
        intermediate_size=None,
        alignment_head_size=32,
        contrastive_label_step=1.0,
        num_positives=2,
        num_hard_negatives=2,
        num_easy_negatives=2,
        hidden_dropout_prob=0.1,
        classifier_dropout=0.0,
        initializer_range=0.02,
        gather_negatives=False,
        attention_probs_dropout_prob=None,
        modality_distillation=0.0,
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
        self.modalities = modalities
        self.label_range = label_range
        self.hidden_dropout_prob = hidden_dropout_prob
        self.classifier_dropout = classifier_dropout
        self.initializer_range = initializer_range
        self.gather_negatives = gather_negatives
        if attention_probs_dropout_prob is None:
            attention_probs_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob

        settle_labels(kwargs, (), 1)
        with as_value_error("No configuration of a DashFusion"):
            add_code_map(kwargs, "DashFusion")
            super().__init__(**kwargs)
            self.to_dict()  # fails where a field of transformers is none of its kind
        self.check()

    def check(self):
        """Raises `ValueError` if a field has no sensible value; names field and value.

        The model calls it again: `from_pretrained(..., field=value)` changes fields of a checked configuration.
        """
        check_choice("fusion", self.fusion, FUSIONS)
        check_choice("anchor", self.anchor, ANCHORS)
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
        check_booleans(self, ("temporal_alignment", "semantic_alignment", "supervised_contrastive", "gather_negatives"))
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
        check_choice("problem_type", self.problem_type, (None, *PROBLEM_TYPES))
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
    def has_two_tokenizations(self):
        """`bool`: whether the text encoder is a DyFuLM of two encoders, which reads the tokens of two tokenizers."""
        return len(getattr(self.text_config, "encoder_configs", ())) == 2

    @property
    def anchors(self):
        """`tuple(str)`: the modalities that the others are aligned to."""
        return MODALITIES if self.anchor == "symmetric" else (self.anchor,)

    def _get_generation_parameters(self):
        """`save_pretrained` refuses settings of text generation; `temperature` is one, but here it is a loss's."""
        found = super()._get_generation_parameters()
        return {name: value for name, value in found.items() if name != "temperature"}

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
