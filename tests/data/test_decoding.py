import bz2
import codecs
import gzip
import json
import lzma
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_fusion.data.decoding import FILE_KINDS, TextFormat, is_row_file, kind_of
from hf_fusion.data.files import count_rows, read_rows, read_rows_or_errors
from hf_fusion.utils.errors import DataError

ROWS = [{"text": "très bien, für 5 €", "stars": "5"}, {"text": "плохо\n一般", "stars": "2"}]
CSV = 'text,stars\n"très bien, für 5 €",5\n"плохо\n一般",2\n'


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


class TestKinds:
    def test_capitals(self, write):
        for name in ("A.CSV", "b.Csv.GZ", "c.TSV"):
            content = CSV.replace(",5\n", "\t5\n").replace(",2\n", "\t2\n") if name == "c.TSV" else CSV
            content = content.replace("text,", "text\t") if name == "c.TSV" else content
            path = write(name, gzip.compress(content.encode()) if name.endswith("GZ") else content.encode())
            assert list(read_rows(path)) == ROWS and count_rows(path) == 2
        pq.write_table(pa.Table.from_pylist(ROWS), write("D.Parquet", b""))
        assert [kind_of(name) for name in ("x/A.CSV", "b.JsonL.xz", "D.Parquet")] == [".csv", ".jsonl", ".parquet"]

    def test_unknown(self, write):
        assert not is_row_file("a.parquet.gz") and not is_row_file("csv") and is_row_file("a.json.zip")
        assert len(set(FILE_KINDS)) == len(FILE_KINDS)
        with pytest.raises(DataError, match=r"notes\.doc: unknown kind of file; known are \.csv, \.tsv"):
            list(read_rows(write("notes.doc", b"x")))


def compressed(ending, content, folder):
    if ending == ".zip":
        with zipfile.ZipFile(folder / "made.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner.csv", content)
            archive.writestr("__MACOSX/._inner.csv", b"x")
        return (folder / "made.zip").read_bytes()
    if ending == ".zst":
        with pa.output_stream(folder / "made.zst", compression="zstd") as file:
            file.write(content)
        return (folder / "made.zst").read_bytes()
    return {".gz": gzip, ".bz2": bz2, ".xz": lzma}[ending].compress(content)


