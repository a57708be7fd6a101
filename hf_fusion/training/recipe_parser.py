"""A parser for the command line of recipes, with help in groups of fields."""

import argparse
import copy
import dataclasses

from transformers import HfArgumentParser, TrainingArguments

from hf_fusion.architectures import registered_architectures
from hf_fusion.architectures.arguments import ModelArguments, collect_fields
from hf_fusion.data.arguments import ClipFields, DataArguments, ReviewFields
from hf_fusion.training.arguments import FusionTrainingArguments
from hf_fusion.utils.errors import RecipeError

# The help group of the fields that a dataclass declares. Architectures have separate groups.
_GROUPS = {
    DataArguments: "data",
    ReviewFields: "data: reviews",
    ClipFields: "data: clips",
    ModelArguments: "model",
    FusionTrainingArguments: "training",
    TrainingArguments: "training: other fields of transformers",
}
_INHERITED = _GROUPS[TrainingArguments]
# Fields of `TrainingArguments` in the short help.
_COMMON = (
    "output_dir", "num_train_epochs", "max_steps", "per_device_train_batch_size", "per_device_eval_batch_size",
    "gradient_accumulation_steps", "learning_rate", "weight_decay", "warmup_steps", "lr_scheduler_type", "bf16", "seed",
    "metric_for_best_model", "greater_is_better", "resume_from_checkpoint", "use_cpu", "push_to_hub", "hub_model_id",
)  # fmt: skip


class RecipeParser(HfArgumentParser):
    """
    A parser of dataclasses. `--help` shows common fields in groups, `--help-all` shows all fields.

    Args:
        dataclasses_ (`tuple[type, ...]`): the dataclasses whose fields are the flags.
        prog, description (`str`, *optional*): see `argparse.ArgumentParser`.
    """

    def __init__(self, dataclasses_: tuple[type, ...], prog: str | None = None, description: str | None = None):
        formatter = argparse.RawDescriptionHelpFormatter
        # an abbreviated `--config` would be accepted, and the recipe not read
        super().__init__(
            dataclasses_, prog=prog, description=description, formatter_class=formatter, allow_abbrev=False
        )
        if any(issubclass(group, TrainingArguments) for group in dataclasses_):
            text = "Show all fields, including rarely used ones."
            self.add_argument("--help-all", nargs=0, action=_HelpAll, help=text)
        self.usage = "%(prog)s [--FIELD VALUE ...]"

    def error(self, message: str) -> None:
        """Raises [`RecipeError`] instead of printing all flags and exiting."""
        raise RecipeError(message)

    def format_help(self, everything: bool = False) -> str:
        """Returns the help; with `everything` including rarely used fields."""
        groups: dict[str, list] = {title: [] for title in _titles()}
        titles = {
            item.name: _find_title(cls, item.name)
            for cls in self.dataclass_types
            for item in dataclasses.fields(cls)
            if item.init
        }
        for action in self._actions:
            if action.option_strings and not _is_negation(action):
                groups[titles.get(action.dest, "options")].append(_short(action))
        if not everything:
            del groups[_INHERITED]
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, (), ())
        formatter.add_text(self.description)
        for title, actions in groups.items():
            formatter.start_section(title)
            formatter.add_arguments(actions)
            formatter.end_section()
        return formatter.format_help()


class _HelpAll(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        print(parser.format_help(everything=True), end="")
        parser.exit()


def _titles():
    """Returns the titles of the groups in order."""
    own = [_architecture_title(architecture) for architecture in registered_architectures()]
    titles = list(dict.fromkeys(_GROUPS.values()))
    place = titles.index(_GROUPS[ModelArguments]) + 1
    return ["options", *titles[:place], *own, *titles[place:]]


def _architecture_title(architecture):
    """Returns the name of an architecture from the name of its configuration class."""
    return architecture.config_class.__name__.removesuffix("Config")


def _find_title(cls, name):
    """Returns the group of a field: its single architecture, or the dataclass that declares it."""
    declaring = next(base for base in cls.__mro__ if name in vars(base).get("__annotations__", ()))
    if issubclass(cls, ModelArguments):
        having = [one for one in registered_architectures() if name in {item.name for item in collect_fields(one)}]
        return _architecture_title(having[0]) if len(having) == 1 else _GROUPS[ModelArguments]
    title = _GROUPS.get(declaring, "options")
    return _GROUPS[FusionTrainingArguments] if title == _INHERITED and name in _COMMON else title


def _is_negation(action):
    """Whether an action is `--no_FIELD`, which transformers adds to booleans that default to true."""
    return isinstance(action, argparse._StoreFalseAction)


def _short(action):
    """Returns an action for the help: without the spelling with hyphens, and with its default."""
    short = copy.copy(action)
    hyphens = f"--{action.dest.replace('_', '-')}"
    if len(action.option_strings) > 1:
        short.option_strings = [flag for flag in action.option_strings if flag != hyphens or "_" not in action.dest]
    if action.nargs != 0 and action.choices is None and action.metavar is None:
        short.metavar = "VALUE"
    shown = action.nargs != 0 and action.help and action.default not in (None, "", argparse.SUPPRESS)
    if shown and "default" not in action.help:
        short.help = f"{action.help} (default: %(default)s)"
    return short
