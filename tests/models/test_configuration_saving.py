"""What a configuration is told comes back, by whatever way it is saved and loaded."""

import copy
import inspect
import json
from dataclasses import fields as fields_of

import pytest
import torch
from conftest import encoder_config
from hypothesis import given, settings
from hypothesis import strategies as st
from test_isolated_loading import load_as_stranger
from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig, PretrainedConfig

from hf_fusion import DashFusionConfig, DyFuLMConfig, FusionSentimentPipeline

# For every field of a configuration some legal values, among them the library's own defaults.
NAMES = {0: "LABEL_0", 1: "LABEL_1"}
COMMON = {
    "num_labels": [2, 3, 10],
    "id2label": [NAMES, {0: "no", 1: "yes"}, {0: "a", 1: "b", 2: "c", 3: "d", 4: "é"}],
    "label2id": [{"no": 0, "yes": 1}, {"LABEL_0": 0, "LABEL_1": 1}],
}
INHERITED = {
    "output_hidden_states": [True, False],
    "output_attentions": [True, False],
    "return_dict": [False, True],
    "dtype": ["bfloat16", torch.float16, "float32", None],
    "chunk_size_feed_forward": [0, 2],
    "is_encoder_decoder": [False],
    "architectures": [["DyFuLMModel"], None],
    "tie_word_embeddings": [False, True],
    "tokenizer_class": ["BertTokenizer", None],
    "own_note": ["of mine", None, 0, [1, 2], {"a": 1}],
}
SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
ENCODERS = [
    BertConfig(**SMALL),
    BertConfig(**SMALL, num_labels=3, problem_type="regression", layer_norm_eps=1e-5, tie_word_embeddings=False),
    {"model_type": "electra", **SMALL, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "return_dict": False},
    encoder_config("deberta"),
]
FIELDS = {
    DyFuLMConfig: {
        **COMMON,
        "encoder_a_config": ENCODERS,
        "encoder_b_config": ENCODERS,
        "fusion_hidden_size": [None, 24, 16],
        "layer_fusion": ["bilstm", "mean", "last"],
        "layer_fusion_hidden_size": [1, 128],
        "cross_fusion": ["gate", "mean", "concat", "a", "b"],
        "pooling": ["attention"],
        "gate_level": ["span", "sequence"],
        "num_coarse_labels": [None, 2, 3, 7, 0],
        "coarse_id2label": [None, NAMES, {"0": "bad", "1": "so", "2": "good", "3": "best"}],
        "intensity_range": [(0.0, 1.0), [-2, 2.5]],
        "use_guidance": [True, False],
        "has_intensity": [True, False],
        "coarse_starts": [None, [0, 1, 4]],
        "loss_weighting": ["uncertainty", "dwa", "fixed"],
        "loss_weights": [(1.0, 1.0, 1.0), [0, 2, 0.5]],
        "dwa_temperature": [2.0, 0.1],
        "classifier_dropout": [0.0, 0.1, 0.9],
        "initializer_range": [0.02, 1e-6],
        "fine_loss": ["cross_entropy", "ordinal_log_loss", "corn"],
        "focal_gamma": [0.0, 2, 0.5],
        "class_values": [None, [1, 2, 3, 4, 5], [-1.0, -0.5, 0.0, 0.5, 10.0]],
        "problem_type": [None],
        "temperature": [1.0, 0.3, 2.7],
        "coarse_temperature": [1.0, 4.0],
        "abstain_below": [None, 0.0, 0.55],
    },
    DashFusionConfig: {
        **COMMON,
        "num_labels": [1, *COMMON["num_labels"]],
        "id2label": [{0: "score"}, *COMMON["id2label"]],
        "text_config": [*ENCODERS, DyFuLMConfig(*ENCODERS[:2], num_labels=2, coarse_id2label=NAMES)],
        "audio_feature_size": [1, 74],
        "vision_feature_size": [1, 35],
        "max_audio_length": [1, 500],
        "max_vision_length": [1, 375],
        "hidden_size": [8, 128],
        "num_attention_heads": [1, 8],
        "num_encoder_layers": [1, 4],
        "num_fusion_layers": [1, 3],
        "num_bottleneck_tokens": [1, 8],
        "fusion": ["hbf", "concat_attention", "concat"],
        "temporal_alignment": [True, False],
        "anchor": ["text", "audio", "vision", "symmetric"],
        "semantic_alignment": [True, False],
        "supervised_contrastive": [True, False],
        "contrastive_weight": [0, 0.2],
        "temperature": [0.5, 1.0],
        "modality_dropout": [0.0, 0.3],
        "modality_distillation": [0.0, 0.3],
        "modalities": [("text", "audio", "vision"), ["vision"]],
        "label_range": [(-3.0, 3.0), [0, 1]],
        "intermediate_size": [None, 1, 256],
        "alignment_head_size": [1, 32],
        "contrastive_label_step": [1.0, 0.2],
        "num_positives": [1, 2],
        "num_hard_negatives": [0, 2],
        "num_easy_negatives": [0, 2],
        "hidden_dropout_prob": [0.0, 0.1],
        "classifier_dropout": [0.0, 0.1],
        "initializer_range": [0.02, 1],
        "gather_negatives": [True, False],
        "frame_statistics": [True, False],
        "attention_probs_dropout_prob": [None, 0.0, 0.1],
        "problem_type": [None],
    },
}
CASES = [
    pytest.param(kind, name, value, id=f"{kind.__name__}-{name}-{i}")
    for kind, fields in FIELDS.items()
    for name, values in {**fields, **INHERITED}.items()
    for i, value in enumerate(values)
]
# What loading sets on any configuration.
VOLATILE = ("_name_or_path", "transformers_version", "model_type")


