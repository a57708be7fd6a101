"""Predictions and evaluations, as a user runs them."""

import csv
import fcntl
import json
import time
from types import SimpleNamespace

import matplotlib.image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from asserts import assert_close
from conftest import far_from_the_start
from tiny_runs import Script, script, script_here, together

from hf_fusion import FusionSentimentPipeline
from hf_fusion.data.files import read_rows
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.kept_predictions import measure_predictions, read_predictions


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, bpe, unigram):
    from conftest import encoder_config

    from hf_fusion import DyFuLMConfig, DyFuLMForSequenceClassification, DyFuLMProcessor

    folder = tmp_path_factory.mktemp("checkpoint")
    config = DyFuLMConfig(encoder_a_config=encoder_config(), encoder_b_config=encoder_config("deberta"))
    torch.manual_seed(0)
    model = DyFuLMForSequenceClassification(config)
    FusionSentimentPipeline(model, processor=DyFuLMProcessor(bpe, unigram), device="cpu").save_pretrained(folder)
    options = {"num_train": 5, "num_validation": 5, "num_test": 30}
    (folder / "config.yaml").write_text(yaml.safe_dump({"dataset": "synthetic-reviews", "dataset_options": options}))
    return folder


class TestPredict:
    def test_standard_input_to_json_lines(self, checkpoint):
        process = script("predict", "-c", checkpoint, stdin="Not bad.\n\nGood 😀\n")
        assert process.returncode == 1, process.stderr
        rows = [json.loads(line) for line in process.stdout.splitlines()]
        assert [row["text"] for row in rows] == ["Not bad.", "", "Good 😀"]
        assert [row["error"] for row in rows] == [None, "'text' is empty", None]
        assert [bool(row["prediction"]["coarse"]["label"]) for row in rows] == [True, False, True]

    def test_a_bad_byte_is_that_lines_error_alone(self, checkpoint, tmp_path):
        source = tmp_path / "in.csv"
        source.write_bytes(b"id,text\n1,\xff\n2,fine\n")
        process = script("predict", source, "-c", checkpoint, "-o", tmp_path / "out.parquet")
        assert process.returncode == 1, process.stderr
        bad, good = read_rows(tmp_path / "out.parquet")
        assert "line 2" in bad["error"] and good["prediction"]["label"] and good["id"] == "2"

    @pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
    def test_bad_rows_are_reported_and_kept_in_place(self, checkpoint, tmp_path, output):
        source = tmp_path / "in.csv"
        with open(source, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([["id", "review"], *([i, f"text {i}"] for i in range(40)), ["broken"], [41, "last"]])
        process = script(
            "predict",
            source,
            "-c",
            checkpoint,
            "-o",
            tmp_path / output,
            "--text_column",
            "review",
            "--batch_size",
            2,
        )
        assert process.returncode == 1
        assert "row 41" in process.stderr and "1 of 42 rows" in process.stderr
        rows = list(read_rows(tmp_path / output))
        assert [row["id"] for row in rows] == [*map(str, range(40)), None, "41"]
        assert "line 42" in rows[40]["error"] and rows[40]["prediction"]["label"] is None
        assert rows[41]["prediction"]["label"] and rows[41]["error"] is None

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["nowhere.csv"], "nowhere.csv: no such file"),
            (["in.doc"], "unknown kind of file"),
            (["-", "-o", "out.tsv"], "unknown kind of output"),
        ],
    )
    def test_wrong_calls(self, checkpoint, args, words):
        process = script("predict", *args, "-c", checkpoint, stdin="x\n")
        assert process.returncode == 2 and words in process.stderr and "Traceback" not in process.stderr


