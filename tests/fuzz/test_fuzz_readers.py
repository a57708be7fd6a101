"""Readers: rows come back or are refused with file, row and reason; none is lost, nothing that is not finite passes."""

import gzip
import io
import json
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import cases, changed, damaged, frames, numbers, result_or, scalars, texts, values
from hypothesis import given
from hypothesis import strategies as st

from hf_fusion.data.clips import ClipSource, load_clips
from hf_fusion.data.files import read_rows_or_errors
from hf_fusion.data.labels import LabelError, LabelRules
from hf_fusion.data.prepare import prepare_clips
from hf_fusion.data.reviews import FIELDS, ReviewSource, load_reviews
from hf_fusion.utils.errors import DataError

ROWS = [{"id": str(i), "text": f"text, {i}", "stars": 1 + i % 5, "score": i / 9} for i in range(9)]


def parquet(rows):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def table(rows, end):
    """Rows as text with this mark between the fields."""
    return "".join(end.join(map(str, row)) + "\n" for row in [rows[0], *(row.values() for row in rows)]).encode()


FILES = {
    "a.csv": [b'text,stars\n"a ""b"", c",1\nd,2\n', b"text,stars\r\na,1\r\n"],
    "a.tsv": [table(ROWS, "\t")],
    "a.csv.gz": [gzip.compress(b"text,stars\n" + b"some words,3\n" * 50, mtime=0)],
    "a.jsonl": [b"".join(json.dumps(row).encode() + b"\n" for row in ROWS), b'{"text": "\\ud83d", "stars": 1}\n'],
    "a.parquet": [parquet(ROWS)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", FILES)
def test_rows_of_damaged_files(folder, name):
    @cases(6)
    @given(data=damaged(FILES[name]))
    def check(data):
        (folder / name).write_bytes(data)
        with result_or(DataError):
            for row in read_rows_or_errors(folder / name):
                assert isinstance(row, DataError) or all(
                    isinstance(key, str) and key.encode() is not None for key in row
                )

    check()


@cases(16)
@given(
    rows=st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, scalars)), min_size=1, max_size=4),
    rejected=st.sampled_from(["drop", "error"]),
)
def test_no_review_is_lost(folder, rows, rejected):
    path = folder / "reviews.jsonl"
    path.write_text("".join(json.dumps({"text": "a", "stars": 3, **row}) + "\n" for row in rows))
    with mock.patch("hf_fusion.data.splits.logger.warning") as warning, result_or(DataError):
        found = load_reviews(ReviewSource(str(path), rejected=rejected))
        dropped = int(str(warning.call_args).partition(" unusable row")[0].rpartition(" ")[2]) if warning.called else 0
        assert sum(map(len, found.values())) + dropped == len(rows)
        assert not (dropped and rejected == "error")
        for part in found.values():
            assert all(0 <= score <= 1 for score in part["intensity_labels"] if score is not None)


SOURCE = {"columns": {"text": "text"}, "rejected": "drop", "split_shares": [0.8, 0.1, 0.1], "split_seed": 0,
          "options": {}, "sources": ["a"]}  # fmt: skip
RULES = {"scale": [1, 5], "num_labels": 5, "coarse": [0, 2, 3]}


@cases(16)
@given(rules=changed(RULES, values | st.lists(numbers, min_size=2, max_size=3)), source=changed(SOURCE))
def test_review_arguments(folder, rules, source):
    path = folder / "arguments.jsonl"
    path.write_text("".join(json.dumps({"text": row["text"], "stars": row["stars"]}) + "\n" for row in ROWS))
    with result_or(DataError, LabelError):
        checked = LabelRules(**{name: rules[name] for name in RULES if name in rules})
        for part in load_reviews(ReviewSource(str(path), rules=checked)).values():
            assert np.isfinite(part["intensity_labels"]).all()
    with result_or(DataError):
        load_reviews(ReviewSource(str(path), **{name: source[name] for name in SOURCE if name in source}))


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def assert_finite(splits):
    for part in splits.values():
        for row in part.with_format("numpy"):
            assert all(np.isfinite(row[name]).all() for name in ("audio", "vision") if name in row)
            assert np.isfinite(row["label"])


