#!/usr/bin/env python
"""Predicts the sentiment of texts or clips: JSON lines, parquet or csv, in the order of the input.

    echo "Not a bad stay at all." | python scripts/predict.py --checkpoint runs/dyfulm_synthetic
    python scripts/predict.py reviews.csv --text_column review --output predictions.parquet --checkpoint runs/...
    python scripts/predict.py unaligned_50.pkl --output predictions.jsonl --checkpoint runs/dashfusion_mosi
    accelerate launch scripts/predict.py reviews/ --output predictions/ --checkpoint runs/dyfulm_synthetic

Standard input is one text a line. For a DashFusion the input can also be an MMSA pickle, a folder of features or one
that prepare_data.py wrote, and rows of .jsonl and .parquet files can have `audio` and `vision` (frames x features).
Every input row gives one output row: its columns but for the frames, `prediction`, `truncated` (whether it was longer
than the model reads) and `error`. A row that cannot be read, such as one without text, has the reason in `error` and no
prediction; then the exit status is 1. A .csv has flat columns in place of `prediction`: label, score, and of a DyFuLM
coarse, coarse_score and intensity.

An --output without an ending is a folder of parquet files of --shard_rows rows each, `part-00000-of-00042.parquet` ...,
for more rows than memory holds. Several processes share the work (accelerate launch, torchrun), and after an
interruption, even kill -9, the same command goes on where it was, with as many processes as you like. Two on a CPU:

    accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no \\
        scripts/predict.py reviews/ --output predictions/ --checkpoint runs/dyfulm_synthetic --device cpu
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import PartialState
from tqdm import tqdm

from hf_fusion.data.clips import is_clip_source
from hf_fusion.data.decoding import KNOWN_FILES, add_text_format, text_format_of
from hf_fusion.data.files import OUTPUT_KINDS, RowWriter, is_flat
from hf_fusion.utils.errors import DataError
from hf_fusion.data.parts import find_parts
from hf_fusion.deployment.prediction_input import check_output, check_text_column, read_input
from hf_fusion.deployment.prediction_shards import PredictionShards
from hf_fusion.deployment.predictions import DTYPES, flat_row, load_pipeline, predict_rows, prediction_types


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "input", nargs="*", default=["-"],
        help=f"files ({KNOWN_FILES}), folders or patterns of them, or a source of clips; - is standard input",
    )  # fmt: skip
    parser.add_argument("-c", "--checkpoint", required=True, help="a run folder, or a name on the Hub")
    parser.add_argument(
        "-o", "--output", default="-", help=f"{', '.join(OUTPUT_KINDS)}, or a folder; - is standard output (default)"
    )
    parser.add_argument("--text_column", default="text", help="where the text is (default: text)")
    add_text_format(parser)
    parser.add_argument("--batch_size", type=int, default=32, help="rows per forward pass (default: 32)")
    parser.add_argument(
        "--shard_rows", type=int, default=100_000, help="rows of each file in a folder (default: 100000)"
    )
    parser.add_argument("--dataset_options", type=json.loads, default={}, help="options of the reader of clips (JSON)")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile the model: minutes at the start, faster on long inputs"
    )
    parser.add_argument("--device", help="cpu, cuda:0 ... (default: the accelerator, if there is one)")
    return parser.parse_args()


def is_folder(output):
    return output != "-" and (Path(output).is_dir() or output.endswith("/") or not Path(output).suffix)


def show_error(row, error):
    tqdm.write(f"row {row}: {error}", file=sys.stderr)


def predict_to_file(args, classify):
    """Returns the number of rows, and of those with an error."""
    done = failed = cut = 0
    config, flat = classify.model.config, is_flat(args.output)
    with RowWriter(args.output, prediction_types(config, flat)) as writer:
        rows, total = read_input(args.input, args.text_column, config, args.dataset_options, text_format_of(args))
        with tqdm(total=total, unit="row", file=sys.stderr) as bar:
            for window in predict_rows(classify, rows, args.text_column, args.batch_size):
                writer.write([flat_row(row) for row in window] if flat else window)
                for row in window:
                    done += 1
                    cut += bool(row["truncated"])
                    if row["error"]:
                        failed += 1
                        show_error(done, row["error"])
                bar.update(len(window))
    return done, failed, cut


def predict_to_folder(args, classify, state):
    """As [`predict_to_file`], over all processes; the main one alone counts errors and rows that were cut."""
    config = classify.model.config
    for name in args.input:
        if name == "-" or (config.model_type == "dashfusion" and is_clip_source(name)):
            raise DataError(
                f"{name} cannot be divided into shards, as files of rows can: give a .jsonl or .parquet --output."
            )
    parts = find_parts(args.input)
    text_format = text_format_of(args)
    check_text_column(parts, args.text_column, config, text_format)
    shards = PredictionShards(
        args.output, parts, args.checkpoint, config, args.dtype, args.text_column, args.shard_rows, text_format
    )
    with shards.progress_bar() if state.is_main_process else nullcontext():
        shards.fill(classify, args.batch_size, state.process_index, state.num_processes, report=show_error)
    # a launcher stops all processes when one of them fails, so that only the last one may
    failed, cut = shards.count() if state.is_main_process else (0, 0)
    return len(shards.parts), failed, cut


def main() -> int:
    args = parse_args()
    state = PartialState(cpu=args.device == "cpu" or not torch.accelerator.is_available())
    try:
        several = state.num_processes > 1
        if several and not is_folder(args.output):
            raise DataError(
                f"{state.num_processes} processes cannot write one file ({args.output}); give a folder: --output NAME/"
            )
        check_output(args.output, args.input)
        device = args.device or (str(state.device) if several else None)
        classify = load_pipeline(args.checkpoint, args.dtype, device, args.compile)
        if is_folder(args.output):
            done, failed, cut = predict_to_folder(args, classify, state)
        else:
            done, failed, cut = predict_to_file(args, classify)
    except (DataError, OSError, ImportError) as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return 2
    if cut:
        print(f"predict.py: {cut} of {done} rows are longer than the model reads and were cut.", file=sys.stderr)
    if failed:
        print(f"predict.py: {failed} of {done} rows have an error instead of a prediction.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
