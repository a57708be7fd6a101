"""The metrics of a run of a study beside those of its other seeds."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from hf_fusion.utils.records import METRICS_FILE, STUDY_SETTINGS_FILE


def summarize_seeds(folder: Path, split: str) -> dict[str, Any] | None:
    """
    Summarizes the metrics of all finished seeds of a variant of a study.

    Args:
        folder (`Path`): the folder of one of its runs: `STUDY/VARIANT/seed-N`.
        split (`str`): "validation" or "test".

    Returns:
        `dict`: `seeds` (their numbers) and `metrics`: by name `mean`, `std` (ddof 1) and `interval`, the 95 % t
        interval of the mean. A metric that is undefined for a seed is left out. `None` if the folder is no run of a
        study, or the only finished one.
    """
    folder = folder.resolve()
    if not re.fullmatch(r"seed-\d+", folder.name) or not (folder / STUDY_SETTINGS_FILE).is_file():
        return None
    runs = {}
    for path in folder.parent.glob(f"seed-*/{METRICS_FILE}"):
        metrics = json.loads(path.read_text(encoding="utf-8"))
        if split in metrics:
            runs[int(path.parent.name.removeprefix("seed-"))] = metrics[split]
    if len(runs) < 2:
        return None
    seeds = sorted(runs)
    names = [name for name in runs[seeds[0]] if name != "loss"]
    values = {name: [runs[seed].get(name) for seed in seeds] for name in names}
    return {
        "seeds": seeds,
        "metrics": {name: _summarize(row) for name, row in values.items() if all(map(_is_defined, row))},
    }


def _is_defined(value):
    return value is not None and math.isfinite(value)


def _summarize(values):
    mean, std = float(np.mean(values)), float(np.std(values, ddof=1))
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * std / math.sqrt(len(values))
    return {"mean": mean, "std": std, "interval": [mean - reach, mean + reach]}
