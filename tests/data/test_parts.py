import csv
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_fusion.data import parts as parts_module
from hf_fusion.data.decoding import TextFormat
from hf_fusion.data.files import read_rows_or_errors
from hf_fusion.data.parts import Parts, find_parts, stamp, survey
from hf_fusion.utils.errors import DataError

KINDS = (".csv", ".csv.gz", ".tsv", ".jsonl", ".parquet")


@pytest.fixture
def write(tmp_path):
    """Writes rows to a file of any kind; parquet in row groups of three."""

    def write(name, rows):
        import gzip
        import io

        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
        elif name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
        else:
            buffer = io.StringIO(newline="")
            writer = csv.DictWriter(buffer, list(rows[0]), delimiter="\t" if name.endswith(".tsv") else ",")
            writer.writeheader()
            writer.writerows(rows)
            content = buffer.getvalue().encode()
            path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return str(path)

    return write


class TestFindParts:
    def test_names_keep_their_order_and_folders_are_sorted(self, write, tmp_path):
        first = write("z.jsonl", [{"a": 1}])
        for name in ("b.parquet", "a.csv", "_part.csv", ".c.csv"):
            write(f"folder/{name}", [{"a": 1}])
        (tmp_path / "folder/readme.txt").touch()
        (tmp_path / "folder/d.csv").mkdir()
        folder = str(tmp_path / "folder")
        assert find_parts([first, folder]) == [first, f"{folder}/a.csv", f"{folder}/b.parquet"]
        assert find_parts([f"{tmp_path}/**/*.*"]) == [f"{folder}/a.csv", f"{folder}/b.parquet", first]
        assert find_parts(["nowhere.csv"]) == ["nowhere.csv"], "whoever reads it says that there is none"
        for name in ("nowhere", "nowhere/"):
            with pytest.raises(FileNotFoundError, match=f"^{name}: no such file or folder"):
                find_parts([name])

    def test_a_name_with_brackets_is_a_name_if_it_exists(self, write):
        path = write("a[1].csv", [{"a": 1}])
        assert find_parts([path]) == [path]

    def test_nothing_and_the_same_twice(self, write, tmp_path):
        path = write("a.csv", [{"a": 1}])
        with pytest.raises(DataError, match=r"a\.csv is given twice"):
            find_parts([path, tmp_path])
        (tmp_path / "empty").mkdir()
        for name in (tmp_path / "empty", tmp_path / "*.parquet"):
            with pytest.raises(DataError, match="no file of rows there"):
                find_parts([name])


class TestSurvey:
    def test_columns_of_all_files_together(self, write):
        paths = [
            write("a.parquet", [{"id": 1, "text": "x"}] * 4),
            write("b.jsonl", [{"id": None, "late": None}] * 1500 + [{"id": 2.5, "late": {"deep": [1]}}]),
            write("c.jsonl", [{"text": "y", "never": None}]),
        ]
        counts, schema = survey(paths)
        assert counts == [4, 1501, 1]
        deep = pa.struct([("deep", pa.list_(pa.int64()))])
        assert schema == pa.schema(
            [("id", pa.float64()), ("text", pa.string()), ("late", deep), ("never", pa.string())]
        )

    def test_malformed_rows_count(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text("id,text\n1,x\n2\n3,z\n")
        assert survey([str(path)]) == ([3], pa.schema([("id", pa.string()), ("text", pa.string())]))

    @pytest.mark.parametrize(
        ("first", "second", "words"),
        [
            ({"id": 1}, {"id": "x"}, r"b\.jsonl: columns do not go together.*id has incompatible types"),
            ({"id": 1}, {"id": 2**70}, r"b\.jsonl: the column 'id' is not of one type"),
        ],
    )
    def test_types_that_do_not_go_together(self, write, first, second, words):
        with pytest.raises(DataError, match=words):
            survey([write("a.parquet", [first]), write("b.jsonl", [second])])


class TestParts:
    @pytest.mark.parametrize("kind", KINDS)
    def test_any_range(self, write, kind):
        rows = [{"id": str(i), "text": f"line {i}\nof, 2"} for i in range(11)]
        paths = [write(f"a{kind}", rows[:8]), write("b.jsonl", []), write(f"c{kind}", rows[8:])]
        counts, _ = survey(paths)
        parts = Parts(paths, counts, list(map(stamp, paths)))
        assert len(parts) == 11
        for start in range(12):
            for stop in range(start, 12):
                assert list(parts.read(start, stop)) == rows[start:stop]

    def test_malformed_rows_keep_their_place(self, tmp_path):
        for name, content in (("a.csv", "id,text\n1,x\n2\n3,z\n"), ("b.jsonl", '{"id": "4"}\n\nno\n{"id": "6"}\n')):
            (tmp_path / name).write_text(content)
        paths = [str(tmp_path / "a.csv"), str(tmp_path / "b.jsonl")]
        parts = Parts(paths, [3, 3], list(map(stamp, paths)))
        _, bad, *_, also = parts.read(0, 5)
        assert "line 3" in str(bad) and "b.jsonl, line 3" in str(also)
        (bad,) = parts.read(1, 2)
        assert "line 3" in str(bad)

    def test_going_on_does_not_open_the_file_again(self, write, monkeypatch):
        opened = []
        read = lambda path, first, form: opened.append(first) or read_rows_or_errors(path, first, form)  # noqa: E731
        monkeypatch.setattr(parts_module, "read_rows_or_errors", read)
        path = write("a.jsonl", [{"id": i} for i in range(9)])
        parts = Parts([path], [9], [stamp(path)])
        ids = [[row["id"] for row in parts.read(*span)] for span in ((0, 3), (3, 5), (5, 9), (4, 6))]
        assert ids == [[0, 1, 2], [3, 4], [5, 6, 7, 8], [4, 5]] and opened == [0, 4]
        next(rows := parts.read(6, 9))
        rows.close()
        assert next(parts.read(7, 9)) == {"id": 7}, "what was not read to its end begins anew"

    @pytest.mark.parametrize("later", [[{"id": 1}], [{"id": 1}, {"id": 3}]], ids=["shorter", "as long"])
    def test_a_file_that_changes(self, write, later):
        path = write("a.jsonl", [{"id": 1}, {"id": 2}])
        before = stamp(path)
        os.utime(write("a.jsonl", later), ns=(0, before[1] + 1))
        with pytest.raises(DataError, match=r"a\.jsonl was changed since"):
            list(Parts([path], [2], [before]).read(0, 2))


def test_parts_in_another_encoding(tmp_path):
    paths = [str(tmp_path / f"{n}.csv") for n in range(2)]
    for path in paths:
        (tmp_path / path).write_bytes("text§stars\ntrès§5\nmal§1\n".encode("cp1252"))
    form = TextFormat(encoding="cp1252", delimiter="§")
    counts, schema = survey(paths, form)
    parts = Parts(paths, counts, [stamp(path) for path in paths], form)
    assert counts == [2, 2] and schema.names == ["text", "stars"]
    assert [row["text"] for row in parts.read(1, 4)] == ["mal", "très", "mal"]


def test_texts_and_json_of_a_folder_are_left_out_aloud(tmp_path, caplog):
    for name in ("a.csv", "notes.txt", "info.JSON"):
        (tmp_path / name).write_text("text\nx\n")
    assert find_parts([tmp_path]) == [str(tmp_path / "a.csv")]
    assert "2 files of .txt or .json are left out: info.JSON, notes.txt" in caplog.text
    assert find_parts([f"{tmp_path}/*.txt"]) == [str(tmp_path / "notes.txt")]
