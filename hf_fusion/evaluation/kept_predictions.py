"""Predictions that are kept: ids, labels and outputs of labelled rows in a Parquet file, and the metrics of it."""

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from scipy.special import expit, softmax

from hf_fusion.data.arrow_rows import ArrowRows, in_batches, values_of
from hf_fusion.data.clip_classes import class_names, has_label_sets
from hf_fusion.data.collator import LABEL_FILLS, fill_labels
from hf_fusion.data.label_sets import label_vectors
from hf_fusion.data.pickles import sha256_of
from hf_fusion.deployment.answer_config import answer_fields, read_answer_config
from hf_fusion.evaluation.calibration import calibration_error
from hf_fusion.evaluation.metrics import compute_metrics
from hf_fusion.hub.repository import CHECKPOINT_FILES, matches
from hf_fusion.models.configuration_common import head_widths
from hf_fusion.models.pipeline_common import LABEL_THRESHOLD
from hf_fusion.utils.errors import DataError, listed
from hf_fusion.utils.records import source_commit

PREDICTIONS_FILE = "predictions.parquet"
PREDICTIONS_FILES = "predictions*.parquet"  # those of other data too

_METADATA = b"hf_fusion"
_FORMAT = 1  # version of the file
_WEIGHTS = tuple(pattern for pattern in CHECKPOINT_FILES if pattern.endswith(".safetensors"))
# The column of the labels of each task.
LABELS_OF_TASKS = {"prediction": "labels", "fine": "labels", "coarse": "coarse_labels", "intensity": "intensity_labels"}


@dataclass
class Predictions:
    """
    The outputs of a model for labelled rows, without the rows: no text and no frames.

    Args:
        ids (`np.ndarray`): the id of each row, a text.
        splits (`np.ndarray`): the split of each row.
        labels (`dict[str, np.ndarray]`): the labels as the model saw them, by column: `labels` (classes as int64, -100
            where missing; scores or several labels as float32, NaN where missing), and for reviews `coarse_labels` and
            `intensity_labels`. Columns that the data lacks are absent.
        outputs (`dict[str, np.ndarray]`): the outputs of each head of the model as float32, `(rows, classes)` or
            `(rows,)`: `logits`, and for reviews `coarse_logits` and `intensity`.
        facts (`dict`): the origin of the outputs, see [`describe_predictions`].

    Example:

    ```python
    import numpy as np
    from hf_fusion.evaluation.kept_predictions import Predictions, measure_predictions

    facts = {"config": {"model_type": "dashfusion", "num_labels": 1, "id2label": {0: "LABEL_0"}, "problem_type": None,
                        "label_range": [-3, 3], "modalities": ["text"], "modality_dropout": 0.0,
                        "modality_distillation": 0.0}}
    scores = np.array([[2.5], [-1.0], [0.5]], np.float32)
    labels = {"labels": np.array([2.0, -1.5, -0.5], np.float32)}
    predictions = Predictions(np.array(["a", "b", "c"]), np.array(["test"] * 3), labels, {"logits": scores}, facts)
    measure_predictions(predictions)["mae"]  # 0.6666666666666666
    ```
    """

    ids: np.ndarray
    splits: np.ndarray
    labels: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    facts: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def config(self) -> SimpleNamespace:
        """`SimpleNamespace`: the fields of the model's configuration that turn outputs into answers."""
        try:
            return read_answer_config(self.facts.get("config"))
        except ValueError as error:
            raise DataError(f"The facts of the predictions are damaged: {error}") from error

    def with_fields(self, fields: Mapping[str, Any]) -> "Predictions":
        """Returns the same outputs with other fields of the model's configuration, such as `temperature`."""
        return replace(self, facts={**self.facts, "config": {**self.facts["config"], **fields}})

    def select(self, rows: np.ndarray) -> "Predictions":
        """Returns the predictions of some rows: their numbers, or a mask."""
        labels, outputs = ({name: part[rows] for name, part in side.items()} for side in (self.labels, self.outputs))
        return replace(self, ids=self.ids[rows], splits=self.splits[rows], labels=labels, outputs=outputs)

    def of_split(self, split: str | None = None) -> "Predictions":
        """
        Returns the predictions of a split.

        Args:
            split (`str`, *optional*): its name; may be left out if there is a single one.

        Raises:
            DataError: if there is no such split, or several and no name.
        """
        known = list(dict.fromkeys(self.splits.tolist()))
        if split is None and len(known) == 1:
            return self
        if split not in known:
            given = "set `split`" if split is None else f"got {split!r}"
            raise DataError(f"The predictions are of {listed(known)}: {given}.")
        return self.select(self.splits == split)


