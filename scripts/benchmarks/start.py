"""Start of commands: their help, against the import of torch and transformers, which it avoids."""

import subprocess
import sys

from hf_fusion.studies.measure import BenchmarkOptions, Comparison, compare, timed_pairs

_LIBRARIES = ["-c", "import torch, transformers"]
_COMMANDS = {"--help": ["--help"], "predict --help": ["predict", "--help"], "recipes": ["recipes"]}


def run(options: BenchmarkOptions) -> list[Comparison]:
    """Compares the seconds from start to end of the processes."""
    comparisons = []
    for name, words in _COMMANDS.items():
        pairs = timed_pairs(
            lambda: _run(_LIBRARIES), lambda words=words: _run(["-m", "hf_fusion", *words]), options.repeats
        )
        sides = {"name": "import torch, transformers"}, {"name": f"hf-fusion {name}"}
        comparisons.append(compare(f"start of hf-fusion {name}", "seconds", pairs, *sides))
    return comparisons


def _run(words):
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
