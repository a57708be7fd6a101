import math

import pytest
import torch
from asserts import assert_close, assert_same_weights
from conftest import encoder_config
from torch import nn
from transformers import AutoModel

from hf_fusion import (
    DashFusionConfig,
    DashFusionForSequenceClassification,
    DyFuLMForSequenceClassification,
)

VARIANTS = [
    {},
    {"temporal_alignment": False},
    {"anchor": "audio"},
    {"anchor": "vision"},
    {"anchor": "symmetric"},
    {"fusion": "concat_attention"},
    {"fusion": "concat"},
    {"fusion": "concat", "temporal_alignment": False, "anchor": "symmetric"},
    {"num_bottleneck_tokens": 1, "num_fusion_layers": 3},
    {"text": "roberta"},
    {"text": "deberta"},
    {"text": "dyfulm"},
    {"num_labels": 4},
    {"frame_statistics": True},
]


def _id(fields):
    return "-".join(f"{k}={v}" for k, v in fields.items()) or "full"


all_variants = pytest.mark.parametrize("fields", VARIANTS, ids=_id)


@pytest.fixture
def batch_of(clip_processor, clip_processor_b):
    """The tensors of some of the clips, for a model."""

    def make(model, clips, rows=None, **options):
        processor = clip_processor_b if model.config.text_config.model_type == "dyfulm" else clip_processor
        rows = range(len(clips["text"])) if rows is None else rows
        columns = {name: [values[i] for i in rows] for name, values in clips.items()}
        return dict(processor(**columns, return_tensors="pt", **options))

    return make


def complete(clips):
    """Only the clips that have all three modalities."""
    return {name: values[:2] for name, values in clips.items()}


