import pytest
import torch

from hf_fusion.models.modeling_dashfusion import hide_modalities

CLIPS = 4000


@pytest.fixture
def present():
    """Which modalities clips have: each third lacks the audio, and each fifth the text."""
    given = torch.ones(CLIPS, 3, dtype=torch.bool)
    given[::5, 0], given[::3, 1] = False, False
    return given


def test_each_modality_is_hidden_with_the_probability_given(present):
    whole = present[present.all(1)]
    shares = 1 - hide_modalities(whole, 0.3).float().mean(0)
    # all three at once would be 0.3 ** 3: then one of them stays
    assert shares.tolist() == pytest.approx([0.3 - 0.3**3 / 3] * 3, abs=0.03)
    assert hide_modalities(whole, 0.0).all()


def test_a_clip_keeps_something_that_it_has(present):
    left = hide_modalities(present, 0.95)
    assert (left <= present).all() and left.any(1).all() and left.float().mean() < 0.45


@pytest.fixture
def batch(clips, clip_processor):
    return {**clip_processor(**clips, padding=True, return_tensors="pt"), "labels": torch.tensor([1.0, 2, -1, 0, -3])}


@pytest.mark.parametrize("fields", [{}, {"anchor": "symmetric"}, {"fusion": "concat"}], ids=str)
def test_the_second_pass_is_that_of_clips_without_the_modality(clip_model, batch, monkeypatch, fields):
    """As if the hidden modalities had not been given."""
    model = clip_model(modality_distillation=0.5, hidden_dropout_prob=0.0, **fields)
    kept = torch.tensor([[True, False, True], [False, True, False], [False, True, True], [True, False, False],
                         [True, False, False]])  # fmt: skip
    monkeypatch.setattr("hf_fusion.models.modeling_dashfusion.hide_modalities", lambda present, probability: kept)
    model.train()
    for module in model.dashfusion.text_encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    outputs = model(**batch)
    model.eval()
    whole = model(**batch)
    names = ("attention_mask", "audio_attention_mask", "vision_attention_mask")
    masks = {name: batch[name] * kept[:, [i]] for i, name in enumerate(names)}
    partial = model(**{**batch, **masks})
    assert torch.allclose(outputs.logits, whole.logits, atol=1e-5), "the first pass sees everything"
    expected = torch.nn.functional.mse_loss(partial.logits, whole.logits)
    assert outputs.distillation_loss.item() == pytest.approx(expected.item(), rel=1e-4) and expected > 1e-3
    parts = outputs.prediction_loss + model.config.contrastive_weight * outputs.contrastive_loss
    assert outputs.loss.item() == pytest.approx((parts + outputs.distillation_loss).item(), rel=1e-5)
    assert whole.distillation_loss is None, "in training alone"


def test_the_first_pass_is_the_teacher(clip_model, batch):
    """It learns nothing from the second one, but through what both share."""
    model = clip_model(modality_distillation=0.9).train()
    outputs = model(**batch)
    seen = torch.autograd.grad(outputs.distillation_loss, outputs.logits, allow_unused=True)[0]
    assert seen is None
    outputs = model(**batch)
    outputs.distillation_loss.backward()
    assert model.dashfusion.missing_embeddings.weight.grad.abs().sum() > 0
    assert model.classifier[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("num_labels", "labels"), [(3, torch.tensor([0, 1, 2, -100, 1])), (2, torch.rand(5, 2))])
def test_classes_and_several_labels(clip_model, batch, num_labels, labels):
    model = clip_model(num_labels=num_labels, modality_distillation=0.5).train()
    outputs = model(**{**batch, "labels": labels})
    assert outputs.distillation_loss > 0 and torch.isfinite(outputs.loss)


def test_encoded_partners_are_no_part_of_it(clip_model, batch, monkeypatch):
    model = clip_model(modality_distillation=0.5).train()
    seen = []
    monkeypatch.setattr(
        "hf_fusion.models.modeling_dashfusion.distillation_loss",
        lambda logits, whole, kind: seen.append((logits.shape, whole.shape)) or whole.sum(),
    )
    model(**{**batch, "labels": batch["labels"][:1]}, partner_mask=torch.ones(1, 4, dtype=torch.bool))
    assert seen == [((1, 1), (1, 1))]


def test_the_first_pass_draws_what_it_would_without(clip_model, batch):
    losses = []
    for probability in (0.0, 0.5):
        torch.manual_seed(3)
        losses.append(clip_model(modality_distillation=probability).train()(**batch).prediction_loss.item())
    assert losses[0] == losses[1]


def test_a_single_modality_needs_no_second_pass(clip_model, batch):
    model = clip_model(modality_distillation=0.5, modalities=("text",)).train()
    text = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids", "labels") if name in batch}
    assert model(**text).distillation_loss is None


def test_without_labels_there_is_nothing_to_learn(clip_model, batch):
    model = clip_model(modality_distillation=0.5).train()
    outputs = model(**{name: value for name, value in batch.items() if name != "labels"})
    assert outputs.loss is None and outputs.distillation_loss is None


def test_not_with_modality_dropout(clip_config):
    with pytest.raises(ValueError, match=r"`modality_dropout` \(0.3\).*`modality_distillation` \(0.2\).*choose one"):
        clip_config(modality_dropout=0.3, modality_distillation=0.2)
    with pytest.raises(ValueError, match=r"`modality_distillation` must lie in \[0, 1\), got 1"):
        clip_config(modality_distillation=1.0)
