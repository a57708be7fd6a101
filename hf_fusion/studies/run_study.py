"""Runs the trainings and measurements of a study. Each run has its own process; finished runs are kept."""

import json
from functools import partial
from pathlib import Path

from hf_fusion.architectures.evaluate_checkpoint import NothingLeftError, evaluate_checkpoint
from hf_fusion.data.files import DATA_FILE_KINDS, read_yaml
from hf_fusion.data.hub import is_path
from hf_fusion.evaluation.kept_predictions import (
    PREDICTIONS_FILE,
    digest_weights,
    measure_predictions,
    write_predictions,
)
from hf_fusion.studies.folds import in_fold, mean_over_folds
from hf_fusion.studies.launch import Run, run_all
from hf_fusion.studies.protocols import measure_run, part_names
from hf_fusion.studies.run_folders import (
    ANSWERS_FOLDER,
    TRANSFER_FILE,
    get_run_folder,
    other_predictions_file,
)
from hf_fusion.studies.study import Study, StudyError
from hf_fusion.studies.zero_shot_variants import measure_zero_shot
from hf_fusion.training.kept import complete_run
from hf_fusion.training.recipe import read_recipe
from hf_fusion.utils.errors import FusionError, RecipeError
from hf_fusion.utils.records import ENVIRONMENT_FILE, METRICS_FILE, STUDY_SETTINGS_FILE, write_json
from hf_fusion.utils.shipped import find_file


def run_study(study: Study, folder: Path, say=print, slots: int = 1) -> dict[str, dict[int, dict]]:
    """
    Measures baselines, then runs the unfinished runs seed by seed, each one in a separate process (`hf-fusion train`).

    A finished run (its folder has `metrics.json`) is never repeated; an interrupted one resumes from its newest
    checkpoint. The predictions of each run are in its folder: `predictions.parquet`, and `predictions_NAME.parquet`
    for other data. Those of older runs are made from their checkpoints.

    Args:
        study ([`Study`]): the study.
        folder (`Path`): the folder of the run folders `folder/VARIANT/seed-N`.
        say (`Callable`, *optional*, defaults to `print`): called with a line when a run starts, or was finished before.
        slots (`int`, *optional*, defaults to 1): the number of runs at a time, which share the cores.

    Returns:
        `dict[str, dict[int, dict]]`: the content of `metrics.json` by variant and seed, with `last_log` (the last
        training log: loss components and weights, mean and standard deviation of the gate), and the metrics on other
        data by name. With folds see [`mean_over_folds`].

    Raises:
        StudyError: if a run fails (its output is in `train.log` of its folder), if a folder holds a run with other
            settings, or if a file does not exist.
    """
    if (folder / METRICS_FILE).exists():
        raise StudyError(f"{folder} is the folder of a single run: choose another one for the runs of the study.")
    waiting, students, baselines = _unfinished_runs(study, folder, say)
    runs = [*waiting, *students]

    def report(run, epochs):
        if epochs == 0:
            say(f"[{runs.index(run) + 1}/{len(runs)}] {run.name}: running, log in {run.folder / 'train.log'}")

    for (name, fold), seeds in baselines.items():  # first: their weights may be missing
        say(f"{name}{'' if fold is None else f', fold {fold}'}: answering, without training")
        _measure_baseline(study, name, fold, seeds)
    try:
        run_all(waiting, slots, report)
        run_all(students, slots, report)  # after their teachers
    except RecipeError as error:
        raise StudyError(str(error)) from error
    results = _read_results(study, folder, say)
    splits = ("validation", "test", *study.evaluate_on, *part_names(study.protocol_settings))
    return {
        name: {seed: mean_over_folds(runs, splits) if study.folds else runs[None] for seed, runs in by_seed.items()}
        for name, by_seed in results.items()
    }


def _unfinished_runs(study, folder, say):
    """Returns the runs to train, those of students, and the folders and changes of baselines by variant and fold."""
    recipe = read_recipe(study.recipe)
    waiting, students, baselines = [], [], {}
    for name, seed, fold in study.runs:
        run_folder = get_run_folder(folder, name, seed, fold)
        changes = study.changes(name, seed, folder, fold)
        _check_same_settings(run_folder, study.recipe, {**changes, "output_dir": str(run_folder)})
        known = _known_on_other_data(run_folder)
        evaluate_on = in_fold(study.evaluate_on, fold)
        new = {other: data for other, data in evaluate_on.items() if known.get(other, {}).get("data") != data}
        for other, data_fields in new.items():
            _check_file(f"evaluate_on.{other}.dataset", data_fields)
        if (run_folder / METRICS_FILE).exists() and not (new and study.is_baseline(name)):
            say(f"{_name_run(name, seed, fold)}: finished before")
            continue
        own = f"variants.{name}." if "dataset" in study.variants[name] else ""
        _check_file(f"{own}dataset", {**recipe, **changes})
        if study.is_baseline(name):
            baselines.setdefault((name, fold), []).append((run_folder, changes))
            continue
        # `evidence` is no setting, since it changes no result; the tables of the study have its own
        flags = ["--resume_from_checkpoint", "last", "--evidence", "no", *_flags(changes)]
        is_student = study.find_teacher(name) is not None
        if is_student and "teacher_answers" not in changes:
            # students of one teacher share its answers; no setting, since it changes no result
            flags += ["--teacher_answers", str(folder / ANSWERS_FOLDER)]
        queue = students if is_student else waiting
        queue.append(Run(_name_run(name, seed, fold), study.recipe, run_folder, flags))
    return waiting, students, baselines


