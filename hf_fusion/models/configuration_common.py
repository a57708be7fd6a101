"""Base of the configurations of all architectures, and the checks of their fields.

`huggingface_hub.dataclasses.strict`, with which transformers checks its own configurations, could not replace these
checks: its errors are no `ValueError`s, it refuses 0 where a `float` is declared, it takes keyword arguments alone, and
it knows types but no limits.
"""

import copy
import inspect
import re
import sys
from contextlib import contextmanager
from itertools import pairwise
from numbers import Real
from types import UnionType
from typing import Literal, NamedTuple, Union, get_args, get_origin

from transformers import AutoConfig, PretrainedConfig
from transformers.utils import logging

logger = logging.get_logger(__name__)

# A configuration names each class; a hostile number would fill the memory with names.
MAX_LABELS = 100_000
# Tasks of transformers that the pipeline of a checkpoint serves beside its own.
TEXT_TASKS = ("text-classification", "sentiment-analysis")


def is_number(value):
    """True for finite numbers."""
    return isinstance(value, Real) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


@contextmanager
def as_value_error(what):
    """Re-raises any error as a `ValueError` that starts with `what`."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what}: {' '.join(str(error).split())[:300] or type(error).__name__}") from error


def as_tuple(name, value):
    """A list or tuple as a tuple; raises `ValueError` for anything else."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"`{name}` must be a list, got {value!r:.100}.")
    return tuple(value)


def choices_of(annotation):
    """
    The values that an annotation allows.

    Args:
        annotation: of a field, such as `Literal["a", "b"]` or `Literal["a", "b"] | None`.

    Returns:
        `tuple`: the values, `None` first where it is one of them; empty for an annotation without `Literal`.
    """
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    values = tuple(value for member in members if get_origin(member) is Literal for value in get_args(member))
    return (None, *values) if values and type(None) in members else values


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


def check_boolean(name, value):
    """Raises `ValueError` unless `value` is true or false; the text "false" would count as true."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be true or false, got {value!r:.100}.")


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


def check_class_values(values, num_labels):
    """Raises `ValueError` unless `values` is `None` or a list of a finite number for each class, in ascending order."""
    if values is None:
        return
    sound = isinstance(values, (list, tuple)) and len(values) == num_labels and all(map(is_number, values))
    if not sound or any(low >= high for low, high in pairwise(values)):
        raise ValueError(
            f"`class_values` must be a number for each of the {num_labels} classes, in ascending order, got "
            f"{values!r:.100}."
        )


def check_coarse_starts(starts, count, num_labels):
    """Raises `ValueError` unless `starts` is `None` or the first fine class of each of `count` coarse classes."""
    if starts is None:
        return
    sound = isinstance(starts, list) and len(starts) == count > 0 and all(type(start) is int for start in starts)
    if not sound or starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] >= num_labels:
        raise ValueError(
            f"`coarse_starts` must be the fine class that each of {count} coarse classes begins with, rising from 0"
            f" and below {num_labels}, got {starts!r:.100}."
        )


def checked_config(name, value, default_model_type, other_classes=None):
    """
    A copy of an encoder's configuration, without the folder that it was loaded from.

    Args:
        name: the field's name.
        value: a configuration, a `dict` with `model_type` and fields, or `None`.
        default_model_type: the model type if `value` has none.
        other_classes: configuration classes by model type, beside those of the Auto classes.
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
    return dict(enumerate(names)) if len(names) == count else {i: f"LABEL_{i}" for i in range(count)}


def check_label_count(count, least=1):
    """Raises `ValueError` unless it can be a number of classes."""
    if isinstance(count, bool) or not isinstance(count, int) or not least <= count <= MAX_LABELS:
        raise ValueError(f"The number of labels must be an integer from {least} to {MAX_LABELS:,}, got {count!r:.100}.")


