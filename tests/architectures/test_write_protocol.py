import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import encoder_config, far_from_the_start
from datasets import Dataset, DatasetDict
from transformers import AutoConfig

from hf_fusion import (
    DashFusionConfig,
    DashFusionFeatureExtractor,
    DashFusionForSequenceClassification,
    DashFusionProcessor,
    DyFuLMConfig,
    DyFuLMForSequenceClassification,
    DyFuLMProcessor,
    FusionSentimentPipeline,
)
from hf_fusion.architectures import architecture_of
from hf_fusion.architectures.encoding import data_arguments_for
from hf_fusion.architectures.evaluate_checkpoint import NothingLeftError, evaluate_checkpoint
from hf_fusion.architectures.measure_protocol import ProtocolSettings, predict_masked
from hf_fusion.architectures.write_protocol import (
    known_protocol,
    lossless_conditions,
    protocol_rows,
    write_protocol,
)
from hf_fusion.data.arguments import DataArguments
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.kept_predictions import from_table, measure_predictions, read_table
from hf_fusion.evaluation.published_results import PublishedResult
from hf_fusion.training.recipe import read_data_arguments
from hf_fusion.utils.errors import DataError, RecipeError

ROWS = 20
CLIPS = {"dataset": "synthetic-clips", "dataset_options": {"num_train": 1, "num_validation": 1, "num_test": ROWS}}
REVIEWS = {"dataset": "synthetic-reviews", "dataset_options": {"num_train": 5, "num_validation": 5, "num_test": ROWS}}


