import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_fusion.data.clips import ClipSource, load_clips, read_clips
from hf_fusion.data.decoding import AS_FOUND, TextFormat
from hf_fusion.data.feature_folder import read_feature_folder
from hf_fusion.utils.errors import DataError

AUDIO = np.float32([[0.25, -1], [2, 3.5], [0, 1e-3]])
VISION = np.float32([[1, 2, 3]])
LABELS = [
    {"id": "v$_$1", "text": 'said "no", then left', "label": "-1.5", "split": "train"},
    {"id": "v$_$2", "text": "中文", "label": "2", "split": "dev"},
]


def write_labels(folder, rows, kind=".jsonl"):
    path = folder / f"labels{kind}"
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if kind == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)


def write_parquet(path, frames):
    pq.write_table(pa.table({f"feature {i}": column for i, column in enumerate(np.transpose(frames))}), path)


def write_folder(folder, rows, kind="npz", every_file=False):
    """
    A folder of features from rows whose `audio` and `vision` are arrays or absent; returns its name. With `every_file`
    a clip without frames has files without frames.
    """
    folder.mkdir(exist_ok=True)
    streams = ("audio", "vision")
    write_labels(folder, [{name: value for name, value in row.items() if name not in streams} for row in rows])
    for row in rows:
        found = {name: row[name] for name in streams if row.get(name) is not None}
        if every_file:
            found = dict.fromkeys(streams, np.zeros((0, 1), np.float32)) | found
        if kind == "npz" and found:
            np.savez(folder / f"{row['id']}.npz", **found)
        for name, frames in found.items() if kind == "parquet" else ():
            write_parquet(folder / f"{row['id']}.{name}.parquet", frames)
    return str(folder)


def read_all(folder):
    return list(read_feature_folder(str(folder), allow_missing_features=True))


def read_one(folder, **changes):
    write_labels(folder, [LABELS[0] | changes])
    (row,) = read_all(folder)
    return row


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_labels_of_every_kind(tmp_path, kind):
    write_labels(tmp_path, LABELS, kind)
    assert read_all(tmp_path) == [{**row, "audio": None, "vision": None} for row in LABELS]


