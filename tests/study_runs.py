"""Results of the runs of a study."""

import pytest


def make_run(accuracy):
    metrics = {"test": {"fine_accuracy": accuracy, "loss": 1.0}, "validation": {"fine_accuracy": 0.9}}
    return {**metrics, "train_seconds": 1.0, "parameters": 10, "last_log": {"gate_mean": 0.4}}


@pytest.fixture
def results():
    def variant(*values):
        return {seed: make_run(value) for seed, value in enumerate(values, 1)}

    return {"base": variant(0.51, 0.52, 0.53), "new one": variant(0.63, 0.66, 0.69), "third": variant(0.5, 0.53, 0.52)}
