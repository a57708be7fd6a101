"""Tables of Markdown pages, rendered from records of studies, evaluations, baselines and benchmarks.

A page marks the place of a table and describes its content in YAML:

    <!-- table: {source: ablation_dyfulm_sst, metrics: [fine_accuracy, coarse_accuracy]} -->
    <!-- /table -->

`source` names a record without its ending. A study has `metrics`, and optionally `variants` (its rows), `data` (the
test data, "test" by default), `against` (another variant as reference, or one for each data), `extra` (more columns:
parameters, train_seconds, multiply_adds, speed, paper), `baselines` with `baseline_rows`, `transpose`, `intervals`
("seeds", or "hierarchical" for those over seeds and test rows), and `power` (true for the smallest differences that the
study could have seen, in the legend). With `protocol`, the name of one of its protocols for missing modalities, the
table has `metrics` of `variants` under its conditions, and their summaries; with several names, the summaries alone.
Evaluations (`source` then maps rows to records), baselines and cross-validations have `metrics`; a benchmark has `rows`
(numbers of comparisons) and `metrics` (shown for both sides).
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from hf_fusion.evaluation.statistics import paired_difference
from hf_fusion.studies.power import note_power

_TABLE = re.compile(r"(<!-- table: (?P<spec>.*?) -->\n)(?P<text>.*?)(<!-- /table -->)", re.DOTALL)
_SIGNIFICANT = 0.05
_MEMORY = {"extra_mb": "extra", "resident_mb": "resident"}  # fields of a side of a benchmark
_STUDY = {"metrics", "variants", "data", "against", "extra", "baselines", "baseline_rows", "transpose", "intervals",
          "power"}  # fmt: skip
_PROTOCOL = {"protocol", "metrics", "variants"}


@dataclass(frozen=True)
class MarkedTable:
    """
    A table of a page.

    Args:
        spec (`dict`): the description of its content.
        text (`str`): the table, with its legend.
        line (`int`): the line of its mark, from 1.
    """

    spec: dict[str, Any]
    text: str
    line: int

    @property
    def sources(self) -> list[str]:
        """`list[str]`: the names of the records of the table, the one of its metrics first."""
        return _sources(self.spec)


def find_tables(text: str) -> list[MarkedTable]:
    """Finds the marked tables of a page; raises `ValueError` if a description is no mapping with `source` in YAML."""
    return [
        MarkedTable(_parse_spec(match["spec"]), match["text"].strip(), text.count("\n", 0, match.start()) + 1)
        for match in _TABLE.finditer(text)
    ]


def _parse_spec(text):
    try:
        spec = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(spec, dict) or "source" not in spec:
        raise ValueError(f"a table needs a mapping with `source`, got {text}")
    return spec


def without_tables(text: str) -> str:
    """Returns the text of a page without its marked tables; the numbers of its lines stay."""
    return _TABLE.sub(lambda match: "\n" * match[0].count("\n"), text)


def render_page(text: str, page: Path, results: Path) -> str:
    """
    Renders the text of a page with new tables.

    Args:
        text (`str`): the text.
        page (`Path`): its file.
        results (`Path`): the folder of the records.

    Raises:
        ValueError: if the description of a table is not valid; the message names page and table.
    """

    def render(match):
        try:
            table = render_table(_parse_spec(match["spec"]), results, records_link(page))
        except (LookupError, TypeError, ValueError, OSError) as error:
            raise ValueError(f"{page}: table {match['spec']}: {type(error).__name__}: {error}") from error
        return f"{match[1]}\n{table}\n\n{match[4]}"

    return _TABLE.sub(render, text)


def records_link(page: Path) -> str:
    """Returns the path from a page to the records, for links; the site has them in `data`."""
    return "model_cards/results" if page.name == "README.md" else "../data"


def render_table(spec: dict, results: Path, link: str) -> str:
    """
    Renders a table in Markdown, followed by a sentence on its measurement.

    Args:
        spec (`dict`): the description of the table, see the top of this file.
        results (`Path`): the folder of the records.
        link (`str`): the path from the page to the records.
    """
    spec, sources = dict(spec), _sources(spec)
    source = spec.pop("source")
    records = [_load(results, name) for name in sources]
    if "comparisons" in records[0]:
        table, legend = _benchmark(records[0], **spec)
    elif "cross_validation" in records[0]:
        table, legend = _folds(records[0], **spec)
    elif "protocol" in spec:
        _check_fields(spec, _PROTOCOL)
        table, legend = _protocol(records[0], **spec)
    elif "variants" in records[0]:
        _check_fields(spec, _STUDY)
        spec["baselines"] = records[1] if "baselines" in spec else None
        table, legend = _study(records[0], **spec)
    elif isinstance(source, dict):
        table, legend = _evaluations(dict(zip(source, records, strict=True)), **spec)
    else:
        table, legend = _baselines(records[0], **spec)
    return f"{_markdown(table)}\n\n<small>{legend} {_provenance(records[0], sources, link)}</small>"


def _check_fields(spec, accepted):
    if unknown := set(spec) - accepted:
        raise ValueError(f"unknown fields {', '.join(sorted(unknown))}; accepted: {', '.join(sorted(accepted))}")


def _sources(spec):
    source = spec["source"]
    names = list(source.values()) if isinstance(source, dict) else [source]
    return names + ([spec["baselines"]] if "baselines" in spec else [])


def _load(results, name):
    return json.loads((results / f"{name}.json").read_text(encoding="utf-8"))


def _study(record, metrics, variants=None, data=("test",), against=None, extra=(), baselines=None, baseline_rows=(),
           transpose=False, intervals="seeds", power=False):  # fmt: skip
    variants = variants or list(record["variants"])
    if intervals not in ("seeds", "hierarchical"):
        raise ValueError(f"intervals must be seeds or hierarchical, got {intervals!r}")
    if intervals == "hierarchical" and against is not None:
        raise ValueError(
            "intervals: hierarchical is not possible with against: a record has them for its first variant"
        )
    header = ["", *[metric if len(data) == 1 else f"{split}: {metric}" for split in data for metric in metrics], *extra]
    table = [header]
    if baselines:
        rows = baselines["test"]
        table += [[name, *[_number(rows[name][metric]) for metric in metrics], *[""] * len(extra)]
                  for name in baseline_rows]  # fmt: skip
    for name in variants:
        cells = [_cell(record, name, split, metric, against, intervals) for split in data for metric in metrics]
        table.append([name, *cells, *[_extra(record, name, column, metrics) for column in extra]])
    seeds = list(next(iter(record["variants"].values()))["seeds"])
    if len(seeds) == 1:
        legend = f"One seed ({seeds[0]}), so differences cannot be told from noise."
    else:
        reference = "the first model of the study" if against is None else "the reference of its column" \
            if isinstance(against, dict) else f"“{against}”"  # fmt: skip
        legend = (
            f"Mean ± standard deviation over seeds {', '.join(seeds)}; after it, where shown, the paired difference to "
            f"{reference} with its 95 % interval"
            + (f" over {_resampled(record, variants)}" if intervals == "hierarchical" else "")
            + (" (bold: p < .05 after Holm’s correction)." if against is None else ".")
        )
        if power and (note := note_power(record["variants"], metrics)):
            legend += f" {note}"
    return (list(map(list, zip(*table, strict=True))) if transpose else table), legend


def _protocol(record, protocol, metrics, variants=None):
    """
    The table of a protocol for missing modalities: a row for each of its conditions and summaries. Of several
    protocols, a row for each summary.
    """
    if isinstance(protocol, str):
        protocols = {protocol: record["protocols"][protocol]}
        rows = protocols[protocol]["conditions"] | protocols[protocol]["summary"]
    else:
        protocols = {name: record["protocols"][name] for name in protocol}
        rows = {f"{name}: {summary}": entry for name, found in protocols.items()
                for summary, entry in found["summary"].items()}  # fmt: skip
    variants = variants or list(record["variants"])
    columns = [(variant, metric) for variant in variants for metric in metrics]
    names = [": ".join([variant] * (len(variants) > 1) + [metric] * (len(metrics) > 1 or len(variants) == 1))
             for variant, metric in columns]  # fmt: skip
    table = [["", *names]]
    for name, entry in rows.items():
        table.append([name.replace("_", " "), *[_spread(entry["variants"][v]["seeds"], m) for v, m in columns]])
    seeds = list(next(iter(record["variants"].values()))["seeds"])
    shown = f"Of {metrics[0]}: mean" if len(metrics) == 1 < len(variants) else "Mean"
    return table, f"{shown} ± standard deviation over seeds {', '.join(seeds)}{_masks_of(protocols)}."


def _masks_of(protocols):
    """The end of a legend: how the masks were drawn, of which protocols if they differ."""
    names = {}
    for name, found in protocols.items():
        repeats = len(found["settings"]["mask_seeds"])
        masks = "one realisation" if repeats == 1 else f"the mean of {repeats} realisations"
        names.setdefault(f"mode {found['settings']['mode']}, {masks} of the masks", []).append(name)
    if len(names) == 1:
        return f", {next(iter(names))}"
    return "".join(f"; {', '.join(group)}: {how}" for how, group in names.items())


def _spread(seeds, metric):
    """Mean ± standard deviation of a metric over the seeds."""
    values = [run[metric] for run in seeds.values() if _finite(run.get(metric))]
    if not values:
        return "–"
    text = _number(mean(values)) + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _entry(record, variant, split):
    return (record if split == "test" else record["evaluate_on"][split])["variants"].get(variant)


def _resampled(record, variants):
    """Names what the intervals of a record are over, such as "seeds and rows"."""
    for name in variants:
        for difference in record["variants"][name].get("difference", {}).values():
            if "over" in difference.get("hierarchical", {}):
                return difference["hierarchical"]["over"]
    raise ValueError("intervals: hierarchical is not possible: the record has none")


def _cell(record, variant, split, metric, against, intervals):
    """Mean ± deviation, and the difference; its spaces do not break, so that numbers stay in one line."""
    return _spread_and_difference(record, variant, split, metric, against, intervals).replace(" ", "\N{NO-BREAK SPACE}")


def _spread_and_difference(record, variant, split, metric, against, intervals):
    entry = _entry(record, variant, split)
    if entry is None or not _finite(entry["mean"][metric]):
        return "–"
    value, std = entry["mean"][metric], entry["std"][metric]
    text = _number(value) + ("" if std is None else f" ± {std:.3f}")
    difference = _difference(record, variant, split, metric, against)
    if difference and intervals == "hierarchical":
        difference = difference | difference.get("hierarchical", {"interval": None})
    return text + _difference_words(difference)


def _difference_words(difference):
    """A difference with its interval in a line of its own, bold if it is significant; nothing without an interval."""
    if not difference or not difference["interval"] or not _finite(difference["mean"]):
        return ""
    low, high = difference["interval"]
    words = f"{difference['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"
    p = difference.get("p_holm")
    return f"<br>**{words}**" if p is not None and p < _SIGNIFICANT else f"<br>{words}"


def _difference(record, variant, split, metric, against):
    entry = _entry(record, variant, split)
    if against is None:
        return entry.get("difference", {}).get(metric)
    reference = against.get(split) if isinstance(against, dict) else against
    if reference in (None, variant):
        return None
    base = _entry(record, reference, split)["seeds"]
    return paired_difference([entry["seeds"][seed][metric] for seed in base], [base[seed][metric] for seed in base])


def _extra(record, variant, column, metrics):
    entry = record["variants"][variant]
    if column == "parameters":
        return _quantity(entry["parameters"], "count")
    if column == "train_seconds":
        seconds = list(entry["train_seconds"].values())
        return f"{sum(seconds) / len(seconds):,.0f}"
    if column == "multiply_adds":
        costs = record["pareto"]["costs"]
        return _quantity(costs[variant], "multiply-adds") if variant in costs else ""
    if column == "paper":
        differences = record["paper"].get(variant, {})
        return ", ".join(f"{differences[metric]:+.4f}" for metric in metrics if metric in differences)
    if column == "speed":
        ratios = [c["ratio"] for c in record["costs"].get(variant, ()) if c["unit"] == "seconds"]
        return ", ".join(f"{ratio:.2f}" for ratio in ratios)
    raise ValueError(f"no column {column!r}; accepted: parameters, train_seconds, multiply_adds, speed, paper")


def _folds(record, metrics):
    """The table of a cross-validation: its spread is that over the folds."""
    table = [["", *metrics]]
    for name, entry in record["variants"].items():
        cells = []
        for metric in metrics:
            text = f"{_number(entry['mean'][metric])} ± {_number(entry['std_folds'][metric])}"
            text += _difference_words(entry.get("difference", {}).get(metric))
            cells.append(text.replace(" ", "\N{NO-BREAK SPACE}"))
        table.append([name, *cells])
    first = next(iter(record["variants"].values()))
    legend = (
        f"Mean over {len(first['folds'])} folds and seeds {', '.join(map(str, record['seeds']))} ± standard deviation "
        "over the folds; after it the difference to the first row, paired by fold, with its 95 % interval (bold: "
        "p < .05 after Holm’s correction)."
    )
    return table, legend


def _evaluations(records, metrics):
    table = [["", *metrics], *[[name, *[_number(record["test"][metric], 4) for metric in metrics]]
                               for name, record in records.items()]]  # fmt: skip
    rows = next(iter(records.values()))["rows"]
    return table, f"{rows:,} test rows."


def _baselines(record, metrics):
    table = [["", *metrics]]
    table += [[name, *[_number(row[metric]) for metric in metrics]] for name, row in record["test"].items()]
    return table, f"{record['rows']['test']:,} test rows."


def _benchmark(record, rows=None, metrics=()):
    comparisons = record["comparisons"]
    table = [["measured", "reference", "candidate", "ratio (quartiles)"]]
    for comparison in [comparisons[i] for i in rows] if rows else comparisons:
        sides = [
            "<br>".join(
                [f"{side['name']}: {_quantity(side['median'], comparison['unit'])}"]
                + [f"{side[name]:,.0f} MB {word}" for name, word in _MEMORY.items() if name in side]
                + [f"{name} {side['metrics'][name]:.3f}" for name in metrics if name in side.get("metrics", ())]
            )
            for side in (comparison["reference"], comparison["candidate"])
        ]
        low, high = comparison["ratio_quartiles"]
        ratio = _ratio(comparison["ratio"]) + ("" if low == high else f" ({_ratio(low)} – {_ratio(high)})")
        if target := comparison.get("target"):
            ratio += f"<br>aim {_ratio(target)}: {'met' if comparison['ratio'] >= target else 'missed'}"
        table.append([comparison["what"], *sides, ratio])
    return table, "Medians over pairs measured side by side; a ratio above 1 favours the candidate."


def _provenance(record, sources, link):
    links = ", ".join(f"[`{name}.json`]({link}/{name}.json)" for name in sources)
    hardware, versions = record["hardware"], record["versions"]
    processor = re.sub(r"\((R|TM)\)", "", hardware["processor"])
    accelerators = ", ".join(map(str, hardware["accelerators"])) or "no accelerator"
    cores = f"{hardware['cores']} core{'s' * (hardware['cores'] != 1)}"
    return (
        f"{_rows(record)}{_compute(record)}Measured on {cores} of an {processor}, {accelerators}, "
        f"torch {versions['torch']}, transformers {versions['transformers']}. Record: {links}, written by "
        f"`{record['command']}`."
    )


def _compute(record):
    """The cost of the runs of a study; nothing for records from before it was summed."""
    compute = record.get("compute")
    if not compute or compute["train_seconds"] is None:
        return ""
    return f"{compute['runs']} runs, {_duration(compute['train_seconds'])} of training together. "


def _duration(seconds):
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:,.1f} min"


def _rows(record):
    """Sizes of the splits of a study, which may differ between its variants and folds."""
    data = record.get("data")
    if not data:
        return ""
    kinds = dict.fromkeys(f"{s['train']:,} / {s['validation']:,} / {s['test']:,}" for s in _sizes(data))
    return f"Rows for training / validation / test: {'; '.join(kinds)}. "


def _sizes(data):
    """The rows of each split: of one data set, or of those of each variant, each fold, or both."""
    return [data["rows"]] if "rows" in data else [size for part in data.values() for size in _sizes(part)]


def _finite(value):
    return value is not None and math.isfinite(value)


def _number(value, digits=3):
    return f"{value:.{digits}f}" if _finite(value) else "–"


def _ratio(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _quantity(value, unit):
    """A number in the unit that people read: milliseconds, megabytes, millions."""
    if unit.startswith("seconds"):
        rest = unit.removeprefix("seconds")
        if value < 1e-3:
            return f"{value * 1e6:.0f} µs{rest}"
        return (f"{value * 1e3:.1f} ms" if value < 1 else f"{value:,.2f} s") + rest
    if unit == "bytes":
        return f"{value / 1e6:,.0f} MB"
    if unit in ("multiply-adds", "count"):
        return f"{value / 1e6:,.2f} M" if value < 1e6 else f"{value / 1e6:,.1f} M"
    return f"{unit} {value:.2f}"


def _markdown(table):
    header, *rows = [[str(cell).replace("|", "\\|") for cell in row] for row in table]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
