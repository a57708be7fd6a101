"""Convert clips to Arrow on disk, and check them.

    hf-fusion prepare MOSEI/Processed/unaligned_50.pkl data/mosei
    hf-fusion train --config dashfusion_mosei --dataset data/mosei

    hf-fusion prepare videos/ data/mine --asr openai/whisper-tiny.en
    hf-fusion train --config dashfusion_media --dataset data/mine

Sources: an MMSA pickle (.pkl; read without executing anything in it, and compared with the published hash), the MOSI
utterances (.npz), a folder with a labels file and the features of each clip, or such a folder of media files.

A folder of media files holds labels.csv (or .tsv, .jsonl, .parquet) with the columns id and label, and for each row
the video or recording ID.mp4, .mkv, .webm, .mov, .avi, .wav, .mp3, .m4a, .flac, .ogg, .opus ... Further columns:
  text         what is said; else it is read from ID.srt or ID.vtt, else --asr writes it
  split        train, validation or test; else drawn, all rows of one video alike
  video        the name of the file, where it is not the id; several rows may share it
  start, end   the part of the file, in seconds
What is extracted is kept by the content of each file: after an interruption, even kill -9, the same command continues.
Files that cannot be read, and clips without voice, face or text, are counted and named.
"""

import logging

from hf_fusion.cli.arguments import (
    add_media,
    add_text_format,
    given_media,
    json_object,
    make_extraction,
    make_parser,
    make_text_format,
)
from hf_fusion.cli.media_bar import media_bar

IF_INTERRUPTED = "the same command continues with the media files that it has not read"
# A copy of a constant of the library, which takes seconds to import.
MODALITIES = ("text", "audio", "vision")


def main(argv: list[str]) -> None:
    """Runs `hf-fusion prepare`."""
    args = parse_args(argv)
    from tqdm import tqdm

    from hf_fusion.data.clips import ClipSource
    from hf_fusion.data.prepare import check_is_new
    from hf_fusion.media.folder import is_media_folder
    from hf_fusion.media.prepare import prepare_features, prepare_media
    from hf_fusion.utils.errors import DataError
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    label_range = tuple(args.label_range) if args.label_range else None
    if label_range and not label_range[0] < label_range[1]:
        raise DataError("--label_range must be the lowest and the highest label, got {:g} {:g}.".format(*label_range))
    source = ClipSource(
        args.source, tuple(args.modalities), label_range, args.rejected_rows, options=args.dataset_options,
        allow_missing_features=args.allow_missing_features, text_format=make_text_format(args),
        classes=tuple(args.classes) if args.classes else None, several_labels=args.several_labels,
    )  # fmt: skip
    check_is_new(args.folder)

    def track(clips):
        return tqdm(clips, unit="clip")

    if is_media_folder(args.source):
        with media_bar() as track_files:
            report = prepare_media(source, args.folder, make_extraction(args), track_files, track)
    elif given := given_media(args):
        raise DataError(f"{given[0]} is for folders of media files with a labels file; {args.source} is none.")
    else:
        report = prepare_features(source, args.folder, track)
    print_report(report)
    print(f"Written: {args.folder}")


def parse_args(argv):
    """Parses the command line."""
    parser = make_parser("prepare", __doc__)
    parser.add_argument("source", help="source of the clips")
    parser.add_argument("folder", help="folder for the data set; must not exist")
    parser.add_argument("--modalities", nargs="+", default=MODALITIES, choices=MODALITIES, help="default: all")
    parser.add_argument("--label_range", nargs=2, type=float, metavar=("LOW", "HIGH"), help="reject scores outside it")
    parser.add_argument(
        "--classes", nargs="+", metavar="NAME",
        help="labels are classes: their names in the order of their numbers, or auto, the sorted classes of the "
        "training rows; by default labels are scores",
    )  # fmt: skip
    parser.add_argument(
        "--several_labels", action="store_true",
        help="each clip has any number of the classes: a list, a vector of 0 and 1, or text with ; , or | between "
        "names",
    )  # fmt: skip
    parser.add_argument("--rejected_rows", default="error", choices=("error", "drop"), help="unusable clips")
    parser.add_argument(
        "--allow_missing_features", action="store_true",
        help="accept folders in which more than a tenth of the clips have no feature file",
    )  # fmt: skip
    parser.add_argument(
        "--dataset_options", "--options", type=json_object, default={}, help='options for the reader (JSON), such as '
        '{"own_file": true} for your own MMSA pickle with a published name',
    )  # fmt: skip
    add_text_format(parser)
    add_media(parser)
    return parser.parse_args(argv)


def print_report(report):
    """Prints the statistics of a prepared data set as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", *report["splits"], title=report["source"]["name"])
    table.add_row("clips", *(f"{facts['clips']:,}" for facts in report["splits"].values()))
    labels = [facts["label"] for facts in report["splits"].values()]
    for name in labels[0].get("classes", ()):
        table.add_row(f"class {name}", *(f"{label['classes'][name]:,}" for label in labels))
    if "without" in labels[0]:
        table.add_row("without a class", *(f"{label['without']:,}" for label in labels))
    if "classes" not in labels[0]:
        table.add_row("label", *("{mean:+.3f} in [{min:g}, {max:g}]".format(**label) for label in labels))
    for name in MODALITIES:
        table.add_row(f"without {name}", *(f"{facts['missing'][name]:,}" for facts in report["splits"].values()))
    for name in MODALITIES[1:]:
        cells = [facts.get(name) for facts in report["splits"].values()]
        if any(cells):
            table.add_row(f"{name} features", *(str(cell["features"]) for cell in cells))
            shown = "{median:g} / {p95:g} / {max}"
            table.add_row(f"{name} frames: median / 95 % / max", *(shown.format(**cell["frames"]) for cell in cells))
    if media := report["source"].get("media"):
        table.caption = (
            f"{media['files']:,} files, {media['seconds']:,.1f} s; longest clip {media['longest_clip']:,.1f} s"
        )
    table.add_row("fingerprint", *report["fingerprint"].values())
    Console().print(table)
