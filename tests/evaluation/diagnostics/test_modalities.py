import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_fusion import FusionSentimentPipeline
from hf_fusion.data.clips import ClipSource, load_clips
from hf_fusion.data.synthetic_clips import AUDIO_FEATURE_SIZE, VISION_FEATURE_SIZE
from hf_fusion.evaluation.diagnostics import modalities
from hf_fusion.evaluation.diagnostics.modalities import alignment_section, modality_section

CORPUS = {"num_train": 2, "num_validation": 2, "num_test": 30}


@pytest.fixture
def clips():
    return load_clips(ClipSource("synthetic-clips", options=CORPUS))["test"]


@pytest.fixture
def make_pipe(clip_model, wordpiece):
    def make(**fields):
        from hf_fusion import DashFusionFeatureExtractor, DashFusionProcessor

        sizes = {"audio_feature_size": AUDIO_FEATURE_SIZE, "vision_feature_size": VISION_FEATURE_SIZE,
                 "max_audio_length": 60, "max_vision_length": 40}  # fmt: skip
        processor = DashFusionProcessor(wordpiece, DashFusionFeatureExtractor(**sizes))
        return FusionSentimentPipeline(clip_model(**sizes, **fields), processor=processor, device="cpu")

    return make


def look(monkeypatch, choose):
    """Replaces the model: each token looks at the frames that `choose` says, `(frames,)` weights."""
    truth = modalities._truth(CORPUS)

    def outputs_over(classify, rows, batch_size):
        for i, row in enumerate(rows):
            text = row["text"]
            words = modalities._words_of_tokens(classify.processor.tokenizer, text)
            weights = {}
            for name, rate in modalities._RATES.items():
                moments = (np.arange(len(row[name])) + 0.5) / rate
                frames = [choose(truth[row["id"]]["word_times"], word, moments) for word in words]
                weights[f"text_{name}"] = torch.tensor(np.pad(frames, ((0, 0), (1, 0))))[None, None]
            yield [i], {}, {"alignment_attentions": weights}

    monkeypatch.setattr(modalities, "outputs_over", outputs_over)


def own_frames(times, word, moments):
    return ((moments >= times[word]) & (moments < times[word + 1])).astype(float) if word >= 0 else 0 * moments


def first_frame(times, word, moments):
    return np.eye(len(moments))[0]


@pytest.mark.parametrize(("choose", "ok"), [(own_frames, True), (first_frame, False)])
def test_hit_rate(make_pipe, clips, monkeypatch, tmp_path, choose, ok):
    look(monkeypatch, choose)
    section = alignment_section(make_pipe(), clips, tmp_path, corpus=CORPUS)
    assert [finding.ok for finding in section.findings] == [ok, ok]
    rates = [section.data["alignment"][name]["hit_rate"] for name in ("audio", "vision")]
    assert rates == [1, 1] if ok else max(rates) == 0, "no opinion is the first word"
    assert section.data["alignment"]["audio"]["opinions"] > 60
    assert section.pictures[0].stat().st_size > 5000


def test_a_model_that_looks_anywhere_is_as_good_as_chance(make_pipe, clips, monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    look(monkeypatch, lambda times, word, moments: rng.random(len(moments)))
    found = alignment_section(make_pipe(), clips, tmp_path, corpus=CORPUS).data["alignment"]["audio"]
    assert found["hit_rate"] == pytest.approx(found["chance"], abs=0.15)


def test_maps_of_a_real_model(make_pipe, clips, tmp_path):
    section = alignment_section(make_pipe(), clips, tmp_path)
    assert section.findings == [] and section.data == {"alignment": {}}, "when a word is spoken is not known"
    assert section.pictures[0].stat().st_size > 5000
    with_truth = alignment_section(make_pipe(), clips, tmp_path, corpus=CORPUS)
    assert all(0 <= f["hit_rate"] <= 1 for f in with_truth.data["alignment"].values())


@pytest.mark.parametrize("fields", [{"temporal_alignment": False}, {"anchor": "audio"}], ids=["none", "audio"])
def test_nothing_to_show(make_pipe, clips, tmp_path, fields):
    assert alignment_section(make_pipe(**fields), clips, tmp_path) is None


def test_modalities_taken_away(make_pipe, clips, tmp_path):
    pipe = make_pipe()
    section = modality_section(pipe, clips, tmp_path)
    found = section.data["modalities"]
    assert list(found) == ["all", "without text", "without audio", "without vision", "text alone", "audio alone",
                           "vision alone"]  # fmt: skip
    answers = pipe([{"text": row["text"], "audio": np.array(row["audio"])} for row in clips])
    expected = np.mean([abs(a["score"] - row["label"]) for a, row in zip(answers, clips, strict=True)])
    assert found["without vision"]["mae"] == pytest.approx(expected, rel=1e-4)
    worth = {finding.name: finding.value for finding in section.findings}
    assert worth["what vision is worth"] == pytest.approx(expected - found["all"]["mae"], rel=1e-3)
    assert "Trained without modality dropout" in section.text
    assert "Trained to do without" in modality_section(make_pipe(modality_distillation=0.2), clips, tmp_path).text


def test_a_modality_that_is_not_used_is_worth_nothing(make_pipe, clips, tmp_path):
    pipe = make_pipe(fusion="concat", temporal_alignment=False)
    with torch.no_grad():
        weight = pipe.model.classifier[0].weight
        weight[:, 3 * 16 :] = 0  # the part of the pooled vector that is vision
    worth = {f.name: f.value for f in modality_section(pipe, clips, tmp_path).findings}
    assert worth["what vision is worth"] == pytest.approx(0, abs=1e-6)
    assert abs(worth["what audio is worth"]) > 1e-3


def test_text_alone_has_nothing_to_compare(make_pipe, tmp_path):
    rows = Dataset.from_dict({"id": ["a"], "text": ["good"], "label": [1.0]})
    assert modality_section(make_pipe(), rows, tmp_path) is None