class TestAgainstNaiveReference:
    """The paper's formulas, once more with loops over clips, heads and positions, on unpadded input."""

    def attention(self, query, key, value, heads):
        size = query.shape[-1] // heads
        out = torch.zeros(len(query), heads * size)
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            for i in range(len(query)):
                scores = [float(query[i, part] @ key[j, part]) / math.sqrt(size) for j in range(len(key))]
                total = sum(math.exp(score) for score in scores)
                for score, row in zip(scores, value, strict=True):
                    out[i, part] += math.exp(score) / total * row[part]
        return out

    def layer(self, module, x, context):
        attention = module.attention
        query, key, value = attention.query(x), attention.key(context), attention.value(context)
        x = x + module.attention_norm(self.attention(query, key, value, 4))
        return x + module.feed_forward_norm(module.feed_forward(x))

    def sources(self, module, x, streams):
        query = module.query(x)
        return sum(
            self.attention(query, module.keys[name](streams[name]), module.values[name](streams[name]), 4)
            for name in module.keys
        )

    def frames(self, encoder, features):
        token = encoder.class_token[0]
        if encoder.statistics is not None:
            deviation = (features.var(0, correction=0) + 1e-6).sqrt()
            token = token + encoder.statistics(torch.cat([features.mean(0), deviation]))
        x = torch.cat([token, encoder.projection(features)])
        x = x + encoder.position_embeddings[0, : len(x)]
        for module in encoder.layers:
            attention = module.attention
            found = self.attention(attention.query(x), attention.key(x), attention.value(x), 4)
            x = module.attention_norm(x + attention.out_proj(found))
            x = module.feed_forward_norm(x + module.feed_forward(x))
        return encoder.layer_norm(x)

    def forward(self, model, batch, row):
        base = model.dashfusion
        real = {
            name: batch[f"{name}_features"][row][batch[f"{name}_attention_mask"][row].bool()]
            for name in ("audio", "vision")
        }
        tokens = batch["input_ids"][row][batch["attention_mask"][row].bool()]
        hidden = base.text_encoder(input_ids=tokens[None]).last_hidden_state[0]
        projector, gelu = base.text_projector, nn.functional.gelu
        streams = {"text": projector.layer_norm(gelu(projector.out_proj(gelu(projector.dense(hidden)))))}
        streams |= {name: self.frames(getattr(base, f"{name}_encoder"), real[name]) for name in real}
        alignment = base.temporal_alignment["text"]
        tokens = streams["text"] + alignment.out_proj(self.sources(alignment.attention, streams["text"], streams))
        aligned = tokens
        for level, module in enumerate(base.fusion.levels):
            tokens = self.layer(module.compression, tokens, tokens)[: max(4 // 2**level, 1)]
            tokens = module.attention_norm(tokens + self.sources(module.attention, tokens, streams))
            tokens = module.feed_forward_norm(tokens + module.feed_forward(tokens))
            streams = {name: self.layer(module.expansion[name], x, tokens) for name, x in streams.items()}
        fused = torch.cat([tokens[0], *(streams[name][0] for name in ("text", "audio", "vision"))])
        return model.classifier(fused), aligned

    @pytest.mark.parametrize("frame_statistics", [False, True])
    @torch.no_grad()
    def test_outputs_agree(self, clip_model, batch_of, clips, frame_statistics):
        model = clip_model(frame_statistics=frame_statistics)
        batch = batch_of(model, complete(clips))
        outputs, base = model(**batch), model.dashfusion(**batch)
        for row in range(2):
            logits, aligned = self.forward(model, batch, row)
            torch.testing.assert_close(outputs.logits[row], logits, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(base.last_hidden_state[row, : len(aligned)], aligned, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(base.aligned_embeds[row], aligned.mean(0), atol=1e-4, rtol=1e-4)


class TestIndependence:
    @pytest.mark.parametrize("text", ["bert", "dyfulm"])
    @torch.no_grad()
    def test_the_side_of_the_padding_does_not_count(self, clip_model, batch_of, clips, text):
        model = clip_model(text)
        expected = model(**batch_of(model, clips)).logits
        batch = batch_of(model, clips)
        flipped = {}
        for name, values in batch.items():
            flipped[name] = values
            if name.startswith(("input_ids", "attention_mask", "span_ids", "token_type_ids")):
                counts = batch["attention_mask" + ("_b" if name.endswith("_b") else "")].sum(1)
                flipped[name] = torch.stack(
                    [row.roll(len(row) - int(n)) for row, n in zip(values, counts, strict=True)]
                )
        torch.testing.assert_close(model(**flipped).logits, expected, atol=1e-5, rtol=1e-5)

    @all_variants
    @torch.no_grad()
    def test_frames_padded_on_the_left(self, clip_model, batch_of, clips, fields):
        model = clip_model(**fields)
        batch = batch_of(model, clips)
        expected = model(**batch, output_fusion=True)
        for name in ("audio", "vision"):
            mask = batch[f"{name}_attention_mask"]
            for kind in ("features", "attention_mask"):
                batch[f"{name}_{kind}"] = torch.stack([
                    row.roll(len(row) - int(n), 0) for row, n in zip(batch[f"{name}_{kind}"], mask.sum(1), strict=True)
                ])  # fmt: skip
            assert not batch[f"{name}_attention_mask"][:, 0].all()
            batch[f"{name}_features"][batch[f"{name}_attention_mask"] == 0] = float("nan")
        found = model(**batch, output_fusion=True)
        for name in ("logits", "audio_embeds", "vision_embeds", "aligned_embeds"):
            torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5)

    @torch.no_grad()
    def test_a_trace_of_whole_clips_masks_padding(self, clip_model):
        """Attention without padding is a branch on values: a graph must not keep the one that its example took."""
        model = clip_model().requires_grad_(False)
        features, mask = torch.randn(2, 6, 3), torch.ones(2, 6)

        def scores(features, mask):
            return model(audio_features=features, audio_attention_mask=mask).logits

        with torch.no_grad():
            traced = torch.jit.trace(scores, (features, mask), check_trace=False)
            mask[1, 3:] = 0
            torch.testing.assert_close(traced(features, mask), scores(features, mask))

    def test_frames_in_the_middle_can_be_masked(self, clip_model):
        model = clip_model(anchor="audio")
        features = torch.randn(1, 8, 3)
        mask = torch.tensor([[1, 1, 0, 1, 0, 0, 1, 0]])
        expected = model(audio_features=features, audio_attention_mask=mask).logits
        features[:, mask[0] == 0] = 50.0
        assert_close(model(audio_features=features, audio_attention_mask=mask).logits, expected)
        features[:, 3] += 1
        assert not torch.allclose(model(audio_features=features, audio_attention_mask=mask).logits, expected)


class TestMissingModalities:
    COMBINATIONS = [("text",), ("audio",), ("vision",), ("text", "audio"), ("text", "vision"), ("audio", "vision")]

    @pytest.mark.parametrize("fusion", ["hbf", "concat_attention", "concat"])
    @pytest.mark.parametrize("text", ["bert", "dyfulm"])
    @pytest.mark.parametrize("given", COMBINATIONS, ids="+".join)
    @torch.no_grad()
    def test_absent_and_all_masked_are_the_same(self, clip_model, batch_of, clips, given, text, fusion):
        model = clip_model(text, fusion=fusion, anchor="symmetric")
        batch = batch_of(model, complete(clips))
        of = {"text": ("input_ids", "attention", "span", "token_type"), "audio": ("audio",), "vision": ("vision",)}
        prefixes = tuple(prefix for name in given for prefix in of[name])
        absent = model(**{name: values for name, values in batch.items() if name.startswith(prefixes)})
        masked = dict(batch)
        for name in batch:
            if "attention_mask" in name and not name.startswith(prefixes):
                masked[name] = torch.zeros_like(batch[name])
        masked = model(**masked)
        assert torch.isfinite(absent.logits).all()
        torch.testing.assert_close(absent.logits, masked.logits, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(absent.logits, model(**batch).logits, atol=1e-3)

    @pytest.mark.parametrize("name", ["text", "audio", "vision"])
    def test_the_stand_in_is_learned_where_needed(self, clip_model, batch_of, clips, name):
        model = clip_model(semantic_alignment=False, supervised_contrastive=False)
        row = ("text", "audio", "vision").index(name)
        for rows, used in (([0, 1], False), ([0, {"text": 2, "audio": 3, "vision": 4}[name]], True)):
            model.zero_grad()
            model(**batch_of(model, clips, rows), labels=torch.ones(2)).loss.backward()
            gradient = model.dashfusion.missing_embeddings.weight.grad
            assert (gradient[row] != 0).any() == used
            assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)

    @torch.no_grad()
    def test_sequences_of_length_zero_are_missing(self, clip_model, batch_of, clips):
        model = clip_model()
        batch = batch_of(model, complete(clips))
        text = {name: batch[name] for name in ("input_ids", "attention_mask")}
        nothing = {"audio_features": torch.zeros(2, 0, 3), "vision_features": torch.zeros(2, 0, 5)}
        assert_close(model(**text, **nothing).logits, model(**text).logits)

    def test_nothing_at_all_is_an_error(self, clip_model):
        with pytest.raises(ValueError, match="at least one of `input_ids`, `audio_features` and `vision_features`"):
            clip_model()()

    def test_dropout_hides_modalities_in_training_only_and_leaves_one(self, clip_model, batch_of, clips):
        model = clip_model(modality_dropout=0.9, hidden_dropout_prob=0.0)
        batch = batch_of(model, clips)
        there = torch.tensor([[1, 1, 1], [1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]]).bool()
        assert torch.equal(model.dashfusion(**batch).present, there)
        model.train()
        seen = torch.stack([model.dashfusion(**batch).present for _ in range(60)])
        assert (seen.any(-1)).all(), "one modality remains"
        assert not (seen & ~there).any(), "what is missing does not come back"
        assert seen.float().mean() < 0.5 and seen[:, 0].any(0).all(), "each is hidden, each remains at times"

    def test_rate_of_modality_dropout(self, clip_model):
        model = clip_model(modality_dropout=0.2).train()
        features = {"audio_features": torch.randn(4000, 1, 3), "vision_features": torch.randn(4000, 1, 5)}
        present = model.dashfusion(**features).present.float().mean(0)
        # hidden by its own draw, unless both are hidden and it is the one that stays
        assert present[1].item() == pytest.approx(0.8 + 0.2 * 0.2 / 2, abs=0.03) and present[0] == 0


class TestLosses:
    def test_sum_of_the_parts(self, clip_model, batch_of, clips):
        model = clip_model(contrastive_weight=0.3)
        outputs = model(**batch_of(model, clips), labels=torch.tensor([1.0, 2.0, 1.2, -1.0, 2.1]))
        torch.testing.assert_close(outputs.contrastive_loss, outputs.semantic_loss + outputs.supervised_loss)
        torch.testing.assert_close(outputs.loss, outputs.prediction_loss + 0.3 * outputs.contrastive_loss)
        assert outputs.semantic_loss > 0 and outputs.supervised_loss > 0

    def test_switched_off(self, clip_model, batch_of, clips):
        labels = torch.tensor([1.0, 2.0, 1.2, -1.0, 2.1])
        for fields, absent in (
            ({"semantic_alignment": False}, {"semantic_loss"}),
            ({"supervised_contrastive": False}, {"supervised_loss"}),
            (
                {"semantic_alignment": False, "supervised_contrastive": False},
                {"semantic_loss", "supervised_loss", "contrastive_loss"},
            ),
        ):
            model = clip_model(**fields)
            outputs = model(**batch_of(model, clips), labels=labels)
            assert {
                name for name in ("semantic_loss", "supervised_loss", "contrastive_loss") if name not in outputs
            } == absent
            expected = outputs.prediction_loss + 0.2 * outputs.get("contrastive_loss", 0)
            torch.testing.assert_close(outputs.loss, expected)

    def test_regression(self, clip_model, batch_of, clips):
        model = clip_model()
        labels = torch.tensor([1.0, float("nan"), -2.0, 0.0, 3.0])
        outputs = model(**batch_of(model, clips), labels=labels)
        kept = [0, 2, 3, 4]
        expected = ((outputs.logits[kept, 0] - labels[kept]) ** 2).mean()
        torch.testing.assert_close(outputs.prediction_loss, expected)
        columns = model(**batch_of(model, clips), labels=labels.unsqueeze(1))
        torch.testing.assert_close(columns.loss, outputs.loss)
        assert model.config.problem_type == "regression"

    def test_whole_numbers_are_scores_too_and_the_fill_of_classes_is_missing(self, clip_model, batch_of, clips):
        model = clip_model()
        batch = batch_of(model, clips)
        as_float = model(**batch, labels=torch.tensor([1.0, float("nan"), -2.0, 0.0, 3.0]))
        as_int = model(**batch, labels=torch.tensor([1, -100, -2, 0, 3]))
        torch.testing.assert_close(as_int.prediction_loss, as_float.prediction_loss)
        assert model(**batch, labels=torch.full((5,), -100)).prediction_loss == 0

    def test_wrong_labels_leave_no_trace_in_the_configuration(self, clip_model, batch_of, clips):
        model = clip_model(num_labels=3)
        with pytest.raises(ValueError, match="`labels` has the shape"):
            model(**batch_of(model, clips), labels=torch.ones(5))
        model(**batch_of(model, clips), labels=torch.tensor([0, 2, 1, 1, 2]))
        assert model.config.problem_type == "single_label_classification"

    def test_classes(self, clip_model, batch_of, clips):
        model = clip_model(num_labels=3)
        labels = torch.tensor([0, 2, -100, 1, 2])
        outputs = model(**batch_of(model, clips), labels=labels)
        torch.testing.assert_close(outputs.prediction_loss, nn.functional.cross_entropy(outputs.logits, labels))
        assert outputs.logits.shape == (5, 3) and model.config.problem_type == "single_label_classification"

    def test_several_labels(self, clip_model, batch_of, clips):
        model = clip_model(num_labels=2)
        labels = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
        outputs = model(**batch_of(model, clips), labels=labels)
        expected = nn.functional.binary_cross_entropy_with_logits(outputs.logits, labels)
        torch.testing.assert_close(outputs.prediction_loss, expected)
        assert model.config.problem_type == "multi_label_classification"

    @pytest.mark.parametrize(
        "labels", [[1.0], [1.0, 1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 2.0, 3.0, -1.0], [float("nan")] * 5],
        ids=["one clip", "one class", "no positive", "no label"],
    )  # fmt: skip
    def test_batches_with_nothing_to_contrast(self, clip_model, batch_of, clips, labels):
        model = clip_model().train()
        outputs = model(**batch_of(model, clips, range(len(labels))), labels=torch.tensor(labels))
        outputs.loss.backward()
        assert outputs.supervised_loss == 0 and torch.isfinite(outputs.loss)
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)

    def test_wrong_number_of_labels(self, clip_model, batch_of, clips):
        model = clip_model()
        with pytest.raises(ValueError, match=r"`labels` has the shape \(5, 2\), but regression"):
            model(**batch_of(model, clips), labels=torch.ones(5, 2))

    @pytest.mark.parametrize(
        "name",
        ["temporal_alignment.text.attention.keys.audio.weight", "fusion.levels.0.attention.query.weight",
         "fusion.levels.1.compression.attention.value.weight", "audio_encoder.class_token",
         "vision_encoder.position_embeddings", "text_projector.dense.weight"],
    )  # fmt: skip
    def test_gradients_agree_with_finite_differences(self, clip_model, batch_of, clips, name):
        model = clip_model().double()
        labels = torch.tensor([1.0, 2.0, 1.2, -1.0, 2.1], dtype=torch.float64)
        batch = {k: v.double() if v.is_floating_point() else v for k, v in batch_of(model, clips).items()}
        parameter = dict(model.dashfusion.named_parameters())[name]
        model(**batch, labels=labels).loss.backward()
        flat, index, step = parameter.data.view(-1), parameter.grad.abs().argmax(), 1e-6
        flat[index] += step
        above = model(**batch, labels=labels).loss.item()
        flat[index] -= 2 * step
        below = model(**batch, labels=labels).loss.item()
        assert parameter.grad.view(-1)[index].item() == pytest.approx((above - below) / (2 * step), rel=1e-4)


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"audio_features": torch.zeros(2, 4, 7)}, r"`audio_features` must have the shape \(batch, frames, 3\)"),
            ({"vision_features": torch.zeros(2, 5)}, r"`vision_features` must have the shape .*got \(2, 5\)"),
            ({"audio_features": torch.zeros(2, 13, 3)}, "`audio_features` has 13 frames, this model reads at most 12"),
            ({"vision_features": torch.zeros(3, 4, 5)}, "same number of clips, got .*'vision': 3"),
            (
                {"vision_features": torch.zeros(2, 4, 5), "vision_attention_mask": torch.ones(2, 3)},
                r"`vision_attention_mask` has the shape \(2, 3\)",
            ),
            ({"attention_mask": torch.ones(2, 9)}, r"`attention_mask` has the shape \(2, 9\)"),
            ({"input_ids_b": torch.ones(2, 3, dtype=torch.long)}, "takes no `attention_mask_b`.*DyFuLM"),
            ({"output_attentions": True}, "attn_implementation='eager'"),
        ],
        ids=["width", "dimensions", "length", "clips", "mask", "text mask", "second text", "attentions"],
    )
    def test_says_what_is_wrong(self, clip_model, changes, words):
        inputs = {"input_ids": torch.tensor([[2, 5, 3], [2, 6, 3]])}
        with pytest.raises(ValueError, match=words):
            clip_model()(**{**inputs, **changes})

    def test_dyfulm_needs_both_texts(self, clip_model, batch_of, clips):
        model = clip_model("dyfulm")
        batch = {name: values for name, values in batch_of(model, clips).items() if not name.endswith("_b")}
        with pytest.raises(ValueError, match="input_ids_b"):
            model(**batch)


