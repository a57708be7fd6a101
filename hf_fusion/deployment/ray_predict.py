"""Predictions on a Ray cluster, with Ray Data (needs the extra `ray`)."""

import pyarrow as pa

from hf_fusion.deployment.prediction_input import check_columns_of_text
from hf_fusion.deployment.predictions import WINDOW_BATCHES, load_pipeline, output_schema, predict_rows
from hf_fusion.utils.extras import import_extra


def predict_dataset(
    dataset,
    checkpoint: str,
    text_column: str = "text",
    batch_size: int = 32,
    dtype: str = "float32",
    num_actors: int = 1,
    num_gpus: float = 0,
):
    """
    Adds `prediction`, `truncated` and `error` to each row of a Ray data set, as `hf-fusion predict` does.

    Args:
        dataset (`ray.data.Dataset`): rows with a text; for a DashFusion also with `audio` and `vision` (frames x
            features), which are not part of the output.
        checkpoint: a folder that every node sees, or a name on the Hub.
        text_column: where the text is.
        batch_size: rows per forward pass.
        dtype: "float32", "bfloat16" or "float16".
        num_actors: processes that hold the model. Each takes a core, beside those that read and write.
        num_gpus: of each of them; 0 predicts on the CPU, 0.5 lets two share a GPU.

    Returns:
        `ray.data.Dataset`, which is computed when it is read or written (`.write_parquet(folder)`). Its rows come in
        any order unless `ray.data.DataContext.get_current().execution_options.preserve_order` is set.

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
        },
        batch_format="pyarrow",
        batch_size=WINDOW_BATCHES * batch_size,
        compute=ray_data.ActorPoolStrategy(size=num_actors),
        num_gpus=num_gpus,
    )


class RayPredictor:
    """
    What one actor does: it loads the checkpoint once, then turns tables of rows into tables with predictions.

    Args:
        checkpoint, dtype, device: see [`load_pipeline`].
        text_column, batch_size: see [`predict_rows`].
    """

    def __init__(self, checkpoint: str, text_column: str, batch_size: int, dtype: str, device: str):
        self.classify = load_pipeline(checkpoint, dtype, device)
        self.options = {"text_column": text_column, "batch_size": batch_size}

    def __call__(self, batch: pa.Table) -> pa.Table:
        config = self.classify.model.config
        check_columns_of_text("The data set", batch.column_names, self.options["text_column"], config)
        windows = predict_rows(self.classify, batch.to_pylist(), **self.options)
        schema = output_schema(batch.schema, config)
        return pa.Table.from_pylist([row for window in windows for row in window], schema=schema)
