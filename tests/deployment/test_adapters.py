import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from hf_fusion.deployment.adapters import add_lora, load_merged
from hf_fusion.deployment.loading import load_checkpoint
from hf_fusion.utils.errors import DataError

peft = pytest.importorskip("peft")


@pytest.fixture
def inputs(processor, texts):
    return dict(processor(texts, return_tensors="pt"))


@pytest.mark.parametrize("encoders", ["a", "b", "both"])
def test_trains_lora_and_everything_outside_the_encoders(make_model, inputs, labels, encoders):
    model = add_lora(make_model(), encoders)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trained if ".encoder_" in name)
    for name in ("a", "b"):
        assert any(f"encoder_{name}." in parameter for parameter in trained) == (encoders in (name, "both"))
    outside = {name for name, _ in make_model().named_parameters() if ".encoder_" not in name}
    plain = {name.replace("base_model.model.", "").replace("modules_to_save.default.", "") for name in trained}
    assert outside <= plain
    model(**inputs, **labels).loss.backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if n in trained)


def train_a_little(model, inputs, labels):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        model(**inputs, **labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def test_merges_to_a_plain_checkpoint(make_model, inputs, labels, tmp_path):
    plain = make_model()
    adapted = train_a_little(add_lora(make_model()), inputs, labels)
    with torch.no_grad():
        expected = adapted(**inputs).logits
        assert (expected - plain(**inputs).logits).abs().max() > 1e-3
        merged = adapted.merge_and_unload()
        merged.save_pretrained(tmp_path)
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
        torch.testing.assert_close(loaded(**inputs).logits, expected, atol=1e-5, rtol=0)
    assert loaded.state_dict().keys() == plain.state_dict().keys()


def test_adapter_alone_restores_fusion_and_heads(make_model, inputs, labels, tmp_path):
    make_model().save_pretrained(tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    adapted = train_a_little(add_lora(base), inputs, labels)
    adapted.save_pretrained(tmp_path / "adapter")
    fresh = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    loaded = peft.PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).logits, adapted(**inputs).logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("place", "kind", "pickled"),
    [("base", "model", "pytorch_model.bin"), (".", "adapter_model", "adapter_model.bin")],
)
def test_pickled_weights_are_refused(make_model, tmp_path, place, kind, pickled):
    make_model().save_pretrained(tmp_path / "base")
    add_lora(make_model()).save_pretrained(tmp_path)
    load_merged(str(tmp_path))
    weights = tmp_path / place / f"{kind}.safetensors"
    torch.save(load_file(weights), tmp_path / place / pickled)
    weights.unlink()
    with pytest.raises(OSError, match=rf"file named {kind}\.safetensors"):
        load_merged(str(tmp_path))


def test_adapter_keeps_the_history_of_dynamic_weight_averaging(make_model, tmp_path):
    adapted = add_lora(make_model(loss_weighting="dwa"))
    adapted.base_model.model.loss_weighting.record_epoch([3.0, 2.0, 1.0])
    adapted.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(make_model(loss_weighting="dwa"), tmp_path)
    histories = [
        value for name, value in loaded.state_dict().items() if "modules_to_save" in name and "history" in name
    ]
    assert histories[0].tolist() == [[0, 0, 0], [3.0, 2.0, 1.0]]


def test_encoder_that_is_not_there(make_model):
    with pytest.raises(ValueError, match="no encoder b"):
        add_lora(make_model(cross_fusion="a"), "b")
    with pytest.raises(ValueError, match="'c'"):
        add_lora(make_model(), "c")


@pytest.mark.parametrize(
    ("text", "encoders"), [("bert", "text"), ("deberta", "text"), ("dyfulm", "both"), ("dyfulm", "b")]
)
def test_dashfusion(clip_model, clip_processor, clip_processor_b, clips, tmp_path, text, encoders):
    model = clip_model(text)
    processor = clip_processor_b if text == "dyfulm" else clip_processor
    batch = dict(processor(**clips, return_tensors="pt"))
    model.save_pretrained(tmp_path / "base")
    adapted = add_lora(model, encoders)
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    plain = {name.replace("base_model.model.", "").replace("modules_to_save.default.", "") for name in trained}
    inside = [f"{name}." for name in ("text_encoder.encoder", "text_encoder.embeddings", "encoder_a", "encoder_b")]
    outside = {n for n, _ in clip_model(text).named_parameters() if not any(part in n for part in inside)}
    assert outside <= plain and any("lora_" in name for name in trained)
    train_a_little(adapted, batch, {"labels": torch.tensor([1.0, 2.0, 1.0, -1.0, 0.0])})
    adapted.save_pretrained(tmp_path / "adapter")
    fresh = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    loaded = peft.PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval()
    with torch.no_grad():
        expected = adapted(**batch).logits
        assert (expected - clip_model(text)(**batch).logits).abs().max() > 1e-3
        torch.testing.assert_close(loaded(**batch).logits, expected, atol=1e-5, rtol=0)
        merged = loaded.merge_and_unload()
        assert merged.state_dict().keys() == clip_model(text).state_dict().keys()
        torch.testing.assert_close(merged(**batch).logits, expected, atol=1e-4, rtol=0)


def test_encoder_that_a_dashfusion_does_not_have(clip_model):
    for text, encoders in (("bert", "a"), ("bert", "both"), ("dyfulm", "text")):
        with pytest.raises(ValueError, match=f"no encoder {encoders}; it has"):
            add_lora(clip_model(text), encoders)


@pytest.mark.parametrize("count", [2, 3, 10])
@pytest.mark.parametrize("kind", ["dyfulm", "dashfusion"])
def test_keeps_any_number_of_classes(make_model, clip_model, tmp_path, kind, count):
    """Two by the library's names, others by their own."""
    classes = {"num_labels": 2} if count == 2 else {"id2label": {i: f"class {i}" for i in range(count)}}
    model = make_model(**classes) if kind == "dyfulm" else clip_model(**classes)
    names = dict(model.config.id2label)
    model.save_pretrained(tmp_path / "run" / "base")
    adapted = add_lora(model, "both" if kind == "dyfulm" else "text")
    with torch.no_grad():
        for values in adapted.parameters():
            if values.requires_grad:
                values.normal_()
    adapted.save_pretrained(tmp_path / "run")
    merged = load_merged(str(tmp_path / "run"))
    assert merged.config.id2label == names
    merged.save_pretrained(tmp_path / "merged")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert loaded.config.id2label == names and loaded.config.label2id == {name: i for i, name in names.items()}
    ours, theirs = adapted.merge_and_unload().state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("part", ["coarse_classifier", "lora_B"])
def test_an_adapter_without_all_of_its_weights(make_model, processor, tmp_path, part):
    """Else those of before the training would answer: peft only warns of some."""
    make_model().save_pretrained(tmp_path / "base")
    add_lora(make_model()).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    save_file({name: values for name, values in load_file(path).items() if part not in name}, path)
    with pytest.raises(DataError, match=part):
        load_checkpoint(str(tmp_path))
