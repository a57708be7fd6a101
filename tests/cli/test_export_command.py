"""The export: once as a user runs it, on a LoRA run that was not merged."""

import re

import pytest
import torch
from conftest import encoder_config
from tiny_runs import script, script_here
from transformers import AutoModelForSequenceClassification

from hf_fusion import DyFuLMConfig, DyFuLMForSequenceClassification, DyFuLMProcessor
from hf_fusion.deployment import OnnxFusion
from hf_fusion.deployment.predictions import load_pipeline


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, bpe):
    """One encoder, and an adapter that changes what it says."""
    pytest.importorskip("peft")
    from hf_fusion.deployment.adapters import add_lora

    folder = tmp_path_factory.mktemp("lora")
    config = DyFuLMConfig(encoder_config("bert", num_hidden_layers=1), cross_fusion="a", layer_fusion="mean")
    torch.manual_seed(1)
    DyFuLMForSequenceClassification(config).save_pretrained(folder / "base")
    model = add_lora(AutoModelForSequenceClassification.from_pretrained(folder / "base"), "a")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "classifier" in name:
                parameter.normal_(std=0.5)
    model.save_pretrained(folder)
    DyFuLMProcessor(bpe, max_length=30).save_pretrained(folder)
    return folder


@pytest.fixture
def export(monkeypatch):
    return script_here("export", monkeypatch)


def test_help_teaches(export, capsys):
    assert export("--help") == 0
    text = capsys.readouterr().out
    assert "hf-fusion export" in text and "OnnxFusion.from_pretrained" in text


def test_exports_what_the_pipeline_says(checkpoint, tmp_path):
    pytest.importorskip("onnxscript")
    process = script("export", checkpoint, tmp_path / "out", "--checks", 5)
    assert process.returncode == 0, process.stderr
    found = re.search(r"Largest difference to PyTorch over 5 batches: (\S+) \((\w+)\)", process.stdout)
    assert 0 <= float(found[1]) < 1e-4 and "5/5" in process.stderr, "a progress bar"
    texts = ["The room was not bad.", "?", "good " * 60]
    answers, expected = OnnxFusion.from_pretrained(tmp_path / "out")(texts), load_pipeline(checkpoint)(texts)
    for answer, wanted in zip(answers, expected, strict=True):
        assert answer["label"] == wanted["label"] and answer["score"] == pytest.approx(wanted["score"], abs=1e-4)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["no/such/run", "out"], "hf-fusion export: no/such/run"),
        (["no/such/run", "out", "--checks", "0"], "--checks must be at least 1, got 0"),
        (["run", "out", "--with_graph"], "--with_graph is for --format sequence-classification"),
        (["run", "out", "--int8", "--format", "sequence-classification"], "--int8 is for --format onnx"),
    ],
)
def test_wrong_calls(export, capsys, args, words):
    assert export(*args) == 2
    assert words in capsys.readouterr().err


def test_a_folder_with_something_else_is_left_alone(export, capsys, checkpoint, tmp_path):
    (tmp_path / "thesis.txt").touch()
    assert export(checkpoint, tmp_path) == 2
    assert "is not an earlier export: choose another folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_plain_classifier(export, capsys, make_model, wordpiece, tmp_path):
    fields = {"cross_fusion": "a", "a": "bert", "layer_fusion": "last", "pooling": "first", "use_guidance": False}
    make_model(**fields).save_pretrained(tmp_path / "student")
    DyFuLMProcessor(wordpiece, max_length=30).save_pretrained(tmp_path / "student")
    assert "DyFuLMProcessor" in (tmp_path / "student/tokenizer_config.json").read_text()
    assert export(tmp_path / "student", tmp_path / "out", "--format", "sequence-classification") == 0
    printed = capsys.readouterr().out
    assert "Largest difference of a probability to the checkpoint: " in printed
    assert "Left out: coarse_logits, intensity. Texts are cut to 30 tokens" in printed
    assert f"Written: {tmp_path / 'out'} (BertForSequenceClassification)" in printed
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert type(model).__name__ == "BertForSequenceClassification"
    assert not [path.name for path in (tmp_path / "out").glob("*.json") if "DyFuLM" in path.read_text()]


def test_a_checkpoint_that_is_no_plain_classifier(export, capsys, checkpoint, tmp_path):
    assert export(checkpoint, tmp_path / "out", "--format", "sequence-classification") == 2
    message = capsys.readouterr().err
    assert "with layer_fusion last (it is mean), pooling first (it is attention), use_guidance false" in message
    assert not (tmp_path / "out").exists()
