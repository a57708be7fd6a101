import pickle
import re
import weakref
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from datasets import Array2D, ClassLabel, Dataset, DatasetDict, Features, IterableDatasetDict, List, Value
from test_feature_folder import write_folder, write_labels

from hf_fusion.data.clips import ClipSource, load_clips, read_clips
from hf_fusion.data.prepare import prepare_clips
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import fingerprint

WIDTHS = {"audio": 2, "vision": 3}
FEATURES = Features(
    id=Value("string"),
    text=Value("string"),
    label=Value("float32"),
    audio=Array2D((None, 2), "float32"),
    vision=Array2D((None, 3), "float32"),
)
# Of `all_kinds_of_rows`; a record of a run holds such ones, hence they never change.
GOLDEN_FINGERPRINT = {"train": "c2da264a6aea16a1", "validation": "734966c1da5db3f5", "test": "c482faa49bfca936"}
KINDS = ["mmsa", "npz", "parquet", "hub", "prepared"]


def frames(name, count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, WIDTHS[name])).astype(np.float32)


def clip(name, split="train", **changes):
    """A complete row."""
    seed = sum(map(ord, name))
    row = {"id": name, "split": split, "text": f"This is {name}.", "label": 0.5}
    row |= {stream: frames(stream, 1 + (seed + i) % 5, seed) for i, stream in enumerate(WIDTHS)}
    return row | changes


def all_kinds_of_rows():
    return [
        clip("v$_$1"),
        clip("v$_$2", audio=None, label=-2.6),
        clip("w$_$1", "validation", vision=None, label=3),
        clip("w$_$2", "validation"),
        clip("x$_$1", "test", text=None, label=-0.1),
        clip("x$_$2", "test", audio=None, vision=None, label=0),
    ]


def by_split(rows):
    splits = {}
    for row in rows:
        splits.setdefault(row["split"], []).append(row)
    return splits


def write_mmsa(path, rows, **fields):
    data = {}
    for split, members in by_split(rows).items():
        columns = {
            "id": [row["id"] for row in members],
            "raw_text": [row["text"] or "" for row in members],
            "regression_labels": np.array([row["label"] for row in members]),
            **{name: values[: len(members)] for name, values in fields.items()},
        }
        for name, width in WIDTHS.items():
            lengths = [0 if row[name] is None else len(row[name]) for row in members]
            padded = np.zeros((len(members), 6, width), np.float32)
            for array, row, length in zip(padded, members, lengths, strict=True):
                array[:length] = 0 if row[name] is None else row[name]
            columns |= {name: padded, f"{name}_lengths": lengths}
        data["valid" if split == "validation" else split] = columns
    path.write_bytes(pickle.dumps(data))
    return str(path)


def hub(monkeypatch, found):
    """Puts a data set on the Hub; returns the calls."""
    calls = []

    def load_dataset(name, **options):
        calls.append((name, options))
        return found

    monkeypatch.setattr("hf_fusion.data.hub.load_dataset", load_dataset)
    return calls


