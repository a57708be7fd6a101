"""Measure the robustness of a checkpoint to corrupted input.

    hf-fusion robustness runs/dashfusion_synthetic
    hf-fusion robustness runs/dyfulm_synthetic --corruptions typos word_dropout
    hf-fusion robustness runs/dashfusion_mosi --corruptions audio_loss+vision_loss \\
        --baseline runs/dashfusion_mosi_without_text

The corruptions drop, misspell or mishear words, add noise, and remove frames or modalities, with severities from 0
(clean) to 5. Without --dataset the test split of the checkpoint's recipe is used. robustness.json (curves of all
metrics, areas under them), robustness.csv, robustness.tex and a figure are written to the folder robustness-SPLIT of
the run.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hf_fusion.cli.arguments import CheckpointArguments


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
    format: Literal["png", "pdf", "svg"] = field(default="png", metadata={"help": "Format of the figures."})


def main(argv: list[str]) -> None:
    """Runs `hf-fusion robustness`."""
    from datasets import disable_progress_bars
    from tqdm import tqdm

    from hf_fusion.architectures.write_robustness import write_robustness
    from hf_fusion.cli.output import print_written, show_labels
    from hf_fusion.training.recipe import parse_data_arguments
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    show_labels()
    args, data_args = parse_data_arguments(RobustnessArguments, argv, __doc__, "hf-fusion robustness")
    disable_progress_bars()
    record, folder = write_robustness(
        data_args=data_args, **vars(args),
        track=lambda severities, name: tqdm(severities, desc=Path(name).name, unit="severity"),
    )  # fmt: skip
    _print_summary(record, args.checkpoint)
    print_written(folder)


def _print_summary(record, title):
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
