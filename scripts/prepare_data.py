#!/usr/bin/env python
"""Converts clips once to Arrow on disk, checks them, and reports their sizes and statistics.

    python scripts/prepare_data.py MOSEI/Processed/unaligned_50.pkl data/mosei
    python scripts/train.py --config scripts/recipes/dashfusion_mosei.yaml --dataset data/mosei

Sources: an MMSA pickle (.pkl; opened without running anything that is in it, and compared with the published hash), the
MOSI utterances (.npz), or a folder with a labels file and the features of each clip.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import json
import logging
import sys

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from hf_fusion.data.clips import MODALITIES, ClipSource
from hf_fusion.data.decoding import add_text_format, text_format_of
from hf_fusion.utils.errors import DataError
from hf_fusion.data.prepare import prepare_clips


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="where the clips are")
    parser.add_argument("folder", help="where the data set goes; must not exist")
    parser.add_argument("--modalities", nargs="+", default=MODALITIES, choices=MODALITIES, help="default: all")
    parser.add_argument("--label_range", nargs=2, type=float, metavar=("LOW", "HIGH"), help="reject labels outside it")
    parser.add_argument("--rejected_rows", default="error", choices=("error", "drop"), help="unusable clips")
    parser.add_argument(
        "--allow_missing_features", action="store_true",
        help="go on where more than a tenth of the clips of a folder have no file of features",
    )  # fmt: skip
    parser.add_argument(
        "--dataset_options", "--options", type=json.loads, default={}, help='options of the reader (JSON), such as '
        '{"own_file": true} for an MMSA pickle of your own that has a published name',
    )  # fmt: skip
    add_text_format(parser)
    return parser.parse_args()


def print_report(report):
    table = Table("", *report["splits"], title=report["source"]["name"])
    table.add_row("clips", *(f"{facts['clips']:,}" for facts in report["splits"].values()))
    table.add_row(
        "label", *("{mean:+.3f} in [{min:g}, {max:g}]".format(**f["label"]) for f in report["splits"].values())
    )
    for name in MODALITIES:
        table.add_row(f"without {name}", *(f"{facts['missing'][name]:,}" for facts in report["splits"].values()))
    for name in MODALITIES[1:]:
        cells = [facts.get(name) for facts in report["splits"].values()]
        if any(cells):
            table.add_row(f"{name} features", *(str(cell["features"]) for cell in cells))
            shown = "{median:g} / {p95:g} / {max}"
            table.add_row(f"{name} frames: median / 95 % / max", *(shown.format(**cell["frames"]) for cell in cells))
    table.add_row("fingerprint", *report["fingerprint"].values())
    Console().print(table)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse_args()
    label_range = tuple(args.label_range) if args.label_range else None
    try:
        if label_range and not label_range[0] < label_range[1]:
            raise DataError(
                "--label_range must be the lowest and the highest label, got {:g} {:g}.".format(*label_range)
            )
        source = ClipSource(
            args.source, tuple(args.modalities), label_range, args.rejected_rows, options=args.dataset_options,
            allow_missing_features=args.allow_missing_features, text_format=text_format_of(args),
        )  # fmt: skip
        report = prepare_clips(source, args.folder, track=lambda clips: tqdm(clips, unit="clip"))
    except (DataError, OSError) as error:
        print(f"prepare_data.py: {error}", file=sys.stderr)
        return 2
    print_report(report)
    print(f"Written: {args.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
