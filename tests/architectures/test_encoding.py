"""Data sets as users have them, given to the trainer."""

import logging

import numpy as np
import pytest
from asserts import assert_close
from datasets import ClassLabel, Dataset

from hf_fusion import FusionCollator, FusionTrainer, FusionTrainingArguments, load_clips, load_reviews
from hf_fusion.architectures.clips import encode_clips
from hf_fusion.architectures.encoding import needs_encoding
from hf_fusion.architectures.reviews import encode_reviews
from hf_fusion.utils.errors import DataError, RecipeError

WORDS = ("very negative", "negative", "neutral", "positive", "very positive")


@pytest.fixture
def arguments(tmp_path):
    return FusionTrainingArguments(
        str(tmp_path), report_to="none", save_strategy="no", eval_strategy="no", load_best_model_at_end=False,
        max_steps=1, per_device_train_batch_size=4, use_cpu=True, disable_tqdm=True,
    )  # fmt: skip


@pytest.fixture
def make_trainer(make_model, processor, arguments):
    def make(train, evaluation=None, model=None, **options):
        model = model or make_model()
        return FusionTrainer(model, arguments, train_dataset=train, eval_dataset=evaluation,
                             processing_class=processor, **options)  # fmt: skip

    return make


@pytest.fixture
def texts(corpus):
    return corpus[:10]


def labels_of(rows):
    return {name: rows[name][:] for name in ("labels", "coarse_labels", "intensity_labels")}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("stars", [i % 5 + 1 for i in range(10)]),
        ("score", [1 + i % 5 + (i % 5 < 4) / 8 for i in range(10)]),
        ("label", [i % 5 for i in range(10)]),
        ("label", [WORDS[i % 5] for i in range(10)]),
    ],
)
def test_reviews_become_those_of_the_readers(make_trainer, processor, texts, column, values):
    raw = Dataset.from_dict({"text": texts, column: values})
    read = load_reviews(raw, split_shares=(1, 0, 0))["train"]
    trainer = make_trainer(raw, raw)
    expected = encode_reviews(read, processor).remove_columns("text_truncated")
    for found in (trainer.train_dataset, trainer.eval_dataset):
        assert labels_of(found) == labels_of(expected)
        assert found["input_ids_b"][:] == expected["input_ids_b"][:] and found["length"][:] == expected["length"][:]
    assert labels_of(found)["labels"] == [i % 5 for i in range(10)]
    trainer.train()
    assert {"eval_fine_accuracy", "eval_coarse_accuracy", "eval_intensity_mae"} <= set(trainer.evaluate())


def test_columns_with_other_names(make_trainer, texts):
    """A column with the name of a label does not count if the mapping names another one."""
    rows = {"body": texts, "rating": [5, 1] * 5, "label": [3] * 10, "split": ["test"] * 10}
    trainer = make_trainer(Dataset.from_dict(rows), column_mapping={"body": "text", "rating": "stars"})
    assert trainer.train_dataset["labels"][:] == [4, 0] * 5


def test_loaded_reviews_are_taken_as_they_are(make_trainer, texts):
    read = load_reviews(Dataset.from_dict({"text": texts, "stars": [1, 5] * 5}), split_shares=(1, 0, 0))["train"]
    raw = Dataset.from_dict({"text": texts, "stars": [1, 5] * 5})
    trainer = make_trainer(read, {"read": read, "raw": raw, "encoded": make_trainer(read).train_dataset})
    found = [trainer.train_dataset, *trainer.eval_dataset.values()]
    assert [labels_of(rows) for rows in found] == [labels_of(read)] * 4 and not any(map(needs_encoding, found))


def test_labels_of_heads_that_the_model_does_not_have_are_left_out(make_trainer, make_model, texts, caplog):
    raw = Dataset.from_dict({"text": texts, "stars": [1, 5] * 5})
    read = load_reviews(raw, split_shares=(1, 0, 0))["train"]
    trainer = make_trainer(read, raw, make_model(num_coarse_labels=0, has_intensity=False))
    for rows in (trainer.train_dataset, trainer.eval_dataset):
        assert [name for name in rows.column_names if name.endswith("labels")] == ["labels"]
    assert "`train_dataset`: the model has no heads for coarse_labels, intensity_labels" in caplog.text
    trainer.train()
    assert trainer.evaluate().keys() >= {"eval_loss", "eval_fine_accuracy"}


def test_the_numbers_of_a_validation_set_are_read_like_those_of_the_training_set(make_trainer, make_model, texts):
    """By itself, 0 and 1 would be the first two of three classes."""
    train = Dataset.from_dict({"text": texts, "label": [-1, 0, 1, 1, 1] * 2})
    evaluation = Dataset.from_dict({"text": texts[:4], "label": [0, 1, 1, 0]})
    trainer = make_trainer(train, evaluation, make_model(num_labels=3, id2label=None))
    assert trainer.train_dataset["labels"][:] == [0, 1, 2, 2, 2] * 2
    assert trainer.eval_dataset["labels"][:] == [1, 2, 2, 1]