@cases(20)
@given(
    rows=st.lists(
        st.fixed_dictionaries({}, optional={"id": texts, "label": scalars, "split": scalars, "text": scalars}),
        min_size=1, max_size=3,
    ),
    audio=frames, vision=frames, rejected=st.sampled_from(["drop", "error"]),
)  # fmt: skip
def test_clips_of_any_cells(folder, rows, audio, vision, rejected):
    for path in folder.glob("*.npz"):
        path.unlink()
    good = {"label": 1.0, "text": "a"}
    (folder / "labels.jsonl").write_text(
        "".join(json.dumps({"id": str(i), **good, **row}) + "\n" for i, row in enumerate(rows))
    )
    given_arrays = {"audio": audio, "vision": vision}
    (folder / "0.npz").write_bytes(npz(**{k: v for k, v in given_arrays.items() if isinstance(v, np.ndarray)}))
    with mock.patch("hf_fusion.data.splits.logger.warning") as warning, result_or(DataError):
        found = load_clips(ClipSource(str(folder), label_range=(-3, 3), rejected=rejected))
        dropped = int(str(warning.call_args).partition(" unusable row")[0].rpartition(" ")[2]) if warning.called else 0
        assert sum(map(len, found.values())) + dropped == len(rows)
        assert_finite(found)


FRAMES = {"audio": np.ones((4, 3), np.float32), "vision": np.ones((2, 5))}


@cases(8)
@given(
    archive=damaged([npz(**FRAMES)]),
    table=damaged([parquet([{"a": 1.0, "b": 2}] * 3)]),
    labels=damaged([b"id,label\n0,1\n"]),
)
def test_damaged_feature_files(folder, archive, table, labels):
    place = folder / "features"
    place.mkdir(exist_ok=True)
    for name, data in (("0.npz", archive), ("0.vision.parquet", table), ("labels.csv", labels)):
        (place / name).write_bytes(data)
    with result_or(DataError):
        assert_finite(load_clips(ClipSource(str(place))))


UTTERANCES = {
    "ids": np.array(["v_1", "v_2", "w_1"]), "video_id": np.array(["v", "v", "w"]), "clip_id": np.array([1, 2, 1]),
    "raw_text": np.array(["A", "B", "C"]), "audio": np.ones((3, 4)), "vision": np.ones((3, 2)),
    "regression_label": np.zeros(3), "split": np.array(["train", "test", "validation"]),
    "text_cnn": np.ones((3, 2)),
}  # fmt: skip


@cases(16)
@given(
    arrays=st.dictionaries(
        st.sampled_from(sorted(UTTERANCES)), frames.filter(lambda value: isinstance(value, np.ndarray)), max_size=2
    )
    | st.dictionaries(st.sampled_from(sorted(UTTERANCES)), st.lists(scalars, min_size=3, max_size=3), max_size=2),
    options=st.none()
    | st.dictionaries(st.sampled_from(["context", "split", "text_features", "x"]), values, max_size=1),
    cut=st.sampled_from([None, None, None, 10, 500, -30]),
)
def test_mosi_archives(folder, arrays, options, cut):
    path = folder / "mosi.npz"
    try:
        data = npz(**{**UTTERANCES, **arrays})
    except (ValueError, OverflowError):  # ragged, or lists of texts that are no Unicode
        return
    path.write_bytes(data[:cut])
    with result_or(DataError):
        assert_finite(load_clips(ClipSource(str(path), options=options or {})))


CLIPS = {"modalities": ["text", "audio"], "label_range": [-3, 3], "rejected": "drop",
         "split_shares": [0.8, 0.1, 0.1], "split_seed": 0, "options": {}}  # fmt: skip


@cases(8)
@given(source=changed(CLIPS))
def test_clip_arguments(folder, source):
    place = folder / "arguments"
    place.mkdir(exist_ok=True)
    (place / "labels.jsonl").write_text('{"id": "0", "label": 1, "text": "a"}\n{"id": "1", "label": 2, "text": "b"}\n')
    with result_or(DataError):
        source = {name: source[name] for name in CLIPS if name in source}
        assert_finite(load_clips(ClipSource(str(place), **source)))


@pytest.fixture(scope="module")
def prepared(folder):
    """The files of a prepared folder, as bytes."""
    place = folder / "source"
    place.mkdir()
    rows = [{"id": str(i), "label": i - 1, "text": "a", "split": "train"} for i in range(3)]
    (place / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        (place / f"{row['id']}.npz").write_bytes(npz(**FRAMES))
    prepare_clips(ClipSource(str(place)), str(folder / "prepared"))
    return {str(path.relative_to(folder / "prepared")): path.read_bytes() for path in folder.glob("prepared/**/*.*")}


def test_damaged_prepared_folders(folder, prepared):
    @cases(8)
    @given(data=st.data())
    def check(data):
        name = data.draw(st.sampled_from(sorted(prepared)))
        for other, content in prepared.items():
            (folder / "prepared" / other).write_bytes(content)
        (folder / "prepared" / name).write_bytes(data.draw(damaged([prepared[name]])))
        with result_or(DataError):
            assert_finite(load_clips(ClipSource(str(folder / "prepared"))))

    check()
