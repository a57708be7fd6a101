import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Array2D, Dataset, Features, Value

from hf_fusion import FusionSentimentPipeline
from hf_fusion.data.arrow_rows import ArrowRows, in_batches
from hf_fusion.evaluation import kept_predictions
from hf_fusion.evaluation.calibration import calibration_error
from hf_fusion.evaluation.kept_predictions import (
    describe_predictions,
    digest_weights,
    join_predictions,
    make_predictions,
    measure_predictions,
    predict_labelled,
    read_predictions,
    write_predictions,
)
from hf_fusion.evaluation.metrics import class_metrics, compute_metrics, select_sentiment_metrics
from hf_fusion.utils.errors import DataError


@pytest.fixture
def reviews(texts):
    """With a missing label of each task."""
    columns = {"id": list("abcd"), "text": texts, "labels": [0, None, 2, 4], "coarse_labels": [0, 1, None, 2]}
    return Dataset.from_dict({**columns, "intensity_labels": [0.1, 0.25, None, 1.0]})


@pytest.fixture
def clip_rows(clips):
    streams = {"audio": Array2D((None, 3), "float32"), "vision": Array2D((None, 5), "float32")}

    def make(labels, kind="float32"):
        features = Features({"id": Value("string"), "text": Value("string"), "label": Value(kind), **streams})
        return Dataset.from_dict({"id": list("abcde"), "label": labels, **clips}, features)

    return make


def outputs_of(config, rows, seed=0):
    """Random outputs, such as those of a model."""
    rng = np.random.default_rng(seed)
    widths = kept_predictions.head_widths(config)
    return {name: rng.normal(size=(rows, *width)).astype(np.float32) for name, width in widths.items()}


def written(tmp_path, predictions):
    write_predictions(tmp_path / "predictions.parquet", predictions)
    return read_predictions(tmp_path / "predictions.parquet")


def test_reviews_come_back_with_the_metrics_of_the_trainer(tmp_path, make_config, reviews):
    config = make_config()
    outputs = outputs_of(config, 4)
    labels = {"labels": np.array([0, -100, 2, 4]), "coarse_labels": np.array([0, 1, -100, 2])}
    labels["intensity_labels"] = np.array([0.1, 0.25, np.nan, 1.0], np.float32)
    expected = compute_metrics(config, tuple(outputs.values()), list(labels.values()), list(labels))
    found = written(tmp_path, make_predictions(config, reviews, "test", outputs, facts={"seed": 3}))
    assert found.ids.tolist() == list("abcd") and found.splits.tolist() == ["test"] * 4 and found.facts["seed"] == 3
    for name, values in outputs.items():
        np.testing.assert_array_equal(found.outputs[name], values)
        assert found.outputs[name].dtype == np.float32
    for name, values in labels.items():
        np.testing.assert_array_equal(found.labels[name], values)
        assert found.labels[name].dtype == values.dtype
    metrics = measure_predictions(found)
    assert metrics == pytest.approx(expected, abs=1e-12, nan_ok=True) and len(metrics) == 17


def test_a_label_column_that_the_data_lacks(tmp_path, make_config, reviews):
    config = make_config()
    found = written(tmp_path, make_predictions(config, reviews.remove_columns("labels"), "test", outputs_of(config, 4)))
    assert list(found.labels) == ["coarse_labels", "intensity_labels"]
    assert {name.partition("_")[0] for name in measure_predictions(found)} == {"coarse", "intensity"}
    with pytest.raises(DataError, match="no labels, so that they have no metrics"):
        measure_predictions(make_predictions(config, reviews.select_columns("id"), "test", outputs_of(config, 4)))


@pytest.mark.parametrize("label_range", [(-3.0, 3.0), (-1.0, 1.0)])
def test_scores_of_clips(tmp_path, clip_config, clip_rows, label_range):
    config = clip_config(label_range=label_range)
    rows = clip_rows([0.1, -0.7, 0.9, 0.0, 0.3])
    outputs = outputs_of(config, 5)
    found = written(tmp_path, make_predictions(config, rows, "test", outputs))
    expected = select_sentiment_metrics(label_range).compute(
        predictions=outputs["logits"][:, 0], references=np.array(rows["label"], np.float32)
    )
    assert measure_predictions(found) == pytest.approx(expected, abs=1e-12)
    assert ("acc3" in expected) == (label_range == (-1.0, 1.0))


