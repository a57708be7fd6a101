"""Studies: one recipe, several variants, several seeds, and what the differences are worth."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import stats

from hf_fusion.evaluation.records import ENVIRONMENT_FILE, METRICS_FILE, describe_environment, write_json
from hf_fusion.training.launch import Run, run_all
from hf_fusion.training.model_arguments import RecipeError

SETTINGS_FILE = "study_settings.json"


class StudyError(ValueError):
    """A study that cannot be run, or a run of it that failed; says which."""


@dataclass
class Study:
    """
    What a study file says.

    Args:
        recipe: path of the recipe that all variants share.
        variants: for each variant the recipe fields that it changes; the first variant is the reference.
        seeds: every variant runs with every seed, so that differences can be paired.
        overrides: recipe fields that the study changes for all variants.
    """

    recipe: str
    variants: dict[str, dict[str, Any]]
    seeds: list[int]
    overrides: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str) -> "Study":
        """Reads a study file; raises [`StudyError`] if it is none."""
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise StudyError(f"{path}: {error}") from error
        if not isinstance(content, dict) or {"recipe", "variants", "seeds"} - set(content):
            raise StudyError(f"{path}: a study is a mapping with recipe, variants and seeds.")
        unknown = set(content) - {"recipe", "variants", "seeds", "overrides"}
        if unknown:
            raise StudyError(f"{path}: unknown field {', '.join(sorted(map(str, unknown)))}.")
        study = cls(**content)
        study.variants = {str(name): changes or {} for name, changes in study.variants.items()}
        return study


def run_study(
    study: Study, folder: Path, overrides: dict[str, Any], say=print, slots: int = 1
) -> dict[str, dict[int, dict]]:
    """
    Runs what is not yet finished, seed by seed, each run in a process of its own (`scripts/train.py`).

    A finished run (its folder has `metrics.json`) is never repeated; one that was interrupted goes on from its newest
    checkpoint.

    Args:
        study: what to run.
        folder: where the run folders are, `folder/VARIANT/seed-N`.
        overrides: recipe fields on top of the study's (where the data is on this machine, say).
        say: called with a line when a run starts, or was finished before.
        slots: how many runs at a time; the cores are shared between them.

    Returns:
        The content of `metrics.json` by variant and seed, with `last_log`: what training logged last (loss components
        and weights, mean and spread of the gate).

    Raises:
        StudyError: if a run fails (what it printed is in `train.log` of its folder), or if a folder holds a run with
            other settings.
    """
    waiting = []
    cells = [(name, seed) for seed in study.seeds for name in study.variants]
    for name, seed in cells:
        run_folder = _run_folder(folder, name, seed)
        fields = {**study.overrides, **overrides, **study.variants[name], "seed": seed}
        _check_same_settings(run_folder, study.recipe, {**fields, "output_dir": str(run_folder)})
        if (run_folder / METRICS_FILE).exists():
            say(f"{name}, seed {seed}: finished before")
        else:
            flags = ["--resume_from_checkpoint", "last", *_flags(fields)]
            waiting.append(Run(f"{name}, seed {seed}", study.recipe, run_folder, flags))

    def report(run, epochs):
        if epochs == 0:
            say(f"[{waiting.index(run) + 1}/{len(waiting)}] {run.name}: running, log in {run.folder / 'train.log'}")

    try:
        run_all(waiting, slots, report)
    except RecipeError as error:
        raise StudyError(str(error)) from error
    results: dict[str, dict[int, dict]] = {name: {} for name in study.variants}
    for name, seed in cells:
        run_folder = _run_folder(folder, name, seed)
        results[name][seed] = json.loads((run_folder / METRICS_FILE).read_text(encoding="utf-8"))
        results[name][seed]["last_log"] = _last_log(run_folder / "trainer_state.json")
    return results


def _run_folder(folder, name, seed):
    return folder / name.replace(" ", "_") / f"seed-{seed}"


def _check_same_settings(run_folder, recipe, fields):
    """A folder is one run's alone: results of other settings must not slip into the comparison."""
    path = run_folder / SETTINGS_FILE
    text = Path(recipe).read_text(encoding="utf-8") if Path(recipe).is_file() else recipe
    settings = json.dumps({"recipe": yaml.safe_load(text), "changes": fields}, indent=2, sort_keys=True)
    if path.exists() and path.read_text(encoding="utf-8") != settings:
        raise StudyError(
            f"{run_folder} holds a run with other settings (see its {SETTINGS_FILE}). Remove it, or choose another "
            "folder with --runs."
        )
    run_folder.mkdir(parents=True, exist_ok=True)
    path.write_text(settings, encoding="utf-8")


