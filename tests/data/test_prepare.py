import json

import numpy as np
import pytest
from test_feature_folder import write_folder

from hf_fusion.data import split_writer
from hf_fusion.data.clips import ClipSource, load_clips
from hf_fusion.data.pickles import sha256_of
from hf_fusion.data.prepare import prepare_clips, prepared_statistics
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import fingerprint


def make_rows(count=300, without_audio=lambda i: i % 7 == 3, without_vision=lambda i: i % 11 == 5):
    """Tiny clips in three splits, which take turns; every thirteenth has no text."""
    rng = np.random.default_rng(2)
    rows = []
    for i in range(count):
        row = {
            "id": f"video {i // 10}$_${i}",
            "split": ("train", "test", "train", "valid")[i % 4],
            "text": None if i % 13 == 4 else f"text {i}",
            "label": float(rng.uniform(-3, 3)),
            "audio": None if without_audio(i) else rng.normal(size=(1 + i % 40, 2)).astype(np.float32),
            "vision": None if without_vision(i) else rng.normal(size=(1 + i % 3, 3)).astype(np.float32),
        }
        rows.append(row)
    return rows


@pytest.fixture
def write(tmp_path):
    def write(rows, **fields):
        return ClipSource(write_folder(tmp_path / "clips", rows, every_file=True), **fields)

    return write


def assert_same(one, other):
    """The same splits, columns and rows, bit for bit."""
    assert list(one) == list(other)
    for split in one:
        assert one[split].features == other[split].features
        pairs = zip(one[split].with_format("numpy"), other[split].with_format("numpy"), strict=True)
        for left, right in pairs:
            for name in left:
                if isinstance(left[name], np.ndarray):
                    assert left[name].shape == right[name].shape and left[name].tobytes() == right[name].tobytes()
                else:
                    assert left[name] == right[name]
    assert fingerprint(one) == fingerprint(other)


class TestContent:
    @pytest.mark.parametrize(
        "missing",
        [
            {},
            {"without_audio": lambda i: i < 70},
            {"without_vision": lambda i: i < 99},
            {"without_audio": lambda i: True},
            {"without_audio": lambda i: True, "without_vision": lambda i: True},
            {"without_audio": lambda i: i < 50, "without_vision": lambda i: i >= 40},
        ],
        ids=["few", "first audio", "all but the last vision", "all audio", "both", "one, then the other"],
    )
    def test_is_that_of_the_source(self, write, tmp_path, missing):
        rows = [row for row in make_rows(100, **missing) if any(row[name] is not None for name in ("text", "audio"))]
        source = write(rows)
        report = prepare_clips(source, tmp_path / "prepared")
        clips = load_clips(ClipSource(str(tmp_path / "prepared")))
        assert_same(clips, load_clips(source))
        assert report["fingerprint"] == fingerprint(clips)
        streams = {name for name in ("audio", "vision") if any(row[name] is not None for row in rows)}
        assert set(clips["train"].column_names) == {"id", "text", "label", *streams}

    def test_keeps_the_order_of_many_clips(self, write, tmp_path, monkeypatch):
        monkeypatch.setattr(split_writer, "_ROWS_AT_A_TIME", 16)
        rows = make_rows()
        prepare_clips(write(rows), tmp_path / "prepared")
        clips = load_clips(ClipSource(str(tmp_path / "prepared")))
        names = {"train": "train", "validation": "valid", "test": "test"}
        for split, name in names.items():
            assert list(clips[split]["id"]) == [row["id"] for row in rows if row["split"] == name]
        assert sum(map(len, clips.values())) == 300

    def test_of_modalities(self, write, tmp_path):
        rows = make_rows(60, without_vision=lambda i: False)
        source = write(rows, modalities=("vision",))
        prepare_clips(source, tmp_path / "prepared")
        clips = load_clips(ClipSource(str(tmp_path / "prepared"), modalities=("vision",)))
        assert_same(clips, load_clips(source))
        assert clips["test"].column_names == ["id", "label", "vision"]

    def test_of_the_synthetic_corpus(self, tmp_path):
        source = ClipSource(options={"num_train": 20, "num_validation": 3, "num_test": 4})
        prepare_clips(source, tmp_path / "prepared")
        clips = load_clips(ClipSource(str(tmp_path / "prepared")))
        columns = ["id", "text", "label", "audio", "vision"]
        expected = {split: rows.select_columns(columns) for split, rows in load_clips(source).items()}
        assert_same(clips, type(clips)(expected))

    def test_of_prepared_clips_is_the_same(self, write, tmp_path):
        first = prepare_clips(write(make_rows(60)), tmp_path / "first")
        second = prepare_clips(ClipSource(str(tmp_path / "first")), tmp_path / "second")
        assert first["fingerprint"] == second["fingerprint"]

    def test_clips_that_are_left_out(self, write, tmp_path, caplog):
        rows = make_rows(60)
        rows[0]["label"], rows[1]["label"], rows[59]["id"] = None, 99, rows[58]["id"]
        source = write(rows, rejected="drop", label_range=(-3, 3))
        report = prepare_clips(source, tmp_path / "prepared")
        assert sum(facts["clips"] for facts in report["splits"].values()) == 57
        assert "3 unusable rows" in caplog.text and "(left out)" in caplog.text
        assert_same(load_clips(ClipSource(str(tmp_path / "prepared"))), load_clips(source))


