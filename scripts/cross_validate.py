#!/usr/bin/env python
"""Trains a recipe in every fold of a data set with several seeds, and a linear model beside it.

    python scripts/cross_validate.py dashfusion_ravdess \\
        Whisper=data/ravdess/whisper/emotion descriptors=data/ravdess/descriptors/emotion \\
        --seeds 1 2 3 --runs runs/ravdess_emotion --output model_cards/results/dashfusion_ravdess_emotion.json

Each NAME=FOLDER is a variant: the folder has one folder for each fold, with data of clips that has the splits train,
validation and test. The folds must have the same names in all variants. The recipe selects the checkpoint of a run,
its best epoch on validation unless it says otherwise. The linear models are logistic regression (for scores ridge
regression) on mean and standard deviation of the audio and vision frames of each clip, of both and of each alone; their
penalty is the best one on validation. `--seeds` without numbers fits them alone.

Finished runs are kept: the same command continues after an interruption. The result has all metrics by fold and seed,
means over folds and seeds, and paired differences over folds to the first variant, with 95 % intervals. The predictions
of all runs are in predictions/NAME.parquet beside it.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import yaml
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hf_fusion
from hf_fusion.data.arguments import DataArguments
from hf_fusion.data.clips import has_modality, load_clips
from hf_fusion.data.files import read_yaml
from hf_fusion.evaluation.kept_predictions import PREDICTIONS_FILE, Predictions, read_predictions
from hf_fusion.evaluation.metrics import class_metrics, select_sentiment_metrics
from hf_fusion.evaluation.statistics import holm, paired_difference, standard_deviation
from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.studies.facts import describe_rule
from hf_fusion.studies.predictions import FOLDER, RunKey, write_study_predictions
from hf_fusion.training.recipe import recipe_arguments
from hf_fusion.utils.errors import FusionError, RecipeError
from hf_fusion.utils.records import ENVIRONMENT_FILE, METRICS_FILE, describe_environment, write_json

LINEAR = "linear: "
_INVERSES, _PENALTIES = np.logspace(-4, 0, 9), np.logspace(0, 5, 11)


def linear_metrics(data_args: DataArguments) -> dict[str, dict[str, float]]:
    """Returns the metrics of linear models on the test split of a fold, by the streams that they read."""
    clips = load_clips(data_args.source())
    streams = [name for name in STREAMS if has_modality(clips["train"], name)]
    pooled = {name: {split: _pool(rows, name) for split, rows in clips.items()} for name in streams}
    choices = [streams, *([name] for name in streams if len(streams) > 1)]
    return {" + ".join(names): _fit_best([pooled[name] for name in names], clips, data_args) for names in choices}


def _fit_best(parts, clips, data_args):
    """The test metrics of the model with the best penalty on validation, on the columns of all `parts`."""
    inputs = {split: np.concatenate([part[split] for part in parts], axis=1) for split in clips}
    labels = {split: np.array(rows["label"]) for split, rows in clips.items()}

    def measure(model, split):
        predictions = model.predict(inputs[split])
        if data_args.classes:
            return class_metrics(predictions, labels[split], clips[split].features["label"].names)
        return select_sentiment_metrics(data_args.label_range).compute(
            predictions=predictions, references=labels[split].tolist()
        )

    def fit(linear):
        return make_pipeline(StandardScaler(), linear).fit(inputs["train"], labels["train"])

    if data_args.classes:
        models = [fit(LogisticRegression(C=inverse, max_iter=1000)) for inverse in _INVERSES]
        best = max(models, key=lambda model: measure(model, "validation")["uar"])
    else:
        models = [fit(Ridge(alpha=penalty)) for penalty in _PENALTIES]
        best = min(models, key=lambda model: measure(model, "validation")["mae"])
    return measure(best, "test")


def _pool(rows, name):
    """Mean and standard deviation of each column over the frames of each clip, `(clips, 2 * columns)`, or 0."""
    frames = (row[name] for row in rows.select_columns([name]).with_format("numpy"))
    frames = (clip if len(clip) else np.zeros((1, clip.shape[1])) for clip in frames)
    return np.stack([np.concatenate([clip.mean(axis=0), clip.std(axis=0)]) for clip in frames])


def summarize(folds: dict[str, dict[str, dict]], base: dict[str, dict[str, dict]] | None) -> dict:
    """
    Summarises the metrics of a variant.

    Args:
        folds (`dict`): metrics by fold and seed.
        base (`dict`, *optional*): those of the first variant.

    Returns:
        `dict`: `folds`; by metric the `mean` over folds and seeds, `std_seeds` (of the means over folds), `std_folds`
        (of the means over seeds; both with ddof=1), `interval` (95 %, Student's t over folds); and `difference`, the
        [`paired_difference`] over folds to the first variant.
    """
    first = next(iter(next(iter(folds.values())).values()))
    entry = {"folds": folds, "mean": {}, "std_seeds": {}, "std_folds": {}, "interval": {}}
    if base is not None:
        entry["difference"] = {}
    for metric in first:
        table = _table(folds, metric)
        by_fold = table.mean(axis=1)
        entry["mean"][metric] = float(table.mean())
        entry["std_seeds"][metric] = standard_deviation(table.mean(axis=0))
        entry["std_folds"][metric] = standard_deviation(by_fold)
        entry["interval"][metric] = paired_difference(by_fold, np.zeros(len(by_fold)))["interval"]
        if base is not None:
            entry["difference"][metric] = paired_difference(by_fold, _table(base, metric).mean(axis=1))
    return entry


def correct_p_values(entries: dict[str, dict]) -> None:
    """Adds `p_holm` to all differences: p-values corrected for the number of variants. Linear models have no loss."""
    differences = [entry["difference"] for entry in entries.values() if "difference" in entry]
    for metric in dict.fromkeys(metric for difference in differences for metric in difference):
        tested = [difference[metric] for difference in differences if metric in difference]
        for difference, p_value in zip(tested, holm([one["p"] for one in tested]), strict=True):
            difference["p_holm"] = p_value


def _table(folds, metric):
    """The values of a metric `(folds, seeds)`."""
    rows = [[run.get(metric) for run in runs.values()] for runs in folds.values()]
    return np.array(rows, dtype=float)


class Validation:
    """
    The runs of a recipe in all folds of some variants.

    Args:
        recipe (`str`): a YAML file, or the name of a shipped recipe.
        variants (`dict[str, Path]`): the folder of the folds of each variant, the reference first.
        runs (`Path`): the folder of the run folders `runs/VARIANT/FOLD/seed-N`.
        changes (`dict`): recipe fields that change in all runs.

    Raises:
        RecipeError: if a folder has no folds, or the variants have other folds.
    """

    def __init__(self, recipe: str, variants: dict[str, Path], runs: Path, changes: dict):
        self.recipe, self.variants, self.runs, self.changes = recipe, variants, runs, changes
        found = {name: sorted(path.name for path in folder.glob("*/")) for name, folder in variants.items()}
        self.folds = next(iter(found.values()))
        if not self.folds or any(folds != self.folds for folds in found.values()):
            raise RecipeError(f"The folders must have the same folds, found {found}.")

    def train(self, seeds: list[int]) -> dict[str, dict]:
        """Trains all runs, seed by seed; returns the [`summarize`]d test metrics and facts of each variant."""
        tests = {name: {fold: {} for fold in self.folds} for name in self.variants}
        facts = {name: {"train_seconds": 0.0} for name in self.variants}
        for seed in seeds:
            for name, folder in self.variants.items():
                for fold in self.folds:
                    run = self._train(name, folder / fold, seed)
                    tests[name][fold][str(seed)] = run["test"]
                    facts[name]["parameters"] = run["parameters"]
                    facts[name]["train_seconds"] = round(facts[name]["train_seconds"] + run["train_seconds"], 1)
                    print(f"{name}, {fold}, seed {seed}: {_shown(run['test'])}", flush=True)
        base = tests[next(iter(tests))]
        return {
            name: facts[name]
            | summarize(folds, None if folds is base else base)
            | {"data": self._read_data(name, seeds)}
            for name, folds in tests.items()
        }

    def _train(self, name, data, seed):
        """Returns the content of `metrics.json` of a run, which is trained unless it is finished."""
        folder = self._run_folder(name, data.name, seed)
        if not (folder / METRICS_FILE).exists():
            shutil.rmtree(folder, ignore_errors=True)  # of an interrupted run
            fields = {**self.changes, "dataset": str(data), "output_dir": str(folder), "seed": seed}
            hf_fusion.train(self.recipe, disable_tqdm=True, **fields)
            for checkpoint in folder.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
        return json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))

    def read_predictions(self, seeds: list[int]) -> dict[RunKey, Predictions]:
        """Returns the test predictions of all runs that have some."""
        files = {
            RunKey(name, seed, fold, "test"): self._run_folder(name, fold, seed) / PREDICTIONS_FILE
            for seed in seeds
            for name in self.variants
            for fold in self.folds
        }
        return {key: read_predictions(path).of_split("test") for key, path in files.items() if path.exists()}

    def describe_selection(self, seeds: list[int]) -> str:
        """Describes how checkpoints and linear models were selected."""
        rules = ["linear models: the best penalty on validation"]
        if seeds:
            recipe = self._run_folder(next(iter(self.variants)), self.folds[0], seeds[0]) / "config.yaml"
            rules.insert(0, f"each run: {describe_rule(read_yaml(recipe))}")
        return "; ".join(rules)

    def _run_folder(self, name, fold, seed):
        return self.runs / name / fold / f"seed-{seed}"

    def _read_data(self, name, seeds):
        data = {}
        for fold in self.folds:
            path = self._run_folder(name, fold, seeds[0]) / ENVIRONMENT_FILE
            environment = json.loads(path.read_text(encoding="utf-8"))
            data[fold] = {key: environment[key] for key in ("rows", "data_fingerprint")}
        return data

    def fit_linear(self, base: dict[str, dict] | None) -> dict[str, dict]:
        """Fits the linear models; returns their [`summarize`]d test metrics, with differences to the `base` (by default
        the first of them)."""
        entries = {}
        for name, folder in self.variants.items():
            for fold in self.folds:
                _, data_args, _ = recipe_arguments(self.recipe, **self.changes, dataset=str(folder / fold))
                for i, (streams, metrics) in enumerate(linear_metrics(data_args).items()):
                    entry = LINEAR + name + (f", {streams} alone" if i else "")  # the first one reads all streams
                    entries.setdefault(entry, {})[fold] = {"linear": metrics}
                    print(f"{entry}, {fold}: {_shown(metrics)}", flush=True)
        first = base or next(iter(entries.values()))
        return {name: summarize(folds, None if folds is first else first) for name, folds in entries.items()}


def _shown(metrics):
    names = [name for name in ("accuracy", "uar", "mae", "corr") if name in metrics]
    return ", ".join(f"{name} {metrics[name]:.3f}" for name in names)


def parse_args(arguments: list[str] | None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a recipe (YAML), or the name of a shipped one")
    parser.add_argument("variants", nargs="+", metavar="NAME=FOLDER", help="variants; the first one is the reference")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3], help="seeds of every fold (default: 1 2 3)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a recipe field (value in YAML)"
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder for the run folders")
    parser.add_argument("--output", type=Path, help="result file (default: RUNS/result.json)")
    args = parser.parse_args(arguments)
    for words in (args.variants, args.set):
        for word in words:
            if "=" not in word:
                parser.error(f"expected NAME=VALUE, got {word!r}")
    return args


def main(arguments: list[str] | None = None) -> int:
    """Runs the cross-validation and writes its record."""
    args = parse_args(arguments)
    variants = {name: Path(folder) for name, _, folder in (word.partition("=") for word in args.variants)}
    changes = {name: yaml.safe_load(value) for name, _, value in (word.partition("=") for word in args.set)}
    try:
        validation = Validation(args.recipe, variants, args.runs, changes)
        entries = validation.train(args.seeds) if args.seeds else {}
        entries |= validation.fit_linear(next(iter(entries.values()))["folds"] if entries else None)
        correct_p_values(entries)
    except FusionError as error:
        print(f"cross_validate.py: {error}", file=sys.stderr)
        return 2
    record = {
        "cross_validation": args.recipe,
        "overrides": changes,
        "seeds": args.seeds,
        "selection": validation.describe_selection(args.seeds),
        "variants": entries,
        **describe_environment(),
    }
    output = args.output or args.runs / "result.json"
    if kept := validation.read_predictions(args.seeds):
        record["predictions"] = write_study_predictions(output.parent / FOLDER / f"{output.stem}.parquet", kept)
    write_json(output, record)
    for name, entry in entries.items():
        print(f"{name}: {_shown(entry['mean'])}")
    print(f"Written: {output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