def _last_log(path):
    if not path.is_file():
        return None
    logs = json.loads(path.read_text(encoding="utf-8"))["log_history"]
    return next((log for log in reversed(logs) if "grad_norm" in log), None)


def _flags(fields):
    flags = []
    for name, value in fields.items():
        values = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
        flags += [f"--{name}", *map(str, values)]
    return flags


def summarize(results: dict[str, dict[int, dict]], split: str = "test") -> dict[str, dict]:
    """
    Mean and spread of each variant, and its paired difference to the first.

    Returns:
        For each variant: `seeds` (metrics by seed), `mean`, `std` (ddof=1; `None` for a single seed) and, but for the
        first, `difference`: for each metric the `mean` of variant minus reference over the seeds and `interval`, its
        95 % confidence interval by Student's t (`None` for a single seed).
    """
    reference = next(iter(results.values()))
    summary = {}
    for name, runs in results.items():
        by_seed = {seed: run[split] for seed, run in runs.items()}
        metrics = list(next(iter(by_seed.values())))
        values = {metric: np.array([row[metric] for row in by_seed.values()], dtype=float) for metric in metrics}
        entry = {
            "seeds": {str(seed): row for seed, row in by_seed.items()},
            "mean": {metric: float(column.mean()) for metric, column in values.items()},
            "std": {metric: _std(column) for metric, column in values.items()},
            "last_log": {str(seed): run["last_log"] for seed, run in runs.items()},
            "train_seconds": {str(seed): run["train_seconds"] for seed, run in runs.items()},
            "parameters": next(iter(runs.values()))["parameters"],
        }
        if runs is not reference:
            base = {
                metric: np.array([reference[seed][split][metric] for seed in runs], dtype=float) for metric in metrics
            }
            entry["difference"] = {metric: paired_difference(values[metric], base[metric]) for metric in metrics}
        summary[name] = entry
    return summary


def paired_difference(values: np.ndarray, base: np.ndarray) -> dict:
    """Mean of `values - base`, both of shape `(seeds,)`, with its 95 % interval by Student's t."""
    difference = np.asarray(values, dtype=float) - np.asarray(base, dtype=float)
    mean, std = float(difference.mean()), _std(difference)
    if std is None:
        return {"mean": mean, "interval": None}
    half = float(stats.t.ppf(0.975, len(difference) - 1)) * std / len(difference) ** 0.5
    return {"mean": mean, "interval": [mean - half, mean + half]}


def _public(value):
    """A setting without the folders of this machine."""
    return Path(value).name if isinstance(value, str) and ("/" in value or os.sep in value) else value


def _std(column):
    return float(column.std(ddof=1)) if len(column) > 1 else None


def write_study(path: str, study: Study, study_file: str, folder: Path, overrides: dict, summary: dict) -> None:
    """Writes the result file: the study and what was changed, where and on what data it ran, and the summary."""
    first = _run_folder(folder, next(iter(study.variants)), study.seeds[0])
    environment = json.loads((first / ENVIRONMENT_FILE).read_text("utf-8"))
    write_json(
        path,
        {
            "study": study_file,
            "recipe": study.recipe,
            "overrides": {**study.overrides, **{name: _public(value) for name, value in overrides.items()}},
            "variants": {name: {"changes": study.variants[name], **entry} for name, entry in summary.items()},
            "data": {key: environment[key] for key in ("data_fingerprint", "rows")},
            **describe_environment(),
        },
    )
