import fcntl
import json
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from asserts import assert_close
from tiny_runs import LONGEST_SECONDS

from hf_fusion import FusionSentimentPipeline
from hf_fusion.data.files import RowWriter, read_rows, read_rows_or_errors
from hf_fusion.deployment.prediction_shards import SETTINGS_FILE, PredictionShards
from hf_fusion.deployment.predictions import load_pipeline, predict_rows, prediction_types
from hf_fusion.utils.errors import DataError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, bpe, unigram):
    from conftest import encoder_config

    from hf_fusion import DyFuLMConfig, DyFuLMForSequenceClassification, DyFuLMProcessor

    folder = tmp_path_factory.mktemp("checkpoint")
    config = DyFuLMConfig(encoder_a_config=encoder_config(), encoder_b_config=encoder_config("deberta"))
    model = DyFuLMForSequenceClassification(config)
    FusionSentimentPipeline(model, processor=DyFuLMProcessor(bpe, unigram), device="cpu").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classify(checkpoint):
    return load_pipeline(str(checkpoint), device="cpu")


@pytest.fixture
def inputs(tmp_path, corpus):
    """25 rows in two files; one is malformed, one has no text."""
    rows = [{"id": i, "text": text} for i, text in enumerate(corpus[:24])]
    rows[20]["text"] = None
    lines = [json.dumps(row) + "\n" for row in rows]
    lines.insert(9, "{broken\n")
    paths = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    for path, part in zip(paths, (lines[:12], lines[12:]), strict=True):
        with open(path, "w") as file:
            file.writelines(part)
    return paths


@pytest.fixture
def shards(checkpoint, classify, inputs, tmp_path):
    def make(shard_rows=7, paths=inputs, folder="out", **changes):
        options = {"checkpoint": str(checkpoint), "config": classify.model.config, **changes}
        return PredictionShards(tmp_path / folder, paths, shard_rows=shard_rows, **options)

    return make


def rows_of(folder):
    """The shards' rows in the order of their names."""
    return [row for path in sorted(folder.glob("part-*.parquet")) for row in read_rows(path)]


