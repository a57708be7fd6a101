import csv
import io
import re
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_fusion.data import tables
from hf_fusion.data.decoding import TextFormat
from hf_fusion.data.files import count_rows, read_rows, read_rows_or_errors
from hf_fusion.utils.errors import DataError

BREAK = re.compile("\r\n|\r|\n")


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return str(tmp_path / name)

    return write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def texts_of(path, **options):
    """The texts of the rows, and the beginnings of the errors."""
    rows = read_rows_or_errors(path, text_format=TextFormat(**options))
    return [row["text"] if isinstance(row, dict) else re.search("line [0-9]+", str(row))[0] for row in rows]


class TestDelimiters:
    @pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("ending", ["csv", "tsv"])
    def test_are_found(self, write, mark, ending, caplog):
        path = write(f"a.{ending}", f"text{mark}stars\nfine. so{mark}4\n")
        assert list(read_rows(path)) == [{"text": "fine. so", "stars": "4"}]
        usual = {"csv": ",", "tsv": "\t"}[ending]
        assert ("fields are separated by" in caplog.text) == (mark != usual)

    def test_decimal_commas_stay_in_one_field(self, write):
        path = write("a.csv", "text;score\ngood, very good;4,5\nbad;1,0\n")
        assert list(read_rows(path)) == [{"text": "good, very good", "score": "4,5"}, {"text": "bad", "score": "1,0"}]

    def test_a_column_of_texts_is_not_divided(self, write):
        path = write("a.csv", "text\none; two\nthree | four\n")
        assert texts_of(path) == ["one; two", "three | four"]

    @pytest.mark.parametrize("ending", ["csv", "tsv"])
    def test_one_column_is_read_whole(self, write, ending, caplog):
        path = write(f"a.{ending}", 'text\nfine, clean; and\tquiet\n"good, ""very"" good"\nbad\n')
        assert texts_of(path) == ["fine, clean; and\tquiet", 'good, "very" good', "bad"]
        assert caplog.text.count("one column, since its first line has no delimiter") == 1
        assert texts_of(write("b.csv", "text\na, b\n"), delimiter=",") == ["line 2"], "as given"

    @pytest.mark.parametrize("mark", ";|\t")
    def test_commas_in_a_quoted_review_are_none(self, write, mark):
        path = write("a.csv", f'"text"{mark}"label"\n"Food good\nRoom, too\nfine"{mark}"good"\n')
        assert list(read_rows(path)) == [{"text": "Food good\nRoom, too\nfine", "label": "good"}]

    def test_as_given(self, write):
        path = write("a.csv", "text#stars\na,b#4\n")
        assert list(read_rows(path, TextFormat(delimiter="#"))) == [{"text": "a,b", "stars": "4"}]
        path = write("b.csv", "text\tstars\na,b\t4\n")
        for name in ("tab", "\\t", "\t"):
            assert texts_of(path, delimiter=name) == ["a,b"]

    def test_the_line_that_excel_reads(self, write):
        path = write("a.csv", "sep=;\r\ntext;stars\r\nx;4\r\ny\r\n")
        assert texts_of(path) == ["x", "line 4"] and count_rows(path) == 2

    def test_spaces_after_the_delimiter(self, write):
        path = write("a.csv", 'id, text, stars\n1, "x, y", 4\n')
        assert list(read_rows(path)) == [{"id": "1", "text": "x, y", "stars": "4"}]

    @pytest.mark.parametrize("bad", ["", ",,", '"', "\n", 3])
    def test_no_delimiter(self, bad):
        with pytest.raises(DataError, match="`delimiter` must be one character"):
            TextFormat(delimiter=bad)