def save_clip_checkpoint(folder, tokenizer, **fields):
    sizes = {"audio_feature_size": 8, "vision_feature_size": 8, "max_audio_length": 60, "max_vision_length": 40}
    small = {"hidden_size": 16, "num_attention_heads": 4, "num_encoder_layers": 1}
    model = DashFusionForSequenceClassification(DashFusionConfig(encoder_config("bert"), **sizes, **small, **fields))
    processor = DashFusionProcessor(tokenizer, DashFusionFeatureExtractor(**sizes))
    classify = FusionSentimentPipeline(far_from_the_start(model), processor=processor, device="cpu")
    classify.save_pretrained(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model_type": "dashfusion", **CLIPS}))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, wordpiece):
    return save_clip_checkpoint(tmp_path_factory.mktemp("clips"), wordpiece)


@pytest.fixture(scope="module")
def written(checkpoint):
    settings = ProtocolSettings("lnln", mask_seeds=[0, 7], rates=[0.0, 0.5])
    published = [PublishedResult("LNLN", {"mae": 1.0}, "x", "lnln"), PublishedResult("TFN", {"mae": 1.0}, "x", "tfr")]
    return settings, *write_protocol(checkpoint, DataArguments(**CLIPS), settings, published=published)


def test_the_complete_condition_is_the_evaluation(written, checkpoint):
    _, record, _ = written
    evaluated = evaluate_checkpoint(checkpoint, CLIPS)
    complete = record["conditions"]["0.0"]
    assert complete["complete"] and complete["std"]["mae"] == 0
    assert complete["mean"] == pytest.approx(evaluated, abs=1e-5, nan_ok=True)
    assert complete["realised"]["text"] == {"positions": 0.0, "clips": 0.0}


def test_every_number_is_in_the_record_the_table_and_the_predictions(written):
    settings, record, folder = written
    assert folder.name == "protocol-lnln-sound-test"
    stored = json.loads((folder / "protocol.json").read_text())
    assert stored["settings"] == settings.to_dict() and stored["rows"] == ROWS
    half = stored["conditions"]["0.5"]
    assert set(half["seeds"]) == {"0", "7"} and half["seeds"]["0"] != half["seeds"]["7"]
    assert 0.3 < half["realised"]["audio"]["positions"] < 0.7
    assert half["interval"]["mae"][0] < half["mean"]["mae"] < half["interval"]["mae"][1]
    assert half["difference"]["mae"]["mean"] == pytest.approx(
        half["mean"]["mae"] - stored["conditions"]["0.0"]["mean"]["mae"], abs=1e-6
    )
    mean = stored["summary"]["mean"]["mean"]["mae"]
    assert mean == pytest.approx(np.mean([cell["mean"]["mae"] for cell in stored["conditions"].values()]))
    assert [result["model"] for result in stored["published"]] == ["LNLN"]
    assert stored["defects"] and stored["published_selection"] != stored["selection"] and stored["weights_sha256"]

    table = pd.read_csv(folder / "protocol.csv")
    cells = [*stored["conditions"].values(), *stored["summary"].values()]
    assert len(table) == sum(len(metrics) for cell in cells for metrics in cell["seeds"].values())
    row = table[(table["name"] == "0.5") & (table["mask_seed"] == 7) & (table["metric"] == "mae")]
    assert row["value"].item() == pytest.approx(half["seeds"]["7"]["mae"]) and row["rate"].item() == 0.5

    kept, facts = read_table(folder / "predictions.parquet")
    assert facts["settings"] == settings.to_dict() and len(kept) == ROWS * 3
    seeds, names = (np.array(kept.column(name).to_pylist(), dtype=object) for name in ("mask_seed", "condition"))
    assert set(seeds) == {None, "0", "7"}
    chosen = kept.filter((names == "0.5") & (seeds == "0"))
    recomputed = measure_predictions(from_table(chosen, facts))
    assert recomputed == pytest.approx(half["seeds"]["0"], nan_ok=True)
    tex = (folder / "protocol.tex").read_text()
    assert r"2 mask seed(s) and 95 \% intervals" in tex and f"{mean:.3f}" in tex
    assert (folder / "protocol.png").stat().st_size > 5000
    assert [row["condition"] for row in protocol_rows(record)] == ["0.0", "0.5", "mean", "mean_incomplete"]


def test_a_record_is_reused_for_the_same_settings_weights_and_data(written, checkpoint, tmp_path):
    settings, record, _ = written
    assert (
        known_protocol(checkpoint, DataArguments(**CLIPS), settings)["conditions"].keys() == record["conditions"].keys()
    )
    assert (
        known_protocol(
            checkpoint, DataArguments(**CLIPS), ProtocolSettings("lnln", mask_seeds=[0, 8], rates=[0.0, 0.5])
        )
        is None
    )
    assert (
        known_protocol(
            checkpoint, DataArguments(**CLIPS), ProtocolSettings("lnln", mask_seeds=[0, 7], rates=[0.0, 0.6])
        )
        is None
    )
    assert known_protocol(checkpoint, DataArguments(**CLIPS), ProtocolSettings("lnln", "exact")) is None
    assert known_protocol(checkpoint, DataArguments(**CLIPS, max_eval_samples=9), settings) is None
    other = shutil.copytree(checkpoint, tmp_path / "run")
    assert known_protocol(other, DataArguments(**CLIPS), settings)
    weights = next(other.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert known_protocol(other, DataArguments(**CLIPS), settings) is None, "trained again"


def test_exact_fixed_subsets_take_no_drawn_mask(checkpoint, tmp_path):
    settings = ProtocolSettings("fixed", "exact")
    record, folder = write_protocol(checkpoint, DataArguments(**CLIPS), settings, output_dir=tmp_path, format=None)
    assert folder == tmp_path and not list(tmp_path.glob("*.png"))
    assert list(record["conditions"])[:2] == ["complete", "text"] and len(record["conditions"]) == 7
    assert record["conditions"]["text"]["realised"]["audio"] == {"positions": 1.0, "clips": 1.0}
    assert record["conditions"]["text"]["realised"]["text"]["positions"] == 0
    alone = [cell["mean"]["mae"] for name, cell in record["conditions"].items() if name != "complete"]
    assert record["summary"]["mean_incomplete"]["mean"]["mae"] == pytest.approx(np.mean(alone))
    assert len(set(np.round(alone, 4))) > 3, "what is lost changes the answers"
    sound, _ = write_protocol(
        checkpoint, DataArguments(**CLIPS), ProtocolSettings("fixed"), output_dir=tmp_path, format=None
    )
    assert sound["conditions"]["text+audio"]["mean"]["mae"] != record["conditions"]["text+audio"]["mean"]["mae"], (
        "zeros are read, an absent modality is not"
    )


def test_published_rounding(checkpoint, tmp_path):
    settings = ProtocolSettings("lnln", "exact", rates=[0.0, 0.3])
    record, _ = write_protocol(checkpoint, DataArguments(**CLIPS), settings, output_dir=tmp_path, format=None)
    value = record["conditions"]["0.3"]["seeds"]["1111"]["mae"]
    assert value == round(value, 4)


def test_conditions_that_lost_nothing_are_named(checkpoint, written, tmp_path):
    """The exact masks of IMDer keep everything in five batches or fewer."""
    settings = ProtocolSettings("imder", "exact", rates=[0.0, 0.3, 0.7])
    record, _ = write_protocol(checkpoint, DataArguments(**CLIPS), settings, output_dir=tmp_path, format=None)
    assert lossless_conditions(record) == ["0.3", "0.7"] and lossless_conditions(written[1]) == []


def test_conditions_that_do_not_fit_the_modalities_are_left_out(wordpiece, tmp_path):
    """Neither is a complete row counted as an incomplete one, nor one with nothing left."""
    folder = save_clip_checkpoint(tmp_path / "two", wordpiece, modalities=["text", "audio"])
    record, _ = write_protocol(folder, DataArguments(**CLIPS), ProtocolSettings("fixed"), format=None)
    assert list(record["conditions"]) == ["complete", "text", "audio"]
    alone = [record["conditions"][name]["mean"]["mae"] for name in ("text", "audio")]
    assert record["summary"]["mean_incomplete"]["mean"]["mae"] == pytest.approx(np.mean(alone))
    folder = save_clip_checkpoint(tmp_path / "one", wordpiece, modalities=["text"])
    settings = ProtocolSettings("cms", mask_seeds=[1])
    record, _ = write_protocol(folder, DataArguments(**CLIPS), settings, format=None)
    assert "text_missing" in record["conditions"] and "av_missing" not in record["conditions"]
    with pytest.raises(NothingLeftError, match="imbalanced loses nothing here of text, audio"):
        settings = ProtocolSettings("imbalanced", rates=[0.0, 0.0, 0.5])
        write_protocol(tmp_path / "two", DataArguments(**CLIPS), settings, format=None)


def test_classes(wordpiece, tmp_path):
    fields = {"num_labels": 3, "id2label": {0: "calm", 1: "happy", 2: "sad"}}
    save_clip_checkpoint(tmp_path, wordpiece, **fields)
    rng = np.random.default_rng(0)
    rows = Dataset.from_dict({
        "id": [str(i) for i in range(12)], "text": ["good room"] * 12, "label": ["calm", "happy", "sad"] * 4,
        "audio": [rng.normal(size=(4 + i, 8)).tolist() for i in range(12)],
        "vision": [rng.normal(size=(5, 8)).tolist() for _ in range(12)],
    })  # fmt: skip
    config = AutoConfig.from_pretrained(tmp_path)
    data = data_arguments_for(config, DatasetDict(test=rows), classes=["calm", "happy", "sad"])
    settings = ProtocolSettings("imbalanced", mask_seeds=[1])
    record, _ = write_protocol(tmp_path, data, settings, format=None)
    assert record["main_metrics"] == ["macro_f1", "uar", "accuracy"]
    assert set(record["conditions"]["shared"]["interval"]) >= {"macro_f1", "uar", "accuracy", "calm_recall"}


def test_reviews_lose_tokens_but_no_modalities(bpe, unigram, tmp_path):
    encoders = encoder_config("roberta"), encoder_config("deberta")
    model = DyFuLMForSequenceClassification(DyFuLMConfig(*encoders, layer_fusion_hidden_size=8))
    processor = DyFuLMProcessor(bpe, unigram, max_length=40)
    FusionSentimentPipeline(far_from_the_start(model), processor=processor, device="cpu").save_pretrained(tmp_path)
    settings = ProtocolSettings("lnln", mask_seeds=[1], rates=[0.0, 0.9])
    record, _ = write_protocol(tmp_path, DataArguments(**REVIEWS), settings, format=None)
    assert record["conditions"]["0.9"]["realised"].keys() == {"text"}
    assert "fine_accuracy" in record["main_metrics"]
    assert record["conditions"]["0.9"]["difference"]["intensity_mae"]["mean"] != 0
    with pytest.raises(NothingLeftError, match="fixed loses whole modalities, but the model reads text alone"):
        write_protocol(tmp_path, DataArguments(**REVIEWS), ProtocolSettings("fixed"), format=None)
    with pytest.raises(DataError, match="published masks are for one tokenisation"):
        write_protocol(tmp_path, DataArguments(**REVIEWS), ProtocolSettings("lnln", "exact"), format=None)


def test_data_that_is_refused(checkpoint):
    with pytest.raises(RecipeError, match="a protocol takes complete data"):
        write_protocol(checkpoint, DataArguments(**CLIPS, damage={"typos": 1}), ProtocolSettings("tfr"))
    with pytest.raises(RecipeError, match="leave out `max_eval_samples`"):
        write_protocol(checkpoint, DataArguments(**CLIPS, max_eval_samples=9), ProtocolSettings("tfr", "exact"))


def test_answers_do_not_depend_on_the_batch_size_or_on_other_rows(checkpoint):
    classify = load_pipeline(str(checkpoint), device="cpu")
    data_args = read_data_arguments(checkpoint)
    architecture = architecture_of(classify.model.config)
    data_args.complete("clips")
    encoded = architecture.encode(architecture.load(data_args, classify.model.config)["test"], classify.processor)
    settings = ProtocolSettings("tfr", mask_seeds=[3], rates=[0.0, 0.4])

    def outputs(rows, batch_size):
        parts = predict_masked(classify.model, classify.processor, rows, "test", settings, batch_size)
        return [part.predictions.outputs["logits"] for part in parts]

    whole, half = outputs(encoded, 32), outputs(encoded.select(range(10)), 3)
    for one, other in zip(whole, half, strict=True):
        np.testing.assert_allclose(one[:10], other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"protocol": "rain"}, "There is no protocol 'rain'; there are tfr, lnln"),
        ({"protocol": "tfr", "mode": "fast"}, "mode must be one of sound, exact, got 'fast'"),
        ({"protocol": "tfr", "mask_seeds": [1, 1]}, "different ones"),
        ({"protocol": "tfr", "mask_seeds": []}, "different ones"),
        ({"protocol": "tfr", "mask_seeds": ["a"]}, "mask_seeds must be a list of whole numbers"),
        ({"protocol": "tfr", "rates": [0.5]}, "Protocol tfr: An area needs two rates or more"),
        ({"protocol": "tfr", "rates": [0.5, 0.1]}, "in rising order"),
        ({"protocol": "lnln", "rates": [0.5, 2.0]}, "numbers from 0 to 1"),
        ({"protocol": "fixed", "rates": [0.5]}, "fixed has no rates"),
        ({"protocol": "lnln", "mask_seeds": [-1]}, r"`mask_seeds` must be from 0 to 2\^32 - 1, got \[-1\]"),
        ({"protocol": "lnln", "rates": [0.5, 0.5]}, "Rates must differ from each other"),
        ({"protocol": "mplmm", "rates": [0.0]}, "no condition besides the complete one"),
        ({"protocol": "imbalanced", "mode": "exact"}, "masks of imbalanced were not published"),
    ],
)
def test_settings_that_are_refused(fields, words):
    with pytest.raises((RecipeError, DataError), match=words):
        ProtocolSettings(**fields)
