"""The picture of a recording over time."""

from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest
from figure_text import check_legends, check_texts, visible_texts
from matplotlib.colors import to_hex

from hf_fusion.deployment.predict_media import MediaPrediction
from hf_fusion.evaluation.curve_plot import (
    NEGATIVE,
    POSITIVE,
    check_curves,
    curve_path,
    draw_curve,
    plot_curve,
)
from hf_fusion.utils.errors import DataError

SENTENCE = "the room was not bad at all but breakfast was cold and somebody told us at once to wait in front of it"
EMOTIONS = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgusted", "surprised"]
OVERALL = {"start": 0.0, "end": 8.0, "label": "positive", "score": 0.5}


def answers_of(seconds, window, hop, gap=(0.0, 0.0), names=("negative", "positive"), text=SENTENCE):
    rng = np.random.default_rng(0)
    answers = []
    for start in np.arange(0.0, seconds - window + 1e-6, hop).tolist():
        score = float(rng.normal())
        answer = {"start": start, "end": start + window, "text": text, "modalities": {"text": 0.8, "audio": 0.5}}
        label = names[int(rng.integers(len(names)))] if len(names) > 2 else names[score > 0]
        answer |= {"label": label, "score": abs(score) % 1 if len(names) > 2 else score}
        if gap[0] <= start < gap[1]:
            answer |= {"text": None, "label": None, "score": None, "modalities": {}}
        answers.append(answer)
    return answers


def sentences(*places):
    return [{**answers_of(1, 1, 1)[0], "start": start, "end": end, "score": score} for start, end, score in places]


FIGURES = {
    "one answer": lambda: plot_curve(answers_of(8, 8, 8), "clip.mp4", OVERALL, (-3.0, 3.0)),
    "8 seconds": lambda: plot_curve(answers_of(8, 2, 0.5), "clip.mp4", OVERALL, (-3.0, 3.0)),
    "2 minutes with a gap": lambda: plot_curve(answers_of(120, 10, 2, (50, 66)), "talk.mp4", None, (-3.0, 3.0)),
    "an hour": lambda: plot_curve(answers_of(3600, 10, 2, (1000, 1100)), "lecture.mp4", OVERALL),
    "four hours": lambda: plot_curve(answers_of(14400, 10, 10), "a name that is " + "very " * 30 + "long.mp4"),
    "classes": lambda: plot_curve(answers_of(120, 10, 10, (50, 70), EMOTIONS), "talk.mp4", OVERALL, classes=EMOTIONS),
    "sentences": lambda: plot_curve(sentences((0.5, 3, 1.0), (3.5, 4, -2.0), (4, 9, 0.0)), "talk.mp4"),
    "no words": lambda: plot_curve(answers_of(60, 10, 2, text=None), "$talk$.mp4", modalities=["audio"]),
    "Chinese": lambda: plot_curve(answers_of(60, 10, 2, text="房间还不错但是早餐是冷的" * 9), "talk.mp4"),
    "nothing known": lambda: plot_curve(answers_of(60, 10, 10, (0, 60)), "talk.mp4"),
}


@pytest.mark.filterwarnings("ignore:Glyph")  # without a font for Chinese boxes are drawn
@pytest.mark.parametrize("name", FIGURES)
def test_texts_have_room(name):
    figure = FIGURES[name]()
    check_texts(figure)
    check_legends(figure)


def texts(figure):
    return [text for text, _ in visible_texts(figure)]


def lines(axes):
    """Points of the black lines of the curve."""
    return [line.get_xydata() for line in axes.lines if line.get_color() == "black" and len(line.get_xydata()) > 1]


def test_the_curve_runs_through_the_middles_of_overlapping_windows_and_ends_at_gaps():
    answers = answers_of(12, 4, 2, gap=(4, 5))  # of windows at 0, 2, 4, 6 and 8 s the third is not known
    curve = plot_curve(answers, "talk.mp4", label_range=(-3.0, 3.0)).axes[0]
    before, after = lines(curve)
    scores = [answer["score"] for answer in answers]
    assert before.tolist() == [[0, scores[0]], [2, scores[0]], [4, scores[1]], [5, scores[1]]]
    assert after.tolist() == [[7, scores[3]], [8, scores[3]], [10, scores[4]], [12, scores[4]]]
    assert curve.get_xlim() == (0, 12) and curve.get_ylim() == pytest.approx((-3.18, 3.18))


def test_sentences_are_steps_with_pauses_between():
    curve = plot_curve(sentences((1, 3, 1.0), (3, 4, -2.0), (5, 6, 0.5))).axes[0]
    first, second = lines(curve)
    assert first.tolist() == [[1, 1], [3, 1], [3, -2], [4, -2]] and second.tolist() == [[5, 0.5], [6, 0.5]]


