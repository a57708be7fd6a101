import gzip
import io
import json
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_fusion.data.decoding import TextFormat
from hf_fusion.data.files import _READERS
from hf_fusion.deployment.prediction_input import check_columns_of_text, check_output, read_input
from hf_fusion.utils.errors import DataError

REVIEWS = SimpleNamespace(modalities=("text",), frame_columns=())
CLIPS = SimpleNamespace(modalities=("text", "audio"), frame_columns=("audio", "vision"))
ROWS = [{"id": "1", "Review": "good"}, {"id": "2", "Review": "bad"}]


def write(path):
    table = "id,Review\n1,good\n2,bad\n"
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif path.suffix == ".xlsx":
        book = pytest.importorskip("openpyxl").Workbook()
        for row in (list(ROWS[0]), *(list(row.values()) for row in ROWS)):
            book.active.append(row)
        book.save(path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(table.encode()))
    else:
        path.write_text(table.replace(",", "\t") if path.suffix == ".tsv" else table)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.jsonl", "a.parquet", "a.xlsx"])
def test_a_column_that_is_not_there_stops_before_the_first_row(tmp_path, name):
    write(tmp_path / name)
    rows, count = read_input([str(tmp_path / name)], "Review", REVIEWS, {})
    assert list(rows) == ROWS and count == (None if name in ("a.tsv", "a.xlsx") else 2)
    with pytest.raises(DataError, match=rf"{name}: no column 'review'; there are id, Review\."):
        read_input([str(tmp_path / name)], "review", REVIEWS, {})


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("-", {"delimiter": ";"}, "standard input: takes no `delimiter`"),
        ("-", {"header": False}, "standard input: takes no `header`"),
        ("a.parquet", {"encoding": "cp1252"}, r"a\.parquet: takes no `encoding`"),
        (
            "a.jsonl",
            {"header": True},
            r"a\.jsonl: takes no `header`, which is of \.csv, \.tsv, \.xlsx: leave it",
        ),
        ("synthetic-clips", {"delimiter": "tab"}, "synthetic-clips: takes no `delimiter`"),
    ],
)
def test_a_format_that_nothing_takes(tmp_path, monkeypatch, name, given, words):
    monkeypatch.chdir(tmp_path)
    if name.startswith("a."):
        write(tmp_path / name)
    with pytest.raises(DataError, match=words):
        read_input([name], "text" if "clips" in name else "Review", CLIPS, {}, TextFormat(**given))


@pytest.mark.parametrize("config", [REVIEWS, CLIPS])
def test_standard_input_takes_no_options(config):
    with pytest.raises(DataError, match="`dataset_options` are only for a source of clips"):
        read_input(["-"], "text", config, {"own_file": True})


@pytest.mark.parametrize("kind", [".tsv", ".json"])
def test_rows_are_parsed_once_but_for_the_first(tmp_path, monkeypatch, kind):
    parsed = []

    def read(path, text_format):
        for number in range(250):
            parsed.append(number)
            yield f"row {number}", {"text": "fine"}

    monkeypatch.setitem(_READERS, kind, read)
    (tmp_path / f"a{kind}").write_text("text\n")
    rows, count = read_input([str(tmp_path / f"a{kind}")], "text", REVIEWS, {})
    assert count is None and len(list(rows)) == 250 and len(parsed) <= 250 + 101


def test_each_file_is_looked_at(tmp_path):
    write(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("id,comment\n3,fine\n")
    with pytest.raises(DataError, match=r"b\.csv: no column 'Review'; there are id, comment"):
        read_input([str(tmp_path)], "Review", REVIEWS, {})


def test_standard_input(monkeypatch):
    def read(content, **options):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        return list(read_input(["-"], "text", REVIEWS, {}, TextFormat(**options))[0])

    first, bad, last = read(b"\xef\xbb\xbffine\nb\0d\r\nso\n")
    assert (first, last) == ({"text": "fine"}, {"text": "so"}) and "line 2: holds a zero byte" in str(bad)
    for encoding in ("utf-16-le", "utf-16-be"):
        content = "\ufefffine\nso\n".encode(encoding)
        with pytest.raises(DataError, match="byte order mark of UTF-16: set `encoding` to utf-16"):
            read(content)
        with pytest.raises(DataError, match="byte order mark"):
            read(content, encoding="utf-8")
        assert read(content, encoding="utf-16") == [{"text": "fine"}, {"text": "so"}]


def test_fields_that_only_some_objects_have(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{broken\n{"id": 2, "text": "good"}\n')
    rows, count = read_input([str(tmp_path / "a.jsonl")], "text", REVIEWS, {})
    assert count == 3 and len(list(rows)) == 3


@pytest.mark.parametrize(
    ("config", "names", "column", "stops"),
    [
        (REVIEWS, ["id"], "text", True),
        (REVIEWS, [], "text", False),
        (REVIEWS, ["audio"], "text", True),
        (CLIPS, ["id", "audio"], "text", False),
        (CLIPS, ["id", "vision"], "text", True),
        (CLIPS, ["id", "audio"], "speech", True),
        (SimpleNamespace(modalities=("audio",), frame_columns=("audio", "vision")), ["id"], "text", False),
    ],
)
def test_where_frames_are_enough(config, names, column, stops):
    if stops:
        with pytest.raises(DataError, match=f"no column '{column}'"):
            check_columns_of_text("here", names, column, config)
    else:
        check_columns_of_text("here", names, column, config)


def test_an_output_that_is_a_file_of_the_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/in.csv").touch()
    (tmp_path / "link.csv").symlink_to("a/in.csv")
    for name in ("a/in.csv", "a", "a/", "*/*.csv", f"{tmp_path}/a/../a/in.csv", "link.csv"):
        with pytest.raises(DataError, match=r"a/in\.csv is an input file and would be overwritten"):
            check_output("a/in.csv", ["-", name])
        check_output("a/out.csv", [name])
        check_output("-", [name])
