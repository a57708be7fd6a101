"""Configuration of DyFuLM."""

from typing import Literal

from transformers import AutoConfig, PretrainedConfig

from .configuration_common import (
    FusionConfigMixin,
    Head,
    add_code_map,
    as_value_error,
    check_choice,
    check_positive,
    check_positive_integers,
    check_probability,
    check_range,
    checked_config,
    is_number,
    names_of_classes,
    settle_labels,
)

FINE_LABELS = ("very negative", "negative", "neutral", "positive", "very positive")
COARSE_LABELS = ("negative", "neutral", "positive")


class DyFuLMConfig(FusionConfigMixin, PretrainedConfig):
    r"""
    Configuration of [`DyFuLMModel`] and [`DyFuLMForSequenceClassification`] (arXiv 2512.01410).

    Args:
        encoder_a_config (`PretrainedConfig` or `dict`, *optional*):
            Configuration of encoder A, any text model. Defaults to a RoBERTa-base configuration, the paper's choice;
            stays `None` when `cross_fusion="b"`, which has no encoder A.
        encoder_b_config (`PretrainedConfig` or `dict`, *optional*):
            Configuration of encoder B, any text model. Defaults to a DeBERTa-v2 configuration of base size; stays
            `None` when `cross_fusion="a"`.
        fusion_hidden_size (`int`, *optional*):
            Width of the fused features. Defaults to the width of the first encoder in use. An encoder of another
            width gets a linear projection; an encoder of this width is used as it is, as in the paper's formula.
        layer_fusion (`Literal["bilstm", "mean", "last"]`, *optional*, defaults to `"bilstm"`):
            How the layers of one encoder become one. `"bilstm"` is an input-dependent attention over layers, `"mean"`
            their mean, `"last"` the last layer.
        layer_fusion_hidden_size (`int`, *optional*, defaults to 128):
            Width of the layer BiLSTM, per direction.
        cross_fusion (`Literal["gate", "mean", "concat", "a", "b"]`, *optional*, defaults to `"gate"`):
            How the two encoders become one. `"gate"` learns the share of each, `"mean"` averages them, `"concat"`
            projects both side by side; `"a"` and `"b"` use one encoder alone: the other is neither built nor run.
        gate_level (`Literal["span", "sequence"]`, *optional*, defaults to `"span"`):
            Where the two encoders are fused. `"span"` fuses over the common spans of the two tokenisations,
            `"sequence"` fuses the pooled vectors. Inputs without `span_ids` are always fused at sequence level.
        num_coarse_labels (`int`, *optional*):
            Number of coarse sentiment classes. Defaults to the number of names in `coarse_id2label`, or else 3.
        coarse_id2label (`dict[int, str]`, *optional*):
            Names of the coarse classes, by number. Defaults to negative, neutral and positive if there are three, else
            to LABEL_0, LABEL_1 ...
        intensity_range (`tuple[float, float]`, *optional*, defaults to `(0.0, 1.0)`):
            Lowest and highest intensity. The head is a sigmoid scaled to this range.
        use_guidance (`bool`, *optional*, defaults to `True`):
            Whether coarse sentiment and intensity modulate the features of the fine head.
        loss_weighting (`Literal["uncertainty", "dwa", "fixed"]`, *optional*, defaults to `"uncertainty"`):
            How the losses of the three tasks are weighted. `"uncertainty"` learns the weights (Kendall, Gal & Cipolla
            2018), `"dwa"` is dynamic weight averaging (Liu et al. 2019), `"fixed"` takes `loss_weights` alone.
        loss_weights (`tuple[float, float, float]`, *optional*, defaults to `(1.0, 1.0, 1.0)`):
            Constant factors of the fine, coarse and intensity loss, on top of the dynamic weighting.
        dwa_temperature (`float`, *optional*, defaults to 2.0):
            Temperature of dynamic weight averaging. Higher is closer to equal weights; it has an effect only with
            `loss_weighting="dwa"`.
        classifier_dropout (`float`, *optional*, defaults to 0.1):
            Dropout before the heads.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of newly initialised weights.
        num_labels (`int`, *optional*):
            Number of fine sentiment classes. Defaults to the number of names in `id2label`, or else 5.
        id2label (`dict[int, str]`, *optional*):
            Names of the fine classes, by number. Defaults to very negative, negative, neutral, positive and very
            positive if there are five, else to LABEL_0, LABEL_1 ...
        pooling (`Literal["attention", "first"]`, *optional*, defaults to `"attention"`):
            How the fused states become the vector that the heads read. `"attention"` is a learned attention over all
            positions; `"first"` passes the first token's state through a dense layer and tanh, as the classifiers of
            BERT and RoBERTa do, and is for a single encoder.
        kwargs (*optional*):
            Fields of `PretrainedConfig`, such as `label2id`.

    Example:

    ```python
    from hf_fusion import DyFuLMConfig, DyFuLMForSequenceClassification

    encoder = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = DyFuLMConfig(encoder_a_config=encoder, encoder_b_config=encoder, cross_fusion="mean", num_labels=3)
    model = DyFuLMForSequenceClassification(config)
    ```
    """

    model_type = "dyfulm"
    paper = "arXiv 2512.01410"
    sub_configs = {"encoder_a_config": AutoConfig, "encoder_b_config": AutoConfig}
    label_counts = {"num_labels": "id2label", "num_coarse_labels": "coarse_id2label"}
    usual_names = {"id2label": FINE_LABELS, "coarse_id2label": COARSE_LABELS}
    tuple_fields = ("intensity_range", "loss_weights")
    attribute_map = {"hidden_size": "fusion_hidden_size"}
    heads = {
        "logits": Head("fine", "id2label"),
        "coarse_logits": Head("coarse", "coarse_id2label"),
        "intensity": Head("intensity"),
    }
    answer_fields = ("num_labels", "id2label", "problem_type", "coarse_id2label", "intensity_range")
    loss_factors = {"distillation": 1.0}
    reads_windows = True
    # Left out by `Trainer.predict`, so that its predictions are `logits`, one array.
    keys_to_ignore_at_inference = [
        "coarse_logits",
        "intensity",
        "fine_loss",
        "coarse_loss",
        "intensity_loss",
        "loss_weights",
        "gate",
        "span_mask",
        "guidance",
        "pooler_output",
        "layer_attention_a",
        "layer_attention_b",
        "hidden_states",
        "hidden_states_b",
        "attentions",
        "attentions_b",
        "window_sums",
    ]

    def __init__(
        self,
        encoder_a_config: PretrainedConfig | dict | None = None,
        encoder_b_config: PretrainedConfig | dict | None = None,
        fusion_hidden_size: int | None = None,
        layer_fusion: Literal["bilstm", "mean", "last"] = "bilstm",
        layer_fusion_hidden_size: int = 128,
        cross_fusion: Literal["gate", "mean", "concat", "a", "b"] = "gate",
        gate_level: Literal["span", "sequence"] = "span",
        num_coarse_labels: int | None = None,
        coarse_id2label: dict[int, str] | None = None,
        intensity_range: tuple[float, float] = (0.0, 1.0),
        use_guidance: bool = True,
        loss_weighting: Literal["uncertainty", "dwa", "fixed"] = "uncertainty",
        loss_weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
        dwa_temperature: float = 2.0,
        classifier_dropout: float = 0.1,
        initializer_range: float = 0.02,
        num_labels: int | None = None,
        id2label: dict[int, str] | None = None,
        pooling: Literal["attention", "first"] = "attention",
        **kwargs,
    ):
        # it tells which encoders are needed
        check_choice("cross_fusion", cross_fusion, self.choices("cross_fusion"))
        encoders = {"encoder_a_config": encoder_a_config, "encoder_b_config": encoder_b_config}
        usual = {"encoder_a_config": ("roberta", "b"), "encoder_b_config": ("deberta-v2", "a")}
        for name, (model_type, alone) in usual.items():
            absent = encoders[name] is None and cross_fusion == alone
            setattr(self, name, None if absent else checked_config(name, encoders[name], model_type))
        self.layer_fusion = layer_fusion
        self.cross_fusion = cross_fusion
        self.gate_level = gate_level
        self.pooling = pooling
        self.loss_weighting = loss_weighting
        if fusion_hidden_size is None:
            first = self.encoder_b_config if cross_fusion == "b" else self.encoder_a_config
            fusion_hidden_size = first.hidden_size
        self.fusion_hidden_size = fusion_hidden_size
        self.layer_fusion_hidden_size = layer_fusion_hidden_size
        self.coarse_id2label = names_of_classes(
            "coarse_id2label", coarse_id2label, "num_coarse_labels", num_coarse_labels, COARSE_LABELS, 3
        )
        self.intensity_range = intensity_range
        self.use_guidance = use_guidance
        self.loss_weights = loss_weights
        self.dwa_temperature = dwa_temperature
        self.classifier_dropout = classifier_dropout
        self.initializer_range = initializer_range

        kwargs.update(num_labels=num_labels, id2label=id2label)
        settle_labels(kwargs, FINE_LABELS, len(FINE_LABELS))
        with as_value_error("No configuration of a DyFuLM"):
            add_code_map(kwargs, "DyFuLM")
            super().__init__(**kwargs)
            self.to_dict()  # fails where a field of transformers has a wrong type
        self.check()

    def check(self):
        """Raises `ValueError` if a field has no sensible value, or an encoder in use has no configuration.

        The model calls it again: `from_pretrained(..., field=value)` changes fields of a checked configuration.
        """
        self.check_annotations()
        for name, config in self.encoder_configs.items():
            if config is None:
                raise ValueError(f"cross_fusion={self.cross_fusion!r} needs `encoder_{name}_config`, which is absent.")
        if self.pooling == "first" and len(self.encoder_configs) > 1:
            raise ValueError(
                "pooling='first' reads the first token of a single encoder: set cross_fusion to 'a' or 'b'; it is "
                f"{self.cross_fusion!r}."
            )
        self._check_numbers()

    def _check_numbers(self):
        check_positive_integers(self, ("fusion_hidden_size", "layer_fusion_hidden_size"))
        check_range("intensity_range", self.intensity_range)
        for name in ("num_labels", "num_coarse_labels"):
            if getattr(self, name) < 2:
                raise ValueError(f"`{name}` must be at least 2 classes, got {getattr(self, name)}.")
        if len(self.loss_weights) != 3 or not all(map(is_number, self.loss_weights)) or min(self.loss_weights) < 0:
            raise ValueError(
                "`loss_weights` must be three numbers of at least 0 (fine, coarse, intensity), "
                f"got {self.loss_weights!r}."
            )
        for name in ("dwa_temperature", "initializer_range"):
            check_positive(name, getattr(self, name))
        check_probability("classifier_dropout", self.classifier_dropout)

    @property
    def has_gate(self):
        """`bool`: whether a gate fuses the two encoders."""
        return self.cross_fusion == "gate"

    @property
    def num_coarse_labels(self):
        """`int`: the number of coarse classes. Setting another one gives them their usual names."""
        return len(self.coarse_id2label)

    @num_coarse_labels.setter
    def num_coarse_labels(self, count):
        self.set_label_count("coarse_id2label", count)

    def to_dict(self):
        """All fields, as JSON can hold them."""
        return {**super().to_dict(), "num_coarse_labels": self.num_coarse_labels}

    @property
    def encoder_configs(self):
        """`dict`: the configurations of the encoders in use, by `"a"` and `"b"`."""
        configs = {"a": self.encoder_a_config, "b": self.encoder_b_config}
        return {self.cross_fusion: configs[self.cross_fusion]} if self.cross_fusion in configs else configs

    def get_text_config(self, *args, **kwargs):
        """The configuration that owns the vocabulary of `input_ids`: encoder A's (B's where A is absent)."""
        return next(iter(self.encoder_configs.values()))


__all__ = ["DyFuLMConfig"]
