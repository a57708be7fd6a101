import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from hf_fusion.models.modeling_losses import (
    ORDINAL_EXPONENT,
    binary_cross_entropy,
    contrastive_pairs,
    corn_log_probabilities,
    corn_loss,
    cross_entropy,
    distillation_loss,
    focal_loss,
    label_classes,
    nt_xent,
    ordinal_log_loss,
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


def naive_focal(logits, labels, weights):
    """The formula with loops, gamma 2."""
    probabilities = softmax(logits, 1)
    kept = [(probabilities[i, y], weights[y]) for i, y in enumerate(labels) if y != -100]
    return sum(-w * (1 - p) ** 2 * math.log(p) for p, w in kept) / sum(w for _, w in kept)


def naive_ordinal_log_loss(logits, labels, weights):
    """The formula with loops over rows and classes."""
    total = count = 0.0
    for row, y in zip(softmax(logits, 1), labels, strict=True):
        if y != -100:
            total -= weights[y] * sum(math.log(1 - p) * abs(y - i) ** ORDINAL_EXPONENT for i, p in enumerate(row))
            count += weights[y]
    return total / count


def naive_corn(conditional_logits, labels, weights):
    """A binary cross-entropy for each class but the last, over the subset of rows that are not below it."""
    total = count = 0.0
    for k in range(conditional_logits.shape[1]):
        for z, y in zip(conditional_logits[:, k], labels, strict=True):
            if y >= k:
                probability = 1 / (1 + math.exp(-z))
                total -= weights[y] * math.log(probability if y > k else 1 - probability)
                count += weights[y]
    return total / count


def corn(conditional_logits, labels, class_weights=None):
    return corn_loss(corn_log_probabilities(conditional_logits), labels, class_weights)


# Loss, naive reference, and how many outputs it has less than classes.
ORDERED = {
    "focal_loss": (focal_loss, naive_focal, 0),
    "ordinal_log_loss": (ordinal_log_loss, naive_ordinal_log_loss, 0),
    "corn": (corn, naive_corn, 1),
}


@pytest.mark.parametrize("name", ORDERED)
class TestOrder:
    """Losses of ordered and of rare classes."""

    LABELS = (0, 4, 2, -100, 1, 4, 3)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_agrees_with_the_formula(self, name, weighted):
        loss, naive, fewer = ORDERED[name]
        logits = np.random.default_rng(0).normal(0, 3, size=(len(self.LABELS), 5 - fewer)).astype(np.float32)
        weights = np.array([2.0, 0.5, 1.0, 3.0, 0.25], np.float32) if weighted else None
        class_weights = None if weights is None else torch.tensor(weights)
        found, has_labels = loss(torch.tensor(logits), torch.tensor(self.LABELS), class_weights)
        expected = naive(logits.astype(np.float64), self.LABELS, np.ones(5) if weights is None else weights)
        assert found.item() == pytest.approx(expected, rel=1e-5) and has_labels == 1 and found.dtype == torch.float32

    @pytest.mark.parametrize("classes", [2, 5])
    def test_gradient_agrees_with_finite_differences(self, name, classes):
        loss, _, fewer = ORDERED[name]
        logits = torch.randn(6, classes - fewer, dtype=torch.float64, requires_grad=True)
        labels, weights = torch.tensor([0, 1, -100, 1, 0, classes - 1]), torch.rand(classes, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda values: loss(values, labels)[0], (logits,))
        assert torch.autograd.gradcheck(lambda values: loss(values, labels, weights)[0], (logits,))

    def test_missing_labels_cost_nothing(self, name):
        loss, _, fewer = ORDERED[name]
        logits = torch.randn(3, 5 - fewer, requires_grad=True)
        some, _ = loss(logits, torch.tensor([2, -100, -100]))
        torch.testing.assert_close(some, loss(logits[:1], torch.tensor([2]))[0])
        none, has_labels = loss(logits, torch.tensor([-100] * 3))
        none.backward()
        assert none == 0 and has_labels == 0 and torch.equal(logits.grad, torch.zeros_like(logits))
        only_zero = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])
        assert loss(logits, torch.tensor([2, -100, -100]), only_zero)[0] == 0

    @pytest.mark.parametrize("size", [30.0, 1e4, 1e30])
    def test_extreme_logits(self, name, size):
        loss, _, fewer = ORDERED[name]
        logits = size * torch.tensor([[-1.0, 1, -1, 1, -1], [1, 1, 1, 1, 1], [-1, -1, -1, -1, 1], [1, 0, 0, 0, 0]])
        logits = logits[:, fewer:].requires_grad_()
        for labels in ([1, 4, 4, 0], [0, 0, 0, 4], [4, 2, 1, 2]):
            value, _ = loss(logits, torch.tensor(labels))
            (gradient,) = torch.autograd.grad(value, logits)
            assert torch.isfinite(value) and torch.isfinite(gradient).all()


def test_focal_loss_without_focus_is_cross_entropy():
    logits, labels, weights = torch.randn(6, 3), torch.tensor([0, 2, 1, -100, 1, 2]), torch.tensor([1.0, 2.0, 0.5])
    torch.testing.assert_close(focal_loss(logits, labels, weights, 0.0), cross_entropy(logits, labels, weights))
    sure, unsure = (torch.tensor([[size, 0.0, 0.0]]) for size in (6.0, 0.5))
    share = [focal_loss(one, labels[:1])[0] / cross_entropy(one, labels[:1])[0] for one in (sure, unsure)]
    assert share[0] < 1e-4 and share[1] > 0.2


def test_a_focal_loss_below_1_has_a_gradient_at_certainty():
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([0]), gamma=0.5)[0].backward()
    assert torch.isfinite(logits.grad).all()


def test_ordinal_log_loss_grows_with_the_distance():
    logits = 5 * torch.eye(5)[[1, 2, 3, 4]]
    losses = [ordinal_log_loss(row[None], torch.tensor([0]))[0].item() for row in logits]
    assert losses == sorted(losses) and losses[-1] > 5 * losses[0]


class TestCorn:
    def test_log_probabilities_are_those_of_the_chain(self):
        conditional = torch.randn(8, 4, dtype=torch.float64)
        above = torch.sigmoid(conditional)
        expected, reached = [], torch.ones(8, dtype=torch.float64)
        for k in range(4):
            expected.append(reached * (1 - above[:, k]))
            reached = reached * above[:, k]
        expected = torch.stack([*expected, reached], dim=1)
        found = corn_log_probabilities(conditional)
        torch.testing.assert_close(found.exp(), expected)
        torch.testing.assert_close(found.softmax(-1), expected)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype):
        conditional = torch.tensor([[-6e4, 6e4, -6e4, 6e4], [6e4] * 4, [-6e4] * 4, [1.0, -2.0, 0.5, 3.0]], dtype=dtype)
        found = corn_log_probabilities(conditional)
        assert found.dtype == torch.float32 and torch.isfinite(found).all()
        torch.testing.assert_close(found, corn_log_probabilities(conditional.float()))
        torch.testing.assert_close(found.softmax(-1).sum(-1), torch.ones(4))
