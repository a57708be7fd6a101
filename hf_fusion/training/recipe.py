"""Parses recipes: YAML files and command-line flags become the three argument groups of a run."""

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hf_fusion.architectures import architecture_of
from hf_fusion.architectures.arguments import model_arguments
from hf_fusion.data.arguments import TRAINING_FIELDS, DataArguments
from hf_fusion.data.files import parse_yaml, read_yaml
from hf_fusion.hub.checkpoint_names import check_folder_name
from hf_fusion.training.arguments import FusionTrainingArguments
from hf_fusion.training.recipe_parser import RecipeParser
from hf_fusion.utils.errors import DataError, RecipeError, listed
from hf_fusion.utils.fields import is_text_list, wrong_field
from hf_fusion.utils.shipped import find_file

# Fields that `TrainingArguments`, the trainer or the machine set; they do not belong to a recipe.
_DERIVED = (
    "accelerator_config", "activation_checkpointing", "dataloader_pin_memory", "debug", "disable_tqdm", "do_eval",
    "gradient_checkpointing_kwargs", "label_names", "local_rank", "logging_dir", "resume_from_checkpoint", "use_cpu",
)  # fmt: skip
# Data fields of a recipe that also apply to evaluation.
_DATA_FIELDS = {f.name for f in dataclasses.fields(DataArguments) if f.init} - {*TRAINING_FIELDS}
# Data fields of the model, which also apply to another data set.
_MODEL_DATA_FIELDS = {
    "num_labels", "class_words", "num_coarse_labels", "coarse_starts", "has_intensity", "intensity_range",
    "label_range", "classes", "several_labels", "modalities",
}  # fmt: skip


def argument_groups() -> tuple[type, ...]:
    """Returns the dataclasses of recipes: [`ModelArguments`], [`DataArguments`], [`FusionTrainingArguments`]."""
    return model_arguments(), DataArguments, FusionTrainingArguments


def parse_recipe(argv: list[str] | None = None, description: str | None = None, prog: str | None = None):
    """
    Parses `--config RECIPE` and further flags. Flags override the recipe, the recipe overrides the defaults.

    Args:
        argv (`list[str]`, *optional*): the command line without the program; by default that of this process.
        description (`str`, *optional*): the description in `--help`.
        prog (`str`, *optional*): the program name in `--help`.

    Returns:
        `tuple`: [`ModelArguments`], [`DataArguments`] and [`FusionTrainingArguments`].

    Raises:
        RecipeError: if the file is not a YAML mapping, or has an unknown field.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = RecipeParser(argument_groups(), prog, description)
    parser.add_argument(
        "--config", metavar="RECIPE",
        help="A YAML file with any of the fields below, or a name that `hf-fusion recipes` lists.",
    )  # fmt: skip
    config = _find_config(argv)
    if config:
        recipe = read_recipe(config)
        if _has_flag(argv, "--dataset"):
            recipe.pop("dataset_options", None)  # they belong to the data set of the recipe
        parser.set_defaults(**recipe)
    return _completed(parser, argv)


def recipe_arguments(recipe: str | Path | Mapping[str, Any], **overrides: Any):
    """
    Creates the arguments of a run from a recipe in Python; see [`parse_recipe`].

    Args:
        recipe (`str`, `Path` or `Mapping`): a file, a name, or a mapping of fields.
        overrides: fields that replace those of the recipe. With another `dataset`, its `dataset_options` are removed.

    Raises:
        RecipeError: if there is no such file or field, or a value does not have the type of its field.
    """
    fields = {**recipe} if isinstance(recipe, Mapping) else read_recipe(str(recipe))
    if "dataset" in overrides:
        fields.pop("dataset_options", None)
    fields = {name: _plain(value) for name, value in {**fields, **overrides}.items()}
    check_fields(fields, "The recipe")
    parser = RecipeParser(argument_groups())
    parser.set_defaults(**fields)
    return _completed(parser, [])


def _completed(parser, argv):
    model_args, data_args, training_args = _parsed(parser, argv)[:3]
    data_args.complete(architecture_of(model_args.model_type).data_kind)
    return model_args, data_args, training_args


def parse_data_arguments(
    own_arguments: type, argv: list[str] | None = None, description: str | None = None, prog: str | None = None
):
    """
    Parses the arguments of a command that takes a checkpoint and a data set.

    Args:
        own_arguments (`type`): the dataclass of the command; its first field, `checkpoint`, is positional.
        argv, description, prog: see [`parse_recipe`].

    Returns:
        `tuple`: the `own_arguments` and the [`DataArguments`]. Without `--dataset` these are the data fields of the
        checkpoint's recipe.

    Raises:
        FileNotFoundError: if the checkpoint is a folder that does not exist.
        RecipeError: without `--dataset` if the checkpoint is not a run folder with a recipe; with fields for training;
            for unknown arguments.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and not argv[0].startswith("-"):
        argv.insert(0, "--checkpoint")
    parser = RecipeParser((own_arguments, DataArguments), prog, description)
    own, _ = _parsed(parser, argv)
    check_folder_name(own.checkpoint)
    config = Path(own.checkpoint) / "config.yaml"
    if config.is_file():
        names = _MODEL_DATA_FIELDS if _has_flag(argv, "--dataset") else _DATA_FIELDS
        parser.set_defaults(**{name: value for name, value in read_recipe(str(config)).items() if name in names})
    elif not _has_flag(argv, "--dataset"):
        raise RecipeError(f"{own.checkpoint} has no config.yaml with its data: name them by --dataset.")
    own, data_args = _parsed(parser, argv)
    for name in ("augmentations", "missing_protocol"):
        if getattr(data_args, name):
            raise RecipeError(f"`{name}` is for training; use `damage` to corrupt the rows of an evaluation.")
    return own, data_args