def test_classes_without_names_get_those_of_the_data(make_trainer, make_model, texts):
    model = make_model(num_labels=3, id2label={i: f"LABEL_{i}" for i in range(3)})
    make_trainer(Dataset.from_dict({"text": texts[:3], "label": ["good", "bad", "neutral"]}), model=model)
    assert model.config.id2label == {0: "bad", 1: "neutral", 2: "good"} and model.config.label2id["good"] == 2


def test_classes_without_values_get_those_of_the_data(make_trainer, make_model, texts):
    stars = Dataset.from_dict({"text": texts[:5], "stars": [1, 2, 3, 4, 5]})
    model, other = make_model(), make_model(class_values=[0, 1, 2, 3, 4])
    make_trainer(stars, model=model), make_trainer(stars, model=other)
    assert model.config.class_values == [1, 2, 3, 4, 5] and other.config.class_values == [0, 1, 2, 3, 4]


def test_classes_of_another_model(make_trainer, make_model, texts):
    words = Dataset.from_dict({"text": texts[:2], "label": ["cat", "dog"]})
    with pytest.raises(DataError, match="none of the classes"):
        make_trainer(words)
    with pytest.raises(RecipeError, match=r"has 5 fine and 3 coarse classes, .* 5 fine and 2 coarse"):
        make_trainer(Dataset.from_dict({"text": texts[:2], "coarse_label": [0, 1]}))
    with pytest.raises(DataError, match=r"`eval_dataset`: the column 'labels' holds 7, .* the classes 0 to 4"):
        make_trainer(None, Dataset.from_dict({"text": texts[:2], "labels": [0, 7]}))


def test_errors_name_columns_and_arguments(make_trainer, texts):
    rows = Dataset.from_dict({"body": texts, "rating": [1] * 10})
    with pytest.raises(DataError, match=r"(?s)`train_dataset` has the columns body, rating, but needs text\. .*"
                       r"column_mapping=\{'body': 'text'\}; the fields of reviews are id, text, stars"):  # fmt: skip
        make_trainer(rows)
    with pytest.raises(DataError, match=r"needs stars or score or .*column_mapping=\{'rating': 'stars'\}"):
        make_trainer(rows, column_mapping={"body": "text"})
    with pytest.raises(DataError, match="names the column 'bdy'; `train_dataset` has body, rating"):
        make_trainer(rows, column_mapping={"bdy": "text", "rating": "stars"})
    with pytest.raises(DataError, match="names 'rating', but the fields of reviews are"):
        make_trainer(rows, column_mapping={"body": "text", "rating": "rating"})


def test_rows_that_cannot_be_used_are_told(make_trainer, make_model, processor, texts, caplog):
    processor.max_length = 8
    rows = Dataset.from_dict({"text": ["", *texts[1:]], "stars": [1, 2, 3, 4, 5] * 2})
    with pytest.raises(DataError, match=r"(?s)train_dataset \(train\): 1 unusable row.*empty text"):
        make_trainer(rows)
    trainer = make_trainer(rows, rejected_rows="drop")
    assert len(trainer.train_dataset) == 9
    assert "9 of 9 train reviews are cut to their first 8 tokens." in caplog.text


def test_own_collators_and_transforms_are_left_alone(make_trainer, processor, texts):
    rows = Dataset.from_dict({"text": texts, "stars": [1] * 10})
    assert make_trainer(rows, data_collator=FusionCollator(processor)).train_dataset is rows
    with pytest.raises(ValueError, match="`column_mapping` has no effect with a custom `data_collator`"):
        make_trainer(rows, data_collator=FusionCollator(processor), column_mapping={"stars": "score"})
    on_the_fly = rows.with_transform(lambda batch: processor.encode_text(batch["text"]))
    assert make_trainer(on_the_fly).train_dataset is on_the_fly


def test_sets_that_evaluate_and_predict_get(make_trainer, texts):
    rows = Dataset.from_dict({"text": texts, "stars": [1, 2, 3, 4, 5] * 2})
    trainer = make_trainer(rows)
    assert_close(trainer.evaluate(rows)["eval_loss"], trainer.evaluate(trainer.train_dataset)["eval_loss"])
    assert [part.tolist() for part in trainer.predict(rows).label_ids[:1]] == [[0, 1, 2, 3, 4] * 2]


