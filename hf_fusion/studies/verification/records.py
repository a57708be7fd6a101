"""Checks of result files: what can be recomputed in a record, from predictions or from the numbers of its runs."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from hf_fusion.architectures.write_protocol import measure_curves, protocol_latex, tidy_protocol
from hf_fusion.data.pickles import sha256_of
from hf_fusion.evaluation.kept_predictions import PREDICTIONS_FILE, Predictions
from hf_fusion.evaluation.protocol_curves import published_decimals, summary_weights
from hf_fusion.evaluation.protocol_curves import summarize_curves as summarize_protocol
from hf_fusion.evaluation.robustness import summarize_curves
from hf_fusion.evaluation.statistics import holm, paired_difference, standard_deviation
from hf_fusion.evaluation.tables import latex_table
from hf_fusion.studies.folds import mean_metrics
from hf_fusion.studies.measure import compare
from hf_fusion.studies.predictions import RunKey, read_study_predictions
from hf_fusion.studies.protocols import part_name, protocol_tables, published_table
from hf_fusion.studies.results import pareto
from hf_fusion.studies.study_tables import cost_table, latex_note, latex_rows, markdown_table
from hf_fusion.studies.summaries import summarize
from hf_fusion.studies.verification.checks import PREDICTIONS, RECORD, FileChecks, count_numbers
from hf_fusion.studies.verification.kept import (
    check_weights,
    compare_with_predictions,
    read_kept,
    read_masked_predictions,
    read_protocol_settings,
)
from hf_fusion.studies.verification.markdown import (
    compare_tables,
    compare_text,
    count_printed,
    read_legend,
    read_tables,
)
from hf_fusion.utils.errors import DataError

SPLITS = ("train", "validation", "test")
_MEASURED = ("last_log", "train_seconds", "parameters")  # facts of a variant that cannot be recomputed
_NO_STATISTICS = ("changes", "seeds", "folds", *_MEASURED)  # of a variant
_FOLD_STATISTICS = ("mean", "std_seeds", "std_folds", "interval")
_CURVES = ("conditions", "summary")  # of a protocol
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
    checks.name_commit(record.get("commit"))
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
    summaries = _read_summaries(record)
    data = ("test", *record.get("evaluate_on", {}))  # protocols keep no predictions here
    runs = [run for split in data for name, entry in summaries[split][1].items()
            for run in _runs_of_entry("", name, entry, split).values()]  # fmt: skip
    kept = read_kept_runs(checks, record, runs)
    _check_data(checks, record, kept)
    recomputed, shown = {}, {}
    for split, (place, given) in summaries.items():
        recomputed[split] = _summarize(record, given, split, kept)
        resting = {name: _compare_runs(checks, _runs_of_entry(f"{place}.{name}", name, entry, split), kept)
                   for name, entry in given.items()}  # fmt: skip
        shown[split] = _fill(given, recomputed[split])
        reference = resting[next(iter(given))]
        for name, entry in given.items():
            found = recomputed[split][name]
            checks.count(RECORD, count_numbers({key: entry.get(key) for key in _MEASURED}))
            if "folds" in entry:  # the metrics of a seed are means
                _check_statistics(checks, f"{place}.{name}.seeds", entry["seeds"], found["seeds"], resting[name])
            statistics = {part: value for part, value in entry.items() if part not in _NO_STATISTICS}
            _check_statistics(checks, f"{place}.{name}", statistics, found, resting[name], reference)
    for name, part in record.get("protocols", {}).items():
        _check_summaries(checks, f"protocols.{name}", part)
    if "compute" in record:
        checks.compare_all("compute", record["compute"], _sum_compute(record["variants"]), RECORD)
    if "pareto" in record:
        front = pareto(record["pareto"]["costs"], recomputed["test"], record["pareto"]["metric"])
        checks.compare_all("pareto", record["pareto"], front, RECORD)
    for name, comparisons in record.get("costs", {}).items():
        _check_comparisons(checks, f"costs.{name}", comparisons)
    _check_csv(checks, summaries)
    _check_study_tables(checks, record, shown)


def _read_summaries(record):
    """Returns the summaries of a study by their split: their place in the record, and the entry of each variant."""
    summaries = {"test": ("variants", record["variants"])}
    for name, other in record.get("evaluate_on", {}).items():
        summaries[name] = f"evaluate_on.{name}.variants", other["variants"]
    for name, protocol in record.get("protocols", {}).items():
        for side in ("conditions", "summary"):
            for part, content in protocol[side].items():
                summaries[part_name(name, part)] = f"protocols.{name}.{side}.{part}.variants", content["variants"]
    return summaries


def _summarize(record, given, split, kept):
    """Summarises the runs of a study again, with intervals over rows where the record has them."""
    results = {name: _read_runs(entry, split) for name, entry in given.items()}
    differences = [difference for entry in given.values() for difference in entry.get("difference", {}).values()]
    has_rows = any("hierarchical" in part for part in (*given.values(), *differences))
    clusters = record.get("predictions", {}).get("clusters", record.get("clusters"))  # those of hashed ids
    options = {"families": record.get("families"), "clusters": clusters}
    return summarize(results, split, record.get("interval", "t"), predictions=kept if has_rows else None, **options)


def _check_summaries(checks, place, protocol):
    """Recomputes the summaries of a protocol from its conditions, for each variant and seed."""
    conditions, names = protocol["conditions"], protocol["settings"]["conditions"]
    if list(conditions) != names:
        checks.fail(f"{place}.conditions", ", ".join(conditions), ", ".join(names))
        return
    cells = list(conditions.values())
    for summary, content in protocol["summary"].items():
        weights = summary_weights(summary, [cell["rate"] for cell in cells], [cell["complete"] for cell in cells])
        for variant, entry in content["variants"].items():
            for seed, metrics in entry["seeds"].items():
                for metric, given in metrics.items():
                    values = [cell["variants"][variant]["seeds"][seed].get(metric) for cell in cells]
                    found = float(np.dot(weights, np.array(values, dtype=float)))  # without a value not a number
                    checks.compare(f"{place}.summary.{summary}.variants.{variant}.seeds.{seed}.{metric}", given, found)


def _fill(given, found):
    """Returns the entries of a record with the numbers found again; those that were not recomputed stay."""
    if isinstance(given, dict) and isinstance(found, dict):
        return {name: _fill(value, found[name]) if name in found else value for name, value in given.items()}
    return found


def _runs_of_entry(place, variant, entry, split):
    """Returns the single runs of a variant by their place: of each seed, or of each seed and fold."""
    if "folds" in entry:
        return {f"{place}.folds.{seed}.{fold}": ((variant, seed, fold, split), metrics)
                for seed, folds in entry["folds"].items() for fold, metrics in folds.items()}  # fmt: skip
    return {f"{place}.seeds.{seed}": ((variant, seed, None, split), metrics)
            for seed, metrics in entry["seeds"].items()}  # fmt: skip


def _check_statistics(checks, place, given, found, resting, resting_of_reference=()):
    """Compares means, spreads and differences; they rest on predictions where the metrics of all their runs do."""
    for part, values in given.items():
        if part not in found:
            checks.count(RECORD, count_numbers(values))
            continue
        for metric, value in values.items():
            is_resting = metric in resting and (part != "difference" or metric in resting_of_reference)
            basis = PREDICTIONS if is_resting else RECORD
            checks.compare_all(f"{place}.{part}.{metric}", value, found[part].get(metric), basis)


def _read_runs(entry, split):
    """Returns the runs of a variant as [`summarize`] takes them; the metrics of a seed are the means of its folds."""
    runs = {}
    for seed, metrics in entry["seeds"].items():
        runs[seed] = {split: metrics, **dict.fromkeys(_MEASURED)}
        if "folds" in entry:
            folds = {fold: {split: values} for fold, values in entry["folds"][seed].items()}
            runs[seed] |= {split: mean_metrics([values[split] for values in folds.values()]), "folds": folds}
    return runs


def read_kept_runs(
    checks: FileChecks, record: dict[str, Any], runs_of_record: list[tuple[tuple, dict]]
) -> dict[RunKey, Predictions]:
    """
    Reads the predictions of a record, and checks their hash, their number of rows and their runs.

    Args:
        checks ([`FileChecks`]): takes disagreements, and a note on runs without predictions.
        record (`dict`): the record.
        runs_of_record (`list[tuple]`): its runs, `(variant, seed, fold, data)`, and their metrics.
    """
    known = record.get("predictions")
    if known is None:
        return {}
    path = checks.path.parent / known["file"]
    runs = read_kept(checks, path, read_study_predictions)
    if path.is_file() and (digest := sha256_of(path)) != known["sha256"]:
        checks.fail("predictions.sha256", known["sha256"], digest)
    if not path.is_file():
        checks.fail("predictions.file", known["file"], "no such file")
    if runs is None:
        return {}
    checks.compare("predictions.rows", known["rows"], sum(map(len, runs.values())))
    for predictions in runs.values():
        checks.name_commit(predictions.facts.get("commit"))
    places = set(map(_place_of, runs))
    for place in sorted(places - {run for run, _ in runs_of_record}, key=str):
        checks.fail("predictions", ", ".join(filter(None, place)), "no such run in the record")
    if missing := [run for run, metrics in runs_of_record if run not in places and count_numbers(metrics)]:
        checks.notes.append(f"{len(missing)} runs without predictions")
    return runs


def _place_of(key):
    """Returns the place of predictions as records name it."""
    return key.variant, str(key.seed), key.fold, key.data


def _check_data(checks, record, kept):
    """Compares fingerprint and rows of the test data in the record, those of the first seed, with the predictions."""
    for key, predictions in kept.items():
        entry = record["variants"].get(key.variant)
        if entry is None or key.data != "test" or str(key.seed) != next(iter(entry["seeds"])) or "zero_shot" in entry:
            continue
        data, place = record.get("data", {}), "data"
        for name in (key.variant, key.fold):
            if "rows" not in data and name in data:
                data, place = data[name], f"{place}.{name}"
        if "test" in data.get("rows", ()):
            checks.compare(f"{place}.rows.test", data["rows"]["test"], len(predictions))
        digests = [one.get("data_fingerprint", {}).get("test") for one in (data, predictions.facts)]
        if None not in digests and digests[0] != digests[1]:
            checks.fail(f"{place}.data_fingerprint.test", *digests)


def _sum_compute(variants):
    """Returns the number of runs and the seconds of training of all variants."""
    seconds = [value for entry in variants.values() for value in entry["train_seconds"].values()]
    return {
        "runs": sum(len(_runs_of_entry("", name, entry, "test")) for name, entry in variants.items()),
        "train_seconds": None if None in seconds else round(sum(seconds), 1),
    }


def _compare_runs(checks, runs, kept):
    """
    Compares the metrics of runs with their predictions.

    Args:
        runs: for each place in the file the run, `(variant, seed, fold, data)`, and its metrics.
        kept: the predictions by run.

    Returns:
        The names of the metrics that rest on predictions in all runs.
    """
    kept = {_place_of(key): predictions for key, predictions in kept.items()}
    resting = [
        compare_with_predictions(checks, place, metrics, kept.get(run)) for place, (run, metrics) in runs.items()
    ]
    return set.intersection(*resting) if resting else set()


def _check_csv(checks, summaries):
    """Compares the table of single numbers beside a study; the JSON file lacks those of the validation split."""
    path = checks.path.with_suffix(".csv")
    if not path.is_file():
        return
    rows_of: Counter[str] = Counter()
    with path.open(encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.DictReader(file), 2):
            rows_of[row["split"]] += 1
            checks.count(checks.basis if row["split"] in summaries else RECORD)
            if row["split"] in summaries:
                found = summaries[row["split"]][1][row["variant"]]["seeds"][row["seed"]].get(row["metric"])
                given = float(row["value"]) if row["value"] else None
                checks.compare(f"{path.name}, line {line}, {' '.join(list(row.values())[:4])}", given, found)
    for split in rows_of.keys() & summaries.keys():
        expected = sum(len(metrics) for entry in summaries[split][1].values() for metrics in entry["seeds"].values())
        checks.compare(f"{path.name}, rows of {split}", rows_of[split], expected)


def _check_study_tables(checks, record, summaries):
    """Compares the tables in Markdown and LaTeX beside a study, whose columns are those of the file."""
    path = checks.path.with_suffix(".md")
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        for name, given in re.findall(r"^### ([^\n]+)\n\n(.*?)(?=^### |\Z)", text, re.DOTALL | re.MULTILINE):
            metrics = read_tables(given)[0].header[1:]
            if name.startswith("protocol "):
                found = _render_protocol(record, name, summaries, metrics)
            elif name == "published":
                found = published_table(record["published"], metrics)
            elif name == "size and speed":
                found = cost_table(record["costs"], summaries["test"], re.search(r"share of (\w+)", metrics[-1])[1])
            else:
                found = markdown_table(summaries[name], metrics, record.get("paper", {}) if name == "test" else {})
            compare_tables(checks, f"{path.name}, {name}", given, found, lambda column: checks.basis)
            compare_text(checks, f"{path.name}, {name}, legend", read_legend(given), read_legend(found))
    path = checks.path.with_suffix(".tex")
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        for name, given in re.findall(r"^% ([^\n]+)\n(.*?)(?=^% |\Z)", text, re.DOTALL | re.MULTILINE):
            metrics = re.search(r"\\toprule\n(.*?) \\\\", given)[1].replace("\\_", "_").split(" & ")[1:]
            found = latex_table(latex_rows(summaries[name], metrics), latex_note(summaries["test"]))
            _compare_latex(checks, f"{path.name}, {name}", given, found)


def _render_protocol(record, title, summaries, columns):
    """Renders the table of a protocol from summaries that were recomputed; columns are `SUMMARY: METRIC`."""
    name = next(name for name in record["protocols"] if title.startswith(f"protocol {name}: "))
    part = dict(record["protocols"][name])
    for side in ("conditions", "summary"):
        part[side] = {key: {**cell, "variants": summaries[part_name(name, key)]} for key, cell in part[side].items()}
    metrics = list(dict.fromkeys(column.partition(": ")[2] for column in columns))
    return protocol_tables({name: part}, metrics)[0]


def _compare_latex(checks, place, given, found):
    """Compares the rows of two tables in LaTeX."""
    rows, others = ([line.removesuffix(" \\\\").split(" & ") for line in text.splitlines() if " & " in line]
                    for text in (given, found))  # fmt: skip
    if [row[0] for row in rows] != [row[0] for row in others]:
        checks.fail(f"{place}, names of rows", *(" | ".join(row[0] for row in side) for side in (rows, others)))
        return
    captions = [re.findall(r"^\\caption.*", text, re.MULTILINE) for text in (given, found)]
    compare_text(checks, f"{place}, caption", *map("".join, captions))
    header = rows[0]
    for row, other in zip(rows[1:], others[1:], strict=True):
        for column, cell, expected in zip(header[1:], row[1:], other[1:], strict=True):
            checks.count(checks.basis, count_printed(cell))
            compare_text(checks, f"{place}, row {row[0]!r}, column {column!r}", cell, expected)


def _check_cross_validation(checks, record):
    """Recomputes means over folds and seeds, spreads, intervals and differences from the metrics of each run."""
    base, recomputed = None, {}
    for name, entry in record["variants"].items():
        found = recomputed[name] = {part: {} for part in _FOLD_STATISTICS}
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
    runs = {name: {f"variants.{name}.folds.{fold}.{seed}": ((name, seed, fold, "test"), metrics)
                   for fold, by_seed in entry["folds"].items() for seed, metrics in by_seed.items()}
            for name, entry in record["variants"].items()}  # fmt: skip
    kept = read_kept_runs(checks, record, [run for places in runs.values() for run in places.values()])
    resting = {name: _compare_runs(checks, places, kept) for name, places in runs.items()}
    for name, entry in record["variants"].items():
        checks.count(RECORD, count_numbers({key: entry.get(key) for key in _MEASURED}))
        statistics = {part: entry[part] for part in (*_FOLD_STATISTICS, "difference") if part in entry}
        _check_statistics(checks, f"variants.{name}", statistics, recomputed[name], resting[name],
                          resting[next(iter(record["variants"]))])  # fmt: skip


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


def _check_protocol(checks, record):
    """Recomputes the curves of a protocol: from predictions, or spreads and summaries from the metrics by mask seed."""
    masked = read_kept(checks, checks.path.with_name(PREDICTIONS_FILE), read_masked_predictions)
    curves = {side: record[side] for side in _CURVES}
    settings = read_protocol_settings(record["settings"])
    if masked is None:
        measured = {name: cell["seeds"] for name, cell in record["conditions"].items()}
        conditions = [condition for condition in settings.resolve().conditions if condition.name in measured]
        found = summarize_protocol(conditions, measured, settings.summaries)
    else:
        predictions = masked[0].predictions
        _check_origin(checks, record, predictions)
        settings = read_protocol_settings(predictions.facts["settings"])
        decimals = published_decimals(settings.protocol, settings.mode, getattr(predictions.config, "label_range", ()))
        found = measure_curves(masked, settings, decimals)
    for side in _CURVES:
        if missing := [name for name in found[side] if name not in curves[side]]:
            checks.fail(side, ", ".join(curves[side]), f"also {', '.join(missing)}")
    checks.compare_all("", curves, found, RECORD if masked is None else PREDICTIONS)
    _check_protocol_tables(checks, record)


def _check_origin(checks, record, predictions):
    """Compares settings, data, rows and weights of a protocol with those of its predictions."""
    for name in ("settings", "data_fingerprint", "weights_sha256"):
        given, found = (facts.get(name) for facts in (record, predictions.facts))
        if given != found:
            checks.fail(name, given, found)
    if "rows" in record:
        checks.compare("rows", record["rows"], len(predictions))
    check_weights(checks, checks.path.parent, PREDICTIONS_FILE, predictions.facts)


def _check_protocol_tables(checks, record):
    """Compares the tables beside a protocol with its record."""
    path = checks.path.with_suffix(".csv")
    if path.is_file():
        texts = path.read_text(encoding="utf-8"), tidy_protocol(record).to_csv(index=False)
        rows, others = (list(csv.reader(StringIO(text))) for text in texts)
        if [row[:-1] for row in rows] != [row[:-1] for row in others]:
            checks.fail(path.name, f"{len(rows)} lines", f"{len(others)} lines, of other numbers")
        else:
            for line, (row, other) in enumerate(zip(rows[1:], others[1:], strict=True), 2):
                given, found = (float(side[-1]) if side[-1] else None for side in (row, other))
                checks.compare(f"{path.name}, line {line}, {' '.join(row[:-1])}", given, found)
    path = checks.path.with_suffix(".tex")
    if path.is_file():
        _compare_latex(checks, path.name, path.read_text(encoding="utf-8"), protocol_latex(record))


def _check_single(checks, record):
    """Evaluations and baselines: metrics without seeds."""
    checks.count(RECORD, count_numbers({split: record[split] for split in SPLITS if split in record}))


def _check_analysis(checks, record):
    """Reports of `hf-fusion analyze`: the verdict of each finding follows from its value and limit."""
    checks.count(RECORD, count_numbers(record["sections"]))
    for section in record["sections"]:
        for finding in section["findings"]:
            words, _, limit = finding["limit"].rpartition(" ")
            if words in ("at most", "at least"):
                kept = finding["value"] <= float(limit) if words == "at most" else finding["value"] >= float(limit)
                if kept is not finding["ok"]:
                    checks.fail(f"{section['title']}, {finding['name']}, ok", finding["ok"], kept)


# The kinds of records: keys by which they are known, and their check.
_KINDS: dict[str, tuple[tuple[str, ...], Callable[[FileChecks, dict], None]]] = {
    "study": (("study",), _check_study),
    "cross-validation": (("cross_validation",), _check_cross_validation),
    "benchmark": (("comparisons",), _check_benchmark),
    "protocol": (("conditions",), _check_protocol),
    "robustness": (("curves",), _check_robustness),
    "analysis": (("sections",), _check_analysis),
    "evaluation": (SPLITS, _check_single),
}