def read_data_arguments(run_folder: str | Path) -> DataArguments:
    """Returns the data arguments of a run's recipe, for evaluation."""
    recipe = read_recipe(str(Path(run_folder) / "config.yaml"))
    return DataArguments(**{name: value for name, value in recipe.items() if name in _DATA_FIELDS})


def parse_options(
    groups: tuple[type, ...], argv: list[str] | None = None, description: str | None = None, prog: str | None = None
):
    """Parses the command line into the dataclasses `groups`, without a recipe; see [`parse_recipe`] for errors."""
    argv = list(sys.argv[1:] if argv is None else argv)
    return _parsed(RecipeParser(groups, prog, description), argv)


def uses_cpu(argv: list[str]) -> bool:
    """Whether the recipe or the flags select the CPU, without parsing them fully."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--use_cpu", "--use-cpu", nargs="?", const="true")
    config, flag = _find_config(argv), parser.parse_known_args(argv)[0].use_cpu
    if flag is None and config:
        flag = read_recipe(config).get("use_cpu", False)
    return str(flag).lower() in ("true", "1", "yes", "y", "t")


def _has_flag(argv, flag):
    return any(word.partition("=")[0] == flag for word in argv)


def _parsed(parser, argv):
    try:
        *groups, unknown = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
        if unknown:
            flags = [flag for action in parser._actions for flag in action.option_strings]
            near = get_close_matches(unknown[0].partition("=")[0], flags, n=1)
            advice = f" Did you mean {near[0]}?" if near else " `--help` lists the flags."
            raise RecipeError(f"No flag takes {' '.join(unknown)}.{advice}")
        return _with_lists(_with_mappings(groups))
    except ValueError as error:  # unknown arguments, and values that `TrainingArguments` refuses
        raise RecipeError(str(error)) from error


def _find_config(argv):
    """Returns the value of `--config` before the parser runs, since the recipe sets the parser's defaults."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    return parser.parse_known_args(argv)[0].config


def _with_mappings(groups):
    """Parses the JSON strings of mapping fields."""
    for group in filter(dataclasses.is_dataclass, groups):
        for name, hint in get_type_hints(type(group)).items():
            value = getattr(group, name, None)
            if isinstance(value, str) and dict in get_args(hint) and not isinstance(group, FusionTrainingArguments):
                setattr(group, name, _parse_mapping(name, value))
    return tuple(groups)


def _with_lists(groups):
    """Turns the single string of a YAML file into the list that the field is, as on the command line."""
    for group in filter(dataclasses.is_dataclass, groups):
        for name, hint in get_type_hints(type(group)).items():
            if is_text_list(hint) and isinstance(value := getattr(group, name, None), str):
                setattr(group, name, [value])
    return groups


def read_recipe(path: str) -> dict[str, Any]:
    """Reads the fields of a recipe and checks them; see [`find_file`] for `path`."""
    path = str(find_file(path, "recipe"))
    try:
        recipe = read_yaml(path)
    except DataError as error:
        raise RecipeError(str(error)) from error
    if not isinstance(recipe, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of fields to values, this is {type(recipe).__name__}.")
    check_fields(recipe, path)
    return recipe


def check_fields(fields: Mapping[str, Any], place: str) -> None:
    """Raises [`RecipeError`] with the prefix `place` for fields that are unknown or have a wrong type."""
    groups = argument_groups()
    known = {f.name for group in groups for f in dataclasses.fields(group) if f.init}
    if unknown := sorted(map(str, set(fields) - known)):
        near = get_close_matches(unknown[0], known, n=3)
        advice = f" Did you mean {' or '.join(near)}?" if near else ""
        raise RecipeError(f"{place}: unknown field {listed(unknown)}.{advice}")
    for group in groups:
        if wrong := wrong_field(group, fields, as_flags=True):
            raise RecipeError(f"{place}: {wrong}")


def _parse_mapping(name, text):
    """Parses a mapping in JSON; names of encoders stay strings."""
    if not text.lstrip().startswith("{"):
        if "encoder" in name:
            return text
        raise RecipeError(f'`{name}` must be a JSON mapping such as \'{{"text": "review"}}\', got {text!r:.200}.')
    try:
        mapping = parse_yaml(text, f"`{name}`", "JSON")
    except DataError as error:
        raise RecipeError(str(error)) from error
    if not isinstance(mapping, dict):
        raise RecipeError(f"`{name}` must be a JSON mapping, got {text!r:.200}.")
    return mapping


def resolved_recipe(model_args, data_args, training_args) -> dict[str, Any]:
    """Returns the fields of a recipe that repeats the run, without defaults and tokens."""
    recipe = {}
    for group in (model_args, data_args, training_args):
        for item in dataclasses.fields(group):
            value = _plain(getattr(group, item.name, None))
            if item.name == "gradient_checkpointing" and not value:
                continue  # set automatically
            if item.name.endswith("_token"):
                continue  # a recipe may be published
            default = _plain(item.default if item.default_factory is dataclasses.MISSING else item.default_factory())
            if item.init and item.name not in _DERIVED and value not in (default, [default]):
                recipe[item.name] = value
    return recipe


def _plain(value):
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return value.value
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
