"""Students as plain classifiers of transformers."""

import json
import os

import numpy as np
import pytest
import torch
from conftest import TEXTS, encoder_config
from fresh_python import run_fresh
from safetensors import safe_open
from transformers import CamembertConfig, MPNetConfig, RobertaConfig, XLMRobertaConfig

from hf_fusion import DyFuLMProcessor, FusionSentimentPipeline
from hf_fusion.deployment import sequence_classifier
from hf_fusion.deployment.export_folder import ExportError
from hf_fusion.deployment.sequence_classifier import export_sequence_classifier, to_sequence_classifier

PLAIN = {"cross_fusion": "a", "layer_fusion": "last", "pooling": "first", "use_guidance": False}
# As a server loads the folder: nothing of this package, no code from the folder.
STRANGER = """
import json, sys
sys.modules["hf_fusion"] = None
import torch
from transformers import AutoModelForSequenceClassification, pipeline
torch.set_num_threads(1)
folder, texts = sys.argv[1], json.loads(sys.argv[2])
model, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
classify = pipeline("text-classification", model=folder, device="cpu")
print("RESULT", json.dumps({
    "class": [type(model).__module__, type(model).__name__], "answers": classify(texts, top_k=None, truncation=True),
    "problems": [*report["missing_keys"], *report["unexpected_keys"]]}))
"""


def load_as_stranger(folder, texts, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = run_fresh(STRANGER, folder, json.dumps(texts), cwd=cwd, env=environment)
    assert process.returncode == 0, process.stderr[-3000:]
    line = next(line for line in process.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


def tiny(config_class, **fields):
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return config_class(**{**shared, "vocab_size": 600, "max_position_embeddings": 64, **fields})


ENCODERS = {
    "bert": encoder_config("bert"),
    "roberta": tiny(RobertaConfig, pad_token_id=0),
    "xlm-roberta": tiny(XLMRobertaConfig, pad_token_id=0),
    "camembert": tiny(CamembertConfig, pad_token_id=0),
    "mpnet": tiny(MPNetConfig, pad_token_id=0),
}


class TestConversion:
    @pytest.mark.parametrize("kind", ENCODERS)
    @torch.no_grad()
    def test_logits_agree(self, make_model, wordpiece, kind):
        model = make_model(encoder_a_config=ENCODERS[kind], **PLAIN)
        classifier = to_sequence_classifier(model)
        assert classifier.config.model_type == kind and type(classifier).__name__.endswith("ForSequenceClassification")
        batch = DyFuLMProcessor(wordpiece, max_length=40)(list(TEXTS), return_tensors="pt")
        expected = model(**batch).logits
        found = classifier(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert expected.std() > 0.1

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"cross_fusion": "gate", "pooling": "attention"}, ["cross_fusion a or b (it is gate)", "pooling first"]),
            ({"layer_fusion": "bilstm"}, ["layer_fusion last (it is bilstm)"]),
            ({"layer_fusion": "mean"}, ["layer_fusion last (it is mean)"]),
            ({"pooling": "attention"}, ["pooling first (it is attention)"]),
            ({"use_guidance": True}, ["use_guidance false (it is true)"]),
            ({"fine_loss": "corn"}, ["fine_loss cross_entropy or ordinal_log_loss (it is corn"]),
            ({"fusion_hidden_size": 20}, ["fusion_hidden_size 32 (it is 20)"]),
            ({"a": "deberta"}, ["encoder_a of the family Bert, Camembert", "(it is deberta-v2)"]),
            (
                {"layer_fusion": "mean", "pooling": "attention", "use_guidance": True},
                ["layer_fusion last (it is mean), pooling first (it is attention), use_guidance false (it is true)"],
            ),
        ],
    )
    def test_what_no_classifier_computes_is_refused(self, make_model, fields, words):
        model = make_model(**{**PLAIN, "a": "bert", **fields})
        with pytest.raises(ExportError, match="No classifier of transformers computes the same") as error:
            to_sequence_classifier(model)
        for word in words:
            assert word in str(error.value)
        other = {"layer_fusion", "pooling", "use_guidance", "fusion_hidden_size"} - {*fields, "cross_fusion"}
        assert not any(f"{name} " in str(error.value) for name in other), "fields that fit are not named"

    def test_a_dashfusion_is_refused(self, clip_model):
        with pytest.raises(ExportError, match=r"Only a DyFuLM .* this is a dashfusion"):
            to_sequence_classifier(clip_model())


