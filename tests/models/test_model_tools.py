"""What the tools around transformers expect of a model, of both architectures."""

import copy
import json
import zipfile
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from conftest import encoder_config
from safetensors.torch import load_file, save_file
from torch import nn
from torch.export import Dim, export
from transformers import AutoModel, DistilBertConfig, ElectraConfig, GPT2Config, NystromformerConfig, XLNetConfig

from hf_fusion import DashFusionForSequenceClassification, DashFusionModel
from hf_fusion.models.modeling_text_encoder import layer_class_names, position_inputs

FIXTURES = Path(__file__).parents[1] / "fixtures"
# What the ecosystem's tools look for, to adapt or to quantize.
LINEAR_NAMES = {
    "query", "key", "value", "q_proj", "k_proj", "v_proj", "o_proj", "out_proj", "dense", "query_proj", "key_proj",
    "value_proj", "fc1", "fc2", "up_proj", "down_proj", "gate_proj", "lin1", "lin2", "Wqkv", "Wo", "proj",
}  # fmt: skip
NUM_LAYERS = {"num_attention_heads": 4, "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 600}


@pytest.fixture
def clip_batch(clip_processor, clip_processor_b, clips):
    """Tensors for a DashFusion: of all clips, or of those that have all modalities."""

    def make(model, complete=False):
        processor = clip_processor_b if model.config.has_two_tokenizations else clip_processor
        columns = {name: values[:2] if complete else values for name, values in clips.items()}
        return dict(processor(**columns, return_tensors="pt"))

    return make


@pytest.mark.parametrize(
    "fields",
    [{}, {"anchor": "symmetric"}, {"fusion": "concat_attention"}, {"text": "dyfulm"}, {"text": "deberta"}],
    ids=str,
)
def test_names_of_linear_layers_are_theirs_alone(clip_model, fields):
    named = [(name, module) for name, module in clip_model(**fields).named_modules()]
    for name, module in named:
        if name.rpartition(".")[2] in LINEAR_NAMES:
            assert isinstance(module, (nn.Linear, nn.Conv1d)), (name, type(module))


def test_lora_by_the_usual_names(clip_model, clip_batch):
    peft = pytest.importorskip("peft")
    model = clip_model()
    wanted = model(**clip_batch(model)).logits
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "key", "value", "out_proj", "dense"])
    adapted = peft.get_peft_model(model, config)
    torch.testing.assert_close(adapted(**clip_batch(model)).logits, wanted, atol=1e-5, rtol=1e-5)


class TestOldNames:
    """Version 0.1.0 called the keys and values of several sources `key` and `value`."""

    @pytest.fixture
    def folder(self, tmp_path):
        zipfile.ZipFile(FIXTURES / "checkpoint-0.1.0-dashfusion.zip").extractall(tmp_path)
        return tmp_path

    @staticmethod
    def renamed(weights):
        return {
            name.replace("attention.key.", "attention.keys.").replace("attention.value.", "attention.values.")
            if name.split(".")[-2] in ("text", "audio", "vision") else name: value
            for name, value in weights.items()
        }  # fmt: skip

    def test_loads_every_weight_and_saves_under_the_new_names(self, folder, tmp_path):
        old = load_file(folder / "model.safetensors")
        assert any(".attention.key.audio." in name for name in old)
        model, info = DashFusionForSequenceClassification.from_pretrained(folder, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        weights = model.state_dict()
        wanted = self.renamed(old)
        assert set(weights) == set(wanted)
        assert all(torch.equal(weights[name], value) for name, value in wanted.items())
        model.save_pretrained(tmp_path / "again")
        saved = load_file(tmp_path / "again" / "model.safetensors")
        # transformers 5.5 saves layer norms of BERT under the names of TensorFlow, which every version reads
        usual = {name.replace("Norm.gamma", "Norm.weight").replace("Norm.beta", "Norm.bias") for name in saved}
        assert usual == set(weights)
        base = DashFusionModel.from_pretrained(folder)
        assert all(
            torch.equal(base.state_dict()[name], model.dashfusion.state_dict()[name]) for name in base.state_dict()
        )

    def test_state_dict(self, folder):
        old = load_file(folder / "model.safetensors")
        model = DashFusionForSequenceClassification.from_pretrained(folder)
        names = set(old)
        other = DashFusionForSequenceClassification(model.config)
        other.load_state_dict(old)
        assert set(old) == names
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())

    def test_adapter(self, folder, tmp_path, clip_batch):
        peft = pytest.importorskip("peft")
        model = DashFusionForSequenceClassification.from_pretrained(folder)
        config = peft.LoraConfig(
            r=2, target_modules=r".*text_encoder.*\.query", modules_to_save=["dashfusion.fusion", "classifier"]
        )
        adapted = peft.get_peft_model(model, config)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.3)
        adapted.save_pretrained(tmp_path / "adapter")
        path = tmp_path / "adapter" / "adapter_model.safetensors"
        old = {
            name.replace("attention.keys.", "attention.key.").replace("attention.values.", "attention.value."): value
            for name, value in load_file(path).items()
        }
        assert any(".attention.key.audio." in name for name in old)
        save_file(old, path)
        again = DashFusionForSequenceClassification.from_pretrained(folder)
        again = peft.PeftModel.from_pretrained(again, tmp_path / "adapter")
        for name, value in adapted.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), name


