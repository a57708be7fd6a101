#!/usr/bin/env python
"""Measures the answers to aspects on 50 hand-labelled cases.

    python scripts/measure_aspects.py runs/dyfulm_mpnet_minilm/DyFuLM/seed-* --output model_cards/results/aspects.json

The cases are in `aspects.csv`: short hotel reviews with an aspect each, most of which say something else of another
aspect, and the sentiment towards it (negative, neutral, positive). Compared are the coarse classes of two answers: to
the whole review, and to the sentences that name the aspect. Prints and writes accuracy and macro F1 of each checkpoint.
"""

import _path  # noqa: F401, I001 - before the library `evaluate` is looked for

import argparse
import csv
from pathlib import Path

from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.metrics import ReviewMetrics
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
    results = {checkpoint.name: measure(load_pipeline(str(checkpoint)), cases) for checkpoint in args.checkpoints}
    for name, sides in results.items():
        for side, metrics in sides.items():
            print(f"{name}, {side}:", ", ".join(f"{metric} {value:.3f}" for metric, value in metrics.items()))
    write_json(args.output, {"test": results, **describe_environment(dataset=CASES.name, rows=len(cases))})


def read_cases() -> list[dict[str, str]]:
    """Returns the cases: `text`, `aspect` and `label`."""
    with open(CASES, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=";"))


def measure(classify, cases) -> dict[str, dict[str, float]]:
    """Returns the metrics of the answers to whole reviews, and to the sentences that name the aspect of each case."""
    answers = [classify(case["text"], aspects=[case["aspect"]]) for case in cases]
    sides = {
        "whole review": answers,
        "sentences": [answer["aspects"][case["aspect"]] for answer, case in zip(answers, cases, strict=True)],
    }
    expected = [COARSE_LABELS.index(case["label"]) for case in cases]
    measured = {}
    for side, found in sides.items():
        predicted = [COARSE_LABELS.index(answer["coarse"]["label"]) for answer in found]
        measured[side] = ReviewMetrics().compute(predictions={"coarse": predicted}, references={"coarse": expected})
    return measured


if __name__ == "__main__":
    main()
