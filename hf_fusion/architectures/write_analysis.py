"""A checkpoint -> a report on what its parts do, as one HTML page, PNGs and JSON."""

from dataclasses import replace
from pathlib import Path

from hf_fusion.architectures.evaluate_checkpoint import load_split
from hf_fusion.data.arguments import DataArguments
from hf_fusion.data.clips import SYNTHETIC
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.diagnostics.attribution import attribution_section
from hf_fusion.evaluation.diagnostics.contrastive import contrastive_section, contrastive_training_section
from hf_fusion.evaluation.diagnostics.errors import clip_errors, review_errors
from hf_fusion.evaluation.diagnostics.findings import Section
from hf_fusion.evaluation.diagnostics.gate import gate_section, layer_section
from hf_fusion.evaluation.diagnostics.gradients import gradient_section
from hf_fusion.evaluation.diagnostics.modalities import alignment_section, modality_section
from hf_fusion.evaluation.diagnostics.report import write_report
from hf_fusion.utils.records import describe_environment, fingerprint


def write_analysis(
    checkpoint: str,
    data_args: DataArguments,
    split: str = "test",
    output_dir: str | Path | None = None,
    batch_size: int = 32,
    device: str | None = None,
) -> tuple[list[Section], list[Path]]:
    """
    Examines a checkpoint on one split of labelled data.

    Args:
        checkpoint: a run folder, or a name on the Hub.
        data_args: the data.
        split: which part.
        output_dir: gets the report; `CHECKPOINT/analysis-SPLIT` by default.
        batch_size: rows of a forward pass.
        device: as of [`load_pipeline`].

    Returns:
        The sections of the report, and its page and record.

    Raises:
        RecipeError, DataError, OSError: as [`write_evaluation`].
    """
    classify = load_pipeline(checkpoint, device=device)
    data_args = replace(data_args)
    rows = load_split(classify.model.config, data_args, split)
    folder = Path(output_dir or Path(checkpoint) / f"analysis-{split}")
    folder.mkdir(parents=True, exist_ok=True)
    sections = [s for s in _sections(classify, rows, folder, checkpoint, batch_size, data_args) if s is not None]
    facts = {"checkpoint": Path(checkpoint).name, "dataset": Path(data_args.dataset).name, "split": split}
    facts.update(rows=len(rows), data_fingerprint=fingerprint({split: rows}), damage=data_args.damage)
    return sections, write_report(folder, f"Analysis of {facts['checkpoint']}", describe_environment(**facts), sections)


def _sections(classify, rows, folder, checkpoint, batch_size, data_args):
    if classify.model.config.model_type == "dyfulm":
        diagnoses = [gate_section, layer_section, review_errors]
        found = [diagnose(classify, rows, folder, batch_size) for diagnose in diagnoses]
        return [*found, gradient_section(checkpoint, folder)]
    synthetic = data_args.dataset == SYNTHETIC
    corpus = (data_args.dataset_options or {}) if synthetic else None
    return [
        modality_section(classify, rows, folder, batch_size),
        attribution_section(classify, rows, folder, batch_size),
        alignment_section(classify, rows, folder, batch_size, corpus),
        contrastive_section(classify, rows, folder, batch_size),
        contrastive_training_section(checkpoint, folder),
        clip_errors(classify, rows, folder, batch_size),
        gradient_section(checkpoint, folder),
    ]
