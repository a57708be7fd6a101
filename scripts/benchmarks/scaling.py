"""Growth of the cost of the fusion with the length of the clips (the shape of MOSI, 1 to 8 times the length)."""

import numpy as np

from hf_fusion.studies.fusion_cost import build_fusion, fusion_inputs, multiply_adds
from hf_fusion.studies.measure import BenchmarkOptions, Comparison, Pairs, compare, timed_pairs
from scripts.benchmarks.inputs import MOSI

FACTORS = (1, 2, 4, 8)
_NAMES = ({"name": "concat_attention"}, {"name": "hbf"})


def run(options: BenchmarkOptions) -> list[Comparison]:
    """Measures multiply-adds and seconds of both fusions at each length, and the exponents of their growth."""
    base = MOSI.times(0.05) if options.quick else MOSI
    longest = base.times(FACTORS[-1])
    reference, candidate = (build_fusion(longest, options.device, fusion=side["name"]) for side in _NAMES)
    counts, seconds = {}, {}
    for factor in FACTORS:
        inputs = fusion_inputs(base.times(factor), 1, options.device)
        counts[factor] = [(multiply_adds(reference, *inputs), multiply_adds(candidate, *inputs))]
        seconds[factor] = timed_pairs(
            lambda given=inputs: reference(*given), lambda given=inputs: candidate(*given), options.repeats
        )
    comparisons = []
    for unit, pairs in (("multiply-adds", counts), ("seconds", seconds)):
        comparisons += [compare(f"one clip, length x {f}", unit, pairs[f], *_NAMES) for f in FACTORS]
        comparisons.append(compare(f"growth of {unit} with length", "exponent", _exponents(pairs), *_NAMES))
    return comparisons


def _exponents(pairs: dict[int, Pairs]) -> Pairs:
    """Returns the exponents of both sides from the first pair of every length, from the second of every length ..."""
    return [
        tuple(exponent(list(pairs), [costs[side] for costs in repeat]) for side in (0, 1))
        for repeat in zip(*pairs.values(), strict=True)
    ]


def exponent(sizes, costs) -> float:
    """Fits e in cost = c * size ** e by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