def test_clips(clip_model, clip_processor, arguments, caplog):
    rng = np.random.default_rng(0)
    rows = Dataset.from_list([
        {"words": f"room {i}", "sound": rng.normal(size=(i + 9, 3)).tolist(), "label": 9.0, "mood": i - 3.0,
         "vision": rng.normal(size=(4, 5)).tolist()} for i in range(6)
    ])  # fmt: skip
    mapping = {"words": "text", "sound": "audio", "mood": "label"}
    options = {"train_dataset": rows, "eval_dataset": rows, "processing_class": clip_processor}
    trainer = FusionTrainer(clip_model(), arguments, column_mapping=mapping, **options)
    clips = rows.remove_columns("label").rename_columns(mapping)
    expected = encode_clips(load_clips(clips, split_shares=(1, 0, 0))["train"], clip_processor)
    for found in (trainer.train_dataset, trainer.eval_dataset):
        assert found["labels"][:] == [-3, -2, -1, 0, 1, 2] and found["input_ids"][:] == expected["input_ids"][:]
        np.testing.assert_array_equal(found.with_format("numpy")[5]["audio"], expected.with_format("numpy")[5]["audio"])
    assert "2 of 6 train clips are cut to their first 12 audio frames." in caplog.text
    trainer.train()
    assert "eval_mae" in trainer.evaluate()
    with pytest.raises(DataError, match="a label outside the range -3 to 3"):
        FusionTrainer(clip_model(), arguments, **{**options, "train_dataset": clips.map(lambda row: {"label": 9.0})})
    with pytest.raises(DataError, match="a label outside the range -1 to 1"):
        FusionTrainer(clip_model(label_range=(-1, 1)), arguments, **{**options, "train_dataset": clips})
    with pytest.raises(RecipeError, match="reads audio frames of 3 features, those of the data have 4"):
        wide = clips.map(lambda row: {"audio": [[1.0] * 4]})
        FusionTrainer(clip_model(), arguments, **{**options, "train_dataset": wide})
    with pytest.raises(
        RecipeError, match=r"model has the classes LABEL_0, .*, the data has classes -3, -2, -1, 0, 1, 2"
    ):
        FusionTrainer(clip_model(num_labels=3), arguments, **{**options, "train_dataset": clips})


@pytest.mark.parametrize("named", [True, False])
def test_classes_of_clips(clip_model, clip_processor, arguments, named):
    rows = Dataset.from_dict({"text": ["good", "bad", "good", "bad"], "label": ["Sad", "angry", "sad", "calm"]})
    names = {"id2label": {0: "sad", 1: "calm", 2: "angry"}} if named else {"num_labels": 3}
    model = clip_model(**names, modalities=("text",), anchor="text")
    trainer = FusionTrainer(
        model, arguments, train_dataset=rows, eval_dataset=rows.select([3, 0]), processing_class=clip_processor
    )
    assert list(model.config.id2label.values()) == (["sad", "calm", "angry"] if named else ["angry", "calm", "Sad"])
    assert trainer.train_dataset["labels"][:] == ([0, 2, 0, 1] if named else [2, 0, 2, 1])
    assert trainer.eval_dataset["labels"][:] == ([1, 0] if named else [1, 2])
    trainer.train()
    assert {"eval_accuracy", "eval_uar", "eval_calm_recall"} <= set(trainer.evaluate())
    strangers = rows.add_column("other", [0] * 4).map(lambda row: {"label": "glad"})
    with pytest.raises(DataError, match=r"4 x a label that is none of the classes .*: 'glad'"):
        FusionTrainer(model, arguments, train_dataset=strangers, processing_class=clip_processor)


def test_a_class_label_keeps_its_order(clip_model, clip_processor, arguments):
    rows = Dataset.from_dict({"text": ["good", "bad", "good"], "label": [2, 0, 1]})
    rows = rows.cast_column("label", ClassLabel(names=["sad", "angry", "calm"]))
    model = clip_model(num_labels=3, modalities=("text",), anchor="text")
    trainer = FusionTrainer(model, arguments, train_dataset=rows, processing_class=clip_processor)
    assert trainer.train_dataset["labels"][:] == [2, 0, 1]
    assert list(model.config.id2label.values()) == ["sad", "angry", "calm"]


def test_clips_of_a_model_of_one_modality(clip_model, clip_processor, arguments):
    model = clip_model(modalities=("text",), anchor="text")
    rows = Dataset.from_dict({"text": ["good", "bad"], "audio": [[[1.0]], [[2.0]]], "label": [1.0, -1.0]})
    trainer = FusionTrainer(model, arguments, train_dataset=rows, processing_class=clip_processor)
    assert "audio" not in trainer.train_dataset.column_names


def test_labels_are_told(make_trainer, texts, caplog):
    with caplog.at_level(logging.INFO, logger="hf_fusion.data"):
        make_trainer(Dataset.from_dict({"text": texts, "stars": [1, 2, 3, 4, 5] * 2}))
    assert "train_dataset: fine classes: from column 'stars': one class a star, 1 to 5" in caplog.text
