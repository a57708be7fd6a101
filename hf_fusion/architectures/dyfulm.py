"""DyFuLM: reviews, read by two text encoders."""

import dataclasses
from dataclasses import dataclass

from hf_fusion.architectures.encoders import (
    TEACHER,
    first_layers,
    resolve_name,
    saved_processor,
    trained_model,
    two_encoders,
)
from hf_fusion.architectures.reviews import ReviewArchitecture, check_classes, class_fields
from hf_fusion.evaluation.diagnostics.analyze import analyze_reviews
from hf_fusion.evaluation.diagnostics.collect import untracked
from hf_fusion.evaluation.diagnostics.findings import Section
from hf_fusion.models.configuration_dyfulm import DyFuLMConfig
from hf_fusion.models.modeling_dyfulm import DyFuLMForSequenceClassification
from hf_fusion.models.processing_dyfulm import DyFuLMProcessor
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.fields import list_option, option


@dataclass
class DistillationFields:
    """Fields of a distillation: a trained DyFuLM teaches one with a single encoder."""

    teacher: str | None = option(
        "Experimental: a trained DyFuLM (a run folder, also of LoRA, or a name on the Hub) to learn from; the model is "
        "then its student and must have a single encoder (cross_fusion a or b)."
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


@dataclass
class DyFuLMFields(DistillationFields):
    """Fields of a recipe that only DyFuLM has, beside those of [`DyFuLMConfig`]."""

    encoder_a: dict | str | None = option(
        "Pretrained encoder A: a name on the Hub, a folder, or package:NAME/FOLDER for weights inside an installed "
        "Python package. Or a mapping (JSON) for one from scratch: model_type and fields of its configuration, and "
        "tokenizer (bpe, unigram or wordpiece, trained on the training texts) with vocab_size. Or, for a student, "
        "teacher: encoder A of its teacher, with its tokenizer."
    )
    encoder_b: dict | str | None = option("Encoder B, likewise; not needed with cross_fusion a.")
    encoder_layers: int | None = option("Keep only the first so many layers of pretrained encoders.")
    fusion_hidden_size: int | None = option("Width of the fused features; defaults to encoder A's.")


class DyFuLMArchitecture(ReviewArchitecture):
    """Builds and diagnoses [`DyFuLMForSequenceClassification`]."""

    config_class = DyFuLMConfig
    recipe_fields = DyFuLMFields
    settled_fields = ("encoder_a_config", "encoder_b_config", "num_labels", "num_coarse_labels", "intensity_range")

    def check_recipe(self, model_args) -> None:
        """Raises [`RecipeError`] where these fields make no sense, or would do nothing."""
        if model_args.teacher is None:
            defaults = DistillationFields()
            for name in (item.name for item in dataclasses.fields(DistillationFields)):
                if getattr(model_args, name) != getattr(defaults, name):
                    raise RecipeError(f"`{name}` does nothing without `teacher`.")
        weights = model_args.distillation_weights
        if len(weights) != 4 or min(weights) < 0 or not any(weights):
            raise RecipeError(
                "`distillation_weights` must be four numbers of at least 0 (fine, coarse, intensity, pooled vector), "
                f"one of them above it, got {weights}."
            )
        if not model_args.distillation_temperature > 0:
            raise RecipeError(f"`distillation_temperature` must be above 0, got {model_args.distillation_temperature}.")
        if model_args.label_weight < 0:
            raise RecipeError(f"`label_weight` must be at least 0, got {model_args.label_weight}.")
        if model_args.teacher and model_args.lora_encoders:
            raise RecipeError("`lora_encoders` keeps the encoder as it is, and a student is to change: leave it out.")

    def build(self, model_args, data_args, train, teacher=None):
        """As [`Architecture.build`], see [`build_dyfulm`]."""
        return build_dyfulm(model_args, data_args.rules(), train["text"], teacher)

    def diagnose(self, classify, rows, batch_size, checkpoint, data_args, track=untracked) -> list[Section]:
        """As [`Architecture.diagnose`], see [`analyze_reviews`]."""
        return analyze_reviews(classify, rows, checkpoint, batch_size, track)


def build_dyfulm(model_args, rules, texts, teacher=None):
    """
    Builds or loads the DyFuLM that a recipe describes.

    Args:
        model_args ([`ModelArguments`]): the recipe's model part.
        rules ([`LabelRules`]): number and bounds of the classes.
        texts (`Iterable[str]`): training texts, for tokenizers that are trained.
        teacher ([`FusionSentimentPipeline`], *optional*): of a distillation; where a recipe has `encoder_a: teacher`,
            its encoder A and tokenizer are the first encoder.

    Returns:
        ([`DyFuLMForSequenceClassification`], [`DyFuLMProcessor`]).

    Raises:
        RecipeError: if the recipe describes no model.
    """
    if model_args.checkpoint:
        if model_args.encoder_layers is not None:
            raise RecipeError("`encoder_layers` is for new models: with `checkpoint` the encoders are as they are.")
        checkpoint = resolve_name(model_args.checkpoint)
        model = trained_model(DyFuLMForSequenceClassification, checkpoint, model_args.config_fields())
        check_classes(model.config, rules)
        return model, saved_processor(DyFuLMProcessor, checkpoint, model_args)
    specs = {"a": model_args.encoder_a, "b": model_args.encoder_b}
    if specs["a"] == TEACHER:
        specs["a"] = _encoder_a_of(teacher)
    encoders, tokenizers = two_encoders(specs, model_args.cross_fusion, model_args.max_length, texts)
    if model_args.encoder_layers is not None:
        encoders = {name: first_layers(encoder, model_args.encoder_layers) for name, encoder in encoders.items()}
    fields = class_fields(rules, model_args.config_fields())
    model = DyFuLMForSequenceClassification.from_encoders(**encoders, **fields)
    return model, DyFuLMProcessor(*tokenizers, max_length=model_args.max_length)


def _encoder_a_of(teacher):
    if teacher is None or "a" not in teacher.model.config.encoder_configs:
        raise RecipeError(
            f"`encoder_a: {TEACHER}` takes encoder A of `teacher`"
            + (", which is missing." if teacher is None else ", which has an encoder B alone.")
        )
    return teacher
