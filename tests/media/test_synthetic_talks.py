"""Talks of nobody: their labels, words, voices and faces fit together, and any of them tells a part of the score."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from datasets import DatasetDict

pytest.importorskip("av")

from hf_fusion.data.clips import ClipSource
from hf_fusion.media.extraction import FileExtraction
from hf_fusion.media.extractor import make_extractor
from hf_fusion.media.face_weights import load_face_weights
from hf_fusion.media.prepare import prepare_media
from hf_fusion.media.synthetic_talks import OPINIONS, draw_sentence, write_talk, write_talks
from hf_fusion.models.media_decoding import MediaReader
from hf_fusion.models.media_face import FACE_COLUMNS, FaceFrames, FaceNetworks
from hf_fusion.models.media_text import read_subtitles

_SHARED = Path(__file__).parents[3] / "shared" / "data" / "face" / "face_landmarker.task"
TASK = Path(os.environ.get("HF_FUSION_FACE_TASK") or _SHARED)


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talks")
    write_talks(folder, talks=10, sentences=3, seed=1)
    return folder


def read_labels(folder):
    with open(folder / "labels.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_seed_gives_the_same_talks(tmp_path, talks):
    write_talks(tmp_path, talks=2, sentences=3, seed=1)
    assert read_labels(tmp_path)[0] | {"split": "train"} == read_labels(talks)[0]
    assert (tmp_path / "talk_00.srt").read_text() == (talks / "talk_00.srt").read_text()
    write_talks(tmp_path, talks=2, sentences=3, seed=2)
    assert (tmp_path / "talk_00.srt").read_text() != (talks / "talk_00.srt").read_text()


def test_a_folder_is_a_data_set(talks, tmp_path):
    extraction = FileExtraction(make_extractor(vision=None), tmp_path / "cache", workers=0)
    report = prepare_media(ClipSource(str(talks), ("text", "audio")), str(tmp_path / "data"), extraction)
    assert {name: split["clips"] for name, split in report["splits"].items()} == {
        "train": 21, "validation": 3, "test": 6
    }  # fmt: skip
    assert all(not split["missing"][name] for split in report["splits"].values() for name in ("text", "audio"))
    words = {word: strength for strength, words in OPINIONS.items() for word in words}
    for row in DatasetDict.load_from_disk(str(tmp_path / "data"))["train"].with_format("numpy"):
        tone = row["label"] - words[row["text"].rstrip(".").split()[-1]]
        energy = row["audio"][row["audio"][:, 1] > 0, 0].mean()
        assert tone in (-1, 0, 1) and abs(energy + 6.8 - 1.6 * tone) < 0.8, "the voice says the rest"


def test_a_talk_has_its_words_where_they_are_said_and_nobody_in_long_silences(tmp_path):
    rng = np.random.default_rng(0)
    sentences = [draw_sentence(rng, strength, tone) for strength, tone in ((2, 1), (-1, 0))]
    assert [sentence.score for sentence in sentences] == [3.0, -1.0]
    spoken = write_talk(tmp_path / "talk.mp4", sentences, rng, {0: 4.0})
    lines = read_subtitles(tmp_path / "talk.srt")
    assert [line.text for line in lines] == [sentence.text for sentence in sentences]
    assert [line.start for line in lines] == pytest.approx([sentence.start for sentence in spoken], abs=1e-3)
    assert spoken[1].start - spoken[0].end > 4
    reader = MediaReader(tmp_path / "talk.mp4")
    sound = np.concatenate(list(reader.audio_blocks()))
    pictures = list(reader.pictures(5))
    assert len(sound) / 16000 == pytest.approx(len(pictures) / 5, abs=0.3)
    for sentence in spoken:
        said = sound[round(sentence.start * 16000) : round(sentence.end * 16000)]
        assert said.std() > 10 * sound[round((sentence.start - 0.5) * 16000) :][:4000].std()
    middle = round((spoken[0].end + spoken[1].start) / 2 * 5)
    spread = [picture.std(axis=(0, 1)).max() for picture in pictures]
    assert spread[middle] < 5 < 20 < spread[round(spoken[0].start * 5) + 1]


@pytest.mark.data
@pytest.mark.skipif(not TASK.is_file(), reason="face_landmarker.task is not part of the repository")
def test_the_face_networks_see_the_face_and_its_mood(tmp_path):
    rng = np.random.default_rng(0)
    spoken = write_talk(tmp_path / "talk.mp4", [draw_sentence(rng, 1, tone) for tone in (-1, 1)], rng)
    frames = FaceFrames(FaceNetworks.from_state_dict(load_face_weights(TASK).state_dict()), 5)
    for picture in MediaReader(tmp_path / "talk.mp4").pictures(5):
        frames.feed(picture)
    found = frames.finish()
    sad, glad = (found[round(sentence.start * 5) + 1 : round(sentence.end * 5) - 1] for sentence in spoken)
    smile, frown = FACE_COLUMNS.index("mouthSmileLeft"), FACE_COLUMNS.index("mouthFrownLeft")
    assert (found[2:-2, -1] > 0).all()
    assert glad[:, smile].mean() > 0.3 + sad[:, smile].mean() and sad[:, frown].mean() > 0.2 + glad[:, frown].mean()
