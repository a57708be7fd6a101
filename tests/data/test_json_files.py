import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_fusion.data import json_files
from hf_fusion.data.files import count_rows, read_rows, read_rows_or_errors
from hf_fusion.utils.errors import DataError

ROWS = [{"text": f"review {n}, with }} and ]", "stars": n % 5 + 1} for n in range(12)]
COLUMNS = {name: [row[name] for row in ROWS] for name in ("text", "stars")}


@pytest.fixture
def write(tmp_path):
    def write(content):
        (tmp_path / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return str(tmp_path / "a.json")

    return write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("json")


@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        json.dumps(ROWS, indent=4),
        "\ufeff\n " + json.dumps(ROWS),
        "\n".join(map(json.dumps, ROWS)),
        "\n\n".join(map(json.dumps, ROWS)) + "\n",
        COLUMNS,
        json.dumps(COLUMNS, indent=2),
        {"data": ROWS},
        {"version": 1, "meta": {"source": "x"}, "reviews": ROWS},
        {name: {str(n): value for n, value in enumerate(values)} for name, values in COLUMNS.items()},
        {str(n): row for n, row in enumerate(ROWS)},
        {"columns": ["text", "stars"], "index": list(range(12)), "data": [list(row.values()) for row in ROWS]},
        {"schema": {"fields": []}, "data": ROWS},
    ],
    ids=range(13),
)
def test_every_shape(write, content, monkeypatch):
    monkeypatch.setattr(json_files, "_PIECE", 7)
    path = write(content)
    assert list(read_rows(path)) == ROWS and count_rows(path) == 12
    assert list(read_rows_or_errors(path, 5)) == ROWS[5:]


@pytest.mark.parametrize(("content", "count"), [("", 0), ("[]", 0), (" [ ] \n", 0), ('{"text": "x", "stars": 4}', 1)])
def test_few_rows(write, content, count):
    assert len(list(read_rows(write(content)))) == count


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"train": ROWS, "test": ROWS}, "expected a list of objects, one object a line.*the keys train, test"),
        ({"text": ["a"], "stars": [1, 2]}, "got an object with the keys text, stars"),
        ({"a": {"b": {"c": 1}}}, "got an object with the keys a"),
        ("3", "got int"),
        ('{"text": ', "no JSON"),
        ('[{"text": "x"}, {"text": ', "row 2: no JSON"),
        ('[{"text": "x"} {"text": "y"}]', "after row 1: no JSON: expected , or ], got '{'"),
        ('[{"text": "x"}] x', "after row 1: no JSON: expected the end, got 'x'"),
        ('[{"text": "x"}', "after row 1: no JSON: expected , or ], got 'the end'"),
    ],
)
def test_what_has_no_rows(write, content, words):
    with pytest.raises(DataError, match=words.replace("]", r"\]")) as error:
        list(read_rows(write(content)))
    assert "a.json" in str(error.value)


def test_bad_rows_are_named_and_the_others_read(write):
    first, bad, worse, last = read_rows_or_errors(write('[{"a": 1}, [2], "3", {"a": "\\ud800"}]'))
    assert first == {"a": 1} and "row 2: expected an object, got list" in str(bad)
    assert "row 3" in str(worse) and "row 4" in str(last)
    good, broken, also = read_rows_or_errors(write('{"a": 1}\n{"a": \n{"a": 3}\n'))
    assert (good["a"], also["a"]) == (1, 3) and "line 2: no JSON" in str(broken)
    with pytest.raises(DataError, match="row 2: expected an object, got list"):
        list(read_rows(write({"columns": ["a", "b"], "data": [[1, 2], [3]]})))


def test_a_list_is_no_more_than_a_piece_in_memory(write, monkeypatch):
    longest = []
    grow = json_files._Buffer.grow
    monkeypatch.setattr(json_files, "_PIECE", 256)
    monkeypatch.setattr(json_files._Buffer, "grow", lambda self: grow(self) and not longest.append(len(self.text)))
    assert len(list(read_rows(write(ROWS * 500)))) == 6000
    assert max(longest) < 2000
    monkeypatch.setattr(json_files, "_MAX_CHARACTERS", 1000)
    for content in ([{"text": "x" * 5000}], COLUMNS | {"more": ["x" * 99] * 12}):
        text = json.dumps(content)[:-1] + " " * 5000 + json.dumps(content)[-1]
        if isinstance(content, dict):
            with pytest.raises(DataError, match="1,000 characters or more that are no list"):
                list(read_rows(write(text)))


def sound_text(size):
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=size)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.dictionaries(sound_text(3), sound_text(9) | st.integers() | st.none() | st.booleans()),
        max_size=6,
    ),
    piece=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_any_list_is_read_exactly(folder, rows, piece, indent, ascii_only):
    path = folder / "a.json"
    path.write_bytes(json.dumps(rows, indent=indent, ensure_ascii=ascii_only).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_files, "_PIECE", piece)
        assert list(read_rows(path)) == rows and count_rows(path) == len(rows)
