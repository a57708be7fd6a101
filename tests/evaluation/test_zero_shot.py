"""Baselines that answer without training, with tiny random models."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM
from transformers.pipelines import PIPELINE_REGISTRY

from hf_fusion.data.tokenizers import train_tokenizer
from hf_fusion.evaluation.zero_shot import TASKS, ZeroShotBaseline
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.extras import MissingExtraError

NAMES = ["awful", "fair", "good"]
TEXTS = ["The room was good.", "An awful bed, and nothing was clean.", "fair"]
HAS_DECISION = "decision" in PIPELINE_REGISTRY.get_supported_tasks()
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = train_tokenizer([*TEXTS, "A B C D E", "The guest felt awful fair good"], "wordpiece", 200)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return tokenizer


@pytest.fixture(scope="module")
def nli(tokenizer, tmp_path_factory):
    """A random model of natural language inference with large weights, so that its answers differ."""
    torch.manual_seed(0)
    names = {0: "contradiction", 1: "neutral", 2: "entailment"}
    ids = {name: i for i, name in names.items()}
    config = BertConfig(vocab_size=len(tokenizer), **SMALL, id2label=names, label2id=ids, initializer_range=0.5)
    folder = tmp_path_factory.mktemp("nli")
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def chat(tokenizer, tmp_path_factory):
    """A random causal language model."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("chat")
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer) + 8, **SMALL, initializer_range=0.5)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def entailment(folder, tokenizer, text, sentence):
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(**tokenizer(text, sentence, return_tensors="pt")).logits[0, 2].item()


def test_entailment(nli, tokenizer):
    model = ZeroShotBaseline("zero-shot-classification", nli, prompt="The guest felt {}.", batch_size=2).load()
    found = model.class_probabilities(TEXTS, NAMES)
    for text, row in zip(TEXTS, found, strict=True):
        logits = [entailment(nli, tokenizer, text, f"The guest felt {name}.") for name in NAMES]
        assert row == pytest.approx(torch.tensor(logits).softmax(0).numpy(), abs=1e-5)
    assert np.ptp(found, axis=1).min() > 0.01, "the answers differ"
    assert model.num_parameters == sum(
        p.numel() for p in BertForSequenceClassification.from_pretrained(nli).parameters()
    )


def test_the_words_of_the_labels_are_those_that_are_asked_for(nli):
    ask = ZeroShotBaseline("zero-shot-classification", nli).load().class_probabilities
    swapped = ZeroShotBaseline("zero-shot-classification", nli, ["good", "fair", "awful"]).load().class_probabilities
    np.testing.assert_allclose(swapped(TEXTS, NAMES), ask(TEXTS, NAMES)[:, ::-1], atol=1e-6)
    for labels in (["bad", "good"], ["bad", "bad", "good"]):
        model = ZeroShotBaseline("zero-shot-classification", nli, labels).load()
        with pytest.raises(
            RecipeError, match=r"`labels` must have a word of its own for each of the classes awful, fair"
        ):
            model.class_probabilities(TEXTS, NAMES)


def test_batches_do_not_change_answers(nli):
    steps = []
    one, many = (ZeroShotBaseline("zero-shot-classification", nli, batch_size=size).load() for size in (1, 3))
    found = one.class_probabilities(TEXTS, NAMES, track=lambda starts: steps.extend(starts) or starts)
    np.testing.assert_allclose(found, many.class_probabilities(TEXTS, NAMES), atol=1e-5)
    assert steps == [0, 1, 2] and one.class_probabilities([], NAMES).shape == (0, 3)


@pytest.mark.skipif(not HAS_DECISION, reason="transformers is older than 5.24")
def test_a_language_model_decides(chat, tokenizer):
    found = ZeroShotBaseline("decision", chat, prompt="How was it?").load().class_probabilities(TEXTS, NAMES)
    assert found.shape == (3, 3) and found.sum(1) == pytest.approx(1, abs=1e-5)
    assert np.ptp(found, axis=1).min() > 1e-3 and np.ptp(found, axis=0).min() > 0
    prompt = f"{TEXTS[0]}\n\nHow was it?\nA. awful\nB. fair\nC. good\n"
    prompt += "Answer with the letter of the level that fits best (A to C) only."
    model = LlamaForCausalLM.from_pretrained(chat).eval()
    letters = [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(letter))[0] for letter in "ABC"]
    with torch.inference_mode():
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        logits = model(ids).logits[0, -1, letters]
    assert found[0] == pytest.approx(logits.softmax(0).numpy(), abs=1e-5)


