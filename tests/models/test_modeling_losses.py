import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from hf_fusion.models.modeling_losses import (
    binary_cross_entropy,
    contrastive_pairs,
    distillation_loss,
    label_classes,
    nt_xent,
    semantic_alignment_loss,
    supervised_contrastive_loss,
)

NAN = float("nan")


def naive_nt_xent(similarity, positives, negatives, temperature):
    """The formula with loops: for each positive pair its share among itself and the anchor's negatives."""
    losses = []
    for i, j in positives.nonzero().tolist():
        own = math.exp(similarity[i, j] / temperature)
        others = sum(math.exp(similarity[i, k] / temperature) for k in negatives[i].nonzero().flatten().tolist())
        losses.append(-math.log(own / (own + others)))
    return sum(losses) / len(losses)


class TestNTXent:
    def test_agrees_with_the_formula(self):
        similarity = torch.rand(6, 8) * 2 - 1
        positives, negatives = torch.rand(6, 8) < 0.3, torch.rand(6, 8) < 0.4
        negatives &= ~positives
        for temperature in (0.05, 0.5, 2.0):
            expected = naive_nt_xent(similarity, positives, negatives, temperature)
            assert nt_xent(similarity, positives, negatives, temperature).item() == pytest.approx(expected, rel=1e-5)

    def test_nothing_to_learn_costs_nothing_and_has_no_gradient(self):
        nothing, all_pairs = torch.zeros(3, 3, dtype=torch.bool), torch.ones(3, 3, dtype=torch.bool)
        for positives, negatives in ((nothing, all_pairs), (all_pairs, nothing), (nothing, nothing)):
            similarity = torch.randn(3, 3, requires_grad=True)
            loss = nt_xent(similarity, positives, negatives, 0.5)
            loss.backward()
            assert loss.item() == 0 and torch.equal(similarity.grad, torch.zeros(3, 3))

    def test_gradient_agrees_with_finite_differences(self):
        similarity = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
        eye = torch.eye(4, dtype=torch.bool)
        assert torch.autograd.gradcheck(lambda s: nt_xent(s, eye, ~eye, 0.5), (similarity,))

    def test_very_low_temperature_stays_finite(self):
        similarity = torch.tensor([[1.0, -1.0]], requires_grad=True)
        loss = nt_xent(similarity, torch.tensor([[False, True]]), torch.tensor([[True, False]]), 1e-3)
        loss.backward()
        assert loss.item() == pytest.approx(2000) and torch.isfinite(similarity.grad).all()


class TestClasses:
    def test_scores_round_half_to_even(self):
        labels = torch.tensor([0.5, 0.0, 1.5, 2.4, -0.4, -3.0])  # 0, 0, 2, 2, 0, -3
        same, different = label_classes(labels, 1.0)
        groups = [[0, 1, 4], [2, 3], [5]]
        group_of = {row: group for group, rows in enumerate(groups) for row in rows}
        for i in range(6):
            for j in range(6):
                assert same[i, j] == (i != j and group_of[i] == group_of[j])
                assert different[i, j] == (group_of[i] != group_of[j])

    def test_steps_of_sims_are_exact_labels(self):
        labels = torch.tensor([0.6, 0.2 * 3, -0.2, 0.0])
        assert label_classes(labels, 0.2)[0].tolist()[0] == [False, True, False, False]

    @pytest.mark.parametrize(
        ("labels", "step"),
        [
            (torch.tensor([NAN, 1.0, 1.0, 2.0]), 1.0),
            (torch.tensor([-100, 1, 1, 2]), None),
            (torch.tensor([[1.0, NAN], [1.0, 0.0], [1.0, 0.0], [1.0, 1.0]]), None),
        ],
        ids=["score", "class", "several"],
    )
    def test_missing_labels_are_in_neither(self, labels, step):
        same, different = label_classes(labels, step)
        assert not same[0].any() and not same[:, 0].any() and not different[0].any() and not different[:, 0].any()
        assert same[1].tolist() == [False, False, True, False]
        assert different[3].tolist() == [False, True, True, False]


class TestPairs:
    def test_most_similar_of_the_class_and_most_and_least_similar_of_others(self):
        torch.manual_seed(3)
        features = torch.randn(12, 5)
        same, different = label_classes(torch.arange(12) % 3, None)
        positives, negatives = contrastive_pairs(features, same, different, 2, 2, 1)
        unit = features / features.norm(dim=1, keepdim=True)
        similarity = unit @ unit.T
        for i in range(12):
            of_class = sorted((j for j in range(12) if j != i and j % 3 == i % 3), key=lambda j: -similarity[i, j])
            others = sorted((j for j in range(12) if j % 3 != i % 3), key=lambda j: -similarity[i, j])
            assert set(positives[i].nonzero().flatten().tolist()) == set(of_class[:2])
            assert set(negatives[i].nonzero().flatten().tolist()) == {*others[:2], others[-1]}

    @pytest.mark.parametrize("labels", [[1], [1, 1, 1], [1, 2, 3], [-100, -100]], ids=str)
    def test_small_batches_have_the_pairs_that_there_are(self, labels):
        labels = torch.tensor(labels)
        same, different = label_classes(labels, None)
        positives, negatives = contrastive_pairs(torch.randn(len(labels), 4), same, different, 2, 2, 2)
        assert torch.equal(positives, same) and torch.equal(negatives, different)

    def test_no_gradient_through_the_choice(self):
        features = torch.randn(4, 3, requires_grad=True)
        same, different = label_classes(torch.tensor([0, 0, 1, 1]), None)
        positives, _ = contrastive_pairs(features, same, different, 1, 1, 1)
        assert not positives.requires_grad


