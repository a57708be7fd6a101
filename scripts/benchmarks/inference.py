"""Inference: the pipeline against padding to the limit, bf16 against float32, DashFusion with and without padding."""

import copy

import numpy as np
import torch
from transformers import AutoTokenizer

from hf_fusion.models.configuration_dashfusion import DashFusionConfig
from hf_fusion.models.modeling_dashfusion import DashFusionModel
from hf_fusion.models.modeling_dyfulm import DyFuLMForSequenceClassification
from hf_fusion.models.pipeline_common import LOOKAHEAD_BATCHES
from hf_fusion.models.pipeline_fusion_sentiment import FusionSentimentPipeline
from hf_fusion.models.processing_dyfulm import DyFuLMProcessor
from hf_fusion.studies.fusion_cost import ClipShape, stub_text_config
from hf_fusion.studies.measure import (
    EXACT_MALLOC,
    BenchmarkOptions,
    Comparison,
    compare,
    in_child,
    peak_bytes,
    timed_pairs,
)
from scripts.benchmarks.inputs import MOSI, REVIEW_LIMIT, clip_lengths, clip_tensors, review_texts

_BATCH = 32
_PEAK_BATCH, _QUICK_PEAK_BATCH = 64, 1
_PADDED_CLIPS = f"padded to {MOSI.audio_frames} and {MOSI.vision_frames} frames"


def run(options: BenchmarkOptions) -> list[Comparison]:
    """Compares the pipeline on reviews, and for DashFusion the latency of a clip and the memory of a batch."""
    return [*_reviews(options), *_latency(options), _peak_memory(options)]


def _reviews(options):
    texts = review_texts(8 if options.quick else 8 * _BATCH, seed=0)
    pipe = review_pipeline(options.text_encoder, options.device)
    halved = in_bf16(pipe)
    rows = [
        ("DyFuLM", f"input order, padded to {REVIEW_LIMIT}", lambda: padded_answers(pipe, texts), "pipeline", pipe),
        ("DyFuLM", "pipeline, float32", lambda: predict_cut(pipe, texts), "pipeline, bf16", halved),
    ]
    compiled = in_bf16(pipe)
    if not options.quick and _compiles(compiled.model, lambda: predict_cut(compiled, texts)):
        rows.append(("DyFuLM", rows[1][1], rows[1][2], "pipeline, bf16, torch.compile", compiled))
    comparisons = []
    for what, name, reference, candidate_name, candidate in rows:
        pairs = timed_pairs(reference, lambda c=candidate: predict_cut(c, texts), options.repeats)
        medians = np.median(pairs, axis=0).tolist()
        facts = [
            {"name": name, "reviews_per_second": len(texts) / median}
            for name, median in zip((name, candidate_name), medians, strict=True)
        ]
        facts[1]["largest_difference"] = _largest_difference(reference(), predict_cut(candidate, texts))
        comparisons.append(compare(f"{what}, {len(texts)} reviews", "seconds", pairs, *facts))
    return comparisons


def review_pipeline(text_encoder: str, device: str = "cpu") -> FusionSentimentPipeline:
    """Builds the pipeline of a DyFuLM with the pretrained encoder twice and new heads."""
    torch.manual_seed(0)
    model = DyFuLMForSequenceClassification.from_encoders(text_encoder, text_encoder)
    processor = DyFuLMProcessor(AutoTokenizer.from_pretrained(text_encoder), max_length=REVIEW_LIMIT)
    return FusionSentimentPipeline(model, processor=processor, device=device)


def predict_cut(pipe: FusionSentimentPipeline, texts: list[str]) -> list[dict]:
    """Predicts texts that are cut at the limit of the processor, so that all sides read the same tokens."""
    return pipe(texts, batch_size=_BATCH, long_texts="cut")


def padded_answers(pipe: FusionSentimentPipeline, texts: list[str]) -> list[dict]:
    """Predicts the texts in batches in input order, padded to the limit of the processor."""
    answers = []
    for start in range(0, len(texts), _BATCH):
        batch = pipe.processor(texts[start : start + _BATCH], padding="max_length", return_tensors="pt")
        answers += pipe.postprocess(pipe.forward(dict(batch)))
    return answers


