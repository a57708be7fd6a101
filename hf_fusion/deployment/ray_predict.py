"""Predictions on a Ray cluster with Ray Data. Needs the extra `ray`."""

import pyarrow as pa

from hf_fusion.deployment.prediction_input import check_columns_of_text
from hf_fusion.deployment.predictions import (
    WINDOW_BATCHES,
    Aspects,
    load_pipeline,
    output_schema,
    predict_rows,
    set_answers,
    settle_long_texts,
)
from hf_fusion.utils.extras import import_extra


def predict_dataset(
    dataset,
    checkpoint: str,
    text_column: str = "text",
    batch_size: int = 32,
    dtype: str = "float32",
    num_actors: int = 1,
    num_gpus: float = 0,
    calibration: bool = True,
    abstain_below: float | None = None,
    long_texts: str | None = None,
    consistent: bool = True,
    aspects: Aspects | None = None,
):
    """
    Adds `prediction`, `truncated` and `error` to each row of a Ray data set, as `hf-fusion predict` does.

    Args:
        dataset (`ray.data.Dataset`): rows with a text, and for a DashFusion with `audio` and `vision` (frames x
            features), which are left out of the output.
        checkpoint (`str`): a folder that every node can read, or a name on the Hub.
        text_column (`str`): the column with the text.
        batch_size (`int`): the number of rows per forward pass.
        dtype (`str`): `"float32"`, `"bfloat16"` or `"float16"`.
        num_actors (`int`): the number of processes with a model. Each uses one core, in addition to the readers and
            writers.
        num_gpus (`float`): the number of GPUs per actor; 0 predicts on the CPU, with 0.5 two actors share a GPU.
        calibration (`bool`), abstain_below (`float`, *optional*): see [`set_answers`].
        long_texts (`str`, *optional*), consistent (`bool`), aspects (*optional*): see [`predict_rows`].

    Returns:
        `ray.data.Dataset`: the predictions, computed when they are read or written (`.write_parquet(folder)`). The
        order of the rows is kept only if `ray.data.DataContext.get_current().execution_options.preserve_order` is set.

    Raises:
        ImportError: if `ray` is not installed.
    """
    ray_data = import_extra("ray.data", "ray")
    return dataset.map_batches(
        RayPredictor,
        fn_constructor_kwargs={
            "checkpoint": checkpoint,
            "text_column": text_column,
            "batch_size": batch_size,
            "dtype": dtype,
            "device": "cuda" if num_gpus else "cpu",
            "calibration": calibration,
            "abstain_below": abstain_below,
            "long_texts": long_texts,
            "consistent": consistent,
            "aspects": aspects,
        },
        batch_format="pyarrow",
        batch_size=WINDOW_BATCHES * batch_size,
        compute=ray_data.ActorPoolStrategy(size=num_actors),
        num_gpus=num_gpus,
    )


class RayPredictor:
    """
    An actor: loads the checkpoint once, then adds predictions to tables of rows.

    Args:
        checkpoint, dtype, device: see [`load_pipeline`].
        text_column, batch_size, long_texts, consistent, aspects: see [`predict_rows`].
        calibration, abstain_below: see [`set_answers`].
    """

    def __init__(
        self,
        checkpoint: str,
        text_column: str,
        batch_size: int,
        dtype: str,
        device: str,
        calibration: bool = True,
        abstain_below: float | None = None,
        long_texts: str | None = None,
        consistent: bool = True,
        aspects: Aspects | None = None,
    ):
        self.classify = load_pipeline(checkpoint, dtype, device)
        set_answers(self.classify.model.config, calibration, abstain_below)
        self.answer_options = {
            "long_texts": settle_long_texts(self.classify.model.config, long_texts),
            "aspects": aspects,
        }
        self.options = {"text_column": text_column, "batch_size": batch_size, "consistent": consistent}

    def __call__(self, batch: pa.Table) -> pa.Table:
        config = self.classify.model.config
        check_columns_of_text("The data set", batch.column_names, self.options["text_column"], config)
        windows = predict_rows(self.classify, batch.to_pylist(), **self.options, **self.answer_options)
        schema = output_schema(batch.schema, config, **self.answer_options)
        return pa.Table.from_pylist([row for window in windows for row in window], schema=schema)
