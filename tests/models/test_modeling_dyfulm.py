import math

import pytest
import torch
from asserts import assert_close
from conftest import encoder_config
from torch import nn
from transformers import AutoModel, GPT2Config

from hf_fusion import DyFuLMForSequenceClassification, DyFuLMProcessor
from hf_fusion.models.modeling_losses import corn_loss, focal_loss, ordinal_log_loss

ABLATIONS = [
    {},
    {"layer_fusion": "mean"},
    {"layer_fusion": "last"},
    {"cross_fusion": "mean"},
    {"cross_fusion": "concat"},
    {"cross_fusion": "a"},
    {"cross_fusion": "b"},
    {"gate_level": "sequence"},
    {"use_guidance": False},
    {"loss_weighting": "dwa"},
    {"loss_weighting": "fixed", "loss_weights": (1.0, 0.5, 2.0)},
    {"fusion_hidden_size": 20},
    {"a": "bert", "b": "bert"},
]


def _id(fields):
    return "-".join(f"{k}={v}" for k, v in fields.items()) or "full"


all_ablations = pytest.mark.parametrize("fields", ABLATIONS, ids=_id)


@pytest.fixture
def inputs(processor, texts):
    return dict(processor(texts, return_tensors="pt"))


class TestAgainstNaiveReference:
    """The paper's formulas, written once more with loops over samples, layers, spans and tokens."""

    def _encode(self, base, name, ids):
        encoder = getattr(base, f"encoder_{name}")
        layers = encoder(input_ids=ids[None], output_hidden_states=True).hidden_states[1:]
        layers = [layer[0] for layer in layers]  # (tokens, hidden) each
        ours = getattr(base, f"layer_fusion_{name}")
        lstm = nn.LSTM(layers[0].shape[-1], base.config.layer_fusion_hidden_size, batch_first=True, bidirectional=True)
        lstm.load_state_dict(ours.lstm.state_dict())
        read, _ = lstm(torch.stack([layer.mean(0) for layer in layers])[None])
        scores = [float(ours.scorer.weight[0] @ step) for step in read[0]]
        total = sum(math.exp(score) for score in scores)
        alpha = [math.exp(score) / total for score in scores]
        fused = sum(weight * layer for weight, layer in zip(alpha, layers, strict=True))
        return getattr(base, f"projection_{name}")(fused), alpha

    def _forward(self, model, row):
        base = model.dyfulm
        states_a, alpha_a = self._encode(base, "a", row["input_ids"])
        states_b, alpha_b = self._encode(base, "b", row["input_ids_b"])
        spans = []
        for span in range(int(row["span_ids"].max()) + 1):
            h = torch.stack([s for s, i in zip(states_a, row["span_ids"], strict=True) if i == span]).mean(0)
            c = torch.stack([s for s, i in zip(states_b, row["span_ids_b"], strict=True) if i == span]).mean(0)
            gate = torch.sigmoid(base.cross_fusion.dense.weight @ torch.cat([h, c]) + base.cross_fusion.dense.bias)
            spans.append(gate * h + (1 - gate) * c)
        scores = [float(base.pooling.scorer.weight[0] @ torch.tanh(base.pooling.dense(span))) for span in spans]
        total = sum(math.exp(score) for score in scores)
        pooled = sum(math.exp(score) / total * span for score, span in zip(scores, spans, strict=True))
        coarse = model.coarse_classifier(pooled)
        intensity = 1 / (1 + math.exp(-float(model.intensity_regressor(pooled))))
        evidence = torch.cat([coarse.softmax(0), torch.tensor([intensity])])
        guidance = 2 * torch.sigmoid(model.guidance.out_proj(nn.functional.gelu(model.guidance.dense(evidence))))
        return model.classifier(pooled * guidance), coarse, intensity, alpha_a, alpha_b

    @torch.no_grad()
    def test_outputs_agree(self, make_model, processor, texts, inputs):
        model = make_model()
        outputs = model(**inputs)
        for i, text in enumerate(texts):
            row = {name: values[0] for name, values in processor([text], return_tensors="pt").items()}
            logits, coarse, intensity, alpha_a, alpha_b = self._forward(model, row)
            torch.testing.assert_close(outputs.logits[i], logits, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(outputs.coarse_logits[i], coarse, atol=1e-5, rtol=1e-4)
            assert outputs.intensity[i].item() == pytest.approx(intensity, abs=1e-5)
            torch.testing.assert_close(outputs.layer_attention_a[i], torch.tensor(alpha_a), atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(outputs.layer_attention_b[i], torch.tensor(alpha_b), atol=1e-5, rtol=1e-4)

    @torch.no_grad()
    @pytest.mark.parametrize("side", ["right", "left"])
    def test_first_token(self, make_model, wordpiece, texts, side):
        """Of the real tokens, on whichever side the padding is."""
        model = make_model(cross_fusion="a", a="bert", layer_fusion="last", use_guidance=False, pooling="first")
        assert "dyfulm.pooling.scorer.weight" not in model.state_dict()
        batch = DyFuLMProcessor(wordpiece)(texts, return_tensors="pt")
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        if side == "left":
            gaps = (inputs["attention_mask"] == 0).sum(1).tolist()
            for name, rows in inputs.items():
                inputs[name] = torch.stack([row.roll(gap) for row, gap in zip(rows, gaps, strict=True)])
        logits = model(**inputs).logits
        for i, text in enumerate(texts):
            ids = torch.tensor(wordpiece([text])["input_ids"])
            first = model.dyfulm.encoder_a(ids).last_hidden_state[0, 0]
            expected = model.classifier(torch.tanh(model.dyfulm.pooling.dense(first)))
            torch.testing.assert_close(logits[i], expected, atol=1e-5, rtol=1e-4)

    def test_first_token_starts_as_it_is(self, make_config, tmp_path):
        fields = {"cross_fusion": "a", "a": "bert", "pooling": "first"}
        model = DyFuLMForSequenceClassification(make_config(**fields))
        assert torch.equal(model.dyfulm.pooling.dense.weight, torch.eye(32))
        with torch.no_grad():
            model.dyfulm.pooling.dense.weight.normal_()
        model.save_pretrained(tmp_path)
        loaded = DyFuLMForSequenceClassification.from_pretrained(tmp_path)
        assert torch.equal(loaded.dyfulm.pooling.dense.weight, model.dyfulm.pooling.dense.weight)

    def test_alpha_depends_on_the_text(self, make_model, inputs):
        alpha = make_model()(**inputs).layer_attention_b
        assert alpha.std(dim=0).max() > 1e-3

    def test_gradients_agree_with_finite_differences(self, make_model, processor, labels):
        model = make_model(a="bert", b="bert").double()
        batch = dict(processor(["The bar was not good.", "Fine stay"], return_tensors="pt"))
        batch |= {name: values[:2] for name, values in labels.items()}
        loss = model(**batch).loss
        loss.backward()
        watched = (
            "cross_fusion.dense.weight",
            "layer_fusion_a.lstm.weight_hh_l0_reverse",
            "layer_fusion_b.scorer.weight",
            "pooling.scorer.weight",
            "guidance.out_proj.weight",
            "loss_weighting.log_variance",
        )
        parameters = dict(model.named_parameters())
        for suffix in watched:
            parameter = next(p for name, p in parameters.items() if name.endswith(suffix))
            flat, index, step = parameter.data.view(-1), parameter.grad.abs().argmax(), 1e-6
            flat[index] += step
            above = model(**batch).loss.item()
            flat[index] -= 2 * step
            below = model(**batch).loss.item()
            flat[index] += step
            numeric = (above - below) / (2 * step)
            assert parameter.grad.view(-1)[index].item() == pytest.approx(numeric, rel=1e-4), suffix


class TestIndependence:
    @torch.no_grad()
    def test_of_padding_side(self, make_model, bpe, unigram, texts, inputs):
        import copy

        from hf_fusion import DyFuLMProcessor

        # Learned positions move with the padding, so only encoders without them can agree.
        model = make_model(b="deberta", cross_fusion="b")
        left = copy.deepcopy(unigram)
        left.padding_side = "left"
        padded = model(**DyFuLMProcessor(bpe, left)(texts, return_tensors="pt"))
        torch.testing.assert_close(padded.logits, model(**inputs).logits, atol=1e-5, rtol=0)

    @torch.no_grad()
    def test_of_what_is_asked_for(self, make_model, inputs):
        model = make_model()
        model.set_attn_implementation("eager")
        plain = model(**inputs)
        asked = model(**inputs, output_attentions=True, output_hidden_states=True, output_fusion=True)
        assert_close(plain.logits, asked.logits)
        assert plain.hidden_states is plain.attentions is plain.gate is plain.guidance is None
        assert len(asked.hidden_states) == 3 and len(asked.hidden_states_b) == 4
        assert len(asked.attentions) == 2 and asked.attentions[0].shape[1] == 4
        assert len(asked.attentions_b) == 3

    @torch.no_grad()
    def test_of_the_texts_that_are_empty(self, make_model, processor):
        model = make_model()
        outputs = model(**processor(["", "Good", "   "], return_tensors="pt"), output_fusion=True)
        assert torch.isfinite(outputs.logits).all() and torch.isfinite(outputs.gate).all()
        alone = model(**processor([""], return_tensors="pt"))
        torch.testing.assert_close(outputs.logits[0], alone.logits[0], atol=1e-5, rtol=0)

    @torch.no_grad()
    def test_finite_for_a_row_that_is_all_padding(self, make_model, inputs):
        inputs["attention_mask"][1] = 0
        inputs["attention_mask_b"][1] = 0
        assert torch.isfinite(make_model()(**inputs).logits).all()


class TestOutputs:
    @all_ablations
    def test_shapes_and_ranges(self, make_model, inputs, labels, fields):
        model = make_model(**fields)
        outputs = model(**inputs, **labels, output_fusion=True)
        assert outputs.logits.shape == (4, 5) and outputs.coarse_logits.shape == (4, 3)
        assert outputs.intensity.shape == (4,) and ((outputs.intensity > 0) & (outputs.intensity < 1)).all()
        assert outputs.loss.dim() == 0 and outputs.loss_weights.shape == (3,)
        for name, layers in (("a", 2 if fields.get("a") != "bert" else 3), ("b", 3)):
            alpha = outputs.get(f"layer_attention_{name}")
            if fields.get("cross_fusion") in ("a", "b") and fields["cross_fusion"] != name:
                assert alpha is None
            else:
                assert alpha.shape == (4, layers)
                torch.testing.assert_close(alpha.sum(-1), torch.ones(4))
        if fields.get("cross_fusion", "gate") == "gate":
            assert ((outputs.gate >= 0) & (outputs.gate <= 1)).all()
            assert outputs.gate.dim() == (2 if fields.get("gate_level") == "sequence" else 3)
        else:
            assert outputs.gate is None
        assert (outputs.guidance is None) == (fields.get("use_guidance") is False)

    @torch.no_grad()
    def test_intensity_range(self, make_model, inputs):
        low = make_model(intensity_range=(-3.0, 3.0))(**inputs).intensity
        unit = make_model()(**inputs).intensity
        torch.testing.assert_close(low, unit * 6 - 3)

    @torch.no_grad()
    def test_gate_favours_the_encoder_that_it_says(self, make_model, inputs):
        model = make_model(fusion_hidden_size=20)
        nn.init.zeros_(model.dyfulm.cross_fusion.dense.weight)
        nn.init.constant_(model.dyfulm.cross_fusion.dense.bias, 50.0)  # gate = 1: encoder A alone
        before = model(**inputs).logits
        nn.init.zeros_(model.dyfulm.projection_b.weight)
        torch.testing.assert_close(model(**inputs).logits, before)
        nn.init.zeros_(model.dyfulm.projection_a.weight)
        assert (model(**inputs).logits - before).abs().max() > 1e-4

    @torch.no_grad()
    def test_without_span_ids_the_pooled_vectors_are_fused(self, make_model, inputs):
        spanless = {name: values for name, values in inputs.items() if "span" not in name}
        outputs = make_model()(**spanless, output_fusion=True)
        assert outputs.gate.shape == (4, 32)
        torch.testing.assert_close(outputs.logits, make_model(gate_level="sequence")(**inputs).logits)


@torch.no_grad()
@pytest.mark.parametrize(
    "fields", [{"fine_loss": "ordinal_log_loss"}, {"fine_loss": "corn"}, {"focal_gamma": 2.0}], ids=_id
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_a_half_precision_model_are_those_of_its_logits(make_model, inputs, labels, fields, dtype):
    model = make_model(**fields).to(dtype)
    model.class_weights = torch.tensor([2.0, 1, 1, 1, 0.5])
    outputs = model(**inputs, **labels)
    loss = {"corn": corn_loss, "ordinal_log_loss": ordinal_log_loss}.get(fields.get("fine_loss"), focal_loss)
    expected, _ = loss(outputs.logits.float(), labels["labels"], model.class_weights)
    assert outputs.fine_loss.dtype == torch.float32 and torch.isfinite(outputs.loss)
    torch.testing.assert_close(outputs.fine_loss, expected)


class TestCorn:
    """The fine head has a logit for each class but the last; `logits` are the classes' log probabilities."""

    @torch.no_grad()
    @pytest.mark.parametrize("num_labels", [2, 5])
    def test_logits(self, make_model, inputs, num_labels):
        model = make_model(fine_loss="corn", use_guidance=False, num_labels=num_labels)
        outputs = model(**inputs, output_fusion=True)
        assert model.classifier.weight.shape == (num_labels - 1, 32)
        conditional = outputs.pooler_output @ model.classifier.weight.T + model.classifier.bias
        shift = torch.tensor([math.log(num_labels - 1 - k) for k in range(num_labels - 1)])
        above = torch.sigmoid(conditional + shift)
        lowest, highest = 1 - above[:, 0], above.prod(dim=1)
        probabilities = outputs.logits.softmax(-1)
        assert probabilities.shape == (4, num_labels)
        torch.testing.assert_close(probabilities, outputs.logits.exp())
        torch.testing.assert_close(probabilities[:, [0, -1]], torch.stack([lowest, highest], dim=1))

    @torch.no_grad()
    def test_starts_without_a_preference(self, make_model, inputs):
        model = make_model(fine_loss="corn")
        model.classifier.weight.zero_()
        torch.testing.assert_close(model(**inputs).logits.exp(), torch.full((4, 5), 0.2))

    def test_learns(self, make_model, inputs, labels):
        model = make_model(fine_loss="corn", cross_fusion="a")
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(25):
            outputs = model(**inputs, **labels)
            torch.testing.assert_close(outputs.fine_loss, corn_loss(outputs.logits, labels["labels"])[0])
            optimizer.zero_grad()
            outputs.loss.backward()
            assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
            optimizer.step()
        assert model(**inputs).logits.argmax(-1).tolist() == labels["labels"].tolist()

    @torch.no_grad()
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision(self, make_model, inputs, labels, dtype):
        model = make_model(fine_loss="corn").to(dtype)
        outputs = model(**inputs, **labels)
        assert outputs.logits.dtype == torch.float32 and torch.isfinite(outputs.loss)
        torch.testing.assert_close(outputs.logits.exp().sum(-1), torch.ones(4))

    def test_comes_back_and_fits_no_other_head(self, make_model, inputs, tmp_path):
        model = make_model(fine_loss="corn")
        model.save_pretrained(tmp_path)
        loaded = DyFuLMForSequenceClassification.from_pretrained(tmp_path)
        assert torch.equal(loaded.classifier.weight, model.classifier.weight)
        assert_close(loaded(**inputs).logits, model(**inputs).logits)
        with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
            DyFuLMForSequenceClassification.from_pretrained(tmp_path, fine_loss="cross_entropy")


class TestSingleEncoder:
    def test_other_encoder_is_not_built(self, make_model, inputs):
        model = make_model(cross_fusion="a")
        assert model.dyfulm.encoder_b is None
        assert not any("_b." in name for name, _ in model.named_parameters())
        only_a = {name: values for name, values in inputs.items() if not name.endswith("_b")}
        assert_close(model(**only_a).logits, model(**inputs).logits)

    def test_encoder_b_alone_reads_its_own_inputs(self, make_model, inputs):
        model = make_model(cross_fusion="b")
        only_b = {name: values for name, values in inputs.items() if name.endswith("_b")}
        assert_close(model(**only_b).logits, model(**inputs).logits)
        assert model.get_input_embeddings() is model.dyfulm.encoder_b.get_input_embeddings()


class TestLoss:
    @torch.no_grad()
    def test_components(self, make_model, inputs, labels):
        outputs = make_model()(**inputs, **labels)
        cross_entropy = nn.functional.cross_entropy
        torch.testing.assert_close(outputs.fine_loss, cross_entropy(outputs.logits, labels["labels"]))
        torch.testing.assert_close(outputs.coarse_loss, cross_entropy(outputs.coarse_logits, labels["coarse_labels"]))
        torch.testing.assert_close(
            outputs.intensity_loss, ((outputs.intensity - labels["intensity_labels"]) ** 2).mean()
        )

    @torch.no_grad()
    def test_intensities_are_compared_in_their_own_range(self, make_model, inputs):
        wanted = torch.tensor([-3.0, 2.5, 0.0, float("nan")])
        outputs = make_model(intensity_range=(-3.0, 3.0))(**inputs, intensity_labels=wanted)
        torch.testing.assert_close(outputs.intensity_loss, ((outputs.intensity - wanted)[:3] ** 2).mean())

    @torch.no_grad()
    def test_uncertainty_weighting_is_kendalls(self, make_model, inputs, labels):
        model = make_model(loss_weights=(1.0, 2.0, 3.0))
        s = torch.tensor([0.3, -0.5, -2.0])
        model.loss_weighting.log_variance.copy_(s)
        o = model(**inputs, **labels)
        expected = (
            1 * (torch.exp(-s[0]) * o.fine_loss + s[0] / 2)
            + 2 * (torch.exp(-s[1]) * o.coarse_loss + s[1] / 2)
            + 3 * (torch.exp(-s[2]) * o.intensity_loss / 2 + s[2] / 2)
        )
        torch.testing.assert_close(o.loss, expected)
        torch.testing.assert_close(o.loss_weights, torch.exp(-s) * torch.tensor([1.0, 2.0, 1.5]))

    @torch.no_grad()
    def test_dwa_follows_the_history(self, make_model, inputs, labels):
        model = make_model(loss_weighting="dwa", dwa_temperature=2.0)
        torch.testing.assert_close(model(**inputs, **labels).loss_weights, torch.ones(3))
        model.loss_weighting.record_epoch([2.0, 1.0, 0.5])
        torch.testing.assert_close(model(**inputs, **labels).loss_weights, torch.ones(3))  # one epoch: no ratio yet
        model.loss_weighting.record_epoch([1.0, 0.9, 0.5])
        ratios = torch.tensor([0.5, 0.9, 1.0])
        o = model(**inputs, **labels)
        torch.testing.assert_close(o.loss_weights, 3 * (ratios / 2).softmax(0))
        torch.testing.assert_close(
            o.loss, (o.loss_weights * torch.stack([o.fine_loss, o.coarse_loss, o.intensity_loss])).sum()
        )

    def test_dwa_history_is_saved(self, make_model, tmp_path):
        model = make_model(loss_weighting="dwa")
        model.loss_weighting.record_epoch([2.0, 1.0, 0.5])
        model.save_pretrained(tmp_path)
        loaded = DyFuLMForSequenceClassification.from_pretrained(tmp_path)
        assert loaded.loss_weighting.loss_history.tolist() == [[0, 0, 0], [2.0, 1.0, 0.5]]

    def test_dwa_history_starts_empty_in_a_checkpoint_without_one(self, make_model, tmp_path):
        make_model(loss_weighting="fixed").save_pretrained(tmp_path)
        loaded = DyFuLMForSequenceClassification.from_pretrained(tmp_path, loss_weighting="dwa")
        assert loaded.loss_weighting.loss_history.abs().sum() == 0

    @torch.no_grad()
    @pytest.mark.parametrize("weighting", ["uncertainty", "dwa", "fixed"])
    @pytest.mark.parametrize("given", [("labels",), ("coarse_labels", "intensity_labels"), ("intensity_labels",)])
    def test_is_over_the_labels_present(self, make_model, inputs, labels, weighting, given):
        model = make_model(loss_weighting=weighting)
        some = {name: labels[name] for name in given}
        missing = {"labels": -100, "coarse_labels": -100, "intensity_labels": float("nan")}
        marked = {n: v if n in given else torch.full_like(v, missing[n]) for n, v in labels.items()}
        absent, marked_out = model(**inputs, **some), model(**inputs, **marked)
        torch.testing.assert_close(absent.loss, marked_out.loss)
        assert (absent.loss_weights != 0).tolist() == [n in given for n in missing]
        for task, name in (("fine", "labels"), ("coarse", "coarse_labels"), ("intensity", "intensity_labels")):
            assert (absent.get(f"{task}_loss") is None) == (name not in given)

    @torch.no_grad()
    @pytest.mark.parametrize("gamma", [0.0, 2.0])
    def test_class_weights_and_focus(self, make_model, inputs, labels, gamma):
        model = make_model(focal_gamma=gamma)
        model.class_weights, model.coarse_class_weights = torch.tensor([2.0, 1, 1, 1, 0.5]), torch.tensor([3.0, 1, 0.5])
        outputs = model(**inputs, **labels)
        for name, logits, weights in (
            ("fine", outputs.logits, model.class_weights), ("coarse", outputs.coarse_logits, model.coarse_class_weights)
        ):  # fmt: skip
            own = labels["labels" if name == "fine" else "coarse_labels"]
            each = nn.functional.cross_entropy(logits, own, weights, reduction="none")
            probability = logits.softmax(-1).gather(1, own[:, None]).squeeze(1)
            expected = (each * (1 - probability) ** gamma).sum() / weights[own].sum()
            torch.testing.assert_close(outputs[f"{name}_loss"], expected)
        assert not any("class_weights" in name for name in model.state_dict())

    @torch.no_grad()
    def test_ordinal_log_loss_is_for_the_fine_classes(self, make_model, inputs, labels):
        plain, ordered = make_model(), make_model(fine_loss="ordinal_log_loss")
        one, other = plain(**inputs, **labels), ordered(**inputs, **labels)
        assert_close(one.logits, other.logits)
        assert_close(one.coarse_loss, other.coarse_loss)
        assert_close(one.intensity_loss, other.intensity_loss)
        torch.testing.assert_close(other.fine_loss, ordinal_log_loss(other.logits, labels["labels"])[0])

    @torch.no_grad()
    def test_passes_over_single_missing_labels(self, make_model, inputs, labels):
        model = make_model(loss_weighting="fixed")
        labels["labels"][1] = -100
        labels["intensity_labels"][2] = float("nan")
        outputs = model(**inputs, **labels)
        kept = torch.tensor([0, 2, 3])
        torch.testing.assert_close(
            outputs.fine_loss, nn.functional.cross_entropy(outputs.logits[kept], labels["labels"][kept])
        )
        kept = torch.tensor([0, 1, 3])
        torch.testing.assert_close(
            outputs.intensity_loss, ((outputs.intensity - labels["intensity_labels"])[kept] ** 2).mean()
        )

    def test_missing_intensity_leaves_no_nan_in_gradients(self, make_model, inputs, labels):
        model = make_model()
        labels["intensity_labels"][:] = float("nan")
        model(**inputs, **labels).loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())


class TestLoading:
    def test_missing_weights_are_initialised(self, make_model, tmp_path):
        base = make_model().dyfulm
        base.save_pretrained(tmp_path)
        model, report = DyFuLMForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
        assert {key.split(".")[0] for key in report["missing_keys"]} == {
            "classifier", "coarse_classifier", "intensity_regressor", "guidance", "loss_weighting",
        }  # fmt: skip
        assert not report["unexpected_keys"] and not report["mismatched_keys"]
        assert all(torch.isfinite(p).all() and p.abs().max() < 10 for p in model.parameters())
        assert model.loss_weighting.log_variance.tolist() == [0, 0, 0]
        assert model.classifier.weight.std().item() == pytest.approx(0.02, rel=0.3)

    def test_from_encoders_takes_their_weights(self, tmp_path, inputs):
        encoders = {}
        for name, kind in (("a", "roberta"), ("b", "deberta")):
            encoders[name] = AutoModel.from_config(encoder_config(kind)).eval()
            encoders[name].save_pretrained(tmp_path / name)
        model = DyFuLMForSequenceClassification.from_encoders(
            tmp_path / "a", str(tmp_path / "b"), layer_fusion_hidden_size=8, num_labels=4
        )
        assert model.config.num_labels == 4 and not model.training
        for name, encoder in encoders.items():
            ours = model.dyfulm.encoders[name].state_dict()
            theirs = encoder.state_dict()
            assert ours.keys() <= theirs.keys()
            assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
            assert not any("pooler" in key for key in ours)

    def test_from_encoders_loads_only_what_it_needs(self, tmp_path):
        AutoModel.from_config(encoder_config("bert")).save_pretrained(tmp_path)
        model = DyFuLMForSequenceClassification.from_encoders(tmp_path, "does/not-exist", cross_fusion="a")
        assert model.dyfulm.encoder_b is None and model.config.encoder_b_config is None
        with pytest.raises(ValueError, match="`encoder_b` is missing"):
            DyFuLMForSequenceClassification.from_encoders(tmp_path)

    def test_from_encoders_mixes_pretrained_and_scratch(self, tmp_path):
        AutoModel.from_config(encoder_config("bert")).save_pretrained(tmp_path)
        model = DyFuLMForSequenceClassification.from_encoders(tmp_path, encoder_config("deberta"))
        assert model.config.encoder_b_config.model_type == "deberta-v2"

    def test_a_decoder_without_encoder_may_read(self, make_config, inputs):
        config = GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=600)
        model = DyFuLMForSequenceClassification(make_config(encoder_a_config=config)).eval()
        assert torch.isfinite(model(**inputs).logits).all()


class TestModes:
    def test_attention_implementation_by_sub_model(self, make_model, inputs, tmp_path):
        model = make_model()
        model.save_pretrained(tmp_path)
        load = DyFuLMForSequenceClassification.from_pretrained
        default, eager = load(tmp_path), load(tmp_path, attn_implementation="eager")
        chosen = load(tmp_path, attn_implementation={"encoder_a_config": "eager"})
        implementations = [m.config.encoder_a_config._attn_implementation for m in (default, eager, chosen)]
        assert implementations == ["sdpa", "eager", "eager"]
        assert load(tmp_path, attn_implementation="sdpa").config.encoder_b_config._attn_implementation == "eager"
        torch.testing.assert_close(eager(**inputs).logits, default(**inputs).logits, atol=1e-5, rtol=0)

    def test_resizing_the_vocabulary_acts_on_encoder_a(self, make_model, inputs, tmp_path):
        model = make_model()
        expected = model(**inputs).logits
        model.resize_token_embeddings(650)
        assert model.get_input_embeddings().num_embeddings == model.config.encoder_a_config.vocab_size == 650
        assert model.config.encoder_b_config.vocab_size == 600
        torch.testing.assert_close(model(**inputs).logits, expected)
        model.save_pretrained(tmp_path)
        assert DyFuLMForSequenceClassification.from_pretrained(tmp_path).get_input_embeddings().num_embeddings == 650

    def test_encoders_from_one_configuration_change_apart(self, inputs, tmp_path):
        shared = encoder_config("bert")
        model = DyFuLMForSequenceClassification.from_encoders(shared, shared, layer_fusion_hidden_size=8)
        model.resize_token_embeddings(650)
        model.save_pretrained(tmp_path)
        loaded = DyFuLMForSequenceClassification.from_pretrained(tmp_path)
        assert [c.vocab_size for c in loaded.config.encoder_configs.values()] == [650, 600]


class TestBadInput:
    def test_fields_changed_on_loading_are_checked(self, make_model, tmp_path):
        make_model(cross_fusion="a").save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="'nonsense'"):
            DyFuLMForSequenceClassification.from_pretrained(tmp_path, loss_weighting="nonsense")
        with pytest.raises(ValueError, match="cross_fusion='gate' needs `encoder_b_config`"):
            DyFuLMForSequenceClassification.from_pretrained(tmp_path, cross_fusion="gate")

    def test_ids_and_embeddings_exclude_each_other(self, make_model, inputs):
        embeds = make_model().dyfulm.encoder_b.get_input_embeddings()(inputs["input_ids_b"])
        with pytest.raises(ValueError, match="either `input_ids_b` or `inputs_embeds_b`"):
            make_model()(**inputs, inputs_embeds_b=embeds)

    def test_says_which_encoder_has_no_input(self, make_model, inputs):
        inputs.pop("input_ids_b")
        with pytest.raises(ValueError, match=r"`input_ids_b` is missing.*encoder A and encoder B"):
            make_model()(**inputs)

    def test_rows_of_the_two_sides_must_match(self, make_model, inputs):
        short = {name: values[:2] if name.endswith("_b") else values for name, values in inputs.items()}
        with pytest.raises(ValueError, match="`input_ids` has 4 rows, but `input_ids_b` has 2"):
            make_model()(**short)

    def test_span_ids_come_in_pairs(self, make_model, inputs):
        inputs.pop("span_ids_b")
        with pytest.raises(ValueError, match="belong together"):
            make_model()(**inputs)

    def test_mask_must_fit(self, make_model, inputs):
        inputs["attention_mask_b"] = inputs["attention_mask_b"][:, :-1]
        with pytest.raises(ValueError, match=r"`attention_mask_b` has the shape.*encoder B"):
            make_model()(**inputs)