def label_names(name, names):
    """Names of classes by number; raises `ValueError` unless they are different texts, numbered from 0."""
    try:
        found = {int(i): label for i, label in names.items()}
        sound = sorted(found) == list(range(len(names))) and all(isinstance(label, str) for label in found.values())
        sound = sound and len(set(found.values())) == len(found)
    except (AttributeError, TypeError, ValueError, OverflowError):
        sound = False
    if not sound:
        raise ValueError(f"`{name}` must name the classes 0, 1 ..., each with a text of its own, got {names!r:.100}.")
    return found


def settle_labels(kwargs, usual_names, usual_count):
    """
    Sets `id2label` and `label2id` in the keyword arguments of a configuration, from those of `num_labels`, `id2label`
    and `label2id` that are given. A `label2id` that does not fit `id2label` is replaced with a warning.

    Args:
        kwargs: keyword arguments of the configuration.
        usual_names: names of the classes if there are as many classes as names.
        usual_count: number of classes if none of the three is given.

    Raises:
        ValueError: if the names are not valid, or `num_labels` is not their number.
    """
    count, names, ids = (kwargs.pop(name, None) for name in ("num_labels", "id2label", "label2id"))
    if names is None and ids is not None:
        names = label_names("label2id", _swapped(ids))
    names = names_of_classes("id2label", names, "num_labels", count, usual_names, usual_count)
    if ids is not None and ids != _swapped(names):
        logger.warning(f"`label2id` {ids!r:.200} does not fit `id2label` {names!r:.200}, which counts.")
    kwargs["id2label"], kwargs["label2id"] = names, _swapped(names)


def names_of_classes(field, names, count_field, count, usual_names, usual_count, least=1):
    """Names by number: those that are given, or the usual ones; raises `ValueError` if they are not `count`."""
    if count is not None:
        check_label_count(count, least)
    if names is None:
        return named_labels(usual_names, usual_count if count is None else count)
    names = label_names(field, names)
    if count not in (None, len(names)):
        raise ValueError(
            f"`{count_field}` is {count}, so `{field}` must name classes 0 to {count - 1}, got {names!r:.100}."
        )
    return names


def _swapped(names):
    """The keys of a mapping by their values; anything else as it is."""
    try:
        return {value: key for key, value in names.items()}
    except (AttributeError, TypeError):
        return names


class Head(NamedTuple):
    """
    An output of a model that answers a task.

    Args:
        task (`str`): the task's name; the output `{task}_loss` is its loss.
        names (`str`, *optional*): the field of the configuration that names the classes; `None` for a single number.
            A model without classes in it has no such head.
        switch (`str`, *optional*): the field of the configuration that is false where a model has no such head.
        temperature (`str`, *optional*): the field of the configuration with the temperature of the class probabilities.
    """

    task: str
    names: str | None = None
    switch: str | None = None
    temperature: str | None = None


class OptionalHeads(dict):
    """The value of `heads` in the class of a configuration; an instance has those of them that its model has."""

    def __get__(self, config, owner=None):
        return self if config is None else present_heads(self, config)


def present_heads(heads, config):
    """
    Selects the heads that a model has.

    Args:
        heads (`dict[str, Head]`): all heads of the architecture, by output.
        config: the fields that name classes, and those that switch heads on.

    Returns:
        `dict[str, Head]`: in the same order.
    """
    fields = {output: [field for field in (head.names, head.switch) if field] for output, head in heads.items()}
    return {output: heads[output] for output in heads if all(getattr(config, field) for field in fields[output])}


def fine_to_coarse(config):
    """
    The coarse class of each fine class.

    Args:
        config: with `id2label`, `coarse_id2label` and `coarse_starts`.

    Returns:
        `list[int]` or `None`: by `coarse_starts` if that is known. Else by the names: a fine class belongs to the
        coarse class with its name, or with the last words of it ("very negative" to "negative"); `None` if a fine class
        belongs to none, or a coarse class gets none.
    """
    count, names = len(config.id2label), {name.casefold(): i for i, name in config.coarse_id2label.items()}
    if config.coarse_starts is not None:
        return [sum(start <= fine for start in config.coarse_starts) - 1 for fine in range(count)]
    classes = [_named_by_end(config.id2label[fine].casefold(), names) for fine in range(count)]
    return classes if set(classes) == set(names.values()) else None


