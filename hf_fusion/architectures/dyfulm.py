"""DyFuLM: two text encoders read reviews."""

import dataclasses
from dataclasses import dataclass

from hf_fusion.architectures.encoders import (
    TEACHER,
    first_layers,
    load_saved_processor,
    load_trained_model,
    resolve_name,
    two_encoders,
)
from hf_fusion.architectures.reviews import ReviewArchitecture, add_class_values, check_classes, class_fields
from hf_fusion.evaluation.diagnostics.analyze import analyze_reviews
from hf_fusion.evaluation.diagnostics.collect import untracked
from hf_fusion.evaluation.diagnostics.findings import Section
from hf_fusion.models.configuration_dyfulm import DyFuLMConfig
from hf_fusion.models.modeling_dyfulm import DyFuLMForSequenceClassification
from hf_fusion.models.processing_dyfulm import DyFuLMProcessor
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.fields import list_option, option

# The weights change in a training, and with them the probabilities.
_UNCALIBRATED = {"temperature": 1.0, "coarse_temperature": 1.0, "abstain_below": None}


@dataclass
class DistillationFields:
    """Recipe fields of a distillation from a trained DyFuLM to one with a single encoder."""

    teacher: str | None = option(
        "Experimental: a trained DyFuLM to distil (a run folder, also with a LoRA adapter, or a name on the Hub). The "
        "model is then its student and must have a single encoder (cross_fusion a or b)."
    )
    distillation_weights: list[float] = list_option(
        "Weights of the distillation losses: fine classes, coarse classes, intensity, and the pooled vector that the "
        "heads read. A much smaller student may not be able to match the pooled vector.",
        (1.0, 1.0, 10.0, 0.0),
    )
    distillation_temperature: float = option(
        "Temperature of the class probabilities of teacher and student; higher values stress unlikely classes.", 2.0
    )
    label_weight: float = option("Weight of the loss on the labels in a distillation; 0 uses the teacher alone.", 1.0)
    transfer_dataset: str | None = option(
        "Further texts, on which a student learns the teacher's answers alone: a file or a name with the columns of "
        "`dataset`, or dataset itself, whose other training rows they are. Labels are not read. Rows of its validation "
        "and test splits are left out, and texts that are training, validation or test rows of `dataset`."
    )
    transfer_sources: list[str] | None = option("Take only the further texts whose `source` is one of these.")
    max_transfer_samples: int | None = option(
        "Number of further texts, drawn with the run's data_seed or seed; all by default."
    )
    teacher_answers: str | None = option(
        "Folder for the teacher's answers, which students of one teacher can share; by default the run folder."
    )


@dataclass
class DyFuLMFields(DistillationFields):
    """Recipe fields of DyFuLM in addition to those of [`DyFuLMConfig`]."""

    encoder_a: dict | str | None = option(
        "Pretrained encoder A: a name on the Hub, a folder, or package:NAME/FOLDER for weights inside an installed "
        "Python package. Or a mapping (JSON) for a new encoder: model_type and fields of its configuration, and "
        "tokenizer (bpe, unigram or wordpiece, trained on the training texts) with vocab_size. Or, for a student, "
        "teacher: encoder A and tokenizer of its teacher."
    )
    encoder_b: dict | str | None = option("Encoder B, likewise; not needed with cross_fusion a.")
    calibrate: bool = option(
        "Fit a temperature for the fine and the coarse classes on validation, after the training: labels stay, their "
        "probabilities become right on average.",
        True,
    )
    target_accuracy: float | None = option(
        "Accuracy of the answers that are given, such as 0.9: sets abstain_below by the validation rows. The answers "
        "below it are unsure."
    )
    encoder_layers: int | None = option("Number of layers to keep of pretrained encoders, from the first.")
    fusion_hidden_size: int | None = option("Width of the fused features; by default that of encoder A.")


