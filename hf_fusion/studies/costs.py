"""Compares size and speed of two checkpoints of one task."""

from pathlib import Path
from typing import Any

import torch

from hf_fusion.architectures.evaluate_checkpoint import evaluate_checkpoint, load_split
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.models.pipeline_fusion_sentiment import FusionSentimentPipeline
from hf_fusion.studies.measure import Comparison, compare, timed_pairs
from hf_fusion.training.recipe import read_data_arguments

BATCH = 32
_REPEATS = 7


def compare_checkpoints(
    reference: str | Path, candidate: str | Path, num_texts: int, repeats: int = _REPEATS
) -> list[Comparison]:
    """
    Compares two DyFuLMs on texts of the candidate's test split, on the CPU in float32.

    Args:
        reference, candidate (`str` or `Path`): run folders.
        num_texts (`int`): the number of texts, from the first.
        repeats (`int`): the number of measured pairs after a warm-up.

    Returns:
        `list[dict]`: comparisons (see [`compare`]) of the parameters, the bytes of the weights, and the seconds per
        text of the pipeline with single texts, of the pipeline with batches of 32, and of the model alone (without
        tokenizers and labels) with single texts.
    """
    pipes = [load_pipeline(str(checkpoint), device="cpu") for checkpoint in (reference, candidate)]
    texts = load_split(pipes[1].model.config, read_data_arguments(candidate), "test")["text"][:num_texts]
    names = [{"name": _name(checkpoint)} for checkpoint in (reference, candidate)]
    comparisons = []
    for what, unit, size in (("parameters", "count", torch.Tensor.numel), ("weights", "bytes", _bytes)):
        sizes = [sum(size(parameter) for parameter in pipe.model.parameters()) for pipe in pipes]
        comparisons.append(compare(what, unit, [tuple(map(float, sizes))], *names))
    ways = {
        "pipeline, one text": lambda pipe: lambda: [pipe(text) for text in texts],
        f"pipeline, batches of {BATCH}": lambda pipe: lambda: pipe(texts, batch_size=BATCH),
        "model alone, one text": _model_alone(texts),
    }
    for what, way in ways.items():
        pairs = timed_pairs(*map(way, pipes), repeats)
        per_text = [(first / len(texts), second / len(texts)) for first, second in pairs]
        comparisons.append(compare(what, "seconds", per_text, *names))
    return comparisons


def compare_with_teacher(teacher: str, student: str, num_texts: int) -> dict[str, Any]:
    """
    Compares a student with its teacher on the test split of the student's recipe.

    Args:
        teacher (`str`): a run folder, or a name on the Hub.
        student (`str`): a run folder.
        num_texts (`int`): the number of texts for the measurement of speed.

    Returns:
        `dict`: `test` with the metrics of "teacher" and "student", and `costs` with the result of
        [`compare_checkpoints`].
    """
    data_fields = {name: value for name, value in vars(read_data_arguments(student)).items() if name != "kind"}
    checkpoints = {"teacher": teacher, "student": student}
    return {
        "test": {name: evaluate_checkpoint(checkpoint, data_fields) for name, checkpoint in checkpoints.items()},
        "costs": compare_checkpoints(teacher, student, num_texts),
    }


def _name(checkpoint: str | Path) -> str:
    """Returns the last two folders of a path: VARIANT/seed-N of a study."""
    return "/".join(Path(checkpoint).parts[-2:])


def _bytes(parameter: torch.Tensor) -> int:
    return parameter.numel() * parameter.element_size()


def _model_alone(texts: list[str]) -> Any:
    def way(pipe: FusionSentimentPipeline):
        batches = [dict(pipe.processor([text], return_tensors="pt")) for text in texts]

        def run():
            with torch.inference_mode():
                for batch in batches:
                    pipe.model(**batch)

        return run

    return way
