"""A recipe's model part -> model and processor."""

import copy
import importlib.util
from pathlib import Path

from accelerate.utils import broadcast_object_list
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoTokenizer, Pipeline, PretrainedConfig, PreTrainedModel

from hf_fusion.data.arrow_rows import ArrowRows, in_batches, lengths_of
from hf_fusion.data.clips import has_modality
from hf_fusion.data.labels import are_placeholders, word_key
from hf_fusion.data.prepare import prepared_statistics
from hf_fusion.data.tokenizers import train_tokenizer
from hf_fusion.hub.checkpoint_names import check_checkpoint_name, check_folder_name
from hf_fusion.models.feature_extraction_dashfusion import STREAMS, DashFusionFeatureExtractor
from hf_fusion.models.modeling_dashfusion import DashFusionForSequenceClassification
from hf_fusion.models.modeling_dyfulm import DyFuLMForSequenceClassification
from hf_fusion.models.modeling_text_encoder import encoder_from_config, pretrained_encoder
from hf_fusion.models.processing_dashfusion import DEFAULT_MAX_LENGTH as DEFAULT_CLIP_LENGTH
from hf_fusion.models.processing_dashfusion import DashFusionProcessor
from hf_fusion.models.processing_dyfulm import DEFAULT_MAX_LENGTH, DyFuLMProcessor
from hf_fusion.utils.errors import RecipeError

# As `encoder_a`: that of the teacher.
TEACHER = "teacher"
# RoBERTa counts positions from its padding id on.
_SPARE_POSITIONS = 8


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
        model = _trained(DyFuLMForSequenceClassification, checkpoint, model_args.config_fields())
        check_classes(model.config, rules)
        return model, _saved(DyFuLMProcessor, checkpoint, model_args)
    specs = {"a": model_args.encoder_a, "b": model_args.encoder_b}
    if specs["a"] == TEACHER:
        specs["a"] = _encoder_a_of(teacher)
    encoders, tokenizers = _two_encoders(specs, model_args.cross_fusion, model_args.max_length, texts)
    if model_args.encoder_layers is not None:
        encoders = {name: first_layers(encoder, model_args.encoder_layers) for name, encoder in encoders.items()}
    model = DyFuLMForSequenceClassification.from_encoders(
        **encoders, **class_fields(rules), **model_args.config_fields()
    )
    return model, DyFuLMProcessor(*tokenizers, max_length=model_args.max_length)


def build_dashfusion(model_args, data_args, clips):
    """
    Builds or loads the DashFusion that a recipe describes, for the widths and lengths of the training clips.

    Args:
        model_args ([`ModelArguments`]): the recipe's model part.
        data_args ([`DataArguments`]): its data part.
        clips (`Dataset`): the training split; also what the normalisation is fitted on.

    Returns:
        ([`DashFusionForSequenceClassification`], [`DashFusionProcessor`]).

    Raises:
        RecipeError: if the recipe describes no model, or a checkpoint reads frames of another width.
    """
    fields = {**model_args.config_fields(), "modalities": tuple(data_args.modalities)}
    if model_args.checkpoint:
        checkpoint = resolve_name(model_args.checkpoint)
        fields["label_range"] = tuple(data_args.label_range)
        if not data_args.normalize:
            raise RecipeError("`normalize` is for new models: with `checkpoint` its processor normalises as it did.")
        model = _trained(DashFusionForSequenceClassification, checkpoint, fields)
        check_widths(model.config, clips)
        _check_modalities(data_args, clips)
        return model, _saved(DashFusionProcessor, checkpoint, model_args)
    if model_args.text_encoder is None:
        raise RecipeError("`text_encoder` is missing: a name, a folder, or a mapping for one from scratch.")
    _check_modalities(data_args, clips)
    texts = [text for text in clips["text"] if text is not None] if "text" in clips.column_names else []
    encoder, tokenizers = _text_stream(model_args.text_encoder, model_args.max_length, texts)
    extractor = feature_extractor_for(fields, data_args, clips)
    sizes = {f"{name}_feature_size": getattr(extractor, f"{name}_feature_size") for name in STREAMS}
    sizes |= {f"max_{name}_length": getattr(extractor, f"max_{name}_length") for name in STREAMS}
    model = DashFusionForSequenceClassification.from_text_encoder(
        encoder, **{**fields, **sizes}, label_range=data_args.label_range
    )
    tokenizer, tokenizer_b = (*tokenizers, None)[:2]
    return model, DashFusionProcessor(tokenizer, extractor, tokenizer_b, max_length=model_args.max_length)


def _encoder_a_of(teacher):
    if teacher is None or "a" not in teacher.model.config.encoder_configs:
        raise RecipeError(
            f"`encoder_a: {TEACHER}` takes encoder A of `teacher`"
            + (", which is missing." if teacher is None else ", which has an encoder B alone.")
        )
    return teacher


