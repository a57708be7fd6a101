"""Encoders that a recipe names and nobody has."""

import json

import pytest

from hf_fusion.architectures.dashfusion import _text_encoder
from hf_fusion.architectures.encoders import encoder_and_tokenizer
from hf_fusion.utils.errors import RecipeError


@pytest.fixture(params=["a mistyped name", "a folder without a tokenizer", "a folder of something else"])
def encoder(request, tmp_path):
    if request.param == "a mistyped name":
        return "acme/no-such-encoder"
    content = {"model_type": "bert"} if request.param == "a folder without a tokenizer" else {"name": "x"}
    (tmp_path / "config.json").write_text(json.dumps(content))
    return str(tmp_path)


def test_errors_name_the_field_and_the_encoder(encoder):
    with pytest.raises(RecipeError) as caught:
        encoder_and_tokenizer("encoder_b", encoder, None, 512, None)
    message = str(caught.value)
    assert message.startswith(f"`encoder_b` {encoder} cannot be loaded: ") and len(message.splitlines()) == 1
    assert message.endswith("Give the folder of an encoder with its tokenizer, or a name on the Hub and a network.")


def test_those_of_the_text_encoder_too(encoder):
    with pytest.raises(RecipeError, match=f"^`text_encoder` {encoder} cannot be loaded: "):
        _text_encoder(encoder, None, None)
