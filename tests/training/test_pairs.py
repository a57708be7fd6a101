"""The architectures of pairs of encoders that recipes name, small and with random weights."""

import csv

import pytest
import torch
import yaml
from asserts import assert_close
from tiny_runs import TINY, train

from hf_fusion.deployment import OnnxFusion
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.utils.shipped import find_file

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
# Settings of the published configurations, except for sizes, vocabularies and their special tokens.
_DEBERTA_V3 = {
    "model_type": "deberta-v2", **SMALL, "tokenizer": "unigram", "vocab_size": 300, "relative_attention": True,
    "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": "p2c|c2p",
    "position_biased_input": False, "max_relative_positions": -1, "type_vocab_size": 0, "layer_norm_eps": 1e-7,
}  # fmt: skip
PAIRS = {
    "dyfulm_modernbert": (
        {
            "model_type": "modernbert", **SMALL, "num_hidden_layers": 3, "tokenizer": "bpe", "vocab_size": 300,
            "local_attention": 128,
            "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "local_rope_theta": 10000.0,
            "hidden_activation": "gelu", "norm_bias": False, "norm_eps": 1e-5,
        },
        _DEBERTA_V3,
    ),
    "dyfulm_multilingual": (
        {
            "model_type": "xlm-roberta", **SMALL, "tokenizer": "unigram", "vocab_size": 300, "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
        },
        _DEBERTA_V3,
    ),
}  # fmt: skip
TEXTS = {
    "dyfulm_modernbert": ("the room was {} and the breakfast {}",),
    "dyfulm_multilingual": ("das Zimmer war {} und das Frühstück {}", "部屋は {} 朝食は {}", "الغرفة {} والفطور {}"),
}
WORDS = ["bad", "ok", "good"]
# Tokens of each encoder: more than half of ModernBERT's window, and than DeBERTa's distances with a bucket each.
LONG = {"input_ids": 100, "input_ids_b": 200}


@pytest.fixture(scope="module", params=PAIRS)
def trained(request, tmp_path_factory):
    """The pipeline of a recipe's pair after two steps, and its texts."""
    folder, name = tmp_path_factory.mktemp(request.param), request.param
    texts = [TEXTS[name][i % len(TEXTS[name])].format(WORDS[i % 3], i) for i in range(24)]
    with open(folder / "reviews.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "split"])
        writer.writerows([text, WORDS[i % 3], "train" if i < 16 else "validation"] for i, text in enumerate(texts))
    recipe = yaml.safe_load(find_file(name, "recipe").read_text())
    encoders = dict(zip(("encoder_a", "encoder_b"), PAIRS[name], strict=True))
    quick = {
        field: TINY[field] for field in ("per_device_train_batch_size", "disable_tqdm", "layer_fusion_hidden_size")
    }
    quick |= {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    quick |= {"gradient_accumulation_steps": 1, "bf16": False, "early_stopping_patience": None}
    train({**recipe, **quick, **encoders, "dataset": str(folder / "reviews.csv")}, folder / "run")
    return load_pipeline(str(folder / "run")), texts


def long_text(texts):
    return " ".join(texts * 3)[:1600]


def test_is_the_published_architecture(trained):
    first, second = trained[0].model.dyfulm.encoders.values()
    assert second.encoder.relative_attention and second.encoder.position_buckets == 256
    if first.config.model_type == "modernbert":
        assert first.config.layer_types == ["full_attention", "sliding_attention", "sliding_attention"]
        assert first.config.local_attention == 128
        thetas = {kind: values["rope_theta"] for kind, values in first.config.rope_parameters.items()}
        assert thetas == {"full_attention": 160000, "sliding_attention": 10000}
    else:
        table = first.embeddings.position_embeddings
        assert table.padding_idx == first.config.pad_token_id < table.num_embeddings - 256, "positions begin after it"


def test_answers_do_not_depend_on_neighbours(trained):
    classify, texts = trained
    long = long_text(texts)
    encoded = classify.processor([long], return_tensors="pt")
    assert all(encoded[name].shape[1] > count for name, count in LONG.items())
    together = classify([texts[0], long, texts[1]], batch_size=3)
    assert_close(together, [classify(text) for text in (texts[0], long, texts[1])])


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_padding_on_either_side(trained, implementation):
    """Whatever computes the attention: an answer depends on its text alone."""
    classify, texts = trained
    model, before = classify.model, classify.model.dyfulm.encoder_a.config._attn_implementation
    model.dyfulm.encoder_a.set_attn_implementation(implementation)
    try:
        alone = classify.processor([texts[0]], return_tensors="pt")
        width = alone["input_ids"].shape[1]
        padded = {}
        for name, values in alone.items():
            fill = -1 if name.startswith("span_ids") else 0
            blank = torch.full((1, 150), fill, dtype=values.dtype)
            padded[name] = torch.cat([torch.cat([values, blank], 1), torch.cat([blank, values], 1)])
        with torch.inference_mode():
            expected, found = model(**alone).logits, model(**padded).logits
    finally:
        model.dyfulm.encoder_a.set_attn_implementation(before)
    assert width < 150
    assert_close(found, expected.expand(2, -1))


def test_exports_to_onnx(trained, tmp_path):
    onnx_export = pytest.importorskip("hf_fusion.deployment.onnx_export")
    classify, texts = trained
    inputs = [texts[0], long_text(texts), texts[1]]
    before = classify(inputs)
    onnx_export.export_onnx(classify.model, classify.processor, tmp_path / "onnx", num_checks=3)
    answers = OnnxFusion.from_pretrained(tmp_path / "onnx")(inputs)
    assert [answer["label"] for answer in answers] == [answer["label"] for answer in before]
    assert [answer["score"] for answer in answers] == pytest.approx([answer["score"] for answer in before], abs=1e-4)