def make_predictions(
    config: Any,
    rows: Dataset,
    split: str,
    outputs: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Predictions:
    """
    Creates the predictions of labelled rows.

    Args:
        config ([`DyFuLMConfig`] or [`DashFusionConfig`]): the configuration of the model.
        rows (`Dataset`): the rows in the order of the outputs, encoded or not. Rows without a column `id` get their
            number in the split, from 0, as id; the readers of this package give every row an id.
        split (`str`): the name of the split.
        outputs (`dict[str, np.ndarray]`): the outputs of the heads, such as those of [`compute_outputs`].
        labels (`dict[str, np.ndarray]`, *optional*): the labels as the model saw them; by default those of the rows.
        facts (`dict`, *optional*): further facts, such as the result of [`describe_predictions`].

    Raises:
        DataError: if the number of rows differs.
    """
    if labels is None:
        own = {name: "label" if name == "labels" and name not in rows.column_names else name for name in LABEL_FILLS}
        used = {LABELS_OF_TASKS.get(head.task) for head in config.heads.values()}
        labels = {
            name: fill_labels(_label_values(rows, column), LABEL_FILLS[name])
            for name, column in own.items()
            if name in used and column in rows.column_names and len(rows)
        }
    ids = values_of(rows, "id") if "id" in rows.column_names else range(len(rows))
    sizes = {len(rows), *(len(part) for part in (*labels.values(), *outputs.values()))}
    if len(sizes) > 1:
        raise DataError(f"Rows, labels and outputs differ in number: {', '.join(map(str, sorted(sizes)))}.")
    return Predictions(
        ids=np.array([str(row_id) for row_id in ids], dtype=object),
        splits=np.full(len(rows), split, dtype=object),
        labels=dict(labels),
        outputs={name: np.asarray(outputs[name], dtype=np.float32) for name in config.heads},
        facts={**(facts or {}), "config": json.loads(json.dumps(answer_fields(config)))},
    )


def _label_values(rows, column):
    """Returns the labels of rows as the model sees them: label sets as vectors."""
    values = values_of(rows, column)
    is_set = column == "label" and has_label_sets(rows)
    return label_vectors(values, len(class_names(rows))).tolist() if is_set else values


def describe_predictions(
    checkpoint: str | Path, dataset: str, fingerprints: Mapping[str, str], seed: int | None = None, **facts: Any
) -> dict[str, Any]:
    """
    Returns the facts of predictions.

    Args:
        checkpoint (`str` or `Path`): a run folder, or a name on the Hub.
        dataset (`str`): the name of the data; a local folder is left out.
        fingerprints (`dict[str, str]`): the [`fingerprint`] of each split.
        seed (`int`, *optional*): the seed of the training.
        facts: further facts.

    Returns:
        `dict`: `checkpoint` (the last part of its name), `weights_sha256` (of its weights, `None` for a name on the
        Hub), `dataset`, `data_fingerprint`, `seed`, `commit` (of this package's source, `None` for an installed
        package), and the further facts.
    """
    return {
        "checkpoint": Path(checkpoint).name,
        "weights_sha256": digest_weights(checkpoint),
        "dataset": Path(dataset).name,
        "data_fingerprint": dict(fingerprints),
        "seed": seed,
        "commit": source_commit(),
        **facts,
    }


def digest_weights(checkpoint: str | Path) -> dict[str, str] | None:
    """Returns the SHA-256 of each file with weights of a local checkpoint; `None` if there is none."""
    folder = Path(checkpoint)
    files = sorted(path for path in folder.glob("*.safetensors") if matches(path.name, _WEIGHTS))
    return {path.name: sha256_of(path) for path in files} or None


def predict_labelled(
    classify: Any,
    rows: Dataset,
    split: str = "test",
    batch_size: int = 32,
    track: Callable[[Iterable], Iterable] = iter,
    long_texts: str | None = None,
) -> Predictions:
    """
    Runs a pipeline over labelled rows.

    Args:
        classify ([`FusionSentimentPipeline`] or [`OnnxFusion`]): the pipeline.
        rows (`Dataset`): labelled reviews or clips, see [`make_predictions`].
        split (`str`, *optional*, defaults to `"test"`): the name of the split.
        batch_size (`int`, *optional*, defaults to 32): the number of rows per forward pass.
        track (`Callable`, *optional*): wraps the outputs, one for each row, for a progress bar.
        long_texts (`str`, *optional*): `"window"` or `"cut"`; by default that of the pipeline.
    """
    config = classify.model.config
    names = [name for name in config.modalities if name in rows.column_names]
    inputs = in_batches(ArrowRows(rows.select_columns(names)))
    found = list(track(_answering_outputs(classify)(inputs, batch_size=batch_size, long_texts=long_texts)))
    outputs = {
        name: np.array([row[name] for row in found], np.float32).reshape(len(found), *width)
        for name, width in head_widths(config).items()
    }
    return make_predictions(config, rows, split, outputs)


def _answering_outputs(classify):
    """Returns a copy of a pipeline whose answers are the outputs of the heads for each row, by name."""

    def split_rows(outputs, **options):
        arrays = {name: pipeline.to_array(outputs[name]) for name in pipeline.model.config.heads}
        return [dict(zip(arrays, values, strict=True)) for values in zip(*arrays.values(), strict=True)]

    pipeline = copy.copy(classify)
    pipeline.postprocess = split_rows
    return pipeline


def measure_predictions(predictions: Predictions, split: str | None = None) -> dict[str, float]:
    """
    Computes the metrics of predictions, by the functions of training and evaluation.

    Args:
        predictions ([`Predictions`]): the predictions.
        split (`str`, *optional*): the split; may be left out if there is a single one.

    Returns:
        `dict[str, float]`: all metrics of the split in `metrics.json` except the loss: [`ReviewMetrics`],
        [`SentimentRegressionMetrics`], [`class_metrics`] or [`label_set_metrics`]; and for classes of clips the
        `calibration_error` of `hf-fusion evaluate`.

    Raises:
        DataError: if the predictions have no labels, or there is no such split.
    """
    predictions = predictions.of_split(split)
    config, labels = predictions.config, predictions.labels
    if not labels:
        raise DataError("The predictions have no labels, so that they have no metrics.")
    metrics = compute_metrics(config, tuple(predictions.outputs.values()), list(labels.values()), list(labels))
    for name, head in config.heads.items():
        if head.task == "prediction" and config.num_labels > 1 and "labels" in labels:
            correct, confidence = judge_answers(predictions.outputs[name], labels["labels"])
            if len(correct):
                metrics["calibration_error"] = calibration_error(correct, confidence)
    return metrics


def choose_classes(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the most probable class of each row, and its probability, from logits `(rows, classes)`."""
    probabilities = softmax(logits.astype(np.float64), axis=-1)
    return logits.argmax(axis=-1), probabilities.max(axis=-1, initial=0.0)


def judge_answers(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Returns whether each answer is right, and its probability: for labels `(rows,)` the most probable class of each row,
    for several labels `(rows, labels)` yes or no to each of them. Rows without labels are left out.
    """
    if labels.ndim == 1:
        kept = labels != -100
        classes, confidence = choose_classes(logits[kept])
        return classes == labels[kept], confidence
    kept = ~np.isnan(labels).any(axis=1)
    probabilities = expit(logits[kept].astype(np.float64))
    applies = probabilities >= LABEL_THRESHOLD
    return (applies == labels[kept]).ravel(), np.maximum(probabilities, 1 - probabilities).ravel()


def join_predictions(parts: Iterable[Predictions]) -> Predictions:
    """
    Joins predictions of one model on several splits; the facts are those of the first part. Labels that only some
    parts have are missing in the others.
    """
    parts = list(parts)
    first = parts[0]
    names = [name for name in LABEL_FILLS if any(name in part.labels for part in parts)]
    return replace(
        first,
        ids=np.concatenate([part.ids for part in parts]),
        splits=np.concatenate([part.splits for part in parts]),
        labels={name: np.concatenate([_labels_or_gaps(part, name, parts) for part in parts]) for name in names},
        outputs={name: np.concatenate([part.outputs[name] for part in parts]) for name in first.outputs},
    )


def _labels_or_gaps(part, name, parts):
    if name in part.labels:
        return part.labels[name]
    like = next(other.labels[name] for other in parts if name in other.labels)
    return np.full((len(part), *like.shape[1:]), -100 if like.dtype.kind == "i" else np.nan, like.dtype)


def write_predictions(path: str | Path, predictions: Predictions) -> None:
    """
    Writes predictions as compressed Parquet, in one step. `pandas.read_parquet` reads the file; the facts are JSON in
    the metadata of its schema.

    Args:
        path (`str` or `Path`): the file.
        predictions ([`Predictions`]): the predictions.
    """
    write_table(path, to_table(predictions), predictions.facts)


def read_predictions(path: str | Path) -> Predictions:
    """
    Reads the file of [`write_predictions`].

    Raises:
        DataError: if there is no such file, or it holds no predictions; the message says what is wrong.
    """
    table, facts = read_table(path)
    with damage_explained(path):
        return from_table(table, facts)


def to_table(predictions: Predictions) -> pa.Table:
    """Returns the columns `id`, `split`, the labels and the outputs; several numbers for each row as lists."""
    columns = {"id": pa.array(predictions.ids, pa.string()), "split": pa.array(predictions.splits, pa.string())}
    for name, values in {**predictions.labels, **predictions.outputs}.items():
        columns[name] = _to_lists(values) if values.ndim == 2 else pa.array(values)
    return pa.table(columns)


def _to_lists(values):
    offsets = np.arange(len(values) + 1, dtype=np.int32) * np.int32(values.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(values).reshape(-1)))


def from_table(table: pa.Table, facts: dict[str, Any]) -> Predictions:
    """Returns the predictions of a table of [`to_table`]; raises `ValueError` or [`DataError`] if it is damaged."""
    rows = len(table)
    empty = Predictions(np.empty(0, object), np.empty(0, object), {}, {}, facts)
    widths = head_widths(empty.config)
    if absent := [name for name in ("id", "split", *widths) if name not in table.column_names]:
        raise ValueError(f"the column {absent[0]!r} is missing, there are {listed(table.column_names)}")
    outputs = {name: _to_array(table, name).reshape(rows, *width) for name, width in widths.items()}
    if wrong := [name for name, values in outputs.items() if values.dtype != np.float32]:
        raise ValueError(f"the column {wrong[0]!r} is not of float32")
    labels = {name: _to_array(table, name) for name in LABEL_FILLS if name in table.column_names}
    ids, splits = (np.array(table.column(name).to_pylist(), dtype=object) for name in ("id", "split"))
    return replace(empty, ids=ids, splits=splits, labels=labels, outputs=outputs)


def _to_array(table, name):
    """Returns the numbers of a column: `(rows,)`, or `(rows, numbers)` of lists."""
    column = table.column(name).combine_chunks()
    if column.null_count:
        raise ValueError(f"the column {name!r} has empty rows")
    if not pa.types.is_list(column.type):
        return column.to_numpy(zero_copy_only=False)
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1 if len(column.flatten()) else 0)


