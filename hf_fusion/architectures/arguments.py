"""What a recipe says about the model."""

import dataclasses
import inspect
from dataclasses import dataclass
from typing import Any

from hf_fusion.models.configuration_dashfusion import DashFusionConfig
from hf_fusion.models.configuration_dyfulm import DyFuLMConfig
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.fields import check_belongs, list_option, option

CONFIGS = {"dyfulm": DyFuLMConfig, "dashfusion": DashFusionConfig}


@dataclass
class DistillationFields:
    """Fields of a distillation: a trained DyFuLM teaches one with a single encoder."""

    teacher: str | None = option(
        "A trained DyFuLM (a run folder, also of LoRA, or a name on the Hub) to learn from; the model is then its "
        "student and must have a single encoder (cross_fusion a or b)."
    )
    distillation_weights: list[float] = list_option(
        "Factors of what the student learns of its teacher: fine classes, coarse classes, intensity, and the pooled "
        "vector that the heads read. That one may be more than a much smaller student can follow.",
        (1.0, 1.0, 10.0, 0.0),
    )
    distillation_temperature: float = option(
        "Temperature that softens the classes of teacher and student; higher shows more of the unlikely ones.", 2.0
    )
    label_weight: float = option("Factor of the loss on the labels, beside the teacher; 0 learns from it alone.", 1.0)

    def check_distillation(self) -> None:
        """Raises [`RecipeError`] where these fields make no sense, or would do nothing."""
        if self.teacher is None:
            defaults = DistillationFields()
            for name in (item.name for item in dataclasses.fields(DistillationFields)):
                if getattr(self, name) != getattr(defaults, name):
                    raise RecipeError(f"`{name}` does nothing without `teacher`.")
        weights = self.distillation_weights
        if len(weights) != 4 or min(weights) < 0 or not any(weights):
            raise RecipeError(
                "`distillation_weights` must be four numbers of at least 0 (fine, coarse, intensity, pooled vector), "
                f"one of them above it, got {weights}."
            )
        if not self.distillation_temperature > 0:
            raise RecipeError(f"`distillation_temperature` must be above 0, got {self.distillation_temperature}.")
        if self.label_weight < 0:
            raise RecipeError(f"`label_weight` must be at least 0, got {self.label_weight}.")
        if self.teacher and self.lora_encoders:
            raise RecipeError("`lora_encoders` keeps the encoder as it is, and a student is to change: leave it out.")


@dataclass
class DyFuLMFields(DistillationFields):
    """Fields that only DyFuLM has."""

    encoder_a: dict | str | None = option(
        "Pretrained encoder A: a name on the Hub, a folder, or package:NAME/FOLDER for weights inside an installed "
        "Python package. Or a mapping (JSON) for one from scratch: model_type and fields of its configuration, and "
        "tokenizer (bpe, unigram or wordpiece, trained on the training texts) with vocab_size. Or, for a student, "
        "teacher: encoder A of its teacher, with its tokenizer."
    )
    encoder_b: dict | str | None = option("Encoder B, likewise; not needed with cross_fusion a.")
    encoder_layers: int | None = option("Keep only the first so many layers of pretrained encoders.")
    fusion_hidden_size: int | None = option("Width of the fused features; defaults to encoder A's.")
    layer_fusion: str | None = option("bilstm, mean or last.")
    layer_fusion_hidden_size: int | None = option("Width of the layer BiLSTM, per direction.")
    cross_fusion: str | None = option("gate, mean, concat, or a single encoder: a or b.")
    gate_level: str | None = option("span or sequence.")
    use_guidance: bool | None = option("Whether coarse sentiment and intensity guide the fine head.")
    loss_weighting: str | None = option("uncertainty, dwa or fixed.")
    loss_weights: list[float] | None = option("Constant factors of fine, coarse and intensity loss.")


