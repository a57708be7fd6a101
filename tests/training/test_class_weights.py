import pytest
import torch

from hf_fusion import FusionTrainingArguments
from hf_fusion.training.class_weights import compute_class_weights, parse_class_weights


@pytest.mark.parametrize("given", ["[2, 1, 0.5]", "2,1,.5", "2 1 0.5", [2, 1, 0.5]])
def test_ways_to_say_it(given, tmp_path):
    assert parse_class_weights(given) == [2.0, 1.0, 0.5]
    args = FusionTrainingArguments(str(tmp_path), class_weights=given, report_to="none")
    assert args.class_weights == [2.0, 1.0, 0.5]


@pytest.mark.parametrize("given", ["ballanced", "1,-1", "1,nan", "0,0", [], "[1, [2]]", 3])
def test_what_it_cannot_be(given):
    with pytest.raises(ValueError, match="`class_weights` must be 'balanced' or a number"):
        parse_class_weights(given)


def test_balanced_weights_make_classes_equal(make_config):
    labels = [0] * 6 + [1] * 2 + [2, -100, None]
    config = make_config(num_labels=3)
    weights = compute_class_weights("balanced", labels, config)
    assert weights == pytest.approx([0.5, 1.5, 3.0])
    assert sum(weights[label] for label in labels[:9]) == pytest.approx(9)


def test_classes_that_no_row_has(make_config):
    with pytest.raises(ValueError, match="no training row is negative, neutral"):
        compute_class_weights("balanced", [0, 3, 4], make_config())


def test_as_many_as_classes(make_config):
    with pytest.raises(ValueError, match="has 2 numbers, but there are 5 classes: very negative"):
        compute_class_weights([1.0, 2.0], [0], make_config())


def test_coarse_classes(make_config, clip_config):
    assert compute_class_weights([1.0, 2.0, 0.5], [0], make_config(), "coarse_class_weights") == [1.0, 2.0, 0.5]
    weights = compute_class_weights("balanced", [0, 0, 1, 2, -100], make_config(), "coarse_class_weights")
    assert weights == pytest.approx([2 / 3, 4 / 3, 4 / 3])
    with pytest.raises(ValueError, match="`coarse_class_weights` has 2 numbers, but there are 3 classes: negative"):
        compute_class_weights([1.0, 2.0], [0], make_config(), "coarse_class_weights")
    with pytest.raises(ValueError, match="`coarse_class_weights` cannot be balanced: no training row is neutral"):
        compute_class_weights("balanced", [0, 2], make_config(), "coarse_class_weights")
    with pytest.raises(ValueError, match="`coarse_class_weights` is for coarse classes; this model predicts none"):
        compute_class_weights("balanced", [0, 2], clip_config(num_labels=3), "coarse_class_weights")
    with pytest.raises(ValueError, match="`coarse_class_weights` must be 'balanced'"):
        FusionTrainingArguments("run", coarse_class_weights="even", report_to="none")


def test_only_for_classes(clip_config):
    with pytest.raises(ValueError, match="is for classes; this model predicts a score"):
        compute_class_weights("balanced", [0.5, 2.0], clip_config())


def test_balanced_weights_of_several_labels_make_both_answers_equal(clip_config):
    config = clip_config(num_labels=2, problem_type="multi_label_classification")
    labels = [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0], None]
    assert compute_class_weights("balanced", labels, config) == pytest.approx([2 / 3, 3 / 2])
    uncertain = [[0.5, 0.0], [float("nan"), 0.5], [0.0, 0.0]]  # missing, and shares of both answers
    assert compute_class_weights("balanced", uncertain, config) == pytest.approx([1.5 / 0.5, 2.5 / 0.5])
    with pytest.raises(ValueError, match="no training row is LABEL_1"):
        compute_class_weights("balanced", [[1.0, 0.0], [0.0, 0.0]], config)
    with pytest.raises(ValueError, match="every training row is LABEL_0, which would get the weight 0"):
        compute_class_weights("balanced", [[1.0, 0.0], [1.0, 1.0]], config)
    assert compute_class_weights([2.0, 1.0], labels, config) == [2.0, 1.0]


def test_acts_on_several_labels(clip_model, clip_processor, clips):
    model = clip_model(
        num_labels=2, problem_type="multi_label_classification", semantic_alignment=False, supervised_contrastive=False
    )
    batch = clip_processor(**clips, return_tensors="pt")
    labels, weights = torch.tensor([[1.0, 0], [0, 0], [0, 1], [1, 1], [1, 0]]), torch.tensor([3.0, 0.5])
    model.class_weights = weights
    outputs = model(**batch, labels=labels)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits, labels, pos_weight=weights)
    torch.testing.assert_close(outputs.loss, expected)


def test_acts_on_clips_of_classes(clip_model, clip_processor, clips):
    model = clip_model(num_labels=3, semantic_alignment=False, supervised_contrastive=False)
    batch = clip_processor(**clips, return_tensors="pt")
    labels, weights = torch.tensor([0, 2, 1, -100, 0]), torch.tensor([4.0, 1.0, 0.5])
    model.class_weights = weights
    outputs = model(**batch, labels=labels)
    expected = torch.nn.functional.cross_entropy(outputs.logits, labels, weights)
    torch.testing.assert_close(outputs.loss, expected)
