"""DashFusion: a text encoder and frame encoders for audio and vision read clips."""

from dataclasses import dataclass

from transformers import AutoConfig

from hf_fusion.architectures.clips import ClipArchitecture, check_clip_classes, check_widths, name_clip_classes
from hf_fusion.architectures.encoders import (
    encoder_and_tokenizer,
    load_named,
    load_saved_processor,
    load_trained_model,
    resolve_name,
    two_encoders,
)
from hf_fusion.data.arrow_rows import ArrowRows, in_batches, lengths_of
from hf_fusion.data.clips import SYNTHETIC, has_modality
from hf_fusion.data.prepare import prepared_statistics
from hf_fusion.evaluation.diagnostics.analyze import analyze_clips
from hf_fusion.evaluation.diagnostics.collect import untracked
from hf_fusion.evaluation.diagnostics.findings import Section
from hf_fusion.media.extractor import check_extraction, for_checkpoint, load_extractor
from hf_fusion.models.configuration_dashfusion import DashFusionConfig
from hf_fusion.models.feature_extraction_dashfusion import STREAMS, DashFusionFeatureExtractor
from hf_fusion.models.modeling_dashfusion import DashFusionForSequenceClassification
from hf_fusion.models.modeling_dyfulm import DyFuLMForSequenceClassification
from hf_fusion.models.processing_dashfusion import DEFAULT_MAX_LENGTH, DashFusionProcessor
from hf_fusion.models.processing_dyfulm import DyFuLMProcessor
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.fields import option

# The smallest one, of a model that reads no text.
_UNUSED_TEXT_ENCODER = {
    "model_type": "bert", "tokenizer": "wordpiece", "vocab_size": 100, "hidden_size": 16, "intermediate_size": 16,
    "num_hidden_layers": 1, "num_attention_heads": 1,
}  # fmt: skip


@dataclass
class DashFusionFields:
    """Recipe fields of DashFusion in addition to those of [`DashFusionConfig`]."""

    text_encoder: dict | str | None = option(
        "The text encoder: a name, a folder (also of a DyFuLM), package:NAME/FOLDER, or a mapping for a new one, see "
        "encoder_a. A mapping with model_type dyfulm, encoder_a, encoder_b and other fields of DyFuLM creates a text "
        "encoder with two encoders."
    )
    max_audio_length: int | None = option(
        "Maximum number of audio frames; by default that of the longest training clip."
    )
    max_vision_length: int | None = option(
        "Maximum number of vision frames; by default that of the longest training clip."
    )


class DashFusionArchitecture(ClipArchitecture):
    """Builds and diagnoses [`DashFusionForSequenceClassification`]."""

    config_class = DashFusionConfig
    recipe_fields = DashFusionFields
    settled_fields = (
        "text_config",
        "audio_feature_size",
        "vision_feature_size",
        "modalities",
        "label_range",
        "num_labels",
        "id2label",
        "problem_type",
    )

    def build(self, model_args, data_args, train, teacher=None):
        """Builds the model by [`build_dashfusion`], without distillation; see [`Architecture.build`]."""
        return build_dashfusion(model_args, data_args, train)

    def diagnose(self, classify, rows, batch_size, checkpoint, data_args, track=untracked) -> list[Section]:
        """Diagnoses the model by [`analyze_clips`]; see [`Architecture.diagnose`]."""
        corpus = (data_args.dataset_options or {}) if data_args.dataset == SYNTHETIC else None
        return analyze_clips(classify, rows, checkpoint, batch_size, track, corpus)


