"""Fixtures of the tests of verification."""

from pathlib import Path

import pytest


@pytest.fixture
def repository_results():
    """The folder of the records of this repository."""
    return Path(__file__).resolve().parents[3] / "model_cards" / "results"