def written(folder):
    """Which shards there are, and when each was written."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("part-*")}


class TestPredictHere:
    """In this process."""

    def test_flat_columns_of_csv(self, checkpoint, predict, tmp_path, capsys):
        (tmp_path / "in.csv").write_text('id,comment\n1,"fine, really"\n2,\n3,track.ogg\n')
        out = tmp_path / "out.csv"
        assert predict(tmp_path / "in.csv", "-c", checkpoint, "-o", out, "--text_column", "comment") == 1
        with open(out, newline="", encoding="utf-8") as file:
            good, *bad = csv.DictReader(file)
        assert list(good) == [
            "id",
            "comment",
            "label",
            "score",
            "coarse",
            "coarse_score",
            "intensity",
            "truncated",
            "error",
        ]
        assert good["label"] and 0 < float(good["score"]) < 1 and good["truncated"] == "false" and not good["error"]
        assert good["comment"] == "fine, really"
        assert [(row["label"], row["score"], bool(row["error"])) for row in bad] == [("", "", True)] * 2
        assert "2 of 3 rows have an error" in capsys.readouterr().err

    def test_unsure_rows(self, checkpoint, predict, tmp_path, capsys):
        (tmp_path / "in.csv").write_text("text\nfine\ngood bed\n")
        for output in ("out.csv", "out.jsonl", "out.parquet", "out/"):
            path = f"{tmp_path}/{output}"
            assert predict(tmp_path / "in.csv", "-c", checkpoint, "-o", path, "--abstain_below", "0.9") == 0
            assert "2 of 2 rows (100.0%) are unsure, and have no label" in capsys.readouterr().err
        with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
            row = next(csv.DictReader(file))
        assert (row["label"], row["unsure"]) == ("", "true") and f"({float(row['score']):.2f})" in row["alternatives"]
        (shard,) = (tmp_path / "out").glob("part-*")
        for path in (tmp_path / "out.jsonl", tmp_path / "out.parquet", shard):
            answer = next(iter(read_rows(path)))["prediction"]
            assert answer["label"] is None and answer["unsure"] and len(answer["alternatives"]) == 3
        assert predict(tmp_path / "in.csv", "-c", checkpoint, "-o", tmp_path / "sure.csv", "--uncalibrated") == 0
        assert "unsure" not in capsys.readouterr().err + (tmp_path / "sure.csv").read_text()

    @pytest.mark.parametrize("output", ["out.csv", "out.parquet", "out/"])
    def test_a_column_that_is_not_there_writes_nothing(self, checkpoint, predict, tmp_path, capsys, output):
        (tmp_path / "in.csv").write_text("id,comment\n1,fine\n")
        assert predict(tmp_path / "in.csv", "-c", checkpoint, "-o", f"{tmp_path}/{output}") == 2
        assert "no column 'text'; there are id, comment" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]

    def test_rows_that_are_cut(self, checkpoint, predict, tmp_path, capsys):
        (tmp_path / "in.jsonl").write_text(json.dumps({"text": "good " * 600}) + '\n{"text": "good"}\n')
        for output in ("out.jsonl", "out.csv", "out/"):
            cut = ("--long_texts", "cut")
            assert predict(tmp_path / "in.jsonl", "-c", checkpoint, "-o", f"{tmp_path}/{output}", *cut) == 0
            assert "1 of 2 rows are longer than the model reads and were cut" in capsys.readouterr().err
        (shard,) = (tmp_path / "out").glob("part-*")
        for path in (tmp_path / "out.jsonl", tmp_path / "out.csv", shard):
            assert [str(row["truncated"]).lower() for row in read_rows(path)] == ["true", "false"]
            kept = [float(row["kept"]) for row in read_rows(path)]
            assert 0 < kept[0] < 1 and kept[1] == 1
        assert predict(tmp_path / "in.jsonl", "-c", checkpoint, "-o", f"{tmp_path}/whole.jsonl") == 0
        assert "longer than the model reads" not in capsys.readouterr().err
        rows = list(read_rows(tmp_path / "whole.jsonl"))
        assert [row["truncated"] for row in rows] == [False, False]
        assert rows[0]["prediction"] != next(iter(read_rows(tmp_path / "out.jsonl")))["prediction"]

    def test_aspects(self, checkpoint, predict, tmp_path, capsys, monkeypatch):
        (tmp_path / "in.jsonl").write_text(json.dumps({"text": "The waiter was rude. Good bed."}) + "\n")
        words = ("--inconsistent", "--aspects", "room", "front desk=waiter,reception desk")
        for output in ("out.csv", "out.jsonl", "out/"):
            assert predict(tmp_path / "in.jsonl", "-c", checkpoint, "-o", f"{tmp_path}/{output}", *words) == 0
        (shard,) = (tmp_path / "out").glob("part-*")
        expected = load_pipeline(str(checkpoint), device="cpu")("The waiter was rude.", consistent=False)
        for path in (tmp_path / "out.jsonl", shard):
            (row,) = read_rows(path)
            assert row["prediction"]["aspects"]["room"] is None
            assert_close(row["prediction"]["aspects"]["front desk"], {**expected, "error": None})
        with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
        assert row["label_front desk"] == expected["label"] and row["label_room"] == row["error_front desk"] == ""

        # of an input after the flag nothing would be read
        monkeypatch.chdir(tmp_path)
        assert predict("-c", checkpoint, "--aspects", "room", "in.jsonl") == 2
        assert "in.jsonl is a value of --aspects, and there is no input" in capsys.readouterr().err

    def test_answers_of_the_coarse_head(self, checkpoint, predict, tmp_path, corpus):
        classify = load_pipeline(str(checkpoint), device="cpu")
        far_from_the_start(classify.model)  # where the heads contradict each other
        checkpoint = tmp_path / "far"
        classify.save_pretrained(checkpoint)
        (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in corpus[:40]))
        found = []
        for flags in ((), ("--inconsistent",)):
            assert predict(tmp_path / "in.jsonl", "-c", checkpoint, "-o", f"{tmp_path}/out.jsonl", *flags) == 0
            found.append([row["prediction"]["coarse"] for row in read_rows(tmp_path / "out.jsonl")])
        answers = [[answer["coarse"] for answer in classify(corpus[:40], consistent=way)] for way in (True, False)]
        assert_close(found, answers)
        assert found[0] != found[1], "else nothing is tested"


@pytest.mark.parametrize(
    "command",
    [
        ("predict", "in.csv", "-c", "runs/hotel"),
        ("evaluate", "runs/hotel"),
        ("evaluate", "runs/hotel", "--dataset", "in.csv"),
        ("analyze", "runs/hotel"),
        ("robustness", "runs/hotel"),
        ("export", "runs/hotel", "out"),
        ("push", "runs/hotel", "me/mine", "--dry_run"),
        ("train", "--config", "recipe.yaml", "--checkpoint", "runs/hotel"),
        ("train", "--config", "recipe.yaml", "--encoder_a", "runs/hotel"),
        ("distill", "--config", "recipe.yaml", "--teacher", "runs/hotel"),
    ],
    ids=" ".join,
)
def test_a_checkpoint_that_is_not_there_is_no_such_folder(command, recipe, tmp_path, monkeypatch, capsys):
    recipe(dataset="synthetic-reviews")
    (tmp_path / "runs/hotels").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    name, *words = command
    assert script_here(name, monkeypatch)(*words) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"hf-fusion {name}: ") and message.count("\n") == 0
    assert "runs/hotel: no such folder. Did you mean runs/hotels?" in message


class TestPredictToFolder:
    """One command, killed and repeated with another number of processes."""

    @pytest.fixture
    def source(self, tmp_path, corpus):
        """120 rows in a folder of three kinds of files, one of them malformed."""
        (tmp_path / "in").mkdir()
        rows = [{"id": str(i), "text": corpus[i]} for i in range(120)]
        with open(tmp_path / "in/a.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([["id", "text"], *(row.values() for row in rows[:30]), ["broken"], *(
                row.values() for row in rows[30:40])])  # fmt: skip
        (tmp_path / "in/b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[40:80]))
        pq.write_table(pa.Table.from_pylist(rows[80:]), tmp_path / "in/c.parquet")
        return tmp_path / "in"

    OPTIONS = "--batch_size", "1", "--device", "cpu"

    def test_killed_and_continued_by_two_processes(self, checkpoint, source, tmp_path):
        out, expected = tmp_path / "out", tmp_path / "single.parquet"
        command = (source, "-c", checkpoint, "-o", out, "--shard_rows", 11)
        out.mkdir()
        with open(out / ".part-00010.claim", "w") as claim:
            fcntl.flock(claim, fcntl.LOCK_EX)  # as if another process worked on the last one: it cannot end
            first = Script("predict", *command, *self.OPTIONS)
            while first.process.is_alive() and not list(out.glob("part-*")):
                time.sleep(0.01)
            first.process.kill()
            first.join()
        done = written(out)
        assert 0 < len(done) < 11, "in the middle"

        errors = together(2, "predict.py", *command, *self.OPTIONS, status=1).stderr
        assert "1 of 121 rows" in errors and "row 31: " in errors and "121/121" in errors
        assert done.items() <= written(out).items(), "what was finished was not done again"

        single = script("predict", source, "-c", checkpoint, "-o", expected, *self.OPTIONS)
        assert single.returncode == 1, single.stderr
        shards, alone = pq.read_table(out), pq.read_table(expected)
        assert shards.schema.equals(alone.schema)
        assert_close(shards.to_pylist(), alone.to_pylist())
        assert [row["id"] for row in read_rows(expected)] == [*map(str, range(30)), None, *map(str, range(30, 120))]

        process = script("predict", *command[:-1], 12, *self.OPTIONS)
        assert "shard_rows was 11 and is 12" in process.stderr and process.returncode == 2

    def test_wrong_calls(self, checkpoint, predict, capsys, tmp_path, monkeypatch):
        assert predict("-", "-c", checkpoint, "-o", tmp_path / "out") == 2
        assert "- cannot be divided into shards" in capsys.readouterr().err
        two = SimpleNamespace(num_processes=2, is_main_process=True, device="cpu")
        monkeypatch.setattr(predict.module, "process_state", lambda device: two)
        for output in ("-", "out.parquet", "out.jsonl"):
            assert predict("in.csv", "-c", checkpoint, "-o", output) == 2
            assert f"2 processes cannot write one file ({output}); set `output` to a folder" in capsys.readouterr().err


@pytest.fixture
def predict(monkeypatch):
    return script_here("predict", monkeypatch)


class TestEvaluate:
    def test_on_the_data_of_the_recipe(self, checkpoint, tmp_path):
        process = script("evaluate", checkpoint, "--output_dir", tmp_path)
        assert process.returncode == 0, process.stderr
        result = json.loads((tmp_path / "metrics.json").read_text())
        assert result["rows"] == 30 and 0 <= result["test"]["fine_expected_calibration_error"] <= 1
        assert f"{result['test']['intensity_mae']:.4f}" in process.stdout
        assert f"fine\\_accuracy & {result['test']['fine_accuracy']:.4f}" in (tmp_path / "metrics.tex").read_text()
        predictions = read_predictions(tmp_path / "predictions.parquet")
        assert measure_predictions(predictions) == pytest.approx(result["test"], abs=1e-9)
        assert predictions.facts["data_fingerprint"] == result["data_fingerprint"]
        for name in ("confusion_fine.png", "confusion_coarse.png", "calibration.png"):
            assert matplotlib.image.imread(tmp_path / name)[..., :3].std() > 0.02

    def test_on_other_data_agrees_with_predict(self, checkpoint, tmp_path):
        rows = [{"review": f"text {i}", "stars": 1 + i % 5, "split": "test"} for i in range(20)]
        source = tmp_path / "mine.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        columns = json.dumps({"text": "review"})
        process = script("evaluate", checkpoint, "--dataset", source, "--columns", columns, "--output_dir", tmp_path)
        assert process.returncode == 0, process.stderr
        accuracy = json.loads((tmp_path / "metrics.json").read_text())["test"]["fine_accuracy"]
        script("predict", source, "-c", checkpoint, "-o", tmp_path / "out.jsonl", "--text_column", "review")
        names = json.loads((checkpoint / "config.json").read_text())["id2label"]
        right = [
            row["prediction"]["label"] == names[str(row["stars"] - 1)] for row in read_rows(tmp_path / "out.jsonl")
        ]
        assert accuracy == pytest.approx(sum(right) / 20)

    def test_split_that_is_not_there(self, checkpoint):
        process = script("evaluate", checkpoint, "--split", "holdout")
        assert process.returncode == 2 and "no holdout split; it has train, validation, test" in process.stderr


class TestTrain:
    def test_errors_are_one_line(self, tmp_path):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text("learning_rat: 1\n")
        process = script("train", "--config", recipe)
        assert process.returncode == 2 and "Traceback" not in process.stderr
        assert "hf-fusion train: " in process.stderr and "unknown field learning_rat" in process.stderr
