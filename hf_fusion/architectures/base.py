"""The interface of an architecture, and the register of all architectures."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import PretrainedConfig, PreTrainedModel, ProcessorMixin

from hf_fusion.data.arguments import DataArguments, DataKind
from hf_fusion.evaluation.baselines import ReviewBaselines
from hf_fusion.evaluation.diagnostics.collect import Track, untracked
from hf_fusion.evaluation.diagnostics.findings import Section
from hf_fusion.evaluation.kept_predictions import Predictions, predict_labelled
from hf_fusion.utils.errors import RecipeError

_REGISTER: dict[str, "Architecture"] = {}


class Architecture(ABC):
    """
    The parts of training, evaluation and reports that depend on the architecture.

    To add an architecture, register its subclass with [`register_architecture`], and its configuration, model and
    processor with the Auto classes of transformers. Facts that loading and predictions need, such as modalities and
    heads, belong to the configuration, see [`FusionConfigMixin`].

    Class attributes:
        config_class (`type[PretrainedConfig]`): the configuration class. Its `model_type` is the name of the
            architecture; the arguments of its `__init__` are recipe fields, with their types and help.
        recipe_fields (`type`): a dataclass of recipe fields for `build`, such as encoders. A field with the name of a
            configuration field replaces its type and help.
        settled_fields (`tuple(str)`): configuration fields that depend on data or encoders, and are no recipe fields.
        data_kind (`str`): `"reviews"` or `"clips"`.
        main_metrics (`tuple(str)`): the metrics in summaries, the most important one last.
    """

    config_class: ClassVar[type[PretrainedConfig]]
    recipe_fields: ClassVar[type]
    settled_fields: ClassVar[tuple[str, ...]] = ()
    data_kind: ClassVar[DataKind]
    main_metrics: ClassVar[tuple[str, ...]]

    @property
    def model_type(self) -> str:
        """`str`: the name in recipes and `config.json`."""
        return self.config_class.model_type

    @property
    def unit(self) -> str:
        """`str`: the word for a row of the data."""
        return self.data_kind.removesuffix("s")

    def check_recipe(self, model_args: Any) -> None:  # noqa: B027 - most architectures have nothing to check
        """Raises [`RecipeError`] if fields of the recipe's model part contradict each other."""

    def select_metric(self, data_args: DataArguments) -> str | None:
        """
        Returns the metric by which the best checkpoint is chosen where a recipe names none; by default the loss
        (`None`).

        Args:
            data_args ([`DataArguments`]): the data, after `load`.
        """
        return None

    @abstractmethod
    def load(self, data_args: DataArguments, config: PretrainedConfig | None = None) -> DatasetDict:
        """
        Loads the data, and stores the values derived from it (such as classes) in `data_args`.

        Args:
            data_args ([`DataArguments`]): the data.
            config ([`PretrainedConfig`], *optional*): the configuration of an existing model, whose classes are used.
        """

    @abstractmethod
    def check_training(self, train: Dataset, data_args: DataArguments, is_sample: bool = False) -> None:
        """Raises [`DataError`], or warns, if a training split (or a sample of it) lacks values such as classes."""

    @abstractmethod
    def check_data(self, config: PretrainedConfig, data_args: DataArguments, rows: Dataset) -> None:
        """Raises [`RecipeError`] if a model with this configuration cannot read the rows, or has other classes."""

    @abstractmethod
    def build(
        self, model_args: Any, data_args: DataArguments, train: Dataset, teacher: Any = None
    ) -> tuple[PreTrainedModel, ProcessorMixin]:
        """
        Builds or loads the model of a recipe, and its processor.

        Args:
            model_args ([`ModelArguments`]): the model part of the recipe.
            data_args ([`DataArguments`]): the data part, after `load`.
            train (`Dataset`): the training split, on which new tokenizers and normalisations are fitted.
            teacher ([`FusionSentimentPipeline`], *optional*): the teacher of a distillation.

        Raises:
            RecipeError: if the recipe does not describe a model.
        """

    @abstractmethod
    def encode(self, rows: Dataset, processor: ProcessorMixin, long_texts: str = "cut") -> Dataset:
        """
        Encodes rows for the collator: the inputs and labels of the model, `length` (0 = no input), and
        `{modality}_truncated` for each modality.

        Args:
            rows (`Dataset`): a split of the result of `load`.
            processor (`ProcessorMixin`): the processor of the model.
            long_texts (`str`): `"cut"`, or `"window"` for all windows of a text in its row; then `text_windows` is
                their number.

        Raises:
            RecipeError: if the model reads no windows.
        """

    @abstractmethod
    def evaluate(
        self, predictions: Predictions, folder: Path | None = None, picture_format: str = "png"
    ) -> dict[str, float]:
        """
        Computes the metrics of predictions on labelled rows.

        Args:
            predictions ([`Predictions`]): the predictions of one split.
            folder (`Path`, *optional*): if set, figures are written there.
            picture_format (`str`): the format of the figures, `"png"`, `"pdf"` or `"svg"`.
        """

    def measure(
        self,
        classify: Any,
        rows: Dataset,
        batch_size: int = 32,
        track: Callable = iter,
        long_texts: str | None = None,
    ) -> dict[str, float]:
        """
        Computes the metrics of a pipeline on labelled rows.

        Args:
            classify ([`FusionSentimentPipeline`]): the pipeline.
            rows (`Dataset`): a split of the result of `load`.
            batch_size (`int`): the number of rows per forward pass.
            track (`Callable`): wraps the predictions for a progress bar.
            long_texts (`str`, *optional*): `"window"` or `"cut"`, see [`predict_labelled`].
        """
        return self.evaluate(
            predict_labelled(classify, rows, batch_size=batch_size, track=track, long_texts=long_texts)
        )

    def gather_evidence(
        self,
        parts: Mapping[str, Predictions],
        rows: Mapping[str, Dataset],
        train: Dataset | None = None,
        kept: ReviewBaselines | None = None,
    ) -> dict[str, Any] | None:
        """
        Gathers evidence beside the metrics: intervals, classes, confusion, baselines on the same rows, and warnings.
        `None`, the default, for an architecture without.

        Args:
            parts (`Mapping[str, Predictions]`): the predictions of each split.
            rows (`Mapping[str, Dataset]`): the rows of these splits, in the same order.
            train (`Dataset`, *optional*): the training rows, to fit the baselines on.
            kept ([`ReviewBaselines`], *optional*): the baselines if there are no training rows, or the reason why there
                are none.
        """
        return None

    @abstractmethod
    def measure_baselines(self, splits: DatasetDict, data_args: DataArguments) -> dict[str, dict[str, float]]:
        """Fits simple models on the training split; returns their metrics on the test split by name."""

    def zero_shot_config(self, data_args: DataArguments) -> PretrainedConfig:
        """
        Returns a configuration with the classes of the data (after `load`), by which answers of other models are
        measured.

        Raises:
            RecipeError: if the rows are no texts with classes.
        """
        raise RecipeError(f"Zero-shot baselines read texts with classes; a {self.model_type} reads {self.data_kind}.")

    def zero_shot_outputs(self, probabilities: np.ndarray, data_args: DataArguments) -> dict[str, np.ndarray]:
        """
        Derives the outputs of all heads of `zero_shot_config`, in their order, from the probabilities of the classes
        `(rows, classes)`.
        """
        raise NotImplementedError

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
        Creates the sections of a report on a checkpoint.

        Args:
            classify ([`FusionSentimentPipeline`]): the pipeline of the checkpoint.
            rows (`Dataset`): a split of the result of `load`.
            batch_size (`int`): the number of rows per forward pass.
            checkpoint (`str` or `Path`): the run folder with the training logs.
            data_args ([`DataArguments`]): the data of the rows.
            track (`Callable`): wraps the steps of each long part for a progress bar; called with the steps, the name of
                the part and the number of steps.
        """


def register_architecture(architecture: Architecture) -> None:
    """
    Registers an architecture for recipes, training, evaluation, studies and publishing.

    Raises:
        ValueError: if its `model_type` is already registered.
    """
    known = _REGISTER.setdefault(architecture.model_type, architecture)
    if type(known) is not type(architecture):
        raise ValueError(f"`model_type` {architecture.model_type!r} is already registered, by {type(known).__name__}.")


def registered_architectures() -> Iterable[Architecture]:
    """Returns all architectures in the order of their registration."""
    return list(_REGISTER.values())


def architecture_of(model: PretrainedConfig | str) -> Architecture:
    """
    Returns the architecture of a configuration or of a `model_type`.

    Raises:
        RecipeError: if it is not registered; the message lists the registered ones.
    """
    name = model if isinstance(model, str) else model.model_type
    if name not in _REGISTER:
        raise RecipeError(f"`model_type` must be one of {', '.join(_REGISTER)}, got {name!r}.")
    return _REGISTER[name]
