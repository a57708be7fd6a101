from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hf_fusion.data.clips import ClipSource, load_clips
from hf_fusion.data.mosi_utterance import read_mosi_utterance
from hf_fusion.utils.errors import DataError

MOSI = Path(__file__).parents[3] / "shared/data/mosi_utterance/mosi_utterance.npz"
# two videos in turns, their clips out of order: (video, clip), and the rows before each in its video, the last first
CLIPS = [("b", 2), ("a", 10), ("b", 1), ("a", 9), ("a", 2), ("c", 3)]
BEFORE = [[2], [3, 4], [], [4], [], []]


def fields(**changes):
    """Fields of a file; the frames of row i begin with i. A change to None leaves a field out."""
    count = len(CLIPS)
    own = np.arange(count, dtype=np.float32)
    made = {
        "ids": np.array([f"{video}_{clip}" for video, clip in CLIPS]),
        "video_id": np.array([video for video, _ in CLIPS]),
        "clip_id": np.array([clip for _, clip in CLIPS], np.int32),
        "raw_text": np.array([f"NOT BAD {i}" for i in range(count)]),
        "audio": np.stack([own, own + 0.5], axis=1),
        "vision": np.stack([own, own * 10, own * 100], axis=1),
        "text_cnn": np.stack([own, -own], axis=1),
        "regression_label": np.linspace(-3, 3, count).astype(np.float32),
        "split": np.array(["test", "train", "test", "train", "train", "valid"]),
        "split_standard": np.array(["train", "test", "train", "test", "test", "valid"]),
        "split_bclstm": np.array(["test", "train", "test", "train", "train", "test"]),
        "class7": np.zeros(count),
    }
    return {name: value for name, value in (made | changes).items() if value is not None}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "utterances.npz")


@pytest.fixture
def read(path):
    def read(options=None, **changes):
        np.savez(path, **fields(**changes))
        return list(read_mosi_utterance(path, **(options or {})))

    return read


def test_each_utterance_comes_with_its_own_values(read):
    rows = read()
    assert [row["id"] for row in rows] == ["b_2", "a_10", "b_1", "a_9", "a_2", "c_3"]
    assert [row["label"] for row in rows] == pytest.approx([-3, -1.8, -0.6, 0.6, 1.8, 3])
    assert [row["text"] for row in rows] == [f"not bad {i}" for i in range(6)], "in lower case"
    for i, row in enumerate(rows):
        assert set(row) == {"id", "split", "text", "audio", "vision", "label"}
        assert row["audio"].tolist() == [[i, i + 0.5]] and row["vision"].tolist() == [[i, 10 * i, 100 * i]]


@pytest.mark.parametrize("context", [0, 1, 2, 9])
def test_context_goes_back_in_time_and_stays_in_the_video(read, context):
    for i, row in enumerate(read({"context": context})):
        expected = [i, *BEFORE[i][:context]]
        assert row["audio"][:, 0].tolist() == row["vision"][:, 0].tolist() == expected
        assert row["vision"].shape == (len(expected), 3)


@pytest.mark.parametrize(
    ("split", "modalities"),
    [("split", ("text", "audio", "vision")), ("split_standard", ("text",)), ("split_bclstm", ("text", "vision"))],
)
def test_split_columns(read, split, modalities):
    rows = read({"split": split, "modalities": modalities})
    assert [row["split"] for row in rows] == fields()[split].tolist()


def test_only_the_split_that_is_used_is_needed(read):
    assert len(read({"split": "split_bclstm"}, split=None, split_standard=None, text_cnn=None)) == 6


def test_text_features_on_request(read):
    assert [row["text_features"].tolist() for row in read({"text_features": True})] == [[i, -i] for i in range(6)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"modalities": ("text", "audio")},
        {"modalities": ("vision",)},
        {"modalities": ("text",), "text_features": True},
    ],
    ids=["all", "audio", "vision", "text features"],
)
def test_features_that_know_the_test_labels_are_refused(read, options):
    with pytest.raises(DataError, match=r"split_standard the features leak.*`modalities`"):
        read({"split": "split_standard", **options})


