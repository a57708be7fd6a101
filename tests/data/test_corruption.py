import numpy as np
import pytest
from datasets import Array2D, Dataset, Features, Value, load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_fusion.data.corruption import (
    CORRUPTIONS,
    LOSSES,
    STREAM_CORRUPTIONS,
    TEXT_CORRUPTIONS,
    augment,
    corrupt,
    corrupt_row,
    modality_of,
)
from hf_fusion.utils.errors import DataError

TEXT = "The Staff was not Bad and their breakfast, right here, would be great for one week " * 4
SEVERITIES = range(6)


def clips(count=40, frames=30):
    rng = np.random.default_rng(0)
    features = Features(
        id=Value("string"), text=Value("string"), audio=Array2D((None, 6), "float32"),
        vision=Array2D((None, 8), "float32"), label=Value("float32"),
    )  # fmt: skip
    rows = {
        "id": [f"clip {i}" for i in range(count)],
        "text": [TEXT] * count,
        "audio": [rng.normal(3, 2, (frames, 6)).astype(np.float32) for _ in range(count)],
        "vision": [rng.normal(-1, 1, (frames, 8)).astype(np.float32) for _ in range(count)],
        "label": [1.0] * count,
    }
    return Dataset.from_dict(rows, features=features)


@pytest.fixture(scope="module")
def rows():
    return clips()


def damage(name, before, after):
    """How much of a row was changed, in [0, 1] or, for noise, as a root mean square."""
    old, new = before[modality_of(name)], after[modality_of(name)]
    if not new:
        return 1.0
    if name == "word_dropout":
        return 1 - len(new.split()) / len(old.split())
    if name == "speech_errors":
        kept = [word for word in old.split() if word in new.split()]
        return 1 - len(kept) / len(old.split())
    if isinstance(old, str):
        return sum(a != b for a, b in zip(old, new, strict=False)) / len(old) + abs(len(old) - len(new)) / len(old)
    return float(np.sqrt(np.mean((np.asarray(old) - np.asarray(new)) ** 2)))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_more_severe_is_more_damage(rows, name):
    levels = []
    for severity in SEVERITIES:
        found = corrupt(rows, {name: severity}, seed=3)
        assert found.column_names == rows.column_names and found["id"][:] == rows["id"][:]
        untouched = set(LOSSES.values()) - {modality_of(name)}
        assert all(found[0][other] == rows[0][other] for other in untouched)
        levels.append(np.mean([damage(name, a, b) for a, b in zip(rows, found, strict=True)]))
    assert levels[0] == 0 and levels[5] > 0
    if name.endswith("shift"):  # frames here have nothing to do with their neighbours: any shift changes as much
        assert min(levels[1:]) > 0
    else:
        assert levels == sorted(levels) and levels[1] < levels[5]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_depends_on_seed_and_row_alone(rows, name):
    first = corrupt(rows, {name: 3}, seed=1)
    shuffled = corrupt(rows.shuffle(seed=0), {name: 3}, seed=1).sort("id")
    column = modality_of(name)
    assert first.sort("id")[:][column] == shuffled[:][column]
    if name != "lower_case":
        assert first[:][column] != corrupt(rows, {name: 3}, seed=2)[:][column]
    if name not in LOSSES:
        same_content = [row[column] for row in first]
        assert name.startswith(("audio", "vision")) or len({str(value) for value in same_content}) > 1


def test_noise_has_the_power_that_it_says(rows):
    found = corrupt(rows, {"audio_noise": 4}, seed=0)  # 0 dB: as loud as the signal
    noise = np.stack(found["audio"]) - np.stack(rows["audio"])
    assert noise.std() == pytest.approx(np.stack(rows["audio"]).std(), rel=0.05)
    louder = corrupt(rows, {"audio_noise": 5}, seed=0)
    more = np.stack(louder["audio"]) - np.stack(rows["audio"])
    np.testing.assert_allclose(more, noise * 10 ** (5 / 20), rtol=1e-3, atol=1e-3)


def test_bursts_are_one_stretch(rows):
    changed = np.any(np.array(corrupt(rows, {"vision_burst": 3})[0]["vision"]) != np.array(rows[0]["vision"]), axis=1)
    assert changed.sum() == 6 and np.abs(np.diff(np.append(changed, changed[0]).astype(int))).sum() == 2


def test_lost_features_are_neighbours(rows):
    lost = (np.array(corrupt(rows, {"vision_feature_loss": 3})[0]["vision"]) == 0).all(0)
    assert lost.sum() == 3 and np.abs(np.diff(np.append(lost, lost[0]).astype(int))).sum() == 2


