"""The model part of a recipe: fields of all registered architectures, mostly those of their configurations."""

import dataclasses
import inspect
import operator
import re
from dataclasses import dataclass
from functools import cache, reduce
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from hf_fusion.architectures.base import Architecture, architecture_of, registered_architectures
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.fields import check_choices, has_changed, option


@dataclass
class ModelArguments:
    """
    The fields of a recipe for the model. [`model_arguments`] adds the fields of the architectures.
    """

    model_type: str = option("The architecture.", "dyfulm")
    checkpoint: str | None = option("A trained model to continue from, instead of encoders.")
    max_length: int | None = option(
        "Maximum number of tokens; by default the limit of the encoders, at most 512 (reviews) or 128 (clips)."
    )
    lora_encoders: Literal["a", "b", "both", "text"] | None = option(
        "Train the encoders by LoRA: a, b or both of a DyFuLM, or text; fusion and heads are trained in full."
    )
    lora_rank: int = option("Rank of the LoRA matrices.", 8)
    lora_alpha: int = option("Scale of the LoRA update, over the rank.", 16)
    lora_dropout: float = option("Dropout of the LoRA input.", 0.05)
    merge_lora: bool = option("Save a plain checkpoint with the adapter merged in, instead of the adapter.", True)

    def __post_init__(self):
        architecture = architecture_of(self.model_type)
        check_choices(self)
        own = {item.name for item in collect_fields(architecture)}
        for other in registered_architectures():
            for item in collect_fields(other):
                if item.name not in own and has_changed(item, getattr(self, item.name)):
                    raise RecipeError(
                        f"`{item.name}` belongs to {other.model_type}, but the recipe's model_type is "
                        f"{self.model_type}."
                    )
        self._check_lora()
        architecture.check_recipe(self)

    def _check_lora(self):
        for item in dataclasses.fields(ModelArguments):
            idle = "lora" in item.name and self.lora_encoders is None and has_changed(item, getattr(self, item.name))
            if idle:
                raise RecipeError(f"`{item.name}` does nothing without `lora_encoders`.")
        if self.lora_rank < 1:
            raise RecipeError(f"`lora_rank` must be at least 1, got {self.lora_rank}.")

    def config_fields(self) -> dict[str, Any]:
        """Returns the configuration fields that the recipe sets."""
        architecture = architecture_of(self.model_type)
        names = inspect.signature(architecture.config_class.__init__).parameters
        own = [item.name for item in collect_fields(architecture) if item.name in names]
        return {name: getattr(self, name) for name in own if getattr(self, name) is not None}


def model_arguments() -> type[ModelArguments]:
    """Creates a subclass of [`ModelArguments`] with the fields of all registered architectures."""
    return _model_arguments(tuple(registered_architectures()))


@cache
def _model_arguments(architectures):
    names = tuple(architecture.model_type for architecture in architectures)
    choice = ("model_type", Literal[names], option(f"The architecture: {' or '.join(names)}.", "dyfulm"))
    fields = {item.name: item for architecture in architectures for item in collect_fields(architecture)}
    own = [(item.name, item.type, _copy(item)) for item in fields.values()]
    return dataclasses.make_dataclass("ModelArguments", [choice, *own], bases=(ModelArguments,))


def collect_fields(architecture: Architecture) -> list[dataclasses.Field]:
    """
    Returns the recipe fields of an architecture: its `recipe_fields`, and those of the configuration's signature. The
    latter default to `None`, which keeps the configuration's default, and have its types (lists for tuples) and help.
    """
    declared = list(dataclasses.fields(architecture.recipe_fields))
    known = {*architecture.settled_fields, *(item.name for item in declared)}
    help_texts = _parse_descriptions(architecture.config_class)
    for name, parameter in inspect.signature(architecture.config_class.__init__).parameters.items():
        if name not in known and parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name != "self":
            item = option(help_texts.get(name, name))
            item.name, item.type = name, _recipe_type(parameter.annotation)
            declared.append(item)
    return declared


def _copy(item):
    """Copies a field for a new dataclass."""
    if item.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=item.default_factory, metadata=item.metadata)
    return dataclasses.field(default=item.default, metadata=item.metadata)


def _recipe_type(annotation):
    """Returns the type of an optional field for YAML and command lines."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    parts = [_readable(part) for part in parts if part is not NoneType]
    return reduce(operator.or_, [*parts, None])


def _readable(part):
    """Replaces tuples by lists, and accepts JSON strings for mappings."""
    if get_origin(part) is tuple:
        return list[get_args(part)[0]]
    return dict | str if get_origin(part) is dict or part is dict else part


def _parse_descriptions(config_class):
    """Returns the descriptions of the arguments in the docstring of a class, by name."""
    entry = re.compile(r"^ {4}(\w+) \(.*\):\n((?: {8}.*\n?|\n(?= {8}))+)", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entry.findall(inspect.getdoc(config_class) or "")}
