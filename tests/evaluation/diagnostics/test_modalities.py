import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, List

from hf_fusion import FusionSentimentPipeline
from hf_fusion.data.clips import ClipSource, load_clips
from hf_fusion.data.synthetic_clips import AUDIO_FEATURE_SIZE, VISION_FEATURE_SIZE
from hf_fusion.evaluation.diagnostics import modalities
from hf_fusion.evaluation.diagnostics.collect import observe_rows, row_inputs
from hf_fusion.evaluation.diagnostics.modalities import AlignmentDiagnosis, ModalityDiagnosis

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


def align(pipe, clips, corpus=None):
    inputs = row_inputs(clips)
    diagnosis = AlignmentDiagnosis(pipe, clips, inputs, corpus)
    observe_rows(pipe, inputs, [diagnosis])
    return diagnosis.report()


def examine(pipe, clips):
    inputs = row_inputs(clips)
    diagnosis = ModalityDiagnosis(pipe, clips, inputs)
    observe_rows(pipe, inputs, [diagnosis])
    return diagnosis.report()


def look(pipe, clips, choose):
    """The section of a model whose tokens look at the frames that `choose` says, `(frames,)` weights."""
    truth = modalities._truth(CORPUS)
    diagnosis = AlignmentDiagnosis(pipe, clips, row_inputs(clips), CORPUS)
    for i, row in enumerate(clips):
        words = modalities._words_of_tokens(pipe.processor.tokenizer, row["text"])
        weights = {}
        for name, rate in modalities._RATES.items():
            moments = (np.arange(len(row[name])) + 0.5) / rate
            frames = [choose(truth[row["id"]]["word_times"], word, moments) for word in words]
            weights[f"text_{name}"] = torch.tensor(np.pad(frames, ((0, 0), (1, 0))))[None, None]
        diagnosis.observe([i], {"alignment_attentions": weights})
    return diagnosis.report()


def own_frames(times, word, moments):
    return ((moments >= times[word]) & (moments < times[word + 1])).astype(float) if word >= 0 else 0 * moments


def first_frame(times, word, moments):
    return np.eye(len(moments))[0]


@pytest.mark.parametrize(("choose", "ok"), [(own_frames, True), (first_frame, False)])
def test_hit_rate(make_pipe, clips, choose, ok):
    section = look(make_pipe(), clips, choose)
    assert [finding.ok for finding in section.findings] == [ok, True, ok, True]
    rates = [section.data["alignment"][name]["hit_rate"] for name in ("audio", "vision")]
    assert rates == [1, 1] if ok else max(rates) == 0, "no opinion is the first word"
    assert section.data["alignment"]["audio"]["opinions"] > 60
    low, high = section.findings[0].interval
    assert low <= section.findings[0].value <= high


def test_a_model_that_looks_anywhere_is_as_good_as_chance(make_pipe, clips):
    rng = np.random.default_rng(0)
    section = look(make_pipe(), clips, lambda times, word, moments: rng.random(len(moments)))
    found = section.data["alignment"]["audio"]
    assert found["hit_rate"] == pytest.approx(found["chance"], abs=0.15)


def test_attention_that_is_even(make_pipe, clips):
    section = look(make_pipe(), clips, lambda times, word, moments: np.ones(len(moments)))
    evenness = [finding for finding in section.findings if finding.name.startswith("evenness")]
    assert [finding.ok for finding in evenness] == [False, False]
    assert evenness[0].value == pytest.approx(1) and "there is no alignment" in evenness[0].text


def test_maps_of_a_real_model(make_pipe, clips):
    pipe = make_pipe()
    section = align(pipe, clips)
    assert len(section.findings) == 2 and section.data == {"alignment": {}}, "when a word is spoken is not known"
    left, right = [axes for axes in section.figures["alignment"].axes if axes.images][:2]
    assert (left.get_title(), right.get_title()) == ("words to audio", "words to vision")
    words = min(clips["text"], key=lambda text: abs(len(text.split()) - 8)).split()
    assert left.get_yticklabels()[1].get_text() == pipe.processor.tokenizer.tokenize(words[0])[0]
    np.testing.assert_allclose(left.images[0].get_array().mean(), 1, atol=0.2), "about 1, without the class token"
    assert left.get_xlabel() == "frame" and left.get_xlim() == (-0.5, left.images[0].get_array().shape[1] - 0.5)
    with_truth = align(pipe, clips, CORPUS)
    left, right = [axes for axes in with_truth.figures["alignment"].axes if axes.images][:2]
    assert left.get_xlabel() == "seconds" and left.get_xlim()[1] == pytest.approx(right.get_xlim()[1], abs=0.25)
    assert all(0 <= f["hit_rate"] <= 1 for f in with_truth.data["alignment"].values())


