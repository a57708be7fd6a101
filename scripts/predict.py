#!/usr/bin/env python
"""Predicts the sentiment of texts or clips: JSON lines or parquet, in the order of the input.

    echo "Not a bad stay at all." | python scripts/predict.py --checkpoint runs/dyfulm_synthetic
    python scripts/predict.py reviews.csv --text_column review --output predictions.parquet --checkpoint runs/...
    python scripts/predict.py unaligned_50.pkl --output predictions.jsonl --checkpoint runs/dashfusion_mosi

Standard input is one text a line. For a DashFusion the input can also be an MMSA pickle, a folder of features or one
that prepare_data.py wrote, and rows of .jsonl and .parquet files can have `audio` and `vision` (frames x features).
Every input row gives one output row: its columns but for the frames, `prediction` and `error`. A row that cannot be
read has the reason in `error`; then the exit status is 1.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import sys

from tqdm import tqdm

from hf_fusion.data.clips import ClipSource, read_clips
from hf_fusion.data.files import FILE_KINDS, DataError, RowWriter, read_rows_or_errors
from hf_fusion.evaluation.predictions import DTYPES, load_pipeline, predict_rows, prediction_types


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "input", nargs="?", default="-", help=f"{', '.join(FILE_KINDS)}, or a source of clips; - is standard input"
    )
    parser.add_argument("-c", "--checkpoint", required=True, help="a run folder, or a name on the Hub")
    parser.add_argument("-o", "--output", default="-", help=".jsonl or .parquet; - is standard output (default)")
    parser.add_argument("--text_column", default="text", help="where the text is (default: text)")
    parser.add_argument("--batch_size", type=int, default=32, help="rows per forward pass (default: 32)")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile the model: minutes at the start, faster on long inputs"
    )
    parser.add_argument("--device", help="cpu, cuda:0 ... (default: the accelerator, if there is one)")
    return parser.parse_args()


def read_input(path, text_column, model_type):
    """The input's rows and, where it can be known, their number."""
    if path == "-":
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # a bad byte is that line's error alone
        return ({text_column: line.rstrip("\r\n")} for line in sys.stdin), None
    if model_type == "dashfusion" and not path.endswith(FILE_KINDS):
        if text_column != "text":
            raise DataError(f"{path} has its text under 'text': leave --text_column {text_column} out.")
        return read_clips(ClipSource(path)), None
    return read_rows_or_errors(path), sum(1 for _ in read_rows_or_errors(path))


def main() -> int:
    args = parse_args()
    done = failed = 0
    try:
        classify = load_pipeline(args.checkpoint, args.dtype, args.device, args.compile)
        config = classify.model.config
        rows, total = read_input(args.input, args.text_column, config.model_type)
        with (
            RowWriter(args.output, prediction_types(config)) as writer,
            tqdm(total=total, unit="row", file=sys.stderr) as bar,
        ):
            for window in predict_rows(classify, rows, args.text_column, args.batch_size):
                writer.write(window)
                for row in window:
                    done += 1
                    if row["error"]:
                        failed += 1
                        tqdm.write(f"row {done}: {row['error']}", file=sys.stderr)
                bar.update(len(window))
    except (DataError, OSError) as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return 2
    if failed:
        print(f"predict.py: {failed} of {done} rows have an error instead of a prediction.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
