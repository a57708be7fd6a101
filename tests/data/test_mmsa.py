import logging
import pickle
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_fusion.data import mmsa
from hf_fusion.data.mmsa import read_mmsa
from hf_fusion.data.pickles import sha256_of
from hf_fusion.data.splits import SPLIT_ALIASES, SPLITS
from hf_fusion.utils.errors import DataError

SHAPES = {"audio": (9, 4), "vision": (7, 5)}


def fields_of(count=3, seed=0, **changes):
    """A split of `count` clips; a change to None leaves a field out."""
    random = np.random.default_rng(seed)
    fields = {
        "raw_text": [f"text {seed} {index}" for index in range(count)],
        "text": random.normal(size=(count, 6, 8)).astype(np.float32),
        "text_bert": np.zeros((count, 3, 6), np.float32),
        "id": [f"video{seed}$_${index}" for index in range(count)],
        "classification_labels": np.zeros(count),
        "annotations": ["Positive"] * count,
        "regression_labels": random.uniform(-3, 3, count),
    }
    for name, (frames, width) in SHAPES.items():
        lengths = [1 + index % frames for index in range(count)]
        array = random.normal(size=(count, frames, width)).astype(np.float32)
        for index, length in enumerate(lengths):
            array[index, length:] = 0
        fields |= {name: array, f"{name}_lengths": lengths}
    return {name: value for name, value in (fields | changes).items() if value is not None}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("mmsa") / "features.pkl"


@pytest.fixture
def read(path):
    """Reads splits by way of a file."""

    def read(data, protocol=4):
        path.write_bytes(pickle.dumps(data, protocol))
        return list(read_mmsa(path))

    return read


def same(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@pytest.mark.parametrize("protocol", range(6))
def test_every_clip_comes_with_its_own_values(read, protocol):
    data = {"train": fields_of(3, 1), "valid": fields_of(2, 2), "test": fields_of(1, 3)}
    rows = read(data, protocol)
    assert [row["split"] for row in rows] == ["train"] * 3 + ["validation"] * 2 + ["test"]
    expected = [(fields, index) for fields in data.values() for index in range(len(fields["id"]))]
    for row, (fields, index) in zip(rows, expected, strict=True):
        assert list(row) == ["id", "split", "text", "audio", "vision", "label"]
        assert row["id"] == fields["id"][index] and type(row["id"]) is str
        assert row["text"] == fields["raw_text"][index] and type(row["text"]) is str
        assert row["label"] == fields["regression_labels"][index] and type(row["label"]) is float
        for name in SHAPES:
            assert same(row[name], fields[name][index][: fields[f"{name}_lengths"][index]])


@pytest.mark.parametrize(("name", "split"), [*zip(SPLITS, SPLITS, strict=True), *SPLIT_ALIASES.items()])
def test_names_of_splits(read, name, split):
    assert [row["split"] for row in read({name: fields_of(2)})] == [split] * 2


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda values: np.array(values, dtype=object)])
def test_lists_and_arrays(read, kind):
    fields = fields_of(3)
    names = ("id", "raw_text", "regression_labels", "audio_lengths", "vision_lengths")
    fields |= {name: kind(list(fields[name])) for name in names}
    (row, *_), (expected, *_) = read({"train": fields}), read({"train": fields_of(3)})
    assert {key: (type(value), np.shape(value)) for key, value in row.items()} == {
        key: (type(value), np.shape(value)) for key, value in expected.items()
    }


