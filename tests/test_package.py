import importlib
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


ROOMS = ("architectures", "data", "deployment", "evaluation", "hub", "studies", "training", "utils")


def test_nothing_is_imported_before_it_is_used():
    rooms = ", ".join(f"hf_fusion.{room}" for room in ROOMS if room != "architectures")
    heavy = {"evaluate", "matplotlib", "scipy.stats", "onnxruntime", "hf_fusion.training.trainer"}
    code = f"import sys, {rooms}; print(sorted({heavy} & set(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_of_rooms(room):
    module = importlib.import_module(f"hf_fusion.{room}")
    assert module.__doc__
    for name in module.__all__:
        assert getattr(module, name).__doc__ and name in dir(module)
    with pytest.raises(AttributeError, match=f"'hf_fusion.{room}' has no attribute 'Nothing'"):
        _ = module.Nothing


def test_functions_do_not_shadow_libraries():
    """`hf_fusion.evaluate` is a function; `import evaluate` within the package is the library."""
    from hf_fusion.evaluation import metrics

    assert callable(hf_fusion.evaluate) and metrics.evaluate.__name__ == "evaluate"
    assert issubclass(metrics.ReviewMetrics, metrics.evaluate.Metric)