def test_a_transformers_without_decisions(chat, monkeypatch):
    monkeypatch.setattr(PIPELINE_REGISTRY, "get_supported_tasks", lambda: ["text-classification"])
    with pytest.raises(RecipeError, match=r"has no pipeline 'decision': pip install -U 'transformers>=5.24'"):
        ZeroShotBaseline("decision", chat).load()


class TestGliclass:
    """Against the interface of the package, which need not be installed."""

    @pytest.fixture
    def calls(self, monkeypatch, nli):
        """Puts a package in its place; returns what it is asked."""
        calls = []

        def answer(texts, labels, threshold, batch_size):
            calls.append((texts, labels, threshold))
            scores = [0.2, 0.5, 0.9]
            return [[{"label": label, "score": s} for label, s in zip(labels, scores, strict=True)] for _ in texts]

        def make(model, tokenizer, **options):
            calls.append(options)
            return answer

        package = ModuleType("gliclass")
        load = {"revision": None, "use_safetensors": True}
        package.GLiClassModel = SimpleNamespace(from_pretrained=lambda name, **options: calls.append(options == load) or
                                                torch.nn.Linear(2, 3))  # fmt: skip
        package.ZeroShotClassificationPipeline = make
        monkeypatch.setitem(sys.modules, "gliclass", package)
        return calls

    def test_softmax_of_the_labels(self, nli, calls):
        baseline = ZeroShotBaseline("gliclass", nli, prompt="sentiment: {}", device="cpu", batch_size=2)
        model = baseline.load()
        found = model.class_probabilities(TEXTS, NAMES)
        odds = np.array([0.2 / 0.8, 1, 0.9 / 0.1])
        assert found == pytest.approx(np.tile(odds / odds.sum(), (3, 1))) and model.num_parameters == 9
        assert calls.pop(0) is True
        assert calls[0] == {"classification_type": "multi-label", "device": "cpu", "progress_bar": False}
        assert [call[0] for call in calls[1:]] == [TEXTS[:2], TEXTS[2:]]
        assert calls[1][1] == ["sentiment: awful", "sentiment: fair", "sentiment: good"] and calls[1][2] < 0

    def test_an_encoder_with_code_of_its_own(self, nli, calls, tmp_path):
        (tmp_path / "config.json").write_text('{"encoder_config": {"model_type": "mine"}}')
        with pytest.raises(RecipeError, match=r"the encoder 'mine' of .* set `trust_remote_code`, or choose another"):
            ZeroShotBaseline("gliclass", str(tmp_path)).load()
        assert not calls

    def test_without_the_package(self, nli, monkeypatch):
        monkeypatch.setitem(sys.modules, "gliclass", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'hf-fusion\[gliclass\]'"):
            ZeroShotBaseline("gliclass", nli).load()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"task": "x", "model": "m"}, f"`task` must be one of {', '.join(TASKS)}, got 'x'"),
        ({"task": "decision"}, "must be a mapping with task and model"), ("m", "must be a mapping with task and model"),
        ({"task": "decision", "model": "m", "label": []}, "unknown field label; known are task, model, labels"),
        ({"task": "decision", "model": "m", "prompt": "{}?"}, "the `prompt` of decision is a question, without {}"),
        ({"task": "gliclass", "model": "m", "prompt": "It is good."}, "the `prompt` of gliclass needs {}"),
        ({"task": "gliclass", "model": "m", "batch_size": 0}, "`batch_size` must be at least 1"),
        ({"task": "gliclass", "model": 3}, "model"),
    ],
)  # fmt: skip
def test_fields_that_are_none(fields, words):
    with pytest.raises(RecipeError) as error:
        ZeroShotBaseline.from_fields(fields)
    assert words in str(error.value)


def test_no_code_of_the_model_runs_by_default(nli, monkeypatch):
    seen = {}
    monkeypatch.setattr("hf_fusion.evaluation.zero_shot.pipeline", lambda task, **options: seen.update(options) or
                        SimpleNamespace(model=torch.nn.Linear(1, 1)))  # fmt: skip
    ZeroShotBaseline("zero-shot-classification", nli).load()
    assert seen["trust_remote_code"] is False and seen["model_kwargs"] == {"use_safetensors": True}
