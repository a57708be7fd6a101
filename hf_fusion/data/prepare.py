"""Clips from a slow source to Arrow on disk, which training maps into memory."""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Array2D, Dataset, DatasetDict

from hf_fusion.data.arrow_rows import values_of
from hf_fusion.data.clip_classes import class_names, has_label_sets
from hf_fusion.data.clips import REPORT_FILE, STREAMS, ClipSource, clean_clips, collect_clips, with_classes
from hf_fusion.data.pickles import sha256_of
from hf_fusion.data.tally import tallied
from hf_fusion.data.temporary import temporary_folder
from hf_fusion.models.feature_extraction_dashfusion import FrameStatistics
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import fingerprint, write_json


def prepare_clips(
    source: ClipSource, folder: str, track=iter, add_files: Callable[[Path], None] = lambda folder: None
) -> dict[str, Any]:
    """
    Converts a source of clips once, clip by clip; [`load_clips`] reads the folder.

    The folder appears under its name when it is complete.

    Args:
        source: where the clips are.
        folder: where the data set goes; must not exist.
        track: wraps the clips, for a progress bar.
        add_files: writes further files into the folder before it is complete.

    Returns:
        `dict`, also written to `prepared.json`: `source` (name, SHA-256 of a file, options), `fingerprint` of each
        split, `left_out_or_filled` (counts by reason), and for each split `clips`, `ids` (SHA-256), `label` (mean, std,
        min, max; for classes `classes`, the number of clips by name, for several labels also `without`), `missing`
        (clips without text, audio, vision) and for audio and vision `features`, `frames` (median, 95th percentile,
        max), and `mean` and `std` of each column.

    Raises:
        DataError: if the folder exists, or a clip is not as declared.
    """
    path = Path(source.name)
    facts = {"name": path.name}
    if path.is_file():
        facts["sha256"] = sha256_of(source.name)
    if source.options:
        facts["options"] = source.options
    return write_clips(track(clean_clips(source)), folder, facts, partial(with_classes, source=source), add_files)


def write_clips(
    rows: Iterable[dict[str, Any]],
    folder: str,
    source: dict[str, Any],
    finish: Callable[[DatasetDict], DatasetDict] = lambda splits: splits,
    add_files: Callable[[Path], None] = lambda folder: None,
) -> dict[str, Any]:
    """
    Writes clips as [`prepare_clips`] does.

    Args:
        rows: clips as [`clean_clips`] gives them.
        folder: where the data set goes; must not exist.
        source: facts about their origin for the report; `name` at least.
        finish: changes the splits before they are saved, such as [`with_classes`].
        add_files: writes further files into the folder before it is complete.
    """
    check_is_new(folder)
    folder = Path(folder)
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(f"{folder.name}.", ".tmp", folder.absolute().parent) as aside:
        aside = Path(aside)
        with tallied() as counts:
            facts = defaultdict(_Facts)
            splits = collect_clips(_noted(rows, facts), aside / "arrow")
        if not splits:
            raise DataError(f"{source['name']} has no clips.")
        splits = finish(splits)
        splits.save_to_disk(aside / "data")
        report = {
            "source": source,
            "fingerprint": fingerprint(splits),
            "left_out_or_filled": dict(counts),
            "splits": {split: facts[split].report(clips) for split, clips in splits.items()},
        }
        write_json(aside / "data" / REPORT_FILE, report)
        add_files(aside / "data")
        os.replace(aside / "data", folder)
    return report


def check_is_new(folder: str | os.PathLike) -> None:
    """Raises `DataError` if a folder exists."""
    if Path(folder).exists():
        raise DataError(f"{folder} exists already; remove it or choose another name.")


def prepared_statistics(folder: str, clips: Dataset) -> dict[str, tuple[list[float], list[float]]] | None:
    """
    Mean and standard deviation of each column, as they were taken when the folder was prepared.

    Args:
        folder: a folder that [`prepare_clips`] wrote.
        clips: a split of it.

    Returns:
        For each stream its mean and deviation; `None` if these are not all clips of a prepared split.
    """
    path = Path(folder) / REPORT_FILE
    if not path.is_file():
        return None
    ids = hashlib.sha256(b"".join(map(_id_bytes, values_of(clips, "id")))).hexdigest()
    for facts in json.loads(path.read_text("utf-8"))["splits"].values():
        if facts.get("ids") == ids:
            return {name: (facts[name]["mean"], facts[name]["std"]) for name in STREAMS if name in facts}
    return None


def _id_bytes(clip_id):
    return clip_id.encode("utf-8", "surrogatepass") + b"\0"


def _noted(rows, facts):
    """Yields the rows and counts each in the facts of its split."""
    for row in rows:
        facts[row["split"]].add(row)
        yield row


class _Facts:
    """Counts and statistics of a split."""

    def __init__(self):
        self.labels = []
        self.lengths = {name: [] for name in ("text", *STREAMS)}
        self.ids = hashlib.sha256()
        self.statistics = {name: FrameStatistics() for name in STREAMS}

    def add(self, row):
        self.labels.append(row["label"])
        self.ids.update(_id_bytes(row["id"]))
        for name, statistics in self.statistics.items():
            if row[name] is not None:
                statistics.add(row[name])
        self.lengths["text"].append(0 if row["text"] is None else len(row["text"]))
        for name in STREAMS:
            self.lengths[name].append(0 if row[name] is None else len(row[name]))

    def report(self, clips):
        """The facts, for a split with these clips."""
        features = clips.features
        report = {
            "clips": len(self.labels),
            "ids": self.ids.hexdigest(),
            "label": self._label_facts(clips),
            "missing": {name: lengths.count(0) for name, lengths in self.lengths.items()},
        }
        for name in (name for name, feature in features.items() if isinstance(feature, Array2D)):
            lengths = np.array(self.lengths[name])
            mean, std = self.statistics[name].mean_and_std()
            report[name] = {
                "features": features[name].shape[1],
                "mean": mean,
                "std": std,
                "frames": {
                    "median": float(np.median(lengths)),
                    "p95": float(np.percentile(lengths, 95)),
                    "max": int(lengths.max()),
                },
            }
        return report

    def _label_facts(self, clips):
        if names := class_names(clips):
            sets = clips["label"] if has_label_sets(clips) else [[label] for label in clips["label"]]
            counts = Counter(chain.from_iterable(sets))
            facts = {"classes": {name: counts[i] for i, name in enumerate(names)}}
            return {**facts, "without": list(sets).count([])} if has_label_sets(clips) else facts
        labels = np.array(self.labels)
        return {
            "mean": float(labels.mean()),
            "std": float(labels.std(ddof=1)) if len(labels) > 1 else None,
            "min": float(labels.min()),
            "max": float(labels.max()),
        }
