"""Writes results as JSON, and records the environment and the data that they come from."""

import functools
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from datasets import Array2D, DatasetDict

METRICS_FILE = "metrics.json"
ENVIRONMENT_FILE = "environment.json"
# In the folder of a run of a study: its recipe and changes.
STUDY_SETTINGS_FILE = "study_settings.json"

_PACKAGES = (
    "torch", "transformers", "accelerate", "datasets", "tokenizers", "peft", "numpy", "scikit-learn", "onnxruntime",
)  # fmt: skip


def describe_environment(**facts) -> dict:
    """
    Returns versions, hardware, command and [`source_commit`] of this process, and the given `facts` (seed, data
    fingerprint ...).
    """
    versions = {"python": platform.python_version(), "hf-fusion": installed_version("hf-fusion")}
    versions.update({name: installed_version(name) for name in _PACKAGES})
    return {
        "command": " ".join(shlex.quote(word) for word in _command()),
        **facts,
        "commit": source_commit(),
        "versions": {name: version for name, version in versions.items() if version},
        "hardware": describe_hardware(),
    }


def describe_hardware() -> dict:
    """Returns processor, cores, memory and accelerators of this machine, and threads and processes of this command."""
    accelerators = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "accelerators": accelerators,
        "system": platform.system(),
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
    }


def fingerprint(dataset: DatasetDict) -> dict[str, str]:
    """Returns a hash of the rows of each split; it depends on their order."""
    digests = {}
    for split, rows in dataset.items():
        digest = hashlib.sha256()
        modalities = [name for name, feature in rows.features.items() if isinstance(feature, Array2D)]
        for row in rows.remove_columns(modalities):
            digest.update(json.dumps(row, sort_keys=True, default=str).encode())
        for row in rows.select_columns(modalities).with_format("numpy") if modalities else ():
            for name in modalities:
                digest.update(f"{name}{row[name].shape}".encode() + row[name].tobytes())
        digests[split] = digest.hexdigest()[:16]
    return digests


def write_json(path, content) -> None:
    """Writes JSON that every parser reads: NaN and infinities become null. Replaces an old file in one step."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(json.dumps(_finite(content), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(path)


def _finite(value):
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _command():
    """Returns the command line as typed in the repository, without folders outside it."""
    script, *words = sys.argv
    words = [re.sub(r"(^|=)(?:\.\.)?/\S*/", r"\1", word) for word in words]
    for i, word in enumerate(words):  # the record may be published
        if re.fullmatch(r"--[\w-]*token", word) and i + 1 < len(words):
            words[i + 1] = "..."
        words[i] = re.sub(r"((?:^|[.-])[\w-]*token=).*", r"\1...", words[i])
    return [*_program(Path(script)), *words]


def _program(script):
    if script.stem == "hf-fusion" or script.parts[-2:] == ("hf_fusion", "__main__.py"):
        return ["hf-fusion"]
    if script.parts[-3:-1] == ("hf_fusion", "cli"):
        return ["hf-fusion", script.stem]
    return ["python", os.path.relpath(script) if script.is_absolute() else str(script)]


def installed_version(package: str) -> str | None:
    """Returns the version of a package, `None` if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def source_commit() -> str | None:
    """
    Returns the git commit of this package's source at the first call of this process, with `-dirty` after it if files
    differed from the commit; `None` for an installed package.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    words = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        return platform.processor()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    flags = next((line for line in lines if line.startswith("flags")), "")
    features = [flag for flag in ("avx512f", "amx_bf16") if f" {flag}" in flags]
    return f"{name} ({', '.join(features)})" if features else name


def _memory_gib():
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
