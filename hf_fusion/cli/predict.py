"""Predict the sentiment of texts, clips, videos and recordings.

    echo "Not a bad stay at all." | hf-fusion predict --checkpoint runs/dyfulm_synthetic
    hf-fusion predict reviews.csv --text_column review --output predictions.parquet --checkpoint runs/...
    hf-fusion predict reviews.csv --aspects room staff=reception,waiter --output aspects.csv --checkpoint runs/...
    hf-fusion predict unaligned_50.pkl --output predictions.jsonl --checkpoint runs/dashfusion_mosi
    accelerate launch -m hf_fusion predict reviews/ --output predictions/ --checkpoint runs/dyfulm_synthetic
    hf-fusion predict talk.mp4 lectures/ --window 10 --hop 2 --output curve.csv --plot curve.png --checkpoint runs/...

Standard input has one text per line. For a DashFusion the input can also be an MMSA pickle, a folder of features or a
folder that `hf-fusion prepare` wrote, and rows of .jsonl and .parquet files can have `audio` and `vision` (frames x
features). Every input row gives one output row: its columns except the frames, `prediction`, `truncated` (whether it
was cut to the model's limit) and `error`. A DyFuLM reads texts beyond its limit in windows, and cuts none; with
--long_texts cut it reads their beginning, and `kept` says which share. A row that cannot be read, such as one without
text, has the reason in `error` and no prediction; then the exit status is 1. A .csv has flat columns instead of
`prediction`: label, score, and for a DyFuLM, as far as its answers have them, coarse, coarse_score, intensity,
expected, unsure and alternatives.

With --aspects the prediction has `aspects`: for each word that the text names the answer to the sentences that name it,
or one of its synonyms (word=synonym,synonym); in a .csv label_WORD, score_WORD and error_WORD, the reason why these
sentences cannot be read.

An answer of a DyFuLM below --abstain_below, or below the limit that `hf-fusion calibrate` chose, is unsure: it has no
label, and its best classes are in `alternatives`.

Videos and recordings (.mp4, .mov, .mkv, .webm, .wav, .mp3, .m4a ...) are for a DashFusion whose data was prepared from
media files. Each file gives one row, or with --window one for each stretch of time: file, start and end (seconds), text
(what is said), the prediction, and the share of the time with words, a voice and a face (`modalities`; text_share,
audio_share and vision_share in a .csv). The words come from talk.srt or talk.vtt beside talk.mp4, else from --asr. A
file that cannot be read, or of which nothing is known, has one row with its `error`. Of a folder with media files only
these are predicted. --plot draws the score over time. After an interruption, even kill -9, the same command continues
with the next file; until the output is complete, the answers so far are in OUTPUT.parts.

An --output without suffix is a folder of parquet files with --shard_rows rows each, `part-00000-of-00042.parquet` ...,
for more rows than memory holds. Several processes share the work (accelerate launch, torchrun). After an interruption,
even kill -9, the same command continues, with any number of processes. Two on a CPU:

    accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no \\
        -m hf_fusion predict reviews/ --output predictions/ --checkpoint runs/dyfulm_synthetic --device cpu
"""

import os
import sys

from hf_fusion.cli.arguments import add_text_format, json_object, make_parser, make_text_format

# Copies of constants of the library, which takes seconds to import.
FILES = ".csv, .tsv, .jsonl, .ndjson, .json, .txt (also compressed: .gz, .bz2, .xz, .zip, .zst), .xlsx and .parquet"
OUTPUTS = (".jsonl", ".parquet", ".csv", ".csv.gz")
DTYPES = ("float32", "bfloat16", "float16")
LONG_TEXTS = ("window", "cut")


def main(argv: list[str]) -> int:
    """Runs `hf-fusion predict`."""
    args = parse_args(argv)
    from tqdm import tqdm

    from hf_fusion.deployment.predict_files import PredictionRequest, predict_files
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    fields = {name: value for name, value in vars(args).items() if name in PredictionRequest.__dataclass_fields__}
    request = PredictionRequest(**fields, text_format=make_text_format(args))
    counts = predict_files(
        request, process_state(args.device), lambda name, note: tqdm.write(f"{name}: {note}", file=sys.stderr),
        *([curve_drawer(request)] if args.plot else []),
    )  # fmt: skip
    if counts.unsure is not None and counts.rows:
        share = counts.unsure / counts.rows
        print(f"{counts.unsure} of {counts.rows} rows ({share:.1%}) are unsure, and have no label.", file=sys.stderr)
    if counts.cut:
        print(f"{counts.cut} of {counts.rows} rows are longer than the model reads and were cut.", file=sys.stderr)
    if counts.failed:
        print(f"{counts.failed} of {counts.rows} rows have an error instead of a prediction.", file=sys.stderr)
    return 1 if counts.failed else 0


