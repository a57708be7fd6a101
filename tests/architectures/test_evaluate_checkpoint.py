import pytest
from datasets import Dataset

from hf_fusion.architectures.evaluate_checkpoint import NothingLeftError, load_split
from hf_fusion.data.arguments import DataArguments
from hf_fusion.utils.errors import DataError, RecipeError

OPTIONS = {"num_train": 2, "num_validation": 3, "num_test": 6}


@pytest.fixture
def config(clip_config):
    return clip_config(audio_feature_size=8, vision_feature_size=8)


def clips(**fields):
    return DataArguments(dataset="synthetic-clips", dataset_options=OPTIONS, **fields)


def test_rows_of_one_split(config):
    rows = load_split(config, clips(max_eval_samples=4), "test")
    assert len(rows) == 4 and len(load_split(config, clips(), "validation")) == 3
    assert {"id", "text", "audio", "vision", "label"} <= set(rows.column_names)
    with pytest.raises(DataError, match="has no dev split; it has train, validation, test"):
        load_split(config, clips(), "dev")


def test_limited_rows_are_drawn_from_the_whole_split_and_always_the_same():
    rows = Dataset.from_dict({"text": [f"row {i:03}" for i in range(300)]})
    drawn = DataArguments(max_eval_samples=30).limit_evaluation(rows)["text"]
    assert drawn == DataArguments(max_eval_samples=30).limit_evaluation(rows)["text"] == sorted(set(drawn))
    assert len(drawn) == 30 and drawn[9] > "row 050" and drawn[-10] < "row 250", "a sorted file must not give one end"
    assert len(DataArguments(max_eval_samples=400).limit_evaluation(rows)) == 300


def test_only_what_the_model_reads(clip_config):
    config = clip_config(audio_feature_size=8, vision_feature_size=8, modalities=("text", "audio"))
    assert "vision" not in load_split(config, clips(), "test").column_names


def test_damage(clip_config, config):
    clean = load_split(config, clips(), "test")
    rows = load_split(config, clips(damage={"audio_loss": 5, "word_dropout": 5}), "test")
    assert all(not row["audio"] for row in rows) and rows["vision"] == clean["vision"] and rows["text"] != clean["text"]
    texts = clip_config(modalities=("text",))
    assert load_split(texts, clips(damage={"audio_loss": 5}), "test")["text"] == clean["text"], "it reads no audio"
    with pytest.raises(NothingLeftError, match="takes audio, text"):
        load_split(texts, clips(damage={"text_loss": 5, "audio_loss": 5}), "test")
    assert len(load_split(texts, clips(damage={"text_loss": 4}), "test")) == len(clean), "a clip keeps its last one"
    with pytest.raises(DataError, match="no corruption 'rain'"):
        load_split(config, clips(damage={"rain": 1}), "test")


def test_frames_of_another_width(clip_config):
    with pytest.raises(RecipeError, match="audio frames of 3 features, those of the data have 8"):
        load_split(clip_config(), clips(), "test")


def test_damage_is_not_for_training():
    from hf_fusion.training.recipe import parse_recipe
    from hf_fusion.training.run import run_training

    with pytest.raises(RecipeError, match="`damage` is for evaluation"):
        run_training(*parse_recipe(["--config", "dashfusion_synthetic", "--damage", '{"typos": 1}']))
