"""What a model and a pipeline of transformers do, of both architectures: one suite, each on its own configurations."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from asserts import assert_close, assert_same_weights
from datasets import Dataset
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification, T5Config, ViTConfig
from transformers.pipelines.pt_utils import KeyDataset

from hf_fusion import (
    DashFusionForSequenceClassification,
    DashFusionModel,
    DyFuLMForSequenceClassification,
    DyFuLMModel,
    FusionSentimentPipeline,
)
from hf_fusion.models.pipeline_common import LOOKAHEAD_BATCHES
from hf_fusion.models.processing_text import InputError

ARCHITECTURES = [("dyfulm", {}), ("dashfusion", {}), ("dashfusion", {"text": "dyfulm"})]
VARIANTS = {
    "dyfulm": [
        {"layer_fusion": "mean"}, {"layer_fusion": "last"}, {"cross_fusion": "mean"}, {"cross_fusion": "concat"},
        {"cross_fusion": "a"}, {"cross_fusion": "b"}, {"gate_level": "sequence"}, {"use_guidance": False},
        {"loss_weighting": "dwa"}, {"loss_weighting": "fixed", "loss_weights": (1.0, 0.5, 2.0)},
        {"fusion_hidden_size": 20}, {"a": "bert", "b": "bert"},
    ],
    "dashfusion": [
        {"temporal_alignment": False}, {"anchor": "audio"}, {"anchor": "vision"}, {"anchor": "symmetric"},
        {"fusion": "concat_attention"}, {"fusion": "concat"},
        {"fusion": "concat", "temporal_alignment": False, "anchor": "symmetric"},
        {"num_bottleneck_tokens": 1, "num_fusion_layers": 3}, {"text": "roberta"}, {"text": "deberta"},
        {"num_labels": 4},
    ],
}  # fmt: skip


def _id(case):
    architecture, fields = case
    return "-".join([architecture, *(f"{name}={value}" for name, value in fields.items())])


each_of_two = pytest.mark.parametrize("case", ARCHITECTURES[:2], ids=_id, indirect=True)
each_architecture = pytest.mark.parametrize("case", ARCHITECTURES, ids=_id, indirect=True)
each_variant = pytest.mark.parametrize(
    "case",
    [*ARCHITECTURES, *((kind, fields) for kind in VARIANTS for fields in VARIANTS[kind])],
    ids=_id,
    indirect=True,
)


@pytest.fixture
def case(request):
    """
    An architecture with some fields: `model(**more_fields)` and `config(**more_fields)`, the processor, `rows` as a
    pipeline takes them, `encode(rows)`, the `batch` of all of them and its `labels`.
    """
    architecture, fields = request.param
    get = request.getfixturevalue
    if architecture == "dyfulm":
        make, make_config, processor = get("make_model"), get("make_config"), get("processor")
        classes = DyFuLMForSequenceClassification, DyFuLMModel
        rows, labels = [{"text": text} for text in get("texts")], get("labels")
    else:
        make, make_config = get("clip_model"), get("clip_config")
        processor = get("clip_processor_b" if fields.get("text") == "dyfulm" else "clip_processor")
        classes = DashFusionForSequenceClassification, DashFusionModel
        clips = get("clips")
        rows = [dict(zip(clips, values, strict=True)) for values in zip(*clips.values(), strict=True)]
        several = fields.get("num_labels", 1) > 1
        labels = {"labels": torch.tensor([1, 2, 1, 0, 2] if several else [1.0, 2.0, 1.2, -1.0, 2.1])}

    def encode(rows, **options):
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        text = {} if architecture != "dyfulm" else {"text": columns.pop("text")}
        return dict(processor(**text, **columns, return_tensors="pt", **options))

    return SimpleNamespace(
        architecture=architecture, processor=processor, rows=rows, labels=labels, encode=encode, batch=encode(rows),
        classifier=classes[0], base_class=classes[1],
        model=lambda **more: make(**fields, **more), config=lambda **more: make_config(**fields, **more),
    )  # fmt: skip


@pytest.fixture
def pipe(case):
    return FusionSentimentPipeline(case.model(), processor=case.processor, device="cpu")


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    return model


class TestSaving:
    @each_variant
    @torch.no_grad()
    def test_reloads_bit_for_bit(self, case, tmp_path):
        """The weights, with the head and without; what is computed with them is equal to 1e-5."""
        model = case.model()
        model.save_pretrained(tmp_path)
        loaded, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"]
        assert_same_weights(loaded, model)
        assert_close(loaded(**case.batch).logits, model(**case.batch).logits)
        base = AutoModel.from_pretrained(tmp_path)
        assert type(base) is case.base_class
        assert_same_weights(base, model.base_model)
        assert_close(base(**case.batch).pooler_output, model.base_model(**case.batch).pooler_output)

    @each_architecture
    def test_a_new_head_is_initialised(self, case, tmp_path):
        base = case.model().base_model
        base.save_pretrained(tmp_path)
        model, report = case.classifier.from_pretrained(tmp_path, output_loading_info=True)
        heads = {name for name, _ in model.named_parameters() if not name.startswith(f"{model.base_model_prefix}.")}
        assert heads <= set(report["missing_keys"]) and "classifier" in {name.split(".")[0] for name in heads}
        assert not any(name.startswith(f"{model.base_model_prefix}.") for name in report["missing_keys"])
        assert not report["unexpected_keys"] and not report["mismatched_keys"]
        assert_same_weights(model.base_model, base)
        assert all(torch.isfinite(p).all() and p.abs().max() < 10 for p in model.parameters())

    @each_architecture
    def test_every_parameter_is_initialised_by_the_model(self, case, monkeypatch):
        """Poison the memory that parameters are born with; what remains poisoned was never initialised."""
        real_empty = torch.empty

        def poisoned(*size, **kwargs):
            tensor = real_empty(*size, **kwargs)
            return tensor.fill_(1e9) if tensor.is_floating_point() and tensor.device.type == "cpu" else tensor

        config = case.config()
        monkeypatch.setattr(torch, "empty", poisoned)
        model = case.classifier(config)
        monkeypatch.undo()
        assert [name for name, p in model.named_parameters() if p.abs().max() > 1e3] == []

    @each_architecture
    def test_copies(self, case, tmp_path):
        model = case.model()
        wanted = model(**case.batch).logits
        torch.save(model, tmp_path / "model.pt")
        for other in (copy.deepcopy(model), torch.load(tmp_path / "model.pt", weights_only=False)):
            torch.testing.assert_close(other(**case.batch).logits, wanted)

    @each_architecture
    def test_loads_in_another_precision(self, case, tmp_path):
        case.model().save_pretrained(tmp_path)
        half = case.classifier.from_pretrained(tmp_path, dtype=torch.bfloat16, attn_implementation="eager")
        assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
        assert half(**case.batch).logits.dtype == torch.bfloat16

    @each_architecture
    def test_a_larger_vocabulary(self, case, tmp_path):
        model = case.model()
        wanted = model(**case.batch).logits
        model.resize_token_embeddings(640)
        assert model.get_input_embeddings().num_embeddings == model.config.get_text_config().vocab_size == 640
        torch.testing.assert_close(model(**case.batch).logits, wanted)
        model.save_pretrained(tmp_path)
        assert case.classifier.from_pretrained(tmp_path).get_input_embeddings().num_embeddings == 640

    @pytest.mark.parametrize("config", [T5Config(), ViTConfig()], ids=["encoder-decoder", "vision"])
    @each_architecture
    def test_no_text_encoder(self, case, config):
        name = "encoder_a_config" if case.architecture == "dyfulm" else "text_config"
        with pytest.raises(ValueError, match="text encoder"):
            type(case.config())(**{name: config})
            case.classifier(type(case.config())(**{name: config}))


class TestOutputs:
    @each_variant
    @torch.no_grad()
    def test_tuple_holds_what_the_dict_holds(self, case):
        model = case.model()
        options = {**case.batch, **case.labels, "output_fusion": True}
        as_dict, as_tuple = model(**options), model(**options, return_dict=False)
        assert isinstance(as_tuple, tuple) and len(as_tuple) == len(as_dict) > 3
        assert_close(list(as_tuple), list(as_dict.to_tuple()))
        assert_close(as_dict.logits, model(**case.batch).logits, where="without labels")

    @each_architecture
    @torch.no_grad()
    def test_what_is_asked_for(self, case):
        model = case.model()
        with pytest.raises(ValueError, match=r"no attentions with sdpa attention.*'eager'"):
            model(**case.batch, output_attentions=True)
        plain = model(**case.batch)
        model.set_attn_implementation("eager")
        asked = model(**case.batch, output_attentions=True, output_hidden_states=True, output_fusion=True)
        assert_close(asked.logits, plain.logits)
        assert plain.hidden_states is plain.attentions is plain.loss is None
        assert len(asked.hidden_states) == len(asked.attentions) + 1
        assert asked.attentions[0].shape[1] == 4
        tokens = case.batch["attention_mask"].bool()
        sums = asked.attentions[0].sum(-1).transpose(1, 2)[: len(tokens)]
        torch.testing.assert_close(sums[tokens], torch.ones_like(sums[tokens]))

    @each_architecture
    @pytest.mark.parametrize("value", [[0], 1, "yes"])
    @torch.no_grad()
    def test_options_that_are_true(self, case, value):
        model = case.model()
        assert len(model(**model.dummy_inputs, output_hidden_states=value).hidden_states) > 1
        assert model(**model.dummy_inputs, output_hidden_states=0).hidden_states is None

    @each_architecture
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @torch.no_grad()
    def test_half_precision(self, request, case, dtype):
        if dtype == torch.bfloat16:
            request.getfixturevalue("bfloat16_attention")
        model = case.model()
        expected = model(**case.batch).logits
        outputs = model.to(dtype)(**case.batch, **case.labels)
        assert outputs.logits.dtype == dtype and torch.isfinite(outputs.loss)
        found = outputs.logits.float()
        assert np.corrcoef(found.flatten(), expected.flatten())[0, 1] > 0.99
        if case.architecture == "dashfusion":
            assert outputs.loss.dtype == torch.float32
        else:
            torch.testing.assert_close(found.softmax(-1), expected.softmax(-1), atol=0.05, rtol=0)

    @each_of_two
    @torch.no_grad()
    def test_embeddings_in_place_of_ids(self, case):
        if case.architecture == "dyfulm":
            model = case.model(a="bert", b="bert")  # RoBERTa would count positions from the ids
            encoders = {"": model.dyfulm.encoders["a"], "_b": model.dyfulm.encoders["b"]}
        else:
            model = case.model()
            encoders = {"": model}
        batch = case.encode(case.rows[:1])  # a single row has no padding
        expected = model(**batch).logits
        for suffix, encoder in encoders.items():
            batch[f"inputs_embeds{suffix}"] = encoder.get_input_embeddings()(batch.pop(f"input_ids{suffix}"))
        torch.testing.assert_close(model(**batch).logits, expected, atol=1e-5, rtol=1e-5)


class TestIndependence:
    @each_variant
    @torch.no_grad()
    def test_of_neighbours_and_their_order(self, case):
        model = case.model()
        together = model(**case.batch).logits
        for row, expected in zip(case.rows, together, strict=True):
            torch.testing.assert_close(model(**case.encode([row])).logits[0], expected, atol=1e-5, rtol=1e-5)
        order = torch.randperm(len(case.rows))
        shuffled = model(**{name: values[order] for name, values in case.batch.items()}).logits
        torch.testing.assert_close(shuffled, together[order], atol=1e-5, rtol=1e-5)

    @each_variant
    @torch.no_grad()
    def test_of_what_lies_in_the_padding(self, case):
        model = case.model()
        expected = model(**case.batch).logits
        for suffix in ("", "_b"):
            if f"input_ids{suffix}" in case.batch:
                padding = case.batch[f"attention_mask{suffix}"] == 0
                case.batch[f"input_ids{suffix}"][padding] = 7
        for name in ("audio", "vision"):
            if f"{name}_features" in case.batch:
                case.batch[f"{name}_features"][case.batch[f"{name}_attention_mask"] == 0] = float("nan")
        torch.testing.assert_close(model(**case.batch).logits, expected, atol=1e-5, rtol=1e-5)


class TestTraining:
    @each_variant
    def test_every_parameter_gets_a_finite_gradient(self, case):
        """Distributed training waits for one from every parameter, whichever labels a batch has."""
        model = case.model().train()
        for labels in (case.labels, *({name: values} for name, values in case.labels.items())):
            model.zero_grad()
            model(**case.batch, **labels).loss.backward()
            assert [name for name, p in model.named_parameters() if p.grad is None] == [], list(labels)
            assert all(torch.isfinite(p.grad).all() for p in model.parameters())

    @each_architecture
    def test_under_autocast(self, request, case):
        request.getfixturevalue("bfloat16_attention")
        model = case.model().train()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**case.batch, **case.labels).loss
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())

    @each_architecture
    def test_gradient_checkpointing_changes_nothing(self, case):
        gradients = []
        for checkpointing in (False, True):
            model = without_dropout(case.model())
            for config in (module.config for module in model.modules() if hasattr(module, "config")):
                for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
                    setattr(config, name, 0.0)
            if checkpointing:
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
                assert model.is_gradient_checkpointing
            model.train()
            model(**case.batch, **case.labels).loss.backward()
            gradients.append({name: p.grad for name, p in model.named_parameters()})
        assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)

    @each_of_two
    @torch.no_grad()
    def test_compiles_without_a_graph_break(self, case):
        model = case.model(**({"a": "bert", "b": "bert"} if case.architecture == "dyfulm" else {}))
        expected = model(**case.batch).logits  # also installs what transformers records with, which ends a graph
        found = torch.compile(model, backend="aot_eager", fullgraph=True)(**case.batch).logits
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)

    @each_architecture
    def test_layers_stay_in_one_piece(self, case):
        own = {"DashFusionEncoderLayer", "DashFusionFusionLayer"} if case.architecture == "dashfusion" else set()
        two = {"RobertaLayer", "DebertaV2Layer"}
        assert own | (two if "input_ids_b" in case.batch else {"BertLayer"}) <= set(case.model()._no_split_modules)


class TestPipeline:
    @each_architecture
    def test_answers_do_not_depend_on_the_batch_size(self, pipe, case):
        rows = [*case.rows, "?", {"text": "x " * 90}]
        alone = [pipe(row) for row in rows]
        for batch_size in (1, 2, 5, 100):
            answers = pipe(rows + rows[::-1], batch_size=batch_size)
            assert_close(answers, alone + alone[::-1], where=f"batch_size={batch_size}")
        assert_close(pipe(tuple(rows)), alone)
        assert pipe([]) == [] and isinstance(pipe(rows), list)

    @each_architecture
    def test_generators_are_streamed_in_order(self, pipe, case):
        many = case.rows * 9
        stream = pipe((row for row in many), batch_size=2)
        assert not isinstance(stream, list) and len(many) > 2 * LOOKAHEAD_BATCHES
        assert_close(list(stream), pipe(case.rows) * 9)

    @each_architecture
    def test_generators_are_read_no_further_than_needed(self, pipe):
        read = []

        def many():
            for _ in range(100 * LOOKAHEAD_BATCHES):
                read.append(1)
                yield {"text": "good"}

        assert next(pipe(many(), batch_size=2))["label"]
        assert len(read) == 2 * LOOKAHEAD_BATCHES

    @each_architecture
    def test_a_string_is_the_text_and_none_is_absent(self, pipe):
        assert_close(pipe({"text": "good"}), pipe("good"))
        assert_close(pipe({"text": "good", "audio": None, "vision": None}), pipe("good"))

    @each_architecture
    def test_data_sets(self, pipe):
        rows = Dataset.from_dict({"text": ["good", "bad", "fine"]})
        for data in (rows, KeyDataset(rows, "text")):
            assert_close(list(pipe(data)), [pipe(text) for text in rows["text"]])

    @each_architecture
    def test_a_model_straight_from_training_answers_without_dropout(self, case):
        model = case.model(classifier_dropout=0.5).train()
        pipe = FusionSentimentPipeline(model, processor=case.processor, device="cpu")
        assert_close(pipe(case.rows[0]), pipe(case.rows[0]))

    @each_architecture
    def test_leaves_no_gradients(self, pipe, monkeypatch):
        seen, forward = [], pipe._forward
        monkeypatch.setattr(pipe, "_forward", lambda b: seen.append(torch.is_inference_mode_enabled()) or forward(b))
        pipe("good")
        assert seen == [True]

    @each_architecture
    def test_errors_in_the_places_of_the_answers(self, pipe):
        for options in ({}, {"return_truncated": True}):
            good, bad, other = pipe(["good", "", "fine"], on_error="return", **options)
            assert isinstance(bad, InputError) and (bad.number, bad.reason) == (1, "The text is empty.")
            assert_close([good, other], pipe(["good", "fine"], **options))
        again = pickle.loads(pickle.dumps(bad))
        assert (again.number, str(again)) == (1, "Input 1 cannot be read. The text is empty.")
        assert pipe("", on_error="return").number == 0

    @each_architecture
    @pytest.mark.parametrize("value", ["", " \n", "\u200b", "talk.flac"], ids=ascii)
    def test_texts_without_a_word_are_told_by_number(self, pipe, value):
        place = 2 * LOOKAHEAD_BATCHES + 3
        for row in (value, {"text": value}):
            with pytest.raises(ValueError, match=r"^Input 0 cannot be read\. The text (is|has no) "):
                pipe(row)
        with pytest.raises(ValueError, match=rf"^Input {place} cannot be read\. The text (is|has no) "):
            list(pipe((value if i == place else "good" for i in range(place + 1)), batch_size=2))

    @each_architecture
    @pytest.mark.parametrize("value", [3, None, np.nan, ["a"], {"review": "x"}], ids=str)
    def test_inputs_that_are_neither_text_nor_dict(self, pipe, value):
        with pytest.raises(ValueError, match=r"^Input 1 cannot be read\. Expected a string or a dict with 'text'"):
            pipe(["good", value])

    @each_architecture
    def test_errors_of_the_program_are_none_of_an_input(self, pipe, case, monkeypatch):
        def fail(*args, **kwargs):
            raise ValueError("a bug")

        reads = [(pipe.processor, "encode_text")] if case.architecture == "dashfusion" else []
        for owner, name in ((pipe.model, "forward"), (pipe, "postprocess"), *reads):
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, fail)
                for on_error in ("raise", "return"):
                    with pytest.raises(ValueError, match=r"^a bug$") as error:
                        pipe(["good", "bad"], on_error=on_error)
                    assert not isinstance(error.value, InputError)

    @each_architecture
    def test_truncated_inputs_are_marked(self, pipe, monkeypatch):
        lines = []
        pipe.processor.max_length = 10
        monkeypatch.setattr("hf_fusion.models.pipeline_common.logger.warning", lines.append)
        rows = ["good", "the room was not bad at all " * 3, "bad"]
        cut = {"long_texts": "cut"} if pipe.model.config.reads_windows else {}
        answers = pipe(rows, return_truncated=True, **cut)
        lines = [line for line in lines if "cut" in line]
        assert [answer.pop("truncated") for answer in answers] == [False, True, False] and not lines
        for answer in answers:
            assert ("kept" in answer) == bool(cut) and answer.pop("kept", 0) <= 1
        monkeypatch.setattr("hf_fusion.models.pipeline_common.logger.warning", lines.append)
        assert_close(answers, pipe(rows, **cut))
        assert [line.partition(" inputs")[0] for line in lines] == ["1 of 3"]

    @each_architecture
    def test_unknown_options(self, pipe):
        with pytest.raises(ValueError, match="`on_error` must be one of 'raise', 'return', got 'drop'"):
            pipe("good", on_error="drop")
        with pytest.raises(ValueError, match="Unknown argument `topk`"):
            pipe("x", topk=2)