def test_classes_of_clips(tmp_path, clip_config, clip_rows):
    config = clip_config(id2label={0: "calm", 1: "sad", 2: "glad"}, problem_type="single_label_classification")
    outputs = outputs_of(config, 5)
    labels = [0, 1, 2, 1, 1]
    found = written(tmp_path, make_predictions(config, clip_rows(labels, "int64"), "test", outputs))
    metrics = measure_predictions(found)
    probabilities = np.exp(outputs["logits"]) / np.exp(outputs["logits"]).sum(-1, keepdims=True)
    correct = probabilities.argmax(-1) == labels
    gaps = [correct[bins].sum() - probabilities.max(-1)[bins].sum() for bins in _bins(probabilities.max(-1))]
    assert metrics.pop("calibration_error") == pytest.approx(sum(map(abs, gaps)) / 5, abs=1e-6)
    assert metrics == pytest.approx(class_metrics(outputs["logits"].argmax(-1), labels, ["calm", "sad", "glad"]))


def _bins(confidence):
    return [np.flatnonzero((confidence * 10).astype(int) == number) for number in range(10)]


def test_several_labels(tmp_path, clip_config, clip_rows):
    config = clip_config(num_labels=3, problem_type="multi_label_classification")
    rows = clip_rows([0.0] * 5).remove_columns("label")
    rows = rows.add_column("label", [[1, 0, 1], [0, 0, 1], None, [1, 1, 1], [0, 1, 0]])
    outputs = outputs_of(config, 5)
    found = written(tmp_path, make_predictions(config, rows, "test", outputs))
    assert found.labels["labels"].shape == (5, 3) and np.isnan(found.labels["labels"][2]).all()
    expected = compute_metrics(config, outputs["logits"], [found.labels["labels"]], ["labels"])
    metrics = measure_predictions(found)
    shares = 1 / (1 + np.exp(-outputs["logits"]))[[0, 1, 3, 4]]
    correct = (shares >= 0.5) == found.labels["labels"][[0, 1, 3, 4]].astype(bool)
    confidence = np.maximum(shares, 1 - shares)
    assert metrics.pop("calibration_error") == pytest.approx(calibration_error(correct.ravel(), confidence.ravel()))
    assert metrics == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["reviews", "clips", "classes"])
def test_a_pipeline_gives_the_outputs_of_its_answers(
    kind, make_model, processor, reviews, clip_model, clip_processor, clip_rows
):
    if kind == "reviews":
        classify, rows = FusionSentimentPipeline(make_model(), processor=processor, device="cpu"), reviews
        answers = classify(list(rows["text"]))
    else:
        classes = {"num_labels": 4, "problem_type": "single_label_classification"} if kind == "classes" else {}
        classify = FusionSentimentPipeline(clip_model(**classes), processor=clip_processor, device="cpu")
        rows = clip_rows([0, 1, 2, 3, 3], "int64" if classes else "float32")
        answers = classify(
            [{name: row[name] for name in ("text", "audio", "vision")} for row in in_batches(ArrowRows(rows))]
        )
    tracked = []

    def track(outputs):
        for output in outputs:
            tracked.append(output)
            yield output

    predictions = predict_labelled(classify, rows, "validation", batch_size=2, track=track)
    assert len(tracked) == len(rows) == len(predictions) and set(predictions.splits) == {"validation"}
    assert predictions.ids.tolist() == rows["id"][:]
    if kind == "clips":
        expected = [[answer["score"]] for answer in answers]
        np.testing.assert_allclose(predictions.outputs["logits"], expected, atol=1e-5)
        return
    classes, confidence = kept_predictions.choose_classes(predictions.outputs["logits"])
    assert [predictions.config.id2label[i] for i in classes] == [answer["label"] for answer in answers]
    np.testing.assert_allclose(confidence, [answer["score"] for answer in answers], atol=1e-5)
    if kind == "reviews":
        np.testing.assert_allclose(
            predictions.outputs["intensity"], [answer["intensity"] for answer in answers], atol=1e-5
        )
    assert "label" in classify(["good"])[0], "the pipeline itself still gives answers"


def test_several_splits_and_rows(tmp_path, make_config, reviews):
    config = make_config()
    parts = [
        make_predictions(config, reviews.remove_columns("coarse_labels"), "validation", outputs_of(config, 4, 1)),
        make_predictions(config, reviews, "test", outputs_of(config, 4, 2)),
    ]
    found = written(tmp_path, join_predictions(parts))
    assert len(found) == 8 and list(found.labels) == ["labels", "coarse_labels", "intensity_labels"]
    assert (found.labels["coarse_labels"][:4] == -100).all()
    for part in parts:
        split = part.splits[0]
        assert measure_predictions(found, split) == pytest.approx(measure_predictions(part), nan_ok=True)
        np.testing.assert_array_equal(found.of_split(split).outputs["logits"], part.outputs["logits"])
    with pytest.raises(DataError, match="are of validation, test: set `split`"):
        measure_predictions(found)
    with pytest.raises(DataError, match="are of validation, test: got 'train'"):
        measure_predictions(found, "train")


