import json

import pytest
from safetensors.torch import load_file, save_file

from hf_fusion import DashFusionForSequenceClassification, DyFuLMForSequenceClassification
from hf_fusion.deployment.loading import load_checkpoint
from hf_fusion.utils.errors import DataError


@pytest.fixture
def folder(make_model, processor, tmp_path):
    make_model(num_labels=2).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return tmp_path


def test_model_and_processor(folder, clip_model, clip_processor, tmp_path):
    model, processor = load_checkpoint(str(folder))
    assert type(model) is DyFuLMForSequenceClassification and model.config.num_labels == 2 and not model.training
    assert len(processor.tokenizers) == 2
    clip_model().save_pretrained(tmp_path / "clips")
    clip_processor.save_pretrained(tmp_path / "clips")
    assert type(load_checkpoint(str(tmp_path / "clips"))[0]) is DashFusionForSequenceClassification


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weights: weights.pop("classifier.bias"), "has no weights for classifier.bias, 1 parameters in total"),
        (lambda weights: weights.update(more=weights["classifier.bias"].clone()), "unexpected weights: more, 1"),
        (
            lambda weights: weights["classifier.bias"].fill_(float("nan")),
            "classifier.bias hold NaN or infinite values, 1",
        ),
    ],
    ids=["missing", "too many", "nan"],
)
def test_weights_that_are_not_those_of_the_model(folder, change, words):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "weight_fingerprint.json").unlink()  # of the weights before
    with pytest.raises(DataError, match=words):
        load_checkpoint(str(folder))


def test_a_head_of_another_size(folder):
    path = folder / "config.json"
    names = {str(i): f"class {i}" for i in range(5)}
    path.write_text(json.dumps({**json.loads(path.read_text()), "id2label": names, "label2id": None}))
    with pytest.raises(
        DataError,
        match=r"classifier.bias have the shape \(2,\), but the configuration makes it \(5,\): 5 classes, and 2",
    ):
        load_checkpoint(str(folder))


def test_an_export_is_no_checkpoint(folder):
    (folder / "onnx_fusion.json").write_text("{}")
    with pytest.raises(DataError, match=r"is an exported model, which hf_fusion\.deployment\.OnnxFusion loads"):
        load_checkpoint(str(folder))
