"""The predictions of a study: one file with the test rows of all its runs, from which its tables are recomputed."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from hf_fusion.data.pickles import sha256_of
from hf_fusion.evaluation.kept_predictions import (
    PREDICTIONS_FILE,
    Predictions,
    damage_explained,
    from_table,
    read_predictions,
    read_table,
    to_table,
    write_table,
)
from hf_fusion.studies.intervals import find_cluster
from hf_fusion.studies.run_folders import get_run_folder, other_predictions_file
from hf_fusion.studies.study import Study
from hf_fusion.utils.errors import DataError

# The folder beside the result file.
FOLDER = "predictions"
_HASH_DIGITS = 12
_HASHED_CLUSTERS = "^(.+)_"  # finds the cluster in a hashed id


class RunKey(NamedTuple):
    """
    The place of predictions in a study.

    Args:
        variant (`str`): the variant.
        seed (`int`): the seed.
        fold (`str`, *optional*): the fold of a cross-validation.
        data (`str`): `"test"`, or a name of `evaluate_on`.
    """

    variant: str
    seed: int
    fold: str | None
    data: str


def collect_study_predictions(study: Study, folder: Path) -> tuple[dict[RunKey, Predictions], list[RunKey]]:
    """
    Reads the predictions of all runs of a study on the test split and on other data.

    Args:
        study ([`Study`]): the study.
        folder (`Path`): the folder of the runs.

    Returns:
        `tuple`: the predictions by their place, and the places without any: runs from before predictions were kept,
        whose checkpoint is gone, and data without input for a variant.
    """
    found, missing = {}, []
    for name, seed, fold in study.runs:
        run_folder = get_run_folder(folder, name, seed, fold)
        files = {"test": PREDICTIONS_FILE, **{data: other_predictions_file(data) for data in study.evaluate_on}}
        for data, file in files.items():
            key = RunKey(name, seed, None if fold is None else str(fold), data)
            path = run_folder / file
            if not path.exists():
                missing.append(key)
                continue
            predictions = read_predictions(path)
            found[key] = predictions.of_split("test") if data == "test" else predictions
    return found, missing


def write_study_predictions(
    path: Path, runs: dict[RunKey, Predictions], hash_ids: bool = False, clusters: str | None = None
) -> dict[str, Any]:
    """
    Writes the predictions of a study as compressed Parquet: the columns `variant`, `seed`, `fold`, `data`, and those of
    [`write_predictions`]. It holds no text and no frames.

    Args:
        path (`Path`): the file.
        runs (`dict[RunKey, Predictions]`): the predictions by their place.
        hash_ids (`bool`, *optional*, defaults to `False`): whether to replace each id by the first 12 hexadecimal
            digits of its SHA-256, where the terms of the data ask for it. Rows can still be paired.
        clusters (`str`, *optional*): the regular expression of the study that finds the cluster of a row in its id.
            Hashed ids start with the hash of the cluster, so that intervals can be computed again.

    Returns:
        `dict`: `file` (its name after that of its folder), `sha256` and `rows`; with hashed ids and clusters also
        `clusters`, the regular expression that finds these in the hashed ids.
    """
    tables = []
    for key, predictions in runs.items():
        if hash_ids:
            ids = [hash_id(row_id, clusters) for row_id in predictions.ids]
            predictions = replace(predictions, ids=np.array(ids, object))
        table = to_table(predictions)
        for position, (name, value) in enumerate(key._asdict().items()):
            kind = pa.int64() if name == "seed" else pa.string()
            table = table.add_column(position, name, pa.array([value] * len(table), kind))
        tables.append(table)
    table = pa.concat_tables(tables, promote_options="default")
    shared = _shared([predictions.facts for predictions in runs.values()])
    own = [
        {"run": key, "facts": {name: value for name, value in predictions.facts.items() if name not in shared}}
        for key, predictions in runs.items()
    ]
    write_table(path, table, {"shared": shared, "runs": own})
    entry = {"file": f"{path.parent.name}/{path.name}", "sha256": sha256_of(path), "rows": len(table)}
    return {**entry, "clusters": _HASHED_CLUSTERS} if hash_ids and clusters is not None else entry


def _shared(facts):
    """Returns the facts that are the same in all runs."""
    first, *others = facts
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def hash_id(row_id: str, clusters: str | None = None) -> str:
    """Returns the first 12 hexadecimal digits of the SHA-256 of an id; with clusters after those of its cluster."""
    words = [row_id] if clusters is None else [find_cluster(clusters, row_id), row_id]
    return "_".join(hashlib.sha256(word.encode()).hexdigest()[:_HASH_DIGITS] for word in words)


def read_study_predictions(path: str | Path) -> dict[RunKey, Predictions]:
    """
    Reads the file of [`write_study_predictions`].

    Returns:
        `dict[RunKey, Predictions]`: the predictions by variant, seed, fold and data, in the order of the study.
        [`measure_predictions`] computes the metrics of each; with folds, the metrics of a seed are means over the
        folds.

    Raises:
        DataError: if there is no such file, or it holds no predictions of a study.
    """
    table, facts = read_table(path)
    if not isinstance(facts, dict) or not isinstance(facts.get("runs"), list):
        raise DataError(f"{path} holds the predictions of a single run: read it with `read_predictions`.")
    runs = {}
    with damage_explained(path):
        start = 0
        keys = list(zip(*(table.column(name).to_pylist() for name in RunKey._fields), strict=True))
        for entry in facts["runs"]:
            key = RunKey(*entry["run"])
            end = start
            while end < len(keys) and keys[end] == key:
                end += 1
            if start == end:
                raise ValueError(f"no rows of {', '.join(str(word) for word in key if word is not None)}")
            part = table.slice(start, end - start)
            empty = [name for name in part.column_names if len(part) and part.column(name).null_count == len(part)]
            runs[key] = from_table(part.drop_columns(empty), {**facts["shared"], **entry["facts"]})
            start = end
        if start != len(table):
            raise ValueError(f"row {start + 1} belongs to no run")
    return runs
