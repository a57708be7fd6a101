"""Verification: the numbers of records, cards, tables and pages against those that they come from."""

from hf_fusion.studies.verification.checks import (
    BASES,
    NOTHING,
    PREDICTIONS,
    RECORD,
    Disagreement,
    FileChecks,
    describe,
)
from hf_fusion.studies.verification.verify import find_files, verify

__all__ = [
    "BASES",
    "NOTHING",
    "PREDICTIONS",
    "RECORD",
    "Disagreement",
    "FileChecks",
    "describe",
    "find_files",
    "verify",
]