@pytest.mark.parametrize("kind", ["<f8", ">f8", ">f4", "<f2", "<i4", "<u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_become_float32_in_c_order(read, kind, order):
    audio = np.arange(1, 1 + 3 * 9 * 4).reshape(3, 9, 4).astype(kind)
    audio[1, 4:] = audio[2, 1:] = 0
    rows = read({"train": fields_of(3, audio=np.array(audio, order=order), audio_lengths=[9, 4, 1])})
    for row, array, length in zip(rows, audio, [9, 4, 1], strict=True):
        assert same(row["audio"], array[:length].astype(np.float32)) and row["audio"].flags.c_contiguous


def test_without_lengths_zeros_at_the_end_are_padding(read):
    audio = np.zeros((4, 5, 2), np.float32)
    audio[0, [0, 3]] = 1, -0.5  # frames of zeros between others stay
    audio[1, [0, 4], 1] = np.nan
    audio[2, 0, 0] = -np.inf
    audio[3, 2] = -0.0
    rows = read({"train": fields_of(4, audio=audio, audio_lengths=None)})
    assert same(rows[0]["audio"], audio[0, :4])
    assert same(rows[1]["audio"], audio[1])
    assert same(rows[2]["audio"], audio[2, :1])
    assert rows[3]["audio"] is None


def test_values_that_are_not_finite_stay(read):
    audio = np.array([[[-np.inf, np.nan, np.inf, 1e300]]])
    (row,) = read({"train": fields_of(1, audio=audio, audio_lengths=[1])})
    np.testing.assert_array_equal(row["audio"], np.float32([[-np.inf, np.nan, np.inf, np.inf]]))


@pytest.mark.parametrize("missing", ["raw_text", "audio", "vision"])
def test_absent_modalities(read, missing):
    rows = read({"train": fields_of(2, **{missing: None})})
    for row in rows:
        for name in ("raw_text", "audio", "vision"):
            assert (row["text" if name == "raw_text" else name] is None) == (name == missing)


def test_labels_of_modalities_and_labels_that_are_missing(read):
    labels = {"regression_labels_T": np.float32([0.5, 1]), "regression_labels_A": [-1, 0]}
    first, second = read({"train": fields_of(2, **labels, regression_labels=[np.nan, None])})
    assert first["label"] is None and second["label"] is None
    assert (first["label_text"], first["label_audio"], second["label_audio"]) == (0.5, -1.0, 0.0)
    assert type(first["label_audio"]) is float and "label_vision" not in first
    (row,) = read({"train": fields_of(1, regression_labels_V=np.array([0.25]))})
    assert row["label_vision"] == 0.25 and "label_text" not in row


def test_an_empty_split(read):
    empty = fields_of(0, raw_text=np.array([]), id=np.array([]), regression_labels=np.array([]))
    assert read({"valid": empty}) == []
    assert len(read({"train": fields_of(2), "valid": empty, "test": empty})) == 2


def test_an_ordered_dict(read):
    assert len(read(OrderedDict(train=OrderedDict(fields_of(2))))) == 2


def big(kind):
    audio = np.ones((200, 100, 50), kind)
    audio[:, 90:] = 0
    return {"train": fields_of(200, audio=audio, audio_lengths=[90] * 200)}


def test_clips_are_views(read):
    rows = read(big(np.float32))
    assert not any(row["audio"].flags.owndata for row in rows)
    first, second = (row["audio"].__array_interface__["data"][0] for row in rows[:2])
    assert second - first == 100 * 50 * 4


def test_no_second_copy_of_an_array(path):
    path.write_bytes(pickle.dumps(big(np.float64), 4))
    tracemalloc.start()
    for row in read_mmsa(path):
        assert same(row["audio"], np.ones((90, 50), np.float32))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.2 * path.stat().st_size


def test_ignored_arrays_are_let_go(path):
    path.write_bytes(pickle.dumps({"train": fields_of(2, text=np.ones((2, 1000, 1000)))}, 4))
    tracemalloc.start()
    rows = read_mmsa(path)
    next(rows)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak > 16_000_000 and held < 1_000_000


TRAIN = r"features\.pkl, split 'train'"
BAD = [
    ({"id": None}, rf"{TRAIN}: field 'id' is missing"),
    ({"raw_text": None, "audio": None, "vision": None}, rf"{TRAIN}: needs one of .*'raw_text', 'audio' and 'vision'"),
    ({"id": "abc"}, rf"{TRAIN}, field 'id': expected a list or array of one dimension, got 'abc'"),
    ({"id": [1, 2, 3]}, rf"{TRAIN}, field 'id', clip number 0: expected a text, got 1"),
    ({"id": ["a", "b", b"c"]}, rf"{TRAIN}, field 'id', clip number 2: expected a text, got bytes"),
    ({"id": ["a", "b"]}, rf"{TRAIN}: field 'id' has 2 clips, but field 'raw_text' has 3"),
    ({"raw_text": ["a"] * 4}, rf"{TRAIN}: field 'id' has 3 clips, but field 'raw_text' has 4"),
    ({"raw_text": ["a", "b", b"c"]}, rf"{TRAIN}, field 'raw_text', clip 'video0\$_\$2': expected a text, .* got bytes"),
    ({"raw_text": ["a", "b", 1.5]}, rf"{TRAIN}, field 'raw_text', clip 'video0\$_\$2': expected a text, .* got 1.5"),
    ({"raw_text": ["a", "b", np.inf]}, rf"{TRAIN}, field 'raw_text', clip 'video0\$_\$2': expected a text, .* got inf"),
    ({"raw_text": ["a", "b", "\ud800"]}, rf"{TRAIN}, field 'raw_text', clip 'video0\$_\$2': expected a text"),
    ({"raw_text": {"a": 1}}, rf"{TRAIN}, field 'raw_text': expected a list or array of one dimension, got dict"),
    ({"regression_labels": np.zeros(2)}, rf"{TRAIN}: field 'id' has 3 clips, but field 'regression_labels' has 2"),
    ({"regression_labels": np.zeros((3, 1))}, rf"{TRAIN}, field 'regression_labels': .* got an array .*\(3, 1\)"),
    ({"regression_labels": [0, "1", 2]}, rf"{TRAIN}, field 'regression_labels', clip 'video0\$_\$1': .* got '1'"),
    ({"regression_labels": [0, 1, np.inf]}, rf"{TRAIN}, field 'regression_labels', clip 'video0\$_\$2': .* got inf"),
    ({"regression_labels": [0, 10**400, 1]}, rf"{TRAIN}, field 'regression_labels', clip 'video0\$_\$1': .* got int"),
    ({"regression_labels": [0, 10**4400, 1]}, rf"{TRAIN}, field 'regression_labels', clip 'video0\$_\$1': .* got int"),
    ({"regression_labels": [0, True, 1]}, rf"{TRAIN}, field 'regression_labels', clip 'video0\$_\$1': .* got bool"),
    ({"regression_labels_A": [0, 1]}, rf"{TRAIN}: field 'id' has 3 clips, but field 'regression_labels_A' has 2"),
    ({"audio": np.zeros((3, 4))}, rf"{TRAIN}, field 'audio': expected a numeric array \(clips, frames, features\)"),
    ({"audio": np.zeros((3, 4, 2, 1))}, rf"{TRAIN}, field 'audio': .* type float64 and shape \(3, 4, 2, 1\)"),
    ({"audio": np.zeros((3, 4, 0))}, rf"{TRAIN}, field 'audio': .*shape \(3, 4, 0\)"),
    ({"audio": np.zeros((3, 4, 2), bool)}, rf"{TRAIN}, field 'audio': .* type bool"),
    ({"audio": np.zeros((3, 4, 2), complex)}, rf"{TRAIN}, field 'audio': .* type complex"),
    ({"audio": np.full((3, 4, 2), "a")}, rf"{TRAIN}, field 'audio': .* type <U1"),
    ({"audio": np.full((3, 4, 2), None)}, rf"{TRAIN}, field 'audio': .* type object"),
    ({"audio": [[[1.0]]] * 3}, rf"{TRAIN}, field 'audio': .* got list"),
    ({"vision": np.zeros((2, 4, 2))}, rf"{TRAIN}: field 'id' has 3 clips, but field 'vision' has 2"),
    ({"audio_lengths": [1, 2]}, rf"{TRAIN}: field 'id' has 3 clips, but field 'audio_lengths' has 2"),
    ({"audio_lengths": [1, 10, 2]}, r"field 'audio', clip 'video0\$_\$1': the length 10 is beyond .* of 9 frames"),
    ({"audio_lengths": np.array([1, 2, -1])}, rf"{TRAIN}, field 'audio_lengths', clip 'video0\$_\$2': .* got -1"),
    ({"vision_lengths": [1, 2, 2.5]}, rf"{TRAIN}, field 'vision_lengths', clip 'video0\$_\$2': .* got 2.5"),
    ({"vision_lengths": [1, True, 2]}, rf"{TRAIN}, field 'vision_lengths', clip 'video0\$_\$1': .* got bool"),
    ({"vision_lengths": [1, None, 2]}, rf"{TRAIN}, field 'vision_lengths', clip 'video0\$_\$1': .* got NoneType"),
    ({"vision_lengths": 3}, rf"{TRAIN}, field 'vision_lengths': expected a list .* got 3"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), BAD, ids=[" ".join(changes) for changes, _ in BAD])
def test_errors_name_file_split_field_and_clip(read, changes, words):
    with pytest.raises(DataError, match=words):
        read({"valid": fields_of(2), "train": fields_of(3, **changes)})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([1, 2], "expected a dict of splits, got list"),
        (np.zeros(2), "expected a dict of splits, got an array"),
        ({}, "has no split; known are train, validation, test, valid, val, dev"),
        ({"meta": {"audio": {"tool": "x"}}, "n": 3}, "has no split; known are train.* Its keys are 'meta', 'n'"),
        ({"train": fields_of(1), "test_normal": fields_of(1)}, "unknown split 'test_normal'"),
        ({1: fields_of(1)}, "unknown split 1"),
        ({10**4400: fields_of(1)}, "unknown split int"),
        ({"train": [1]}, "split 'train': expected a dict of fields, got list"),
        ({"valid": fields_of(1), "dev": fields_of(1)}, "the split validation comes twice, again as 'dev'"),
    ],
)
def test_errors_of_the_whole(read, data, words):
    with pytest.raises(DataError, match=rf"features\.pkl.*{words}"):
        read(data)


