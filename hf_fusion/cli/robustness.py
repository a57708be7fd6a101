"""Measure what a checkpoint loses when its input is damaged.

    hf-fusion robustness runs/dashfusion_synthetic
    hf-fusion robustness runs/dyfulm_synthetic --corruptions typos word_dropout
    hf-fusion robustness runs/dashfusion_mosi --corruptions audio_loss+vision_loss \\
        --baseline runs/dashfusion_mosi_without_text

Words dropped, misspelt or misheard, noise, lost frames, lost modalities: six severities from 0 (clean) to 5 each.
Without --dataset the data of the checkpoint's own recipe is used (its test split). The folder robustness-SPLIT of the
run gets robustness.json (curves of every metric, areas under them), robustness.csv, robustness.tex and a picture.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hf_fusion.cli.arguments import CheckpointArguments


@dataclass
class RobustnessArguments(CheckpointArguments):
    corruptions: list[str] | None = field(
        default=None, metadata={"help": "Which damage; a+b does both. Default: all that the data can suffer, singly."}
    )
    baseline: str | None = field(
        default=None, metadata={"help": "Another checkpoint (say, one without text) for the effective robustness."}
    )
    seeds: int = field(default=1, metadata={"help": "Damage everything so many times, and average."})
    format: Literal["png", "pdf", "svg"] = field(default="png", metadata={"help": "Of the pictures."})


def main(argv: list[str]) -> None:
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
