"""The whole analysis of both architectures."""

import sys

import pytest
from datasets import Dataset
from figure_text import check_legends, check_texts

from hf_fusion import FusionSentimentPipeline
from hf_fusion.evaluation.diagnostics.analyze import analyze_clips, analyze_reviews
from hf_fusion.utils.extras import MissingExtraError


def count_passes(pipe):
    """The rows of each forward pass without gradients that is asked for all diagnostics."""
    passes = []
    real = pipe.model.forward

    def forward(*args, **kwargs):
        if kwargs.get("output_fusion"):
            passes.append(len(next(v for v in kwargs.values() if hasattr(v, "shape"))))
        return real(*args, **kwargs)

    pipe.model.forward = forward
    return passes


@pytest.fixture
def review_pipe(make_model, processor):
    return FusionSentimentPipeline(make_model(), processor=processor, device="cpu")


@pytest.fixture
def reviews(corpus):
    return Dataset.from_dict({"text": corpus[:20], "labels": [i % 5 for i in range(20)]})


def test_one_pass_for_all_sections_of_reviews(review_pipe, reviews, tmp_path):
    passes, bars = count_passes(review_pipe), []

    def track(steps, name, total):
        bars.append((name, total, len(steps := list(steps))))
        return steps

    sections = analyze_reviews(review_pipe, reviews, tmp_path, batch_size=8, track=track)
    assert [section.title for section in sections] == ["Gate between the encoders", "Attention over layers", "Errors"]
    assert passes == [8, 8, 4] and bars == [("model", 3, 3)]
    for figure in (figure for section in sections for figure in section.figures.values()):
        check_texts(figure)
        check_legends(figure)


def test_one_pass_for_all_sections_of_clips(clip_model, clip_processor, clips, tmp_path):
    pipe = FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")
    columns = {name: [values[i] for i in (0, 1, 4)] * 4 for name, values in clips.items()}
    rows = Dataset.from_dict({"id": list(map(str, range(12))), **columns, "label": [1.0, -1.0, 0.0, 2.0] * 3})
    passes = count_passes(pipe)
    sections = analyze_clips(pipe, rows, tmp_path, batch_size=8)
    assert [section.title for section in sections] == [
        "What each modality contributes", "Where the scores come from", "Temporal alignment", "Contrastive space",
        "Errors",
    ]  # fmt: skip
    assert passes[:2] == [8, 4] and sections[0].data["modalities"]["all"]["mae"] > 0
    for figure in (figure for section in sections for figure in section.figures.values()):
        check_texts(figure)
        check_legends(figure)


def test_without_matplotlib_nothing_is_computed(review_pipe, reviews, tmp_path, monkeypatch):
    passes = count_passes(review_pipe)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="hf-fusion\\[plots\\]"):
        analyze_reviews(review_pipe, reviews, tmp_path)
    assert passes == []
