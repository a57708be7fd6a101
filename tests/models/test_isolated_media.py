"""A checkpoint with its extraction in the hands of somebody who does not have the package: the same features."""

import json
import os

import numpy as np
import pytest
import torch
from asserts import assert_close
from fresh_python import run_fresh
from media_files import Film, Sound, harmonic_sound, moving_film, write_media
from transformers import (
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from hf_fusion import DashFusionFeatureExtractor, DashFusionProcessor, FusionSentimentPipeline
from hf_fusion.media import extractor as extractors
from hf_fusion.models.media_face import FaceNetworks
from hf_fusion.models.media_frames import Network

# Blocks the package, reads a file, and saves everything again; without PyAV it prints the error of the file alone.
STRANGER = """
import json, sys
import numpy as np
sys.modules["hf_fusion"] = None
name, video, again, with_av = sys.argv[1:5]
if with_av == "no":
    sys.modules["av"] = None
import torch
from transformers import AutoProcessor, pipeline
torch.set_num_threads(1)
classify = pipeline("fusion-sentiment", model=name, trust_remote_code=True, device="cpu")
processor = AutoProcessor.from_pretrained(name, trust_remote_code=True)
if with_av == "no":
    broken = classify([{"audio": [[1.0]]}], on_error="return")[0].reason  # of the processor
    try:
        classify({"media": video})
    except ImportError as error:
        print("RESULT", json.dumps({"error": str(error), "text": classify("good bed")["label"], "broken": broken}))
    sys.exit()
clip = processor.read_media(video, transcript=[(0.0, 0.5, "good"), (0.5, 1.0, "bed")])
answers = classify({"media": video, "text": [(0.0, 0.5, "good"), (0.5, 1.0, "bed")]}, window=1)
broken = classify([{"media": video + ".mp3"}, {"audio": [[1.0]]}], on_error="return")
classify.save_pretrained(again)
lists = {stream: None if getattr(clip, stream) is None else getattr(clip, stream).tolist()
         for stream in ("audio", "vision")}
print("RESULT", json.dumps({**lists, "answers": answers, "report": clip.report,
                            "reasons": [error.reason for error in broken], "module": type(processor).__module__}))
"""


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Two seconds of a voice and a moving square."""
    path = tmp_path_factory.mktemp("video") / "talk.mp4"
    sound = Sound(harmonic_sound(2.0), codec="aac")
    return write_media(path, Film(moving_film(2.0), rate=25), sound)


def whisper_and_image_encoder(folder):
    torch.manual_seed(0)
    small = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    whisper = WhisperConfig(
        vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, pad_token_id=0, bos_token_id=0, eos_token_id=0,
        decoder_start_token_id=0, suppress_tokens=None, begin_suppress_tokens=None, **small,
    )  # fmt: skip
    WhisperForConditionalGeneration(whisper).save_pretrained(folder / "whisper")
    vit = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16
    )
    ViTModel(vit).save_pretrained(folder / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder / "vit")
    return {"audio_encoder": str(folder / "whisper"), "vision_encoder": str(folder / "vit")}


def random_face_networks():
    torch.manual_seed(0)
    tensors = {name: values.half().numpy() for name, values in FaceNetworks().state_dict().items()}
    return Network(tensors, {"license": "Apache-2.0"})


def load_as_stranger(name, video, again, cache, with_av="yes"):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HF_MODULES_CACHE")}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cache)}
    process = run_fresh(STRANGER, name, video, str(again), with_av, cwd=cache, env=environment)
    assert process.returncode == 0, process.stderr[-3000:]
    line = next(line for line in process.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


@pytest.mark.parametrize("kinds", [("whisper", "clip"), ("descriptors", "face")], ids="-".join)
def test_the_extraction_travels(kinds, clip_model, wordpiece, video, tmp_path, monkeypatch):
    monkeypatch.setattr(extractors, "load_face_weights", random_face_networks)
    made = extractors.make_extractor(*kinds, vision_rate=5, **whisper_and_image_encoder(tmp_path))
    extractor = DashFusionFeatureExtractor(media=made.settings.to_dict(), networks=made.networks)
    sizes = {name: getattr(extractor, name) for name in ("audio_feature_size", "vision_feature_size")}
    limits = {name: getattr(extractor, name) for name in ("max_audio_length", "max_vision_length")}
    processor = DashFusionProcessor(wordpiece, extractor)
    classify = FusionSentimentPipeline(clip_model(**sizes, **limits), processor=processor, device="cpu")
    hub = tmp_path / "hub" / "models--acme--talks"
    classify.save_pretrained(hub / "snapshots" / ("a" * 40))
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("a" * 40)

    result = load_as_stranger("acme/talks", video, tmp_path / "again", tmp_path)
    assert result["module"].startswith("transformers_modules")
    assert "talk.mp4.mp3 cannot be read" in result["reasons"][0] and "audio" in result["reasons"][1]
    words = [(0.0, 0.5, "good"), (0.5, 1.0, "bed")]
    clip = processor.read_media(video, transcript=words)
    assert clip.report == result["report"] and clip.report["voiced_share"] > 0.5
    assert_close(torch.tensor(result["audio"]), torch.from_numpy(clip.audio), atol=1e-5)
    if kinds[1] == "clip":
        assert clip.vision.shape == (10, 16) and clip.vision.std() > 0
        assert_close(torch.tensor(result["vision"]), torch.from_numpy(clip.vision), atol=1e-5)
    answers = classify({"media": video, "text": words}, window=1)
    assert [answer["text"] for answer in result["answers"]] == ["good bed", None]
    assert [answer["score"] for answer in result["answers"]] == pytest.approx(
        [answer["score"] for answer in answers], rel=1e-4
    )
    # what the stranger saved again has the same weights, to the bit
    again = DashFusionProcessor.from_pretrained(tmp_path / "again").feature_extractor.media_extractor
    assert again.networks.keys() == made.networks.keys() and len(made.networks) == 1 + (kinds[1] == "clip")
    for kind, network in made.networks.items():
        for name, values in network.tensors.items():
            np.testing.assert_array_equal(again.networks[kind].tensors[name], values)


def test_without_pyav_all_but_files_works(media_checkpoint, video, tmp_path):
    result = load_as_stranger(str(media_checkpoint), video, "", tmp_path, with_av="no")
    assert "pip install" in result["error"] and "av" in result["error"]
    assert result["text"] and "audio" in result["broken"]