class TestOutputs:
    @torch.no_grad()
    def test_shapes(self, clip_model, batch_of, clips):
        model = clip_model()
        batch = batch_of(model, clips)
        outputs = model(**batch, labels=torch.ones(5), output_fusion=True, output_hidden_states=True)
        tokens = batch["input_ids"].shape[1]
        assert outputs.logits.shape == (5, 1) and outputs.bottleneck.shape == (5, 2, 16)
        for name in ("text_embeds", "audio_embeds", "vision_embeds", "aligned_embeds"):
            assert outputs[name].shape == (5, 16)
        maps = outputs.alignment_attentions
        assert {name: tuple(values.shape) for name, values in maps.items()} == {
            "text_audio": (5, 4, tokens, 13),
            "text_vision": (5, 4, tokens, 11),
        }
        assert len(outputs.hidden_states) == 4
        base = model.dashfusion(**batch)
        assert base.pooler_output.shape == (5, 64) and base.sequence_mask.shape == (5, tokens)
        plain = model(**batch)
        assert "alignment_attentions" not in plain and "hidden_states" not in plain and "loss" not in plain

    @torch.no_grad()
    def test_alignment_attentions_are_those_in_use(self, clip_model, batch_of, clips):
        model = clip_model()
        batch = batch_of(model, clips)
        explicit, fast = model(**batch, output_fusion=True), model(**batch)
        torch.testing.assert_close(explicit.logits, fast.logits, atol=1e-5, rtol=1e-5)
        audio = explicit.alignment_attentions["text_audio"]
        torch.testing.assert_close(audio.sum(-1), torch.ones(audio.shape[:-1]))
        frames = torch.cat([torch.ones(5, 1), batch["audio_attention_mask"]], dim=1)
        assert (audio * (1 - frames)[:, None, None]).abs().max() == 0

    @pytest.mark.parametrize("fusion", ["hbf", "concat_attention", "concat"])
    def test_every_parameter_learns(self, clip_model, batch_of, clips, fusion):
        model = clip_model(fusion=fusion, anchor="symmetric")
        model(**batch_of(model, clips), labels=torch.tensor([1.0, 2.0, 1.2, -1.0, 2.1])).loss.backward()
        untouched = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        # keys without an own bias have none to learn: a constant on all keys cancels in the softmax
        assert [name for name in untouched if not name.endswith("key.bias")] == []

    def test_bottleneck_halves_at_each_level(self, clip_model):
        levels = clip_model(num_bottleneck_tokens=5, num_fusion_layers=4).dashfusion.fusion.levels
        assert [level.num_tokens for level in levels] == [5, 2, 1, 1]