WAYS = [{}, {"cross_fusion": "a"}, {"cross_fusion": "b"}, {"gate_level": "sequence"}, {"cross_fusion": "concat"}]


class TestWindows:
    TEXTS = ["The room was not bad. " * 6, "good", "Never again! " * 9]

    @pytest.fixture
    def windows(self, processor):
        processor.max_length = 14
        batch = processor(self.TEXTS, return_windows=True, return_tensors="pt")
        assert batch["window_texts"].bincount().min() == 1 < 3 < batch["window_texts"].bincount().max()
        return dict(batch)

    @pytest.mark.parametrize("fields", WAYS, ids=_id)
    def test_heads_read_the_mean_by_spans(self, make_model, windows, fields):
        model = make_model(**fields)
        numbers = windows["window_texts"]
        alone = model(
            **{name: values for name, values in windows.items() if name != "window_texts"}, output_fusion=True
        )
        if fields.get("cross_fusion") in ("a", "b"):
            counts = windows["attention_mask_b" if fields["cross_fusion"] == "b" else "attention_mask"].sum(1)
        elif fields.get("gate_level") == "sequence":
            counts = windows["attention_mask"].sum(1) + windows["attention_mask_b"].sum(1)
        else:
            counts = windows["span_ids"].max(1).values + 1
        outputs = model(**windows, output_fusion=True)
        for text in range(3):
            own = numbers == text
            mean = (alone.pooler_output[own] * counts[own, None]).sum(0) / counts[own].sum()
            torch.testing.assert_close(outputs.pooler_output[text], mean, atol=1e-6, rtol=1e-5)
            coarse = model.coarse_classifier(mean)
            torch.testing.assert_close(outputs.coarse_logits[text], coarse, atol=1e-6, rtol=1e-5)
        assert outputs.logits.shape == (3, 5) and outputs.intensity.shape == (3,)
        torch.testing.assert_close(outputs.window_sums[:, -1], numbers.bincount(counts).float())

    def test_a_single_window_changes_nothing(self, make_model, inputs):
        model = make_model()
        rows = torch.arange(len(inputs["input_ids"]))
        expected, found = model(**inputs), model(**inputs, window_texts=rows)
        for name in ("logits", "coarse_logits", "intensity"):
            torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-6)
        assert expected.window_sums is None

    @pytest.mark.parametrize("size", [1, 4])
    def test_may_be_read_in_several_calls(self, make_model, windows, size):
        model = make_model()
        expected = model(**windows)
        sums = torch.zeros(3, model.config.fusion_hidden_size + 1)
        for start in range(0, len(windows["window_texts"]), size):
            part = {name: values[start : start + size] for name, values in windows.items()}
            outputs = model(**part, earlier_windows=sums)
            sums = outputs.window_sums
        for name in ("logits", "coarse_logits", "intensity"):
            torch.testing.assert_close(outputs[name], expected[name], atol=1e-6, rtol=1e-5)

    def test_the_loss_is_one_of_texts(self, make_model, windows):
        model = make_model()
        labels = {"labels": torch.tensor([1, 4, 0]), "intensity_labels": torch.tensor([0.2, 0.9, float("nan")])}
        outputs = model(**windows, **labels)
        expected = torch.nn.functional.cross_entropy(outputs.logits, labels["labels"])
        torch.testing.assert_close(outputs.fine_loss, expected)
        outputs.loss.backward()
        embeddings = model.get_input_embeddings().weight.grad
        used = windows["input_ids"][windows["span_ids"] >= 0].unique()
        assert (embeddings[used].abs().sum(1) > 0).all(), "each window has a share"
        with pytest.raises(ValueError, match="`labels`"):
            model(**windows, labels=torch.zeros(len(windows["window_texts"]), dtype=torch.long))

    def test_in_bfloat16(self, make_model, windows):
        model = make_model()
        expected = model(**windows)
        outputs = model.to(torch.bfloat16)(**windows)
        assert outputs.window_sums.dtype == torch.float32 and outputs.logits.dtype == torch.bfloat16
        torch.testing.assert_close(outputs.window_sums[:, -1], expected.window_sums[:, -1])

    def test_bad_input(self, make_model, windows, inputs):
        with pytest.raises(ValueError, match=r"`window_texts` must have the shape \(\d+,\), one text for each row"):
            make_model()(**{**windows, "window_texts": windows["window_texts"][:-1]})
        with pytest.raises(ValueError, match="`earlier_windows` needs `window_texts`"):
            make_model()(**inputs, earlier_windows=torch.zeros(4, 33))


