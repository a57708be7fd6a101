"""Examine what the parts of a checkpoint do, as one HTML page.

    hf-fusion analyze runs/dyfulm_synthetic
    hf-fusion analyze runs/dashfusion_mosi --dataset data/mosi --split validation

DyFuLM: the gate between the encoders, attention over layers, errors and calibration. DashFusion: what each modality
contributes (its loss, and with the extra `analyze` integrated gradients by captum), where words look in audio and
vision, the contrastive space and how training shaped it, errors. Both: how the losses pulled at what they share, if the
run was trained with --log_gradients_every. Without --dataset the data of the checkpoint's own recipe is used (its test
split). The folder analysis-SPLIT of the run gets report.html, with a verdict for each part, PNGs and report.json.
"""

from hf_fusion.cli.arguments import CheckpointArguments

_STYLES = {True: "green", False: "red", None: "dim"}


def main(argv: list[str]) -> None:
    from datasets import disable_progress_bars

    from hf_fusion.architectures.write_analysis import write_analysis
    from hf_fusion.cli.output import quiet_libraries, show_labels
    from hf_fusion.training.recipe import parse_data_arguments

    quiet_libraries()
    show_labels()
    args, data_args = parse_data_arguments(CheckpointArguments, argv, __doc__, "hf-fusion analyze")
    disable_progress_bars()
    sections, (page, record) = write_analysis(data_args=data_args, **vars(args))
    _print_findings(sections)
    print(f"Written: {page} and {record.name}")


def _print_findings(sections):
    from rich.console import Console

    console = Console()
    for section in sections:
        console.print(f"[bold]{section.title}")
        for finding in section.findings:
            style, found = _STYLES[finding.ok], f"{finding.name}: {finding.value:.4g} ({finding.limit})"
            console.print(f"  [{style}]{finding.verdict:15}[/] {found}; {finding.text}", highlight=False)