def told(config):
    """All that a configuration says, to the types of its values."""
    return {name: value for name, value in vars(config).items() if name not in VOLATILE}


def ways_back(config, folder):
    """The configuration after each way of saving and loading."""
    config.save_pretrained(folder)
    path = folder / "as.json"
    path.write_text(config.to_json_string(use_diff=False))
    yield type(config).from_pretrained(folder)
    yield AutoConfig.from_pretrained(folder)
    yield type(config).from_json_file(folder / "config.json")
    yield type(config).from_json_file(path)
    yield type(config).from_dict(config.to_dict())
    yield type(config).from_dict(json.loads(config.to_json_string()))
    yield copy.deepcopy(config)


def check_comes_back(config, folder):
    for back in ways_back(config, folder):
        assert type(back) is type(config)
        assert told_deeply(back) == told_deeply(config)


def told_deeply(config):
    found = told(config)
    return {
        name: (type(value), told_deeply(value)) if isinstance(value, PretrainedConfig) else (type(value), value)
        for name, value in found.items()
    }


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_every_field_has_an_example(kind):
    own = {name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "kwargs")}
    assert own | {"num_labels", "id2label", "label2id", "problem_type"} == set(FIELDS[kind])
    assert set(kind.field_names()) == set(FIELDS[kind]) - set(kind.sub_configs)
    inherited = {field.name for field in fields_of(PretrainedConfig)} - {"transformers_version"}
    assert inherited <= {*INHERITED, *FIELDS[kind]}, "a field of transformers that is new"


@pytest.mark.parametrize(("kind", "name", "value"), CASES)
def test_comes_back(tmp_path, kind, name, value):
    others = {"num_easy_negatives": 1, "num_hard_negatives": 1} if "negatives" in name else {}
    config = kind(**{**others, name: value})
    if value is not None and name != "dtype":
        found = getattr(config, name)
        if isinstance(value, list) and name in kind.tuple_fields:
            value = tuple(value)
        elif name.endswith("id2label"):
            value = {int(i): label for i, label in value.items()}
        if name not in kind.sub_configs:
            assert found == value, "is taken"
    check_comes_back(config, tmp_path)


@st.composite
def configurations(draw):
    kind = draw(st.sampled_from(list(FIELDS)))
    given_fields = draw(st.fixed_dictionaries({}, optional={
        name: st.sampled_from(values) for name, values in {**FIELDS[kind], **INHERITED}.items()
    }))  # fmt: skip
    return kind, given_fields


def test_fields_together_come_back(tmp_path):
    taken = []

    @settings(max_examples=30)
    @given(configurations())
    def check(drawn):
        kind, chosen = drawn
        try:
            config = kind(**chosen)
        except ValueError:  # fields that contradict each other
            return
        taken.append(kind)
        check_comes_back(config, tmp_path)

    check()
    assert set(taken) == set(FIELDS)


KINDS = pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
FIVE = {0: "a", 1: "b", 2: "c", 3: "d", 4: "e"}