class TestFewerHeads:
    """Models without a coarse head, without an intensity, or without both."""

    @pytest.fixture(params=[(0, True), (3, False), (0, False)], ids=["intensity", "coarse", "fine"])
    def fields(self, request):
        return dict(zip(("num_coarse_labels", "has_intensity"), request.param, strict=True))

    @staticmethod
    def own(labels, fields):
        absent = {"coarse_labels": not fields["num_coarse_labels"], "intensity_labels": not fields["has_intensity"]}
        return {name: values for name, values in labels.items() if not absent.get(name)}

    def test_answers_and_parameters_are_those_of_the_heads(self, make_model, inputs, fields):
        model = make_model(**fields)
        outputs = model(**inputs)
        assert [name for name in type(model.config).heads if name in outputs] == list(model.config.heads)
        names = {name.partition(".")[0] for name, _ in model.named_parameters()}
        assert ("coarse_classifier" in names) is ("coarse_logits" in outputs)
        assert ("intensity_regressor" in names) is ("intensity" in outputs)
        assert ("guidance" in names) is (len(model.config.heads) > 1)

    def test_labels_of_absent_heads_are_refused(self, make_model, inputs, labels, fields):
        with pytest.raises(ValueError, match=r"`(coarse|intensity)_labels` are given, but the model has no \w+ head"):
            make_model(**fields)(**inputs, **labels)

    @pytest.mark.parametrize("weighting", ["uncertainty", "dwa", "fixed"])
    def test_losses_are_weighted_among_those_there_are(self, make_model, inputs, labels, fields, weighting):
        model = make_model(**fields, loss_weighting=weighting, loss_weights=(2.0, 3.0, 4.0))
        factors = {"fine": 2.0, "coarse": 3.0, "intensity": 4.0}
        count = len(model.config.heads)
        for losses in ([2.0, 1.0, 0.5], [1.0, 0.9, 0.5]):
            model.loss_weighting.record_epoch(losses[:count])
        outputs = model(**inputs, **self.own(labels, fields))
        outputs.loss.backward()
        tasks = [head.task for head in model.config.heads.values()]
        expected = torch.tensor([factors[task] for task in tasks])
        if count > 1 and weighting == "uncertainty":
            expected = expected * torch.tensor([0.5 if task == "intensity" else 1.0 for task in tasks])
        elif count > 1 and weighting == "dwa":
            expected = expected * count * (torch.tensor([0.5, 0.9]) / 2).softmax(0)
        torch.testing.assert_close(outputs.loss_weights, expected)
        losses = torch.stack([outputs[f"{task}_loss"] for task in tasks])
        torch.testing.assert_close(outputs.loss, (expected * losses).sum())
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)

    def test_comes_back(self, make_model, inputs, fields, tmp_path):
        model = make_model(**fields)
        model.save_pretrained(tmp_path)
        loaded, report = DyFuLMForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"]
        assert_close(loaded(**inputs).logits, model(**inputs).logits)