@pytest.mark.parametrize("shard_rows", [7, 12, 100])
def test_the_shards_together_are_the_single_file(classify, inputs, shards, tmp_path, shard_rows):
    one = shards(shard_rows)
    found = []
    one.fill(classify, batch_size=1, report=lambda row, error: found.append(row))
    rows = [row for path in inputs for row in read_rows_or_errors(path)]
    with RowWriter(str(tmp_path / "single.parquet"), prediction_types(classify.model.config)) as writer:
        for window in predict_rows(classify, rows, batch_size=1):
            writer.write(window)
    expected = pq.read_table(tmp_path / "single.parquet")
    together = pq.read_table(tmp_path / "out")  # as any reader of a folder of parquet files sees it
    assert together.schema.equals(expected.schema)
    assert_close(together.to_pylist(), expected.to_pylist())
    assert_close(rows_of(tmp_path / "out"), expected.to_pylist())
    assert found == [10, 22] and one.count() == (2, 0, None)
    count = -(-25 // shard_rows)
    names = [f"part-{number:05d}-of-{count:05d}.parquet" for number in range(count)]
    assert sorted(os.listdir(tmp_path / "out")) == [".lock", "_common_metadata", SETTINGS_FILE, *names]
    assert [pq.read_metadata(tmp_path / "out" / name).num_rows for name in names[:-1]] == [shard_rows] * (count - 1)


def test_finished_shards_are_kept_and_the_rest_is_done(classify, shards, tmp_path):
    shards().fill(classify)
    expected = rows_of(tmp_path / "out")
    paths = sorted((tmp_path / "out").glob("part-*"))
    for number in (1, 3):
        paths[number].unlink()
        (tmp_path / f"out/.part-{number:05d}.claim").write_text("    5")
        (tmp_path / f"out/.part-{number:05d}.tmp").write_text("half a shard")
    kept = {path: path.stat().st_mtime_ns for path in paths if path.exists()}
    again = shards()
    assert again.rows_done() == 7 + 7 + 5 + 5, "two complete shards, and what the claims say"
    again.fill(classify)
    assert_close(rows_of(tmp_path / "out"), expected)
    assert again.rows_done() == 25
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert len(os.listdir(tmp_path / "out")) == 4 + 3, "what the dead have left is gone"


def test_who_is_alive_is_left_alone_and_who_dies_is_replaced(classify, shards, tmp_path):
    """A shard that another process holds is left to it; when it ends without having finished, rank 0 takes over."""
    others, main = shards(), shards()
    with open(tmp_path / "out/.part-00002.claim", "w") as claim:
        fcntl.flock(claim, fcntl.LOCK_EX)
        others.fill(classify, rank=1, world=2)
        assert sorted(path.name[:10] for path in (tmp_path / "out").glob("part-*")) == [
            "part-00000", "part-00001", "part-00003",
        ]  # fmt: skip
        thread = threading.Thread(target=main.fill, args=(classify,), daemon=True)
        thread.start()
        thread.join(1)
        assert thread.is_alive() and not main.path(2).exists()
    thread.join(LONGEST_SECONDS)
    assert not thread.is_alive() and len(rows_of(tmp_path / "out")) == 25 and main.count() == (2, 0, None)


def test_each_process_reads_one_piece_and_helps_from_the_end(classify, shards, monkeypatch):
    one, order = shards(shard_rows=3), []  # 9 shards
    monkeypatch.setattr(one, "_try_shard", lambda number, *rest: order.append(number) or True)
    one.fill(classify, rank=1, world=3)
    assert order == [3, 4, 5, 8, 7, 6, 2, 1, 0]


def test_processes_share_the_shards(classify, shards, tmp_path, monkeypatch):
    """Three at once, each with a folder object of its own: every shard is written once, every row is there once."""
    every, written, write = [shards(shard_rows=2) for _ in range(3)], [], PredictionShards._write
    monkeypatch.setattr(PredictionShards, "_write", lambda *args: written.append(args[1]) or write(*args))
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(one.fill, classify, batch_size=1, rank=rank, world=3) for rank, one in enumerate(every)]
        for run in runs:
            run.result(LONGEST_SECONDS)
    assert sorted(written) == list(range(13))
    assert [row["id"] for row in rows_of(tmp_path / "out")] == [*range(9), None, *range(9, 24)]


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"shard_rows": 8}, "shard_rows was 7 and is 8"),
            ({"text_column": "review"}, "text_column was 'text' and is 'review'"),
            ({"dtype": "bfloat16"}, "dtype was 'float32' and is 'bfloat16'"),
            ({"long_texts": "cut"}, "long_texts was 'window' and is None"),
            ({"checkpoint": "other"}, "checkpoint was .* and is 'other'"),
            ({"abstain_below": 0.4}, "abstain_below was None and is 0.4"),
            ({"calibration": False}, "uncalibrated was None and is True"),
        ],
    )
    def test_others_are_refused(self, shards, changes, words):
        shards()
        with pytest.raises(DataError, match=rf"out was filled with other settings: .*{words}"):
            shards(**changes)

    def test_other_inputs_are_refused(self, shards, inputs):
        shards()
        with pytest.raises(DataError, match=r"of the inputs, .*b\.jsonl is new, gone or changed \(1 in all\)"):
            shards(paths=inputs[:1])
        with pytest.raises(DataError, match="inputs are in another order"):
            shards(paths=inputs[::-1])
        with open(inputs[0], "a") as file:
            file.write("\n")
        with pytest.raises(DataError, match=r"of the inputs, .*a\.jsonl is new, gone or changed"):
            shards()

    @pytest.mark.parametrize("name", ["model.safetensors", "tokenizer_b/tokenizer.json", "base/config.json"])
    def test_another_training_of_the_checkpoint_is_refused(self, shards, tmp_path, name):
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True)
        path.write_text("one")
        shards(checkpoint=str(tmp_path / "run"))
        os.utime(path, (1, 1))
        with pytest.raises(DataError, match=rf"of the files of the checkpoint, {re.escape(name)} is new, gone or"):
            shards(checkpoint=str(tmp_path / "run"))

    def test_a_folder_with_other_files_is_refused(self, shards, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/thesis.tex").touch()
        with pytest.raises(DataError, match=r"holds other files \(thesis\.tex \.\.\.\)"):
            shards()
        assert os.listdir(tmp_path / "out") == ["thesis.tex"]

    def test_nothing_is_begun_with_an_input_that_cannot_be_written(self, shards, tmp_path):
        path = tmp_path / "c.jsonl"
        path.write_text('{"text": "x", "error": 1}\n')
        with pytest.raises(DataError, match="column 'error', which would be overwritten"):
            shards(paths=[str(path)])
        path.write_text('{"text": "x"}\n')
        assert len(shards(paths=[str(path)]).parts) == 1
        with pytest.raises(DataError, match="`shard_rows` must be at least 1, got 0"):
            shards(shard_rows=0)


def test_columns_that_some_files_do_not_have_are_null(classify, shards, tmp_path):
    pq.write_table(pa.table({"text": ["a", "b"], "stars": pa.array([1, 2], pa.int8())}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"text": ["c", "d"], "hotel": ["x", "y"]}), tmp_path / "2.parquet")
    one = shards(3, paths=[str(tmp_path / "1.parquet"), str(tmp_path / "2.parquet")])
    one.fill(classify)
    table = pq.read_table(tmp_path / "out")
    assert table.schema.field("stars").type == pa.int8()
    assert table["stars"].to_pylist() == [1, 2, None, None] and table["hotel"].to_pylist() == [None, None, "x", "y"]
    assert one.count() == (0, 0, None) and table["prediction"].null_count == 0


