import json

import pytest
import yaml
from huggingface_hub import ModelCard

from hf_fusion.hub.model_card import write_model_card


@pytest.fixture
def run_folder(tmp_path, make_config):
    folder = tmp_path / "my-run"
    make_config().save_pretrained(folder)
    scores = {"loss": -1.0, "fine_accuracy": 0.61234, "intensity_corr": None}
    metrics = {"seed": 3, "train_samples": 64, "train_seconds": 1.5, "validation": scores, "test": scores}
    hardware = {"accelerators": [], "cores": 2, "processor": "Some CPU"}
    environment = {"dataset": "somewhere/reviews.csv", "rows": {"validation": 10, "test": 20}, "hardware": hardware}
    recipe = {"encoder_a": "acme/encoder", "encoder_b": "package:inside/model"}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def test_says_what_the_run_says(run_folder):
    card = ModelCard.load(write_model_card(run_folder))
    assert card.data.license == "apache-2.0" and card.data.base_model == ["acme/encoder"]
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("fine_accuracy", 0.61234, "reviews.csv")
    for words in ("| fine_accuracy | 0.6123 | 0.6123 |", "| intensity_corr | - | - |", "test (20 reviews)", "seed 3",
                  "2 cores of Some CPU", "very negative, negative, neutral", 'model="my-run"'):  # fmt: skip
        assert words in card.text, words
    assert "somewhere" not in card.content and "loss" not in card.text.split("## Training")[0]


def test_of_a_lora_adapter_takes_the_labels_of_its_base(run_folder):
    (run_folder / "base").mkdir()
    (run_folder / "config.json").rename(run_folder / "base" / "config.json")
    assert "very positive" in write_model_card(run_folder).read_text()


def test_of_a_dashfusion(run_folder, clip_config):
    clip_config(modalities=("text", "vision")).save_pretrained(run_folder)
    recipe = {"model_type": "dashfusion", "text_encoder": "acme/text"}
    (run_folder / "config.yaml").write_text(yaml.safe_dump(recipe))
    card = ModelCard.load(write_model_card(run_folder))
    assert card.data.base_model == ["acme/text"] and "dashfusion" in card.data.tags
    for words in ("A DashFusion: clips to a sentiment score from -3.0 to 3.0", "vision frames have 5 features",
                  "test (20 clips)", '"vision": np.zeros((40, 5))', "arXiv 2512.05515"):  # fmt: skip
        assert words in card.text, words
    assert "audio frames have" not in card.text and "DyFuLM" not in card.text


def test_a_folder_of_this_machine_is_no_base_model(run_folder, clip_config):
    clip_config().save_pretrained(run_folder)
    for name in ("/data/encoder", "./encoder", str(run_folder), "package:some_package/model"):
        (run_folder / "config.yaml").write_text(yaml.safe_dump({"model_type": "dashfusion", "text_encoder": name}))
        assert ModelCard.load(write_model_card(run_folder)).data.base_model is None