def in_bf16(pipe: FusionSentimentPipeline) -> FusionSentimentPipeline:
    """Copies a pipeline, with its weights in bf16."""
    model = copy.deepcopy(pipe.model).to(torch.bfloat16)
    return FusionSentimentPipeline(model, processor=pipe.processor, device=pipe.device)


def _compiles(model, warm_up):
    """Compiles a model for dynamic lengths; returns False if this machine cannot."""
    model.compile(dynamic=True)
    try:
        warm_up()
    except Exception as error:  # any error of the compiler or its toolchain
        print(f"torch.compile does not work here: {str(error).splitlines()[0]}")
        return False
    return True


def _largest_difference(expected, answers):
    """Returns the largest difference of the intensities, which shows that both sides agree."""
    return max(abs(a["intensity"] - b["intensity"]) for a, b in zip(expected, answers, strict=True))


def clip_model(shape: ClipShape, device: str = "cpu") -> DashFusionModel:
    """Builds a DashFusion of the paper's size with a text encoder without layers."""
    torch.manual_seed(0)
    return DashFusionModel(DashFusionConfig(stub_text_config(), **shape.config_fields)).eval().to(device)


def _latency(options):
    count = 2 if options.quick else 32
    model = clip_model(MOSI, options.device)
    lengths = clip_lengths(MOSI, count, seed=0)
    clips = [{name: values[i : i + 1] for name, values in lengths.items()} for i in range(count)]
    padded, exact = (
        [clip_tensors(MOSI, clip, options.device, padded=pad, seed=i) for i, clip in enumerate(clips)]
        for pad in (True, False)
    )
    candidates = [("own length", model)]
    compiled = copy.deepcopy(model)
    if not options.quick and _compiles(compiled, lambda: _forward_all(compiled, exact)):
        candidates.append(("own length, torch.compile", compiled))
    expected, comparisons = _forward_all(model, padded), []
    for name, candidate in candidates:
        pairs = timed_pairs(
            lambda: _forward_all(model, padded), lambda m=candidate: _forward_all(m, exact), options.repeats
        )
        pairs = [(reference_seconds / count, seconds / count) for reference_seconds, seconds in pairs]
        answers = _forward_all(candidate, exact)
        difference = max((a - b).abs().max().item() for a, b in zip(expected, answers, strict=True))
        facts = {"name": name, "largest_difference": difference}
        what = "DashFusion without text encoder, one clip"
        comparisons.append(compare(what, "seconds", pairs, {"name": _PADDED_CLIPS}, facts))
    return comparisons


def _forward_all(model, batches) -> list[torch.Tensor]:
    with torch.inference_mode():
        return [model(**batch).pooler_output for batch in batches]


def _peak_memory(options):
    """
    Compares batches of similar lengths, as in the pipeline, with the same clips padded to the limits. The batches of a
    whole window, longest first: pairs, of which the first is the peak of the window.
    """
    arguments = {"device": options.device, "quick": options.quick}
    peaks = [in_child(peaks_of_window, EXACT_MALLOC, padded=padded, **arguments) for padded in (True, False)]
    size = _QUICK_PEAK_BATCH if options.quick else _PEAK_BATCH
    names = (_PADDED_CLIPS, "own length")
    facts = [{"name": name, "peak_of_window": max(values)} for name, values in zip(names, peaks, strict=True)]
    what = f"DashFusion without text encoder, peak of a batch of {size}"
    return compare(what, "bytes", list(zip(*peaks, strict=True)), *facts)


def peaks_of_window(padded: bool, device: str, quick: bool) -> list[int]:
    """Measures the bytes beyond the loaded model for each batch of a window of the pipeline, longest first."""
    size = _QUICK_PEAK_BATCH if quick else _PEAK_BATCH
    model = clip_model(MOSI, device)
    lengths = clip_lengths(MOSI, LOOKAHEAD_BATCHES * size, seed=0)
    order = np.argsort(-lengths["vision"], kind="stable").reshape(LOOKAHEAD_BATCHES, size)

    def forward(rows):
        batch = {name: values[rows] for name, values in lengths.items()}
        _forward_all(model, [clip_tensors(MOSI, batch, device, padded)])

    forward(order[0, :1])  # warm-up
    return [peak_bytes(lambda rows=rows: forward(rows), device) for rows in order]
