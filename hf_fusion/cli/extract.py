"""Extract features from videos and recordings.

    hf-fusion extract talk.mp4 lectures/ features
    hf-fusion extract videos/ features --audio whisper --asr openai/whisper-tiny.en
    hf-fusion extract new_videos/ features --checkpoint runs/dashfusion_media

The folder gets labels.csv, and for each clip ID.npz with the arrays audio and vision (frames, features), and
ID.words.json with the words and their times, if there are any. It is a source of clips for prepare, train and predict.
extraction.json says how much of each file has a voice, a face and words, and what could not be read; media.json and the
files beside it hold the settings and networks, so that a model trained on the features reads media files itself.

The id of a clip is the name of its file. An input folder with labels.csv gives its rows instead: `hf-fusion prepare
--help` explains the columns. Words are read from ID.srt or ID.vtt beside the file, else --asr writes them.

What is extracted is kept by the content of each file and the settings: a second run reads it, and after an
interruption the same command continues. --checkpoint extracts as the model reads media, so that the features fit it.
"""

import logging

from hf_fusion.cli.arguments import add_media, add_text_format, make_extraction, make_parser, make_text_format
from hf_fusion.cli.media_bar import media_bar

IF_INTERRUPTED = "the same command continues with the media files that it has not read"


def main(argv: list[str]) -> None:
    """Runs `hf-fusion extract`."""
    args = parse_args(argv)
    from hf_fusion.data.prepare import check_is_new
    from hf_fusion.media.clips import MediaClips
    from hf_fusion.media.features import write_features
    from hf_fusion.media.folder import find_media, is_media_folder, read_media_folder
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    check_is_new(args.folder)
    if len(args.input) == 1 and is_media_folder(args.input[0]):
        table = read_media_folder(args.input[0], make_text_format(args))
    else:
        table = find_media(args.input)
    clips = MediaClips(table, make_extraction(args), allow_missing=args.allow_missing_features)
    with media_bar() as track_files:
        report = write_features(clips, args.folder, track_files)
    print_report(report)
    print(f"Written: {args.folder}")


def parse_args(argv):
    """Parses the command line."""
    parser = make_parser("extract", __doc__)
    parser.add_argument("input", nargs="+", help="media files, folders of them, or a folder with a labels file")
    parser.add_argument("folder", help="folder for the features; must not exist")
    parser.add_argument(
        "--allow_missing_features", action="store_true",
        help="go on where more than a tenth of the clips have no media file, or one that cannot be read",
    )  # fmt: skip
    add_text_format(parser)
    add_media(parser)
    return parser.parse_args(argv)


def print_report(report):
    """Prints what was extracted, and what is missing."""
    clips = list(report["clips"].values())
    print(f"{len(clips)} clips of {report['files']} files, {report['seconds']:,.1f} s; longest clip "
          f"{report['longest_clip']:,.1f} s")  # fmt: skip
    for stream, name, what in (("audio", "voiced_share", "a voice"), ("vision", "face_share", "a face")):
        if report["settings"][stream] not in (None, "clip"):
            shares = [clip.get(name, 0.0) for clip in clips]
            print(f"{what} in {sum(shares) / len(shares):.0%} of the time")
    for what, count in report["left_out_or_filled"].items():
        print(f"{count} {what}")
