"""Measure the robustness of a checkpoint to lost or corrupted input.

    hf-fusion robustness runs/dashfusion_synthetic
    hf-fusion robustness runs/dyfulm_synthetic --corruptions typos word_dropout
    hf-fusion robustness runs/dashfusion_mosi --corruptions audio_loss+vision_loss \\
        --baseline runs/dashfusion_mosi_without_text
    hf-fusion robustness runs/dashfusion_mosi --protocol lnln
    hf-fusion robustness --list_protocols

The corruptions drop, misspell or mishear words, add noise, and remove frames or modalities, with severities from 0
(clean) to 5. Without --dataset the test split of the checkpoint's recipe is used. robustness.json (curves of all
metrics, areas under them), robustness.csv, robustness.tex and a figure are written to the folder robustness-SPLIT of
the run.

A protocol is a published way to test with missing modalities. protocol.json (metrics in all conditions, their summary
with intervals, realised rates), protocol.csv, protocol.tex, predictions.parquet and a figure are written to the folder
protocol-NAME-MODE-SPLIT of the run. The mode sound draws an independent mask for each modality and row; exact repeats
the published code with its defects, to compare with published numbers. --list_protocols prints conditions, summary,
source and every known defect of each protocol.
"""

from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Literal

from hf_fusion.cli.arguments import CheckpointArguments

# The flags of one way to measure, with their defaults; the other way refuses them.
_CORRUPTION_FLAGS = {"corruptions": None, "baseline": None, "seeds": 1}
_PROTOCOL_FLAGS = {"mode": "sound", "mask_seeds": None, "rates": None, "reference": None}


@dataclass
class RobustnessArguments(CheckpointArguments):
    """The arguments of `hf-fusion robustness`."""

    corruptions: list[str] | None = field(
        default=None, metadata={"help": "Names of corruptions; a+b applies both. Default: each one that fits the data."}
    )
    baseline: str | None = field(
        default=None, metadata={"help": "Another checkpoint (such as one without text) for the effective robustness."}
    )
    seeds: int = field(default=1, metadata={"help": "Number of seeds of each corruption, averaged."})
    protocol: str | None = field(
        default=None, metadata={"help": "A protocol for missing modalities, in the place of corruptions; see above."}
    )
    mode: Literal["sound", "exact"] = field(
        default="sound", metadata={"help": "Independent masks, or those of the published code with its defects."}
    )
    mask_seeds: list[int] | None = field(
        default=None, metadata={"help": "Seeds of the masks; default: those of the protocol."}
    )
    rates: list[float] | None = field(
        default=None,
        metadata={
            "help": "Missing rates from 0 to 1, for imbalanced those of text, audio and vision; default: those of the "
            "protocol."
        },
    )
    reference: str | None = field(
        default=None, metadata={"help": "A study with published results, which are shown beside those of the protocol."}
    )
    list_protocols: bool = field(default=False, metadata={"help": "Describe the protocols, and measure nothing."})
    format: Literal["png", "pdf", "svg"] = field(default="png", metadata={"help": "Format of the figures."})


def main(argv: list[str]) -> None:
    """Runs `hf-fusion robustness`."""
    from datasets import disable_progress_bars

    from hf_fusion.cli.output import print_written, show_labels
    from hf_fusion.data.protocols import PROTOCOLS
    from hf_fusion.training.recipe import parse_data_arguments
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    if "--list_protocols" in argv:
        print("\n\n".join(map(describe_protocol, PROTOCOLS.values())))
        return
    show_labels()
    titles = "\n".join(f"  {name:12}{protocol.title}" for name, protocol in PROTOCOLS.items())
    help_text = f"{__doc__}\nprotocols:\n{titles}"
    args, data_args = parse_data_arguments(RobustnessArguments, argv, help_text, "hf-fusion robustness")
    _check_flags(args)
    disable_progress_bars()
    print_written(_measure_protocol(args, data_args) if args.protocol else _measure_corruptions(args, data_args))