def _read_results(study, folder, say):
    """Reads the results of finished runs, by variant, seed and fold, with those on other data and by protocols."""
    results = {name: {seed: {} for seed in study.seeds} for name in study.variants}
    without: dict[str, list[str]] = {}
    for name, seed, fold in study.runs:
        run_folder = get_run_folder(folder, name, seed, fold)
        result = json.loads((run_folder / METRICS_FILE).read_text(encoding="utf-8"))
        result["last_log"] = _last_log(run_folder / "trainer_state.json")
        report_run = partial(_say_of_run, say, _name_run(name, seed, fold))
        if reason := complete_run(run_folder, report_run):
            without.setdefault(reason, []).append(_name_run(name, seed, fold))
        metric_names = result.get("test", ())
        result |= _on_other_data(in_fold(study.evaluate_on, fold), run_folder, metric_names, report_run)
        result |= measure_run(run_folder, study.protocol_settings, metric_names, report_run)
        results[name][seed][fold] = result
    for reason, names in without.items():
        say(f"No predictions of {len(names)} run(s), {reason} ({'; '.join(names)})")
    return results


def _measure_baseline(study, name, fold, seeds):
    """Measures a variant that is not trained, and writes its results into the run folder of each seed."""
    evaluate_on = in_fold(study.evaluate_on, fold)
    try:
        result = measure_zero_shot(study.recipe, seeds[0][1], evaluate_on)
    except (FusionError, OSError, ValueError) as error:  # of transformers: no such model, no chat template ...
        raise StudyError(f"{name}: {seeds[0][1]['baseline']['model']}: {error}") from error
    known = {
        other: {"data": evaluate_on[other], "metrics": measure_predictions(part)}
        for other, part in result.others.items()
    }
    for run_folder, changes in seeds:
        seed = {"seed": changes["seed"]}
        write_predictions(run_folder / PREDICTIONS_FILE, result.predictions)
        for other, part in result.others.items():
            write_predictions(run_folder / other_predictions_file(other), part)
        write_json(run_folder / ENVIRONMENT_FILE, {**result.environment, **seed})
        write_json(run_folder / TRANSFER_FILE, known)
        write_json(run_folder / METRICS_FILE, {**result.metrics, **seed})  # last: it marks the run as finished


def _name_run(name, seed, fold):
    return f"{name}, seed {seed}" + ("" if fold is None else f", fold {fold}")


def _check_file(place, data_fields):
    """Raises [`StudyError`] for a missing file before hours of training."""
    name = data_fields.get("dataset")
    is_file = isinstance(name, str) and (name.lower().endswith(DATA_FILE_KINDS) or is_path(name))
    if is_file and not Path(name).exists():
        raise StudyError(f"{place}: there is no file or folder {name}. Set {place} to one (--set '{place}=FILE').")


def _known_on_other_data(run_folder):
    path = run_folder / TRANSFER_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _say_of_run(say, run, line):
    say(f"{run}: {line}")


def _on_other_data(evaluate_on, run_folder, metric_names, say):
    """
    Returns the metrics on each of `evaluate_on`, and keeps the predictions; earlier results on the same data are
    reused. All are `None` if the data has no input for the model.
    """
    known = _known_on_other_data(run_folder)
    for name, data_fields in evaluate_on.items():
        file = run_folder / other_predictions_file(name)
        if known.get(name, {}).get("data") == data_fields:
            if not file.exists() and not _has_no_input(known[name]["metrics"]):
                _predict_again(run_folder, data_fields, file, lambda line, name=name: say(f"{line} on {name}"))
            continue
        say(f"on {name}")
        file.unlink(missing_ok=True)
        try:
            metrics = evaluate_checkpoint(run_folder, data_fields, keep=file)
        except NothingLeftError:
            metrics = dict.fromkeys(name for name in metric_names if name != "loss")
        known[name] = {"data": data_fields, "metrics": metrics}
        write_json(run_folder / TRANSFER_FILE, known)
    return {name: known[name]["metrics"] for name in evaluate_on}


def _has_no_input(metrics):
    return all(value is None for value in metrics.values())


def _predict_again(run_folder, data_fields, file, say):
    """Keeps the predictions of an evaluation from before predictions were kept, if checkpoint and data are there."""
    if digest_weights(run_folder) is None:
        return  # said of the run before
    say("no predictions yet, evaluating its checkpoint")
    try:
        evaluate_checkpoint(run_folder, data_fields, keep=file)
    except (FusionError, OSError) as error:
        say(f"no predictions, since its checkpoint cannot be evaluated ({error})")


def _check_same_settings(run_folder, recipe, fields):
    """Raises [`StudyError`] if a folder holds a run with other settings."""
    fields = {name: value for name, value in fields.items() if not name.endswith("_token")}
    path = run_folder / STUDY_SETTINGS_FILE
    content = read_yaml(str(find_file(recipe, "recipe")))
    settings = json.dumps({"recipe": content, "changes": fields}, indent=2, sort_keys=True, default=str)
    if path.exists() and path.read_text(encoding="utf-8") != settings:
        raise StudyError(
            f"{run_folder} holds a run with other settings (see its {STUDY_SETTINGS_FILE}). Remove it, or choose "
            "another folder."
        )
    run_folder.mkdir(parents=True, exist_ok=True)
    path.write_text(settings, encoding="utf-8")


def _last_log(path):
    if not path.is_file():
        return None
    logs = json.loads(path.read_text(encoding="utf-8"))["log_history"]
    return next((log for log in reversed(logs) if "grad_norm" in log), None)


def _flags(changes):
    flags = []
    for name, value in changes.items():
        values = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
        flags += [
            f"--{name}",
            *("no" if value is False else str(value) for value in values),
        ]  # the word in YAML for both types
    return flags
