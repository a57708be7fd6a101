"""Checks the versions of libraries."""

import re
from importlib.metadata import version

# (major, minor); earlier versions have a security flaw
OLDEST_TRANSFORMERS = (5, 5)
# Earlier versions give weights that a custom model writes in place in `_init_weights` new values while loading
# (huggingface/transformers issue 46620). Models of this package do not.
SOUND_TRANSFORMERS = (5, 13)
OLDEST_TORCH = (2, 6)


def version_pair(text: str) -> tuple[int, ...]:
    """Returns the first two numbers of a version: (5, 13) of "5.13.0"."""
    return tuple(map(int, re.findall(r"\d+", text)[:2]))


def check_transformers() -> None:
    """Raises `ImportError` if the installed transformers is older than `OLDEST_TRANSFORMERS`."""
    installed = version("transformers")
    if version_pair(installed) < OLDEST_TRANSFORMERS:
        raise ImportError(
            f"hf_fusion needs transformers 5.5 or newer, but {installed} is installed. Versions 5.0 to 5.4 have the "
            "security flaw CVE-2026-5241: pip install --upgrade 'transformers>=5.5'"
        )