@pytest.fixture
def student(make_model, wordpiece):
    """A pipeline with names of its own for the classes; texts are cut to 20 tokens."""
    model = make_model(**PLAIN, a="bert", id2label={i: f"class {i}" for i in range(5)})
    return FusionSentimentPipeline(model, processor=DyFuLMProcessor(wordpiece, max_length=20), device="cpu")


class TestFolder:
    def test_loads_in_transformers_alone_with_the_same_probabilities(self, student, tmp_path):
        description = export_sequence_classifier(student.model, student.processor, tmp_path / "out")
        texts = [*TEXTS, "The room was good. " * 50]
        result = load_as_stranger(tmp_path / "out", texts, tmp_path)
        assert result["class"] == ["transformers.models.bert.modeling_bert", "BertForSequenceClassification"]
        assert not result["problems"]
        for found, expected in zip(result["answers"], student(texts, top_k=None, long_texts="cut"), strict=True):
            scores = {answer["label"]: answer["score"] for answer in found}
            assert scores == pytest.approx({answer["label"]: answer["score"] for answer in expected}, abs=1e-5)
            assert set(scores) == {f"class {i}" for i in range(5)}
        assert description["left_out"] == ["coarse_logits", "intensity"] and description["onnx"] is None
        assert description["check"]["largest_difference"] <= 1e-5

    def test_probabilities_are_calibrated(self, student, tmp_path):
        student.model.config.temperature, student.model.config.abstain_below = 3.0, 0.5
        description = export_sequence_classifier(student.model, student.processor, tmp_path / "out")
        assert description["left_out"] == ["coarse_logits", "intensity", "abstain_below"]
        answers = load_as_stranger(tmp_path / "out", list(TEXTS), tmp_path)["answers"]
        for found, expected in zip(answers, student(list(TEXTS), top_k=None, long_texts="cut"), strict=True):
            assert [one["score"] for one in found] == pytest.approx([one["score"] for one in expected], abs=1e-5)

    def test_has_what_servers_read(self, student, tmp_path):
        """Text Embeddings Inference: classes and sizes in config.json, tokenizer.json, safetensors, the limit."""
        folder = tmp_path / "out"
        export_sequence_classifier(student.model, student.processor, folder)
        config = json.loads((folder / "config.json").read_text())
        assert config["architectures"] == ["BertForSequenceClassification"] and config["model_type"] == "bert"
        assert config["id2label"] == {str(i): f"class {i}" for i in range(5)}
        assert config["label2id"] == {f"class {i}": i for i in range(5)}
        assert isinstance(config["max_position_embeddings"], int) and isinstance(config["pad_token_id"], int)
        assert "auto_map" not in config and not list(folder.glob("*.py"))
        assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == 20
        assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 20
        assert json.loads((folder / "tokenizer.json").read_text())["model"]["type"] == "WordPiece"
        with safe_open(folder / "model.safetensors", "pt") as weights:
            names = set(weights.keys())
        assert {"bert.embeddings.word_embeddings.weight", "bert.pooler.dense.weight", "classifier.bias"} <= names
        assert {path.name for path in folder.iterdir()} == {
            "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json",
            "sequence_classification.json",
        }  # fmt: skip
        assert not any(str(tmp_path) in path.read_text() for path in folder.glob("*.json"))

    def test_encoder_b_and_its_tokenizer(self, make_model, bpe, wordpiece, tmp_path):
        model = make_model(**{**PLAIN, "cross_fusion": "b"}, b="bert")
        processor = DyFuLMProcessor(bpe, wordpiece, max_length=30)
        export_sequence_classifier(model, processor, tmp_path / "out")
        (found,) = load_as_stranger(tmp_path / "out", ["The bar was not bad."], tmp_path)["answers"]
        (expected,) = FusionSentimentPipeline(model, processor=processor, device="cpu")(["The bar was not bad."])
        assert found[0]["label"] == expected["label"] and found[0]["score"] == pytest.approx(
            expected["score"], abs=1e-5
        )

    def test_a_difference_is_not_written(self, student, tmp_path, monkeypatch):
        convert = sequence_classifier.to_sequence_classifier

        def wrong(model):
            classifier = convert(model)
            with torch.no_grad():
                classifier.classifier.bias[0] += 0.01
            return classifier

        monkeypatch.setattr(sequence_classifier, "to_sequence_classifier", wrong)
        with pytest.raises(ExportError, match=r"a probability is off by 0\.00\d+ \(allowed: 1e-05\). Nothing was"):
            export_sequence_classifier(student.model, student.processor, tmp_path / "out")
        assert list(tmp_path.iterdir()) == []

    def test_other_folders_are_left_alone_and_earlier_exports_replaced(self, student, tmp_path):
        (tmp_path / "thesis.txt").touch()
        with pytest.raises(ExportError, match="not an earlier export: choose another folder"):
            export_sequence_classifier(student.model, student.processor, tmp_path)
        for name in ("first", "second"):
            export_sequence_classifier(student.model, student.processor, tmp_path / "out")
            assert not (tmp_path / "out/first").exists()
            (tmp_path / "out" / name).touch()

    def test_a_slow_tokenizer(self, student, tmp_path, monkeypatch):
        monkeypatch.setattr(type(student.processor.tokenizer), "is_fast", False)
        with pytest.raises(ExportError, match=r"slow tokenizer without tokenizer\.json"):
            export_sequence_classifier(student.model, student.processor, tmp_path / "out")

    def test_graph(self, student, tmp_path):
        pytest.importorskip("onnxscript")
        ort = pytest.importorskip("onnxruntime")
        names = ["input_ids", "attention_mask"]  # of its tokenizer; BERT's own has token_type_ids, too
        description = export_sequence_classifier(
            student.model, student.processor, tmp_path / "out", onnx=True, num_checks=10
        )
        assert description["onnx"]["batches"] == 10 and 0 < description["onnx"]["largest_difference"] < 1e-4
        session = ort.InferenceSession(tmp_path / "out/onnx/model.onnx")
        assert sorted(node.name for node in session.get_inputs()) == sorted(names)
        assert all(node.shape == ["batch", "tokens"] for node in session.get_inputs())
        batch = student.processor.tokenizer(
            list(TEXTS), padding=True, truncation=True, max_length=20, return_tensors="np"
        )
        (logits,) = session.run(["logits"], {name: batch[name].astype(np.int64) for name in names})
        probabilities = torch.tensor(logits).softmax(-1)
        for row, answer in zip(probabilities, student(list(TEXTS), long_texts="cut"), strict=True):
            assert row.max().item() == pytest.approx(answer["score"], abs=1e-5)

    def test_a_graph_of_something_else_is_not_written(self, student, tmp_path, monkeypatch):
        pytest.importorskip("onnxscript")
        save = sequence_classifier.save_graph

        def wrong(classifier, *args):
            with torch.no_grad():
                classifier.classifier.bias.add_(0.01)
                save(classifier, *args)
                classifier.classifier.bias.sub_(0.01)

        monkeypatch.setattr(sequence_classifier, "save_graph", wrong)
        with pytest.raises(ExportError, match=r"a logit is off by 0\.01 .*Nothing was written"):
            export_sequence_classifier(student.model, student.processor, tmp_path / "out", onnx=True, num_checks=3)
        assert list(tmp_path.iterdir()) == []
