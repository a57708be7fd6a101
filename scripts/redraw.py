#!/usr/bin/env python
"""Draws the pictures of result files again, without measuring or training anything.

    python scripts/redraw.py model_cards/results/*.json
    python scripts/redraw.py model_cards/results/ablation_dyfulm_sst.json --format pdf

Studies and benchmarks have pictures; other result files are passed over. The pictures are written beside the files. The
study file is looked for beside the result file first, then at the path that it names.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import json
import sys
from pathlib import Path

from hf_fusion.evaluation.plots import (
    FORMATS, MOST_PANELS, plot_benchmark, plot_differences, plot_pareto, save_figure,
)  # fmt: skip
from hf_fusion.studies.study import Study, StudyError
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.extras import MissingExtraError


def draw(path: Path) -> dict[str, object]:
    """Draws the figures of a result file; returns them by the suffix of their names."""
    record = json.loads(path.read_text(encoding="utf-8"))
    if "comparisons" in record:
        return {"": plot_benchmark(record["comparisons"], record["benchmark"])}
    figures, variants = {}, record.get("variants", {})
    differences = [metric for entry in variants.values() for metric in entry.get("difference", {}).values()]
    if differences and all("p_holm" in metric for metric in differences):  # older studies have no tests
        beside = (
            path.parent / record["study"]
        )  # a record names a study outside of the working directory without folders
        study = Study.read(str(beside) if beside.is_file() else record["study"])
        metrics = study.shown(variants)[:MOST_PANELS]
        figures[""] = plot_differences(variants, metrics, path.stem)
    if "pareto" in record:
        figures["_pareto"] = plot_pareto(record["pareto"], variants, path.stem)
    return figures


def main() -> int:
    """Draws the figures of the given records again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="result files (.json)")
    parser.add_argument("--format", choices=FORMATS, default="png", help="format of the figures (default: png)")
    args = parser.parse_args()
    try:
        for path in args.results:
            for suffix, figure in draw(path).items():
                print(save_figure(figure, path.with_name(f"{path.stem}{suffix}.{args.format}")))
    except (StudyError, DataError, OSError, json.JSONDecodeError, MissingExtraError) as error:
        print(f"redraw.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
