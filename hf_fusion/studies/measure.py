"""Measures two implementations side by side: pairs, medians, memory, and the record.

All measurements are costs (seconds, bytes, multiply-adds): lower is better, and the ratio reference / candidate is
above 1 if the candidate is better.
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

# With this setting glibc returns the memory of every tensor at once. By default it keeps a varying part of it, so that
# peaks of the same work differ by half.
EXACT_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "131072"}

Comparison = dict[str, Any]
Pairs = list[tuple[float, float]]


@dataclass
class BenchmarkOptions:
    """
    The options of all benchmarks.

    Args:
        repeats (`int`): the number of measured pairs after the warm-up.
        device (`str`): the device of the models and tensors.
        text_encoder (`str`): the folder or name of the pretrained text encoder and its tokenizer.
        quick (`bool`): whether to run a tiny configuration as a check, without meaningful results.
        checkpoint (`str`, *optional*): a trained DyFuLM for the benchmark of serving, and for that of exports, which
            measures the loss of accuracy on labelled reviews.
        data (`list[str]`): the command-line flags of these reviews, as in `hf-fusion evaluate`.
        reviews (`str`, *optional*): for the benchmarks of alternatives and serving, a csv file with the column `text`;
            made texts without one.
        video (`str`, *optional*): for the benchmark of media, a file with a talking face; made without one.
        whisper (`str`): for the benchmark of media, the folder or name of the Whisper checkpoint.
        against (`list[str]`): for the benchmark of media, other programs, as `NAME=COMMAND`.
    """

    repeats: int = 7
    device: str = "cpu"
    text_encoder: str | None = None
    quick: bool = False
    checkpoint: str | None = None
    data: tuple[str, ...] = ()
    reviews: str | None = None
    video: str | None = None
    whisper: str = "openai/whisper-tiny.en"
    against: tuple[str, ...] = ()


def alternate(reference: Callable[[], float], candidate: Callable[[], float], repeats: int) -> Pairs:
    """
    Measures both sides in pairs. The order changes from pair to pair, so that drift favours neither side.

    Args:
        reference, candidate (`Callable`): run the work once and return its cost.
        repeats (`int`): the number of pairs.

    Returns:
        `list[tuple[float, float]]`: the costs `(reference, candidate)` of each pair.
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
    """Measures the seconds of both sides by [`alternate`], after `warmup` runs of each."""
    for _ in range(warmup):
        reference()
        candidate()
    return alternate(lambda: measure_seconds(reference), lambda: measure_seconds(candidate), repeats)


def measure_seconds(run: Callable[[], Any]) -> float:
    """Measures the seconds of `run()`, including work queued on an accelerator."""
    synchronize()
    start = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - start


class StepClock:
    """
    Measures the seconds per step of a loop, from the start of the first step after the warm-up to the end of the last
    one, including the time between steps (such as loading a batch).

    Args:
        warmup (`int`, *optional*, defaults to 0): the number of steps before the measurement.
    """

    def __init__(self, warmup: int = 0):
        self.warmup = warmup
        self.started = self.ended = self.steps = None

    def begin(self, steps_before: int) -> None:
        """Marks the start of a step after `steps_before` others."""
        if steps_before == self.warmup:
            synchronize()
            self.started = time.perf_counter()

    def end(self, steps: int) -> None:
        """Marks the end of step number `steps`."""
        self.ended, self.steps = time.perf_counter(), steps - self.warmup

    def seconds_per_step(self) -> float:
        """Returns the mean seconds per step."""
        synchronize()
        return (self.ended - self.started) / self.steps


def synchronize() -> None:
    """Waits for the queued work of an accelerator."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def compare(
    what: str, unit: str, pairs: Pairs, reference: dict, candidate: dict, target: float | None = None
) -> Comparison:
    """
    Summarises the pairs of a comparison.

    Args:
        what (`str`): the name of the comparison.
        unit (`str`): the unit of the costs.
        pairs (`Pairs`): the costs `(reference, candidate)`.
        reference, candidate (`dict`): facts on both sides, at least `name`.
        target (`float`, *optional*): the ratio that the candidate should reach.

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
    """Returns the content of a benchmark's result file: comparisons with hardware and command."""
    environment = describe_environment(repeats=options.repeats, device=options.device, threads=torch.get_num_threads())
    shared = {key: environment[key] for key in ("hardware", "command")}
    complete = [{"benchmark": name, **comparison, **shared} for comparison in comparisons]
    return {"benchmark": name, "quick": options.quick, **environment, "comparisons": complete}


def resident_bytes(field: str = "VmRSS", process: int | str = "self") -> int:
    """
    Returns the resident memory of a process on Linux: "VmRSS" is the current one, "VmHWM" the peak (since the last
    start of [`peak_bytes`]), "RssAnon" the current one without the pages of mapped files, which the system can reclaim.
    """
    with open(f"/proc/{process}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{field}:"))


def peak_bytes(run: Callable[[], Any], device: str = "cpu") -> int:
    """
    Measures the peak memory of `run()` in bytes beyond the memory before it. Call it in a fresh process ([`in_child`]),
    since memory kept after an earlier peak would hide a later one.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    # freed memory in the allocator's cache would count as used
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
    before = resident_bytes()
    run()
    return resident_bytes("VmHWM") - before


def in_child(function: Callable[..., Any], variables: dict[str, str] | None = None, /, **arguments: Any) -> Any:
    """
    Calls a function in a fresh interpreter, so that its memory can be measured.

    Args:
        function (`Callable`): a function of a module, which the other process can import.
        variables (`dict[str, str]`, *optional*): additional environment variables of the other process.
        arguments: values for JSON; the result must be one, too.

    Raises:
        RuntimeError: if the other process fails; the message holds the end of its output.
    """
    target = f"{function.__module__}:{function.__name__}"
    command = [sys.executable, "-m", "hf_fusion.studies.measure", target]
    environment = {**os.environ, **(variables or {}), "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        command, input=json.dumps(arguments), capture_output=True, text=True, env=environment, check=False
    )
    if process.returncode:
        raise RuntimeError(f"{target} failed in a separate process:\n{process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def _answer_parent():
    module, _, name = sys.argv[1].partition(":")
    arguments = json.loads(sys.stdin.read())
    print("\n" + json.dumps(getattr(importlib.import_module(module), name)(**arguments)))


if __name__ == "__main__":
    _answer_parent()
