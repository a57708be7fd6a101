"""Long texts of a DyFuLM: accuracy by windows against cut texts, time and memory of a very long text, and the cost of
the windows for texts that have none."""

import time
from functools import partial

import numpy as np
import torch

from hf_fusion.evaluation.evaluate_reviews import evaluate_reviews
from hf_fusion.evaluation.kept_predictions import predict_labelled
from hf_fusion.models.pipeline_common import LONG_TEXTS
from hf_fusion.studies.measure import (
    EXACT_MALLOC,
    BenchmarkOptions,
    Comparison,
    alternate,
    compare,
    in_child,
    peak_bytes,
)
from scripts.benchmarks.export import METRICS, labelled_reviews, review_classifier
from scripts.benchmarks.inputs import review_texts

_LIMIT = 64  # tokens that are read at once, where most long reviews have several windows
_LENGTHS, _QUICK_LENGTHS = (10_000, 100_000), (500, 5_000)  # characters
_BATCH = 32
_ORDINARY = 256  # texts
_TARGET = 0.97


def run(options: BenchmarkOptions) -> list[Comparison]:
    """Compares windows with cut texts on the longest labelled reviews, a very long text with a tenth of it, and the
    pipeline with windows to that without on texts of one window."""
    classify = review_classifier(options)
    rows = labelled_reviews(classify, options)
    accuracy = [] if rows is None else _accuracy(classify, rows)
    return [*accuracy, *_very_long(options), *_ordinary(classify, rows, options)]


def _accuracy(classify, rows):
    """The share of wrong fine classes in the longest tenth of the reviews, at two limits."""
    lengths = np.array([len(text) for text in rows["text"]])
    longest = rows.select(np.argsort(-lengths, kind="stable")[: max(len(rows) // 10, 1)])
    own, comparisons = classify.processor.max_length, []
    for limit in sorted({min(_LIMIT, own), own}):
        classify.processor.max_length = limit
        sides, kept = {}, np.array(classify.processor(longest["text"][:], return_kept=True)["kept"])
        for way in LONG_TEXTS:
            metrics = evaluate_reviews(predict_labelled(classify, longest, batch_size=_BATCH, long_texts=way))
            sides[way] = {"name": way, "reviews": len(longest), "metrics": {name: metrics[name] for name in METRICS}}
        sides["cut"] |= {"truncated": int((kept < 1).sum()), "kept": float(kept.mean())}
        pair = tuple(1 - sides[way]["metrics"]["fine_accuracy"] for way in ("cut", "window"))
        what = f"longest tenth of {len(rows)} reviews, {limit} tokens at once: wrong fine classes"
        comparisons.append(compare(what, "share", [pair], sides["cut"], sides["window"]))
    classify.processor.max_length = own
    return comparisons


def _very_long(options):
    """Memory and time of a very long text, against a text of a tenth of its length."""
    short, long = _QUICK_LENGTHS if options.quick else _LENGTHS
    shared = {name: getattr(options, name) for name in ("checkpoint", "text_encoder", "quick", "device")}
    runs = [
        [in_child(read_long_text, EXACT_MALLOC, characters=count, **shared) for count in (short, long)]
        for _ in range(min(options.repeats, 3))
    ]
    sides = [
        {"name": f"{count:,} characters", "windows": one["windows"], "seconds": one["seconds"]}
        for count, one in zip((short, long), runs[0], strict=True)
    ]
    memory = [tuple(float(one["bytes"]) for one in pair) for pair in runs]
    seconds = [(pair[0]["seconds"] / short * 1000, pair[1]["seconds"] / long * 1000) for pair in runs]
    return [
        compare("one long text, beyond the loaded model", "bytes", memory, *sides),
        compare("one long text, for 1,000 characters", "CPU seconds", seconds, *sides),
    ]


def read_long_text(characters: int, **fields) -> dict:
    """Reads a text of so many characters; returns the peak memory in bytes, the CPU seconds and the windows."""
    torch.set_num_threads(1)
    classify = review_classifier(BenchmarkOptions(**fields))
    classify.processor.max_length = min(_LIMIT, classify.processor.max_length)
    text = _long_text(characters)
    answer = partial(classify, text, batch_size=_BATCH)
    classify(text[: characters // 10], batch_size=_BATCH)  # warm-up
    return {
        "seconds": _cpu_seconds(answer),
        "bytes": peak_bytes(answer, fields["device"]),
        "windows": len(classify.processor(text, return_windows=True)["window_texts"]),
    }


def _long_text(characters):
    return (" ".join(review_texts(characters // 100 + 1, seed=2)) + " ")[:characters].ljust(characters, "x")


def _ordinary(classify, rows, options):
    """Texts of one window, which both ways read alike."""
    count = 8 if options.quick else _ORDINARY
    texts = review_texts(count, seed=0) if rows is None else rows["text"][:]
    kept = classify.processor(texts, return_kept=True)["kept"]
    texts = [text for text, share in zip(texts, kept, strict=True) if share == 1][:count]
    cut, whole = (partial(classify, texts, batch_size=_BATCH, long_texts=way) for way in ("cut", "window"))
    largest = max(abs(a["score"] - b["score"]) for a, b in zip(cut(), whole(), strict=True))
    pairs = alternate(partial(_cpu_seconds, cut), partial(_cpu_seconds, whole), options.repeats)
    facts = {"name": "window", "largest_difference": largest}
    return [compare(f"{len(texts)} reviews of one window", "CPU seconds", pairs, {"name": "cut"}, facts, _TARGET)]


def _cpu_seconds(run):
    """Returns the seconds of this process and its threads in `run()`, whatever else the machine does."""
    start = time.process_time()
    run()
    return time.process_time() - start
