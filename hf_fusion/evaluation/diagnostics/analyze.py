"""Runs all diagnoses of a checkpoint in one pass of the model over the rows."""

from pathlib import Path

from datasets import Dataset

from hf_fusion.evaluation.diagnostics.attribution import attribution_section
from hf_fusion.evaluation.diagnostics.collect import Track, observe_rows, row_inputs, untracked
from hf_fusion.evaluation.diagnostics.contrastive import ContrastiveDiagnosis, contrastive_training_section
from hf_fusion.evaluation.diagnostics.errors import ClipClassErrors, ClipErrors, ReviewErrors
from hf_fusion.evaluation.diagnostics.findings import Section
from hf_fusion.evaluation.diagnostics.gate import GateDiagnosis, LayerDiagnosis
from hf_fusion.evaluation.diagnostics.gradients import gradient_section
from hf_fusion.evaluation.diagnostics.modalities import AlignmentDiagnosis, ModalityDiagnosis
from hf_fusion.utils.extras import import_extra


def analyze_reviews(
    classify, reviews: Dataset, checkpoint: str | Path, batch_size: int = 32, track: Track = untracked
) -> list[Section]:
    """
    Examines a DyFuLM: the gate between the encoders, attention over layers, errors and calibration, and the gradients
    of its training.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline of the DyFuLM.
        reviews (`Dataset`): rows with `text` and, for errors, `labels`.
        checkpoint (`str` or `Path`): its run folder, for the training logs.
        batch_size (`int`, *optional*, defaults to 32): the number of texts per forward pass.
        track (`Callable`, *optional*): wraps the steps of each long part for a progress bar; called with the steps,
            the name of the part and the number of steps.

    Returns:
        `list[Section]`: the sections that apply to the model and the data.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    import_extra("matplotlib", "plots")
    diagnoses = [GateDiagnosis(classify, reviews), LayerDiagnosis(classify, reviews), ReviewErrors(classify, reviews)]
    observe_rows(classify, row_inputs(reviews), diagnoses, batch_size, track)
    return _present([*(diagnosis.report() for diagnosis in diagnoses), gradient_section(checkpoint)])


def analyze_clips(
    classify,
    clips: Dataset,
    checkpoint: str | Path,
    batch_size: int = 32,
    track: Track = untracked,
    corpus: dict | None = None,
) -> list[Section]:
    """
    Examines a DashFusion: what each modality contributes, where words look in audio and vision, the contrastive space
    and how training shaped it, errors, and the gradients of its training.

    Args:
        classify ([`FusionSentimentPipeline`]): of the DashFusion.
        clips (`Dataset`): with `id`, `label` and the modalities of the model.
        checkpoint (`str` or `Path`): its run folder, for the logs of its training.
        batch_size (`int`, defaults to 32): clips of a forward pass.
        track: wraps the steps of each long part, given its name and their number, for a progress bar.
        corpus (`dict`, *optional*): options of the synthetic corpus that the clips are of.

    Returns:
        `list[Section]`: the sections that apply to the model and the data.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    import_extra("matplotlib", "plots")
    inputs = row_inputs(clips)
    modalities = ModalityDiagnosis(classify, clips, inputs, batch_size, track)
    alignment = AlignmentDiagnosis(classify, clips, inputs, corpus)
    contrastive = ContrastiveDiagnosis(classify, clips)
    errors = [ClipErrors(classify, clips, inputs), ClipClassErrors(classify, clips, inputs)]
    observe_rows(classify, inputs, [modalities, alignment, contrastive, *errors], batch_size, track)
    return _present([
        modalities.report(),
        attribution_section(classify, inputs, track=track, ids=clips["id"] if "id" in clips.column_names else None),
        alignment.report(),
        contrastive.report(),
        contrastive_training_section(checkpoint),
        *(diagnosis.report() for diagnosis in errors),
        gradient_section(checkpoint),
    ])  # fmt: skip


def _present(sections):
    return [section for section in sections if section is not None]
