"""Loads the encoders, tokenizers and checkpoints of a recipe."""

import copy
import importlib.util
import logging
from pathlib import Path

from accelerate.utils import broadcast_object_list
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoTokenizer, Pipeline, PretrainedConfig, PreTrainedModel

from hf_fusion.data.tokenizers import train_tokenizer
from hf_fusion.hub.checkpoint_names import check_checkpoint_name, check_folder_name
from hf_fusion.models.modeling_text_encoder import encoder_from_config, pretrained_encoder
from hf_fusion.models.processing_dyfulm import DEFAULT_MAX_LENGTH, check_vocabulary
from hf_fusion.utils.errors import RecipeError, listed

logger = logging.getLogger(__name__)

# The value of `encoder_a` that means encoder A of the teacher.
TEACHER = "teacher"
# RoBERTa numbers positions from its padding id + 1.
_SPARE_POSITIONS = 8


def first_layers(encoder: str | PreTrainedModel | PretrainedConfig, count: int) -> PreTrainedModel:
    """
    Creates an encoder from the embeddings and the first layers of a pretrained one.

    Args:
        encoder (`str`, `PreTrainedModel` or `PretrainedConfig`): a pretrained encoder without pooler, or its name or
            folder.
        count (`int`): the number of layers.

    Raises:
        RecipeError: if the encoder is a configuration (has no weights), or has fewer layers.
    """
    if isinstance(encoder, PretrainedConfig):
        raise RecipeError("`encoder_layers` is for pretrained encoders; set `num_hidden_layers` of a new one.")
    encoder = pretrained_encoder(encoder) if isinstance(encoder, str) else encoder
    config = copy.deepcopy(encoder.config)
    if not 1 <= count <= config.num_hidden_layers:
        raise RecipeError(f"`encoder_layers` must be 1 to {config.num_hidden_layers} here, got {count}.")
    if getattr(config, "layer_types", None):  # one entry per layer
        config.layer_types = config.layer_types[:count]
    config.num_hidden_layers = count
    shallow = encoder_from_config(config)
    weights = encoder.state_dict()
    shallow.load_state_dict({name: weights[name] for name in shallow.state_dict()})
    return shallow


def resolve_name(name: str) -> str:
    """
    Resolves `package:NAME/FOLDER` to the folder inside an installed Python package; returns other names unchanged.

    Raises:
        RecipeError: if the package is not installed or has no such folder.
        FileNotFoundError: if another name means a folder that does not exist.
    """
    if not name.startswith("package:"):
        check_folder_name(name)
        return name
    package, _, folder = name.removeprefix("package:").partition("/")
    if not package.isidentifier() or ".." in Path(folder).parts:  # `find_spec("a.b")` would import `a`
        raise RecipeError(f"{name:.200}: expected package:NAME/FOLDER, the name of a package and a folder in it.")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RecipeError(f"{name}: the package {package} is not installed (pip install {package.replace('_', '-')}).")
    path = Path(spec.submodule_search_locations[0]) / folder
    if not path.is_dir():
        raise RecipeError(f"{name}: the package {package} has no folder {folder!r}.")
    return str(path)


def encoder_and_tokenizer(field, spec, max_length, default_length, texts):
    """Returns an encoder, its name or its configuration, and its tokenizer."""
    if isinstance(spec, dict):
        encoder, tokenizer = _from_scratch(field, spec, texts, max_length or default_length)
    elif isinstance(spec, Pipeline):
        encoder, tokenizer = spec.model.base_model.encoder_a, spec.processor.tokenizer
    else:
        encoder = resolve_name(spec)
        tokenizer = load_named(field, AutoTokenizer, encoder)
    if max_length and max_length > tokenizer.model_max_length:
        raise RecipeError(
            f"`max_length` is {max_length}, but {field} reads at most {tokenizer.model_max_length} tokens."
        )
    return encoder, tokenizer


def load_named(field, auto_class, name):
    """
    Loads the tokenizer or configuration of the encoder that a field of a recipe names.

    Raises:
        RecipeError: if there is none; the messages of transformers need not say of which encoder.
    """
    try:
        loaded = auto_class.from_pretrained(name)
        if auto_class is AutoTokenizer:
            check_vocabulary(field, loaded)
        return loaded
    except Exception as error:  # the library of the tokenizers raises no other
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RecipeError(
            f"`{field}` {name} cannot be loaded: {reason:.300} Give the folder of an encoder with its tokenizer, or a "
            "name on the Hub and a network."
        ) from error


def _from_scratch(field, spec, texts, max_length):
    spec = dict(spec)
    if "model_type" not in spec or "tokenizer" not in spec:
        raise RecipeError(
            f"`{field}` from scratch needs `model_type` (such as roberta) and `tokenizer` (bpe, unigram or "
            f"wordpiece), got {spec}."
        )
    kind, vocab_size = spec.pop("tokenizer"), spec.pop("vocab_size", 8000)
    tokenizer = _broadcast_tokenizer(train_tokenizer(texts, kind, vocab_size, model_max_length=max_length))
    options = {"max_position_embeddings": max_length + _SPARE_POSITIONS, "pad_token_id": tokenizer.pad_token_id, **spec}
    return AutoConfig.for_model(options.pop("model_type"), vocab_size=len(tokenizer), **options), tokenizer


def _broadcast_tokenizer(tokenizer):
    """Sends the tokenizer of the first process to all others, since its training may not be deterministic."""
    (content,) = broadcast_object_list([tokenizer.backend_tokenizer.to_str()])
    tokenizer._tokenizer = Tokenizer.from_str(content)
    return tokenizer


def two_encoders(specs, cross_fusion, max_length, texts):
    """Returns the encoders (names or configurations) and the tokenizers of a DyFuLM."""
    only = cross_fusion if cross_fusion in ("a", "b") else None
    encoders, tokenizers = {}, []
    for name, spec in specs.items():
        if only not in (None, name):
            continue
        if spec is None:
            raise RecipeError(f"`encoder_{name}` is missing: set a name, a folder, or a mapping for a new one.")
        encoders[f"encoder_{name}"], tokenizer = encoder_and_tokenizer(
            f"encoder_{name}", spec, max_length, DEFAULT_MAX_LENGTH, texts
        )
        tokenizers.append(tokenizer)
    return encoders, tokenizers


def load_trained_model(model_class, checkpoint, fields):
    """Loads the model of a checkpoint with changed configuration fields."""
    check_checkpoint_name(checkpoint)
    try:
        model, report = model_class.from_pretrained(
            checkpoint, use_safetensors=True, output_loading_info=True, **fields
        )
    except RuntimeError as error:  # sizes do not match
        raise RecipeError(
            f"The weights of `checkpoint` {checkpoint} do not fit the recipe ({str(error).splitlines()[0][:200]}): "
            "remove the fields that change the size of the model."
        ) from error
    if missing := sorted(report["missing_keys"]):
        logger.warning(
            "%s has no weights for %d parameters, which are initialised at random: %s.",
            checkpoint,
            len(missing),
            listed(missing),
        )
    return model


def load_saved_processor(processor_class, checkpoint, model_args):
    """Loads the processor of a checkpoint; `max_length` of the recipe takes precedence."""
    options = _drop_unset(max_length=model_args.max_length)
    return processor_class.from_pretrained(checkpoint, trust_remote_code=False, **options)


def _drop_unset(**options):
    return {name: value for name, value in options.items() if value is not None}
