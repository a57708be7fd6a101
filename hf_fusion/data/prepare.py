"""Clips from a slow source to Arrow on disk, which training maps into memory."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from datasets.arrow_writer import ArrowWriter

from hf_fusion.data.clips import STREAMS, ClipSource, clean_clips, clip_features, encode_clip
from hf_fusion.data.files import DataError
from hf_fusion.data.pickles import sha256_of
from hf_fusion.data.splits import SPLITS
from hf_fusion.evaluation.records import fingerprint, write_json

REPORT_FILE = "prepared.json"
_ROWS_AT_A_TIME = 128


def prepare_clips(source: ClipSource, folder: str, track=iter) -> dict[str, Any]:
    """
    Converts a source of clips once, clip by clip; [`load_clips`] reads the folder.

    The folder appears under its name when it is complete.

    Args:
        source: where the clips are.
        folder: where the data set goes; must not exist.
        track: wraps the clips, for a progress bar.

    Returns:
        `dict`, also written to `prepared.json`: `source` (name, and SHA-256 if it is a file), `fingerprint` of each
        split, and for each split `clips`, `label` (mean, std, min, max), `missing` (clips without text, audio, vision)
        and for audio and vision `features` and `frames` (median, 95th percentile, max).

    Raises:
        DataError: if the folder exists, or a clip is not as declared.
    """
    folder = Path(folder)
    if folder.exists():
        raise DataError(f"{folder} exists already; remove it or choose another name.")
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.absolute().parent, prefix=f"{folder.name}.", suffix=".tmp"))
    try:
        facts = write_splits(track(clean_clips(source)), aside / "arrow", source.modalities)
        if not facts:
            raise DataError(f"{source.name} has no clips.")
        splits = DatasetDict(
            {split: Dataset.from_file(str(aside / "arrow" / f"{split}.arrow")) for split in SPLITS if split in facts}
        )
        splits.save_to_disk(aside / "data")
        hashes = {"sha256": sha256_of(source.name)} if Path(source.name).is_file() else {}
        report = {
            "source": {"name": Path(source.name).name, **hashes},
            "fingerprint": fingerprint(splits),
            "splits": {split: facts[split].report() for split in splits},
        }
        write_json(aside / "data" / REPORT_FILE, report)
        os.replace(aside / "data", folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return report


class _Facts:
    """What is counted of a split."""

    def __init__(self, widths):
        self.widths = widths
        self.labels = []
        self.lengths = {name: [] for name in ("text", *STREAMS)}

    def add(self, row):
        self.labels.append(row["label"])
        self.lengths["text"].append(0 if row["text"] is None else len(row["text"]))
        for name in STREAMS:
            self.lengths[name].append(0 if row[name] is None else len(row[name]))

    def report(self):
        labels = np.array(self.labels)
        report = {
            "clips": len(labels),
            "label": {
                "mean": float(labels.mean()),
                "std": float(labels.std(ddof=1)) if len(labels) > 1 else None,
                "min": float(labels.min()),
                "max": float(labels.max()),
            },
            "missing": {name: lengths.count(0) for name, lengths in self.lengths.items()},
        }
        for name, width in self.widths.items():
            lengths = np.array(self.lengths[name])
            report[name] = {
                "features": width,
                "frames": {
                    "median": float(np.median(lengths)),
                    "p95": float(np.percentile(lengths, 95)),
                    "max": int(lengths.max()),
                },
            }
        return report


def write_splits(rows: Iterator[dict[str, Any]], folder: Path, modalities: tuple[str, ...]) -> dict[str, _Facts]:
    """Writes clips, as [`clean_clips`] gives them, to one Arrow file `SPLIT.arrow` for each split."""
    folder.mkdir()
    first, widths = _until_widths_are_known(rows, [name for name in STREAMS if name in modalities])
    writers, facts = {}, {}
    features = clip_features(first[0], widths) if first else None
    try:
        for part in (first, rows):
            for row in part:
                split = row["split"]
                if split not in writers:
                    path = str(folder / f"{split}.arrow")
                    writers[split] = ArrowWriter(features=features, path=path, writer_batch_size=_ROWS_AT_A_TIME)
                    facts[split] = _Facts(widths)
                writers[split].write(encode_clip(row, features))
                facts[split].add(row)
        for writer in writers.values():
            writer.finalize()
    finally:
        for writer in writers.values():
            writer.close()
    return facts


def _until_widths_are_known(rows, streams):
    """The first clips, until each stream has been seen (all of them, if one never is), and the streams' widths."""
    first, widths = [], {}
    for row in rows:
        first.append(row)
        widths.update((name, row[name].shape[1]) for name in streams if row[name] is not None)
        if len(widths) == len(streams):
            break
    return first, widths