def describe_protocol(protocol) -> str:
    """Describes a protocol: its unit, conditions, summary, training and selection, source and defects."""
    from hf_fusion.evaluation.protocol_curves import SUMMARIES

    facts = {
        "lost": "tokens and frames" if protocol.unit == "positions" else "whole modalities of a clip",
        "conditions": ", ".join(condition.name for condition in protocol.conditions),
        "summary": SUMMARIES[protocol.summary],
        "training": protocol.training,
        "selection": f"{protocol.selection}; published: {protocol.published_selection}",
        "modes": "sound, exact" if protocol.published_mask_seeds else "sound",
        "source": protocol.source,
    }
    lines = [f"{protocol.name}: {protocol.title}"]
    lines += [_indented(f"{name}: {text}", "  ") for name, text in facts.items()]
    repeated = " (the mode exact repeats those of the masks)" if protocol.published_mask_seeds else ""
    lines += [f"  defects of the published form{repeated}:"]
    lines += [_indented(defect, "    - ") for defect in protocol.defects]
    return "\n".join(lines)


def _indented(text, start):
    return fill(text, 100, initial_indent=start, subsequent_indent=" " * (len(start) + 2 * (start == "  ")))


def _check_flags(args):
    """Refuses flags that belong to the other way to measure."""
    from hf_fusion.utils.errors import RecipeError

    others, way = (_CORRUPTION_FLAGS, "without --protocol") if args.protocol else (_PROTOCOL_FLAGS, "with --protocol")
    if given := [name for name, default in others.items() if getattr(args, name) != default]:
        raise RecipeError(f"--{given[0]} is used {way} only: corruptions and protocols are measured one by one.")


def _measure_corruptions(args, data_args) -> Path:
    from tqdm import tqdm

    from hf_fusion.architectures.write_robustness import write_robustness

    own = {
        name: value
        for name, value in vars(args).items()
        if name not in (*_PROTOCOL_FLAGS, "protocol", "list_protocols")
    }
    record, folder = write_robustness(
        data_args=data_args, **own,
        track=lambda severities, name: tqdm(severities, desc=Path(name).name, unit="severity"),
    )  # fmt: skip
    _print_corruptions(record, args.checkpoint)
    return folder


def _measure_protocol(args, data_args) -> Path:
    from tqdm import tqdm

    from hf_fusion.architectures.measure_protocol import ProtocolSettings
    from hf_fusion.architectures.write_protocol import write_protocol
    from hf_fusion.studies.study import Study

    settings = ProtocolSettings(args.protocol, args.mode, args.mask_seeds, args.rates)
    record, folder = write_protocol(
        args.checkpoint, data_args, settings, args.split, args.output_dir, args.batch_size, args.device, args.format,
        Study.read(args.reference).published if args.reference else (),
        track=lambda masks: tqdm(masks, desc=args.protocol, unit="mask"),
    )  # fmt: skip
    _print_protocol(record, args.checkpoint)
    return folder


def _print_corruptions(record, title):
    from rich.console import Console
    from rich.table import Table

    from hf_fusion.architectures.write_robustness import summary_rows

    metrics = record["main_metrics"]
    table = Table("corruption", *metrics, title=f"{title}: clean, at severity 5, mean over severities")
    for row in summary_rows(record["summary"], metrics):
        table.add_row(*row.values())
    Console().print(table)
    if record["text"]:
        print(record["text"]["verdict"])


def _print_protocol(record, title):
    from rich.console import Console
    from rich.table import Table

    from hf_fusion.architectures.write_protocol import lossless_conditions, protocol_rows

    settings = record["settings"]
    table = Table("condition", *record["main_metrics"], title=f"{title}: {record['title']}, mode {settings['mode']}")
    for row in protocol_rows(record):
        table.add_row(*row.values())
    Console().print(table)
    if names := lossless_conditions(record):
        print(f"Nothing was lost in {', '.join(names)}: too few rows for so small a rate, or for this protocol.")
    if settings["mode"] == "exact":
        print(f"Repeats the published code with {len(record['defects'])} known defects: see --list_protocols.")