class TestCompression:
    @pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zip", ".zst"])
    def test_is_undone(self, write, tmp_path, ending):
        path = write(f"a.csv{ending}", compressed(ending, CSV.encode(), tmp_path))
        assert list(read_rows(path)) == ROWS and count_rows(path) == 2
        lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
        assert list(read_rows(write(f"a.jsonl{ending}", compressed(ending, lines, tmp_path)))) == ROWS

    @pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zip", ".zst"])
    def test_damaged_files(self, write, tmp_path, ending):
        content = compressed(ending, b"text,stars\n" + b"".join(b"row %d,4\n" % n for n in range(9999)), tmp_path)
        for damaged in (
            content[: len(content) // 2],
            content[:40] + b"\xff" * 400 + content[440:],
            b"text,stars\nx,4\n",
        ):
            with pytest.raises(DataError, match=rf"a\.csv\{ending}: "):
                list(read_rows(write(f"a.csv{ending}", damaged)))

    def test_archives_of_one_file(self, tmp_path):
        for members in ((), ("a.csv", "b.csv")):
            with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
                for member in members:
                    archive.writestr(member, CSV)
            with pytest.raises(
                DataError, match=f"must hold one file, this one holds {len(members)}: {', '.join(members)}"
            ):
                list(read_rows(tmp_path / "a.csv.zip"))


SAMPLES = {
    "cp1252": "Très agréable séjour à l'hôtel, déjà réservé",
    "cp1251": "Очень хороший отель, спасибо",
    "gb18030": "酒店很好，服务热情，下次还来",
    "shift_jis": "とても良いホテルでした。また来ます",
}


@pytest.mark.parametrize("name", ["a.ndjson", "A.NDJSON", "a.ndjson.gz"])
def test_ndjson_is_jsonl(name):
    assert is_row_file(name) and kind_of(name) == ".jsonl"


class TestEncodings:
    @pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-be", "utf-8-sig"])
    @pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "txt"])
    def test_are_found(self, write, encoding, kind, caplog):
        lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
        content = {"csv": CSV, "jsonl": "\n".join(lines), "json": f"[{', '.join(lines)}]", "txt": "très\nbien\n"}[kind]
        path = write(f"a.{kind}", content.encode(encoding))
        assert list(read_rows(path)) == ([{"text": "très"}, {"text": "bien"}] if kind == "txt" else ROWS)
        how = {"utf-16": "byte order mark", "utf-32": "byte order mark", "utf-8-sig": ""}.get(encoding, "zero bytes")
        assert caplog.text.count(f"read as {encoding}, by its {how}") == bool(how)

    def test_big_endian_marks(self, write):
        assert list(read_rows(write("a.csv", codecs.BOM_UTF16_BE + CSV.encode("utf-16-be")))) == ROWS

    @pytest.mark.parametrize("encoding", ["cp1252", "cp1251", "gb18030", "shift_jis"])
    def test_others_are_named_line_by_line_and_taken_if_given(self, write, encoding):
        text = SAMPLES[encoding]
        rows = [{"text": f"{text} {n}" if n % 3 else f"plain {n}", "stars": str(n % 5 + 1)} for n in range(30)]
        content = "text;stars\r\n" + "".join(f"{row['text']};{row['stars']}\r\n" for row in rows)
        path = write("a.csv", content.encode(encoding))
        found = list(read_rows_or_errors(path))
        assert len(found) == 30 and found[0] == rows[0]
        assert all(isinstance(row, DataError) == bool(n % 3) for n, row in enumerate(found))
        assert "line 3: field 'text' is not UTF-8. " in str(found[1]) and "et `encoding`" in str(found[1])
        assert list(read_rows(path, TextFormat(encoding=encoding))) == rows

    @pytest.mark.parametrize(
        ("text", "encoding", "sure"),
        [
            ("Завтрак был холодный, персонал грубый, а вид из окна чудесный", "cp1251", True),
            ("아침 식사가 맛이 없었고 직원이 불친절했습니다. 다시는 오지 않겠습니다", "euc_kr", True),
            ("服务员态度很差,早餐不好吃,再也不会来了,但是位置很方便,靠近地铁站", "gb18030", True),
            ("Плохо", "cp1251", False),
            ("Zimmer schön, Frühstück üppig, für Gäste mit Kindern größer als nötig", "cp1252", False),
            ("Śniadanie świetne, łóżko wygodne, obsługa bardzo miła", "cp1250", False),
            ("Déjeuner très bon, hôtel agréable", "mac_roman", False),
        ],
    )
    def test_one_is_named_if_the_bytes_leave_no_doubt(self, write, text, encoding, sure):
        path = write("a.csv", f"text,stars\n{text.replace(',', ' ')},4\n".encode(encoding))
        (error,) = read_rows_or_errors(path)
        advice = f"It may be {encoding}: set `encoding` to {encoding}." if sure else "Set `encoding`, often"
        assert f"line 2: field 'text' is not UTF-8. {advice}" in str(error)

    def test_bytes_that_the_given_one_does_not_have(self, write):
        path = write("a.csv", b"text,stars\nx\x81,1\ny\x80,2\n")
        bad, good = read_rows_or_errors(path, text_format=TextFormat(encoding="cp1252"))
        assert "line 2: field 'text' is not cp1252" in str(bad) and good["text"] == "y€"
        cut = write("b.csv", "text,stars\nx,1\n".encode("utf-16")[:-1])
        assert [type(row) for row in read_rows_or_errors(cut)] == [DataError]

    @pytest.mark.parametrize("bad", ["utf-99", "hex", "", 8])
    def test_none(self, bad):
        with pytest.raises(DataError, match=r"`encoding` .* is none that Python knows, such as cp1252"):
            TextFormat(encoding=bad)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PAR1\x15\x04", "a parquet file"),
        (b"PK\x03\x04\x14\x00", "Excel workbook"),
        (gzip.compress(b"text\nx\n", mtime=0), "a gzip file"),
        (bz2.compress(b"text\nx\n"), "a bzip2 file"),
        (lzma.compress(b"text\nx\n"), "an xz file"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00", "an old Office document"),
        (b"\n <!DOCTYPE html>\n<html><head>", "an HTML or XML page, such as a failed download leaves"),
        (b"\xef\xbb\xbf<html lang='en'>", "an HTML or XML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x80\x04\x95", "a pickle"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt", "a.csv.gz", "a.parquet"])
def test_another_kind_of_file_is_named(write, name, content, words):
    if name == "a.csv.gz":
        content = gzip.compress(content)
    if (name, words) == ("a.parquet", "a parquet file"):
        words = "no parquet file, or a damaged one"
    path = write(name, content)
    for read in (count_rows, lambda path: list(read_rows(path))):
        with pytest.raises(DataError, match=words):
            read(path)


def test_texts_that_begin_like_other_files(write):
    for line in ("BZh9 is no bzip2", "PAR1", "<b>bold</b>"):
        path = write("a.txt", f"{line}\nx\n".encode())
        if line == "PAR1":
            continue
        assert [row["text"] for row in read_rows(path)] == [line, "x"]


def test_endless_lines(write, monkeypatch):
    monkeypatch.setattr("hf_fusion.data.decoding._MAX_LINE", 1000)
    with pytest.raises(DataError, match="line 2: longer than 1,000 characters"):
        list(read_rows(write("a.csv", b"text\n" + b"x" * 5000)))
