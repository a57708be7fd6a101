"""The benchmark of media: its videos, its costs against budgets and other programs, memory, and the curve."""

import shlex
import sys

import numpy as np
import pytest
import torch
from media_files import Film, Sound, harmonic_sound, moving_film, write_media
from transformers import WhisperConfig, WhisperForConditionalGeneration

from hf_fusion.models import media_frames
from hf_fusion.models.media_decoding import SAMPLE_RATE, MediaReader
from hf_fusion.models.media_face import FaceNetworks
from hf_fusion.models.media_frames import Network
from hf_fusion.models.media_text import Word
from hf_fusion.studies.measure import BenchmarkOptions
from hf_fusion.utils.errors import DataError
from scripts.benchmarks import media


@pytest.fixture
def small(monkeypatch):
    """Few and small pictures."""
    for name, value in {"_PICTURE_RATE": 5, "_WIDTH": 64, "_HEIGHT": 36}.items():
        monkeypatch.setattr(media, name, value)


def pictures_of(path):
    return np.stack(list(MediaReader(path).pictures(5))).astype(float)


def test_a_long_video_repeats_its_start(small, tmp_path):
    path = media.write_video(tmp_path / "long.mp4", 19, None)
    pictures, sound = pictures_of(path), np.concatenate(list(MediaReader(path).audio_blocks()))
    assert len(pictures) == 95 and pictures.shape[1:] == (36, 64, 3)
    assert abs(len(sound) - 19 * SAMPLE_RATE) < 2048
    assert np.abs(pictures[:40] - pictures[40:80]).max() < 3 < np.abs(pictures[0] - pictures[20]).max()
    assert list(tmp_path.iterdir()) == [tmp_path / "long.mp4"]


def test_a_video_shows_its_source_in_the_middle(small, tmp_path):
    film, sound = Film(moving_film(1, rate=5, size=(48, 48)), rate=5), Sound(harmonic_sound(1.0, pitch=200))
    source = write_media(tmp_path / "source.mp4", film, Sound(sound.samples, codec="aac"))
    path = media.write_video(tmp_path / "video.mp4", 2, source)
    picture = pictures_of(path)[0]
    assert np.abs(picture[:, [2, 60]] - 64).max() < 8, "gray beside it"
    assert np.ptp(picture[:, 16:48].mean(axis=(0, 2))) > 50, "the gradient of the source"


def test_a_source_without_pictures(small, tmp_path):
    source = write_media(tmp_path / "sound.wav", Sound(harmonic_sound(0.5)))
    with pytest.raises(DataError, match=r"sound\.wav has no pictures"):
        media.write_video(tmp_path / "video.mp4", 1, source)


@pytest.fixture
def whisper(tmp_path):
    """A Whisper with random weights, as a folder."""
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, num_mel_bins=80,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, pad_token_id=0, bos_token_id=0,
        eos_token_id=0, decoder_start_token_id=0, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    WhisperForConditionalGeneration(config).save_pretrained(tmp_path / "whisper")
    return str(tmp_path / "whisper")


@pytest.fixture
def face(tmp_path, monkeypatch):
    """Face networks with random weights, also for other processes."""
    torch.manual_seed(0)
    weights = {name: value.half().numpy() for name, value in FaceNetworks().state_dict().items()}
    Network(weights, {}).save(str(tmp_path / "face.safetensors"))
    monkeypatch.setenv("HF_FUSION_FACE_TASK", str(tmp_path / "face.safetensors"))


def program(tmp_path, code):
    (tmp_path / "program.py").write_text(code)
    return shlex.join([sys.executable, str(tmp_path / "program.py")])


def test_costs_memory_and_curve(small, whisper, face, tiny_encoder, tmp_path, monkeypatch):
    class Transcriber:
        def __init__(self, model, **options):
            assert model == whisper

        def __call__(self, blocks):
            return [Word(0.1, 0.4, "good"), Word(0.5, 0.9, "morning")]

    monkeypatch.setattr(media_frames, "Transcriber", Transcriber)
    monkeypatch.setattr(media, "in_child", lambda function, variables, **arguments: function(**arguments))
    other = program(tmp_path, "import json; print('Hello'); print(json.dumps({'face': 1e4, 'pose': 1}))")
    options = BenchmarkOptions(
        repeats=2, text_encoder=tiny_encoder, quick=True, whisper=whisper, against=(f"Other={other}",)
    )
    threads = torch.get_num_threads()
    rows = media.run(options)
    assert torch.get_num_threads() == threads
    assert [row["what"] for row in rows] == [
        "descriptors frames", "whisper frames", "face frames", "face frames, Other",
        "memory at most, descriptors and face frames", "memory at most, descriptors and face frames: growth",
        "memory at most, whisper frames", "memory at most, whisper frames: growth",
        "from video to curve, 10 s every 2 s",
    ]  # fmt: skip
    assert [row["reference"]["median"] for row in rows[:4]] == [0.01, 0.02, 0.15, 1e4]
    assert all(row["candidate"]["median"] > 0 and len(row["pairs"]) == 2 for row in rows[:4])
    assert rows[3]["candidate"]["median"] == pytest.approx(rows[2]["candidate"]["median"], rel=10)
    assert rows[5]["candidate"]["cpu_seconds"] > 0 and rows[5]["candidate"]["median"] > 2e8
    assert rows[8]["reference"]["median"] == 1 and rows[8]["candidate"]["name"] == "1 scores, with a transcript"


@pytest.mark.parametrize("code", ["print('no JSON')", "print('[1]')", "raise SystemExit('broken')"])
def test_another_program_must_print_its_costs(tmp_path, code):
    with pytest.raises(DataError, match="the last line must be JSON with CPU seconds by kind") as caught:
        media.run_command(program(tmp_path, code), "video.mp4")
    assert "broken" not in code or "broken" in str(caught.value)


def test_the_video_is_the_last_argument(tmp_path):
    command = program(tmp_path, "import json, sys; print(json.dumps({'arguments': len(sys.argv[-1])}))")
    assert media.run_command(command, "a b.mp4") == {"arguments": 7.0}