def hub_rows(rows):
    """Rows as a table with lists of frames."""
    rows = [{name: value for name, value in row.items() if name != "split"} for row in rows]
    return Dataset.from_list([{k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in r.items()} for r in rows])


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes rows as a source of a kind; returns its name."""

    def write(rows, kind="npz"):
        if kind == "mmsa":
            return write_mmsa(tmp_path / "clips.pkl", rows)
        if kind == "hub":
            hub(monkeypatch, DatasetDict({split: hub_rows(members) for split, members in by_split(rows).items()}))
            return "acme/clips"
        if kind == "prepared":
            prepare_clips(ClipSource(write_folder(tmp_path / "clips", rows, every_file=True)), tmp_path / "prepared")
            return str(tmp_path / "prepared")
        return write_folder(tmp_path / "clips", rows, kind, every_file=True)

    return write


def ids(clips):
    return {split: list(rows["id"]) for split, rows in clips.items()}


class TestFormats:
    @pytest.mark.parametrize("kind", KINDS)
    def test_all_give_the_same_clips(self, write, kind):
        rows = all_kinds_of_rows()[::-1]
        clips = load_clips(ClipSource(write(rows, kind), label_range=(-3, 3)))
        for split, members in by_split(rows).items():
            assert clips[split].features == FEATURES
            for row, expected in zip(clips[split].with_format("numpy"), members, strict=True):
                assert row["id"] == expected["id"] and row["label"] == np.float32(expected["label"])
                for name, width in WIDTHS.items():
                    array = np.zeros((0, width)) if expected[name] is None else expected[name]
                    assert row[name].dtype == np.float32 and row[name].shape == array.shape
                    assert np.array_equal(row[name], array)
            assert list(clips[split]["text"]) == [row["text"] for row in members]

    @pytest.mark.parametrize("kind", KINDS)
    def test_splits_come_in_order(self, write, kind):
        clips = load_clips(ClipSource(write(all_kinds_of_rows()[::-1], kind)))
        assert list(clips) == ["train", "validation", "test"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_all_give_the_same_fingerprint(self, write, kind):
        rows = all_kinds_of_rows()
        expected = {}
        for split, members in by_split(rows).items():
            filled = [
                row | {name: np.zeros((0, width)) for name, width in WIDTHS.items() if row[name] is None}
                for row in members
            ]
            columns = {name: [row[name] for row in filled] for name in FEATURES}
            expected[split] = Dataset.from_dict(columns, features=FEATURES)
        found = fingerprint(load_clips(ClipSource(write(rows, kind))))
        assert found == fingerprint(DatasetDict(expected)) == GOLDEN_FINGERPRINT

    def test_few_clips_are_in_memory_at_a_time(self, monkeypatch):
        alive, most = set(), 0

        def read(source, labelled):
            nonlocal most
            for i in range(2000):
                row = clip(f"v{i}", ("train", "validation", "test")[i % 3])
                row["audio"] = None if i < 500 else frames("audio", 3)
                for name in WIDTHS.keys() - {"audio" if i < 500 else ""}:
                    alive.add((i, name))
                    weakref.finalize(row[name], alive.discard, (i, name))
                most = max(most, len(alive))
                yield row

        monkeypatch.setattr("hf_fusion.data.clips._read", read)
        clips = load_clips(ClipSource("any"))
        assert most < 800 and not alive, "arrays of 3,500"
        assert sum(map(len, clips.values())) == 2000 and all(rows.cache_files for rows in clips.values())
        assert clips["train"].with_format("numpy")[-1]["audio"].shape == (3, 2)

    def test_the_fingerprint_does_not_depend_on_the_other_splits(self, write):
        late = [clip("a", "train", audio=None), clip("b", "test")]
        early = [clip("b", "test"), clip("a", "train", audio=None)]
        one, other = (fingerprint(load_clips(ClipSource(write(rows)))) for rows in (late, early))
        assert one == other

    @pytest.mark.parametrize("name", ["audio", "vision"])
    def test_the_fingerprint_shows_one_changed_value(self, write, name):
        rows = [clip("a"), clip("b"), clip("c", "test")]
        before = fingerprint(load_clips(ClipSource(write(rows))))
        rows[1][name][-1, -1] = np.nextafter(rows[1][name][-1, -1], np.float32(9))
        after = fingerprint(load_clips(ClipSource(write(rows))))
        assert before["train"] != after["train"] and before["test"] == after["test"]

    def test_more_clips_than_are_written_at_a_time_keep_their_order(self, write):
        rows = [clip(f"clip {i}", ("train", "validation")[i % 2], audio=frames("audio", 1, i)) for i in range(600)]
        clips = load_clips(ClipSource(write(rows, "mmsa")))
        for split, members in by_split(rows).items():
            assert list(clips[split]["id"]) == [row["id"] for row in members]
            for row, expected in zip(clips[split].with_format("numpy"), members, strict=True):
                assert np.array_equal(row["audio"], expected["audio"])

    @pytest.mark.parametrize("kind", ["mmsa", "prepared"])
    def test_a_stream_that_no_clip_has_is_no_column(self, write, kind):
        clips = load_clips(ClipSource(write([clip("a", audio=None), clip("b", "test", audio=None)], kind)))
        assert all(rows.column_names == ["id", "text", "label", "vision"] for rows in clips.values())

    def test_numbers_become_float32(self, write):
        rows = [clip("a", audio=np.int16([[1, 2]]), vision=np.float64([[0.1, 1e-60, 16777217]]))]
        (row,) = load_clips(ClipSource(write(rows)))["train"].with_format("numpy")
        assert row["audio"].tolist() == [[1, 2]]
        assert np.array_equal(row["vision"], np.float32([[0.1, 0, 16777216]])) and row["vision"].dtype == np.float32

    def test_the_labels_of_single_modalities_of_ch_sims(self, write, tmp_path):
        fields = {"regression_labels_T": [0.2, -1.0], "regression_labels_A": [None, 1], "regression_labels_V": [0, 0.6]}
        write_mmsa(tmp_path / "sims.pkl", [clip("a", label=0.4), clip("b", label=-0.8)], **fields)
        source = ClipSource(str(tmp_path / "sims.pkl"), label_range=(-1, 1))
        prepare_clips(source, tmp_path / "once")
        prepare_clips(ClipSource(str(tmp_path / "once")), tmp_path / "twice")
        for name in ("sims.pkl", "once", "twice"):
            train = load_clips(ClipSource(str(tmp_path / name)))["train"]
            assert list(train["label_text"]) == pytest.approx([0.2, -1.0])
            assert list(train["label_audio"]) == [None, 1.0]
            assert list(train["label_vision"]) == pytest.approx([0, 0.6])
            assert all(train.features[f"label_{kind}"] == Value("float32") for kind in ("text", "audio", "vision"))

    def test_labels_of_single_modalities_that_one_split_lacks(self, tmp_path):
        write_mmsa(tmp_path / "sims.pkl", [clip("a"), clip("b", "test")], regression_labels_T=[0.25])
        data = pickle.loads((tmp_path / "sims.pkl").read_bytes())
        del data["test"]["regression_labels_T"]
        (tmp_path / "sims.pkl").write_bytes(pickle.dumps(data))
        clips = load_clips(ClipSource(str(tmp_path / "sims.pkl")))
        assert list(clips["train"]["label_text"]) == [0.25] and list(clips["test"]["label_text"]) == [None]

    def test_synthetic_clips(self):
        clips = load_clips(ClipSource(options={"num_train": 6, "num_validation": 2, "num_test": 0, "seed": 3}))
        assert {split: len(rows) for split, rows in clips.items()} == {"train": 6, "validation": 2}
        assert {"id", "text", "audio", "vision", "label", "emphasis"} <= set(clips["train"].column_names)
        assert clips["train"].with_format("numpy")[0]["audio"].shape[1] == 8


class TestHub:
    def test_options_are_passed_on(self, monkeypatch):
        calls = hub(monkeypatch, DatasetDict(dev=hub_rows([clip("a")])))
        clips = load_clips(ClipSource("acme/clips", options={"revision": "abc"}))
        assert calls == [("acme/clips", {"revision": "abc"})] and ids(clips) == {"validation": ["a"]}

    def test_rows_without_ids_are_numbered(self, monkeypatch):
        rows = hub_rows([clip("a"), clip("b")]).remove_columns("id")
        hub(monkeypatch, DatasetDict(train=rows, test=rows))
        assert ids(load_clips(ClipSource("acme/clips"))) == {
            "train": ["train-0", "train-1"], "test": ["test-0", "test-1"],
        }  # fmt: skip

    def test_one_table_is_divided(self, monkeypatch):
        rows = Dataset.from_dict({"text": [f"text {i}" for i in range(200)], "label": [0.5] * 200})
        hub(monkeypatch, rows)
        clips = load_clips(ClipSource("acme/clips", split_shares=(0.5, 0.2, 0.3)))
        assert [len(clips[split]) for split in clips] == pytest.approx([100, 40, 60], abs=20)
        assert {name for names in ids(clips).values() for name in names} == {str(i) for i in range(200)}

    @pytest.mark.parametrize(
        "columns", [{"text": ["x"]}, {"label": [1.0], "sentence": ["x"]}], ids=["no label", "no modality"]
    )
    def test_columns_that_are_missing(self, monkeypatch, columns):
        hub(monkeypatch, DatasetDict(train=Dataset.from_dict(columns)))
        words = f"acme/clips: needed are the column 'label' and some of text, audio, vision; .* {', '.join(columns)}"
        with pytest.raises(DataError, match=words):
            load_clips(ClipSource("acme/clips"))

    @pytest.mark.parametrize("typed", [True, False])
    def test_streams(self, monkeypatch, typed):
        rows = all_kinds_of_rows()
        found = {split: hub_rows(members) for split, members in by_split(rows).items()}
        hub(monkeypatch, DatasetDict(found))
        expected = fingerprint(load_clips(ClipSource("acme/clips")))
        streams = {split: table.to_iterable_dataset() for split, table in found.items()}
        if not typed:
            streams = {split: stream.map(lambda row: row) for split, stream in streams.items()}
        assert typed == (streams["train"].column_names is not None)
        calls = hub(monkeypatch, IterableDatasetDict(streams))
        assert fingerprint(load_clips(ClipSource("acme/clips", options={"streaming": True}))) == expected
        assert calls == [("acme/clips", {"streaming": True})]
        hub(monkeypatch, IterableDatasetDict(test=streams["test"].remove_columns(["label", "id"])))
        assert [row["id"] for row in read_clips(ClipSource("acme/clips"))] == ["test-0", "test-1"]

    def test_columns_that_prediction_needs(self, monkeypatch):
        hub(monkeypatch, DatasetDict(test=Dataset.from_dict({"sentence": ["x"]})))
        with pytest.raises(DataError, match="acme/clips: needed are some of text, audio, vision; there are sentence"):
            list(read_clips(ClipSource("acme/clips")))

    def test_columns_that_prediction_does_without(self, monkeypatch):
        hub(monkeypatch, DatasetDict(test=Dataset.from_dict({"text": ["x"]})))
        (row,) = read_clips(ClipSource("acme/clips"))
        assert (row["text"], row["label"], row["split"]) == ("x", None, "test")


class TestValues:
    @pytest.mark.parametrize("kind", ["mmsa", "npz", "hub"])
    def test_what_is_not_finite_becomes_0_and_is_counted(self, write, kind, caplog):
        rows = [clip("a"), clip("b", "test"), clip("c", "test")]
        rows[0]["audio"] = np.float32([[np.nan, 1], [np.inf, 2]])
        rows[2]["audio"] = np.float32([[3, -np.inf]])
        clips = load_clips(ClipSource(write(rows, kind)))
        assert clips["train"][0]["audio"] == [[0, 1], [0, 2]] and clips["test"][1]["audio"] == [[3, 0]]
        (message,) = [record.getMessage() for record in caplog.records if "not finite" in record.getMessage()]
        assert message.endswith(": 3 audio values were not finite and became 0.")

    def test_values_too_large_for_float32_are_not_finite(self, write, caplog):
        with np.errstate(over="ignore"):
            clips = load_clips(ClipSource(write([clip("a", audio=np.float64([[1e300, 1]]))])))
        assert clips["train"][0]["audio"] == [[0, 1]] and "1 audio values were not finite" in caplog.text

    @pytest.mark.parametrize("text", ["", " \t\n\u3000"], ids=["empty", "white space"])
    @pytest.mark.parametrize("kind", ["mmsa", "npz", "hub"])
    def test_blank_texts_are_missing(self, write, kind, text, caplog):
        clips = load_clips(ClipSource(write([clip("a", text=text), clip("b")], kind)))
        assert list(clips["train"]["text"]) == [None, "This is b."]
        assert "1 texts are empty and count as missing" in caplog.text

    @pytest.mark.parametrize("text", ["nan", " NaN ", "NAN"])
    @pytest.mark.parametrize("kind", ["mmsa", "npz", "hub"])
    def test_a_lone_nan_is_a_missing_text(self, write, kind, text, caplog):
        """Extractors write it for a missing transcript."""
        clips = load_clips(ClipSource(write([clip("a", text=text), clip("b", text="my nan")], kind)))
        assert list(clips["train"]["text"]) == [None, "my nan"]
        assert "1 texts are NaN or 'nan' and count as missing: a." in caplog.text

    @pytest.mark.parametrize("kind", ["mmsa", "npz", "hub"])
    def test_frames_of_zeros_alone_are_a_missing_stream(self, write, kind, caplog):
        clips = load_clips(ClipSource(write([clip("a", audio=np.zeros((3, 2))), clip("b")], kind)))
        assert clips["train"].with_format("numpy")[0]["audio"].shape == (0, WIDTHS["audio"])
        assert "nothing but zeros" in caplog.text and "count" in caplog.text

    def test_missing_texts_and_streams_are_missing_in_prediction_too(self, write):
        name = write([clip("a", text="nan", vision=np.zeros((3, 3))), clip("b", label=None)])
        first, second = read_clips(ClipSource(name))
        assert first["text"] is None and first["vision"] is None and second["label"] is None

    def test_nothing_to_mend_is_nothing_said(self, write, caplog):
        load_clips(ClipSource(write([clip("a"), clip("b", text=None)])))
        assert not caplog.records

    @pytest.mark.parametrize("name", ["audio", "vision"])
    def test_arrays_without_frames_are_missing(self, write, name):
        rows = [clip("a", **{name: np.zeros((0, 7))}), clip("b", **{name: np.zeros((4, 0))}), clip("c")]
        train = load_clips(ClipSource(write(rows)))["train"].with_format("numpy")
        assert [row[name].shape for row in train][:2] == [(0, WIDTHS[name])] * 2

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (np.zeros(3), r"must have the shape \(frames, features\), got \(3,\)"),
            (np.zeros((1, 2, 3)), r"must have the shape \(frames, features\), got \(1, 2, 3\)"),
            (np.array([["a", "b"]]), "is no array of numbers"),
        ],
        ids=["one dimension", "three dimensions", "texts"],
    )
    def test_arrays_of_another_kind_are_named(self, write, value, words):
        with pytest.raises(DataError, match=rf"clips, row 2 \(b\): field 'vision' {words}"):
            load_clips(ClipSource(write([clip("a"), clip("b", vision=value)])))

    def test_frames_of_different_widths_in_one_clip(self, monkeypatch):
        hub(monkeypatch, DatasetDict(train=Dataset.from_list([{"audio": [[1.0, 2.0], [1.0]], "label": 1.0}])))
        with pytest.raises(DataError, match=r"row 1 \(0\): field 'audio' is no array of numbers"):
            load_clips(ClipSource("acme/clips"))

    @pytest.mark.parametrize("name", ["audio", "vision"])
    def test_widths_must_agree(self, write, name):
        width = WIDTHS[name]
        rows = [clip("a"), clip("b", **{name: None}), clip("c", "test", **{name: np.ones((2, width + 1))})]
        words = rf"clips, row 3 \(c\): field '{name}' has {width + 1} features, the rows before {width}"
        with pytest.raises(DataError, match=words):
            load_clips(ClipSource(write(rows)))
        rest = tuple({"text", "audio", "vision"} - {name})
        assert len(load_clips(ClipSource(write(rows), modalities=rest))) == 2, "unless the stream is not used"

    def test_texts_of_another_kind(self, write):
        with pytest.raises(DataError, match=r"clips, row 2 \(b\): field 'text' must be a text, got 5"):
            load_clips(ClipSource(write([clip("a"), clip("b", text=5)])))


class TestSplits:
    def test_aliases(self, write):
        names = ("valid", "val", "dev", "validation", "test", "train")
        clips = load_clips(ClipSource(write([clip(name, name) for name in names])))
        assert ids(clips) == {"train": ["train"], "validation": list(names[:4]), "test": ["test"]}

    @pytest.mark.parametrize("kind", ["npz", "hub"])
    def test_unknown_ones_are_named(self, write, kind):
        source = ClipSource(write([clip("a"), clip("b", "holdout"), clip("c", "Dev")], kind))
        with pytest.raises(DataError, match=r"1 x unknown split: row 2 \(b\): 'holdout' is none of train, validation"):
            load_clips(source)
        assert ids(load_clips(replace(source, rejected="drop"))) == {"train": ["a"], "validation": ["c"]}

    def test_a_video_lies_in_one_split(self, write):
        rows = [clip(f"video {i % 60}$_${i}", None, audio=None, vision=None) for i in range(300)]
        drawn = [ids(load_clips(ClipSource(write(rows), split_seed=seed))) for seed in (0, 0, 1)]
        assert drawn[0] == drawn[1] != drawn[2]
        videos = {split: {name.split("$_$")[0] for name in names} for split, names in drawn[0].items()}
        assert sum(map(len, videos.values())) == 60 == len(set().union(*videos.values()))
        assert [len(videos[split]) for split in ("train", "validation", "test")] == pytest.approx([48, 6, 6], abs=7)

    def test_shares(self, write):
        rows = [clip(str(i), None, audio=None, vision=None) for i in range(100)]
        clips = load_clips(ClipSource(write(rows), split_shares=(0.0, 0.5, 0.5)))
        assert list(clips) == ["validation", "test"] and len(clips["test"]) == pytest.approx(50, abs=20)

    @pytest.mark.parametrize("empty", [None, "", "nan"])
    def test_clips_without_one_beside_others_are_not_drawn(self, write, empty):
        source = ClipSource(write([clip("a", "Train"), clip("b", empty), clip("c", "VAL"), clip("d", empty)]))
        with pytest.raises(DataError, match=r"2 x no split, though other rows have one: row 2 \(b\); row 4 \(d\)"):
            load_clips(source)
        assert ids(load_clips(replace(source, rejected="drop"))) == {"train": ["a"], "validation": ["c"]}
        source = ClipSource(write([clip("a", empty), clip("b", "train")]), rejected="drop")
        words = r"row 2 \(b\) names a split \('train'\), rows before have none\. Give every clip a split, or none\."
        with pytest.raises(DataError, match=words):
            load_clips(source)

    @pytest.mark.parametrize("kind", KINDS)
    def test_validation_that_is_missing_is_drawn_by_videos(self, write, kind, caplog):
        rows = [clip(f"v{i // 2}$_${i}", audio=None, vision=None) for i in range(60)]
        name = write([*rows, clip("x", "test")], kind)
        clips = load_clips(ClipSource(name, split_shares=(0.6, 0.2, 0.2)))
        drawn = {split: {clip_id.split("$")[0] for clip_id in found} for split, found in ids(clips).items()}
        assert drawn["test"] == {"x"} and not drawn["train"] & drawn["validation"]
        assert len(drawn["train"] | drawn["validation"]) == 30 and len(drawn["validation"]) == pytest.approx(8, abs=6)
        count = len(clips["validation"])
        assert f"{name}: there is no validation split; {count} of 60 training rows are drawn for it." in caplog.text

    @pytest.mark.parametrize("kind", KINDS)
    def test_train_alone_is_divided(self, write, kind):
        name = write([clip(f"v{i}", audio=None, vision=None) for i in range(60)], kind)
        assert list(load_clips(ClipSource(name))) == ["train", "validation", "test"]
        assert list(load_clips(ClipSource(name, split_shares=(1.0, 0.0, 0.0)))) == ["train"]

    def test_a_column_of_splits_on_the_hub(self, monkeypatch):
        hub(monkeypatch, hub_rows([clip("a"), clip("b")]).add_column("split", ["test", "Dev"]))
        assert ids(load_clips(ClipSource("acme/clips"))) == {"validation": ["b"], "test": ["a"]}


BAD = {
    "missing label": ({"label": None}, "no label"),
    "label NaN": ({"label": float("nan")}, "no label"),
    "label infinite": ({"label": float("inf")}, "no label"),
    "label no number": (
        {"label": "good"},
        "a label that is no number (if it is a class, set `classes` to auto, or to the names of the classes)",
    ),
    "label too high": ({"label": 3.01}, "a label outside the range -3 to 3"),
    "label too low": ({"label": -4}, "a label outside the range -3 to 3"),
    "no modality": ({"text": " ", "audio": None, "vision": None}, "no text and no audio and no vision"),
    "repeated id": ({"id": "good"}, "an id that came before"),
}


class TestRejectedRows:
    @pytest.mark.parametrize(("changes", "reason"), BAD.values(), ids=BAD)
    def test_each_has_a_reason_and_a_place(self, write, changes, reason):
        bad = clip("bad", **changes)
        name = write([clip("good"), bad, clip("other", "test")])
        words = re.escape(f"clips: 1 unusable row\n  1 x {reason}: row 2 ({bad['id']})\n")
        with pytest.raises(DataError, match=words):
            load_clips(ClipSource(name, label_range=(-3, 3)))

    @pytest.mark.parametrize(("changes", "reason"), BAD.values(), ids=BAD)
    def test_are_left_out_with_a_warning_on_request(self, write, caplog, changes, reason):
        name = write([clip("good"), clip("bad", **changes), clip("other", "test")])
        clips = load_clips(ClipSource(name, label_range=(-3, 3), rejected="drop"))
        assert ids(clips) == {"train": ["good"], "test": ["other"]}
        assert reason in caplog.text and "(left out)" in caplog.text

    def test_all_are_counted_before_the_error(self, write):
        rows = [clip(f"row {i}", "test" if i % 2 else "train", label=None) for i in range(1, 8)]
        rows += [clip("far", label=7), clip("fine")]
        with pytest.raises(DataError) as error:
            load_clips(ClipSource(write(rows), label_range=(-3, 3)))
        assert "8 unusable rows\n" in str(error.value)
        assert "  7 x no label: row 1 (row 1); row 2 (row 2); row 3" in str(error.value)
        assert "  1 x a label outside the range -3 to 3: row 8 (far)" in str(error.value)

    def test_any_number_is_a_label_without_a_range(self, write):
        assert load_clips(ClipSource(write([clip("a", label=-70)])))["train"][0]["label"] == -70

    @pytest.mark.parametrize("kind", ["npz", "prepared"])
    def test_the_ends_belong_to_the_range(self, write, kind):
        name = write([clip("a", label=-0.1), clip("b", label=0.1)], kind)  # as float32 they lie outside
        assert len(load_clips(ClipSource(name, label_range=(-0.1, 0.1)))["train"]) == 2

    def test_no_row_left(self, write):
        with pytest.raises(DataError, match="clips has no clips"):
            load_clips(ClipSource(write([clip("a", label=None)]), rejected="drop"))

    def test_the_range_holds_for_prepared_clips_too(self, write, caplog):
        name = write([clip("a", label=0.5), clip("b", label=-2), clip("c", "test", label=3)], "prepared")
        with pytest.raises(DataError, match=r"prepared \(train\): 1 unusable row\n  1 x a label outside.*row 2 \(b\)"):
            load_clips(ClipSource(name, label_range=(-1, 1)))
        assert ids(load_clips(ClipSource(name, label_range=(-1, 1), rejected="drop"))) == {"train": ["a"]}
        assert "row 2 (b)" in caplog.text and "row 1 (c)" in caplog.text

    def test_the_range_holds_for_synthetic_clips_too(self):
        with pytest.raises(DataError, match="a label outside the range -1 to 1"):
            load_clips(ClipSource(label_range=(-1, 1), options={"num_train": 20, "num_validation": 1, "num_test": 1}))


class TestModalities:
    ALONE = [("text",), ("audio",), ("vision",)]

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("kept", [*ALONE, ("vision", "text")], ids="+".join)
    def test_the_other_columns_go(self, write, kind, kept):
        clips = load_clips(ClipSource(write([clip("a"), clip("b", "test")], kind), modalities=kept))
        for rows in clips.values():
            assert set(rows.column_names) == {"id", "label", *kept}
            assert all(rows.features[name] == FEATURES[name] for name in kept)

    def test_of_synthetic_clips(self):
        source = ClipSource(modalities=("vision",), options={"num_train": 2, "num_validation": 1, "num_test": 1})
        columns = set(load_clips(source)["test"].column_names)
        assert {"vision", "label"} <= columns and not columns & {"text", "audio"}

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("kept", ALONE, ids="+".join)
    def test_rows_without_them_are_rejected(self, write, kind, kept, caplog):
        rows = [clip("a"), clip("b", **{kept[0]: None}), clip("c", "test")]
        name = write(rows, kind)
        row = r"row \d \(b\)"
        with pytest.raises(DataError, match=rf"1 unusable row\n  1 x no {kept[0]}: {row}"):
            load_clips(ClipSource(name, modalities=kept))
        clips = load_clips(ClipSource(name, modalities=kept, rejected="drop"))
        assert ids(clips) == {"train": ["a"], "test": ["c"]} and f"no {kept[0]}" in caplog.text

    @pytest.mark.parametrize("kind", ["mmsa", "prepared"])
    def test_one_of_two_is_enough(self, write, kind):
        rows = [clip("a", audio=None), clip("b", text=None), clip("c", text=None, audio=None)]
        with pytest.raises(DataError, match=r"1 x no text and no audio: row 3 \(c\)"):
            load_clips(ClipSource(write(rows, kind), modalities=("text", "audio")))

    def test_a_stream_that_prepared_clips_do_not_have(self, write):
        name = write([clip("a", audio=None)], "prepared")
        with pytest.raises(DataError, match=r"prepared \(train\) has none of audio"):
            load_clips(ClipSource(name, modalities=("audio",)))

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("absent", ["text", "audio", "vision"])
    def test_one_that_no_clip_has_is_named(self, write, kind, absent, caplog):
        name = write([clip("a", **{absent: None}), clip("b", "test", **{absent: None})], kind)
        rest = tuple(other for other in ("text", "audio", "vision") if other != absent)
        load_clips(ClipSource(name))
        assert f"no clip has {absent}" in caplog.text
        caplog.clear()
        assert ids(load_clips(ClipSource(name, modalities=rest))) == {"train": ["a"], "test": ["b"]}
        assert "no clip has" not in caplog.text


class TestWrongSources:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"modalities": ("text", "video")}, r"`modalities` must be some of text, audio, vision, got .*'video'"),
            ({"modalities": ()}, r"`modalities` must be some of text, audio, vision, got \(\)"),
            ({"rejected": "ignore"}, "`rejected` must be 'error' or 'drop', got 'ignore'"),
            ({"split_shares": (0.5, 0.6, 0.1)}, "`split_shares` must be three shares that sum to 1"),
        ],
        ids=lambda value: "".join(value) if isinstance(value, dict) else "",
    )
    def test_arguments(self, arguments, words):
        with pytest.raises(DataError, match=words):
            ClipSource(**arguments)

    @pytest.mark.parametrize("kind", ["mmsa", "npz", "prepared"])
    def test_options_that_a_reader_does_not_have_are_named(self, write, kind):
        name = write([clip("a")], kind)
        with pytest.raises(DataError, match=rf"{name}: the options .*'context': 2.* are not those of this source"):
            load_clips(ClipSource(name, options={"context": 2}))

    def test_options_that_the_corpus_does_not_have_are_named(self):
        with pytest.raises(DataError, match=r"synthetic-clips: the options .*'rows': 2.*unexpected"):
            load_clips(ClipSource(options={"rows": 2}))

    def test_options_that_the_utterances_do_not_have_are_named(self, tmp_path):
        with pytest.raises(DataError, match=r"u\.npz: the options .*'frames': 2.*unexpected"):
            load_clips(ClipSource(str(tmp_path / "u.npz"), options={"frames": 2}))

    @pytest.mark.parametrize("name", ["nothing.pkl", "nothing.npz", "nothing.hdf5", "nothing", "nothing/"])
    def test_missing_files_and_folders(self, tmp_path, name):
        with pytest.raises(FileNotFoundError, match=r"nothing.*no such file|No such file.*nothing"):
            load_clips(ClipSource(f"{tmp_path}/{name}"))

    def test_a_folder_without_clips(self, tmp_path):
        with pytest.raises(DataError, match="no labels file; expected one of"):
            load_clips(ClipSource(str(tmp_path)))

    def test_a_file_of_another_kind(self, tmp_path):
        path = tmp_path / "clips.csv"
        path.write_text("id,label\na,1\n")
        with pytest.raises(DataError, match=r"clips\.csv: unknown kind of file. Known are MMSA pickles"):
            load_clips(ClipSource(str(path)))

    def test_a_labels_file_without_rows(self, tmp_path):
        (tmp_path / "labels.csv").write_text("id,label\n")
        with pytest.raises(DataError, match="has no clips"):
            load_clips(ClipSource(str(tmp_path)))


def test_a_hub_data_set_in_one_piece_is_divided(monkeypatch):
    rows = Dataset.from_list([{"id": f"v{i}$_$0", "text": "x", "label": 0.5} for i in range(60)])
    for found in (DatasetDict(train=rows), rows):
        hub(monkeypatch, found)
        clips = load_clips(ClipSource("acme/clips"))
        assert set(clips) == {"train", "validation", "test"} and sum(map(len, clips.values())) == 60


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"text": ["a"], "label": [1.0]}, "was not written by `hf-fusion prepare`"),
        ({"id": ["a"], "label": [1.0], "audio": [[[1.0]]]}, "was not written by `hf-fusion prepare`"),
        ({"id": ["a"], "text": ["a"]}, "needed are the column 'label'"),
    ],
    ids=["id", "frames", "label"],
)
def test_a_saved_data_set_of_another_kind(tmp_path, table, words):
    DatasetDict({"train": Dataset.from_dict(table)}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=words):
        load_clips(ClipSource(str(tmp_path / "saved")))


class TestClipsWithoutLabels:
    def data(self, tmp_path):
        name = write_mmsa(tmp_path / "own.pkl", [clip("a"), clip("b", "test"), clip("c", "test")])
        data = pickle.loads((tmp_path / "own.pkl").read_bytes())
        del data["test"]["regression_labels"]
        (tmp_path / "own.pkl").write_bytes(pickle.dumps(data))
        return name

    def test_are_read_for_prediction_and_refused_for_training(self, tmp_path):
        name = self.data(tmp_path)
        assert [row["label"] is None for row in read_clips(ClipSource(name))] == [False, True, True]
        with pytest.raises(DataError, match=r"2 unusable rows\n  2 x no label: row 2 \(b\); row 3 \(c\)"):
            load_clips(ClipSource(name))
        assert ids(load_clips(ClipSource(name, rejected="drop"))) == {"train": ["a"]}


@pytest.mark.parametrize("options", [{"own_file": True}, {"padding": "end"}, {"use_lengths": False}])
def test_options_of_feature_files(tmp_path, options):
    write_mmsa(tmp_path / "own.pkl", [clip("a"), clip("b")])
    assert len(load_clips(ClipSource(str(tmp_path / "own.pkl"), options=options))["train"]) == 2


def test_folders_with_too_few_features(tmp_path):
    name = write_folder(tmp_path / "clips", [clip("a", audio=None, vision=None), clip("b")])
    with pytest.raises(DataError, match="1 of 2 clips have no file of features"):
        load_clips(ClipSource(name))
    for allowed in ({"allow_missing_features": True}, {"options": {"allow_missing_features": True}}):
        assert len(load_clips(ClipSource(name, **allowed))["train"]) == 2


class TestClasses:
    """Labels that are classes, declared by `classes`."""

    WORDS = ("happy", "sad", "sad", "happy", "sad", "happy")

    @pytest.fixture
    def rows(self):
        return [row | {"label": word} for row, word in zip(all_kinds_of_rows(), self.WORDS, strict=True)]

    def test_of_a_folder(self, rows, tmp_path):
        name = write_folder(tmp_path / "clips", rows, every_file=True)
        clips = load_clips(name, classes=["auto"])
        assert clips["train"].features["label"] == ClassLabel(names=["happy", "sad"])
        assert [clips[split]["label"][:] for split in clips] == [[0, 1], [1, 0], [1, 0]]
        assert load_clips(name, classes=["sad", "happy"])["train"]["label"][:] == [1, 0]
        scores = load_clips(write_folder(tmp_path / "scores", all_kinds_of_rows(), every_file=True))
        for split in clips:
            for one, other in zip(clips[split].with_format("numpy"), scores[split].with_format("numpy"), strict=True):
                assert all(np.array_equal(one[name], other[name]) for name in ("id", "text", "audio", "vision"))

    def test_words_need_the_field(self, rows, tmp_path):
        words = (
            "6 x a label that is no number (if it is a class, set `classes` to auto, or to the names of the classes)"
        )
        with pytest.raises(DataError, match=re.escape(words)):
            load_clips(write_folder(tmp_path / "clips", rows, every_file=True))

    def test_unknown_and_missing_ones(self, rows, tmp_path, caplog):
        rows[3]["label"], rows[5]["label"] = "glad", None
        name = write_folder(tmp_path / "clips", rows, every_file=True)
        with pytest.raises(DataError, match=r"none of the classes sad, happy: 'glad': row 4(.|\n)*no label: row 6"):
            load_clips(name, classes=["sad", "happy"])
        clips = load_clips(name, classes=["sad", "happy"], rejected_rows="drop")
        assert [clips[split]["label"][:] for split in clips] == [[1, 0], [0], [0]] and "(left out)" in caplog.text
        with pytest.raises(DataError, match=r"validation rows have classes that no training row has: glad \(1 rows\)"):
            load_clips(name, classes=["auto"], rejected_rows="drop")

    def test_a_range_is_for_scores(self):
        with pytest.raises(DataError, match="`label_range` is for scores, `classes` for classes: set one of them"):
            ClipSource("clips", classes=("a", "b"), label_range=(-1, 1))

    def test_of_a_prepared_folder(self, rows, tmp_path):
        source = ClipSource(write_folder(tmp_path / "clips", rows, every_file=True), classes=("sad", "happy"))
        report = prepare_clips(source, tmp_path / "prepared")
        assert report["splits"]["train"]["label"] == {"classes": {"sad": 1, "happy": 1}}
        name = str(tmp_path / "prepared")
        for classes in (None, ["auto"], ["sad", "happy"]):
            clips = load_clips(name, classes=classes)
            assert clips["test"].features["label"].names == ["sad", "happy"] and clips["test"]["label"][:] == [0, 1]
        assert load_clips(name, classes=["happy", "sad"])["test"]["label"][:] == [1, 0]
        with pytest.raises(DataError, match="none of the classes sad, glad: 'happy'"):
            load_clips(name, classes=["sad", "glad"])
        assert [row["label"] for row in read_clips(ClipSource(name))][:2] == ["happy", "sad"]

    def test_of_rows_in_memory(self):
        rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": [2, 0, 1]})
        words = rows.cast_column("label", ClassLabel(names=["sad", "angry", "calm"]))
        clips = load_clips(words, classes=["auto"], split_shares=(1, 0, 0))["train"]
        assert clips["label"][:] == [2, 0, 1] and clips.features["label"].names == ["sad", "angry", "calm"]
        clips = load_clips(words, classes=["angry", "calm", "sad"], split_shares=(1, 0, 0))["train"]
        assert clips["label"][:] == [1, 2, 0]
        assert load_clips(rows, split_shares=(1, 0, 0))["train"]["label"][:] == [2.0, 0.0, 1.0]


class TestSeveralLabels:
    """Labels that are sets of classes, declared by `several_labels`."""

    SETS = (["happy", "sad"], [], ["sad"], ["happy"], ["sad", "happy"], [])
    NUMBERS = {"train": [[0, 1], []], "validation": [[1], [0]], "test": [[0, 1], []]}

    @pytest.fixture
    def rows(self):
        return [row | {"label": labels} for row, labels in zip(all_kinds_of_rows(), self.SETS, strict=True)]

    @pytest.fixture
    def folder(self, tmp_path):
        """Writes these clips with other labels."""
        return lambda rows, kind: self.write(tmp_path / kind.strip("."), rows, kind)

    @staticmethod
    def write(folder, rows, kind):
        name = write_folder(folder, rows, every_file=True)
        (folder / "labels.jsonl").unlink()
        write_labels(folder, [{name: row[name] for name in ("id", "split", "label", "text")} for row in rows], kind)
        return name

    def check(self, clips):
        assert clips["train"].features["label"] == List(ClassLabel(names=["happy", "sad"]))
        assert {split: rows["label"][:] for split, rows in clips.items()} == self.NUMBERS

    @pytest.mark.parametrize("kind", [".jsonl", ".parquet"])
    def test_lists(self, rows, folder, kind):
        name = folder(rows, kind)
        self.check(load_clips(name, several_labels=True))
        assert load_clips(name, classes=["sad", "happy"], several_labels=True)["train"]["label"][:] == [[0, 1], []]
        with pytest.raises(DataError, match=r"no number .if each clip has any number of classes, set `several_labels`"):
            load_clips(name)
        with pytest.raises(DataError, match=r"no class .if each clip has any number of classes, set `several_labels`"):
            load_clips(name, classes=["auto"])
        with pytest.raises(DataError, match=r"none of the classes sad, glad: 'happy': row 1"):
            load_clips(name, classes=["sad", "glad"], several_labels=True)

    @pytest.mark.parametrize("kind", [".csv", ".tsv"])
    def test_text(self, rows, folder, kind):
        texts = [row | {"label": " ; ".join(row["label"]) or "[]"} for row in rows]
        self.check(load_clips(folder(texts, kind), several_labels=True))
        with pytest.raises(DataError, match=r"2 x no label .a clip to which no class applies has the label \[\]"):
            load_clips(folder([row | {"label": "" if row["label"] == "[]" else row["label"]} for row in texts], kind),
                       several_labels=True)  # fmt: skip

    def test_vectors(self, rows, folder, tmp_path):
        vectors = [[int(name in row["label"]) for name in ("happy", "sad")] for row in rows]
        rows = [row | {"label": vector} for row, vector in zip(rows, vectors, strict=True)]
        names = ["happy", "sad"]
        self.check(load_clips(folder(rows, ".jsonl"), classes=names, several_labels=True))
        self.check(load_clips(write_mmsa(tmp_path / "clips.pkl", rows), classes=names, several_labels=True))
        with pytest.raises(DataError, match=r"6 x a label that is no number .if each clip has any number of classes"):
            load_clips(write_mmsa(tmp_path / "clips.pkl", rows))

    def test_of_a_prepared_folder(self, rows, folder, tmp_path):
        report = prepare_clips(ClipSource(folder(rows, ".jsonl"), several_labels=True), tmp_path / "prepared")
        assert report["splits"]["train"]["label"] == {"classes": {"happy": 1, "sad": 1}, "without": 1}
        name = str(tmp_path / "prepared")
        for changes in ({}, {"several_labels": True}, {"classes": ["auto"]}, {"classes": ["happy", "sad"]}):
            self.check(load_clips(name, **changes))
        assert [row["label"] for row in read_clips(ClipSource(name))][:2] == [["happy", "sad"], []]

    def test_of_rows_in_memory(self):
        frame = pd.DataFrame({"text": ["a", "b", "c"], "label": [["x", "y"], [], ["y"]]})
        clips = load_clips(frame, several_labels=True, split_shares=(1, 0, 0))["train"]
        assert clips["label"][:] == [[0, 1], [], [1]] and clips.features["label"].feature.names == ["x", "y"]
        again = load_clips(clips, several_labels=True, split_shares=(1, 0, 0))["train"]
        assert again["label"][:] == clips["label"][:] and again.features["label"] == clips.features["label"]

    def test_of_the_synthetic_corpus(self):
        options = {"num_train": 30, "num_validation": 3, "num_test": 3, "several_labels": True}
        clips = load_clips("synthetic-clips", options=options)["train"]
        assert clips.features["label"].feature.names == ["praise", "complaint", "sarcasm"]
        assert {len(labels) for labels in clips["label"]} >= {0, 1, 2}
