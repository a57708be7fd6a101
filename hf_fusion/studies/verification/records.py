"""Checks of result files: what can be recomputed in a record, from predictions or from the numbers of its runs."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hf_fusion.evaluation.robustness import summarize_curves
from hf_fusion.evaluation.statistics import holm, paired_difference, standard_deviation
from hf_fusion.evaluation.tables import latex_table
from hf_fusion.studies.measure import compare
from hf_fusion.studies.results import cost_table, latex_rows, markdown_table, pareto, summarize
from hf_fusion.studies.study import mean_metrics
from hf_fusion.studies.verification.checks import RECORD, FileChecks, count_numbers
from hf_fusion.studies.verification.markdown import compare_tables, compare_text, count_printed, read_tables
from hf_fusion.utils.errors import DataError

SPLITS = ("train", "validation", "test")
_MEASURED = ("last_log", "train_seconds", "parameters")  # facts of a variant that cannot be recomputed
_SIDES, _SPREAD = ("reference", "candidate"), ("median", "quartiles")


def read_record(path: Path) -> dict[str, Any]:
    """Reads a result file; raises [`DataError`] if it is none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not JSON ({error}).") from error
    if not isinstance(record, dict) or record_kind(record) is None:
        kinds = ", ".join(_KINDS)
        raise DataError(f"{path}: not a result file that a command of hf_fusion writes ({kinds}).")
    return record


def record_kind(record: dict[str, Any]) -> str | None:
    """Returns "study", "benchmark" ...; `None` if the content is not that of a result file."""
    return next((kind for kind, (keys, _) in _KINDS.items() if "command" in record and set(keys) & set(record)), None)


def check_record(path: Path, record: dict[str, Any]) -> FileChecks:
    """Checks a result file, and the tables beside it."""
    kind = record_kind(record)
    checks = FileChecks(path, kind)
    try:
        _KINDS[kind][1](checks, record)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{path}: does not have the format of a {kind} ({type(error).__name__}: {str(error)[:200]})."
        ) from error
    return checks


