"""The files of a repository for Inference Endpoints: the handler of requests, and the packages that it needs."""

from pathlib import Path

from hf_fusion.hub.repository import HANDLER_FILES
from hf_fusion.models import handler

# Those that loading and answers need, in the versions of this package.
_REQUIREMENTS = (
    "numpy>=1.26", "protobuf>=4.25", "safetensors>=0.4.3", "sentencepiece>=0.2", "torch>=2.6", "transformers>=5.5",
)  # fmt: skip


def endpoint_files() -> dict[str, bytes]:
    """Returns the contents of `handler.py` and `requirements.txt`."""
    code, requirements = HANDLER_FILES
    return {code: Path(handler.__file__).read_bytes(), requirements: ("\n".join(_REQUIREMENTS) + "\n").encode()}
