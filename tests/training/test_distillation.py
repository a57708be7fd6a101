import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax

from hf_fusion import FusionTrainer, FusionTrainingArguments
from hf_fusion.training.distillation import distillation_loss, hide_modalities
from hf_fusion.training.model_arguments import RecipeError

CLIPS = 4000


@pytest.fixture
def inputs():
    """Clips of which each third lacks the audio, and each fifth the text."""
    text, audio = torch.ones(CLIPS, 3, dtype=torch.long), torch.ones(CLIPS, 2, dtype=torch.long)
    text[:, 2] = 0
    text[::5], audio[::3] = 0, 0
    ids, vision = torch.ones(CLIPS, 3, dtype=torch.long), torch.ones(CLIPS, 4)
    return {"input_ids": ids, "attention_mask": text, "attention_mask_b": text.clone(),
            "audio_attention_mask": audio, "vision_attention_mask": vision}  # fmt: skip


def here(inputs):
    names = ("attention_mask", "audio_attention_mask", "vision_attention_mask")
    return torch.stack([inputs[name].bool().any(-1) for name in names], dim=1)


def test_each_modality_is_hidden_with_the_probability_given(inputs):
    whole = {
        name: value[[i % 15 not in (0, 3, 5, 6, 9, 10, 12) for i in range(CLIPS)]] for name, value in inputs.items()
    }
    assert here(whole).all()
    shares = 1 - here(hide_modalities(whole, 0.3)).float().mean(0)
    # all three at once would be 0.3 ** 3: then one of them stays
    assert shares.tolist() == pytest.approx([0.3 - 0.3**3 / 3] * 3, abs=0.03)
    assert here(hide_modalities(whole, 0.0)).all()


def test_a_clip_keeps_something_that_it_has(inputs):
    hidden = hide_modalities(inputs, 0.95)
    assert (here(hidden) <= here(inputs)).all() and here(hidden).any(1).all()
    assert here(hidden).float().mean() < 0.45, "and mostly no more than that"


def test_masks_alone_change(inputs):
    before = {name: value.clone() for name, value in inputs.items()}
    hidden = hide_modalities(inputs, 0.5)
    assert all(torch.equal(inputs[name], before[name]) for name in inputs), "the inputs are the first pass's"
    assert torch.equal(hidden["attention_mask"], hidden["attention_mask_b"]), "both tokenisations of a text"
    assert hidden["input_ids"] is inputs["input_ids"]
    for name in ("attention_mask", "vision_attention_mask"):
        assert hidden[name].dtype == inputs[name].dtype
        rows = hidden[name].bool().any(-1)
        assert torch.equal(hidden[name][rows], inputs[name][rows]), "a modality is hidden as a whole"


def test_losses():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    logits, whole = torch.tensor(one, requires_grad=True), torch.tensor(other, requires_grad=True)
    found = {kind: distillation_loss(logits, whole, kind)
             for kind in ("regression", "single_label_classification", "multi_label_classification")}  # fmt: skip
    assert found["regression"].item() == pytest.approx(((one - other) ** 2).mean())
    divergence = rel_entr(softmax(other, 1), softmax(one, 1)).sum(1).mean()
    assert found["single_label_classification"].item() == pytest.approx(divergence, rel=1e-5)
    target, both = 1 / (1 + np.exp(-other)), np.stack([np.zeros_like(one), one])
    log_no, log_yes = log_softmax(both, axis=0)
    entropy = -(target * log_yes + (1 - target) * log_no).mean()
    assert found["multi_label_classification"].item() == pytest.approx(entropy, rel=1e-5)
    sum(found.values()).backward()
    assert whole.grad is None and logits.grad.abs().min() > 0


@pytest.mark.parametrize("partners", ["batch", "mined", "encoded"])
def test_a_training_with_a_second_pass(make_clip_trainer, partners):
    trainer = make_clip_trainer(partners, contrastive_partners=partners, modality_distillation=0.6)
    trainer.train()
    logs = [log for log in trainer.state.log_history if "grad_norm" in log]
    for log in logs:
        parts = log["prediction_loss"] + trainer.model.config.contrastive_weight * log["contrastive_loss"]
        assert log["loss"] == pytest.approx(parts + log["distillation_loss"], rel=2e-2, abs=2e-3)
    assert all(log["distillation_loss"] > 0 for log in logs)


def test_answers_without_a_modality_come_nearer_to_those_with_all(make_clip_trainer, clip_processor, clip_dataset):
    def gap(trainer):
        batch = clip_processor.pad(
            [{n: v for n, v in row.items() if n != "labels"} for row in clip_dataset], return_tensors="pt"
        )
        batch = {name: value for name, value in batch.items() if name != "length"}
        torch.manual_seed(0)
        with torch.no_grad():
            whole, less = (trainer.model.eval()(**given).logits for given in (batch, hide_modalities(batch, 0.5)))
        return (whole - less).abs().mean().item() / whole.std().item()

    gaps = []
    for probability in (0.0, 0.5):
        fields = {"num_train_epochs": 12, "contrastive_partners": "batch", "learning_rate": 3e-3}
        trainer = make_clip_trainer(str(probability), modality_distillation=probability, **fields)
        trainer.train()
        gaps.append(gap(trainer))
    assert gaps[1] < 0.7 * gaps[0]


def test_where_nothing_can_be_hidden(make_clip_trainer, clip_model, make_model, processor, tmp_path):
    with pytest.raises(RecipeError, match="more than one modality"):
        make_clip_trainer(model=clip_model(modalities=("text",)), modality_distillation=0.3)
    args = FusionTrainingArguments(str(tmp_path), modality_distillation=0.3, report_to="none")
    with pytest.raises(RecipeError, match="is for a DashFusion"):
        FusionTrainer(make_model(), args, processing_class=processor)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\), got 1"):
        FusionTrainingArguments(str(tmp_path), modality_distillation=1.0)
