"""Where and how a run was made: what `environment.json` records."""

import importlib.metadata
import os
import platform
import shlex
import sys

import torch

_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "peft", "numpy", "scikit-learn")


def describe_environment(**facts) -> dict:
    """Versions, hardware and command of this process, and the given facts (seed, data fingerprint ...)."""
    versions = {"python": platform.python_version(), "hf-fusion": _version("hf-fusion")}
    versions.update({name: _version(name) for name in _PACKAGES})
    return {
        "command": " ".join(shlex.quote(word) for word in _command()),
        **facts,
        "versions": {name: version for name, version in versions.items() if version},
        "hardware": describe_hardware(),
    }


def describe_hardware() -> dict:
    """Processor, cores, memory and accelerators."""
    accelerators = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "accelerators": accelerators,
        "system": platform.system(),
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
    }


def _command():
    """The command line as a person would type it in the repository: no paths of this machine."""
    script, *words = sys.argv
    return ["python", os.path.relpath(script) if os.path.isabs(script) else script, *words]


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


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
