import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from hf_fusion.data.decoding import AS_FOUND, TextFormat
from hf_fusion.data.review_tables import find_tables
from hf_fusion.data.reviews import ReviewSource, load_reviews
from hf_fusion.utils.errors import DataError

ROWS = [{"text": f"review {n}", "stars": n % 5 + 1} for n in range(60)]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
    return str(path)


def texts(source, **options):
    return {split: list(data["text"]) for split, data in load_reviews(ReviewSource(str(source), **options)).items()}


def words(rows):
    return [row["text"] for row in rows]


class TestFolders:
    @pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
    def test_files_named_after_splits(self, tmp_path, kind):
        for name, rows in (("train", ROWS[:40]), ("Dev", ROWS[40:50]), ("reviews_test", ROWS[50:])):
            write(tmp_path / f"{name}.{kind}", rows)
        (tmp_path / "README.txt").write_text("notes")
        (tmp_path / "info.json").write_text("{}")
        assert texts(tmp_path) == {
            "train": words(ROWS[:40]), "validation": words(ROWS[40:50]), "test": words(ROWS[50:]),
        }  # fmt: skip

    def test_parts_of_splits_have_ids_of_their_own(self, tmp_path):
        for n in range(3):
            write(tmp_path / f"train-0000{n}-of-00003.parquet", ROWS[n * 20 : n * 20 + 20])
        write(tmp_path / "valid-00000-of-00001.parquet", ROWS[:3])
        splits = load_reviews(ReviewSource(str(tmp_path)))
        assert list(splits["train"]["text"]) == words(ROWS) and len(splits["validation"]) == 3
        assert len(set(splits["train"]["id"])) == 60

    def test_parts_of_one_table_are_drawn_as_one_file_is(self, tmp_path):
        for n in range(2):
            write(tmp_path / f"parts/reviews-{n}.csv", ROWS[n * 30 : n * 30 + 30])
        whole = texts(write(tmp_path / "whole.csv", ROWS))
        assert texts(tmp_path / "parts") == whole == texts(f"{tmp_path}/parts/*.csv") and len(whole) == 3

    def test_folders_named_after_splits(self, tmp_path):
        for name, rows in (("train", ROWS[:40]), ("dev", ROWS[40:50]), ("test", ROWS[50:])):
            write(tmp_path / f"testing/{name}/a.csv", rows)
        expected = {"train": words(ROWS[:40]), "validation": words(ROWS[40:50]), "test": words(ROWS[50:])}
        assert texts(f"{tmp_path}/testing/*/a.csv") == texts(f"{tmp_path}/testing/**/*.csv") == expected
        write(tmp_path / "testing/more/a.csv", ROWS)
        with pytest.raises(DataError, match=r"some files are named after their split, but .*more.a\.csv is not"):
            texts(f"{tmp_path}/testing/*/a.csv")

    def test_folders_that_a_pattern_names_itself_do_not_count(self, tmp_path):
        for n in range(2):
            write(tmp_path / f"test/part-{n}.csv", ROWS[n * 30 : n * 30 + 30])
        assert set(texts(f"{tmp_path}/test/*.csv")) == set(texts(tmp_path / "test")) == {"train", "validation", "test"}

    def test_names_that_contradict(self, tmp_path):
        write(tmp_path / "train.csv", ROWS)
        write(tmp_path / "more.csv", ROWS)
        with pytest.raises(DataError, match=r"some files are named after their split, but .*more\.csv is not"):
            texts(tmp_path)
        (tmp_path / "more.csv").rename(tmp_path / "train_test.csv")
        with pytest.raises(DataError, match="stands for the splits test and train"):
            texts(tmp_path)

    def test_a_saved_data_set(self, tmp_path):
        splits = DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:5])})
        splits.save_to_disk(tmp_path / "saved")
        assert texts(tmp_path / "saved") == self.with_drawn_validation(tmp_path)
        splits["train"].save_to_disk(tmp_path / "one")
        assert texts(tmp_path / "one") == texts(write(tmp_path / "whole.jsonl", ROWS))

    def with_drawn_validation(self, tmp_path):
        write(tmp_path / "csv/train.csv", ROWS)
        write(tmp_path / "csv/test.csv", ROWS[:5])
        return texts(tmp_path / "csv")


def test_files_take_no_options_and_texts_have_no_labels(tmp_path):
    path = write(tmp_path / "a.csv", ROWS)
    with pytest.raises(DataError, match="files of rows take no options"):
        find_tables(path, {"split": "train"}, AS_FOUND)
    (tmp_path / "a.TXT").write_text("fine\n")
    with pytest.raises(DataError, match=r"a\.TXT: a \.txt file has one text a line and no labels"):
        find_tables(str(tmp_path / "a.TXT"), {}, AS_FOUND)


