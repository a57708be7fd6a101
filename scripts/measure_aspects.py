#!/usr/bin/env python
"""Measures the answers to aspects on 50 hand-labelled cases.

    python scripts/measure_aspects.py runs/dyfulm_mpnet_minilm/DyFuLM/seed-* --output model_cards/results/aspects.json

The cases are in `aspects.csv`: short hotel reviews with an aspect each, most of which say something else of another
aspect, and the sentiment towards it (negative, neutral, positive). Compared are the coarse classes of two answers: to
the whole review, and to the sentences that name the aspect. Prints and writes accuracy and macro F1 of each checkpoint,
and the difference of the accuracies with its interval over checkpoints and cases.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np

from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.metrics import ReviewMetrics
from hf_fusion.evaluation.statistics import hierarchical_difference
from hf_fusion.models.configuration_dyfulm import COARSE_LABELS
from hf_fusion.utils.records import describe_environment, write_json

CASES = Path(__file__).with_name("aspects.csv")


def main():
    """Runs the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path, help="DyFuLMs with negative, neutral and positive")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    cases = read_cases()
    answers = [answer_both_ways(load_pipeline(str(checkpoint)), cases) for checkpoint in args.checkpoints]
    results = {
        checkpoint.name: measure(found, cases) for checkpoint, found in zip(args.checkpoints, answers, strict=True)
    }
    for name, sides in results.items():
        for side, metrics in sides.items():
            print(f"{name}, {side}:", ", ".join(f"{metric} {value:.3f}" for metric, value in metrics.items()))
    difference = compare(answers, cases)
    print(f"sentences - whole review: {difference['mean']:+.3f} {[round(end, 3) for end in difference['interval']]}")
    facts = describe_environment(dataset=CASES.name, rows=len(cases))
    write_json(args.output, {"test": results, "coarse_accuracy_difference": difference, **facts})


def read_cases() -> list[dict[str, str]]:
    """Returns the cases: `text`, `aspect` and `label`."""
    with open(CASES, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=";"))


def answer_both_ways(classify, cases) -> dict[str, list[int]]:
    """Returns the coarse class of each case, answered from the whole review and from the sentences of the aspect."""
    answers = [classify(case["text"], aspects=[case["aspect"]]) for case in cases]
    sides = {
        "whole review": answers,
        "sentences": [answer["aspects"][case["aspect"]] for answer, case in zip(answers, cases, strict=True)],
    }
    return {side: [COARSE_LABELS.index(answer["coarse"]["label"]) for answer in found] for side, found in sides.items()}


def measure(answers, cases) -> dict[str, dict[str, float]]:
    """Returns the metrics of both answers of a checkpoint."""
    references = {"coarse": _labels(cases)}
    return {
        side: ReviewMetrics().compute(predictions={"coarse": predicted}, references=references)
        for side, predicted in answers.items()
    }


def compare(answers, cases) -> dict[str, Any]:
    """Returns the difference of the coarse accuracies with its interval over checkpoints and cases."""
    right = {
        side: np.equal([found[side] for found in answers], _labels(cases))  # (checkpoints, cases)
        for side in ("sentences", "whole review")
    }
    return hierarchical_difference(right["sentences"], right["whole review"])


def _labels(cases):
    return [COARSE_LABELS.index(case["label"]) for case in cases]


if __name__ == "__main__":
    main()