class TestClasses:
    """Their number and names agree, however they are set."""

    @KINDS
    @pytest.mark.parametrize(
        ("changes", "names"),
        [
            ({"num_labels": 5}, FIVE),
            ({"num_labels": 2}, NAMES),
            ({"id2label": {"0": "no", "1": "yes"}}, {0: "no", 1: "yes"}),
            ({"label2id": {"yes": 1, "no": 0}}, {0: "no", 1: "yes"}),
            ({"num_labels": 3, "id2label": {0: "x", 1: "y", 2: "z"}}, {0: "x", 1: "y", 2: "z"}),
            ({"num_labels": None}, FIVE),
        ],
        ids=["the same number", "another number", "names", "numbers", "both", "nothing"],
    )
    def test_changed_when_loading(self, tmp_path, kind, changes, names):
        kind(id2label=FIVE).save_pretrained(tmp_path)
        for loaded in (kind.from_pretrained(tmp_path, **changes), AutoConfig.from_pretrained(tmp_path, **changes)):
            assert loaded.id2label == names and loaded.num_labels == len(names)
            assert loaded.label2id == {name: i for i, name in names.items()}

    def test_values_are_those_of_the_same_number(self, tmp_path):
        DyFuLMConfig(class_values=[1, 2, 3, 4, 5]).save_pretrained(tmp_path)
        for changes in ({}, {"num_labels": 5}, {"id2label": FIVE}, {"label2id": {name: i for i, name in FIVE.items()}}):
            assert DyFuLMConfig.from_pretrained(tmp_path, **changes).class_values == [1, 2, 3, 4, 5]
        for changes in ({"num_labels": 2}, {"id2label": NAMES}, {"label2id": {"no": 0, "yes": 1}}):
            assert DyFuLMConfig.from_pretrained(tmp_path, **changes).class_values is None
            config = DyFuLMConfig(class_values=[1, 2, 3, 4, 5])
            setattr(config, *next(iter(changes.items())))
            assert config.class_values is None
        changed = DyFuLMConfig.from_pretrained(tmp_path, num_labels=2, class_values=[0, 1])
        assert changed.class_values == [0, 1]

    @KINDS
    def test_changed_in_memory(self, tmp_path, kind):
        config = kind(id2label=FIVE)
        config.num_labels = 2
        assert config.id2label == NAMES
        check_comes_back(config, tmp_path)
        config.id2label = {"0": "bad", "1": "good"}
        assert config.label2id == {"bad": 0, "good": 1}
        config.label2id = {"awful": 0, "great": 1}
        assert config.id2label == {0: "awful", 1: "great"} and config.num_labels == 2
        check_comes_back(config, tmp_path)

    @KINDS
    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"num_labels": 3, "id2label": NAMES}, "`num_labels` is 3, so `id2label` must name classes 0 to 2"),
            ({"id2label": {0: "x", 1: "x"}}, "`id2label` must name the classes"),
            ({"id2label": {1: "x", 2: "y"}}, "`id2label` must name the classes"),
            ({"label2id": {"x": 0, "y": 2}}, "`label2id` must name the classes"),
            ({"num_labels": 0}, "number of labels must be an integer from 1"),
            ({"num_labels": 2.0, "id2label": NAMES}, "number of labels must be an integer from 1"),
        ],
    )
    def test_that_contradict_each_other(self, kind, fields, words):
        with pytest.raises(ValueError, match=words):
            kind(**fields)
        config = kind(id2label=FIVE)
        with pytest.raises(ValueError, match="must name the classes"):
            config.id2label = ["x", "y"]

    def test_numbers_that_do_not_fit_the_names_are_told(self, caplog):
        """As in files of other tools, where `id2label` alone was set."""
        config = DyFuLMConfig(id2label=NAMES, label2id={"very negative": 0})
        assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1} and "does not fit `id2label`" in caplog.text

    def test_coarse_ones(self, tmp_path):
        DyFuLMConfig(coarse_id2label={0: "x", 1: "y"}).save_pretrained(tmp_path)
        names = {0: "negative", 1: "neutral", 2: "positive"}
        assert DyFuLMConfig.from_pretrained(tmp_path).num_coarse_labels == 2
        assert DyFuLMConfig.from_pretrained(tmp_path, num_coarse_labels=2).coarse_id2label == {0: "x", 1: "y"}
        assert DyFuLMConfig.from_pretrained(tmp_path, num_coarse_labels=3).coarse_id2label == names
        four = {"0": "a", "1": "b", "2": "c", "3": "d"}
        assert AutoConfig.from_pretrained(tmp_path, coarse_id2label=four).num_coarse_labels == 4
        config = DyFuLMConfig()
        config.num_coarse_labels = 2
        assert config.coarse_id2label == NAMES
        with pytest.raises(
            ValueError, match=r"`num_coarse_labels` is 3, so `coarse_id2label` must name classes 0 to 2"
        ):
            DyFuLMConfig(num_coarse_labels=3, coarse_id2label=NAMES)

    @KINDS
    def test_of_files_that_left_them_out(self, tmp_path, kind):
        """Two classes with the library's names were not written once."""
        config = kind(num_labels=2)
        config.save_pretrained(tmp_path)
        path = tmp_path / "config.json"
        saved = json.loads(path.read_text())
        path.write_text(json.dumps({name: saved[name] for name in saved if name not in ("id2label", "label2id")}))
        assert AutoConfig.from_pretrained(tmp_path).id2label == NAMES
        assert kind.from_dict({}).id2label == kind().id2label