def test_how_a_file_is_written(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("très bien§4\nmal§1\n".encode("cp1252"))
    options = {"encoding": "cp1252", "delimiter": "§", "header": False, "columns": {"text": "1", "stars": "2"}}
    splits = load_reviews(ReviewSource(str(path), split_shares=(1, 0, 0), **options))
    assert list(splits["train"]["text"]) == ["très bien", "mal"] and list(splits["train"]["labels"]) == [3, 0]


class TestMissingSplits:
    @pytest.mark.parametrize("holder", ["csv", "jsonl", "parquet", "folder", "hub", "stream"])
    def test_validation_is_drawn_from_training_alike(self, tmp_path, holder, monkeypatch, caplog):
        named = [{**row, "split": "train"} for row in ROWS] + [{**row, "split": "TEST"} for row in ROWS[:5]]
        if holder == "folder":
            write(tmp_path / "all/train.csv", ROWS)
            source = write(tmp_path / "all/test.csv", ROWS[:5]).rpartition("/")[0]
        elif holder in ("hub", "stream"):
            splits = {"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:5])}
            if holder == "stream":
                splits = {name: rows.to_iterable_dataset() for name, rows in splits.items()}
            monkeypatch.setattr("hf_fusion.data.review_tables.load_from_hub", lambda name, options: splits)
            source = "acme/reviews"
        else:
            source = write(tmp_path / f"a.{holder}", named)
        found = texts(source)
        expected = texts(write(tmp_path / "expected.csv", named))
        assert found == expected and set(found) == {"train", "validation", "test"}
        assert found["test"] == words(ROWS[:5]) and sorted(found["train"] + found["validation"]) == sorted(words(ROWS))
        drawn = len(found["validation"])
        assert f"there is no validation split; {drawn} of 60 training rows are drawn for it" in caplog.text
        assert 0 < drawn < 20 and "validation" not in texts(source, split_shares=(1, 0, 0))

    @pytest.mark.parametrize("holder", ["csv", "jsonl", "parts", "hub"])
    def test_train_alone_is_divided_alike(self, tmp_path, holder, monkeypatch, caplog):
        named = [{**row, "split": "Train"} for row in ROWS]
        if holder == "parts":
            for n in range(2):
                write(tmp_path / f"parts/train-{n}.csv", ROWS[n * 30 : n * 30 + 30])
            source = tmp_path / "parts"
        elif holder == "hub":
            splits = {"train": Dataset.from_list(ROWS)}
            monkeypatch.setattr("hf_fusion.data.review_tables.load_from_hub", lambda name, options: splits)
            source = "acme/reviews"
        else:
            source = write(tmp_path / f"a.{holder}", named)
        found = texts(source)
        counts = [len(found[split]) for split in ("train", "validation", "test")]
        assert "the only split is train; its rows are divided into {} of train, {} of validation, {} of test".format(
            *counts
        ) in (caplog.text)
        assert found == texts(write(tmp_path / "without.csv", ROWS)) and min(counts) > 0
        assert texts(source, split_shares=(1, 0, 0)) == {"train": words(ROWS)}

    def test_rows_of_other_splits_that_are_not_wanted(self, tmp_path):
        rows = [{**row, "split": "test" if n < 5 else "train", "source": n < 5} for n, row in enumerate(ROWS)]
        assert texts(write(tmp_path / "a.csv", rows), sources=("False",)) == {"train": words(ROWS[5:])}


class TestEmptyCells:
    @pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
    @pytest.mark.parametrize("empty", ["", None, "nan", " "])
    def test_among_others_are_an_error(self, tmp_path, kind, empty):
        """Also where the first row is one of them."""
        rows = [{**row, "split": empty if n in (0, 7) else "train"} for n, row in enumerate(ROWS)]
        path = write(tmp_path / f"a.{kind}", rows)
        with pytest.raises(DataError, match=r"2 unusable rows\n  2 x no split, though other rows have one") as error:
            texts(path)
        assert "set `rejected_rows` to drop" in str(error.value)
        kept = texts(path, rejected="drop", split_shares=(1, 0, 0))
        assert kept == {"train": words(ROWS[1:7] + ROWS[8:])}

    @pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
    def test_alone_are_no_splits(self, tmp_path, kind):
        path = write(tmp_path / f"a.{kind}", [{**row, "split": ""} for row in ROWS])
        assert texts(path) == texts(write(tmp_path / "without.csv", ROWS))

    def test_splits_after_rows_without_the_field(self, tmp_path):
        path = write(tmp_path / "a.jsonl", [*ROWS, {"text": "late", "stars": 1, "split": "test"}])
        with pytest.raises(DataError, match=r"row 61 names a split .'test'., rows before have none"):
            texts(path, rejected="drop")
        path = write(tmp_path / "b.jsonl", [{"text": "early", "stars": 1, "split": "test"}, *ROWS])
        with pytest.raises(DataError, match="60 x no split, though other rows have one"):
            texts(path)


@pytest.mark.parametrize(
    ("name", "split"), [("Validation", "validation"), (" EVAL ", "validation"), ("TRAINING", "train")]
)
def test_names_of_splits(tmp_path, name, split):
    path = write(tmp_path / "a.csv", [{**ROWS[0], "split": name}])
    assert list(texts(path, split_shares=(1, 0, 0))) == [split]


def test_a_format_of_files_is_none_of_the_corpus():
    with pytest.raises(DataError, match=r"synthetic-reviews: takes no `encoding`, which is of \.csv"):
        find_tables("synthetic-reviews", {}, TextFormat(encoding="cp1252"))
