import subprocess
import sys

import pytest
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoProcessor

import hf_fusion


@pytest.mark.parametrize("name", hf_fusion.__all__)
def test_public_names(name):
    assert getattr(hf_fusion, name).__doc__
    assert name in dir(hf_fusion)


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = hf_fusion.Nothing


def test_dashfusion_is_registered(clip_config):
    config = clip_config()
    assert type(AutoConfig.for_model("dashfusion")) is hf_fusion.DashFusionConfig
    assert type(AutoModel.from_config(config)) is hf_fusion.DashFusionModel
    model = AutoModelForSequenceClassification.from_config(config)
    assert type(model) is hf_fusion.DashFusionForSequenceClassification


def test_models_are_registered(make_config):
    config = make_config()
    assert type(AutoConfig.for_model("dyfulm")) is hf_fusion.DyFuLMConfig
    assert type(AutoModel.from_config(config)) is hf_fusion.DyFuLMModel
    assert type(AutoModelForSequenceClassification.from_config(config)) is hf_fusion.DyFuLMForSequenceClassification
    assert AutoProcessor.register


def test_inference_does_not_import_what_training_needs():
    code = "import sys, hf_fusion; print(sorted({'evaluate', 'matplotlib', 'hf_fusion.training'} & set(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
