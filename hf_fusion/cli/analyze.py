"""Write a report on the parts of a checkpoint as an HTML page.

    hf-fusion analyze runs/dyfulm_synthetic
    hf-fusion analyze runs/dashfusion_mosi --dataset data/mosi --split validation --format svg

DyFuLM: the gate between the encoders, attention over layers, errors and calibration. DashFusion: the contribution of
each modality (the cost of losing it, and with the extra `analyze` integrated gradients by captum), the attention of
words to audio and vision, the contrastive space and its development in training, errors. Both: the gradients of the
losses on shared parameters, if the run was trained with --log_gradients_every. Without --dataset the test split of the
checkpoint's recipe is used. At most 500 rows are examined, in a fixed random sample; --max_eval_samples changes the
number. report.html (with a verdict for each part), figures and report.json are written to the folder analysis-SPLIT of
the run; --no_quotes leaves out the quotes of single rows, such as the worst examples.
"""

from dataclasses import dataclass, field
from typing import Literal

from hf_fusion.cli.arguments import CheckpointArguments

_STYLES = {"ok": "green", "warning": "red", "info": "dim"}


@dataclass
class AnalyzeArguments(CheckpointArguments):
    """The arguments of `hf-fusion analyze`."""

    format: Literal["png", "pdf", "svg"] = field(default="png", metadata={"help": "Format of the figure files."})
    quotes: bool = field(default=True, metadata={"help": "Whether to quote rows, such as the worst examples."})


def main(argv: list[str]) -> None:
    """Runs `hf-fusion analyze`."""
    from datasets import disable_progress_bars
    from tqdm import tqdm

    from hf_fusion.architectures.write_analysis import MAX_SAMPLES, write_analysis
    from hf_fusion.cli.output import show_labels
    from hf_fusion.training.recipe import parse_data_arguments
    from hf_fusion.utils.quiet import silence_libraries

    silence_libraries()
    show_labels()
    args, data_args = parse_data_arguments(AnalyzeArguments, argv, __doc__, "hf-fusion analyze")
    disable_progress_bars()
    sections, (page, record), rows = write_analysis(
        data_args=data_args, **vars(args),
        track=lambda steps, name, total: tqdm(steps, desc=name, total=total, leave=False),
    )  # fmt: skip
    _print_findings(sections)
    limited = rows == (data_args.max_eval_samples or MAX_SAMPLES)
    print(f"{rows:,} rows{' (--max_eval_samples examines more)' if limited else ''}.")
    print(f"Written: {page} and {record.name}")


def _print_findings(sections):
    from rich.console import Console

    console = Console()
    for section in sections:
        console.print(f"[bold]{section.title}")
        for finding in section.findings:
            console.print(
                f"  [{_STYLES[finding.verdict]}]{finding.verdict:7}[/] {finding.name}: {finding.shown} "
                f"({finding.limit}); {finding.text}", highlight=False, markup=True,
            )  # fmt: skip
