"""Mining of contrastive partners: chunks of matrix products against the double loop of the released code."""

import time

import torch
from torch import nn

from hf_fusion.studies.measure import (
    BenchmarkOptions,
    Comparison,
    alternate,
    compare,
    in_child,
    measure_seconds,
    peak_bytes,
)
from hf_fusion.training.mining import mine_partners

CLASSES = 7
TARGET = 500
MEMORY_TARGET_MB = 300


def run(options: BenchmarkOptions) -> list[Comparison]:
    """Compares mining with the double loop for the 16,326 clips of MOSEI, and measures a million clips."""
    loop_count, count, width = (60, 400, 32) if options.quick else (1_284, 16_326, 384)
    large = (4_000, 8_000) if options.quick else (250_000, 500_000, 1_000_000)
    queries = 64 if options.quick else 1_024
    return [_against_double_loop(options, loop_count, count, width), *_growth(options, large, queries)]


def _against_double_loop(options, loop_count, count, width):
    few, many = _clips(loop_count, width), _clips(count, width)
    factor = (count / loop_count) ** 2
    mine_partners(*many, device=options.device)  # warm-up
    pairs = alternate(
        lambda: factor * measure_seconds(lambda: double_loop(*few)),
        lambda: measure_seconds(lambda: mine_partners(*many, device=options.device)),
        options.repeats,
    )
    memory = in_child(extra_memory, count=count, width=width, queries=count, device=options.device)
    reference = {"name": "double loop", "clips": loop_count, "scaled_by": factor}
    candidate = {"name": "mine_partners", "clips": count, "width": width, "extra_mb": memory["extra_mb"]}
    record = compare(f"{count:,} clips, width {width}", "seconds", pairs, reference, candidate, target=TARGET)
    return record | {"extra_mb_limit": MEMORY_TARGET_MB}


def _growth(options, counts, queries):
    """Compares the time for a million clips with that for a part of them: 1 / ratio is the growth of the time."""
    costs = []
    for count in counts:
        costs.append([in_child(extra_memory, count=count, width=128, queries=queries, device=options.device)
                      for _ in range(min(options.repeats, 3))])  # fmt: skip
    comparisons = []
    for count, cost in zip(counts[:-1], costs[:-1], strict=True):
        times = counts[-1] / count
        pairs = [(times * one["seconds"], all_["seconds"]) for one, all_ in zip(cost, costs[-1], strict=True)]
        last = costs[-1][0]
        comparisons.append(
            compare(
                f"{queries:,} of {counts[-1]:,} clips, width 128, against {count:,} clips", "seconds", pairs,
                {"name": f"{count:,} clips, time x {times:g}"},
                {"name": f"{counts[-1]:,} clips", "resident_mb": last["resident_mb"], "extra_mb": last["extra_mb"]},
            )
        )  # fmt: skip
    return comparisons


def extra_memory(count: int, width: int, queries: int, device: str) -> dict[str, float]:
    """Measures mining for `queries` clips: seconds, and peak memory (MB) without and with the embeddings."""
    embeddings, classes = _clips(count, width)
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(1))[:queries]
    mine_partners(embeddings[:2048], classes[:2048], device=device)  # initialises torch
    started = time.perf_counter()
    seconds = 0.0

    def work():
        nonlocal seconds, started
        started = time.perf_counter()
        mine_partners(embeddings, classes, queries=chosen if queries < count else None, device=device)
        seconds = time.perf_counter() - started

    extra = peak_bytes(work, device)
    held = embeddings.nbytes + classes.nbytes
    return {"seconds": seconds, "extra_mb": extra / 2**20, "resident_mb": (extra + held) / 2**20}


def _clips(count, width):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, width, generator=generator), torch.randint(0, CLASSES, (count,), generator=generator)


def double_loop(embeddings: torch.Tensor, classes: torch.Tensor, count: int = 2) -> list[tuple[list, list, list]]:
    """
    Mines in the way of the released code: the whole matrix of similarities, and for each clip a loop over its ranked
    neighbours, without its bug of storing ranks instead of rows.

    Returns:
        `list`: for each clip the most similar clips of its class, and the most and least similar ones of other classes.
    """
    unit = nn.functional.normalize(embeddings, dim=-1)
    similarity = unit @ unit.T
    partners = []
    for clip in range(len(unit)):
        ranked = similarity[clip].argsort(descending=True)
        positives, negatives = [], []
        for j in range(len(unit)):
            other = ranked[j]
            if other != clip:
                (positives if classes[other] == classes[clip] else negatives).append(int(other))
        partners.append((positives[:count], negatives[:count], negatives[::-1][:count]))
    return partners
