"""The main functions of the package: train with a recipe, evaluate a checkpoint."""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from transformers import TrainerCallback

from hf_fusion.architectures import architecture_of
from hf_fusion.architectures.encoding import data_arguments_for
from hf_fusion.architectures.evaluate_checkpoint import load_split
from hf_fusion.data.in_memory import Data
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.models.pipeline_fusion_sentiment import FusionSentimentPipeline
from hf_fusion.training.recipe import read_data_arguments, recipe_arguments
from hf_fusion.training.result import TrainingResult
from hf_fusion.training.run import train_by_recipe
from hf_fusion.utils.errors import DataError, RecipeError
from hf_fusion.utils.quiet import quiet_libraries

logger = logging.getLogger(__name__)


def train(
    recipe: str | Path | Mapping[str, Any], *, callbacks: list[TrainerCallback] | None = None, **overrides: Any
) -> TrainingResult:
    """
    Trains a model with a recipe, and logs the warnings of its [`TrainingResult`].

    Args:
        recipe (`str`, `Path` or `dict`): a YAML file, the name of a shipped recipe, or a `dict` of fields.
        callbacks (`list[TrainerCallback]`, *optional*): additional callbacks of the trainer.
        overrides: fields that replace those of the recipe, such as `output_dir="runs/mine"`.

    Returns:
        [`TrainingResult`]: the run folder, the metrics and the trainer.

    Raises:
        RecipeError: if the recipe or a field does not exist or is not valid, or `output_dir` holds a run.
        DataError: if the data does not fit its declaration.

    Example:

    ```python
    import hf_fusion

    encoder = {"model_type": "bert", "tokenizer": "wordpiece", "vocab_size": 300, "hidden_size": 16}
    encoder |= {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    recipe = {"encoder_a": encoder, "cross_fusion": "a", "max_length": 64, "num_train_epochs": 1}
    sizes = {"num_train": 64, "num_validation": 16, "num_test": 16}
    result = hf_fusion.train(recipe, dataset_options=sizes, output_dir="runs/example")
    print(result)  # a table of the metrics
    classify = hf_fusion.FusionSentimentPipeline.from_pretrained(result.folder)
    ```
    """
    data = overrides.get("dataset", recipe.get("dataset") if isinstance(recipe, Mapping) else None)
    if not isinstance(data, (str, Path, NoneType)):
        raise RecipeError(
            f"`dataset` must be a path or a name, which the recipe of the run keeps, got {type(data).__name__}: save "
            "the data, or give it to FusionTrainer."
        )
    with quiet_libraries():
        model_args, data_args, training_args = recipe_arguments(recipe, **overrides)
        result = train_by_recipe(model_args, data_args, training_args, callbacks)
    for text in result.warnings:
        logger.warning(text)
    return result


def evaluate(
    model: str | Path | FusionSentimentPipeline,
    data: Data | None = None,
    *,
    split: str = "test",
    columns: dict[str, str | None] | None = None,
    batch_size: int = 32,
    device: str | None = None,
    long_texts: str | None = None,
    **fields: Any,
) -> dict[str, float]:
    """
    Evaluates a model on labelled data.

    Args:
        model (`str`, `Path` or [`FusionSentimentPipeline`]): a run folder, a name on the Hub, or a pipeline.
        data (`str`, `Path`, `pandas.DataFrame`, `Dataset` or `DatasetDict`, *optional*): any input of [`load_reviews`]
            and [`load_clips`]; by default the data of the run's recipe. All rows of data without splits are used.
        split (`str`, *optional*, defaults to `"test"`): the split of data with splits.
        columns (`dict`, *optional*): for reviews, the data's column name of `text`, `stars`, `score`, `label` ...
        batch_size (`int`, *optional*, defaults to 32): the number of rows per forward pass.
        device (`str`, *optional*): the device to load the model on: `"cpu"`, `"cuda:0"` ...
        long_texts (`str`, *optional*): `"window"` to read long texts whole, the default where the model can, or `"cut"`
            as in training, whose metrics these then are.
        fields: other fields of [`DataArguments`], such as `scale`, `rejected_rows` or `max_eval_samples`.

    Returns:
        `dict[str, float]`: the [`ReviewMetrics`] or [`SentimentRegressionMetrics`].

    Raises:
        DataError: if the data does not fit its declaration, or lacks the split.
        RecipeError: if the labels do not fit the classes of the model.

    Example with an existing run:

    ```
    hf_fusion.evaluate("runs/mine", "reviews.csv", columns={"text": "review", "stars": "rating"})["fine_accuracy"]
    ```
    """
    with quiet_libraries():
        classify = load_pipeline(str(model), device=device) if isinstance(model, (str, Path)) else model
        config = classify.model.config
        if columns is not None:
            fields["columns"] = columns
        if data is None:
            data_args = _own_data(model, fields)
        else:
            _warn_of_training_data(model, data)
            # all rows of data without splits go to the test split
            data_args = data_arguments_for(config, data, **{"split_shares": [0.0, 0.0, 1.0], **fields})
        rows = load_split(config, data_args, split, classify.processor)
        return architecture_of(config).measure(classify, rows, batch_size, long_texts=long_texts)


def _own_data(model, fields):
    """Returns the data arguments of a run's recipe with changed fields."""
    if not isinstance(model, (str, Path)) or not (Path(model) / "config.yaml").is_file():
        raise DataError("`data` is missing: only a run folder has a recipe with its data.")
    data_args = read_data_arguments(model)
    for name, value in fields.items():
        if not hasattr(data_args, name):
            raise TypeError(f"evaluate() got an unexpected keyword argument {name!r}.")
        setattr(data_args, name, value)
    return data_args


def _warn_of_training_data(model, data):
    """Warns if a run was trained on the same data."""
    if not isinstance(model, (str, Path)) or not isinstance(data, (str, Path)):
        return
    if (Path(model) / "config.yaml").is_file() and read_data_arguments(model).dataset == str(data):
        logger.warning("%s was trained on rows of %s: omit `data` to evaluate on its test split.", model, data)