class TestReport:
    def test_numbers_are_those_of_numpy(self, write, tmp_path):
        rows = make_rows()
        report = prepare_clips(write(rows), tmp_path / "prepared")
        assert json.loads((tmp_path / "prepared" / "prepared.json").read_text()) == report
        assert list(report["splits"]) == ["train", "validation", "test"]
        for split, facts in report["splits"].items():
            members = [row for row in rows if row["split"] == ("valid" if split == "validation" else split)]
            labels = np.array([row["label"] for row in members])
            assert facts["clips"] == len(members)
            assert facts["label"] == {
                "mean": pytest.approx(np.mean(labels)),
                "std": pytest.approx(np.std(labels, ddof=1)),
                "min": np.min(labels),
                "max": np.max(labels),
            }
            for name, width in (("audio", 2), ("vision", 3)):
                lengths = [0 if row[name] is None else len(row[name]) for row in members]
                frames = np.concatenate([row[name] for row in members if row[name] is not None]).astype(np.float64)
                assert facts[name] == {
                    "features": width,
                    "mean": pytest.approx(frames.mean(0).tolist(), rel=1e-9),
                    "std": pytest.approx(frames.std(0).tolist(), rel=1e-9),
                    "frames": {
                        "median": np.median(lengths),
                        "p95": pytest.approx(np.percentile(lengths, 95)),
                        "max": max(lengths),
                    },
                }
            assert facts["missing"] == {
                name: sum(row[name] is None for row in members) for name in ("text", "audio", "vision")
            }

    def test_of_one_clip(self, write, tmp_path):
        rows = [row | {"audio": None} for row in make_rows(1)]
        (facts,) = prepare_clips(write(rows), tmp_path / "prepared")["splits"].values()
        assert facts["clips"] == 1 and facts["label"]["std"] is None and facts["missing"]["audio"] == 1
        assert "audio" not in facts and facts["vision"]["features"] == 3

    def test_names_a_file_with_its_hash_and_no_folders(self, tmp_path):
        columns = {"ids": ["a", "b"], "video_id": ["v", "v"], "clip_id": [1, 2], "raw_text": ["X", "Y"]}
        columns |= {"audio": np.ones((2, 2)), "vision": np.ones((2, 3)), "regression_label": [0.5, 1]}
        np.savez(tmp_path / "u.npz", **columns, split=["train", "test"])
        report = prepare_clips(ClipSource(str(tmp_path / "u.npz")), tmp_path / "prepared")
        assert report["source"] == {"name": "u.npz", "sha256": sha256_of(tmp_path / "u.npz")}
        assert prepare_clips(ClipSource(str(tmp_path / "prepared")), tmp_path / "again")["source"] == {
            "name": "prepared"
        }

    def test_the_clips_can_be_watched(self, write, tmp_path):
        seen = []

        def track(rows):
            for row in rows:
                seen.append(row["id"])
                yield row

        rows = make_rows(9)
        prepare_clips(write(rows), tmp_path / "prepared", track)
        assert seen == [row["id"] for row in rows]