@dataclass
class DashFusionFields:
    """Fields that only DashFusion has."""

    text_encoder: dict | str | None = option(
        "The text encoder: a name, a folder (also of a DyFuLM), package:NAME/FOLDER, or a mapping for one from "
        "scratch, as encoder_a. A mapping with model_type dyfulm, encoder_a, encoder_b and other fields of DyFuLM "
        "reads the text with two encoders."
    )
    hidden_size: int | None = option("Width of all streams.")
    num_attention_heads: int | None = option("Attention heads outside the text encoder.")
    intermediate_size: int | None = option("Width of the feed-forward layers.")
    num_encoder_layers: int | None = option("Layers of the audio and vision encoders.")
    max_audio_length: int | None = option("Most audio frames of a clip; defaults to the longest training clip.")
    max_vision_length: int | None = option("Most vision frames, likewise.")
    fusion: str | None = option("hbf, concat_attention or concat.")
    num_fusion_layers: int | None = option("Levels of the fusion.")
    num_bottleneck_tokens: int | None = option("Bottleneck tokens of the first level.")
    temporal_alignment: bool | None = option("Whether the anchor attends to the others.")
    alignment_head_size: int | None = option("Width of a head of the temporal alignment.")
    anchor: str | None = option("text, audio, vision or symmetric.")
    semantic_alignment: bool | None = option("Whether modalities of a clip are pulled together.")
    supervised_contrastive: bool | None = option("Whether clips of a class are pulled together.")
    contrastive_weight: float | None = option("Factor of the contrastive losses.")
    contrastive_label_step: float | None = option("Scores of one class round to the same multiple of it.")
    temperature: float | None = option("Temperature of the contrastive losses.")
    num_positives: int | None = option("Positive partners of each clip in the contrastive loss.")
    num_hard_negatives: int | None = option("Most similar partners of other classes.")
    num_easy_negatives: int | None = option("Least similar partners of other classes.")
    gather_negatives: bool | None = option("Contrast clips across the batches of all processes.")
    modality_dropout: float | None = option("Probability that training hides a modality.")
    modality_distillation: float | None = option(
        "The same in a second pass through the fusion, which learns the answers of the first; unlike modality_dropout "
        "it takes little from the answers to whole clips."
    )
    hidden_dropout_prob: float | None = option("Dropout outside the text encoder.")
    attention_probs_dropout_prob: float | None = option(
        "Dropout of attention weights outside the text encoder; defaults to hidden_dropout_prob. 0 is faster on a CPU."
    )


@dataclass
class ModelArguments(DashFusionFields, DyFuLMFields):
    """The model: encoders, and how they are fused. Fields left out have the defaults of the configuration class."""

    model_type: str = option("dyfulm (two text encoders) or dashfusion (text, audio and vision).", "dyfulm")
    checkpoint: str | None = option("A trained model to go on from, instead of encoders.")
    max_length: int | None = option(
        "Most tokens of a text; defaults to what the encoders allow, at most 512 (dyfulm) or 128 (dashfusion)."
    )
    classifier_dropout: float | None = option("Dropout before the heads.")
    initializer_range: float | None = option("Standard deviation of new weights.")
    lora_encoders: str | None = option(
        "Train the encoders by LoRA: a, b or both of a DyFuLM, or text; fusion and heads are trained in full."
    )
    lora_rank: int = option("Rank of the LoRA matrices.", 8)
    lora_alpha: int = option("Scale of the LoRA update, over the rank.", 16)
    lora_dropout: float = option("Dropout of the LoRA input.", 0.05)
    merge_lora: bool = option("Save a plain checkpoint with the adapter merged in, instead of the adapter.", True)

    def __post_init__(self):
        if self.model_type not in CONFIGS:
            raise RecipeError(f"`model_type` must be one of {', '.join(CONFIGS)}, got {self.model_type!r}.")
        check_belongs(self, {"dyfulm": DyFuLMFields, "dashfusion": DashFusionFields}, self.model_type)
        self.check_distillation()

    def config_fields(self) -> dict[str, Any]:
        """What was set of the configuration class."""
        names = set(inspect.signature(CONFIGS[self.model_type].__init__).parameters)
        own = [item.name for item in dataclasses.fields(self) if item.name in names]
        return {name: getattr(self, name) for name in own if getattr(self, name) is not None}
