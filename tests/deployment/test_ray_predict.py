import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from asserts import assert_close

from hf_fusion import FusionSentimentPipeline
from hf_fusion.deployment.prediction_shards import PredictionShards
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.deployment.ray_predict import RayPredictor, predict_dataset


@pytest.fixture
def checkpoint(make_model, processor, tmp_path):
    FusionSentimentPipeline(make_model(), processor=processor, device="cpu").save_pretrained(tmp_path / "checkpoint")
    return str(tmp_path / "checkpoint")


@pytest.fixture
def cluster():
    """A Ray of two cores in this machine, that keeps the order of rows."""
    ray = pytest.importorskip("ray")
    data = pytest.importorskip("ray.data")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    context = data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    yield data
    ray.shutdown()


def test_a_cluster_predicts_what_one_process_does(cluster, checkpoint, corpus, tmp_path):
    rows = [{"id": i, "review": text, "stars": 1.5} for i, text in enumerate(corpus[:50])]
    rows[7]["review"] = None
    rows[33]["review"] = ""
    (tmp_path / "in").mkdir()
    for k in range(2):
        pq.write_table(pa.Table.from_pylist(rows[25 * k : 25 * (k + 1)]), tmp_path / f"in/{k}.parquet")
    dataset = cluster.read_parquet(str(tmp_path / "in"))
    predict_dataset(dataset, checkpoint, "review", batch_size=1).write_parquet(str(tmp_path / "out"))

    classify = load_pipeline(checkpoint, device="cpu")
    paths = [str(tmp_path / f"in/{k}.parquet") for k in range(2)]
    shards = PredictionShards(tmp_path / "shards", paths, checkpoint, classify.model.config, text_column="review")
    shards.fill(classify, batch_size=1)
    expected = pq.read_table(tmp_path / "shards")
    found = pq.read_table(tmp_path / "out").sort_by("id")
    assert found.schema.remove_metadata() == expected.schema.remove_metadata()
    assert_close(found.to_pylist(), expected.to_pylist())
    assert [row["id"] for row in found.to_pylist() if row["error"]] == [7, 33]


def test_frames_are_read_and_left_out(clip_model, clip_processor, clips, tmp_path):
    """What an actor does, without a cluster."""
    pipe = FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")
    pipe.save_pretrained(tmp_path)
    streams = {name: [None if x is None else x.tolist() for x in clips[name]] for name in ("audio", "vision")}
    batch = pa.table({"text": clips["text"], **streams, "n": list(range(5))})
    out = RayPredictor(str(tmp_path), "text", 1, "float32", "cpu")(batch)
    assert out.column_names == ["text", "n", "prediction", "truncated", "error"] and out["error"].null_count == 5
    answers = pipe([{name: clips[name][i] for name in clips} for i in range(5)], batch_size=1)
    assert_close(out["prediction"].to_pylist(), answers)


def test_long_texts_are_read_whole_or_cut(checkpoint):
    table = pa.Table.from_pylist([{"text": "good " * 700}, {"text": "good"}])
    whole, cut = (
        RayPredictor(checkpoint, "text", 2, "float32", "cpu", long_texts=way)(table).to_pylist()
        for way in (None, "cut")
    )
    assert [row["truncated"] for row in whole] == [False, False]
    assert [row["truncated"] for row in cut] == [True, False]
    assert whole[0]["prediction"] != cut[0]["prediction"] and "kept" not in whole[0] and 0 < cut[0]["kept"] < 1
    assert_close(whole[1]["prediction"], cut[1]["prediction"])


def test_aspects(checkpoint):
    predictor = RayPredictor(checkpoint, "text", 2, "float32", "cpu", consistent=False, aspects=["bed"])
    named, other = predictor(pa.Table.from_pylist([{"text": "A good bed."}, {"text": "good"}])).to_pylist()
    assert named["prediction"]["aspects"]["bed"]["label"] and other["prediction"]["aspects"] == {"bed": None}


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(ImportError, match=r"hf-fusion\[ray\]"):
        predict_dataset(None, "checkpoint")