def test_unsure_rows_are_counted(checkpoint, shards):
    classify = load_pipeline(str(checkpoint), device="cpu")
    classify.model.config.abstain_below = 0.9
    one = shards(config=classify.model.config)
    one.fill(classify)
    assert one.count() == (2, 0, 23)


def test_options_of_answers(classify, shards, tmp_path):
    options = {"long_texts": "cut", "consistent": False, "aspects": {"room": ["bed"]}}
    one = shards(**options)
    one.fill(classify)
    good = [row for row in rows_of(tmp_path / "out") if not row["error"]]
    answers = classify([row["text"] for row in good], batch_size=1, **options)
    found = [row["prediction"]["aspects"]["room"] for row in good]
    assert any(found) and [bool(part) for part in found] == [bool(answer["aspects"]) for answer in answers]
    assert_close([row["prediction"]["coarse"] for row in good], [answer["coarse"] for answer in answers])
    assert {row["kept"] for row in good} == {1.0}
    assert len(shards(**options)) == len(one), "the same settings go on"
    with pytest.raises(DataError, match="inconsistent was True and is None; aspects was"):
        shards(long_texts="cut")


def test_an_empty_input_gives_an_empty_shard(classify, shards, tmp_path):
    (tmp_path / "empty.csv").write_text("id,text\n")
    one = shards(paths=[str(tmp_path / "empty.csv")])
    one.fill(classify)
    assert one.count() == (0, 0, None) and one.rows_done() == 0
    table = pq.read_table(tmp_path / "out")
    assert len(table) == 0 and "prediction" in table.column_names


def test_a_damaged_shard_is_found(classify, shards, tmp_path):
    one = shards()
    one.fill(classify)
    content = one.path(1).read_bytes()
    one.path(1).write_bytes(content[:100])
    with pytest.raises(DataError, match=r"part-00001-of-00004\.parquet is damaged; delete it"):
        one.count()
    pq.write_table(pq.read_table(one.path(0)).slice(1), one.path(1))
    with pytest.raises(DataError, match=r"part-00001-of-00004\.parquet has 6 rows instead of 7"):
        one.count()


def test_one_bar_for_all(classify, shards, tmp_path, capsys, monkeypatch):
    one, another = shards(), shards()
    monkeypatch.setattr("hf_fusion.deployment.prediction_shards._POLL_SECONDS", 0.01)
    with one.progress_bar():
        another.fill(classify, batch_size=1, rank=1, world=2)
        time.sleep(0.1)
    assert "25/25" in capsys.readouterr().err
