"""Attention of DashFusion by every implementation of transformers, against loops over rows, heads and positions."""

import functools
import math

import pytest
import torch
from torch import nn
from torch.nn.attention import flex_attention as flex
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForSequenceClassification
from transformers.masking_utils import sdpa_mask

from hf_fusion.models.modeling_dashfusion_layers import (
    DashFusionAttention,
    DashFusionMultiSourceAttention,
    attend,
    attention_bias,
)

IMPLEMENTATIONS = ["eager", "sdpa", "flash_attention_2", "flex_attention"]
all_implementations = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def naive_attention(query, key, value, mask, heads):
    """`(batch, length, heads * head)` three times and a mask of the keys -> `(batch, query length, heads * head)`."""
    rows = []
    for q, k, v, real in zip(query, key, value, mask, strict=True):
        k, v, size = k[real], v[real], query.shape[-1] // heads
        out = []
        for i in range(len(q)):
            parts = []
            for part in (slice(h * size, (h + 1) * size) for h in range(heads)):
                weights = torch.stack([q[i, part] @ k[j, part] / math.sqrt(size) for j in range(len(k))]).exp()
                parts.append(sum(weight / weights.sum() * row[part] for weight, row in zip(weights, v, strict=True)))
            out.append(torch.cat(parts))
        rows.append(torch.stack(out))
    return torch.stack(rows)


def flash_without_gpu(query, key, value, attention_mask, query_length, is_causal, **kwargs):
    """The contract of flash attention with sequences of different lengths: packed, and told by where they begin."""
    assert not is_causal and query.shape[1] == query_length
    starts_q, starts_k = kwargs.get("cu_seq_lens_q"), kwargs.get("cu_seq_lens_k")
    if starts_k is None:
        assert attention_mask is None, "the padding of the keys would be taken from the queries"
        starts_q, starts_k = (torch.arange(len(x) + 1) * x.shape[1] for x in (query, key))
    q, k, v = (states.reshape(-1, *states.shape[2:]) for states in (query, key, value))
    assert kwargs.get("max_length_k") is None or kwargs["max_length_k"] >= starts_k.diff().max()
    out = []
    for row in range(len(query)):
        one = [x[starts[row] : starts[row + 1]] for x, starts in ((q, starts_q), (k, starts_k), (v, starts_k))]
        scores = torch.einsum("qhd,khd->hqk", one[0], one[1]) * kwargs["softmax_scale"]
        out.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), one[2]))
    return torch.stack(out)


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    """Flash attention in plain operators, and flex attention that is not compiled."""
    monkeypatch.setattr("transformers.integrations.flash_attention._flash_attention_forward", flash_without_gpu)
    monkeypatch.setattr(
        "transformers.masking_utils.create_block_mask",
        lambda *args, _compile=None, **kwargs: flex.create_block_mask(*args, **kwargs),
    )
    monkeypatch.setattr(
        "transformers.integrations.flex_attention.compile_friendly_flex_attention",
        lambda *args, training=None, **kwargs: flex.flex_attention(*args, **kwargs),
    )


def use(model, implementation):
    """Sets the implementation of the model's own attention."""
    text_implementation = model.config.text_config._attn_implementation
    model.config._attn_implementation = implementation
    model.config.text_config._attn_implementation = text_implementation
    return model


@pytest.fixture
def layer(clip_config):
    """An attention layer of 4 heads of 16."""

    def make(implementation, **fields):
        torch.manual_seed(0)
        config = clip_config(hidden_size=64, attention_probs_dropout_prob=0.0, **fields)
        config._attn_implementation = implementation
        return DashFusionAttention(config, output_projection=False)

    return make


MASKS = {
    "no padding": [[1, 1, 1, 1, 1]] * 3,
    "right": [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]],
    "left": [[1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]],
    "both": [[0, 1, 1, 1, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 1]],
}


