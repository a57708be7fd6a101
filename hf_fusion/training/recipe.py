"""Recipes: a YAML file and command-line flags -> the three argument groups of a run."""

import argparse
import dataclasses
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from hf_fusion.data.labels import LabelError, LabelRules
from hf_fusion.data.reviews import SYNTHETIC, ReviewSource
from hf_fusion.training.arguments import FusionTrainingArguments


class RecipeError(ValueError):
    """A recipe that cannot be run; says which field, what was given and what is accepted."""


def _option(text, default=None, **kwargs):
    return field(default=default, metadata={"help": text, **kwargs})


@dataclass
class ModelArguments:
    """The model: two encoders and how they are fused. Fields left out have the defaults of `DyFuLMConfig`."""

    checkpoint: str | None = _option("A trained DyFuLM to go on from, instead of encoders.")
    encoder_a: dict | str | None = _option(
        "Pretrained encoder A: a name on the Hub, a folder, or package:NAME/FOLDER for weights inside an installed "
        "Python package. Or a mapping (JSON) for one from scratch: model_type and fields of its configuration, and "
        "tokenizer (bpe, unigram or wordpiece, trained on the training texts) with vocab_size."
    )
    encoder_b: dict | str | None = _option("Encoder B, likewise; not needed with cross_fusion a.")
    max_length: int | None = _option("Most tokens of a text; defaults to what both encoders allow, at most 512.")
    fusion_hidden_size: int | None = _option("Width of the fused features; defaults to encoder A's.")
    layer_fusion: str | None = _option("bilstm, mean or last.")
    layer_fusion_hidden_size: int | None = _option("Width of the layer BiLSTM, per direction.")
    cross_fusion: str | None = _option("gate, mean, concat, or a single encoder: a or b.")
    gate_level: str | None = _option("span or sequence.")
    use_guidance: bool | None = _option("Whether coarse sentiment and intensity guide the fine head.")
    loss_weighting: str | None = _option("uncertainty, dwa or fixed.")
    loss_weights: list[float] | None = _option("Constant factors of fine, coarse and intensity loss.")
    classifier_dropout: float | None = _option("Dropout before the heads.")
    lora_encoders: str | None = _option("Train encoders a, b or both by LoRA; fusion and heads are trained in full.")
    lora_rank: int = _option("Rank of the LoRA matrices.", 8)
    lora_alpha: int = _option("Scale of the LoRA update, over the rank.", 16)
    lora_dropout: float = _option("Dropout of the LoRA input.", 0.05)
    merge_lora: bool = _option("Save a plain checkpoint with the adapter merged in, instead of the adapter.", True)

    def config_fields(self) -> dict[str, Any]:
        """What was set of `DyFuLMConfig`."""
        names = (
            "fusion_hidden_size", "layer_fusion", "layer_fusion_hidden_size", "cross_fusion", "gate_level",
            "use_guidance", "loss_weighting", "loss_weights", "classifier_dropout",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass
class DataArguments:
    """The reviews: where they are, and how ratings become labels."""

    dataset: str = _option(
        "synthetic-reviews, a file (.csv, .csv.gz, .tsv, .jsonl, .parquet), or the name of a data set on the Hub.",
        SYNTHETIC,
    )
    dataset_options: dict | str | None = _option("Options of the synthetic corpus or of datasets.load_dataset (JSON).")
    columns: dict | str | None = _option(
        "The data's own name for each of text, id, split, stars, score, label, coarse_label, intensity, source (JSON)."
    )
    scale: list[float] | None = _option("Lowest and highest score; 1 5 for files, 0 1 for the synthetic corpus.")
    num_labels: int = _option("Fine classes.", 5)
    coarse_starts: list[int] = field(
        default_factory=lambda: [0, 2, 3],
        metadata={"help": "The fine class that each coarse class begins with; 0 2 3 means 1-2 / 3 / 4-5 stars."},
    )
    rejected_rows: str = _option("What to do with unusable rows: error, or drop (with a warning).", "error")
    split_shares: list[float] = field(
        default_factory=lambda: [0.8, 0.1, 0.1],
        metadata={"help": "Shares of train, validation, test where there is no split column; drawn by text hash."},
    )
    split_seed: int = _option("Seed of that split.", 0)
    max_train_samples: int | None = _option("Train on so many reviews, drawn with the run's data_seed or seed.")
    max_eval_samples: int | None = _option("Evaluate on the first so many reviews of validation and of test.")

    def source(self) -> ReviewSource:
        """The reader's view of these fields; raises [`RecipeError`] if they make no sense together."""
        scale = self.scale or ([0.0, 1.0] if self.dataset == SYNTHETIC else [1.0, 5.0])
        try:
            rules = LabelRules(tuple(scale), self.num_labels, tuple(self.coarse_starts))
        except LabelError as error:
            raise RecipeError(f"scale, num_labels and coarse_starts do not fit together: {error}") from error
        return ReviewSource(
            name=self.dataset,
            columns=self.columns or {},
            rules=rules,
            rejected=self.rejected_rows,
            split_shares=tuple(self.split_shares),
            split_seed=self.split_seed,
            options=self.dataset_options or {},
        )


ARGUMENT_GROUPS = (ModelArguments, DataArguments, FusionTrainingArguments)
# What `TrainingArguments`, the trainer or the machine fill in; none of it repeats a run.
_DERIVED = (
    "accelerator_config", "activation_checkpointing", "dataloader_pin_memory", "debug", "disable_tqdm", "do_eval",
    "gradient_checkpointing_kwargs", "label_names", "local_rank", "logging_dir", "resume_from_checkpoint", "use_cpu",
)  # fmt: skip
_DATA_FIELDS = {f.name for f in dataclasses.fields(DataArguments)}
_MAPPINGS = ("encoder_a", "encoder_b", "dataset_options", "columns")


def parse_recipe(argv: list[str] | None = None, description: str | None = None):
    """
    Reads `--config RECIPE.yaml` and the flags after it; a flag overrides the recipe, the recipe the defaults.

    Args:
        argv: the command line without the program; defaults to that of this process.
        description: what `--help` says first.

    Returns:
        ([`ModelArguments`], [`DataArguments`], [`FusionTrainingArguments`]).

    Raises:
        RecipeError: if the file is no YAML mapping or names a field that does not exist.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser(ARGUMENT_GROUPS, description)
    parser.add_argument("--config", help="A recipe: a YAML file with any of the fields below.")
    config = _config_of(argv)
    if config:
        recipe = read_recipe(config)
        if _has_flag(argv, "--dataset"):
            recipe.pop("dataset_options", None)  # they belong to the recipe's own data set
        parser.set_defaults(**recipe)
    *groups, _ = parser.parse_args_into_dataclasses(argv)
    return _with_mappings(groups)


def parse_data_arguments(own_arguments: type, argv: list[str] | None = None, description: str | None = None):
    """
    The arguments of a script that takes a checkpoint and a data set.

    Args:
        own_arguments: the script's own dataclass; its first field is `checkpoint` and may be given without its name.
        argv, description: as in [`parse_recipe`].

    Returns:
        (`own_arguments`, [`DataArguments`]). Without `--dataset` the data fields of the checkpoint's own recipe are
        taken, if it is a run folder.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and not argv[0].startswith("-"):
        argv.insert(0, "--checkpoint")
    parser = _parser((own_arguments, DataArguments), description)
    own, _ = _with_mappings(parser.parse_args_into_dataclasses(argv))
    config = Path(own.checkpoint) / "config.yaml"
    if config.is_file():
        # of another data set only the classes are known: they are the model's
        names = {"num_labels", "coarse_starts"} if _has_flag(argv, "--dataset") else _DATA_FIELDS
        parser.set_defaults(**{name: value for name, value in read_recipe(str(config)).items() if name in names})
    return _with_mappings(parser.parse_args_into_dataclasses(argv))


def _has_flag(argv, flag):
    return any(word.partition("=")[0] == flag for word in argv)


def _parser(groups, description):
    return HfArgumentParser(groups, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def _config_of(argv):
    """The value of `--config`, before the parser runs: its content becomes the parser's defaults."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    return parser.parse_known_args(argv)[0].config


def _with_mappings(groups):
    for name in _MAPPINGS:
        for group in groups:
            if isinstance(getattr(group, name, None), str):
                setattr(group, name, _mapping_of(name, getattr(group, name)))
    return tuple(groups)


def read_recipe(path: str) -> dict[str, Any]:
    """The fields of a recipe file, checked against the fields that exist."""
    if not Path(path).is_file():
        raise RecipeError(f"{path}: no such recipe.")
    try:
        recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: no valid YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of fields to values, this is {type(recipe).__name__}.")
    known = {f.name for group in ARGUMENT_GROUPS for f in dataclasses.fields(group)}
    unknown = sorted(map(str, set(recipe) - known))
    if unknown:
        raise RecipeError(f"{path}: unknown field {', '.join(unknown)}. `--help` lists the fields.")
    return recipe


def _mapping_of(name, text):
    """A mapping given as JSON; an encoder's name stays a name."""
    if not text.lstrip().startswith("{"):
        if name.startswith("encoder"):
            return text
        raise RecipeError(f'`{name}` must be a JSON mapping such as \'{{"text": "review"}}\', got {text!r}.')
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"`{name}` is no valid JSON: {error}") from error


def resolved_recipe(model_args, data_args, training_args) -> dict[str, Any]:
    """Everything that was set, as a recipe that repeats the run; defaults are left out."""
    recipe = {}
    for group in (model_args, data_args, training_args):
        for item in dataclasses.fields(group):
            value = _plain(getattr(group, item.name, None))
            if item.name == "gradient_checkpointing" and not value:
                continue  # filled in, where it was left open
            default = _plain(item.default if item.default_factory is dataclasses.MISSING else item.default_factory())
            if item.init and item.name not in _DERIVED and value not in (default, [default]):
                recipe[item.name] = value
    return recipe


def _plain(value):
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return value.value
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
