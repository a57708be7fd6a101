import json

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel

from hf_fusion import DashFusionForSequenceClassification, DyFuLMForSequenceClassification, FusionSentimentPipeline
from hf_fusion.deployment.adapters import add_lora
from hf_fusion.deployment.loading import load_checkpoint
from hf_fusion.models.modeling_fingerprint import (
    FINGERPRINT_FILE,
    changed_weights,
    read_fingerprint,
    sample_weights,
    write_fingerprint,
)
from hf_fusion.utils.errors import DataError

FORGOTTEN = "dyfulm.layer_fusion_a.lstm.weight_ih_l0"


@pytest.fixture
def folder(make_model, processor, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def reinitialising(monkeypatch):
    """Loading that gives the weights of a layer new values, and reports nothing, as transformers did."""
    load = PreTrainedModel._load_pretrained_model

    def load_and_forget(model, *args, **kwargs):
        loaded = load(model, *args, **kwargs)
        torch.nn.init.normal_(model.get_parameter(FORGOTTEN), std=0.02)
        return loaded

    monkeypatch.setattr(PreTrainedModel, "_load_pretrained_model", staticmethod(load_and_forget))


def test_every_tensor_has_four_values(folder, make_model):
    fingerprint, weights = read_fingerprint(folder), make_model().state_dict()
    floats = {name.removeprefix("dyfulm.") for name, values in weights.items() if values.is_floating_point()}
    assert fingerprint.keys() == floats
    name = next(name for name, values in weights.items() if values.numel() == 1024)
    expected = weights[name].flatten()[[128, 384, 640, 896]]
    torch.testing.assert_close(torch.tensor(fingerprint[name.removeprefix("dyfulm.")]), expected, rtol=0, atol=0)


def test_loading_that_changes_weights_is_an_error(folder, reinitialising):
    with pytest.raises(ValueError, match=rf"1 of \d+ weights are not those .*{FORGOTTEN[7:]}.*pip install"):
        AutoModelForSequenceClassification.from_pretrained(folder)
    with pytest.raises(ValueError, match="not those that were saved"):
        FusionSentimentPipeline.from_pretrained(folder, device="cpu")
    with pytest.raises(DataError, match="not those that were saved"):
        load_checkpoint(str(folder))
    (folder / FINGERPRINT_FILE).unlink()
    AutoModelForSequenceClassification.from_pretrained(folder)  # of an earlier version: nothing to compare with


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_loading_leaves_without_values(folder, monkeypatch, value):
    load = PreTrainedModel._load_pretrained_model

    def load_and_spoil(model, *args, **kwargs):
        loaded = load(model, *args, **kwargs)
        torch.nn.init.constant_(model.get_parameter(FORGOTTEN), value)
        return loaded

    monkeypatch.setattr(PreTrainedModel, "_load_pretrained_model", staticmethod(load_and_spoil))
    with pytest.raises(ValueError, match=r"1 of \d+ weights are not those"):
        AutoModelForSequenceClassification.from_pretrained(folder)


def test_values_beyond_those_of_float16(folder, make_model):
    model = make_model()
    torch.nn.init.constant_(model.get_parameter(FORGOTTEN), -1e5)
    model.save_pretrained(folder)
    AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float16)


def test_exchanged_weights_are_an_error(folder, make_model, tmp_path):
    other = make_model()
    with torch.no_grad():
        other.get_parameter(FORGOTTEN).mul_(1.02)
    other.save_pretrained(tmp_path / "other")
    (tmp_path / "other/model.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(ValueError, match="the file of weights was exchanged"):
        AutoModelForSequenceClassification.from_pretrained(folder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("saved", [torch.float32, torch.bfloat16])
def test_types_of_weights(folder, make_model, tmp_path, saved, dtype):
    make_model().to(saved).save_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype)
    assert model.dtype == dtype and len(sample_weights(model)) == len(read_fingerprint(folder))
    model.save_pretrained(tmp_path / "again")
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "again", dtype=torch.float32)


