import json

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from hf_fusion import FusionTrainer, FusionTrainingArguments
from hf_fusion.deployment.adapters import add_lora
from hf_fusion.training.checkpoints import CheckpointError
from hf_fusion.training.reloading import check_saved

REVIEWS = Dataset.from_dict({"text": [f"The room was good, the bar was not; {i} nights." for i in range(11)]})


def trainer_of(folder, model, processor, **fields):
    args = FusionTrainingArguments(
        str(folder), report_to="none", use_cpu=True, eval_strategy="no", load_best_model_at_end=False, **fields
    )
    return FusionTrainer(model, args, processing_class=processor)


@pytest.fixture
def run(make_model, processor, tmp_path):
    """The trainer of a run that has saved its model, and its folder."""
    trainer = trainer_of(tmp_path, make_model(num_labels=2), processor)
    trainer.save_model()
    return trainer, tmp_path


def change_json(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_what_is_as_it_was(run, clip_model, clip_processor, clips, tmp_path):
    check_saved(run[0], REVIEWS)
    rows = Dataset.from_dict({name: [None if v is None else v if name == "text" else v.tolist() for v in values]
                              for name, values in clips.items()})  # fmt: skip
    for count in (1, 4):
        trainer = trainer_of(tmp_path / f"clips-{count}", clip_model(num_labels=count), clip_processor)
        trainer.save_model()
        check_saved(trainer, rows)


def test_without_memory_for_a_second_model(run, monkeypatch, caplog):
    def load(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("hf_fusion.training.reloading.load_checkpoint", load)
    check_saved(run[0], REVIEWS)
    assert "not enough memory to load the saved model" in caplog.text


def test_in_half_precision(make_model, processor, tmp_path):
    trainer = trainer_of(tmp_path / "weights", make_model().bfloat16(), processor)
    trainer.save_model()
    check_saved(trainer, REVIEWS)
    trainer = trainer_of(tmp_path / "mixed", make_model(), processor, bf16=True)
    trainer.save_model()
    check_saved(trainer, REVIEWS)


def test_an_adapter_beside_its_base(make_model, processor, tmp_path):
    pytest.importorskip("peft")
    for part in (make_model(), processor):
        part.save_pretrained(tmp_path / "base")
    trainer = trainer_of(tmp_path, add_lora(make_model()), processor)
    trainer.save_model()
    check_saved(trainer, REVIEWS)
    make_model(initializer_range=0.5).save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointError, match=r"`initializer_range` was 0\.02 and is 0\.5"):
        check_saved(trainer, REVIEWS)


def test_names_that_differ(run):
    trainer, folder = run
    change_json(folder / "config.json", id2label={"0": "LABEL_1", "1": "LABEL_0"})
    with pytest.raises(CheckpointError, match=r"differs from the trained one: `id2label` was .*Do not use"):
        check_saved(trainer, REVIEWS)


def test_classes_that_are_lost(run):
    """As they were when a configuration left out what equals the library's defaults."""
    trainer, folder = run
    saved = json.loads((folder / "config.json").read_text())
    for name in ("id2label", "label2id", "transformers_version"):
        del saved[name]
    (folder / "config.json").write_text(json.dumps(saved))
    assert AutoConfig.from_pretrained(folder).num_labels == 5
    with pytest.raises(CheckpointError, match=r"cannot be loaded: .* classifier\.bias have the shape \(2,\)") as caught:
        check_saved(trainer, REVIEWS)
    assert "classifier.bias" in str(caught.value.__cause__)


@pytest.mark.parametrize("change", ["other", "missing"])
def test_weights_that_differ(run, change):
    trainer, folder = run
    weights = load_file(folder / "model.safetensors")
    bias = weights.pop("classifier.bias")
    if change == "other":
        weights["classifier.bias"] = bias + 1e-6
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    words = {"other": r"the weights classifier\.bias differ", "missing": r"has no weights for classifier\.bias"}
    with pytest.raises(CheckpointError, match=words[change]):
        check_saved(trainer, REVIEWS)


def test_a_processor_that_differs(run):
    trainer, folder = run
    change_json(folder / "processor_config.json", max_length=6)
    with pytest.raises(CheckpointError, match="the processor gives another `attention_mask`"):
        check_saved(trainer, REVIEWS)


def test_answers_that_differ(run, monkeypatch):
    """Of the same weights: something in memory is not saved."""
    trainer, _ = run
    trainer.model.classifier.register_forward_hook(lambda module, args, output: output + 1e-3)
    with pytest.raises(CheckpointError, match=r"the model gives another `logits` \(by 0\.001 at most\)"):
        check_saved(trainer, REVIEWS)
