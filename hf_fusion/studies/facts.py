"""Facts on the runs of a study: how their checkpoints were selected, and what they cost."""

import json
from pathlib import Path
from typing import Any

from hf_fusion.data.files import read_yaml
from hf_fusion.studies.folds import SECONDS
from hf_fusion.studies.run_folders import get_run_folder
from hf_fusion.studies.study import Study
from hf_fusion.utils.records import ENVIRONMENT_FILE

_HARDWARE = ("processor", "cores", "threads", "accelerators", "processes")


def describe_selection(study: Study, folder: Path) -> str | None:
    """
    Describes the rule by which the checkpoint of each run was selected, from the recipes in the folders of the first
    runs.

    Args:
        study ([`Study`]): the study.
        folder (`Path`): the folder of the runs.

    Returns:
        `str` or `None`: such as "each run: its best epoch on validation by mae"; with the names of variants if they
        have different rules; `None` if the recipes are gone.
    """
    variants_of: dict[str, list[str]] = {}
    for name in study.variants:
        recipe = study.first_run_folder(folder, name) / "config.yaml"
        if recipe.exists():
            variants_of.setdefault(describe_rule(read_yaml(recipe)), []).append(name)
    if len(variants_of) > 1:
        return "; ".join(f"{', '.join(names)}: {rule}" for rule, names in variants_of.items())
    return next((f"each run: {rule}" for rule in variants_of), None)


def describe_rule(recipe: dict[str, Any]) -> str:
    """Describes the rule by which a run of a recipe selects its checkpoint, such as "its last step"."""
    metric = recipe.get("metric_for_best_model")
    if not recipe.get("load_best_model_at_end", True) or metric is None:
        return "its last step"
    unit = "evaluation" if recipe.get("eval_strategy") == "steps" else "epoch"
    return f"its best {unit} on validation by {metric.removeprefix('eval_')}"


def sum_compute(study: Study, folder: Path, results: dict[str, dict[int, dict]]) -> dict[str, Any]:
    """
    Sums the cost of all runs of a study.

    Args:
        study ([`Study`]): the study.
        folder (`Path`): the folder of the runs.
        results (`dict`): the result of [`run_study`].

    Returns:
        `dict`: the number of `runs`; `train_seconds` and `evaluation_seconds` (on validation and test after the
        training) of all runs together, `None` if a run does not know them; and the hardware in the runs' environments:
        `processor`, `cores`, `threads`, `accelerators`, `processes`, as a list of all values if runs differ.
    """
    runs = [run for by_seed in results.values() for run in by_seed.values()]
    paths = [get_run_folder(folder, *run) / ENVIRONMENT_FILE for run in study.runs]
    environments = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    hardware = [environment.get("hardware", {}) for environment in environments]
    return {
        "runs": len(study.runs),
        **{name: _sum([run.get(name) for run in runs]) for name in SECONDS},
        **{name: _merge([one.get(name) for one in hardware]) for name in _HARDWARE},
    }


def _sum(values):
    return None if None in values else round(sum(values), 1)


def _merge(values):
    """Returns the value that all runs share, or the list of all values."""
    distinct = [value for i, value in enumerate(values) if value not in values[:i]]
    return distinct[0] if len(distinct) == 1 else distinct