def test_parts_of_a_model_shards_and_new_heads(make_model, tmp_path):
    make_model().save_pretrained(tmp_path, max_shard_size="20kB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert set(sample_weights(AutoModel.from_pretrained(tmp_path))) < set(read_fingerprint(tmp_path))
    other = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3, ignore_mismatched_sizes=True)
    assert other.config.num_labels == 3, "transformers reports the new head"


def test_what_is_trained_after_loading_is_saved_with_a_new_fingerprint(folder, processor, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        for values in model.parameters():
            values.add_(0.5)
    FusionSentimentPipeline(model, processor=processor, device="cpu")("Good.")
    model.save_pretrained(folder)
    changed = changed_weights(read_fingerprint(folder), sample_weights(model))
    assert not changed
    AutoModelForSequenceClassification.from_pretrained(folder)


def test_weights_of_a_state_dict(make_model, tmp_path):
    """As `Trainer` saves a model whose weights are spread over processes."""
    model, weights = make_model(), make_model().state_dict()
    with torch.device("meta"):
        empty = DyFuLMForSequenceClassification(model.config)
    assert sample_weights(empty) == {}
    empty.save_pretrained(tmp_path, state_dict=weights)
    saved = read_fingerprint(tmp_path)
    assert saved.keys() == sample_weights(model).keys() and not changed_weights(saved, sample_weights(model))
    AutoModelForSequenceClassification.from_pretrained(tmp_path)


def test_tied_and_non_finite_weights(make_model, tmp_path):
    model = make_model()
    model.dyfulm.encoder_a.encoder.layer[1].output.dense.weight = model.dyfulm.encoder_a.encoder.layer[
        0
    ].output.dense.weight
    with torch.no_grad():
        model.dyfulm.encoder_a.embeddings.word_embeddings.weight.fill_(float("nan"))
    write_fingerprint(model, tmp_path)
    names = read_fingerprint(tmp_path)
    assert "encoder_a.embeddings.word_embeddings.weight" not in names, "JSON has no NaN"
    tied = [names[f"encoder_a.encoder.layer.{i}.output.dense.weight"] for i in range(2)]
    assert tied[0] == tied[1]


def test_adapters(folder, tmp_path):
    pytest.importorskip("peft")
    model = add_lora(AutoModelForSequenceClassification.from_pretrained(folder), "a", rank=2)
    model.save_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "adapter" / FINGERPRINT_FILE).exists()
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "lora" in name:
                values.add_(0.3)
    merged = model.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    assert changed_weights(read_fingerprint(folder), sample_weights(merged))
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")


def test_of_a_dashfusion_with_a_dyfulm_inside(folder, clip_config, tmp_path):
    options = {"audio_feature_size": 4, "vision_feature_size": 5, "hidden_size": 16, "num_attention_heads": 4,
               "alignment_head_size": 4, "num_encoder_layers": 1}  # fmt: skip
    model = DashFusionForSequenceClassification.from_text_encoder(folder, **options)
    model.save_pretrained(tmp_path / "clips")
    names = set(read_fingerprint(tmp_path / "clips"))
    assert any(name.startswith("text_encoder.encoder_b.") for name in names)
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "clips")


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1, "weights": {"a": [null]}}', '{"format": 1}',
                                     '{"format": 1, "weights": {}}', '{"format": 1, "weights": {"a": []}}',
                                     '{"format": 1, "weights": {"a": [NaN, 0, 0, 0]}}'])  # fmt: skip
def test_damaged_files(folder, content):
    (folder / FINGERPRINT_FILE).write_text(content)
    with pytest.raises(ValueError, match="is damaged"):
        AutoModelForSequenceClassification.from_pretrained(folder)


def test_later_formats_are_not_compared(folder):
    (folder / FINGERPRINT_FILE).write_text(json.dumps({"format": 2, "sums": []}))
    AutoModelForSequenceClassification.from_pretrained(folder)