def test_errors_come_before_the_first_row(path):
    path.write_bytes(pickle.dumps({"train": fields_of(3), "test": fields_of(3, audio_lengths=[1, 1, 99])}))
    with pytest.raises(DataError, match="the length 99 is beyond"):
        next(read_mmsa(path))


def test_files_that_are_no_pickles(path):
    path.write_bytes(pickle.dumps({"train": fields_of(3)})[:-100])
    with pytest.raises(DataError, match=r"features\.pkl: no pickle"):
        next(read_mmsa(path))
    with pytest.raises(FileNotFoundError, match="no such file"):
        next(read_mmsa(path.with_name("nothing.pkl")))


class TestHashes:
    def test_published_names(self):
        assert {name: list(sets.values()) for name, sets in mmsa.PUBLISHED.items()} == {
            "unaligned_50.pkl": ["MOSI", "MOSEI"],
            "unaligned_39.pkl": ["CH-SIMS"],
        }
        hashes = [sha for sets in mmsa.PUBLISHED.values() for sha in sets]
        assert all(len(sha) == 64 and int(sha, 16) for sha in hashes) and len(set(hashes)) == 3

    def test_a_published_name_with_other_content(self, tmp_path, monkeypatch):
        path = tmp_path / "unaligned_50.pkl"
        path.write_bytes(pickle.dumps({"train": fields_of(1)}))
        monkeypatch.setattr(mmsa, "read_pickle", lambda path: pytest.fail("was read before its hash was checked"))
        with pytest.raises(
            DataError, match=r"unaligned_50\.pkl: .*MOSI or MOSEI.*damaged or was changed.*another name"
        ):
            next(read_mmsa(path))
        monkeypatch.setitem(mmsa.PUBLISHED, "unaligned_39.pkl", {sha256_of(path): "CH-SIMS"})
        with pytest.raises(DataError, match=sha256_of(path)):
            next(read_mmsa(path))

    @pytest.mark.parametrize("name", ["unaligned_50.pkl", "renamed.pkl"])
    def test_a_published_file(self, tmp_path, monkeypatch, caplog, name):
        path = tmp_path / name
        path.write_bytes(pickle.dumps({"train": fields_of(1)}))
        monkeypatch.setitem(mmsa.PUBLISHED, "unaligned_50.pkl", {"0" * 64: "MOSI", sha256_of(path): "MOSEI"})
        with caplog.at_level(logging.INFO, logger="hf_fusion.data.mmsa"):
            assert len(list(read_mmsa(path))) == 1
        (record,) = caplog.records
        assert record.levelno == logging.INFO and "MOSEI" in record.getMessage()

    def test_another_file(self, path, read, caplog):
        with caplog.at_level(logging.INFO, logger="hf_fusion.data.mmsa"):
            read({"train": fields_of(1)})
        (record,) = caplog.records
        assert record.levelno == logging.WARNING and sha256_of(path) in record.getMessage()


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 12), st.floats(), st.text("a$é", max_size=3), st.binary(max_size=3),
    st.lists(st.one_of(st.none(), st.integers(-1, 12), st.floats(), st.text("aé", max_size=2)), min_size=2, max_size=3),
    st.sampled_from([
        np.zeros((3, 0, 4)), np.zeros((3, 5, 0)), np.zeros((0, 5, 5)), np.zeros(3, int), np.zeros(()), np.array("a"),
        np.array(["a", "b", "c"]), np.array([b"a", b"b", b"c"]), np.array([1, "a", None], object), np.full(3, np.nan),
        np.ones(3, np.longdouble), [np.float32(1)] * 3, [np.zeros(2)] * 3, {"a": 1}, {1, 2, 3}, np.float64(3), 2**70,
    ]),
)  # fmt: skip