def test_labels_as_they_are_written(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id;label;text\na;1.5;caf\xe9\n", encoding="cp1252")
    source = ClipSource(str(tmp_path), modalities=("text",), text_format=TextFormat("cp1252", ";"))
    (row,) = read_clips(source)
    assert (row["id"], row["label"], row["text"]) == ("a", "1.5", "caf\xe9")
    with pytest.raises(DataError, match=r"labels\.csv, line 2: field 'text' is not UTF-8"):
        list(read_clips(replace(source, text_format=AS_FOUND)))
    path.unlink()
    write_labels(tmp_path, LABELS)
    with pytest.raises(DataError, match=r"labels\.jsonl: takes no `delimiter`, which is of \.csv, \.tsv: leave it"):
        list(read_clips(source))


def test_a_column_of_ids_is_enough(tmp_path):
    write_labels(tmp_path, [{"id": 7}])
    (row,) = read_all(tmp_path)
    assert row == {"id": "7", "split": None, "text": None, "label": None, "audio": None, "vision": None}


def test_empty_cells_of_a_csv_are_missing_labels_and_splits(tmp_path):
    write_labels(tmp_path, [{"id": "a", "label": "", "split": "", "text": "NA"}], ".csv")
    (row,) = read_all(tmp_path)
    assert (row["label"], row["split"], row["text"]) == (None, None, "NA")


@pytest.mark.parametrize("kind", ["npz", "parquet"])
@pytest.mark.parametrize("there", [(), ("audio",), ("vision",), ("audio", "vision")], ids=lambda names: "+".join(names))
def test_frames(tmp_path, kind, there):
    frames = {name: array for name, array in (("audio", AUDIO), ("vision", VISION)) if name in there}
    write_folder(tmp_path, [LABELS[0] | frames, LABELS[1]], kind)
    row, other = read_all(tmp_path)
    for name in ("audio", "vision"):
        assert other[name] is None
        if name in there:
            assert row[name].dtype == np.float32 and np.array_equal(row[name], frames[name])
        else:
            assert row[name] is None


def test_the_streams_of_a_clip_may_be_of_either_kind(tmp_path):
    np.savez_compressed(tmp_path / "v$_$1.npz", audio=AUDIO, other=np.zeros(3))
    write_parquet(tmp_path / "v$_$1.vision.parquet", VISION)
    row = read_one(tmp_path)
    assert np.array_equal(row["audio"], AUDIO) and np.array_equal(row["vision"], VISION) and "other" not in row


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_objects_are_refused_and_not_run(tmp_path):
    canary = tmp_path / "canary"
    objects = np.array([[Canary(canary)]], dtype=object)
    np.savez(tmp_path / "v$_$1.npz", audio=objects)
    with pytest.raises(DataError, match=r"v\$_\$1\.npz: cannot be read.*allow_pickle=False"):
        read_one(tmp_path)
    assert not canary.exists()
    np.load(tmp_path / "v$_$1.npz", allow_pickle=True)["audio"]
    assert canary.exists(), "the canary works"


class TestDamage:
    def test_files_that_are_no_npz(self, tmp_path):
        with open(tmp_path / "one array.npz", "wb") as file:
            np.save(file, AUDIO)
        (tmp_path / "text.npz").write_text("no archive")
        (tmp_path / "empty.npz").write_bytes(b"")
        for name in ("one array", "text", "empty"):
            with pytest.raises(DataError, match=rf"{name}\.npz: cannot be read"):
                read_one(tmp_path, id=name)

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_any_change_of_an_npz_gives_the_arrays_or_a_data_error(self, tmp_path, save):
        path = tmp_path / "v$_$1.npz"
        save(path, audio=AUDIO, vision=VISION)
        content, errors = path.read_bytes(), 0
        for place in range(0, len(content), 7):
            for changed in (content[:place], content[:place] + b"\xc3" + content[place + 1 :]):
                path.write_bytes(changed)
                try:
                    read_one(tmp_path)
                except DataError as error:
                    assert "v$_$1.npz" in str(error)
                    errors += 1
        assert errors > len(content) / 7, "at least those that are cut off"

    @pytest.mark.parametrize(
        "content",
        [b"no parquet", pa.table({"a": ["x"]}), pa.table({"a": [[1.0, 2.0], [1.0]]}), pa.table({})],
        ids=["bytes", "texts", "lists", "no columns"],
    )
    def test_parquet(self, tmp_path, content):
        path = tmp_path / "v$_$1.audio.parquet"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            pq.write_table(content, path)
        with pytest.raises(DataError, match=r"v\$_\$1\.audio\.parquet: expected a row for each frame"):
            read_one(tmp_path)

    def test_gaps_in_parquet_are_not_finite(self, tmp_path):
        pq.write_table(pa.table({"a": [1, None, 3]}), tmp_path / "v$_$1.audio.parquet")
        np.testing.assert_array_equal(read_one(tmp_path)["audio"], np.float32([[1], [np.nan], [3]]))


@pytest.mark.parametrize("name", ["../secret", "a/b", "/secret", "secret/", ".", "", None])
def test_ids_never_lead_out_of_the_folder(tmp_path, name):
    (tmp_path / "clips" / "a").mkdir(parents=True)
    for place in ("secret.npz", "clips/a/b.npz", "clips/secret.npz", "clips/.npz"):
        np.savez(tmp_path / place, audio=AUDIO)
    with pytest.raises(DataError, match=rf"labels\.jsonl, row 1: the id '{name or ''}' is no file name"):
        read_one(tmp_path / "clips", id=name)


def test_labels_without_ids(tmp_path):
    write_labels(tmp_path, [{"name": "a", "label": 1}])
    with pytest.raises(DataError, match=r"labels\.jsonl: no column 'id'; there are name, label"):
        read_all(tmp_path)


def test_no_labels_file(tmp_path):
    with pytest.raises(DataError, match=r"no labels file; expected one of labels\.csv, labels\.tsv, labels\.jsonl"):
        read_all(tmp_path)


def test_a_malformed_row_of_labels_is_named(tmp_path):
    (tmp_path / "labels.csv").write_text("id,label\na,1\nb\n")
    with pytest.raises(DataError, match=r"labels\.csv, line 3"):
        read_all(tmp_path)


def test_arrays_of_other_names(tmp_path):
    write_labels(tmp_path, LABELS)
    np.savez(tmp_path / "v$_$1.npz", audios=AUDIO)
    with pytest.raises(DataError, match=r"v\$_\$1.npz: expected the arrays 'audio' or 'vision', found 'audios'"):
        read_all(tmp_path)


class TestFilesAndClips:
    def write(self, tmp_path, clips, files):
        write_labels(tmp_path, [{"id": clip, "text": "good", "label": "1"} for clip in clips], ".csv")
        for name in files:
            np.savez(tmp_path / f"{name}.npz", audio=AUDIO)
        return str(tmp_path)

    def test_more_than_a_tenth_without_features_stops(self, tmp_path):
        folder = self.write(tmp_path, [f"v{i}" for i in range(10)], [f"v{i}" for i in range(8)])
        with pytest.raises(DataError, match=r"labels\.csv: 2 of 10 clips have no file of features \(v8, v9\)\. More"):
            next(read_feature_folder(folder))
        assert len(list(read_feature_folder(folder, allow_missing_features=True))) == 10
        assert len(list(read_feature_folder(folder, ("text",)))) == 10, "a model of text needs none"

    def test_a_tenth_is_told(self, tmp_path, caplog):
        folder = self.write(tmp_path, [f"v{i}" for i in range(10)], [f"v{i}" for i in range(9)])
        assert len(list(read_feature_folder(folder))) == 10
        assert "1 of 10 clips have no file of features (v9)." in caplog.text

    def test_nothing_is_said_where_all_are_there(self, tmp_path, caplog):
        list(read_feature_folder(self.write(tmp_path, ["a", "b"], ["a", "b"])))
        assert not caplog.records

    def test_files_without_a_clip(self, tmp_path, caplog):
        folder = self.write(tmp_path, ["a"], ["a", *(f"x{i}" for i in range(7))])
        write_parquet(tmp_path / "y.vision.parquet", VISION)
        list(read_feature_folder(folder))
        shown = ", ".join(f"x{i}.npz" for i in range(5))
        assert f"8 files of features belong to no clip ({shown}, ...)." in caplog.text and "near" not in caplog.text

    @pytest.mark.parametrize("name", ["clip7_", "Clip-7", "clip_7", "clip7_features", "clip7.feat"])
    def test_near_names(self, tmp_path, name):
        with pytest.raises(DataError, match=rf"near names: {name}\.npz for clip7"):
            next(read_feature_folder(self.write(tmp_path, ["clip7", "b"], [name])))

    def test_no_file_at_all(self, tmp_path):
        with pytest.raises(DataError, match="1 of 1 clips have no file of features"):
            next(read_feature_folder(self.write(tmp_path, ["a"], [])))

    def test_the_stream_that_is_used(self, tmp_path):
        folder = self.write(tmp_path, ["a"], [])
        write_parquet(tmp_path / "a.audio.parquet", AUDIO)
        assert len(list(read_feature_folder(folder, ("text", "audio")))) == 1
        with pytest.raises(DataError, match="1 of 1 clips"):
            next(read_feature_folder(folder, ("text", "vision")))


class TestClipsThatLackAStream:
    def write(self, folder, count, lacking, name="audio"):
        rows = [{"id": f"c{i}", "vision": VISION} | ({} if i < lacking else {"audio": AUDIO}) for i in range(count)]
        write_folder(folder, rows)
        if name != "audio":
            np.savez(folder / "c0.npz", **{"vision": VISION, name: AUDIO})
        return str(folder)

    def test_a_few_are_told_with_arrays_of_other_names(self, tmp_path, caplog):
        rows = list(read_feature_folder(self.write(tmp_path, 20, 1, "Audio")))
        assert len(rows) == 20 and rows[0]["audio"] is None
        assert "1 clips have features, but no audio (c0)" in caplog.text
        assert "1 arrays of .npz files are not read (c0.npz: Audio)" in caplog.text

    def test_many_stop(self, tmp_path):
        folder = self.write(tmp_path, 10, 2)
        with pytest.raises(DataError, match=r"2 clips have features, but no audio \(c0, c1\)"):
            list(read_feature_folder(folder))
        assert len(list(read_feature_folder(folder, ("text", "vision")))) == 10
        assert len(list(read_feature_folder(folder, allow_missing_features=True))) == 10

    def test_a_stream_that_no_clip_has_is_none_of_the_folder(self, tmp_path, caplog):
        assert len(list(read_feature_folder(self.write(tmp_path, 10, 10)))) == 10 and not caplog.text


def test_a_first_row_without_video_hides_no_others(tmp_path):
    rows = [{"id": f"c{i}", "label": i % 3, "video": f"v{i // 20}" if i else ""} for i in range(60)]
    write_labels(tmp_path, rows, ".csv")
    for row in rows:
        np.savez(tmp_path / f"{row['id']}.npz", audio=AUDIO)
    clips = load_clips(str(tmp_path), modalities=["audio"])
    places = {(int(clip[1:]) // 20, split) for split, table in clips.items() for clip in table["id"] if clip != "c0"}
    assert len(places) == 3, "all clips of a video are in one split"


def test_videos_that_are_nan_are_no_common_one(tmp_path):
    rows = [{"id": f"c{i}", "label": i % 3, "video": float("nan")} for i in range(60)]
    write_labels(tmp_path, rows, ".parquet")
    for row in rows:
        np.savez(tmp_path / f"{row['id']}.npz", audio=AUDIO)
    assert all("video" not in clip for clip in read_feature_folder(tmp_path))
    assert set(load_clips(str(tmp_path), modalities=["audio"])) == {"train", "validation", "test"}


def test_videos_in_several_splits_are_told(tmp_path, caplog):
    rows = [{"id": f"c{i}", "label": 0, "video": f"v{i // 2}", "split": ("train", "test")[i // 3]} for i in range(6)]
    write_labels(tmp_path, rows, ".csv")
    for row in rows:
        np.savez(tmp_path / f"{row['id']}.npz", audio=AUDIO)
    load_clips(str(tmp_path), modalities=["audio"])
    assert "clips of 1 videos lie in several splits (v1)" in caplog.text
