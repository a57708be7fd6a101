"""Writes a report on the parts of a checkpoint: an HTML page, figures and JSON."""

from dataclasses import replace
from pathlib import Path

from hf_fusion.architectures.base import architecture_of
from hf_fusion.architectures.evaluate_checkpoint import load_split
from hf_fusion.data.arguments import DataArguments
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.diagnostics.collect import Track, untracked
from hf_fusion.evaluation.diagnostics.findings import Section
from hf_fusion.evaluation.diagnostics.report import write_report
from hf_fusion.hub.checkpoint_names import result_folder
from hf_fusion.utils.records import describe_environment, fingerprint

MAX_SAMPLES = 500


def write_analysis(
    checkpoint: str,
    data_args: DataArguments,
    split: str = "test",
    output_dir: str | Path | None = None,
    batch_size: int = 32,
    device: str | None = None,
    format: str = "png",
    quotes: bool = True,
    track: Track = untracked,
) -> tuple[list[Section], list[Path], int]:
    """
    Analyses a checkpoint on a fixed sample of labelled data.

    Args:
        checkpoint (`str`): a run folder, or a name on the Hub.
        data_args ([`DataArguments`]): the data; `max_eval_samples` is the size of the sample, 500 by default.
        split (`str`): the name of the split.
        output_dir (`str`, *optional*): the folder for the report; `CHECKPOINT/analysis-SPLIT` by default.
        batch_size (`int`): the number of rows per forward pass.
        device (`str`, *optional*): see [`load_pipeline`].
        format (`str`): the format of the figure files, `"png"`, `"pdf"` or `"svg"`.
        quotes (`bool`): whether the report quotes rows, such as the worst examples.
        track (`Callable`): wraps the steps of each long part for a progress bar.

    Returns:
        `tuple`: the sections of the report, the paths of its page and its JSON file, and the number of rows.

    Raises:
        RecipeError, DataError, OSError: see [`write_evaluation`].
        MissingExtraError: if the extra `plots` is not installed.
    """
    classify = load_pipeline(checkpoint, device=device)
    config = classify.model.config
    data_args = replace(data_args, max_eval_samples=data_args.max_eval_samples or MAX_SAMPLES)
    rows = load_split(config, data_args, split, classify.processor)
    folder = Path(output_dir or result_folder(checkpoint, f"analysis-{split}"))
    folder.mkdir(parents=True, exist_ok=True)
    sections = architecture_of(config).diagnose(classify, rows, batch_size, checkpoint, data_args, track)
    if not quotes:
        sections = [section.without_quotes() for section in sections]
    facts = {"checkpoint": Path(checkpoint).name, "dataset": Path(data_args.dataset).name, "split": split}
    facts.update(rows=len(rows), max_rows=data_args.max_eval_samples)
    facts.update(data_fingerprint=fingerprint({split: rows}), damage=data_args.damage)
    title = f"Analysis of {facts['checkpoint']}"
    written = write_report(folder, title, describe_environment(**facts), sections, format)
    return sections, written, len(rows)