@settings(max_examples=300)
@given(changes=st.dictionaries(st.sampled_from(sorted(fields_of(regression_labels_T=[]))), JUNK, max_size=4))
def test_any_fields_give_rows_or_a_data_error(path, changes):
    path.write_bytes(pickle.dumps({"train": fields_of(3, **changes)}))
    try:
        rows = list(read_mmsa(path))
    except DataError as error:
        assert path.name in str(error)
        return
    for row in rows:
        assert type(row["id"]) is str and type(row["text"]) in (str, type(None))
        assert all(value is None or type(value) is float for key, value in row.items() if key.startswith("label"))
        for name in SHAPES:
            array = row[name]
            assert array is None or (array.dtype == np.float32 and array.ndim == 2 and len(array))


def test_lengths_and_padding_over_all_splits(read):
    """The last frames of each clip, in a file that is padded at the start; a split alone would not tell."""
    vision = np.zeros((2, 4, 5), np.float32)
    vision[0, 2:], vision[1, :] = 1, 2
    full = np.ones((1, 4, 5), np.float32)
    rows = read({
        "train": fields_of(2, vision=vision, vision_lengths=[2, 4]),
        "test": fields_of(1, 1, vision=full, vision_lengths=[4]),
    })  # fmt: skip
    assert [len(row["vision"]) for row in rows] == [2, 4, 4] and rows[0]["vision"].all()