class TestLoading:
    @pytest.mark.parametrize("how", ["folder", "model", "configuration"])
    def test_from_text_encoder(self, clip_config, tmp_path, how):
        torch.manual_seed(5)
        encoder = AutoModel.from_config(encoder_config("bert"))
        encoder.save_pretrained(tmp_path)
        source = {"folder": tmp_path, "model": encoder, "configuration": encoder.config}[how]
        model = DashFusionForSequenceClassification.from_text_encoder(source, audio_feature_size=3, hidden_size=16)
        assert model.config.audio_feature_size == 3 and not model.training
        same = torch.equal(model.get_input_embeddings().weight, encoder.get_input_embeddings().weight)
        assert same == (how != "configuration")
        assert not any("pooler" in name for name, _ in model.named_parameters())

    def test_from_a_trained_dyfulm(self, make_model, tmp_path):
        dyfulm = make_model()
        dyfulm.save_pretrained(tmp_path)
        model = DashFusionForSequenceClassification.from_text_encoder(tmp_path)
        assert_same_weights(model.dashfusion.text_encoder, dyfulm.dyfulm)

    def test_from_a_model_with_a_head(self, make_model):
        dyfulm = make_model()
        model = DashFusionForSequenceClassification.from_text_encoder(dyfulm)
        assert_same_weights(model.dashfusion.text_encoder, dyfulm.dyfulm)

    def test_new_weights_are_small_and_finite(self, clip_config):
        model = DashFusionForSequenceClassification(clip_config())
        base = model.dashfusion
        assert not base.audio_encoder.position_embeddings.any()
        assert 0 < base.vision_encoder.class_token.std() < 0.05
        assert 0 < base.missing_embeddings.weight.std() < 0.05
        assert all(torch.isfinite(p).all() for p in model.parameters())