def first_layers(encoder: str | PreTrainedModel | PretrainedConfig, count: int) -> PreTrainedModel:
    """
    The embeddings and first layers of a pretrained encoder, as an encoder of its own.

    Args:
        encoder: a pretrained encoder, without a pooler, or its name or folder.
        count: how many layers.

    Raises:
        RecipeError: if it has no weights yet, or fewer layers.
    """
    if isinstance(encoder, PretrainedConfig):
        raise RecipeError("`encoder_layers` is for pretrained encoders; one from scratch has `num_hidden_layers`.")
    encoder = pretrained_encoder(encoder) if isinstance(encoder, str) else encoder
    config = copy.deepcopy(encoder.config)
    if not 1 <= count <= config.num_hidden_layers:
        raise RecipeError(f"`encoder_layers` must be 1 to {config.num_hidden_layers} here, got {count}.")
    if getattr(config, "layer_types", None):  # one entry for each layer
        config.layer_types = config.layer_types[:count]
    config.num_hidden_layers = count
    shallow = encoder_from_config(config)
    weights = encoder.state_dict()
    shallow.load_state_dict({name: weights[name] for name in shallow.state_dict()})
    return shallow


def earlier_config(model_args):
    """The configuration of the model that a run goes on from, or learns from; `None` if there is none to be read."""
    name = model_args.checkpoint or model_args.teacher
    if name is None:
        return None
    try:
        config = AutoConfig.from_pretrained(resolve_name(name), trust_remote_code=False)
    except (OSError, ValueError):  # loading the model says why
        return None
    return config if config.model_type == model_args.model_type else None


def class_fields(rules):
    """The fields of a configuration that say which classes there are."""
    fields = {"num_labels": rules.num_labels, "num_coarse_labels": len(rules.coarse)}
    if rules.names:
        fields["id2label"] = dict(enumerate(rules.names))
        fields["label2id"] = {name: i for i, name in enumerate(rules.names)}
    if rules.coarse_names:
        fields["coarse_id2label"] = dict(enumerate(rules.coarse_names))
    return fields


def check_classes(config, rules):
    """Raises `RecipeError` if the labels of the data are not the classes of the model, in its order."""
    ours, theirs = (config.num_labels, config.num_coarse_labels), (rules.num_labels, len(rules.coarse))
    if ours != theirs:
        raise RecipeError(
            f"The model has {ours[0]} fine and {ours[1]} coarse classes, the labels of the data have {theirs[0]} and "
            f"{theirs[1]}; set num_labels and coarse_starts to match."
        )
    names = list(config.id2label.values())
    same = rules.names is None or [*map(word_key, rules.names)] == [*map(word_key, names)]
    if not same and not are_placeholders(names):
        raise RecipeError(
            f"The model's classes are {', '.join(names)}, those of the data {', '.join(rules.names)}: set class_words "
            "to the model's, or leave it out."
        )


def check_widths(config, clips):
    """Raises `RecipeError` if the frames of the data are not those that the model reads."""
    for name in STREAMS:
        expected = getattr(config, f"{name}_feature_size")
        if name in clips.column_names and clips.features[name].shape[1] != expected:
            raise RecipeError(
                f"The model reads {name} frames of {expected} features, those of the data have "
                f"{clips.features[name].shape[1]}."
            )


def _check_modalities(data_args, clips):
    """A model must not claim a modality that it was never shown."""
    there = [name for name in data_args.modalities if has_modality(clips, name)]
    if len(there) < len(data_args.modalities):
        absent = next(name for name in data_args.modalities if name not in there)
        raise RecipeError(
            f"No training clip of {data_args.dataset} has {absent}. If that is right, train on the rest: --modalities "
            f"{' '.join(there)}"
        )


def resolve_name(name: str) -> str:
    """
    `package:NAME/FOLDER` -> that folder inside an installed Python package; any other name stays as it is.

    Raises:
        RecipeError: if the package is not installed or has no such folder.
        FileNotFoundError: if another name is that of a folder which does not exist.
    """
    if not name.startswith("package:"):
        check_folder_name(name)
        return name
    package, _, folder = name.removeprefix("package:").partition("/")
    if not package.isidentifier() or ".." in Path(folder).parts:  # to find a.b Python would import a
        raise RecipeError(f"{name:.200}: expected package:NAME/FOLDER, a package's name and a folder inside it.")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RecipeError(f"{name}: the package {package} is not installed (pip install {package.replace('_', '-')}).")
    path = Path(spec.submodule_search_locations[0]) / folder
    if not path.is_dir():
        raise RecipeError(f"{name}: the package {package} has no folder {folder!r}.")
    return str(path)


def _two_encoders(specs, cross_fusion, max_length, texts):
    """Encoders (names or configurations) and tokenizers of a DyFuLM."""
    only = cross_fusion if cross_fusion in ("a", "b") else None
    encoders, tokenizers = {}, []
    for name, spec in specs.items():
        if only not in (None, name):
            continue
        if spec is None:
            raise RecipeError(f"`encoder_{name}` is missing: a name, a folder, or a mapping for one from scratch.")
        encoders[f"encoder_{name}"], tokenizer = _encoder(
            f"encoder_{name}", spec, max_length, DEFAULT_MAX_LENGTH, texts
        )
        tokenizers.append(tokenizer)
    return encoders, tokenizers