def parse_args(argv):
    """Parses the command line."""
    parser = make_parser("predict", __doc__)
    parser.add_argument(
        "input", nargs="*", default=["-"],
        help=f"files ({FILES}; or media files), folders or patterns of them, or a source of clips; - is standard input",
    )  # fmt: skip
    parser.add_argument("-c", "--checkpoint", required=True, help="a run folder, or a name on the Hub")
    parser.add_argument(
        "-o", "--output", default="-", help=f"{', '.join(OUTPUTS)}, or a folder; - is standard output (default)"
    )
    parser.add_argument("--text_column", default="text", help="column with the text (default: text)")
    add_text_format(parser)
    parser.add_argument(
        "--long_texts", choices=LONG_TEXTS,
        help="texts beyond the limit: window reads all of them (default for DyFuLM), cut the beginning alone",
    )  # fmt: skip
    parser.add_argument("--batch_size", type=int, default=32, help="rows per forward pass (default: 32)")
    parser.add_argument(
        "--shard_rows", type=int, default=100_000, help="rows of each file in a folder (default: 100000)"
    )
    parser.add_argument(
        "--dataset_options", type=json_object, default={}, help="options for the reader of clips (JSON)"
    )
    parser.add_argument(
        "--abstain_below", type=float, metavar="P",
        help="DyFuLM: answers of a lower probability are unsure; 0: none (default: as the checkpoint is calibrated)",
    )  # fmt: skip
    parser.add_argument(
        "--uncalibrated", dest="calibration", action="store_false",
        help="DyFuLM: leave out the calibration of the checkpoint, its temperatures and its limit",
    )  # fmt: skip
    parser.add_argument(
        "--inconsistent", dest="consistent", action="store_false",
        help="DyFuLM: `coarse` is the answer of the coarse head, where it contradicts the fine class too",
    )  # fmt: skip
    parser.add_argument(
        "--aspects", nargs="+", type=aspect, metavar="WORD",
        help="DyFuLM: also answer about these words, each alone or with synonyms: room staff=reception,waiter",
    )  # fmt: skip
    media = parser.add_argument_group("videos and recordings")
    media.add_argument("--window", type=window, help="seconds of each answer, or sentence (default: the whole file)")
    media.add_argument("--hop", type=float, help="seconds from one window to the next (default: the window)")
    media.add_argument(
        "--asr", help="speech recognition checkpoint for files without subtitles (default: that of the training data)"
    )
    media.add_argument("--language", help="what is spoken, for --asr (default: recognised)")
    media.add_argument(
        "--timeout", type=float,
        help="seconds for a file, after which it has an error; another process reads the files then, so that none that "
        "a stranger made can end the run",
    )  # fmt: skip
    media.add_argument(
        "--plot", metavar="PICTURE",
        help="draw the curve into this .png, .pdf or .svg; of several files NAME-STEM.png each, or a folder for them",
    )  # fmt: skip
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the model by torch.compile: minutes at the start, faster on long inputs",
    )
    parser.add_argument("--device", help="cpu, cuda:0 ... (default: the accelerator, if there is one)")
    args = parser.parse_args(argv)
    if args.aspects is not None:
        args.aspects = dict(args.aspects)
        if args.input == ["-"] and (files := [*filter(os.path.exists, args.aspects)]):
            parser.error(f"{files[0]} is a value of --aspects, and there is no input: give the input first.")
    return args


def aspect(value: str) -> tuple[str, list[str]]:
    """Parses a value of --aspects: a word, and its synonyms."""
    word, mark, synonyms = value.partition("=")
    return word, synonyms.split(",") if mark else []


def window(value: str) -> float | str:
    """Parses the value of --window."""
    return value if value == "sentence" else float(value)


def curve_drawer(request):
    """Returns the function that draws the answers to each new media file into its picture."""
    from hf_fusion.evaluation.curve_plot import check_curves, draw_curve

    check_curves(request.plot, request.window)

    def draw(prediction, files, config):
        draw_curve(prediction, request.plot, files, config)

    return draw


def process_state(device: str | None):
    """Returns the state of the processes that share the work."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=device == "cpu" or not torch.accelerator.is_available())
