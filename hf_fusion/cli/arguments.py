"""Arguments that several commands share."""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from dataclasses import dataclass, field


@dataclass
class CheckpointArguments:
    """Of the commands that measure a checkpoint on labelled data."""

    checkpoint: str = field(metadata={"help": "A run folder, or a name on the Hub.", "aliases": ["-c"]})
    split: str = field(default="test", metadata={"help": "train, validation or test."})
    output_dir: str | None = field(default=None, metadata={"help": "Where results go; default: in the run folder."})
    batch_size: int = field(default=32, metadata={"help": "Rows per forward pass."})
    device: str | None = field(default=None, metadata={"help": "cpu, cuda:0 ...; default: the accelerator, if any."})


def make_parser(command: str, description: str) -> ArgumentParser:
    """The parser of a command."""
    formatter = RawDescriptionHelpFormatter
    return ArgumentParser(f"hf-fusion {command}", description=description, formatter_class=formatter)


def add_text_format(parser: ArgumentParser) -> None:
    """Adds the flags of [`text_format_of`]."""
    parser.add_argument("--encoding", help="of files of text, where it is not found: cp1252 ...")
    parser.add_argument("--delimiter", help="between the fields of .csv and .tsv, where it is not found; or tab")
    parser.add_argument(
        "--header", choices=["true", "false"],
        help="whether the first line names the columns, where it looks like data; if not, they are called 1, 2 ...",
    )  # fmt: skip


def text_format_of(args: Namespace):
    """The [`TextFormat`] that the flags of [`add_text_format`] say."""
    from hf_fusion.data.decoding import TextFormat

    header = None if args.header is None else args.header == "true"
    return TextFormat(args.encoding, args.delimiter, header)
