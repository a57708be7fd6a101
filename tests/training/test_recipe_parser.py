"""The help of recipes: fields in groups, and only those that people use."""

import re

import pytest
from transformers import TrainingArguments

from hf_fusion.data.arguments import DataArguments
from hf_fusion.training.recipe import argument_groups, parse_recipe
from hf_fusion.training.recipe_parser import RecipeParser


def sections(text):
    """The flags in each section of a help."""
    parts = re.split(r"^(\w[^\n]*):\n", text, flags=re.MULTILINE)
    found = {title: re.findall(r"^  (--\w+)", body, flags=re.MULTILINE) for title, body in zip(
        parts[1::2], parts[2::2], strict=True)}  # fmt: skip
    return {title: flags for title, flags in found.items() if flags}


@pytest.fixture(scope="module")
def parser():
    return RecipeParser(argument_groups(), "hf-fusion train", "Trains.")


def test_fields_stand_where_they_are_declared(parser):
    found = sections(parser.format_help())
    assert list(found) == [
        "options", "data", "data: reviews", "data: clips", "model", "DyFuLM", "DashFusion", "training",
    ]  # fmt: skip
    for title, flags in {
        "data": ["--dataset", "--max_eval_samples"],
        "model": ["--checkpoint", "--lora_rank"],
        "data: reviews": ["--columns"],
        "data: clips": ["--modalities"],
        "DyFuLM": ["--encoder_a", "--gate_level", "--teacher"],
        "DashFusion": ["--text_encoder", "--anchor"],
        "training": ["--learning_rate", "--output_dir", "--fusion_learning_rate", "--eval_strategy"],
    }.items():
        assert set(flags) <= set(found[title]), title
    flags = [flag for group in found.values() for flag in group]
    assert len(flags) == len(set(flags)) < 150
    assert "--dataloader_num_workers" not in flags and "--fsdp" not in flags


def test_help_all_has_every_field(parser, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_recipe(["--help-all"])
    assert ended.value.code == 0
    flags = {flag for group in sections(capsys.readouterr().out).values() for flag in group}
    assert {f"--{name}" for name in TrainingArguments.__dataclass_fields__ if name != "_n_gpu"} <= flags


def test_shows_defaults_and_choices(parser):
    text = " ".join(parser.format_help().split())
    assert "Rank of the LoRA matrices. (default: 8)" in text and "--lr_scheduler_type {linear," in text
    assert "--max-length" not in text and "--no_merge_lora" not in text


def test_of_data_alone():
    found = sections(RecipeParser((DataArguments,)).format_help())
    assert "--dataset" in found["data"] and "training" not in found
    assert "--help-all" not in RecipeParser((DataArguments,)).format_help()
