"""scripts/measure_aspects.py: answers to the sentences that name an aspect, against answers to whole reviews."""

import re

import pytest
from tiny_runs import script_here

from hf_fusion.models.processing_text import sentences_about


@pytest.fixture
def module(monkeypatch):
    return script_here("measure_aspects.py", monkeypatch).module


def test_cases_name_their_aspect(module):
    cases = module.read_cases()
    assert len(cases) == 50 and len({(case["text"], case["aspect"]) for case in cases}) == 50
    assert {case["label"] for case in cases} == set(module.COARSE_LABELS)
    assert all(sentences_about(case["text"], [case["aspect"]]) for case in cases)


def test_both_answers_are_measured(module):
    def classify(text, aspects):
        whole = {"coarse": {"label": "positive"}}
        part = {"coarse": {"label": "negative" if re.search("cold", sentences_about(text, aspects)) else "positive"}}
        return {**whole, "aspects": {aspects[0]: part}}

    cases = [{"text": "Cold soup was cold. Fine bed.", "aspect": "soup", "label": "negative"}]
    cases += [{"text": "Cold soup was cold. Fine bed.", "aspect": "bed", "label": "positive"}]
    answers = module.answer_both_ways(classify, cases)
    measured = module.measure(answers, cases)
    assert {side: metrics["coarse_accuracy"] for side, metrics in measured.items()} == {
        "whole review": 0.5, "sentences": 1.0,
    }  # fmt: skip
    difference = module.compare([answers, answers], cases)
    assert difference["mean"] == 0.5 and difference["over"] == "seeds and rows"
