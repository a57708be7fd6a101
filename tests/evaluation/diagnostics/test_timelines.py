"""Contributions of a clip over time: each at its word or frame, none lost; the columns by their names."""

import numpy as np
import pytest
from figure_text import check_texts

from hf_fusion import FusionSentimentPipeline
from hf_fusion.evaluation.diagnostics import attribution
from hf_fusion.evaluation.diagnostics.attribution import attribution_section
from hf_fusion.evaluation.diagnostics.timelines import Timeline, largest_columns, make_timeline, plot_timeline
from hf_fusion.models.media_frames import MediaSettings
from hf_fusion.models.media_voice import DESCRIPTORS

SETTINGS = MediaSettings("descriptors", 20, None, None)


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(attribution, "_STEPS", 24)


def voice(seconds, spoken):
    """Descriptors `(frames, 23)` in which a voice is heard from and to these seconds."""
    frames = np.zeros((round(seconds * 20), len(DESCRIPTORS)), np.float32)
    frames[:, DESCRIPTORS.index("log_energy")] = -12
    frames[round(spoken[0] * 20) : round(spoken[1] * 20)] = 1.0
    frames[round(spoken[0] * 20) : round(spoken[1] * 20), :2] = (-5, 30)
    return frames


def test_words_have_the_contributions_of_their_tokens(media_pipeline):
    text = "the room was unbelievably good"
    tokens = media_pipeline.processor.tokenizer(text, return_offsets_mapping=True)
    assert len(tokens["input_ids"]) > len(text.split()) + 2, "words of several tokens"
    last = [end == len(text) for _, end in tokens["offset_mapping"]]
    contributions = {
        "input_ids": np.where(last, 2.0, [start < 3 and end > 0 for start, end in tokens["offset_mapping"]]),
        "audio": np.arange(80.0),
    }
    contributions["input_ids"][[0, -1]] = 99.0  # of special tokens
    clip = {"text": text, "audio": voice(4, (1, 3))}
    timeline = make_timeline(media_pipeline, clip, "a", 1.5, contributions, SETTINGS)
    assert timeline.values["text"][-1] == 2 * sum(last) and timeline.values["text"][0] > 0
    assert timeline.values["text"][1:-1].tolist() == [0, 0, 0]
    starts, ends, _ = timeline.steps("text")
    assert 0.8 < starts[0] < 1.2 and 2.8 < ends[-1] < 3.2, "where the voice is heard"
    starts, ends, height = timeline.steps("audio")
    assert ends[-1] == pytest.approx(4) and height[3] == pytest.approx(60), "three in a twentieth of a second"


def test_a_section_shows_clips_over_time(media_pipeline, few_steps):
    inputs = [{"text": "the room was good", "audio": voice(2, (0.5, 1.5)) + 0.01 * i} for i in range(6)]
    section = attribution_section(media_pipeline, inputs, ids=[f"clip {i}" for i in range(6)])
    assert list(section.figures) == ["attribution", "timeline_1", "timeline_2", "timeline_3", "timeline_4"]
    titles = [section.figures[f"timeline_{number}"].get_suptitle() for number in range(1, 5)]
    assert [title.partition(":")[0] for title in titles] == [f"clip {i}" for i in range(4)]
    title = titles[0]
    score = media_pipeline(inputs[0])["score"]
    assert float(title.split("score ")[1].split()[0]) == pytest.approx(score, abs=0.006)
    table = section.tables["Columns that contribute most"]
    assert {row["column"] for row in table} <= set(DESCRIPTORS) and len(table) == 10
    shares = [row["share"] for row in table]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
    assert "spread evenly" in section.text


def test_contributions_of_a_clip_are_those_without_padding(media_pipeline, few_steps, monkeypatch):
    found = []
    monkeypatch.setattr(attribution, "make_timeline", lambda *args: found.append(args[4]) or make_timeline(*args))
    inputs = [{"text": "good", "audio": voice(1, (0, 1))}, {"text": "the room was good", "audio": voice(2, (0, 1))}]
    together = attribution_section(media_pipeline, inputs).data["attribution"]["modality"]
    assert [len(values["audio"]) for values in found] == [20, 40]
    sizes = {name: np.mean([abs(values[key].sum()) for values in found])
             for name, key in (("text", "input_ids"), ("audio", "audio"))}  # fmt: skip
    assert sizes["text"] / sum(sizes.values()) == pytest.approx(together["text"], abs=1e-5)


def test_other_models_have_no_timelines(clip_model, clip_processor, clips, few_steps):
    pipe = FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")
    inputs = [{name: values[i] for name, values in clips.items()} for i in (0, 1)]
    section = attribution_section(pipe, inputs)
    assert list(section.figures) == ["attribution"] and not section.tables


def test_columns_have_their_names_and_shares():
    settings = MediaSettings("descriptors", 20, "clip", 2)
    frames = np.zeros((2, 23))
    frames[0, 1], frames[1, 1], frames[0, 4] = 5.0, -2.0, -1.0
    rows = largest_columns({"audio": [frames], "vision": [np.ones((2, 7))]}, settings)
    assert rows[:2] == [
        {"column": "f0_semitones", "of": "audio", "share": 0.75}, {"column": "slope", "of": "audio", "share": 0.25}
    ]  # fmt: skip
    assert largest_columns({"vision": [np.ones((2, 7))]}, settings) == [], "an encoder's columns have no names"


def test_pictures_can_be_read():
    rng = np.random.default_rng(0)
    words = [(i / 5, i / 5 + 0.15, f"word{i}") for i in range(150)]
    values = {"text": rng.normal(size=150), "audio": rng.normal(size=600), "vision": rng.normal(size=300)}
    figure = plot_timeline(Timeline("a clip", -0.4, words, values, {"audio": 20, "vision": 10}))
    check_texts(figure)
    panels = figure.axes
    assert [len(axes.patches) for axes in panels] == [150, 600, 300]
    area = sum(bar.get_height() * bar.get_width() for bar in panels[1].patches)
    assert area == pytest.approx(values["audio"].sum()) and panels[0].get_ylim() == panels[2].get_ylim()