def test_dyfulm_configuration_needs_encoder_a(make_config):
    with pytest.raises(ValueError, match="make it encoder A"):
        DashFusionConfig(make_config(cross_fusion="b"))


def test_dyfulm_alone_is_unchanged_inside(clip_model, make_model, batch_of, clips):
    """The text stream of a DashFusion is what the DyFuLM says."""
    model = clip_model("dyfulm")
    batch = batch_of(model, complete(clips))
    text = {n: v for n, v in batch.items() if n.startswith(("input_ids", "attention_mask", "span_ids"))}
    dyfulm = DyFuLMForSequenceClassification(model.config.text_config).eval()
    dyfulm.dyfulm.load_state_dict(model.dashfusion.text_encoder.state_dict())
    with torch.no_grad():
        states = dyfulm.dyfulm(**text)
        projected = model.dashfusion.text_projector(states.last_hidden_state)
        mask = states.sequence_mask.unsqueeze(-1)
        expected = (projected * mask).sum(1) / mask.sum(1)
        torch.testing.assert_close(model(**batch).text_embeds, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label_range": (1, -1)}, "`label_range` must be"),
        ({"hidden_dropout_prob": 1.5}, "`hidden_dropout_prob` must lie"),
        ({"num_labels": 3}, "Regression predicts one score, but `num_labels` is 3"),
        ({"modalities": ("smell",)}, "got 'smell'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_fields_changed_while_loading_are_checked(clip_model, tmp_path, changes, words):
    clip_model(problem_type="regression").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=words):
        DashFusionForSequenceClassification.from_pretrained(tmp_path, **changes)


def test_a_modality_that_the_model_was_not_trained_on_is_refused(clip_model):
    model = clip_model(modalities=("text", "vision"))
    text = {"input_ids": torch.randint(5, 90, (2, 6))}
    with pytest.raises(ValueError, match=r"trained on text, vision \(`config.modalities`\): leave audio out"):
        model(**text, audio_features=torch.randn(2, 3, model.config.audio_feature_size))
    assert_close(model(**text).logits, clip_model()(**text).logits)


def test_contrastive_losses_are_of_float32_similarities_under_autocast(clip_model, monkeypatch):
    """bfloat16 has three digits: two neighbours of an anchor would change places."""
    from hf_fusion.models import modeling_losses

    seen = []
    monkeypatch.setattr(
        modeling_losses, "nt_xent", lambda similarity, *rest: seen.append(similarity.dtype) or similarity.sum()
    )
    pairs = modeling_losses._most_similar
    monkeypatch.setattr(
        modeling_losses,
        "_most_similar",
        lambda similarity, *rest: seen.append(similarity.dtype) or pairs(similarity, *rest),
    )
    model, ids = clip_model(), torch.randint(5, 90, (4, 6))
    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=ids, audio_features=torch.randn(4, 3, model.config.audio_feature_size), labels=torch.zeros(4))
    assert len(seen) == 5 and set(seen) == {torch.float32}