class TestFolder:
    @pytest.mark.parametrize("there", ["folder", "file"])
    def test_one_that_exists_is_left_alone(self, write, tmp_path, there):
        path = tmp_path / "prepared"
        if there == "folder":
            path.mkdir()
        else:
            path.write_text("mine")
        with pytest.raises(DataError, match="prepared exists already; remove it or choose another name"):
            prepare_clips(write(make_rows(3)), path)
        assert path.read_text() == "mine" if there == "file" else not list(path.iterdir())

    @pytest.mark.parametrize("name", ["prepared", "prepared/", "deep/er/prepared"])
    def test_holds_only_what_belongs_there(self, write, tmp_path, name):
        source = write(make_rows(20))
        prepare_clips(source, f"{tmp_path}/{name}")
        folder = tmp_path / name
        assert {path.name for path in folder.iterdir()} == {
            "dataset_dict.json", "prepared.json", "train", "validation", "test",
        }  # fmt: skip
        assert not list(tmp_path.rglob("*.tmp")) and not list(folder.rglob("*.tmp"))


class TestFailure:
    """Of a source: nothing is left behind."""

    def assert_fails(self, source, folder, error=DataError, match=None, **options):
        with pytest.raises(error, match=match):
            prepare_clips(source, folder, **options)
        assert [path.name for path in folder.parent.iterdir() if path.name.startswith("prepared")] == []

    def test_in_the_middle_of_the_files(self, write, tmp_path):
        source = write(make_rows())
        (tmp_path / "clips" / "video 25$_$250.npz").write_text("damaged")
        self.assert_fails(source, tmp_path / "prepared", match=r"video 25\$_\$250\.npz: cannot be read")

    def test_of_widths(self, write, tmp_path):
        rows = make_rows(200)
        rows[180]["audio"] = np.ones((1, 5))
        self.assert_fails(write(rows), tmp_path / "prepared", match=r"row 181 .*field 'audio' has 5 features")

    def test_with_unusable_rows(self, write, tmp_path):
        rows = make_rows()
        rows[7]["label"] = None
        self.assert_fails(write(rows), tmp_path / "prepared", match=r"1 x no label: row 8 \(video 0\$_\$7\)")

    def test_without_clips(self, write, tmp_path):
        rows = [row | {"label": None} for row in make_rows(5)]
        self.assert_fails(write(rows, rejected="drop"), tmp_path / "prepared", match="clips has no clips")

    def test_without_a_file(self, tmp_path):
        self.assert_fails(
            ClipSource(str(tmp_path / "nothing.pkl")), tmp_path / "prepared", FileNotFoundError, "nothing"
        )

    def test_by_an_interruption(self, write, tmp_path):
        def interrupted(rows):
            for number, row in enumerate(rows):
                if number == 150:
                    assert list(tmp_path.glob("prepared.*.tmp")) and not (tmp_path / "prepared").exists()
                    raise KeyboardInterrupt
                yield row

        self.assert_fails(write(make_rows()), tmp_path / "prepared", KeyboardInterrupt, track=interrupted)


def test_a_folder_of_the_users_stays(write, tmp_path):
    (tmp_path / "prepared.tmp").mkdir()
    (tmp_path / "prepared.tmp" / "mine.txt").write_text("mine")
    prepare_clips(write(make_rows(12)), tmp_path / "prepared")
    assert (tmp_path / "prepared.tmp" / "mine.txt").read_text() == "mine"


class TestStatistics:
    def test_are_those_of_a_fit_on_the_split(self, write, tmp_path):
        prepare_clips(write(make_rows()), tmp_path / "prepared")
        for split, clips in load_clips(ClipSource(str(tmp_path / "prepared"))).items():
            known = prepared_statistics(str(tmp_path / "prepared"), clips)
            rows = clips.with_format("numpy")
            for name, width in (("audio", 2), ("vision", 3)):
                frames = np.concatenate([row[name] for row in rows if len(row[name])]).astype(np.float64)
                assert frames.shape[1] == width, split
                np.testing.assert_allclose(known[name], [frames.mean(0), frames.std(0)], rtol=1e-9)

    def test_are_not_those_of_other_clips(self, write, tmp_path):
        prepare_clips(write(make_rows()), tmp_path / "prepared")
        train = load_clips(ClipSource(str(tmp_path / "prepared")))["train"]
        assert prepared_statistics(str(tmp_path / "prepared"), train.select(range(1, len(train)))) is None
        assert prepared_statistics(str(tmp_path / "prepared"), train.shuffle(seed=1)) is None
        assert prepared_statistics(str(tmp_path / "clips"), train) is None