def build_dashfusion(model_args, data_args, clips):
    """
    Builds or loads the DashFusion of a recipe, for the widths and lengths of the training clips.

    Args:
        model_args ([`ModelArguments`]): the model part of the recipe.
        data_args ([`DataArguments`]): the data part of the recipe.
        clips (`Dataset`): the training split, on which the normalisation is fitted.

    Returns:
        `tuple`: the [`DashFusionForSequenceClassification`] and its [`DashFusionProcessor`].

    Raises:
        RecipeError: if the recipe does not describe a model, or the checkpoint reads frames of another width.
    """
    fields = {**model_args.config_fields(), "modalities": tuple(data_args.modalities)}
    if not data_args.classes:
        fields["label_range"] = tuple(data_args.label_range)
    if model_args.checkpoint:
        checkpoint = resolve_name(model_args.checkpoint)
        if not data_args.normalize:
            raise RecipeError("`normalize` is for new models; the processor of `checkpoint` keeps its normalisation.")
        model = load_trained_model(DashFusionForSequenceClassification, checkpoint, fields)
        check_clip_classes(model.config, data_args.classes, data_args.several_labels)
        name_clip_classes(model.config, data_args.classes)
        check_widths(model.config, clips)
        _check_modalities(data_args, clips)
        processor = load_saved_processor(DashFusionProcessor, checkpoint, model_args)
        check_extraction(processor, data_args.dataset)
        return model, processor
    text_encoder = model_args.text_encoder
    if text_encoder is None:
        if "text" in data_args.modalities:
            raise RecipeError("`text_encoder` is missing: set a name, a folder, or a mapping for a new one.")
        text_encoder = _UNUSED_TEXT_ENCODER
        fields.setdefault("anchor", data_args.modalities[0])
    _check_modalities(data_args, clips)
    texts = [text for text in clips["text"] if text is not None] if "text" in clips.column_names else []
    encoder, tokenizers = _text_encoder(text_encoder, model_args.max_length, texts)
    extractor = feature_extractor_for(fields, data_args, clips)
    sizes = {f"{name}_feature_size": getattr(extractor, f"{name}_feature_size") for name in STREAMS}
    sizes |= {f"max_{name}_length": getattr(extractor, f"max_{name}_length") for name in STREAMS}
    if data_args.classes:
        fields["id2label"] = dict(enumerate(data_args.classes))
        kind = "multi" if data_args.several_labels else "single"
        fields["problem_type"] = f"{kind}_label_classification"
    model = DashFusionForSequenceClassification.from_text_encoder(encoder, **{**fields, **sizes})
    tokenizer, tokenizer_b = (*tokenizers, None)[:2]
    return model, DashFusionProcessor(tokenizer, extractor, tokenizer_b, max_length=model_args.max_length)


def _text_encoder(spec, max_length, texts):
    """Returns the text encoder (a name, a configuration or a DyFuLM) and its tokenizers."""
    if isinstance(spec, dict) and spec.get("model_type") == "dyfulm":
        fields = {name: value for name, value in spec.items() if name != "model_type"}
        specs = {name: fields.pop(f"encoder_{name}", None) for name in ("a", "b")}
        encoders, tokenizers = two_encoders(specs, fields.get("cross_fusion"), max_length, texts)
        return DyFuLMForSequenceClassification.from_encoders(**encoders, **fields).dyfulm, tokenizers
    if isinstance(spec, str) and load_named("text_encoder", AutoConfig, resolve_name(spec)).model_type == "dyfulm":
        return resolve_name(spec), DyFuLMProcessor.from_pretrained(resolve_name(spec)).tokenizers
    encoder, tokenizer = encoder_and_tokenizer("text_encoder", spec, max_length, DEFAULT_MAX_LENGTH, texts)
    return encoder, [tokenizer]


def feature_extractor_for(fields, data_args, clips):
    """
    Creates a feature extractor for the widths and lengths of the training clips, fitted on them.

    Args:
        fields (`dict`): the configuration fields that the recipe sets.
        data_args ([`DataArguments`]): the data part of the recipe.
        clips (`Dataset`): the training split.
    """
    sizes = {}
    for name in STREAMS:
        there = name in clips.column_names
        sizes[f"{name}_feature_size"] = clips.features[name].shape[1] if there else 1
        longest = max(lengths_of(clips, name), default=1) if there else 1
        sizes[f"max_{name}_length"] = fields.get(f"max_{name}_length") or max(longest, 1)
    extractor = DashFusionFeatureExtractor(**sizes, **_media_of(data_args))
    known = prepared_statistics(data_args.dataset, clips) or {}
    for name in STREAMS if data_args.normalize else ():
        if name in clips.column_names and name in known:
            extractor.set_statistics(name, *known[name])
        elif name in clips.column_names:
            extractor.fit(name, (row[name] for row in in_batches(ArrowRows(clips.select_columns([name])))))
    return extractor


def _media_of(data_args):
    """The settings and networks that made the frames of the data, which travel with the checkpoint."""
    extractor = load_extractor(data_args.dataset)
    return {} if extractor is None else for_checkpoint(extractor, data_args.modalities)


def _check_modalities(data_args, clips):
    """Raises an error if no training clip has one of the modalities of the model."""
    there = [name for name in data_args.modalities if has_modality(clips, name)]
    if len(there) < len(data_args.modalities):
        absent = next(name for name in data_args.modalities if name not in there)
        raise RecipeError(
            f"No training clip of {data_args.dataset} has {absent}. To train on the other modalities, set "
            f"`modalities` to {' '.join(there)}."
        )
