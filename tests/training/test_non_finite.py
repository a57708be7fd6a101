"""Losses that are NaN or infinite: named and stopped at, or left out and counted."""

import math

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from hf_fusion import FusionTrainer, FusionTrainingArguments
from hf_fusion.architectures.reviews import encode_reviews
from hf_fusion.training.non_finite import NonFiniteLossError


@pytest.fixture
def make_trainer(make_model, corpus, processor, tmp_path):
    def make(bad_row=5, callbacks=None, **fields):
        rows = [
            {"id": f"review-{i}", "text": text, "labels": i % 5, "intensity_labels": math.inf if i == bad_row else 0.5}
            for i, text in enumerate(corpus[:8])
        ]
        options = {"num_train_epochs": 1, "per_device_train_batch_size": 2, "logging_steps": 1, "report_to": "none",
                   "disable_tqdm": True, "use_cpu": True, "save_strategy": "no", "eval_strategy": "no",
                   "load_best_model_at_end": False, "output_dir": str(tmp_path / "run")}  # fmt: skip
        data = encode_reviews(Dataset.from_list(rows), processor)
        args = FusionTrainingArguments(**{**options, **fields})
        return FusionTrainer(
            make_model(), args, train_dataset=data, processing_class=processor, callbacks=callbacks
        )  # fmt: skip

    return make


class Watch(TrainerCallback):
    """Keeps the weights after each step."""

    def __init__(self):
        self.weights = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights.append(torch.cat([values.detach().flatten() for values in model.parameters()]))


def test_stops_and_names_rows_and_component(make_trainer):
    watch = Watch()
    trainer = make_trainer(callbacks=[watch])
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.train()
    message = str(caught.value)
    assert f"The loss of step {len(watch.weights) + 1} is inf: intensity_loss; the logits are finite" in message
    assert "review-5" in message and message.count("review-") == 2 and "set `non_finite_loss` to skip" in message
    assert all(torch.isfinite(values).all() for values in trainer.model.parameters())


def test_inputs_are_told_from_labels(make_trainer):
    trainer = make_trainer(bad_row=None)
    trainer.model.dyfulm.pooling.register_forward_hook(lambda module, inputs, output: output * math.nan)
    with pytest.raises(NonFiniteLossError, match="fine_loss, intensity_loss; the logits are not finite either"):
        trainer.train()


@pytest.mark.parametrize("choice", ["stop", "skip"])
def test_broken_weights_cannot_be_skipped(make_trainer, choice):
    trainer = make_trainer(bad_row=None, non_finite_loss=choice)
    with torch.no_grad():
        trainer.model.classifier.bias[0] = math.nan
    with pytest.raises(NonFiniteLossError, match=r"the weights classifier.bias are not finite.*earlier checkpoint"):
        trainer.train()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_skips_the_step_and_counts_it(make_trainer, accumulation, caplog):
    watch = Watch()
    trainer = make_trainer(callbacks=[watch], non_finite_loss="skip", gradient_accumulation_steps=accumulation)
    trainer.train()
    steps = zip(watch.weights, watch.weights[1:], strict=False)
    first = torch.equal(watch.weights[0], watch.weights[0].nan_to_num())
    unchanged = sum(torch.equal(before, after) for before, after in steps)
    assert first and trainer.skipped_steps == 1 and len(watch.weights) == 4 // accumulation
    assert unchanged == 1 or "step 1 is inf" in caplog.text, "the first step has none before it"
    assert "review-5" in caplog.text and "The step is skipped" in caplog.text
    logs = [log for log in trainer.state.log_history if "loss" in log]
    assert logs[-1]["skipped_steps"] == 1
    assert all(math.isfinite(value) for log in logs for name, value in log.items() if name != "grad_norm")


def test_the_count_is_part_of_a_checkpoint(make_trainer, tmp_path):
    fields = {"non_finite_loss": "skip", "num_train_epochs": 2, "save_strategy": "epoch"}
    make_trainer(**fields).train()
    again = make_trainer(**fields)
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    assert again.skipped_steps == 2


def test_not_with_scaled_losses(make_trainer, monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator.mixed_precision", "fp16")
    with pytest.raises(ValueError, match="fp16, which scales the loss, skips steps itself"):
        make_trainer(non_finite_loss="skip")


def test_an_unknown_choice(tmp_path):
    with pytest.raises(ValueError, match="`non_finite_loss` must be one of stop, skip, got 'ignore'"):
        FusionTrainingArguments(str(tmp_path), non_finite_loss="ignore")