class TestAlignment:
    def unit(self, rows=5):
        embeds = {name: torch.randn(rows, 4) for name in ("text", "audio", "vision")}
        return embeds, {name: torch.ones(rows, dtype=torch.bool) for name in embeds}

    def test_semantic_loss_agrees_with_the_formula(self):
        embeds, present = self.unit()
        present["audio"][1] = present["text"][4] = False
        losses = []
        for i in range(5):
            for other in ("audio", "vision"):
                if not (present["text"][i] and present[other][i]):
                    continue
                cosine = lambda name, j, i=i: torch.cosine_similarity(embeds["text"][i], embeds[name][j], dim=0)  # noqa: E731
                own = math.exp(cosine(other, i) / 0.5)
                negatives = sum(
                    math.exp(cosine(name, j) / 0.5)
                    for name in ("audio", "vision") for j in range(5) if j != i and present[name][j]
                )  # fmt: skip
                losses.append(-math.log(own / (own + negatives)))
        found = semantic_alignment_loss(embeds, present, ("text",), 0.5)
        assert found.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)

    def test_symmetric_is_the_mean_over_anchors(self):
        embeds, present = self.unit()
        each = [semantic_alignment_loss(embeds, present, (name,), 0.5) for name in embeds]
        found = semantic_alignment_loss(embeds, present, tuple(embeds), 0.5)
        torch.testing.assert_close(found, sum(each) / 3)

    def test_one_clip_or_one_modality_cost_nothing(self):
        embeds, present = self.unit(1)
        assert semantic_alignment_loss(embeds, present, ("text",), 0.5) == 0
        embeds, present = self.unit(4)
        present["audio"][:] = present["vision"][:] = False
        assert semantic_alignment_loss(embeds, present, ("text",), 0.5) == 0

    def test_aligned_modalities_cost_less(self):
        embeds, present = self.unit(6)
        together = dict.fromkeys(embeds, embeds["text"])
        assert semantic_alignment_loss(together, present, ("text",), 0.5) < semantic_alignment_loss(
            embeds, present, ("text",), 0.5
        )

    def test_supervised_loss_leaves_missing_modalities_out(self):
        embeds, present = self.unit(4)
        same, different = label_classes(torch.tensor([0, 0, 1, 1]), None)
        present["audio"][:] = False
        found = supervised_contrastive_loss(embeds, present, same, different, 0.5)
        without = {name: values for name, values in embeds.items() if name != "audio"}
        torch.testing.assert_close(found, supervised_contrastive_loss(without, present, same, different, 0.5))
        kinds = []
        for values in without.values():
            unit = torch.nn.functional.normalize(values, dim=-1)
            kinds.append(naive_nt_xent(unit @ unit.T, same, different, 0.5))
        assert found.item() == pytest.approx(sum(kinds) / 2, rel=1e-5)


def test_binary_cross_entropy_passes_over_missing_labels():
    logits, labels = torch.randn(2, 3, requires_grad=True), torch.tensor([[1.0, NAN, 0.0], [NAN, NAN, 1.0]])
    loss, has_labels = binary_cross_entropy(logits, labels)
    kept = ~labels.isnan()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[kept], labels[kept])
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert has_labels == 1 and torch.equal(logits.grad == 0, ~kept)


def test_weights_of_several_labels():
    logits, labels = torch.randn(4, 2), torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, NAN], [0.0, 1.0]])
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    losses = losses * torch.where(labels == 1, torch.tensor([3.0, 0.5]), 1.0)
    expected = losses[~labels.isnan()].mean()
    torch.testing.assert_close(binary_cross_entropy(logits, labels, torch.tensor([3.0, 0.5]))[0], expected)


class TestDistillation:
    """Against the formulas in numpy."""

    @pytest.fixture
    def answers(self):
        rng = np.random.default_rng(0)
        return rng.normal(size=(6, 3)), rng.normal(size=(6, 3))

    def loss(self, answers, kind):
        return distillation_loss(*map(torch.tensor, answers), kind).item()

    def test_scores(self, answers):
        one, other = answers
        assert self.loss(answers, "regression") == pytest.approx(((one - other) ** 2).mean())

    def test_classes(self, answers):
        one, other = answers
        divergence = rel_entr(softmax(other, 1), softmax(one, 1)).sum(1).mean()
        assert self.loss(answers, "single_label_classification") == pytest.approx(divergence, rel=1e-5)
        assert self.loss((other, other), "single_label_classification") == pytest.approx(0, abs=1e-7)

    def test_several_labels(self, answers):
        other = answers[1]
        yes, target = (1 / (1 + np.exp(-values)) for values in answers)
        divergence = (rel_entr(target, yes) + rel_entr(1 - target, 1 - yes)).mean()
        assert self.loss(answers, "multi_label_classification") == pytest.approx(divergence, rel=1e-5)
        assert self.loss((other, other), "multi_label_classification") == pytest.approx(0, abs=1e-7)

    def test_certain_labels(self):
        sure = torch.tensor([[60.0, -60.0]], requires_grad=True)
        loss = distillation_loss(sure, torch.tensor([[40.0, -90.0]]), "multi_label_classification")
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(sure.grad).all()

    def test_no_gradient_flows_to_the_whole_answers(self):
        logits, whole = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
        for kind in ("regression", "single_label_classification", "multi_label_classification"):
            distillation_loss(logits, whole, kind).backward()
        assert whole.grad is None and logits.grad.abs().min() > 0
