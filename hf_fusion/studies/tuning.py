"""Hyper-parameter search: Optuna proposes recipe fields, and prunes unpromising trials by the trainer's reports."""

import gc
import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import TrainerCallback

from hf_fusion.data.arguments import DataArguments
from hf_fusion.data.files import read_yaml
from hf_fusion.evaluation.metrics import lower_is_better
from hf_fusion.hub.repository import PublishError
from hf_fusion.training.recipe import argument_groups, parse_recipe, read_recipe
from hf_fusion.training.run import run_training
from hf_fusion.utils.errors import DataError, RecipeError, TrainingInterrupted, listed
from hf_fusion.utils.extras import import_extra
from hf_fusion.utils.fields import wrong_field
from hf_fusion.utils.shipped import find_file

optuna = import_extra("optuna", "tune")
TrialState = optuna.trial.TrialState

logger = logging.getLogger(__name__)

BEST_RECIPE = "best.yaml"
TRIALS_FILE = "trials.csv"
_RANGE = {"low", "high", "log", "step"}
_MOST_REASON = 300  # maximum length of the reason of a failed trial


class FailedTrial(Exception):
    """A proposal cannot be trained: the model cannot be built, the loss is not finite, or memory is too small."""


@dataclass
class Search:
    """
    The content of a search file.

    Args:
        recipe (`str`): the recipe of all trials: a path, or the name of a shipped one.
        space (`dict`): the values of recipe fields to search: a list of values, or a range `{low, high}`, with
            `log: true` for a logarithmic scale and `step` for a grid. Ranges of whole numbers give whole numbers.
        metric (`str`): the metric of the validation split by which trials are compared.
        trials (`int`): the number of trials.
        seed (`int`): the seed of the proposals.
        overrides (`dict`): recipe fields that change in all trials.
    """

    recipe: str
    space: dict[str, Any]
    metric: str
    trials: int = 20
    seed: int = 0
    overrides: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str) -> "Search":
        """Reads a search file (see [`find_file`] for `path`); raises [`RecipeError`] if it is not valid."""
        try:
            content = read_yaml(str(find_file(path, "search")))
        except DataError as error:
            raise RecipeError(str(error)) from error
        names = {item.name for item in fields(cls)}
        if not isinstance(content, dict) or {"recipe", "space", "metric"} - set(content) or set(content) - names:
            raise RecipeError(
                f"{path}: a search is a mapping with recipe, space and metric (and trials, seed, overrides)."
            )
        search = cls(**content)
        search.check(path)
        return search

    def check(self, path: str) -> None:
        """Raises [`RecipeError`] if a field is not valid."""
        if wrong := wrong_field(type(self), vars(self)):
            raise RecipeError(f"{path}: {wrong}")
        if not isinstance(self.space, dict) or not self.space:
            raise RecipeError(f"{path}: space must be a mapping from recipe fields to what to try, got {self.space!r}.")
        for name, choice in self.space.items():
            is_range = isinstance(choice, dict) and {"low", "high"} <= set(choice) <= _RANGE
            if not is_range and not (isinstance(choice, list) and choice):
                raise RecipeError(f"{path}: {name} must be a list of values or a range {{low, high}}, got {choice!r}.")
            if is_range:
                self.space[name] = choice = {**choice, **_numbers(choice, f"{path}: {name}")}
            if is_range and choice.get("log") and "step" in choice:
                raise RecipeError(f"{path}: {name} can have log or step, not both.")
            if is_range and not choice["low"] < choice["high"]:
                raise RecipeError(f"{path}: {name} has no room between {choice['low']} and {choice['high']}.")
        self.metric = self.metric.removeprefix("eval_")
        lower_is_better(self.metric)  # raises for an unknown metric
        if not isinstance(self.trials, int) or self.trials < 1:
            raise RecipeError(f"{path}: trials must be at least 1, got {self.trials!r}.")


