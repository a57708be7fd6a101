"""The parts of an answer as the page shows them, beside the answers of the pipeline."""

import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from demo_inputs import FEW_CLIPS, HOSTILE, TURNED

from hf_fusion.deployment.demo.answers import (
    MOST_BARS,
    MOST_EXPLAINED,
    Answer,
    Bar,
    Chart,
    answer_clip,
    answer_text,
    explain_answer,
)
from hf_fusion.deployment.demo.checkpoints import check_comparable, load_models
from hf_fusion.deployment.demo.clips import load_demo_clips
from hf_fusion.deployment.demo.rendering import render_answers, render_error, render_models
from hf_fusion.utils.errors import DataError

pytest_plugins = ["demo_models"]


def explained(model, text):
    return explain_answer(model, text, answer_text(model, text))


TEXT = "The room was not bad at all, but breakfast was cold."

# All that the template of answers writes.
TAGS = {"article", "b", "bdi", "caption", "details", "div", "h3", "h4", "i", "mark", "p", "section", "span", "strong",
        "summary", "table", "tbody", "td", "th", "thead", "tr"}  # fmt: skip
ATTRIBUTES = {"aria-label", "class", "dir", "open", "role", "scope", "style", "tabindex"}


class ParsedPage(HTMLParser):
    """The tags and attributes of HTML, and the texts of its paragraphs with class `hf-text`."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.texts, self._inside = set(), set(), [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "p":
            self._inside = "hf-text" in dict(attrs).get("class", "").split()
            self.texts += [""] * self._inside

    def handle_endtag(self, tag):
        self._inside = self._inside and tag != "p"

    def handle_data(self, data):
        if self._inside:
            self.texts[-1] += data


def test_a_text_has_the_numbers_of_the_pipeline(review_model):
    answer, expected = answer_text(review_model, TEXT), review_model(TEXT)
    assert answer.headline == expected["label"] and answer.score == f"{expected['score']:.0%}" and not answer.unsure
    fine, coarse = answer.charts
    assert [bar.name for bar in fine.bars] == list(review_model.config.id2label.values())
    assert sum(bar.share for bar in fine.bars) == pytest.approx(1)
    (chosen,) = (bar for bar in fine.bars if bar.chosen)
    assert chosen.name == expected["label"] and chosen.share == pytest.approx(expected["score"])
    assert coarse.bars[0].name == expected["coarse"]["label"]
    intensity, value = answer.scales
    assert intensity.value == f"{expected['intensity']:.2f}" and intensity.place == pytest.approx(expected["intensity"])
    assert value.value == f"{expected['expected']:.2f}" and (value.low, value.high) == ("1", "5")


def test_words_are_the_whole_text_with_relevance_and_gate(review_model):
    assert answer_text(review_model, TEXT).notes == ["The words are being colored ..."]
    answer = explained(review_model, TEXT)
    explanation = answer.explanation
    assert answer.notes == []
    assert "".join(word.text for word in explanation.words) == TEXT
    spans = review_model(TEXT, explain=True)["explanation"]
    known = [word for word in explanation.words if word.value is not None]
    assert [word.value for word in known] == pytest.approx([span["relevance"] for span in spans])
    assert [word.gate for word in known] == pytest.approx([span["gate"] for span in spans])
    assert explanation.gate == pytest.approx(np.mean([span["gate"] for span in spans]))
    strongest = max(known, key=lambda word: abs(word.value))
    assert strongest.relevance == ("for-3" if strongest.value > 0 else "against-3")
    for word in known:
        assert word.relevance == "" or word.relevance.startswith("for" if word.value > 0 else "against")
        assert word.encoder == "" or word.encoder[0] == ("a" if word.gate > 0.5 else "b")
        assert word.text == word.text.lstrip() or not word.text.strip()
    assert explanation.strongest[0] is strongest


def test_an_unsure_answer_names_the_alternatives(other_model):
    answer = explained(other_model, TEXT)
    assert answer.unsure and len(answer.alternatives) == 3 and len(answer.charts) == 1
    assert answer.explanation.label == answer.headline
    html = render_answers([answer])
    assert "unsure" in html and "&lt;b&gt;other&lt;/b&gt;" in html and "<b>other</b>" not in html


def test_a_long_text_is_answered_without_colors(review_model):
    text = "The bed was good. " * (MOST_EXPLAINED // 18 + 1)
    answer = explained(review_model, text)
    assert answer.explanation is None and answer.headline
    assert answer.notes == [f"Words are colored up to 2,000 characters; this text has {len(text):,}."]
    assert text in render_answers([answer], text)


@pytest.mark.parametrize(
    ("text", "reason"), [("", "is empty"), (" \n", "is empty"), ("\ud800 bad", "lone surrogate"), ("a.csv", "a file")]
)
def test_the_reason_of_a_text_that_cannot_be_read(review_model, text, reason):
    answer = answer_text(review_model, text)
    assert reason in answer.error and 'role="alert"' in render_answers([answer], text)


@pytest.mark.parametrize("text", [HOSTILE, TURNED, "a\x00b\x1bc good", "&amp; <b>bold</b> \"quoted\" 'single'"])
def test_what_is_typed_is_only_text(review_model, text):
    page = ParsedPage(render_answers([explained(review_model, text)], text))
    assert page.tags <= TAGS and page.attributes <= ATTRIBUTES
    shown = re.sub(r"[\x00\x1b]", "�", text)
    assert page.texts == [shown, shown, shown]  # by relevance, by encoder, and whole
    assert render_error(text).count("<") == 2


def test_many_classes_are_folded():
    chart = Chart("Classes", [Bar(f"class {i}", 0.1, "10 %") for i in range(MOST_BARS + 3)])
    assert len(chart.shown) == MOST_BARS and len(chart.folded) == 3
    assert "3 more" in render_answers([Answer("model", None, "class 0", "10 %", charts=[chart])])


class TestClips:
    @pytest.fixture(scope="class")
    def chosen(self, spoken_model):
        return load_demo_clips(spoken_model, options=FEW_CLIPS, dataset="synthetic-clips")

    def test_of_the_test_split(self, chosen):
        assert len(chosen) == FEW_CLIPS["num_test"]
        clip = chosen[0]
        assert clip.title.startswith("1. ") and clip.modalities["audio"].shape[1] == 8
        assert re.fullmatch(r"audio: \d+ frames of 8 numbers. vision: \d+ frames of 8 numbers. True label: [+-]\d.",
                            clip.facts)  # fmt: skip

    def test_each_modality_is_switched(self, spoken_model, chosen):
        clip = chosen[0].modalities
        whole, part = (answer_clip(spoken_model, clip, names) for names in (["text", "audio", "vision"], ["audio"]))
        assert whole.score == f"{spoken_model(clip)['score']:+.2f}"
        assert part.score == f"{spoken_model({'audio': clip['audio']})['score']:+.2f}" != whole.score
        assert len(whole.rows) == 7 and [row.modalities for row in whole.rows if row.chosen] == [
            "text + audio + vision"
        ]
        assert [row.modalities for row in part.rows if row.chosen] == ["audio"]
        assert "the answers to parts are guesses" in whole.notes[0]
        assert "never trained to do without text and vision: the answer is a guess" in part.notes[0]
        assert whole.scales[0].place == pytest.approx((spoken_model(clip)["score"] + 3) / 6, abs=1e-6)

    def test_none_is_an_error(self, spoken_model, chosen):
        assert "Switch on at least one" in answer_clip(spoken_model, chosen[0].modalities, []).error

    def test_other_frames_are_refused(self, spoken_model, recording_model, review_model):
        assert load_demo_clips(recording_model) == [] == load_demo_clips(review_model)
        with pytest.raises(DataError, match="audio has 8 numbers a frame, acme/talks reads 23"):
            load_demo_clips(recording_model, "synthetic-clips", FEW_CLIPS)
        with pytest.raises(DataError, match="acme/reviews reads text alone"):
            load_demo_clips(review_model, "synthetic-clips")


def test_two_checkpoints_must_read_the_same(review_model, other_model, spoken_model, recording_model):
    check_comparable([review_model, other_model])
    for pair in ([review_model, spoken_model], [spoken_model, recording_model]):
        with pytest.raises(DataError, match="compare two checkpoints that read the same"):
            check_comparable(pair)


def test_one_checkpoint_is_not_compared_with_itself(tmp_path):
    (tmp_path / "one").mkdir()
    with pytest.raises(DataError, match="is given twice"):
        load_models([str(tmp_path / "one"), f"{tmp_path}/one/"])
    with pytest.raises(DataError, match="is given twice"):
        load_models(["acme/one", "acme/one"])


def test_the_names_of_folders_show_no_more_than_their_end(media_checkpoint, tmp_path):
    other = shutil.copytree(media_checkpoint, tmp_path.joinpath(*media_checkpoint.parts[-2:]))
    first, _ = load_models([str(media_checkpoint), str(other)], "cpu")
    assert first.name == str(media_checkpoint)  # both ends are the same
    (model,) = load_models([str(media_checkpoint)], "cpu")
    assert model.name == "/".join(media_checkpoint.parts[-2:])
    html = render_models([model])
    assert "It reads text, audio, and answers a score from -3 to 3." in html