class TestKeysThatAreNoSplit:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"audio": {"tool": "librosa"}, "text": {"model": "bert"}}, "a dict of 'audio', 'text'"),
            ({}, "an empty dict"),
            ("v1.2", "'v1.2'"),
            (["librosa", "openface"], "list"),
        ],
    )
    def test_are_named_and_left_out(self, read, caplog, settings, words):
        assert len(read({"config": settings, "train": fields_of(2)})) == 2
        assert f"the key 'config' is no split ({words}); it is not read." in caplog.text

    @pytest.mark.parametrize("name", ["valid2", "test_normal", "holdout"])
    def test_but_further_splits_are_refused(self, read, name):
        with pytest.raises(DataError, match=f"unknown split '{name}'; known are train, .*Rename it"):
            read({"train": fields_of(1), name: fields_of(1, 1)})

    def test_names_of_splits_in_any_case(self, read):
        assert [row["split"] for row in read({"Train": fields_of(1), "VALID": fields_of(1, 1)})] == [
            "train", "validation",
        ]  # fmt: skip


class TestWithoutSplits:
    def test_fields_of_clips(self, read, caplog):
        rows = read(fields_of(3))
        assert [row["split"] for row in rows] == [None] * 3 and len(rows[2]["audio"]) == 3
        assert "without splits" in caplog.text

    def one(self, **changes):
        """One clip as `run_single` of MMSA-FET writes it."""
        fields = {"audio": np.ones((6, 2)), "vision": np.ones((4, 3)), "text": np.ones((5, 8)),
                  "text_bert": np.ones((5, 3), int)}  # fmt: skip
        return {name: value for name, value in (fields | changes).items() if value is not None}

    def test_one_clip(self, read, caplog):
        audio = np.ones((6, 2))
        audio[4:] = 0
        (row,) = read(self.one(audio=audio, config={}))
        assert (row["id"], row["split"], row["text"], row["label"]) == ("features", None, None, None)
        assert row["audio"].shape == (4, 2) and row["vision"].shape == (4, 3)
        for words in ("one clip, without splits", "'config' is no field", "no field 'raw_text'", "tokenizer.decode",
                      "without labels, for prediction but not for training", "1 of 1 clips have some"):  # fmt: skip
            assert words in caplog.text

    def test_one_clip_with_text_label_and_length(self, read):
        audio = np.zeros((6, 2))
        audio[3:] = 1
        (row,) = read(self.one(audio=audio, audio_lengths=3, raw_text="good", regression_labels=0.5))
        assert (row["text"], row["label"], len(row["audio"])) == ("good", 0.5, 3) and row["audio"].all()

    def test_features_under_a_name_that_is_not_read_are_named(self, read, caplog):
        (row,) = read(self.one(vision=None, video=np.ones((4, 3)), raw_text="good"))
        assert row["vision"] is None and "the fields 'video' are not read" in caplog.text

    def test_one_clip_of_text_ids_alone(self, read):
        with pytest.raises(DataError, match=r"needs one of .*'text_bert' and 'text' cannot take its place.*decode"):
            read(self.one(audio=None, vision=None))