class TestEncodedPartners:
    """The paper's way: partners are encoded behind the clips."""

    @staticmethod
    def batch(model, clips=2, partners=3):
        rows = clips * (1 + partners)
        return {
            "input_ids": torch.randint(5, 90, (rows, 6)),
            "audio_features": torch.randn(rows, 4, model.config.audio_feature_size),
            "vision_features": torch.randn(rows, 3, model.config.vision_feature_size),
            "labels": torch.tensor([1.0, -2.0]),
            "partner_mask": torch.ones(clips, partners, dtype=torch.bool),
        }

    def test_are_not_predicted_and_change_no_prediction(self, clip_model):
        model = clip_model(num_positives=1)
        batch = self.batch(model)
        outputs = model(**batch)
        alone = model(**{name: batch[name][:2] for name in batch if name not in ("labels", "partner_mask")})
        assert outputs.logits.shape == (2, 1) and outputs.text_embeds.shape[0] == 8
        torch.testing.assert_close(outputs.logits, alone.logits)
        torch.testing.assert_close(outputs.loss, outputs.prediction_loss + 0.2 * outputs.contrastive_loss)

    @pytest.mark.parametrize("anchor", ["text", "symmetric"])
    @pytest.mark.parametrize("fields", [{}, {"semantic_alignment": False}, {"temporal_alignment": False}], ids=str)
    def test_the_loss_is_that_of_a_double_loop(self, clip_model, anchor, fields):
        model = clip_model(num_positives=1, anchor=anchor, **fields)
        batch = self.batch(model)
        batch["partner_mask"][1, 0] = False  # the second clip has no positive partner
        batch["audio_attention_mask"] = torch.ones(8, 4)
        batch["audio_attention_mask"][4] = 0  # the second partner of the first clip has no audio
        outputs = model(**batch)
        kinds = ["text", "audio", "vision", *(["aligned"] if model.config.temporal_alignment else [])]
        unit = {k: torch.nn.functional.normalize(outputs[f"{k}_embeds"], dim=-1) for k in kinds}
        losses = []
        for clip in range(2):
            rows = [(k, clip + 2 * j) for k in kinds for j in range(4) if j == 0 or batch["partner_mask"][clip, j - 1]]
            rows = [row for row in rows if row != ("audio", 4)]
            negatives = {k: [(k, clip + 2 * j) for j in (2, 3) if (k, clip + 2 * j) in rows] for k in kinds}
            for first in rows:
                for second in rows:
                    semantic = model.config.semantic_alignment and first[0] in model.config.anchors
                    semantic &= first[1] == second[1] and first[0] != second[0] and second[0] != "aligned"
                    supervised = first[0] == second[0] and first[1] == clip and second[1] == clip + 2
                    if semantic or supervised:
                        e = {o: (unit[first[0]][first[1]] @ unit[o[0]][o[1]] / 0.5).exp() for o in rows}
                        mass = sum(e[o] for o in negatives[first[0]]) if first[1] == clip else 0
                        losses.append(-torch.log(e[second] / (e[second] + mass)))
        torch.testing.assert_close(outputs.contrastive_loss, torch.stack(losses).mean())

    def test_no_partner_at_all(self, clip_model):
        model = clip_model(num_positives=1, semantic_alignment=False)
        batch = self.batch(model)
        batch["partner_mask"][:] = False
        outputs = model(**batch)
        assert outputs.contrastive_loss == 0
        outputs.loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("labels", [torch.tensor([-100, -100]), torch.tensor([float("nan")] * 2)], ids=["-100", "nan"])
def test_a_batch_without_any_of_several_labels(clip_model, labels):
    model = clip_model(num_labels=3, problem_type="multi_label_classification")
    outputs = model(input_ids=torch.randint(5, 90, (2, 6)), labels=labels)
    assert outputs.prediction_loss == 0 and torch.isfinite(outputs.loss)
    with pytest.raises(ValueError, match=r"has the shape \(2,\)"):
        model(input_ids=torch.randint(5, 90, (2, 6)), labels=torch.tensor([1.0, float("nan")]))