def write_table(path: str | Path, table: pa.Table, facts: Any) -> None:
    """Writes a table with facts in the metadata of its schema. Replaces an old file in one step."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = [column.name for column in table.schema if _is_float(column.type)]
    metadata = {_METADATA: json.dumps({"format": _FORMAT, "facts": facts})}
    aside = path.with_name(path.name + ".tmp")
    pq.write_table(
        table.replace_schema_metadata(metadata),
        aside,
        compression="zstd",
        # the bytes of floats compress only where they are sorted by their place
        use_dictionary=[column.name for column in table.schema if column.name not in numbers],
        use_byte_stream_split=[_leaf(table.schema.field(name)) for name in numbers],
    )
    aside.replace(path)


def _is_float(kind):
    return pa.types.is_floating(kind.value_type if pa.types.is_list(kind) else kind)


def _leaf(column):
    """Returns the path of the numbers of a column, as Parquet names it."""
    return f"{column.name}.list.element" if pa.types.is_list(column.type) else column.name


def read_table(path: str | Path) -> tuple[pa.Table, Any]:
    """
    Reads the table and the facts of [`write_table`].

    Raises:
        DataError: if there is no such file, or it was not written by [`write_table`].
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file.")
    with damage_explained(path):
        table = pq.ParquetFile(path).read()
        content = json.loads((table.schema.metadata or {}).get(_METADATA, b"null"))
    if not isinstance(content, dict) or "facts" not in content:
        raise DataError(f"{path} holds no predictions of this package: the metadata of its schema has no facts.")
    if content.get("format") != _FORMAT:
        raise DataError(
            f"{path} has the format {content.get('format')!r}, this version reads {_FORMAT}: update hf-fusion, or "
            "write the predictions again."
        )
    return table, content["facts"]


@contextmanager
def damage_explained(path: str | Path) -> Iterator[None]:
    """Re-raises errors of a damaged file of predictions as [`DataError`] with its path."""
    try:
        yield
    except (pa.ArrowException, DataError, ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {' '.join(str(error).split())[:300]}") from error