class DyFuLMArchitecture(ReviewArchitecture):
    """Builds and diagnoses [`DyFuLMForSequenceClassification`]."""

    config_class = DyFuLMConfig
    recipe_fields = DyFuLMFields
    settled_fields = (
        "encoder_a_config", "encoder_b_config", "num_labels", "num_coarse_labels", "coarse_starts", "has_intensity",
        "intensity_range", "class_values", "temperature", "coarse_temperature",
    )  # fmt: skip

    def check_recipe(self, model_args) -> None:
        """Raises [`RecipeError`] for values out of range, and for fields without effect."""
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
        self._check_calibration(model_args)
        if not model_args.distillation_temperature > 0:
            raise RecipeError(f"`distillation_temperature` must be above 0, got {model_args.distillation_temperature}.")
        for name in ("transfer_sources", "max_transfer_samples"):
            if getattr(model_args, name) is not None and model_args.transfer_dataset is None:
                raise RecipeError(f"`{name}` does nothing without `transfer_dataset`.")
        if model_args.max_transfer_samples is not None and model_args.max_transfer_samples < 1:
            raise RecipeError(f"`max_transfer_samples` must be at least 1, got {model_args.max_transfer_samples}.")
        if model_args.label_weight < 0:
            raise RecipeError(f"`label_weight` must be at least 0, got {model_args.label_weight}.")
        if model_args.teacher and model_args.lora_encoders:
            raise RecipeError("`lora_encoders` freezes the encoder, but a student trains it: remove it.")

    def _check_calibration(self, model_args):
        target = model_args.target_accuracy
        if target is None:
            return
        if not 0 < target < 1:
            raise RecipeError(f"`target_accuracy` must lie between 0 and 1, got {target}.")
        if model_args.abstain_below is not None:
            raise RecipeError("`target_accuracy` chooses `abstain_below`: remove one of the two.")
        if not model_args.calibrate:
            raise RecipeError("`target_accuracy` does nothing without `calibrate`.")

    def zero_shot_config(self, data_args) -> DyFuLMConfig:
        """Returns the classes of the data, without an encoder of use; see [`Architecture.zero_shot_config`]."""
        return DyFuLMConfig({"model_type": "bert"}, cross_fusion="a", **class_fields(data_args.rules(), {}))

    def build(self, model_args, data_args, train, teacher=None):
        """Builds the model by [`build_dyfulm`]; see [`Architecture.build`]."""
        return build_dyfulm(model_args, data_args.rules(), train["text"], teacher)

    def diagnose(self, classify, rows, batch_size, checkpoint, data_args, track=untracked) -> list[Section]:
        """Diagnoses the model by [`analyze_reviews`]; see [`Architecture.diagnose`]."""
        return analyze_reviews(classify, rows, checkpoint, batch_size, track)


def build_dyfulm(model_args, rules, texts, teacher=None):
    """
    Builds or loads the DyFuLM of a recipe.

    Args:
        model_args ([`ModelArguments`]): the model part of the recipe.
        rules ([`LabelRules`]): the number and the bounds of the classes.
        texts (`Iterable[str]`): the training texts, for new tokenizers.
        teacher ([`FusionSentimentPipeline`], *optional*): the teacher of a distillation. With `encoder_a: teacher` the
            student starts from its encoder A and tokenizer.

    Returns:
        `tuple`: the [`DyFuLMForSequenceClassification`] and its [`DyFuLMProcessor`].

    Raises:
        RecipeError: if the recipe does not describe a model.
    """
    if model_args.checkpoint:
        if model_args.encoder_layers is not None:
            raise RecipeError("`encoder_layers` is for new models; the encoders of `checkpoint` keep their layers.")
        checkpoint = resolve_name(model_args.checkpoint)
        fields = {**_UNCALIBRATED, **model_args.config_fields()}
        model = load_trained_model(DyFuLMForSequenceClassification, checkpoint, fields)
        check_classes(model.config, rules)
        add_class_values(model.config, rules)
        return model, load_saved_processor(DyFuLMProcessor, checkpoint, model_args)
    specs = {"a": model_args.encoder_a, "b": model_args.encoder_b}
    if specs["a"] == TEACHER:
        specs["a"] = _copy_encoder_a(teacher)
    encoders, tokenizers = two_encoders(specs, model_args.cross_fusion, model_args.max_length, texts)
    if model_args.encoder_layers is not None:
        encoders = {name: first_layers(encoder, model_args.encoder_layers) for name, encoder in encoders.items()}
    fields = class_fields(rules, model_args.config_fields())
    model = DyFuLMForSequenceClassification.from_encoders(**encoders, **fields)
    return model, DyFuLMProcessor(*tokenizers, max_length=model_args.max_length)


def _copy_encoder_a(teacher):
    if teacher is None or "a" not in teacher.model.config.encoder_configs:
        raise RecipeError(
            f"`encoder_a: {TEACHER}` takes encoder A of `teacher`"
            + (", which is missing." if teacher is None else ", which only has encoder B.")
        )
    return teacher