@pytest.mark.parametrize(("score", "color"), [(-1.5, POSITIVE), (-2.5, NEGATIVE)])
def test_colors_have_a_fixed_meaning(score, color):
    figure = plot_curve(sentences((0, 1, score)), label_range=(-3.0, -1.0))
    (area,) = [fill for fill in figure.axes[0].collections if fill.get_paths()]
    assert to_hex(area.get_facecolor()[0]) == color
    shown = {text.get_text(): to_hex(patch.get_facecolor()) for text, patch in zip(
        figure.legends[0].get_texts(), figure.legends[0].get_patches(), strict=True)}  # fmt: skip
    assert shown == {"positive": POSITIVE, "negative": NEGATIVE}


def test_gaps_and_modalities_are_where_the_answers_say():
    answers = answers_of(8, 2, 2, gap=(4, 5))
    *_, text, audio = plot_curve(answers, modalities=["text", "audio"]).axes
    gap, share = text.collections
    assert gap.get_paths()[0].get_extents().intervalx.tolist() == [4, 6]
    points = share.get_paths()[0].vertices
    assert points[:, 1].max() == 0.8 and audio.collections[1].get_paths()[0].vertices[:, 1].max() == 0.5
    assert not ((points[:, 0] > 4) & (points[:, 0] < 6)).any() and points[points[:, 0] == 4][:, 1].min() == 0


def test_long_recordings_show_a_running_mean():
    answers = answers_of(3600, 10, 2)
    figure = plot_curve(answers)
    (mean,) = lines(figure.axes[0])
    scores = np.array([answer["score"] for answer in answers])
    span = len(answers) // 120
    assert mean[500, 1] == pytest.approx(scores[499 - span // 2 :][:span].mean(), abs=0.1)
    assert any(text.startswith("mean over 0:") for text in texts(figure))


def test_words_are_those_of_the_strongest_answers_that_have_room():
    answers = answers_of(600, 2, 2, text="something said")
    answers[100] |= {"score": 9.0, "text": "the strongest of all"}
    answers[101] |= {"score": 8.0, "text": "too near"}
    shown = " ".join(" ".join(texts(plot_curve(answers))).split())
    assert "the strongest of all" in shown and "too near" not in shown and shown.count("something said") >= 6


def test_overall_gaps_and_modalities_are_named():
    shown = texts(plot_curve(answers_of(20, 2, 2, (4, 8)), "talk.mp4", OVERALL, modalities=["text", "vision"]))
    assert {"talk.mp4", "overall: positive, +0.50", "nothing known", "text", "vision", "0:10"} <= set(shown)
    assert "audio" not in shown
    shown = texts(plot_curve(answers_of(20, 2, 2, names=EMOTIONS), "", {**OVERALL, "label": "sad"}, classes=EMOTIONS))
    assert "overall: sad, 50%" in shown and "positive" not in shown


def test_nothing_to_plot():
    with pytest.raises(ValueError, match="`answers` is empty"):
        plot_curve([])


class TestCurvePath:
    def test_one_file_has_the_picture_itself(self, tmp_path):
        assert curve_path("out/curve.png", "a/talk.mp4", ["a/talk.mp4"]) == Path("out/curve.png")
        assert curve_path("curves", "a/talk.mp4", ["a/talk.mp4"]) == Path("curves/talk.png")

    def test_several_files_have_one_each(self):
        files = ["a/talk.mp4", "a/other.mp4", "a/talk.wav", "b/talk.wav"]
        names = [curve_path("curve.svg", file, files).name for file in files]
        assert names == ["curve-talk.mp4.svg", "curve-other.svg", "curve-talk.wav-1.svg", "curve-talk.wav-2.svg"]

    def test_refused_before_the_run(self):
        with pytest.raises(DataError, match="`plot` shows the answers over time: set `window`"):
            check_curves("curve.png", None)
        with pytest.raises(DataError, match=r"`plot` must end in .png, .pdf, .svg, or be a folder, got 'a.bmp'"):
            check_curves("a.bmp", 2.0)


def test_drawn_for_a_file_with_answers(tmp_path):
    config = SimpleNamespace(num_labels=1, label_range=(-3.0, 3.0), modalities=("text", "audio"))
    prediction = MediaPrediction("in/talk.mp4", answers_of(8, 2, 1), OVERALL)
    path = draw_curve(prediction, str(tmp_path / "curves/"), ["in/talk.mp4"], config)
    assert path == tmp_path / "curves/talk.png" and matplotlib.image.imread(path)[..., :3].std() > 0.02
    assert draw_curve(MediaPrediction("in/talk.mp4", error="broken"), str(tmp_path), ["in/talk.mp4"], config) is None