class TestOffloading:
    def models(self, clip_model, make_model):
        return {"dashfusion": clip_model("roberta"), "dyfulm": make_model(a="bert", b="roberta")}

    @pytest.fixture(params=["dashfusion", "dyfulm"])
    def model_and_inputs(self, request, clip_model, make_model, clip_batch, processor, texts):
        model = self.models(clip_model, make_model)[request.param]
        batch = clip_batch(model) if request.param == "dashfusion" else dict(processor(texts, return_tensors="pt"))
        return model, batch

    @pytest.mark.parametrize("to_disk", [False, True])
    @torch.no_grad()
    def test_of_all_weights(self, model_and_inputs, tmp_path, to_disk):
        model, inputs = model_and_inputs
        wanted = model(**inputs).logits
        away = copy.deepcopy(model)
        if to_disk:
            disk_offload(away, tmp_path, execution_device=torch.device("cpu"))
        else:
            cpu_offload(away, execution_device=torch.device("cpu"))
        torch.testing.assert_close(away(**inputs).logits, wanted)

    @torch.no_grad()
    def test_of_each_part(self, model_and_inputs, tmp_path):
        """Any part of the map that keeps units whole can lie on the disk."""
        model, inputs = model_and_inputs
        wanted = model(**inputs).logits
        model.save_pretrained(tmp_path / "model")
        base = model.base_model_prefix
        parts = [f"{base}.{name}" for name, _ in model.base_model.named_children()]
        parts += [name for name, _ in model.named_children() if name != base]
        for i in range(2):  # every second one
            device_map = {name: "disk" if number % 2 == i else "cpu" for number, name in enumerate(parts)}
            away = type(model).from_pretrained(
                tmp_path / "model", device_map=device_map, offload_folder=tmp_path / f"away{i}"
            )
            torch.testing.assert_close(away(**inputs).logits, wanted)

    def test_modules_that_read_parameters_of_their_own_stay_whole(self, clip_model):
        found = layer_class_names(clip_model())
        assert {"DashFusionSequenceEncoder", "DashFusionEncoderLayer", "BertLayer"} <= set(found)


def only(modalities, batch):
    """The tensors of some modalities."""
    owners = {name: name.split("_")[0] if name.startswith(("audio", "vision")) else "text" for name in batch}
    return {name: values for name, values in batch.items() if owners[name] in modalities}


def without_gradient(model, batch):
    model.train()
    model(**batch).loss.backward()
    return [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]