class TestQuotation:
    def test_marks_in_a_tsv_are_text(self, write, caplog):
        lines = [f"review {n}\t{n % 5 + 1}" for n in range(30)]
        lines[3] = '"Wow", she said\t5'
        lines[7], lines[8] = '"The best\t5', 'of all"\t4'
        lines[20] = '"\t1'
        path = write("a.tsv", "text\tstars\n" + "\n".join(lines))
        assert [f"{row['text']}\t{row['stars']}" for row in read_rows(path)] == lines and count_rows(path) == 30
        list(read_rows(path))
        assert caplog.text.count("quotation marks are text") == 1

    def test_a_pair_of_marks_lines_apart(self, write):
        lines = [f"review {n}\t{n % 5 + 1}" for n in range(9)]
        lines[2], lines[6] = '"Opened\t2', 'closed"\t4'
        assert texts_of(write("a.tsv", "text\tstars\n" + "\n".join(lines)))[2:7:4] == ['"Opened', 'closed"']

    def test_a_tsv_with_plain_quotation(self, write, caplog):
        path = write("a.tsv", 'text\tstars\n"two\nlines, ""so""\tto say"\t4\nplain\t5\n')
        assert texts_of(path) == ['two\nlines, "so"\tto say', "plain"] and not caplog.text

    @pytest.mark.parametrize("quoted", [True, False])
    def test_a_mark_that_is_not_closed_takes_one_line(self, write, quoted):
        mark = '"' if quoted else ""
        lines = [f"{mark}review {n}{mark},{n % 5 + 1}" for n in range(40)]
        lines[11] = '"A word to the wise,2'
        expected = [f"review {n}" for n in range(40)]
        expected[11] = "line 13"
        path = write("a.csv", "text,stars\n" + "\n".join(lines) + "\n")
        assert texts_of(path) == expected and count_rows(path) == 40

    @pytest.mark.parametrize("apart", [1, 2, 20])
    @pytest.mark.parametrize("columns", ["text,stars", "stars,text", "id,text,stars", "id,stars,text,title"])
    def test_nor_does_a_pair_of_them(self, write, apart, columns):
        """A later mark closes the text: columns and quotation are right, but the text is made of rows."""

        def line(n, text):
            row = {"text": text, "stars": str(n % 5 + 1), "id": str(n), "title": f"title {n}"}
            return ",".join(row[name] for name in columns.split(","))

        lines = [line(n, f"review {n}") for n in range(40)]
        lines[11], lines[11 + apart] = line(11, '"A word'), line(11 + apart, 'so they say"')
        found = texts_of(write("a.csv", columns + "\n" + "\n".join(lines) + "\n"))
        assert found == [f"review {n}" if n != 11 else "line 13" for n in range(40) if not 11 < n <= 11 + apart]

    def test_nor_do_texts_alone_tell(self, write):
        lines = ["user,text", 'ann,"It was great', "bob,Fine stay", 'cid,screen of 5"', "dan,OK"]
        path = write("a.csv", "\n".join(lines))
        error, row = read_rows_or_errors(path)
        assert "lines 2-4: malformed csv" in str(error) and row == {"user": "dan", "text": "OK"}
        assert count_rows(path) == 2
        text = "Food was good.\nThe room, too, was fine, and\nquiet\nI would go\nthere again, yes"
        path = write("b.csv", f'user,text\nann,"{text}"\nbob,fine\n')
        assert texts_of(path) == [text, "fine"]

    @pytest.mark.parametrize("space", ["", " "])
    def test_prose_has_a_space_behind_its_comma(self, write, space):
        lines = [f"user{chr(97 + n)},{space}fine {chr(97 + n)}" for n in range(20)]
        text = "Good.\nThe room, though, was cold\nFood, fine\nStaff, nice\nSo I left"
        path = write("a.csv", "\n".join(["user,text", *lines, f'ann,"{text}"']))
        assert texts_of(path)[20:] == ["line 22" if space else text]

    def test_a_text_like_rows_is_one_error(self, write):
        path = write("a.csv", 'text,stars\n"Food, 5\nRoom, 4\nStaff, 3",4\nfine,5\n')
        assert texts_of(path) == ["line 2", "fine"] and count_rows(path) == 2
        path = write("b.csv", 'text,stars\n"Food, good\nRoom, ok\nStaff, fine",5\nfine,5\n')
        assert texts_of(path) == ["Food, good\nRoom, ok\nStaff, fine", "fine"]

    def test_endless_quotation_is_given_up(self, write, monkeypatch):
        monkeypatch.setattr(tables, "_MAX_ROW_LINES", 20)
        path = write("a.csv", 'text,stars\n"open,1\n' + "x,3\n" * 100)
        assert texts_of(path) == ["line 2"] + ["x"] * 100

    def test_texts_of_one_column_are_not_guessed_behind_it(self, write):
        path = write("a.csv", 'text\nfine\n"open\none\ntwo\n')
        assert texts_of(path) == ["fine", "line 3", "line 4", "line 5"]

    def test_no_rest_of_a_bad_row_is_taken_for_a_row(self, write):
        path = write("a.csv", 'text,stars\n"He said "no"\nand left",4\nfine,5\n')
        assert texts_of(path) == ["line 2", "line 3", "fine"]

    def test_long_texts_of_many_lines_stay(self, write):
        text = "A line, with a comma.\n\nAnother one; 4 stars, I would say\n" * 100
        out = io.StringIO()
        csv.writer(out).writerows([["text", "stars"], [text, 4], ["x", 5]])
        assert texts_of(write("a.csv", out.getvalue())) == [text, "x"]


