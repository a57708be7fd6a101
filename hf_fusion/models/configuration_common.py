"""What the configurations of all architectures have in common."""

import copy
import sys
from contextlib import contextmanager
from numbers import Real

from transformers import AutoConfig, PretrainedConfig

# A configuration names each class; a hostile number would fill the memory with names.
MAX_LABELS = 100_000
# Tasks of transformers that the pipeline of a checkpoint serves beside its own.
TEXT_TASKS = ("text-classification", "sentiment-analysis")


def is_number(value):
    """Whether it is a finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


@contextmanager
def as_value_error(what):
    """A `ValueError` that says what is wrong, for whatever transformers makes of a field that is none of its kind."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what}: {' '.join(str(error).split())[:300] or type(error).__name__}") from error


def as_tuple(name, value):
    """A list or tuple as a tuple; raises `ValueError` for anything else."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"`{name}` must be a list, got {value!r:.100}.")
    return tuple(value)


def check_choice(name, value, choices):
    """Raises `ValueError` if `value` is none of `choices`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r:.100}.")


def check_positive_integers(config, names):
    """Raises `ValueError` if one of the fields `names` is no integer of at least 1."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be a positive integer, got {value!r:.100}.")


def check_booleans(config, names):
    """Raises `ValueError` if one of the fields `names` is not true or false; the text "false" would count as true."""
    for name in names:
        if not isinstance(getattr(config, name), bool):
            raise ValueError(f"`{name}` must be true or false, got {getattr(config, name)!r:.100}.")


def check_positive(name, value):
    """Raises `ValueError` unless `value` is a finite number above 0."""
    if not is_number(value) or not value > 0:
        raise ValueError(f"`{name}` must be above 0, got {value!r:.100}.")


def check_probability(name, value):
    """Raises `ValueError` unless `value` lies in [0, 1)."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"`{name}` must lie in [0, 1), got {value!r:.100}.")


def check_range(name, value):
    """Raises `ValueError` unless `value` is (lowest, highest), in finite numbers."""
    if len(value) != 2 or not all(map(is_number, value)) or not value[0] < value[1]:
        raise ValueError(f"`{name}` must be (lowest, highest), got {value!r:.100}.")


def checked_config(name, value, default_model_type, other_classes=None):
    """
    The configuration of an encoder, as an object of its own. Where it was loaded from, which may be a folder that
    nobody else has, it does not tell.

    Args:
        name: of the field.
        value: a configuration, a `dict` with `model_type` and fields, or `None`.
        default_model_type: where `value` has none.
        other_classes: configuration classes by model type, beside those that the Auto classes know.
    """
    if isinstance(value, PretrainedConfig):
        config = copy.deepcopy(value)  # two encoders may be built from one configuration, and then change apart
        config._name_or_path = ""
        return config
    if not isinstance(value, (dict, type(None))):
        raise ValueError(f"`{name}` must be a configuration or a mapping of its fields, got {value!r:.100}.")
    fields = dict(value or {})
    model_type = fields.pop("model_type", default_model_type)
    fields.pop("_name_or_path", None)
    with as_value_error(f"`{name}` is no configuration"):
        if isinstance(model_type, str) and model_type in (other_classes or {}):
            return other_classes[model_type](**fields)
        return AutoConfig.for_model(model_type, **fields)


def named_labels(names, count):
    """Readable names where the number of classes is the usual one, else LABEL_0, LABEL_1 ..."""
    check_label_count(count)
    return dict(enumerate(names)) if len(names) == count else {i: f"LABEL_{i}" for i in range(count)}


def check_label_count(count):
    """Raises `ValueError` unless it can be a number of classes."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_LABELS:
        raise ValueError(f"The number of labels must be an integer from 1 to {MAX_LABELS:,}, got {count!r:.100}.")


def label_names(name, names):
    """Names of classes by number; raises `ValueError` unless they are texts, numbered from 0."""
    try:
        found = {int(i): label for i, label in names.items()}
        sound = sorted(found) == list(range(len(names))) and all(isinstance(label, str) for label in found.values())
    except (AttributeError, TypeError, ValueError, OverflowError):
        sound = False
    if not sound:
        raise ValueError(f"`{name}` must name the classes 0, 1 ..., got {names!r:.100}.")
    return found


class TaskNames(dict):
    """
    `custom_pipelines` of a checkpoint: one pipeline, which also serves the tasks of transformers that people ask for.

    transformers infers the task of a checkpoint only where `custom_pipelines` has a single entry, and looks for the
    task's name in it first.
    """

    def __contains__(self, task):
        return super().__contains__(task) or task in TEXT_TASKS

    def __missing__(self, task):
        if task in TEXT_TASKS:
            return self["fusion-sentiment"]
        raise KeyError(task)


def add_code_map(kwargs, architecture):
    """Names the code of an architecture ("DyFuLM") in the keyword arguments of its configuration.

    `save_pretrained` records only the class that saves; a checkpoint serves every Auto class and the pipeline.
    """
    suffix = architecture.lower()
    kwargs["auto_map"] = {
        "AutoConfig": f"configuration_{suffix}.{architecture}Config",
        "AutoModel": f"modeling_{suffix}.{architecture}Model",
        "AutoModelForSequenceClassification": f"modeling_{suffix}.{architecture}ForSequenceClassification",
        **(kwargs.get("auto_map") or {}),
    }
    own = {
        "impl": "pipeline_fusion_sentiment.FusionSentimentPipeline",
        "pt": ["AutoModelForSequenceClassification"],
        "type": "text",
    }
    kwargs["custom_pipelines"] = TaskNames({"fusion-sentiment": own, **(kwargs.get("custom_pipelines") or {})})