class TestGradients:
    """Distributed training wants one for every parameter in every step."""

    @pytest.mark.parametrize("given", ["text", "audio", "vision", "text audio", "text audio vision"])
    @pytest.mark.parametrize("text", ["bert", "dyfulm"])
    def test_of_absent_modalities(self, clip_model, clip_batch, text, given):
        model = clip_model(text, modality_distillation=0.3)
        batch = only(given.split(), clip_batch(model, complete=True))
        assert not without_gradient(model, {**batch, "labels": torch.tensor([1.0, -2.0])})
        gradients = [value.grad for value in model.parameters()]
        assert all(gradient.isfinite().all() for gradient in gradients)

    @pytest.mark.parametrize(
        "fields",
        [{"modalities": ("text",)}, {"modalities": ("audio",), "anchor": "audio"}, {"fusion": "concat"},
         {"fusion": "concat_attention", "anchor": "symmetric"}, {"temporal_alignment": False}],
        ids=str,
    )  # fmt: skip
    def test_of_each_configuration(self, clip_model, clip_batch, fields):
        model = clip_model(**fields)
        batch = only(model.config.modalities, clip_batch(model, complete=True))
        assert not without_gradient(model, {**batch, "labels": torch.tensor([1.0, -2.0])})

    @pytest.mark.parametrize(
        "fields",
        [{"cross_fusion": "mean"}, {"cross_fusion": "concat"}, {"cross_fusion": "a"}, {"cross_fusion": "b"},
         {"layer_fusion": "mean", "gate_level": "sequence"}, {"layer_fusion": "last", "use_guidance": False}],
        ids=str,
    )  # fmt: skip
    def test_of_a_dyfulm_without_spans(self, make_model, processor, texts, fields):
        batch = processor(texts, return_tensors="pt")
        inputs = {name: values for name, values in batch.items() if "span" not in name}
        assert not without_gradient(make_model(**fields), {**inputs, "labels": torch.tensor([0, 1, 2, 3])})

    @torch.no_grad()
    def test_empty_clips_of_training_change_nothing(self, clip_model):
        model = clip_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        inputs = {"audio_features": torch.randn(3, 5, model.config.audio_feature_size)}
        wanted = model(**inputs).logits
        with torch.enable_grad():
            found = model.train()(**inputs).logits
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


class TestExport:
    @pytest.mark.parametrize(("fields", "example"), [({}, 3), ({"anchor": "symmetric"}, 9)], ids=str)
    @torch.no_grad()
    def test_one_graph_serves_all_lengths(self, clip_model, fields, example):
        model = clip_model(num_bottleneck_tokens=6, **fields)

        def clips(tokens):
            frames = min(tokens, 9)
            features = {"audio": torch.randn(2, frames, 3), "vision": torch.randn(2, frames + 1, 5)}
            masks = {f"{name}_attention_mask": torch.ones(values.shape[:2]) for name, values in features.items()}
            text = {"input_ids": torch.randint(5, 90, (2, tokens)), "attention_mask": torch.ones(2, tokens).long()}
            return text | {f"{name}_features": values for name, values in features.items()} | masks

        inputs = clips(example)
        shapes = {name: {1: Dim.DYNAMIC} for name in inputs}
        graph = export(model, (), kwargs=inputs, dynamic_shapes=shapes, strict=False).module()
        for tokens in (2, 5, 6, 7, 11):
            inputs = clips(tokens)
            found, wanted = graph(**inputs), model(**inputs)
            torch.testing.assert_close(found.logits, wanted.logits, atol=1e-5, rtol=1e-5)
            if wanted.bottleneck is not None:
                assert wanted.bottleneck.shape == (2, 3, 16)
                torch.testing.assert_close(found.bottleneck, wanted.bottleneck, atol=1e-5, rtol=1e-5)