class TestHeader:
    @pytest.mark.parametrize(
        "content", ["The room was nice,4\nBad,1\n", '"2","Stunning","The best"\n"1","Bad","Not good"\n', "fine,3\n"]
    )
    def test_a_row_of_data_is_none(self, write, content):
        path = write("a.csv", content)
        with pytest.raises(DataError, match=r"line 1: looks like a row of data.*`header` to false"):
            list(read_rows(path))
        rows = list(read_rows(path, TextFormat(header=False)))
        assert len(rows) == content.count("\n") and list(rows[0]) == [*"123"][: len(rows[0])]
        assert len(list(read_rows(path, TextFormat(header=True)))) == len(rows) - 1

    @pytest.mark.parametrize("header", ["text,2024", ",0,1", "0,1,2", "1,2"])
    def test_names_that_are_numbers(self, write, header):
        width = header.count(",") + 1
        path = write("a.csv", header + "\n" + ",".join(["x"] * width) + "\n")
        assert len(list(read_rows(path))) == 1

    def test_columns_without_a_name(self, write):
        path = write("a.csv", ",text,stars,,\n0,x,4,,\n1,y,5\n2,z,3,,\n3,w,1,,kept\n")
        rows = list(read_rows_or_errors(path))
        assert rows[0] == {"Unnamed: 0": "0", "text": "x", "stars": "4", "Unnamed: 3": "", "Unnamed: 4": ""}
        assert rows[3]["Unnamed: 4"] == "kept" and isinstance(rows[1], DataError)
        path = write("b.csv", "text,stars,\nx,4,\ny,5\n")
        assert list(read_rows(path)) == [{"text": "x", "stars": "4"}, {"text": "y", "stars": "5"}]

    def test_delimiters_at_the_end_of_rows(self, write):
        path = write("a.csv", "text,stars\nx,4,,\ny,5,,z\n")
        first, second = read_rows_or_errors(path)
        assert first == {"text": "x", "stars": "4"} and "line 3" in str(second) and "more (4)" in str(second)

    def test_named_twice(self, write):
        with pytest.raises(DataError, match="line 1: a column is named twice; there are text, text"):
            list(read_rows(write("a.csv", "text, text\nx,y\n")))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
def test_ends_of_lines(write, end):
    path = write("a.csv", end.join(["text,stars", "x,1", "", "y,2", "z"]) + end)
    rows = list(read_rows_or_errors(path))
    assert [row["text"] for row in rows[:2]] == ["x", "y"] and isinstance(rows[2], DataError) and len(rows) == 3


def test_zero_bytes_are_an_error_of_the_row(write):
    path = write("a.csv", b"text,stars\nx,1\ny\0y,2\nz,3\n")
    assert texts_of(path) == ["x", "line 3", "z"]


def test_lines_of_texts(write):
    path = write("a.txt", '"one, two\n\nthree\tfour\r\nlast')
    assert [row["text"] for row in read_rows(path)] == ['"one, two', "", "three\tfour", "last"]
    assert count_rows(path) == 4


