"""A recipe's model part -> model and processor."""

import importlib.util
from pathlib import Path

from accelerate.utils import broadcast_object_list
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoTokenizer

from hf_fusion.data.tokenizers import train_tokenizer
from hf_fusion.models.modeling_dyfulm import DyFuLMForSequenceClassification
from hf_fusion.models.processing_dyfulm import DEFAULT_MAX_LENGTH, DyFuLMProcessor
from hf_fusion.training.recipe import RecipeError

# RoBERTa counts positions from its padding id on.
_SPARE_POSITIONS = 8


def build_model(model_args, rules, texts):
    """
    Builds or loads what a recipe describes.

    Args:
        model_args ([`ModelArguments`]): the recipe's model part.
        rules ([`LabelRules`]): number and bounds of the classes.
        texts (`Iterable[str]`): training texts, for tokenizers that are trained.

    Returns:
        ([`DyFuLMForSequenceClassification`], [`DyFuLMProcessor`]).

    Raises:
        RecipeError: if the recipe describes no model.
    """
    if model_args.checkpoint:
        checkpoint = resolve_name(model_args.checkpoint)
        model = DyFuLMForSequenceClassification.from_pretrained(checkpoint, **model_args.config_fields())
        check_classes(model.config, rules)
        return model, DyFuLMProcessor.from_pretrained(checkpoint, **_given(max_length=model_args.max_length))
    only = model_args.cross_fusion if model_args.cross_fusion in ("a", "b") else None
    specs = {"a": model_args.encoder_a, "b": model_args.encoder_b}
    max_length = model_args.max_length or DEFAULT_MAX_LENGTH
    encoders, tokenizers = {}, []
    for name, spec in specs.items():
        if only not in (None, name):
            continue
        if spec is None:
            raise RecipeError(f"`encoder_{name}` is missing: a name, a folder, or a mapping for one from scratch.")
        encoder, tokenizer = (
            _from_scratch(name, spec, texts, max_length) if isinstance(spec, dict) else _pretrained(spec)
        )
        encoders[f"encoder_{name}"] = encoder
        if model_args.max_length and model_args.max_length > tokenizer.model_max_length:
            raise RecipeError(
                f"`max_length` is {model_args.max_length}, but encoder {name} reads at most "
                f"{tokenizer.model_max_length} tokens."
            )
        tokenizers.append(tokenizer)
    model = DyFuLMForSequenceClassification.from_encoders(
        **encoders, num_labels=rules.num_labels, num_coarse_labels=len(rules.coarse), **model_args.config_fields()
    )
    return model, DyFuLMProcessor(*tokenizers, max_length=model_args.max_length)


def check_classes(config, rules):
    """Raises `RecipeError` if the labels of the data are not the classes of the model."""
    ours, theirs = (config.num_labels, config.num_coarse_labels), (rules.num_labels, len(rules.coarse))
    if ours != theirs:
        raise RecipeError(
            f"The model has {ours[0]} fine and {ours[1]} coarse classes, the labels of the data have {theirs[0]} and "
            f"{theirs[1]}; set num_labels and coarse_starts to match."
        )


def resolve_name(name: str) -> str:
    """`package:NAME/FOLDER` -> that folder inside an installed Python package; any other name stays as it is."""
    if not name.startswith("package:"):
        return name
    package, _, folder = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RecipeError(f"{name}: the package {package} is not installed (pip install {package.replace('_', '-')}).")
    path = Path(spec.submodule_search_locations[0]) / folder
    if not path.is_dir():
        raise RecipeError(f"{name}: the package {package} has no folder {folder!r}.")
    return str(path)


def _pretrained(spec):
    name = resolve_name(spec)
    return name, AutoTokenizer.from_pretrained(name)


def _from_scratch(name, spec, texts, max_length):
    spec = dict(spec)
    if "model_type" not in spec or "tokenizer" not in spec:
        raise RecipeError(
            f"`encoder_{name}` from scratch needs `model_type` (such as roberta) and `tokenizer` (bpe, unigram or "
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


def _given(**options):
    return {name: value for name, value in options.items() if value is not None}