def _text_stream(spec, max_length, texts):
    """The text encoder of a DashFusion (a name, a configuration or a DyFuLM), and its tokenizers."""
    if isinstance(spec, dict) and spec.get("model_type") == "dyfulm":
        fields = {name: value for name, value in spec.items() if name != "model_type"}
        specs = {name: fields.pop(f"encoder_{name}", None) for name in ("a", "b")}
        encoders, tokenizers = _two_encoders(specs, fields.get("cross_fusion"), max_length, texts)
        return DyFuLMForSequenceClassification.from_encoders(**encoders, **fields).dyfulm, tokenizers
    if isinstance(spec, str) and AutoConfig.from_pretrained(resolve_name(spec)).model_type == "dyfulm":
        return resolve_name(spec), DyFuLMProcessor.from_pretrained(resolve_name(spec)).tokenizers
    encoder, tokenizer = _encoder("text_encoder", spec, max_length, DEFAULT_CLIP_LENGTH, texts)
    return encoder, [tokenizer]


def feature_extractor_for(fields, data_args, clips):
    """
    A feature extractor for the widths and lengths of the training clips, fitted on them.

    Args:
        fields (`dict`): fields of the model's configuration that a recipe sets.
        data_args ([`DataArguments`]): its data part.
        clips (`Dataset`): the training split.
    """
    sizes = {}
    for name in STREAMS:
        there = name in clips.column_names
        sizes[f"{name}_feature_size"] = clips.features[name].shape[1] if there else 1
        longest = max(lengths_of(clips, name), default=1) if there else 1
        sizes[f"max_{name}_length"] = fields.get(f"max_{name}_length") or max(longest, 1)
    extractor = DashFusionFeatureExtractor(**sizes)
    known = prepared_statistics(data_args.dataset, clips) or {}
    for name in STREAMS if data_args.normalize else ():
        if name in clips.column_names and name in known:
            extractor.set_statistics(name, *known[name])
        elif name in clips.column_names:
            extractor.fit(name, (row[name] for row in in_batches(ArrowRows(clips.select_columns([name])))))
    return extractor


def _encoder(field, spec, max_length, default_length, texts):
    """An encoder, its name or its configuration, and its tokenizer."""
    if isinstance(spec, dict):
        encoder, tokenizer = _from_scratch(field, spec, texts, max_length or default_length)
    elif isinstance(spec, Pipeline):
        encoder, tokenizer = spec.model.base_model.encoder_a, spec.processor.tokenizer
    else:
        encoder = resolve_name(spec)
        tokenizer = AutoTokenizer.from_pretrained(encoder)
    if max_length and max_length > tokenizer.model_max_length:
        raise RecipeError(
            f"`max_length` is {max_length}, but {field} reads at most {tokenizer.model_max_length} tokens."
        )
    return encoder, tokenizer


def _from_scratch(field, spec, texts, max_length):
    spec = dict(spec)
    if "model_type" not in spec or "tokenizer" not in spec:
        raise RecipeError(
            f"`{field}` from scratch needs `model_type` (such as roberta) and `tokenizer` (bpe, unigram or "
            f"wordpiece), got {spec}."
        )
    kind, vocab_size = spec.pop("tokenizer"), spec.pop("vocab_size", 8000)
    tokenizer = _of_first_process(train_tokenizer(texts, kind, vocab_size, model_max_length=max_length))
    options = {"max_position_embeddings": max_length + _SPARE_POSITIONS, "pad_token_id": tokenizer.pad_token_id, **spec}
    return AutoConfig.for_model(options.pop("model_type"), vocab_size=len(tokenizer), **options), tokenizer


def _of_first_process(tokenizer):
    """The first process's tokenizer, in all processes: one vocabulary even if training is not quite repeatable."""
    (content,) = broadcast_object_list([tokenizer.backend_tokenizer.to_str()])
    tokenizer._tokenizer = Tokenizer.from_str(content)
    return tokenizer


def _trained(model_class, checkpoint, fields):
    """The model of a checkpoint, with these fields of its configuration."""
    check_checkpoint_name(checkpoint)
    try:
        return model_class.from_pretrained(checkpoint, use_safetensors=True, **fields)
    except RuntimeError as error:  # sizes that do not match
        raise RecipeError(
            f"The weights of `checkpoint` {checkpoint} do not fit the recipe ({str(error).splitlines()[0][:200]}): "
            "leave out the fields that say how large the model is."
        ) from error


def _saved(processor_class, checkpoint, model_args):
    """The processor of a checkpoint; `max_length` of the recipe goes first."""
    options = _given(max_length=model_args.max_length)
    return processor_class.from_pretrained(checkpoint, trust_remote_code=False, **options)


def _given(**options):
    return {name: value for name, value in options.items() if value is not None}