class TestAbsentFields:
    def test_splits_without_labels(self, read, caplog):
        rows = read({"train": fields_of(2), "test": fields_of(2, 1, regression_labels=None)})
        assert [row["label"] is None for row in rows] == [False, False, True, True]
        (message,) = [text for text in caplog.messages if "without labels" in text]
        assert "split 'test'" in message

    def test_lengths(self, read, caplog):
        read({"train": fields_of(3, audio_lengths=None)})
        (message,) = [text for text in caplog.messages if "no lengths" in text]
        assert "field 'audio': no lengths: frames of zeros at the end of a clip count as padding; 3 of 3" in message

    def test_raw_text(self, read, caplog):
        assert [row["text"] for row in read({"train": fields_of(2, raw_text=None)})] == [None, None]
        assert "split 'train': no field 'raw_text'" in caplog.text and "tokenizer.decode" in caplog.text

    def test_nothing_is_said_where_all_is_there(self, read, caplog):
        read({"train": fields_of(9)})
        assert [text for text in caplog.messages if "not one of the published" not in text] == []

    @pytest.mark.parametrize("missing", ["audio", "vision"])
    def test_a_stream_of_one_split(self, read, caplog, missing):
        data = {"train": fields_of(2, 1, **{missing: None, f"{missing}_lengths": None}), "test": fields_of(2, 2)}
        rows = read(data)
        assert [row[missing] is None for row in rows] == [True, True, False, False]
        assert f"split 'train': no field {missing!r}: these clips have no {missing}" in caplog.text
        assert "split 'test': no field" not in caplog.text

    def test_video_in_place_of_vision(self, read, caplog):
        fields = fields_of()
        fields |= {name.replace("vision", "video"): fields.pop(name) for name in ("vision", "vision_lengths")}
        assert all(row["vision"] is None for row in read({"train": fields}))
        assert "no field 'vision': these clips have no vision. If 'video' holds it" in caplog.text

    @pytest.mark.parametrize("lengths", [[None, 2, 9], None, [4, 2, 9]])
    def test_none_in_the_place_of_frames(self, read, caplog, lengths):
        whole = fields_of()
        audio = [None, whole["audio"][1][:2], whole["audio"][2]]
        rows = read({"train": fields_of(audio=audio, audio_lengths=lengths)})
        assert [None if row["audio"] is None else len(row["audio"]) for row in rows] == [None, 2, 9]
        assert "field 'audio': None in 1 clips, which miss it" in caplog.text and "nothing but zeros" not in caplog.text
        assert read({"train": fields_of(audio=[None] * 3, audio_lengths=None)})[0]["audio"] is None

    def test_lengths_as_whole_floats(self, read):
        floats = np.array([1.0, 2.0, 3.0])
        assert [len(row["audio"]) for row in read({"train": fields_of(audio_lengths=floats)})] == [1, 2, 3]
        with pytest.raises(DataError, match=r"'audio_lengths', clip .*1': expected a whole number .*2\.5"):
            read({"train": fields_of(audio_lengths=np.array([1.0, 2.5, 3.0]))})

    def test_texts_may_be_missing(self, read):
        rows = read({"train": fields_of(3, raw_text=["a", None, np.nan])})
        assert rows[0]["text"] == "a" and rows[1]["text"] is None and np.isnan(rows[2]["text"])
        assert all(np.isnan(row["text"]) for row in read({"train": fields_of(2, raw_text=np.full(2, np.nan))}))