class TestPaddingOnTheLeft:
    """A row must not depend on the longest one beside it."""

    ENCODERS = {
        "bert": lambda: encoder_config("bert"),
        "roberta": lambda: encoder_config("roberta"),
        "deberta": lambda: encoder_config("deberta", hidden_size=32),
        "deberta-biased": lambda: encoder_config("deberta", hidden_size=32, position_biased_input=True),
        "electra": lambda: ElectraConfig(**NUM_LAYERS, intermediate_size=64, embedding_size=16),
        "distilbert": lambda: DistilBertConfig(n_heads=4, dim=32, n_layers=2, hidden_dim=64, vocab_size=600),
        "gpt2": lambda: GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=600),
        "xlnet": lambda: XLNetConfig(vocab_size=600, d_model=32, n_layer=2, n_head=4, d_inner=64),
    }

    def padded(self, model, row, more, embeds):
        ids = torch.cat([torch.full((1, more), model.config.get_text_config().pad_token_id or 0), row], dim=1)
        mask = (torch.arange(ids.shape[1]) >= more).long()[None]
        if not embeds:
            return {"input_ids": ids, "attention_mask": mask}
        return {"inputs_embeds": model.get_input_embeddings()(ids), "attention_mask": mask}

    @pytest.mark.parametrize("embeds", [False, True])
    @pytest.mark.parametrize("kind", list(ENCODERS))
    @torch.no_grad()
    def test_changes_nothing(self, make_model, clip_model, kind, embeds):
        config = self.ENCODERS[kind]()
        dyfulm = make_model(cross_fusion="a", encoder_a_config=config)
        clip = DashFusionForSequenceClassification(clip_model().config.__class__(config, hidden_size=16)).eval()
        row = torch.randint(5, 90, (1, 6))
        for model in (dyfulm, clip):
            wanted = model(**self.padded(model, row, 0, embeds)).logits
            found = model(**self.padded(model, row, 3, embeds)).logits
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)

    def test_a_table_with_unused_positions(self):
        encoder = AutoModel.from_config(NystromformerConfig(**NUM_LAYERS, intermediate_size=64))
        mask = torch.tensor([[1, 1, 1, 0], [0, 0, 1, 1]])
        found = position_inputs(encoder, mask, from_embeds=False)["position_ids"]
        assert torch.equal(found[0], encoder.embeddings.position_ids[0, :4])
        assert found[1, 2:].tolist() == found[0, :2].tolist()

    @torch.no_grad()
    def test_of_both_tokenizers(self, make_model, processor, texts):
        model = make_model(a="bert", b="bert")
        wanted = model(**processor(texts, return_tensors="pt")).logits
        tokenizers = [copy.deepcopy(tokenizer) for tokenizer in processor.tokenizers]
        for tokenizer in tokenizers:
            tokenizer.padding_side = "left"
        found = model(**type(processor)(*tokenizers)(texts, return_tensors="pt")).logits
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_dummy_inputs(clip_model, make_model, make_config):
    for model in (clip_model(), clip_model("dyfulm"), make_model(), make_model(cross_fusion="a")):
        assert model(**model.dummy_inputs).logits.shape[0] == 1


class TestAnotherTask:
    """A trained model starts another task, as other sequence-classification models do."""

    def test_there_and_back(self, clip_model, tmp_path):
        model = clip_model()
        model(**model.dummy_inputs, labels=torch.zeros(1))
        model.save_pretrained(tmp_path / "score")
        load = DashFusionForSequenceClassification.from_pretrained
        with pytest.raises(ValueError, match="also give problem_type='single_label_classification'"):
            load(tmp_path / "score", num_labels=4, ignore_mismatched_sizes=True)
        options = {"num_labels": 4, "problem_type": "single_label_classification", "ignore_mismatched_sizes": True}
        classes = load(tmp_path / "score", **options)
        classes(**classes.dummy_inputs, labels=torch.tensor([3]))
        classes.save_pretrained(tmp_path / "classes")
        assert json.loads((tmp_path / "classes" / "config.json").read_text())["problem_type"] == options["problem_type"]
        with pytest.raises(ValueError, match=r"problem_type=.regression"):
            load(tmp_path / "classes", num_labels=1, ignore_mismatched_sizes=True)
        options = {"num_labels": 1, "problem_type": "regression", "ignore_mismatched_sizes": True}
        score = load(tmp_path / "classes", **options)
        assert score(**score.dummy_inputs, labels=torch.zeros(1)).logits.shape == (1, 1)
        several = load(tmp_path / "score", id2label={0: "a", 1: "b"}, problem_type="multi_label_classification",
                       ignore_mismatched_sizes=True)  # fmt: skip
        assert several(**several.dummy_inputs, labels=torch.tensor([[1.0, 0.0]])).logits.shape == (1, 2)