def test_the_modalities_of_a_source_decide_about_the_leak(path):
    np.savez(path, **fields())
    options = {"split": "split_standard"}
    with pytest.raises(DataError, match="leak"):
        load_clips(ClipSource(path, options=options))
    clips = load_clips(ClipSource(path, modalities=("text",), options=options))
    assert clips["train"].column_names == ["id", "text", "label"] and len(clips["test"]) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "folds"}, "one of split, split_standard, split_bclstm, got 'folds'"),
        ({"context": -1}, "whole number of at least 0, got -1"),
        ({"context": 1.0}, "whole number of at least 0, got 1.0"),
        ({"context": True}, "whole number of at least 0, got True"),
    ],
    ids=["split", "negative", "float", "bool"],
)
def test_wrong_options(read, options, words):
    with pytest.raises(DataError, match=rf"utterances\.npz: .*{words}"):
        read(options)


NEEDED = ["ids", "video_id", "clip_id", "raw_text", "audio", "vision", "regression_label", "split", "text_cnn"]


@pytest.mark.parametrize("name", NEEDED)
def test_missing_fields_are_named(read, name):
    with pytest.raises(DataError, match=rf"utterances\.npz: no field '{name}'; there are .*class7"):
        read({"text_features": True}, **{name: None})


def test_fields_of_different_lengths(read):
    with pytest.raises(DataError, match=r"utterances\.npz: the fields differ in length: .*'audio': 5"):
        read(audio=fields()["audio"][:5])


def test_files_that_are_something_else(path):
    with pytest.raises(FileNotFoundError, match="utterances"):
        list(read_mosi_utterance(path))
    np.savez_compressed(path, **fields())
    content = Path(path).read_bytes()
    damaged = bytearray(content)
    damaged[60:90] = b"\xc3" * 30
    for wrong in (b"no archive", b"", content[: len(content) // 2], bytes(damaged)):
        Path(path).write_bytes(wrong)
        with pytest.raises(DataError, match=r"utterances\.npz: cannot be read as arrays"):
            list(read_mosi_utterance(path))
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match=r"utterances\.npz: cannot be read as arrays"):
        list(read_mosi_utterance(path))


@pytest.mark.data
@pytest.mark.skipif(not MOSI.is_file(), reason="the utterances of MOSI are not part of the repository")
class TestMosi:
    def test_sizes_and_values(self):
        clips = load_clips(ClipSource(str(MOSI), label_range=(-3, 3), options={"context": 3}))
        assert {split: len(rows) for split, rows in clips.items()} == {"train": 1447, "validation": 192, "test": 560}
        with np.load(MOSI) as file:
            row = {clip_id: i for i, clip_id in enumerate(file["ids"].tolist())}
            audio, vision, videos = file["audio"], file["vision"], file["video_id"]
            labels, clip_ids = file["regression_label"], file["clip_id"]
        for clip in clips["test"].with_format("numpy").select(range(60)):
            i = row[str(clip["id"])]
            assert clip["label"] == labels[i]
            before = np.flatnonzero((videos == videos[i]) & (clip_ids < clip_ids[i]))
            frames = [i, *sorted(before, key=lambda j: -clip_ids[j])[:3]]
            assert np.array_equal(clip["audio"], audio[frames]) and np.array_equal(clip["vision"], vision[frames])

    @pytest.mark.parametrize(
        ("split", "sizes"),
        [
            ("split_standard", {"train": 1284, "validation": 229, "test": 686}),
            ("split_bclstm", {"train": 1447, "test": 752}),
        ],
        ids=["standard", "bclstm"],
    )
    def test_other_splits(self, split, sizes):
        source = ClipSource(str(MOSI), modalities=("text",), options={"split": split}, split_shares=(1.0, 0.0, 0.0))
        assert {name: len(rows) for name, rows in load_clips(source).items()} == sizes
        clips = load_clips(replace(source, split_shares=(0.8, 0.1, 0.1)))
        assert set(clips) == {"train", "validation", "test"} and len(clips["test"]) == sizes["test"]
        videos = [{clip_id.rpartition("_")[0] for clip_id in rows["id"]} for rows in clips.values()]
        assert sum(map(len, videos)) == len(set().union(*videos)) == 93, "no video lies in two splits"


@pytest.mark.parametrize("name", ["ids", "raw_text"])
def test_what_is_no_unicode_is_named(path, name):
    np.savez(path, **fields(**{name: np.array(["a\ud800", *"bcdef"])}))
    field = {"ids": "id", "raw_text": "text"}[name]
    with pytest.raises(DataError, match=rf"row 1 .*field '{field}' holds '.ud800', a half of a char"):
        load_clips(ClipSource(path))