def _numbers(choice, place):
    """Converts low, high and step to numbers, since YAML reads 1e-4 as a string."""
    numbers = {}
    for name in (name for name in ("low", "high", "step") if name in choice):
        value = choice[name]
        try:
            numbers[name] = float(value) if isinstance(value, str) else value
            if isinstance(value, bool) or not math.isfinite(numbers[name]):
                raise ValueError
        except (TypeError, ValueError, OverflowError) as error:
            raise RecipeError(f"{place}: {name} must be a number, got {value!r:.100}.") from error
    return numbers


def propose(trial: optuna.Trial, space: dict[str, Any]) -> dict[str, Any]:
    """Proposes the recipe fields of a trial."""
    fields_of_trial = {}
    for name, choice in space.items():
        if isinstance(choice, list):
            fields_of_trial[name] = choice[trial.suggest_categorical(name, list(range(len(choice))))]
        else:
            whole = isinstance(choice["low"], int) and isinstance(choice["high"], int)
            suggest = trial.suggest_int if whole else trial.suggest_float
            options = {key: value for key, value in choice.items() if key not in ("low", "high")}
            fields_of_trial[name] = suggest(name, choice["low"], choice["high"], **options)
    return fields_of_trial


def tune(search: Search, folder: Path, say: Callable[[str], None] = print) -> optuna.Study:
    """
    Runs the missing trials. An interrupted search continues: the running trial is repeated with the same fields,
    finished ones are kept. A proposal that cannot be trained counts as a failed trial; its reason is reported and
    written to `trials.csv`.

    Args:
        search ([`Search`]): the search.
        folder (`Path`): the folder for `tuning.db` (Optuna's record), a run folder per trial, `best.yaml` (the recipe
            of the best one) and `trials.csv`. Only the weights of the best trial are kept.
        say (`Callable`, *optional*, defaults to `print`): called with a line after each trial.

    Raises:
        RecipeError: if the recipe cannot be read, `space` has an unknown field, no trial finishes (the message holds
            the reason of the last one), or the folder holds another search.
        DataError: if the data cannot be read.
        TrainingInterrupted: if SIGTERM stopped the search.
    """
    _check_fields(search)
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # the reasons of failed trials are reported below
    study = optuna.create_study(
        study_name="search", storage=f"sqlite:///{folder / 'tuning.db'}", load_if_exists=True,
        direction="minimize" if lower_is_better(search.metric) else "maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )  # fmt: skip
    _check_same(study, search, folder)
    # a sampler with the same state would repeat its proposals
    study.sampler = optuna.samplers.TPESampler(seed=search.seed + len(study.trials))
    for trial in study.get_trials(states=[TrialState.RUNNING]):  # left by a killed process
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    while (done := len(_ended(study))) < search.trials:
        try:
            study.optimize(lambda trial: _run_trial(trial, search, folder), n_trials=1, catch=(FailedTrial,))
        except TrainingInterrupted as error:
            raise TrainingInterrupted("SIGTERM stopped the search; run the same command to continue.") from error
        trial = study.trials[-1]
        say(f"[{done + 1}/{search.trials}] {_describe_fields(trial)}: {_describe_outcome(trial)}")
        _keep_best_weights(study, folder)
    if not study.get_trials(states=[TrialState.COMPLETE]):
        last = _ended(study)[-1]
        raise RecipeError(
            f"None of {search.trials} trials finished. The last: {_describe_fields(last)}: {_describe_outcome(last)}"
        )
    _write_best(study, search, folder)
    return study


def _ended(study):
    """Returns the trials not to repeat; those left by a killed process have failed without a reason."""
    ended = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
    return [trial for trial in ended if trial.state != TrialState.FAIL or "error" in trial.user_attrs]


def _describe_outcome(trial):
    """Returns the score of a finished trial, or the reason why it has none."""
    if "error" in trial.user_attrs:
        return f"failed, {trial.user_attrs['error'][:_MOST_REASON]}"
    return "stopped early" if trial.state == TrialState.PRUNED else f"{trial.value:.4f}"


def _check_fields(search):
    known = {item.name for group in argument_groups() for item in fields(group)}
    for place, names in (("space", search.space), ("overrides", search.overrides)):
        if unknown := sorted(set(names) - known):
            raise RecipeError(f"{place}: unknown field {listed(unknown)}.")


def _check_same(study, search, folder):
    """Raises [`RecipeError`] if the folder holds another search; the number of trials may change."""
    definition = {"recipe": read_recipe(search.recipe), "space": search.space, "metric": search.metric}
    definition = yaml.safe_dump({**definition, "overrides": search.overrides, "seed": search.seed})
    if _ended(study) and study.user_attrs["search"] != definition:
        raise RecipeError(f"{folder} holds another search. Remove it, or choose another folder.")
    study.set_user_attr("search", definition)


def _run_folder(folder, number):
    return folder / f"trial-{number}"


def _run_trial(trial, search, folder):
    changes = {**search.overrides, **propose(trial, search.space)}
    trial.set_user_attr("fields", {name: changes[name] for name in search.space})
    run_folder = _run_folder(folder, trial.number)
    shutil.rmtree(run_folder, ignore_errors=True)
    recipe = read_recipe(search.recipe)
    if "dataset" in changes:
        recipe.pop("dataset_options", None)  # they belong to the recipe's own data set
    recipe = {**recipe, **changes, "output_dir": str(run_folder)}
    recipe.update(metric_for_best_model=search.metric, greater_is_better=not lower_is_better(search.metric))
    run_folder.mkdir(parents=True)
    path = run_folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    try:
        arguments = parse_recipe(["--config", str(path), "--evidence", "no"])
        metrics = run_training(*arguments, callbacks=[_Reporter(trial, search.metric)])
        if "validation" not in metrics:
            raise RecipeError("A search compares metrics of the validation split, which the data lacks.")
        value = metrics["validation"][search.metric]
        if not math.isfinite(value):  # such as the correlation of constant predictions
            raise ArithmeticError(f"{search.metric} is {value}.")
    except (KeyboardInterrupt, TrainingInterrupted):
        trial.study.enqueue_trial(trial.params)
        raise
    except (ValueError, ArithmeticError, MemoryError, RuntimeError) as error:
        if not _depends_on_proposal(error, search):  # another proposal would fail in the same way
            raise
        logger.info("Trial %d failed.", trial.number, exc_info=error)
        trial.set_user_attr("error", str(error) or type(error).__name__)
        raise FailedTrial from error
    finally:
        gc.collect()
    return value


def _depends_on_proposal(error, search):
    """Whether another proposal may avoid the error; errors of the data count if proposals change the data."""
    if isinstance(error, PublishError):
        return False
    if isinstance(error, DataError):
        return any(one.name in search.space for one in fields(DataArguments))
    if isinstance(error, RuntimeError):  # torch has no class for a lack of CPU memory
        return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
    return True


class _Reporter(TrainerCallback):
    """Reports each evaluation to Optuna; stops a trial that is worse than half of the earlier ones."""

    def __init__(self, trial, metric):
        self.trial = trial
        self.metric = metric

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if f"eval_{self.metric}" in metrics:
            self.trial.report(metrics[f"eval_{self.metric}"], step=round(state.epoch))
            if self.trial.should_prune():
                raise optuna.TrialPruned


def _keep_best_weights(study, folder):
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    best = study.best_trial.number if complete else None
    for trial in study.get_trials(deepcopy=False):
        if trial.number != best:
            for checkpoint in _run_folder(folder, trial.number).glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
            for weights in _run_folder(folder, trial.number).glob("*.safetensors"):
                weights.unlink()


def _write_best(study, search, folder):
    best = _run_folder(folder, study.best_trial.number)
    recipe = yaml.safe_load((best / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["output_dir"] = read_recipe(search.recipe).get("output_dir", "runs/best")
    head = f"# The best of {len(_ended(study))} trials: {search.metric} {study.best_value:.4f} on validation.\n"
    (folder / BEST_RECIPE).write_text(head + yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    study.trials_dataframe(attrs=("number", "value", "state", "user_attrs")).to_csv(folder / TRIALS_FILE, index=False)


def _describe_fields(trial):
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in trial.user_attrs.get("fields", {}).items()
    )
