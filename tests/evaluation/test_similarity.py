from itertools import combinations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from hf_fusion.evaluation.similarity import SIMILARITIES, clip_vectors, pair_similarities
from hf_fusion.training.loss_tracker import LossTracker

KINDS = ("text", "audio", "vision", "aligned")


def outputs_of(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    embeds = {f"{name}_embeds": torch.randn(rows, 6, generator=generator, requires_grad=True) for name in KINDS}
    present = torch.ones(rows, 3, dtype=torch.bool)
    present[0, 1] = False
    loss = torch.tensor(1.0)
    return {**embeds, "present": present, "loss": loss, "prediction_loss": loss, "logits": torch.zeros(rows, 1)}


def naive(outputs, labels):
    """By class or not: the cosines of all pairs, one by one."""
    found = {True: [], False: []}
    for i, j in combinations(range(len(labels)), 2):
        if labels[i].isnan() or labels[j].isnan():
            continue
        vectors = []
        for row in (i, j):
            parts = [outputs[f"{name}_embeds"][row] for name in KINDS]
            parts[1] = parts[1] * outputs["present"][row, 1]
            vectors.append(torch.cat(parts))
        found[bool(labels[i].round() == labels[j].round())].append(cosine_similarity(*vectors, dim=0).item())
    return found[True], found[False]


def test_every_pair_once(clip_config):
    labels = torch.tensor([1.0, 1.2, -2.0, float("nan"), 0.8, -1.9, 0.0])
    outputs = outputs_of(7, seed=0)
    cosines, same, different = pair_similarities(clip_vectors(outputs, clip_config()), labels, clip_config())
    expected = naive(outputs, labels)
    assert not cosines.requires_grad
    for mask, values in zip((same, different), expected, strict=True):
        assert sorted(cosines[mask].tolist()) == pytest.approx(sorted(values), abs=1e-6) and len(values) >= 4


def test_logs_are_means_over_the_pairs_of_all_batches(clip_config):
    tracker, config = LossTracker(), clip_config()
    batches = [
        (outputs_of(4, 1), torch.tensor([1.0, 1.0, 2.0, 1.0])),
        (outputs_of(3, 2), torch.tensor([0.0, 0.0, 1.0])),
    ]
    for outputs, labels in batches:
        tracker.add(outputs, {"labels": labels}, config)
    logs = tracker.pop_logs("cpu")
    for place, name in enumerate(SIMILARITIES):
        values = [value for outputs, labels in batches for value in naive(outputs, labels)[place]]
        assert logs[name] == pytest.approx(sum(values) / len(values), abs=1e-6)


def test_encoded_partners_do_not_count(clip_config):
    """They stand behind the clips of the batch, without labels."""
    tracker, outputs, labels = LossTracker(), outputs_of(12, 3), torch.tensor([1.0, 1.0, 2.0, 1.0])
    tracker.add(outputs, {"labels": labels}, clip_config())
    assert tracker.pop_logs("cpu")[SIMILARITIES[0]] == pytest.approx(sum(naive(outputs, labels)[0]) / 3, abs=1e-6)


def test_nothing_is_logged_without_the_loss(clip_config):
    tracker = LossTracker()
    tracker.add(outputs_of(4, 1), {"labels": torch.ones(4)}, clip_config(supervised_contrastive=False))
    assert not set(SIMILARITIES) & set(tracker.pop_logs("cpu"))