class TestAgainstNaiveReference:
    @all_implementations
    @pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
    @pytest.mark.parametrize("num_queries", [1, 3, 5, 8])
    def test_values(self, layer, implementation, mask, num_queries):
        """Also with as many queries as keys, where the padding of the keys is not that of the queries."""
        module, mask = layer(implementation), torch.tensor(mask).bool()
        states, context = torch.randn(3, num_queries, 64), torch.randn(3, 5, 64)
        projected = module.query(states), module.key(context), module.value(context)
        expected = naive_attention(*projected, mask, 4)
        with torch.no_grad():
            found = module(states, context, attention_bias(mask, torch.float32))
        torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("implementation", ["eager", "sdpa", "flash_attention_2"])
    def test_gradients(self, layer, implementation):
        mask = torch.tensor(MASKS["both"]).bool()
        states, context, target = torch.randn(3, 4, 64), torch.randn(3, 5, 64), torch.randn(3, 4, 64)

        def gradients(compute, module):
            inputs = [states.clone().requires_grad_(), context.clone().requires_grad_()]
            (compute(module, *inputs) * target).sum().backward()
            return [tensor.grad for tensor in (*inputs, *module.parameters())]

        def naive(module, states, context):
            return naive_attention(module.query(states), module.key(context), module.value(context), mask, 4)

        def own(module, states, context):
            return module(states, context, attention_bias(mask, torch.float32))

        expected = gradients(naive, layer("eager"))
        for found, grad in zip(gradients(own, layer(implementation)), expected, strict=True):
            torch.testing.assert_close(found, grad, atol=1e-5, rtol=1e-5)

    @all_implementations
    @torch.no_grad()
    def test_weights(self, layer, implementation):
        """Come from eager attention, whatever the implementation, and give padding nothing."""
        module, mask = layer(implementation), torch.tensor(MASKS["both"]).bool()
        query, states = torch.randn(3, 4, 64), torch.randn(3, 5, 64)
        values, weights = attend(module, query, states, states, attention_bias(mask, torch.float32), need_weights=True)
        assert weights.shape == (3, 4, 4, 5) and weights[~mask[:, None, None].expand_as(weights)].abs().max() == 0
        torch.testing.assert_close(values, naive_attention(query, states, states, mask, 4), atol=1e-5, rtol=1e-5)

    def test_dropout_only_in_training(self, clip_config):
        for implementation in ("eager", "sdpa"):
            config = clip_config(attention_probs_dropout_prob=0.5)
            config._attn_implementation = implementation
            module, states = DashFusionAttention(config, output_projection=False), torch.randn(1, 6, 16)
            assert not torch.equal(module(states, states, None), module(states, states, None))
            module.eval()
            assert torch.equal(module(states, states, None), module(states, states, None))


VARIANTS = [{}, {"anchor": "symmetric"}, {"fusion": "concat_attention"}, {"text": "dyfulm"}, {"text": "deberta"}]
all_variants = pytest.mark.parametrize("fields", VARIANTS, ids=["full", "symmetric", "concat", "dyfulm", "deberta"])


@pytest.fixture
def batch(clip_processor, clip_processor_b, clips):
    """Clips of different lengths; some lack a modality. For a text encoder of one or of two tokenizers."""
    processors = {False: clip_processor, True: clip_processor_b}
    return {two: dict(processor(**clips, return_tensors="pt")) for two, processor in processors.items()}


class TestModel:
    @all_variants
    @torch.no_grad()
    def test_all_implementations_agree(self, clip_model, batch, fields):
        model = clip_model(**fields, alignment_head_size=16, num_attention_heads=1)  # flex wants heads of 16
        inputs = batch[model.config.has_two_tokenizations]
        expected = model(**inputs)
        for implementation in IMPLEMENTATIONS:
            found = use(model, implementation)(**inputs)
            torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(found.aligned_embeds, expected.aligned_embeds, atol=1e-5, rtol=1e-5)

    @all_variants
    def test_gradients_of_eager_and_sdpa_agree(self, clip_model, batch, fields):
        gradients = []
        for implementation in ("eager", "sdpa"):
            model = use(clip_model(**fields), implementation)
            model(**batch[model.config.has_two_tokenizations], labels=torch.arange(5.0) - 2).loss.backward()
            gradients.append([parameter.grad for parameter in model.parameters()])
        largest = max(gradient.abs().max().item() for gradient in gradients[0] if gradient is not None)
        for eager, sdpa in zip(*gradients, strict=True):
            assert (eager is None) == (sdpa is None)
            if eager is not None:
                torch.testing.assert_close(eager, sdpa, atol=1e-5 * largest, rtol=1e-5)

    @all_implementations
    @torch.no_grad()
    def test_the_side_of_the_padding_does_not_count(self, clip_model, batch, implementation):
        model, inputs = use(clip_model(), implementation), batch[False]
        flipped = dict(inputs)
        for name in ("audio", "vision"):
            counts = inputs[f"{name}_attention_mask"].sum(1).tolist()
            for field in (f"{name}_features", f"{name}_attention_mask"):
                rolled = [row.roll(len(row) - n, 0) for row, n in zip(inputs[field], counts, strict=True)]
                flipped[field] = torch.stack(rolled)
        assert not torch.equal(flipped["audio_attention_mask"], inputs["audio_attention_mask"])
        torch.testing.assert_close(model(**flipped).logits, model(**inputs).logits, atol=1e-5, rtol=1e-5)

    @all_implementations
    @torch.no_grad()
    def test_a_modality_that_all_clips_lack(self, clip_model, batch, implementation):
        """Is the same without its tensors and with masks of zeros."""
        model = use(clip_model(), implementation)
        without = {name: values for name, values in batch[False].items() if not name.startswith("audio")}
        empty = batch[False] | {"audio_attention_mask": torch.zeros_like(batch[False]["audio_attention_mask"])}
        torch.testing.assert_close(model(**empty).logits, model(**without).logits, atol=1e-5, rtol=1e-5)


