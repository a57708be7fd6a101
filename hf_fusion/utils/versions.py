"""Checks the versions of libraries."""

import re
from importlib.metadata import version

# (major, minor); earlier versions have a security flaw
OLDEST_TRANSFORMERS = (5, 5)


def check_transformers() -> None:
    """Raises `ImportError` if the installed transformers is older than `OLDEST_TRANSFORMERS`."""
    installed = version("transformers")
    version_pair = tuple(map(int, re.findall(r"\d+", installed)[:2]))
    if version_pair < OLDEST_TRANSFORMERS:
        raise ImportError(
            f"hf_fusion needs transformers 5.5 or newer, but {installed} is installed. Versions 5.0 to 5.4 have the "
            "security flaw CVE-2026-5241: pip install --upgrade 'transformers>=5.5'"
        )
