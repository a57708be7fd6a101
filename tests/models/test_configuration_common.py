"""Both configurations declare and describe their fields, and say what other code needs to know of the architecture."""

import inspect
import re
from typing import Literal

import pytest
from transformers import PretrainedConfig

from hf_fusion import DashFusionConfig, DyFuLMConfig
from hf_fusion.models.configuration_common import Head, choices_of, head_widths, temperature_of

CONFIGS = pytest.mark.parametrize("config_class", [DyFuLMConfig, DashFusionConfig])
ENTRY = re.compile(r"^(\w+) \(`(.+?)`, \*optional\*(?:, defaults to (.+?))?\):\n((?: {4}.+\n)+)", re.M)


def documented(config_class):
    """Type, default and text of each entry under `Args:`."""
    arguments = inspect.cleandoc(config_class.__doc__).partition("Args:\n")[2].partition("\n\n")[0] + "\n"
    arguments = re.sub(r"^ {4}", "", arguments, flags=re.M)
    return {name: (kind, default, text) for name, kind, default, text in ENTRY.findall(arguments)}


@CONFIGS
def test_every_field_has_a_type_and_an_entry(config_class):
    annotations, entries = config_class.annotations(), documented(config_class)
    assert inspect.Parameter.empty not in annotations.values()
    assert list(entries) == list(annotations), "in the same order"
    for name, (kind, default, text) in entries.items():
        annotation = annotations[name]
        declared = eval(kind.replace("` or `", " | "), {"Literal": Literal, "PretrainedConfig": PretrainedConfig})
        assert annotation in (declared, declared | None), name
        value = inspect.signature(config_class.__init__).parameters[name].default
        if not default:
            assert value is None, name
        elif default != "all three":
            assert default.strip("`") == (f'"{value}"' if isinstance(value, str) else repr(value)), name
        first = re.split(r"\.(?:\s|$)", text.strip())[0]
        assert first[0].isupper() and len(first) > 15, "the first sentence is the help of a flag"


@CONFIGS
def test_choices_are_those_of_the_annotation(config_class):
    fields = [name for name in config_class.annotations() if config_class.choices(name)]
    assert len(fields) >= 3
    for name in fields:
        if name == "problem_type":  # some versions of transformers check it first
            words = "problem_type"
        else:
            words = f"`{name}` must be one of .*'{config_class.choices(name)[-1]}', got 'no'"
        with pytest.raises(ValueError, match=words):
            config_class(**{name: "no"})


@CONFIGS
def test_booleans_are_checked(config_class):
    fields = [name for name, annotation in config_class.annotations().items() if annotation is bool]
    assert fields
    for name in fields:
        with pytest.raises(ValueError, match=f"`{name}` must be true or false, got 'false'"):
            config_class(**{name: "false"})


def test_choices_of_annotations():
    assert choices_of(Literal["a", "b"]) == ("a", "b")
    assert choices_of(Literal["a", "b"] | None) == (None, "a", "b")
    assert choices_of(int | None) == choices_of(dict[int, str]) == choices_of(tuple[Literal["a"], ...]) == ()


def test_facts_of_dyfulm():
    config = DyFuLMConfig(num_labels=4, num_coarse_labels=2)
    assert (config.modalities, config.frame_columns) == (("text",), ())
    assert config.heads == {
        "logits": Head("fine", "id2label", temperature="temperature"),
        "coarse_logits": Head("coarse", "coarse_id2label", temperature="coarse_temperature"),
        "intensity": Head("intensity", switch="has_intensity"),
    }
    assert head_widths(config) == {"logits": (4,), "coarse_logits": (2,), "intensity": ()}
    assert config.loss_factors == {"distillation": 1.0} and not config.has_contrastive_loss
    assert config.has_gate and not DyFuLMConfig(cross_fusion="mean").has_gate
    config.temperature, config.coarse_temperature = 2.0, 3.0
    assert [temperature_of(config, output) for output in config.heads] == [2.0, 3.0, 1.0]


def test_facts_of_dashfusion():
    config = DashFusionConfig(modalities=["vision", "text"], contrastive_weight=0.7)
    assert (config.modalities, config.frame_columns) == (("vision", "text"), ("audio", "vision"))
    assert config.heads == {"logits": Head("prediction", "id2label")} and head_widths(config) == {"logits": (1,)}
    assert config.loss_factors == {"prediction": 1.0, "contrastive": 0.7, "distillation": 1.0}
    assert config.has_contrastive_loss and not config.has_gate
    assert DashFusionConfig(semantic_alignment=False).has_contrastive_loss
    assert not DashFusionConfig(semantic_alignment=False, supervised_contrastive=False).has_contrastive_loss


@CONFIGS
def test_facts_are_not_saved(config_class):
    facts = {"frame_columns", "heads", "answer_fields", "loss_factors", "has_contrastive_loss", "has_gate"}
    assert not facts.intersection(config_class().to_diff_dict())
    assert "modalities" not in DyFuLMConfig().to_diff_dict()
    for name in config_class.answer_fields:
        assert hasattr(config_class(), name)
