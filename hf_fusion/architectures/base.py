"""What differs between architectures, behind one interface, and the register of those that there are."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset, DatasetDict
from transformers import PretrainedConfig, PreTrainedModel, ProcessorMixin

from hf_fusion.data.arguments import DataArguments, DataKind
from hf_fusion.evaluation.diagnostics.collect import Track, untracked
from hf_fusion.evaluation.diagnostics.findings import Section
from hf_fusion.utils.errors import RecipeError

_REGISTER: dict[str, "Architecture"] = {}


class Architecture(ABC):
    """
    All that training, evaluation and reports need to know of one architecture beyond its classes in `models/`.

    A subclass for one more architecture is registered by [`register_architecture`]; its configuration, model and
    processor are registered with transformers' Auto classes. What the rooms below need (which modalities, which heads)
    they ask the configuration, see [`FusionConfigMixin`].

    Class attributes:
        config_class (`type[PretrainedConfig]`): the configuration; its `model_type` is the architecture's name. The
            fields of its `__init__` are fields of recipes, with their types and help.
        recipe_fields (`type`): a dataclass of recipe fields that only `build` reads, such as encoders. They may also
            describe fields of the configuration, which then have this type and help.
        settled_fields (`tuple(str)`): fields of the configuration that data or encoders decide, no recipe.
        data_kind (`str`): "reviews" or "clips".
        main_metrics (`tuple(str)`): the metrics that summaries show, the most important one last.
    """

    config_class: ClassVar[type[PretrainedConfig]]
    recipe_fields: ClassVar[type]
    settled_fields: ClassVar[tuple[str, ...]] = ()
    data_kind: ClassVar[DataKind]
    main_metrics: ClassVar[tuple[str, ...]]

    @property
    def model_type(self) -> str:
        """`str`: the name, as in recipes and `config.json`."""
        return self.config_class.model_type

    @property
    def unit(self) -> str:
        """`str`: what a row of the data is called."""
        return self.data_kind.removesuffix("s")

    def check_recipe(self, model_args: Any) -> None:  # noqa: B027 - nothing to check is the rule
        """Raises [`RecipeError`] where fields of the recipe's model part do not go together."""

    @abstractmethod
    def load(self, data_args: DataArguments, config: PretrainedConfig | None = None) -> DatasetDict:
        """
        Reads the data; `data_args` then hold what was derived from it.

        Args:
            data_args: the data.
            config: of a model that is there, whose classes the data is read for.
        """

    @abstractmethod
    def check_training(self, train: Dataset, data_args: DataArguments, is_sample: bool = False) -> None:
        """Raises [`DataError`], or warns, if a training split (or a sample of it) does not show what it should."""

    @abstractmethod
    def check_data(self, config: PretrainedConfig, data_args: DataArguments, rows: Dataset) -> None:
        """Raises [`RecipeError`] if a model of this configuration cannot read the rows, or has other classes."""

    @abstractmethod
    def build(
        self, model_args: Any, data_args: DataArguments, train: Dataset, teacher: Any = None
    ) -> tuple[PreTrainedModel, ProcessorMixin]:
        """
        Builds or loads the model that a recipe describes, and its processor.

        Args:
            model_args: the recipe's model part.
            data_args: its data part, after [`load`].
            train: the training split; tokenizers from scratch and normalisations are fitted on it.
            teacher ([`FusionSentimentPipeline`], *optional*): of a distillation.

        Raises:
            RecipeError: if the recipe describes no model.
        """

    @abstractmethod
    def encode(self, rows: Dataset, processor: ProcessorMixin) -> Dataset:
        """
        Turns rows into what the collator takes: the model's inputs, its labels, `length` (0 = nothing to read) and for
        each modality `{modality}_truncated`.
        """

    @abstractmethod
    def measure(
        self,
        classify: Any,
        rows: Dataset,
        folder: Path | None = None,
        batch_size: int = 32,
        track: Callable = iter,
        picture_format: str = "png",
    ) -> dict[str, float]:
        """
        The metrics of a pipeline on labelled rows.

        Args:
            classify ([`FusionSentimentPipeline`]): the pipeline.
            rows: a split as [`load`] returns it.
            folder: if given, gets pictures.
            batch_size: rows of a forward pass.
            track: wraps the answers, for a progress bar.
            picture_format: "png", "pdf" or "svg".
        """

    @abstractmethod
    def measure_baselines(self, splits: DatasetDict, data_args: DataArguments) -> dict[str, dict[str, float]]:
        """The metrics on the test split of simple models that know the training split, by name."""

    @abstractmethod
    def diagnose(
        self,
        classify: Any,
        rows: Dataset,
        batch_size: int,
        checkpoint: str,
        data_args: DataArguments,
        track: Track = untracked,
    ) -> list[Section]:
        """
        The sections of a report on a checkpoint and the rows.

        Args:
            classify ([`FusionSentimentPipeline`]): the pipeline of the checkpoint.
            rows: a split as [`load`] returns it.
            batch_size: rows of a forward pass.
            checkpoint: the folder, whose training logs are read.
            data_args: the data that the rows are of.
            track: wraps the steps of each long part, given its name and their number, for a progress bar.
        """


def register_architecture(architecture: Architecture) -> None:
    """
    Makes an architecture known to recipes, training, evaluation, studies and publishing.

    Raises:
        ValueError: if another one has its name.
    """
    known = _REGISTER.setdefault(architecture.model_type, architecture)
    if type(known) is not type(architecture):
        raise ValueError(f"`model_type` {architecture.model_type!r} is already registered, by {type(known).__name__}.")


def registered_architectures() -> Iterable[Architecture]:
    """All architectures, in the order of their registration."""
    return list(_REGISTER.values())


def architecture_of(model: PretrainedConfig | str) -> Architecture:
    """
    The architecture of a configuration or of a `model_type`.

    Raises:
        RecipeError: if it is not registered; names those that are.
    """
    name = model if isinstance(model, str) else model.model_type
    if name not in _REGISTER:
        raise RecipeError(f"`model_type` must be one of {', '.join(_REGISTER)}, got {name!r}.")
    return _REGISTER[name]
