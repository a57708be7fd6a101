"""Arguments that several commands share."""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from dataclasses import dataclass, field


@dataclass
class CheckpointArguments:
    """The arguments of commands that evaluate a checkpoint on labelled data."""

    checkpoint: str = field(metadata={"help": "A run folder, or a name on the Hub.", "aliases": ["-c"]})
    split: str = field(default="test", metadata={"help": "train, validation or test."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for the results; default: in the run folder."}
    )
    batch_size: int = field(default=32, metadata={"help": "Rows per forward pass."})
    device: str | None = field(default=None, metadata={"help": "cpu, cuda:0 ...; default: the accelerator, if any."})


def make_parser(command: str, description: str) -> ArgumentParser:
    """Creates the parser of a command."""
    formatter = RawDescriptionHelpFormatter
    return ArgumentParser(f"hf-fusion {command}", description=description, formatter_class=formatter)


def add_text_format(parser: ArgumentParser) -> None:
    """Adds the flags for [`make_text_format`]."""
    parser.add_argument("--encoding", help="encoding of text files, if detection fails: cp1252 ...")
    parser.add_argument("--delimiter", help="delimiter of .csv and .tsv, if detection fails; or tab")
    parser.add_argument(
        "--header", choices=["true", "false"],
        help="whether the first line holds the column names, if detection fails; without them columns are 1, 2 ...",
    )  # fmt: skip


def make_text_format(args: Namespace):
    """Creates the [`TextFormat`] from the flags of [`add_text_format`]."""
    from hf_fusion.data.decoding import TextFormat

    header = None if args.header is None else args.header == "true"
    return TextFormat(args.encoding, args.delimiter, header)