def test_rows_without_ids_are_numbered_and_sizes_are_checked(make_config, reviews):
    config = make_config()
    predictions = make_predictions(config, reviews.remove_columns("id"), "test", outputs_of(config, 4))
    assert predictions.ids.tolist() == ["0", "1", "2", "3"]
    with pytest.raises(DataError, match="Rows, labels and outputs differ in number: 3, 4"):
        make_predictions(config, reviews, "test", outputs_of(config, 3))


def test_the_file_is_small_plain_and_without_texts(tmp_path, make_config, texts):
    config, rows = make_config(), 2000
    reviews = Dataset.from_dict({"id": [f"r{i}" for i in range(rows)], "text": texts * 500, "labels": [1] * rows})
    path = tmp_path / "predictions.parquet"
    write_predictions(path, make_predictions(config, reviews, "test", outputs_of(config, rows), facts={"seed": 1}))
    assert path.stat().st_size < rows * 9 * 4 * 1.1, "little more than the floats"
    assert not (tmp_path / "predictions.parquet.tmp").exists()
    table = pd.read_parquet(path)
    assert list(table) == ["id", "split", "labels", "logits", "coarse_logits", "intensity"]
    assert np.stack(table["logits"]).shape == (rows, 5) and table["intensity"].dtype == np.float32
    schema = pq.read_schema(path)
    assert json.loads(schema.metadata[b"hf_fusion"])["facts"]["config"]["coarse_id2label"] == {
        "0": "negative", "1": "neutral", "2": "positive",
    }  # fmt: skip
    assert pq.ParquetFile(path).metadata.row_group(0).column(3).compression == "ZSTD"


def test_files_that_are_no_predictions(tmp_path, make_config, reviews):
    path = tmp_path / "predictions.parquet"
    with pytest.raises(DataError, match=r"predictions\.parquet: no such file"):
        read_predictions(path)
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"predictions\.parquet is damaged"):
        read_predictions(path)
    pq.write_table(pa.table({"id": ["a"]}), path)
    with pytest.raises(DataError, match="holds no predictions of this package"):
        read_predictions(path)
    config = make_config()
    predictions = make_predictions(config, reviews, "test", outputs_of(config, 4))
    table = kept_predictions.to_table(predictions)
    changes = [
        (table.drop_columns("intensity"), predictions.facts, "the column 'intensity' is missing, there are id, split"),
        (table, {}, "`config` must be a mapping, got None"),
        (table, {"config": {**predictions.facts["config"], "model_type": "bert"}}, "`model_type` must be one of"),
        (table, {"config": {**predictions.facts["config"], "id2label": {0: "a", 1: "b"}}}, "cannot reshape"),
        (table.set_column(5, "logits", table["id"]), predictions.facts, "predictions.parquet is damaged"),
    ]
    for changed, facts, words in changes:
        kept_predictions.write_table(path, changed, facts)
        with pytest.raises(DataError, match=words):
            read_predictions(path)
    write_predictions(path, predictions)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"predictions\.parquet is damaged"):
        read_predictions(path)


def test_a_file_of_a_later_version(tmp_path, make_config, reviews, monkeypatch):
    config = make_config()
    monkeypatch.setattr(kept_predictions, "_FORMAT", 2)
    write_predictions(tmp_path / "p.parquet", make_predictions(config, reviews, "test", outputs_of(config, 4)))
    monkeypatch.setattr(kept_predictions, "_FORMAT", 1)
    with pytest.raises(DataError, match="has the format 2, this version reads 1: update hf-fusion"):
        read_predictions(tmp_path / "p.parquet")


def test_facts_name_the_weights(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    facts = describe_predictions(tmp_path, "some/where/mine.csv", {"test": "ab"}, seed=2, damage={})
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert facts["weights_sha256"] == {"model.safetensors": digest}
    assert (facts["checkpoint"], facts["dataset"], facts["seed"]) == (tmp_path.name, "mine.csv", 2)
    assert facts["commit"] is None or len(facts["commit"].removesuffix("-dirty")) == 40
    assert digest_weights("user/name") is None
