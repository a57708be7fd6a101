"""Two ways to do one thing, measured side by side: pairs, medians, memory, and the record.

What is measured is always a cost (seconds, bytes, multiply-adds): less is better, and the ratio reference / candidate
is above 1 where the candidate is better.
"""

import ctypes
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_fusion.utils.records import describe_environment

# glibc then gives every tensor's memory back at once. By default it keeps some for later, how much depends on what was
# freed before, and peaks of the same work differ by half.
EXACT_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "131072"}

Comparison = dict[str, Any]
Pairs = list[tuple[float, float]]


@dataclass
class BenchmarkOptions:
    """
    What all benchmarks take.

    Args:
        repeats: pairs that are measured; warm-up comes on top.
        device: of the models and tensors.
        text_encoder: folder or name of the pretrained text encoder and its tokenizer.
        quick: a tiny configuration, to see that everything works; its numbers mean nothing.
        checkpoint: of a trained DyFuLM, for the benchmark of exports: what is lost is measured on labelled reviews.
        data: command-line flags of these reviews, as `hf-fusion evaluate` takes them.
    """

    repeats: int = 7
    device: str = "cpu"
    text_encoder: str | None = None
    quick: bool = False
    checkpoint: str | None = None
    data: tuple[str, ...] = ()


def alternate(reference: Callable[[], float], candidate: Callable[[], float], repeats: int) -> Pairs:
    """
    Costs of both sides in pairs. Who goes first changes from pair to pair, so that neither profits from drift.

    Args:
        reference, candidate: do the work once and return what it cost.
        repeats: number of pairs.

    Returns:
        `(reference, candidate)` of each pair.
    """
    pairs = []
    for number in range(repeats):
        if number % 2 == 0:
            first = reference()
            pairs.append((first, candidate()))
        else:
            first = candidate()
            pairs.append((reference(), first))
    return pairs


def timed_pairs(reference: Callable[[], Any], candidate: Callable[[], Any], repeats: int, warmup: int = 1) -> Pairs:
    """As [`alternate`], in seconds; both sides first run `warmup` times that do not count."""
    for _ in range(warmup):
        reference()
        candidate()
    return alternate(lambda: seconds_of(reference), lambda: seconds_of(candidate), repeats)


def seconds_of(run: Callable[[], Any]) -> float:
    """Seconds that `run()` takes, work queued on an accelerator included."""
    synchronize()
    start = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - start


class StepClock:
    """
    Seconds of the steps of a loop: from the beginning of the first one after the warm-up to the end of the last, what
    lies between them (the next batch, say) included.

    Args:
        warmup: steps that do not count.
    """

    def __init__(self, warmup: int = 0):
        self.warmup = warmup
        self.started = self.ended = self.steps = None

    def begin(self, steps_before: int) -> None:
        """A step begins, after so many others."""
        if steps_before == self.warmup:
            synchronize()
            self.started = time.perf_counter()

    def end(self, steps: int) -> None:
        """A step has ended, the how manyth."""
        self.ended, self.steps = time.perf_counter(), steps - self.warmup

    def seconds_per_step(self) -> float:
        """Mean seconds of a step."""
        synchronize()
        return (self.ended - self.started) / self.steps


def synchronize() -> None:
    """Waits for what is queued on an accelerator."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def compare(
    what: str, unit: str, pairs: Pairs, reference: dict, candidate: dict, target: float | None = None
) -> Comparison:
    """
    Sums up the pairs of one comparison.

    Args:
        what: is compared.
        unit: of the costs.
        pairs: costs `(reference, candidate)`.
        reference, candidate: facts on both sides; `name` at least.
        target: ratio that the candidate should reach.

    Returns:
        `dict` with `what`, `unit`, both sides with their facts, `median` and `quartiles` of their costs, `ratio`
        (median over the pairs of reference / candidate, above 1 = candidate better), `ratio_quartiles`, `pairs`, and
        `target` if there is one.
    """
    costs = np.array(pairs, dtype=np.float64)  # (pairs, 2)
    ratios = costs[:, 0] / costs[:, 1]
    record = {
        "what": what,
        "unit": unit,
        "reference": {**reference, **_spread(costs[:, 0])},
        "candidate": {**candidate, **_spread(costs[:, 1])},
        "ratio": float(np.median(ratios)),
        "ratio_quartiles": _spread(ratios)["quartiles"],
        "pairs": [
            {"reference": float(a), "candidate": float(b), "ratio": float(r)}
            for (a, b), r in zip(costs, ratios, strict=True)
        ],
    }
    return record if target is None else {**record, "target": target}


def _spread(values):
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    return {"median": middle, "quartiles": [low, high]}


def result_record(name: str, comparisons: list[Comparison], options: BenchmarkOptions) -> dict[str, Any]:
    """The result file of a benchmark: each comparison is complete, with hardware and command."""
    environment = describe_environment(repeats=options.repeats, device=options.device, threads=torch.get_num_threads())
    shared = {key: environment[key] for key in ("hardware", "command")}
    complete = [{"benchmark": name, **comparison, **shared} for comparison in comparisons]
    return {"benchmark": name, "quick": options.quick, **environment, "comparisons": complete}


def resident_bytes(field: str = "VmRSS") -> int:
    """
    Resident memory of this process, as Linux counts it: "VmRSS" now, "VmHWM" at most (since [`peak_bytes`] last began),
    "RssAnon" now without the pages of mapped files, which the system takes back when it needs them.
    """
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{field}:"))


def peak_bytes(run: Callable[[], Any], device: str = "cpu") -> int:
    """
    Bytes that `run()` needs at its peak beyond what was held before. Call it in a fresh process ([`in_child`]): what
    an earlier peak left behind would hide a later one.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    # freed memory that the allocator has kept would count as held
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the earlier peak
    before = resident_bytes()
    run()
    return resident_bytes("VmHWM") - before


def in_child(function: Callable[..., Any], variables: dict[str, str] | None = None, /, **arguments: Any) -> Any:
    """
    Calls a function in a fresh interpreter, whose memory is that of this work alone.

    Args:
        function: of a module, by which the other process finds it.
        variables: of the other process's environment, on top of this one's.
        arguments: values that JSON can hold, as the result must be.

    Raises:
        RuntimeError: if the other process fails; with the end of what it wrote.
    """
    target = f"{function.__module__}:{function.__name__}"
    command = [sys.executable, "-m", "hf_fusion.studies.measure", target]
    environment = {**os.environ, **(variables or {}), "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        command, input=json.dumps(arguments), capture_output=True, text=True, env=environment, check=False
    )
    if process.returncode:
        raise RuntimeError(f"{target} failed in a process of its own:\n{process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def _answer_parent():
    module, _, name = sys.argv[1].partition(":")
    arguments = json.loads(sys.stdin.read())
    print("\n" + json.dumps(getattr(importlib.import_module(module), name)(**arguments)))


if __name__ == "__main__":
    _answer_parent()