@pytest.mark.parametrize("fields", [{"temporal_alignment": False}, {"anchor": "audio"}], ids=["none", "audio"])
def test_nothing_to_show(make_pipe, clips, fields):
    assert align(make_pipe(**fields), clips) is None


def test_modalities_taken_away(make_pipe, clips):
    pipe = make_pipe()
    section = examine(pipe, clips)
    found = section.data["modalities"]
    assert list(found) == ["all", "without text", "without audio", "without vision", "text alone", "audio alone",
                           "vision alone"]  # fmt: skip
    answers = pipe([{"text": row["text"], "audio": np.array(row["audio"])} for row in clips])
    expected = np.mean([abs(a["score"] - row["label"]) for a, row in zip(answers, clips, strict=True)])
    assert found["without vision"]["mae"] == pytest.approx(expected, rel=1e-4)
    worth = {finding.name: finding.value for finding in section.findings}
    assert worth["cost of losing vision"] == pytest.approx(expected - found["all"]["mae"], rel=1e-3)
    low, high = section.findings[2].interval
    assert low < section.findings[2].value < high and "always answering the median label" in section.findings[0].text
    bars = section.figures["modalities"].axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx([values["mae"] for values in found.values()])
    assert "Trained without modality dropout" in section.text
    assert "Trained to do without" in examine(make_pipe(modality_distillation=0.2), clips).text


def test_modalities_taken_away_from_a_model_of_classes(make_pipe, clips):
    pipe = make_pipe(id2label={0: "low", 1: "middle", 2: "high"}, problem_type="single_label_classification")
    rows = clips.remove_columns("label").add_column("label", [i % 3 for i in range(len(clips))])
    section = examine(pipe, rows)
    found = section.data["modalities"]
    answers = pipe([{"text": row["text"], "audio": np.array(row["audio"])} for row in rows])
    numbers = pipe.model.config.label2id
    expected = np.mean([numbers[a["label"]] == row["label"] for a, row in zip(answers, rows, strict=True)])
    assert found["without vision"]["accuracy"] == pytest.approx(expected)
    assert {"accuracy", "uar", "macro_f1", "given"} == set(section.tables["Metrics"][0])
    assert section.findings[2].value == pytest.approx(found["all"]["accuracy"] - expected)
    assert "share of wrong classes added" in section.findings[0].text
    assert section.figures["modalities"].axes[0].get_xlabel() == "share of wrong classes (less is better)"
    feature = List(ClassLabel(names=["low", "middle", "high"]))
    sets = [[0, 2][: i % 3] for i in range(len(clips))]
    rows = rows.remove_columns("label").add_column("label", sets, feature=feature)
    assert examine(make_pipe(num_labels=3, problem_type="multi_label_classification"), rows) is None


def test_a_modality_that_is_not_used_is_worth_nothing(make_pipe, clips):
    pipe = make_pipe(fusion="concat", temporal_alignment=False)
    with torch.no_grad():
        weight = pipe.model.classifier[0].weight
        weight[:, 3 * 16 :] = 0  # the part of the pooled vector that is vision
    worth = {f.name: f.value for f in examine(pipe, clips).findings}
    assert worth["cost of losing vision"] == pytest.approx(0, abs=1e-6)
    assert abs(worth["cost of losing audio"]) > 1e-3


def test_text_alone_has_nothing_to_compare(make_pipe):
    rows = Dataset.from_dict({"id": ["a"], "text": ["good"], "label": [1.0]})
    assert examine(make_pipe(), rows) is None