def test_shift_keeps_all_frames(rows):
    moved = np.array(corrupt(rows, {"audio_shift": 5})[0]["audio"])
    np.testing.assert_array_equal(np.roll(moved, 15, axis=0), np.array(rows[0]["audio"]))


def test_the_last_modality_stays(rows):
    found = corrupt(rows, {"text_loss": 5, "audio_loss": 5, "vision_loss": 5})
    assert all(row["text"] is None and not row["audio"] and row["vision"] for row in found)
    shares = [np.mean([not row["audio"] for row in corrupt(clips(400, 1), {"audio_loss": s})]) for s in (1, 3)]
    assert shares == pytest.approx([0.2, 0.6], abs=0.07)


def test_speech_errors_sound_alike():
    row = {"id": "x", "text": "their room was not bad"}
    heard = {corrupt_row(row, {"speech_errors": 5}, seed, {})["text"] for seed in range(40)}
    words = {word for text in heard for word in text.split()}
    assert words <= {"there", "they're", "room", "was", "knot", "bed"} and len(heard) > 3


def test_texts_without_spaces_lose_characters():
    text = "这部电影真的很好看我非常喜欢"
    kept = [len(corrupt_row({"id": "x", "text": text}, {"word_dropout": level}, 0, {})["text"]) for level in SEVERITIES]
    assert kept[0] == 14 and kept == sorted(kept, reverse=True) and 1 <= kept[5] <= 11


def test_leaves_no_files_beside_the_data(rows, tmp_path):
    rows.save_to_disk(tmp_path / "data")
    before = sorted(path.name for path in (tmp_path / "data").iterdir())
    corrupt(load_from_disk(tmp_path / "data"), {"audio_noise": 3, "typos": 2})
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == before


@given(text=st.text(max_size=80), severity=st.integers(0, 5), name=st.sampled_from(sorted(TEXT_CORRUPTIONS)))
@settings(max_examples=200, deadline=None)
def test_any_text(text, severity, name):
    row = {"id": "x", "text": text}
    found = corrupt_row(row, {name: severity}, 0, {})["text"]
    assert isinstance(found, str)
    assert bool(found.strip()) == bool(text.strip()), "a text must not become empty"
    if severity == 0:
        assert found == text


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("name", sorted(STREAM_CORRUPTIONS))
def test_short_clips(name, frames):
    modality = modality_of(name)
    row = {"id": "x", modality: np.ones((frames, 4), dtype=np.float32)}
    found = corrupt_row(row, {name: 5}, 0, {modality: np.ones(4)})[modality]
    assert found.shape == (frames, 4) and np.isfinite(found).all()
    mild = corrupt_row(row, {name: 1}, 0, {modality: np.ones(4)})[modality]
    if not name.endswith(("shift", "frame_dropout")):
        assert not np.array_equal(mild, row[modality]), "some damage even at severity 1"


def test_missing_values_stay_missing():
    row = {"id": "x", "text": None, "audio": None}
    assert corrupt_row(row, {"typos": 5, "audio_noise": 5, "text_loss": 5}, 0, {"audio": np.ones(2)}) == row


def test_augmented_rows_come_beside_the_others(rows):
    found = augment(rows, {"word_dropout": 5, "audio_noise": 2}, seed=1)
    assert len(found) == 80 and found[:40] == rows[:]
    copies = found.select(range(40, 80))
    assert sorted(copies["id"]) == sorted(rows["id"]) and set(copies["label"]) == {1.0}
    lost = [damage("word_dropout", rows[0], row) for row in copies]
    assert min(lost) < 0.2 < 0.4 < max(lost), "some are damaged more than others"
    assert all(damage("audio_noise", rows[int(row["id"].split()[1])], row) > 0 for row in copies)
    assert copies["vision"] != augment(rows, {"vision_noise": 1}, seed=1).select(range(40, 80))["vision"]


@pytest.mark.parametrize(
    ("corruptions", "words"),
    [
        ({"rain": 1}, "no corruption 'rain'; known are word_dropout"),
        ({"typos": 6}, "severity of typos must be a whole number, 0 to 5, got 6"),
        ({"typos": 1.5}, "got 1.5"),
        ({"audio_noise": 1}, "audio_noise needs audio, the data has id, text"),
    ],
)
def test_what_cannot_be_done(corruptions, words):
    with pytest.raises(DataError, match=words):
        corrupt(Dataset.from_dict({"id": ["a"], "text": ["b"]}), corruptions)
