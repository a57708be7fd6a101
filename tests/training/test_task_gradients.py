import json

import pytest
import torch
from datasets import Dataset

from hf_fusion import FusionTrainer, FusionTrainingArguments
from hf_fusion.training.task_gradients import task_gradients, weighted_losses


@pytest.fixture
def batch(processor, texts, labels):
    return {**processor(texts, return_tensors="pt"), **labels}


def norms(model):
    grads = [p.grad.flatten() for p in model.dyfulm.parameters() if p.grad is not None]
    return torch.cat(grads).norm().item()


def test_each_loss_alone_is_its_own_backward_pass(make_model, batch):
    model = make_model(loss_weighting="fixed", loss_weights=(1.0, 0.5, 2.0))
    outputs = model(**batch)
    losses = weighted_losses(outputs, model.config)
    assert sum(losses.values()).item() == pytest.approx(outputs.loss.item(), rel=1e-5)
    found = task_gradients(model, losses)
    outputs.loss.backward()  # the graph is still there
    whole = norms(model)
    for name, weight in (("fine", 1.0), ("coarse", 0.5), ("intensity", 2.0)):
        model.zero_grad()
        (weight * model(**batch)[f"{name}_loss"]).backward()
        assert found[f"gradient_norm_{name}"] == pytest.approx(norms(model), rel=1e-4)
    squared = sum(found[f"gradient_norm_{name}"] ** 2 for name in losses)
    for a, b in (("fine", "coarse"), ("fine", "intensity"), ("coarse", "intensity")):
        product = found[f"gradient_norm_{a}"] * found[f"gradient_norm_{b}"]
        squared += 2 * found[f"gradient_cosine_{a}_{b}"] * product
    assert squared**0.5 == pytest.approx(whole, rel=1e-4), "norms and cosines together give the whole gradient"


def test_opposite_tasks(make_model, batch):
    model = make_model()
    loss = model(**batch).fine_loss
    found = task_gradients(model, {"fine": loss, "coarse": -2 * loss})
    assert found["gradient_cosine_fine_coarse"] == pytest.approx(-1, abs=1e-4)
    assert found["gradient_norm_coarse"] == pytest.approx(2 * found["gradient_norm_fine"], rel=1e-5)


def test_guidance(make_model, batch):
    model = make_model()
    with_guidance = task_gradients(model, weighted_losses(model(**batch), model.config))
    assert with_guidance["gradient_norm_guidance"] > 0
    with torch.no_grad():
        model.classifier.weight.zero_()  # nothing of the features arrives at the fine logits
    closed = task_gradients(model, weighted_losses(model(**batch), model.config))
    assert closed["gradient_norm_guidance"] == 0
    model = make_model(use_guidance=False)
    assert "gradient_norm_guidance" not in task_gradients(model, weighted_losses(model(**batch), model.config))


def test_tasks_without_labels_are_left_out(make_model, batch):
    model = make_model()
    batch = {name: value for name, value in batch.items() if name not in ("coarse_labels", "intensity_labels")}
    assert list(weighted_losses(model(**batch), model.config)) == ["fine"]


def test_dashfusion(clip_model, clip_processor, clips):
    model = clip_model(contrastive_weight=0.3)
    batch = clip_processor(**clips, return_tensors="pt")
    outputs = model(**batch, labels=torch.tensor([1.0, -2.0, 0.0, 1.0, 3.0]))
    losses = weighted_losses(outputs, model.config)
    assert losses["contrastive"].item() == pytest.approx(0.3 * outputs.contrastive_loss.item())
    found = task_gradients(model, losses)
    assert set(found) == {"gradient_norm_prediction", "gradient_norm_contrastive",
                          "gradient_cosine_prediction_contrastive"}  # fmt: skip
    off = clip_model(semantic_alignment=False, supervised_contrastive=False)
    assert list(weighted_losses(off(**batch, labels=torch.ones(5)), off.config)) == ["prediction"]


def test_in_training(make_model, processor, corpus, tmp_path):
    """Logged with the loss every so many steps; what is trained is the same as without."""
    rows = processor.encode_text(corpus[:24])
    rows |= {"labels": [i % 5 for i in range(24)], "coarse_labels": [i % 3 for i in range(24)]}
    rows |= {"intensity_labels": [i % 5 / 4 for i in range(24)]}
    weights = {}
    for every in (None, 2):
        args = FusionTrainingArguments(
            str(tmp_path / str(every)), num_train_epochs=1, per_device_train_batch_size=4, logging_steps=3,
            eval_strategy="no", save_strategy="no", load_best_model_at_end=False, report_to="none", use_cpu=True,
            disable_tqdm=True, log_gradients_every=every,
        )  # fmt: skip
        model = make_model()
        trainer = FusionTrainer(model, args, train_dataset=Dataset.from_dict(rows), processing_class=processor)
        trainer.train()
        weights[every] = model.state_dict()
        logs = [log for log in trainer.state.log_history if "loss" in log]
        assert len(logs) == 2 and all(("gradient_norm_fine" in log) == bool(every) for log in logs)
    assert all(torch.equal(weights[None][name], weights[2][name]) for name in weights[2])
    json.dumps(logs)


def test_impossible_interval(tmp_path):
    with pytest.raises(ValueError, match="`log_gradients_every` must be at least 1, got 0"):
        FusionTrainingArguments(str(tmp_path), use_cpu=True, report_to="none", log_gradients_every=0)