def _named_by_end(name, classes):
    """The class whose name is `name`, or else its last words; `None` if there is none."""
    words = re.split(r"[\s_-]+", name)
    ends = (" ".join(words[first:]) for first in range(len(words)))
    return next((classes[end] for end in (name, *ends) if end in classes), None)


def head_widths(config):
    """`dict[str, tuple]`: for each output in `config.heads` the shape of a row: `(classes,)`, or `()` for a number."""
    names = {output: head.names for output, head in config.heads.items()}
    return {output: (len(getattr(config, field)),) if field else () for output, field in names.items()}


def temperature_of(config, output):
    """`float`: the number by which an output is divided before the softmax of an answer; 1 for a head without one."""
    field = config.heads[output].temperature
    return 1.0 if field is None else getattr(config, field)


class FusionConfigMixin:
    """
    Comes before `PretrainedConfig` in the bases of a configuration. All fields are saved, and class names always agree
    with the number of classes.

    `PretrainedConfig` leaves fields out of a file that equal its own defaults, although a subclass may have others: two
    classes would come back as five. Here a file holds all fields.

    The class attributes below `tuple_fields` say what code outside `models/` needs to know of an architecture; they are
    not saved.

    Class attributes:
        label_counts (`dict`): the fields that count classes, and those that name them.
        least_classes (`dict[str, int]`): the least number of classes of fields that name them; 0 for a head that may be
            absent. 1 by default.
        usual_names (`dict`): for each field that names classes the usual names, taken where their number fits.
        tuple_fields (`tuple(str)`): fields that are tuples; JSON has lists.
        modalities (`tuple(str)`): the modalities that the model reads, some of "text", "audio" and "vision".
        frame_columns (`tuple(str)`): the columns of a data set that hold frames, read by the model or not. Empty for
            models of text.
        heads (`dict[str, Head]`): the outputs that answer a task, by name and in the order of the model's outputs; with
            [`OptionalHeads`] those that the model has.
        class_fields (`tuple(str)`): fields that describe the classes beside those in `label_counts`; they become `None`
            where the classes are replaced.
        answer_fields (`tuple(str)`): the fields that turn outputs into answers; an exported model keeps them.
        answer_defaults (`dict`): the values of those of them that files of earlier versions lack.
        loss_factors (`dict[str, float]`): the parts of the loss with a constant factor, by name: the output
            `{name}_loss` is multiplied by it. Other tasks have their factor in the output `loss_weights`.
        has_contrastive_loss (`bool`): whether training compares clips with each other, so that the choice of partners
            matters.
        paper (`str`, *optional*): the paper that the architecture is from, such as "arXiv 2512.01410".
        reads_windows (`bool`): whether a text beyond the limit can be read in several windows.
        has_gate (`bool`): whether the outputs have a `gate` when asked for by `output_fusion=True`.
        class_values (`list[float]`, *optional*): the value of each class on the scale of the labels; a field of
            configurations whose answers have `expected`.
    """

    label_counts = {"num_labels": "id2label"}
    least_classes = {}
    usual_names = {"id2label": ()}
    tuple_fields = ()
    modalities = ("text",)
    frame_columns = ()
    heads = {"logits": Head("prediction", "id2label")}
    class_fields = ()
    answer_fields = ("num_labels", "id2label", "problem_type")
    answer_defaults = {}
    loss_factors = {"prediction": 1.0, "distillation": 1.0}
    has_contrastive_loss = False
    reads_windows = False
    has_gate = False
    class_values = None
    paper = None
    keys_to_ignore_at_inference = ()

    def __setattr__(self, name, value):
        if name in self.usual_names and value is not None:
            value = label_names(name, value)
        elif name in self.tuple_fields:
            value = as_tuple(name, value)
        elif name == "label2id" and value is not None:
            names = label_names(name, _swapped(value))
            if names != getattr(self, "id2label", None):
                super().__setattr__("id2label", names)
        super().__setattr__(name, value)
        if name == "id2label" and value is not None:
            super().__setattr__("label2id", _swapped(value))

    @property
    def num_labels(self):
        """`int`: the number of classes. Setting another one gives the classes their usual names."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, count):
        self.set_label_count("id2label", count)

    def set_label_count(self, field, count):
        """Gives so many classes their usual names in `field`, unless there are as many already."""
        check_label_count(count, self.least_classes.get(field, 1))
        if len(getattr(self, field, None) or ()) != count:
            setattr(self, field, named_labels(self.usual_names[field], count))
            for name in self.class_fields:
                setattr(self, name, None)

    @classmethod
    def annotations(cls):
        """`dict`: the type of each field, by its name, as `__init__` declares it."""
        parameters = inspect.signature(cls.__init__).parameters
        return {name: parameters[name].annotation for name in parameters if name not in ("self", "kwargs")}

    @classmethod
    def choices(cls, field):
        """`tuple`: the values that a field accepts; empty if it is not declared as `Literal`."""
        return choices_of(cls.annotations()[field])

    def check_annotations(self):
        """Raises `ValueError` if a field that is declared as `Literal` or `bool` has another value."""
        for name, annotation in self.annotations().items():
            if choices := choices_of(annotation):
                check_choice(name, getattr(self, name), choices)
            elif annotation is bool:
                check_boolean(name, getattr(self, name))

    @classmethod
    def field_names(cls):
        """`list[str]`: fields of this class and of its labels, without the configurations of encoders."""
        names = dict.fromkeys([*cls.annotations(), "num_labels", "id2label", "label2id", "problem_type"])
        return [name for name in names if name not in cls.sub_configs]

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """As `PretrainedConfig.from_dict`, but fields in `kwargs` are checked with the others, not set one by one."""
        fields = dict(config_dict)
        if "transformers_version" in fields and "id2label" not in fields:
            # saved before files held all fields: two classes are the library's default, and were left out
            fields["id2label"] = named_labels((), 2)
        changes = {name: kwargs.pop(name) for name in [*cls.field_names(), *cls.sub_configs] if name in kwargs}
        for count, names in cls.label_counts.items():
            _make_room(fields, changes, count, names, cls.class_fields)
        for name in cls.sub_configs:
            saved, change = fields.get(name), changes.get(name)
            if isinstance(saved, dict) and isinstance(change, dict):
                same = change.get("model_type") in (None, saved.get("model_type"))
                changes[name] = {**saved, **change} if same else change
        loaded = super().from_dict({**fields, **changes}, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        # an encoder that was saved as absent stays absent
        for name in cls.sub_configs:
            if name in fields and fields[name] is None and changes.get(name) is None:
                setattr(config, name, None)
        config.check()
        return loaded

    def _get_generation_parameters(self):
        """`save_pretrained` refuses settings of text generation; `temperature` is one, but here it is a field."""
        found = super()._get_generation_parameters()
        return {name: value for name, value in found.items() if name not in self.annotations()}

    def to_diff_dict(self):
        """All fields: one that is left out would come back as the default of the class that loads it."""
        fields = self.to_dict()
        fields.pop("_name_or_path", None)
        return fields


def _make_room(fields, changes, count, names, class_fields):
    """Removes from the saved `fields` the classes that `changes` replace, and what describes them."""
    group = (count, names, "label2id") if names == "id2label" else (count, names)
    for name in group:
        if changes.get(name, 0) is None:
            del changes[name]
    given = [name for name in group if name in changes]
    if given and not (given == [count] and changes[count] == len(fields.get(names) or ())):
        values = fields.get("class_values")
        if names == "id2label" and isinstance(values, list) and len(values) != _count_in(changes, group):
            fields["class_values"] = None  # not known of other classes
        for name in (*group, *class_fields):
            fields.pop(name, None)


def _count_in(changes, group):
    """The number of classes that `changes` ask for; 0 if it is not valid, which the checks say later."""
    value = next(changes[name] for name in group if name in changes)
    return value if isinstance(value, int) else len(value) if isinstance(value, dict) else 0


class TaskNames(dict):
    """
    `custom_pipelines` of a checkpoint: one pipeline, which also serves the usual text tasks of transformers.

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