def collect_runs(record: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Returns the test metrics of each run of a study by its name, "VARIANT, seed N"; of other records nothing."""
    variants = record["variants"] if record_kind(record) == "study" else {}
    return {
        f"{name}, seed {seed}": metrics for name, entry in variants.items() for seed, metrics in entry["seeds"].items()
    }


def _check_study(checks, record):
    summaries = {"test": record["variants"]}
    summaries |= {name: other["variants"] for name, other in record.get("evaluate_on", {}).items()}
    recomputed = {}
    for split, given in summaries.items():
        results = {name: _read_runs(entry, split) for name, entry in given.items()}
        recomputed[split] = summarize(results, split, record.get("interval", "t"))
        place = "variants" if split == "test" else f"evaluate_on.{split}.variants"
        for name, entry in given.items():
            facts = {key: entry.get(key) for key in _MEASURED}
            results_only = {key: value for key, value in entry.items() if key not in (*_MEASURED, "changes")}
            checks.count(RECORD, count_numbers(facts))
            checks.compare_all(f"{place}.{name}", results_only, recomputed[split][name], RECORD)
    if "pareto" in record:
        front = pareto(record["pareto"]["costs"], recomputed["test"], record["pareto"]["metric"])
        checks.compare_all("pareto", record["pareto"], front, RECORD)
    for name, comparisons in record.get("costs", {}).items():
        _check_comparisons(checks, f"costs.{name}", comparisons)
    _check_csv(checks, summaries)
    _check_study_tables(checks, record, recomputed)


def _read_runs(entry, split):
    """Returns the runs of a variant as [`summarize`] takes them; the metrics of a seed are the means of its folds."""
    runs = {}
    for seed, metrics in entry["seeds"].items():
        runs[seed] = {split: metrics, **dict.fromkeys(_MEASURED)}
        if "folds" in entry:
            folds = {fold: {split: values} for fold, values in entry["folds"][seed].items()}
            runs[seed] |= {split: mean_metrics([values[split] for values in folds.values()]), "folds": folds}
    return runs


def _check_csv(checks, summaries):
    """Compares the table of single numbers beside a study; the JSON file lacks those of the validation split."""
    path = checks.path.with_suffix(".csv")
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.DictReader(file), 2):
            checks.count(checks.basis if row["split"] in summaries else RECORD)
            if row["split"] in summaries:
                found = summaries[row["split"]][row["variant"]]["seeds"][row["seed"]].get(row["metric"])
                given = float(row["value"]) if row["value"] else None
                checks.compare(f"{path.name}, line {line}, {' '.join(list(row.values())[:4])}", given, found)


def _check_study_tables(checks, record, summaries):
    """Compares the tables in Markdown and LaTeX beside a study, whose columns are those of the file."""
    path = checks.path.with_suffix(".md")
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        for name, given in re.findall(r"^### ([^\n]+)\n\n(.*?)(?=^### |\Z)", text, re.DOTALL | re.MULTILINE):
            metrics = read_tables(given)[0].header[1:]
            if name == "size and speed":
                found = cost_table(record["costs"], summaries["test"], re.search(r"share of (\w+)", metrics[-1])[1])
            else:
                found = markdown_table(summaries[name], metrics, record.get("paper", {}) if name == "test" else {})
            compare_tables(checks, f"{path.name}, {name}", given, found, lambda column: checks.basis)
    path = checks.path.with_suffix(".tex")
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        for name, given in re.findall(r"^% ([^\n]+)\n(.*?)(?=^% |\Z)", text, re.DOTALL | re.MULTILINE):
            metrics = re.search(r"\\toprule\n(.*?) \\\\", given)[1].replace("\\_", "_").split(" & ")[1:]
            found = latex_table(latex_rows(summaries[name], metrics), "")
            _compare_latex(checks, f"{path.name}, {name}", given, found)


def _compare_latex(checks, place, given, found):
    """Compares the rows of two tables in LaTeX."""
    rows, others = ([line.removesuffix(" \\\\").split(" & ") for line in text.splitlines() if " & " in line]
                    for text in (given, found))  # fmt: skip
    if [row[0] for row in rows] != [row[0] for row in others]:
        checks.fail(f"{place}, names of rows", *(" | ".join(row[0] for row in side) for side in (rows, others)))
        return
    header = rows[0]
    for row, other in zip(rows[1:], others[1:], strict=True):
        for column, cell, expected in zip(header[1:], row[1:], other[1:], strict=True):
            checks.count(checks.basis, count_printed(cell))
            compare_text(checks, f"{place}, row {row[0]!r}, column {column!r}", cell, expected)


def _check_cross_validation(checks, record):
    """Recomputes means over folds and seeds, spreads, intervals and differences from the metrics of each run."""
    base, recomputed = None, {}
    for name, entry in record["variants"].items():
        found = recomputed[name] = {
            "folds": entry["folds"],
            "mean": {},
            "std_seeds": {},
            "std_folds": {},
            "interval": {},
        }
        tables = {metric: _by_fold_and_seed(entry["folds"], metric) for metric in entry["mean"]}
        base = base or tables
        for metric, table in tables.items():
            by_fold = table.mean(axis=1)
            found["mean"][metric] = float(table.mean())
            found["std_seeds"][metric] = standard_deviation(table.mean(axis=0))
            found["std_folds"][metric] = standard_deviation(by_fold)
            found["interval"][metric] = paired_difference(by_fold, np.zeros(len(by_fold)))["interval"]
        if "difference" in entry:
            found["difference"] = {
                metric: paired_difference(tables[metric].mean(axis=1), base[metric].mean(axis=1))
                for metric in entry["difference"]
            }
    for metric in base:
        tested = [found["difference"][metric] for found in recomputed.values() if metric in found.get("difference", ())]
        for difference, p_holm in zip(tested, holm([one["p"] for one in tested]), strict=True):
            difference["p_holm"] = p_holm
    for name, entry in record["variants"].items():
        results_only = {key: value for key, value in entry.items() if key != "data"}
        checks.compare_all(f"variants.{name}", results_only, recomputed[name], RECORD)


def _by_fold_and_seed(folds, metric):
    """The values of a metric `(folds, seeds)`."""
    return np.array([[run.get(metric) for run in runs.values()] for runs in folds.values()], dtype=float)


def _check_benchmark(checks, record):
    _check_comparisons(checks, "comparisons", record["comparisons"])


def _check_comparisons(checks, place, comparisons):
    """Recomputes medians, quartiles and ratios from the measured pairs."""
    for i, given in enumerate(comparisons):
        pairs = [(pair["reference"], pair["candidate"]) for pair in given["pairs"]]
        sides = ({name: value for name, value in given[side].items() if name not in _SPREAD} for side in _SIDES)
        found = compare(given["what"], given["unit"], pairs, *sides)
        checks.compare_all(f"{place}[{i}]", {key: given[key] for key in found}, found, RECORD)


def _check_robustness(checks, record):
    found = summarize_curves(record["curves"], record.get("baseline"))
    checks.count(RECORD, count_numbers(record["curves"]))
    checks.compare_all("summary", record["summary"], found, RECORD)


def _check_single(checks, record):
    """Evaluations and baselines: metrics without seeds."""
    checks.count(RECORD, count_numbers({split: record[split] for split in SPLITS if split in record}))


# The kinds of records: keys by which they are known, and their check.
_KINDS: dict[str, tuple[tuple[str, ...], Callable[[FileChecks, dict], None]]] = {
    "study": (("study",), _check_study),
    "cross-validation": (("cross_validation",), _check_cross_validation),
    "benchmark": (("comparisons",), _check_benchmark),
    "robustness": (("curves",), _check_robustness),
    "evaluation": (SPLITS, _check_single),
}