def test_other_fields_changed_when_loading(tmp_path):
    """Are checked together, and of the same types as when they are given to the class."""
    DashFusionConfig(num_labels=1, problem_type="regression").save_pretrained(tmp_path)
    changes = {"label_range": [-1, 1], "problem_type": "single_label_classification", "num_labels": 3}
    config, unused = DashFusionConfig.from_pretrained(
        tmp_path, return_unused_kwargs=True, nothing=3, attention_probs_dropout_prob=None, **changes
    )
    assert config.label_range == (-1, 1) and config.num_labels == 3 and unused == {"nothing": 3}
    assert config.attention_probs_dropout_prob == config.hidden_dropout_prob
    with pytest.raises(ValueError, match="`anchor` must be one of"):
        AutoConfig.from_pretrained(tmp_path, anchor="smell")


def test_fields_of_an_encoder_changed_when_loading(tmp_path):
    DashFusionConfig(BertConfig(**SMALL)).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path, text_config={"num_hidden_layers": 3})
    assert (config.text_config.num_hidden_layers, config.text_config.hidden_size) == (3, 16)
    config = AutoConfig.from_pretrained(tmp_path, text_config={"model_type": "electra", "hidden_size": 8})
    assert type(config.text_config).__name__ == "ElectraConfig" and config.text_config.vocab_size != 50


COUNTS = [*(("dyfulm", count) for count in range(2, 11)), *(("dashfusion", count) for count in range(1, 11))]


class TestModels:
    """Load with their own head, and answer with their own names."""

    @pytest.mark.parametrize(("architecture", "count"), COUNTS)
    def test_with_any_number_of_classes(self, request, tmp_path, architecture, count):
        names = {i: f"class {chr(97 + i)}" for i in range(count)} if count % 2 else None
        options = {"id2label": names} if names else {"num_labels": count}
        make, processor, inputs = (
            ("make_model", "processor", ["The bar was fine."])
            if architecture == "dyfulm"
            else ("clip_model", "clip_processor", [{"text": "The bar was fine."}])
        )
        if architecture == "dyfulm":
            options["num_coarse_labels"] = 2 + count % 3
        model = request.getfixturevalue(make)(**options)
        model.save_pretrained(tmp_path)
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
        assert loaded.config.num_labels == count and loaded.config.id2label == model.config.id2label
        ours, theirs = model.state_dict(), loaded.state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        classify = FusionSentimentPipeline(loaded, processor=request.getfixturevalue(processor), device="cpu")
        if count == 1:
            assert set(classify(inputs)[0]) == {"label", "score"}
            return
        (answer,) = classify(inputs, top_k=count)
        expected = list(names.values()) if names else list(model.config.id2label.values())
        assert sorted(one["label"] for one in answer) == sorted(expected)


STRANGER = """
import json, sys
sys.modules["hf_fusion"] = None
from transformers import AutoConfig, AutoModelForSequenceClassification
found = []
for folder in json.loads(sys.argv[2]):
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    changed = AutoConfig.from_pretrained(folder, trust_remote_code=True, num_labels=3)
    found.append([config.id2label, model.config.id2label, changed.num_labels, type(config).__module__.split(".")[0]])
print("RESULT", json.dumps(found))
"""


def test_two_classes_without_the_package(make_model, clip_model, tmp_path):
    folders = [tmp_path / "reviews", tmp_path / "clips"]
    for folder, model in zip(folders, (make_model(num_labels=2), clip_model(num_labels=2)), strict=True):
        model.save_pretrained(folder)
    (tmp_path / "home").mkdir()
    found = load_as_stranger("", list(map(str, folders)), tmp_path / "home", script=STRANGER)
    names = {str(i): name for i, name in NAMES.items()}
    assert found == [[names, names, 3, "transformers_modules"]] * 2
