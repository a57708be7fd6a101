import gzip
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_fusion.data.decoding import TextFormat
from hf_fusion.data.files import RowWriter, count_rows, read_rows, read_rows_or_errors
from hf_fusion.utils.errors import DataError

ROWS = [{"id": "1", "text": 'He said "no",\nthen left'}, {"id": "2", "text": "NA"}, {"id": "3", "text": "très 😀"}]


@pytest.mark.parametrize("kind", [".csv", ".csv.gz", ".tsv", ".jsonl", ".parquet"])
def test_reads_every_kind(tmp_path, kind):
    path = tmp_path / f"rows{kind}"
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif kind == ".jsonl":
        path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    else:
        import csv
        import io

        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, ["id", "text"], delimiter="\t" if kind == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(ROWS)
        content = ("\ufeff" + buffer.getvalue()).encode()
        path.write_bytes(gzip.compress(content) if kind.endswith("gz") else content)
    assert list(read_rows(path)) == ROWS and count_rows(path) == 3
    assert [list(read_rows_or_errors(path, first)) for first in range(5)] == [ROWS[first:] for first in range(5)]


def test_long_fields(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text(f"text\n{'x' * 1_000_000}\n")
    assert len(next(read_rows(path))["text"]) == 1_000_000


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"id,text\n1,x\n2\n", "line 3: 2 columns are declared.*fewer"),
        ("a.csv", b"id,text\n1,x,y\n", "line 2.*more"),
        ("a.csv", b'text\n"x" y\n', "line 2: malformed csv"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "line 2: no JSON"),
        ("a.jsonl", b"[1, 2]\n", "line 1: expected an object, got list"),
        ("a.csv", b"id,text\n1,x\n2,\xff\xfe\n", "line 3: field 'text' is not UTF-8"),
        ("a.jsonl", b'{"text": "\\ud800"}', r"line 1: field 'text' holds '\\ud800', a half of a character"),
        ("a.jsonl", b'{"text": "\\udcff"}', r"line 1: field 'text' holds '\\udcff', a half of a character"),
        ("a.parquet", b"no parquet at all", "no parquet file"),
        ("a.csv.gz", gzip.compress(b"text\n" + b"x\n" * 9999, mtime=0)[:40], "cannot be read to the end"),
        ("a.csv.gz", gzip.compress(b"text\n", mtime=0)[:10] + b"\xff" * 30, "cannot be read to the end"),
        ("a.csv.gz", b"no gzip", "cannot be read to the end"),
        ("a.xls", b"", "unknown kind of file"),
    ],
)
def test_errors_name_file_and_line(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        list(read_rows(path))
    assert name in str(error.value)
    if "line" not in words:  # of no use at all
        with pytest.raises(DataError, match=words):
            count_rows(path)


@pytest.mark.parametrize("kind", ["txt", "jsonl", "json", "parquet"])
def test_zero_bytes_are_an_error_of_the_row(tmp_path, kind):
    path, rows = tmp_path / f"a.{kind}", [{"text": "fine"}, {"text": "b\0d"}, {"text": "so"}]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines = [row["text"] if kind == "txt" else json.dumps(row) for row in rows]
        path.write_text(f"[{','.join(lines)}]" if kind == "json" else "\n".join(lines))
    first, bad, last = read_rows_or_errors(path)
    assert [first, last] == rows[::2] and "holds a zero byte" in str(bad) and re.search("(line|row) 2: ", str(bad))
    assert str(next(read_rows_or_errors(path, 1))) == str(bad) and count_rows(path) == 3


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv"):
        list(read_rows(tmp_path / "nothing.csv"))
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv"):
        count_rows(tmp_path / "nothing.csv")


def test_goes_on_after_a_bad_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,text\n1,x\n2\n3,z\n")
    first, bad, last = read_rows_or_errors(path)
    assert count_rows(path) == 3
    assert first["text"] == "x" and isinstance(bad, DataError) and last["text"] == "z"


@settings(max_examples=100)
@given(content=st.binary(max_size=200), kind=st.sampled_from([".csv", ".csv.gz", ".jsonl", ".parquet"]))
def test_any_bytes_give_rows_or_a_data_error(tmp_path_factory, content, kind):
    path = tmp_path_factory.mktemp("fuzz") / f"a{kind}"
    path.write_bytes(content)
    try:
        assert all(isinstance(row, dict) for row in read_rows(path))
    except DataError as error:
        assert path.name in str(error)


class TestRowWriter:
    @pytest.mark.parametrize("kind", [".jsonl", ".parquet", ".JSONL", ".Parquet"])
    def test_round_trip_in_batches(self, tmp_path, kind):
        path = str(tmp_path / "deep" / f"out{kind}")
        rows = [
            {"text": "é", "prediction": {"score": 0.5}, "error": None},
            {"text": "b", "prediction": {"score": None}, "error": "x"},
        ]
        with RowWriter(path) as writer:
            writer.write(rows[:1])
            writer.write(rows[1:])
        assert list(read_rows(path)) == rows

    def test_file_appears_when_complete(self, tmp_path):
        path = tmp_path / "out.jsonl"
        with pytest.raises(RuntimeError), RowWriter(str(path)) as writer:
            writer.write([{"a": 1}])
            assert not path.exists()
            raise RuntimeError
        assert not path.exists() and (tmp_path / "out.jsonl.tmp").exists()

    def test_other_types_later(self, tmp_path):
        with (
            pytest.raises(DataError, match="differs from the first ones"),
            RowWriter(str(tmp_path / "o.parquet")) as w,
        ):
            w.write([{"a": 1}])
            w.write([{"a": "one"}])

    def test_columns_that_come_and_go(self, tmp_path):
        path = str(tmp_path / "o.parquet")
        with RowWriter(path, {"late": pa.float64()}) as writer:
            writer.write([{"a": 1}, {"a": 2, "b": "x", "late": None}])
            writer.write([{"late": 0.5}])
        assert list(read_rows(path)) == [
            {"a": 1, "b": None, "late": None}, {"a": 2, "b": "x", "late": None}, {"a": None, "b": None, "late": 0.5},
        ]  # fmt: skip
        with pytest.raises(DataError, match="new column 'c'"), RowWriter(path) as writer:
            writer.write([{"a": 1}])
            writer.write([{"a": 1, "c": 2}])

    @pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.CSV"])
    def test_csv_keeps_texts_numbers_and_what_is_nested(self, tmp_path, name):
        texts = ['a "b", c', "two\nlines\r\nand\rmore", "  spaces\t", "=1+1", "é 😀", ";", "'"]
        rows = [{"text": text, "score": i / 3, "tags": {"a": [i, "x"]}, "cut": i == 2} for i, text in enumerate(texts)]
        with RowWriter(str(tmp_path / name)) as writer:
            writer.write(rows[:4])
            writer.write([*rows[4:], {"text": "no more"}])
        *found, last = read_rows(tmp_path / name)
        assert [row["text"] for row in found] == texts
        assert [float(row["score"]) for row in found] == [row["score"] for row in rows]
        assert [json.loads(row["tags"]) for row in found] == [row["tags"] for row in rows]
        assert [row["cut"] for row in found] == ["true" if row["cut"] else "false" for row in rows]
        assert last == {"text": "no more", "score": "", "tags": "", "cut": ""}

    @pytest.mark.parametrize("kind", [".csv", ".parquet"])
    def test_rows_before_a_new_column_are_kept_aside(self, tmp_path, kind, caplog):
        path, aside = tmp_path / f"o{kind}", tmp_path / f"o{kind}.tmp"
        with pytest.raises(DataError, match="new column 'b'"), RowWriter(str(path)) as writer:
            writer.write([{"a": "1"}])
            writer.write([{"a": "2"}, {"a": "3", "b": "4"}, {"a": "5"}])
        assert not path.exists() and f"{path} is not complete; what was written of it is in {aside}." in caplog.text
        aside.rename(path)
        assert list(read_rows(path)) == [{"a": "1"}, {"a": "2"}]

    @pytest.mark.parametrize("kind", [".csv", ".parquet", ".jsonl"])
    def test_a_file_without_rows(self, tmp_path, kind):
        path = tmp_path / f"o{kind}"
        with RowWriter(str(path), {"label": pa.string()}):
            pass
        assert list(read_rows(path)) == []
        assert kind != ".csv" or path.read_text().strip() == "label"

    def test_unknown_kind(self):
        with pytest.raises(DataError, match=r"out\.tsv: unknown kind of output"):
            RowWriter("out.tsv")


@pytest.mark.parametrize("values", [(1, "x"), ("x", 1), ({"a": 1}, [1]), (1, 2**70), ("x", "\ud800")])
def test_no_type_fits_the_first_rows(tmp_path, values):
    words = r"x\.parquet: .*A \.jsonl output takes any"
    with pytest.raises(DataError, match=words), RowWriter(str(tmp_path / "x.parquet")) as writer:
        writer.write([{"id": value} for value in values])
    assert not (tmp_path / "x.parquet").exists()


@pytest.mark.parametrize("given", ["utf-8", "cp1252", "utf-16-be", "utf-8-sig"])
def test_another_encoding_than_that_of_the_mark(tmp_path, given):
    path = tmp_path / "a.csv"
    path.write_bytes("\ufefftext,stars\nfine,4\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=f"is utf-16 by its byte order mark, not {given}"):
        list(read_rows(path, TextFormat(encoding=given)))
    for fitting in ("utf-16", "UTF-16-LE", None):
        assert list(read_rows(path, TextFormat(encoding=fitting))) == [{"text": "fine", "stars": "4"}]


def test_columns_of_one_name(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([pa.array(["x"]), pa.array(["y"])], names=["text", "text"]), path)
    for read in (count_rows, lambda path: list(read_rows(path))):
        with pytest.raises(DataError, match="a column is named twice; there are text, text"):
            read(path)