class TestObjects:
    def test_arrays_of_any_length(self, read):
        clips = [np.ones((1, 4)), np.zeros((3, 4)), np.full((2, 4), 2.0)]
        clips[2][1] = 0  # nothing is padded
        objects = np.empty(3, object)
        objects[:] = clips
        for audio in (clips, tuple(clips), objects):
            rows = read({"train": fields_of(3, audio=audio, audio_lengths=None)})
            assert [None if row["audio"] is None else len(row["audio"]) for row in rows] == [1, None, 2]

    def test_numbers_as_objects(self, read):
        fields = fields_of(3)
        rows = read({"train": fields | {"audio": fields["audio"].astype(object)}})
        for row, expected in zip(rows, read({"train": fields}), strict=True):
            assert np.array_equal(row["audio"], expected["audio"])

    @pytest.mark.parametrize(
        "audio", [[np.ones((2, 4)), np.ones((2, 3))], [np.ones(4)] * 2, [np.ones((2, 4)), {}], ["a", "b"]]
    )
    def test_others_are_refused(self, read, audio):
        with pytest.raises(DataError, match=r"field 'audio': expected a numeric array .*or for each clip one"):
            read({"train": fields_of(2, audio=audio, audio_lengths=None)})


class TestOptions:
    def test_an_own_file_with_a_published_name(self, tmp_path):
        path = tmp_path / "unaligned_39.pkl"
        path.write_bytes(pickle.dumps({"train": fields_of(2)}))
        with pytest.raises(DataError, match="own_file"):
            next(read_mmsa(path))
        assert len(list(read_mmsa(path, own_file=True))) == 2

    @pytest.mark.parametrize("option", [{"padding": "left"}, {"use_lengths": "no"}, {"own_file": 1}])
    def test_values(self, path, option):
        path.write_bytes(pickle.dumps({"train": fields_of(2)}))
        with pytest.raises(DataError, match=f"option `{next(iter(option))}` must be"):
            next(read_mmsa(path, **option))