class TestWorkbooks:
    @pytest.fixture
    def save(self, tmp_path):
        openpyxl = pytest.importorskip("openpyxl")

        def save(sheets):
            book = openpyxl.Workbook()
            book.remove(book.active)
            for title, rows in sheets.items():
                sheet = book.create_sheet(title)
                for row in rows:
                    sheet.append(row)
            book.save(tmp_path / "a.XLSX")
            return str(tmp_path / "a.XLSX")

        return save

    def test_cells_are_texts(self, save, caplog):
        rows = [["text", "stars", "day", None], ["x", 4, date(2024, 5, 6)], [], ["y", 4.5, None], [None, 1, True]]
        path = save({"Reviews": rows, "Notes": [["a"]]})
        assert list(read_rows(path)) == [
            {"text": "x", "stars": "4", "day": "2024-05-06T00:00:00"},
            {"text": "y", "stars": "4.5", "day": ""},
            {"text": "", "stars": "1", "day": "True"},
        ]
        assert count_rows(path) == 3 and "the sheet 'Reviews' is read, not Notes" in caplog.text

    def test_header_and_width(self, save):
        with pytest.raises(DataError, match="row 1: looks like a row of data"):
            list(read_rows(save({"a": [["fine", 4], ["bad", 1]]})))
        first, second = read_rows_or_errors(save({"a": [["text", "stars"], ["x", 4], ["y", 4, "z"]]}))
        assert first["stars"] == "4" and "row 3" in str(second) and "more" in str(second)

    def test_no_workbook(self, write):
        pytest.importorskip("openpyxl")
        with pytest.raises(DataError, match="no Excel workbook"):
            list(read_rows(write("b.xlsx", b"text,stars\n")))


# no digits, or a text could look like a row; a lone \r is not quoted by every writer
SIGNS = [*"ab \",;|\t\n'x", "\r\n", '""', "a,b\n"]
fields = st.lists(st.sampled_from(SIGNS), max_size=12).map("".join)
DIALECTS = [
    (kind, {"delimiter": mark, "quoting": quoting, "lineterminator": end})
    for kind, marks in ((".csv", ",;|"), (".tsv", "\t"))
    for mark in marks
    for quoting in (csv.QUOTE_ALL, csv.QUOTE_MINIMAL)
    for end in ("\n", "\r\n")
]


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(fields, st.integers(1, 5).map(str), fields), min_size=1, max_size=12),
    dialect=st.sampled_from(DIALECTS),
    order=st.permutations(range(3)),
)
def test_what_a_writer_of_csv_wrote_is_read_exactly(folder, rows, dialect, order):
    """A .tsv whose texts look like rows may be read literally; so it has no tabs in them here."""
    kind, options = dialect
    if kind == ".tsv":
        rows = [tuple(field.replace("\t", " ") for field in row) for row in rows]
    names = ["text", "stars", "title"]
    rows = [dict(zip([names[i] for i in order], [row[i] for i in order], strict=True)) for row in rows]
    path = folder / f"written{kind}"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), **options)
        writer.writeheader()
        writer.writerows(rows)
    assert list(read_rows(path, TextFormat(delimiter=options["delimiter"]))) == rows
    assert count_rows(path, TextFormat(delimiter=options["delimiter"])) == len(rows)


def lines_taken(row):
    if isinstance(row, dict):
        return 1 + sum(len(BREAK.findall(field)) for field in row.values())
    span = re.search(r"lines (\d+)-(\d+): ", str(row))
    return int(span[2]) - int(span[1]) + 1 if span else 1


@settings(max_examples=80, deadline=None)
@given(
    content=st.binary(max_size=300)
    | st.lists(st.sampled_from([*'a",;1\t\r\n é', "a,b", '"', "\n", "\0", "x,1\n"]), max_size=80).map(
        lambda parts: "".join(parts).encode()
    ),
    kind=st.sampled_from([".csv", ".tsv"]),
    header=st.booleans(),
)
def test_every_line_is_a_row_or_an_error(folder, content, kind, header):
    mark = "," if kind == ".csv" else "\t"
    path = folder / f"garbage{kind}"
    path.write_bytes(f"a{mark}b\n".encode() + content)
    form = TextFormat(encoding="latin-1", delimiter=mark)
    found = list(read_rows_or_errors(path, text_format=form))
    taken = sum(map(lines_taken, found))
    lines = BREAK.split(content.decode("latin-1"))
    lines = lines[:-1] if not lines[-1] else lines
    assert sum(map(bool, lines)) <= taken <= len(lines)
    assert all(re.search(r"line \d+", str(row)) for row in found if isinstance(row, DataError))
    assert count_rows(path, form) == len(found)
    for first in (1, 2, len(found) // 2):
        rest = list(read_rows_or_errors(path, first, form))
        assert list(map(str, rest)) == list(map(str, found[first:]))