class TestChoice:
    @pytest.fixture
    def calls(self, monkeypatch):
        """Counts the calls of torch's fused attention."""
        count, fused = [], nn.functional.scaled_dot_product_attention
        monkeypatch.setattr(
            nn.functional,
            "scaled_dot_product_attention",
            functools.wraps(fused)(lambda *args, **kwargs: (count.append(1), fused(*args, **kwargs))[1]),
        )
        return count

    @torch.no_grad()
    def test_eager_is_eager(self, clip_model, batch, calls):
        model = clip_model()
        assert model.config._attn_implementation == "sdpa"
        model(**batch[False])
        fused = len(calls)
        model.set_attn_implementation("eager")
        model(**batch[False])
        assert len(calls) == fused
        assert fused == 3 + 2 + 2 + 2 * (1 + 3 + 3), "text, frames, alignment, fusion"

    @torch.no_grad()
    def test_when_loading(self, clip_model, batch, calls, tmp_path):
        clip_model().save_pretrained(tmp_path)
        load = functools.partial(AutoModelForSequenceClassification.from_pretrained, tmp_path)
        load(attn_implementation="eager")(**batch[False])
        assert not calls
        load(attn_implementation={"": "eager"})(**batch[False])
        assert len(calls) == 3, "the text encoder's"
        assert load().config._attn_implementation == load(attn_implementation="sdpa").config._attn_implementation

    @torch.no_grad()
    def test_own_attention_of_a_user(self, clip_model, batch):
        """`_supports_attention_backend`: any registered function is called, for each attention of the model."""
        model, seen = clip_model(), []
        expected = model(**batch[False]).logits

        def attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
            seen.append(type(module))
            assert module.is_causal is False and attention_mask.dtype == torch.bool
            scores = (query @ key.transpose(-1, -2) * scaling).masked_fill(~attention_mask, -torch.inf)
            return (scores.softmax(-1) @ value).transpose(1, 2).contiguous(), None

        AttentionInterface.register("own_attention", attention)
        AttentionMaskInterface.register(
            "own_attention", lambda **kwargs: sdpa_mask(**{**kwargs, "allow_is_bidirectional_skip": False})
        )
        found = use(model, "own_attention")(**batch[False]).logits
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert seen.count(DashFusionAttention) == 2 + 2 * 4 and seen.count(DashFusionMultiSourceAttention) == 2 + 2 * 3

    def test_flex_refuses_dropout(self, clip_model, batch):
        """transformers says so; a model that is trained with flex attention needs attention dropout 0."""
        model = use(clip_model(), "flex_attention").train()
        with pytest.raises(ValueError, match="does not support `dropout`"):
            model(**batch[False])

    @torch.no_grad()
    def test_output_attentions(self, clip_model, batch):
        model = clip_model()
        with pytest.raises(ValueError, match=r"no attentions with sdpa attention.*attn_implementation='eager'"):
            model(**batch[False], output_attentions=True)
        model.set_attn_implementation("eager")
        attentions = model(**batch[False], output_attentions=True).attentions
        assert len(attentions) == 3
        torch.testing.assert_close(attentions[0].sum(-1), torch.ones(attentions[0].shape[:-1]))
