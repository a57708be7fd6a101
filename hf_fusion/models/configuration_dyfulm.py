"""Configuration of DyFuLM."""

from typing import Literal

from transformers import AutoConfig, PretrainedConfig

from .configuration_common import (
    FusionConfigMixin,
    Head,
    OptionalHeads,
    add_code_map,
    as_tuple,
    as_value_error,
    check_choice,
    check_class_values,
    check_coarse_starts,
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
            Number of coarse sentiment classes, 0 for a model without a coarse head. Defaults to the number of names in
            `coarse_id2label`, or else 3.
        coarse_id2label (`dict[int, str]`, *optional*):
            Names of the coarse classes, by number. Defaults to negative, neutral and positive if there are three, else
            to LABEL_0, LABEL_1 ...
        intensity_range (`tuple[float, float]`, *optional*, defaults to `(0.0, 1.0)`):
            Lowest and highest intensity. The head is a sigmoid scaled to this range.
        use_guidance (`bool`, *optional*, defaults to `True`):
            Whether coarse sentiment and intensity modulate the features of the fine head; without these two heads there
            is no guidance.
        loss_weighting (`Literal["uncertainty", "dwa", "fixed"]`, *optional*, defaults to `"uncertainty"`):
            How the losses of the three tasks are weighted. `"uncertainty"` learns the weights (Kendall, Gal & Cipolla
            2018), `"dwa"` is dynamic weight averaging (Liu et al. 2019), `"fixed"` takes `loss_weights` alone.
        loss_weights (`tuple[float, float, float]`, *optional*, defaults to `(1.0, 1.0, 1.0)`):
            Constant factors of the fine, coarse and intensity loss, on top of the dynamic weighting. Those of absent
            heads do not count.
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
        has_intensity (`bool`, *optional*, defaults to `True`):
            Whether the model has an intensity head.
        coarse_starts (`list[int]`, *optional*):
            The fine class that each coarse class begins with, by which a coarse class follows from a fine one. Without
            it the names of the classes tell, see [`fine_to_coarse`].
        fine_loss (`Literal["cross_entropy", "ordinal_log_loss", "corn"]`, *optional*, defaults to `"cross_entropy"`):
            Loss of the fine classes. `"cross_entropy"` is the paper's. The other two are for classes that are numbered
            in their order: in `"ordinal_log_loss"` (Castagnos et al. 2022) probability costs the more, the further it
            is from the label; with `"corn"` (Shi et al. 2023) the head says for each class but the last whether the
            text lies above it.
        focal_gamma (`float`, *optional*, defaults to 0.0):
            Exponent of the focal loss (Lin et al. 2017) of fine and coarse classes, which counts rows the less, the
            better they are predicted; 2 is usual, 0 is plain cross-entropy. Only with `fine_loss="cross_entropy"`.
        class_values (`list[float]`, *optional*):
            Value of each fine class on the scale of the labels, in ascending order, such as 1 to 5 stars. Answers then
            have `expected`, the mean value by the probabilities. Training takes them from the data; `None` where they
            are not known.
        temperature (`float`, *optional*, defaults to 1.0):
            Temperature of the fine classes: answers have the probabilities of the logits divided by it. It is fitted on
            validation rows (`hf-fusion calibrate`); logits and losses do not depend on it.
        coarse_temperature (`float`, *optional*, defaults to 1.0):
            Temperature of the coarse classes.
        abstain_below (`float`, *optional*):
            Probability in [0, 1) below which the best fine class is no answer: the label is then `None`, and the answer
            is marked as `unsure`. By default, and with 0, every input gets a label.
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
    least_classes = {"coarse_id2label": 0}
    usual_names = {"id2label": FINE_LABELS, "coarse_id2label": COARSE_LABELS}
    tuple_fields = ("intensity_range", "loss_weights")
    attribute_map = {"hidden_size": "fusion_hidden_size"}
    heads = OptionalHeads({
        "logits": Head("fine", "id2label", temperature="temperature"),
        "coarse_logits": Head("coarse", "coarse_id2label", temperature="coarse_temperature"),
        "intensity": Head("intensity", switch="has_intensity"),
    })  # fmt: skip
    class_fields = ("coarse_starts",)
    answer_fields = (
        "num_labels", "id2label", "problem_type", "coarse_id2label", "coarse_starts", "has_intensity",
        "intensity_range", "class_values", "temperature", "coarse_temperature", "abstain_below",
    )  # fmt: skip
    answer_defaults = {"temperature": 1.0, "coarse_temperature": 1.0, "abstain_below": None}
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
        has_intensity: bool = True,
        coarse_starts: list[int] | None = None,
        fine_loss: Literal["cross_entropy", "ordinal_log_loss", "corn"] = "cross_entropy",
        focal_gamma: float = 0.0,
        class_values: list[float] | None = None,
        temperature: float = 1.0,
        coarse_temperature: float = 1.0,
        abstain_below: float | None = None,
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
            "coarse_id2label", coarse_id2label, "num_coarse_labels", num_coarse_labels, COARSE_LABELS, 3, least=0
        )
        self.has_intensity = has_intensity
        self.coarse_starts = None if coarse_starts is None else list(as_tuple("coarse_starts", coarse_starts))
        self.intensity_range = intensity_range
        self.use_guidance = use_guidance
        self.loss_weights = loss_weights
        self.dwa_temperature = dwa_temperature
        self.classifier_dropout = classifier_dropout
        self.initializer_range = initializer_range
        self.fine_loss = fine_loss
        self.focal_gamma = focal_gamma
        self.temperature = temperature
        self.coarse_temperature = coarse_temperature
        self.abstain_below = abstain_below

        kwargs.update(num_labels=num_labels, id2label=id2label)
        settle_labels(kwargs, FINE_LABELS, len(FINE_LABELS))
        with as_value_error("No configuration of a DyFuLM"):
            add_code_map(kwargs, "DyFuLM")
            super().__init__(**kwargs)
            self.to_dict()  # fails where a field of transformers has a wrong type
        self.class_values = class_values
        self.check()

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name in ("id2label", "label2id") and self.class_values and len(self.class_values) != len(value or ()):
            self.class_values = None  # not known of other classes

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
        if self.num_labels < 2:
            raise ValueError(f"`num_labels` must be at least 2 classes, got {self.num_labels}.")
        if self.num_coarse_labels == 1:
            raise ValueError("`num_coarse_labels` must be at least 2 classes, or 0 for no coarse head, got 1.")
        check_coarse_starts(self.coarse_starts, self.num_coarse_labels, self.num_labels)
        if len(self.loss_weights) != 3 or not all(map(is_number, self.loss_weights)) or min(self.loss_weights) < 0:
            raise ValueError(
                "`loss_weights` must be three numbers of at least 0 (fine, coarse, intensity), "
                f"got {self.loss_weights!r}."
            )
        for name in ("dwa_temperature", "initializer_range", "temperature", "coarse_temperature"):
            check_positive(name, getattr(self, name))
        check_probability("classifier_dropout", self.classifier_dropout)
        if self.abstain_below is not None:
            check_probability("abstain_below", self.abstain_below)
        check_class_values(self.class_values, self.num_labels)
        if not is_number(self.focal_gamma) or self.focal_gamma < 0:
            raise ValueError(f"`focal_gamma` must be at least 0, got {self.focal_gamma!r:.100}.")
        if self.focal_gamma > 0 and self.fine_loss != "cross_entropy":
            raise ValueError(
                f"`focal_gamma` {self.focal_gamma:g} changes a cross-entropy, but `fine_loss` is {self.fine_loss}: set "
                "`fine_loss` to cross_entropy, or `focal_gamma` to 0."
            )

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
