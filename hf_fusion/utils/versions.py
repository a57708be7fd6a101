"""The versions of libraries that the package works with."""

import re
from importlib.metadata import version

# (major, minor); the versions before have a security flaw that this one mends
OLDEST_TRANSFORMERS = (5, 5)


def check_transformers() -> None:
    """Raises `ImportError` if the installed transformers is older than `OLDEST_TRANSFORMERS`."""
    installed = version("transformers")
    found = tuple(map(int, re.findall(r"\d+", installed)[:2]))
    if found < OLDEST_TRANSFORMERS:
        raise ImportError(
            f"hf_fusion needs transformers 5.5 or newer, but {installed} is installed. Versions 5.0 to 5.4 have the "
            "security flaw CVE-2026-5241: pip install --upgrade 'transformers>=5.5'"
        )
