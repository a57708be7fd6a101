"""The picture of a recording over time: its score, its words, and the modalities that are known."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_fusion.evaluation.plots import BETTER, FORMATS, UNCLEAR, WORSE, new_figure, plain_text, save_figure, wrap
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.extras import import_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POSITIVE, NEGATIVE = BETTER, WORSE
# Of Okabe and Ito (2008), as the other colours.
MODALITY_COLORS = {"text": "#009e73", "audio": "#e69f00", "vision": "#cc79a7"}
_GAP = "#dddddd"
_WIDTH = 11.0
_CURVE, _WORDS, _BAND = 2.6, 0.95, 0.22  # heights in inches
_MARGINS = 1.6  # inches beside the curve, for the labels
_FONT, _CHARACTER = 7, 0.055  # points, and inches of a character of the words
_LINES = 6
_FILL = 0.35  # opacity below the curve
_MOST_POINTS, _SMOOTH = 400, 120  # above so many answers the curve is a mean over this part of them
_SNIPPET = 0.95  # the least width of the words of a stretch in inches
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)  # seconds between ticks
_TICKS = 10


def plot_curve(
    answers: Sequence[dict[str, Any]],
    title: str = "",
    overall: dict[str, Any] | None = None,
    label_range: tuple[float, float] | None = None,
    classes: Sequence[str] | None = None,
    modalities: Sequence[str] = ("text", "audio", "vision"),
) -> Figure:
    """
    Plots the answers to a media file over time.

    The score is a line, filled in blue above the middle of the scale and in orange below; for classes, bars have the
    height of the probability and the colour of the class. Words stand under the stretches where they are said; where
    there is no room for all, those of the strongest answers. A band for each modality shows the share of the time with
    words, a voice, a face. Stretches of which nothing is known are grey.

    Args:
        answers (`Sequence[dict]`): answers of the pipeline to one file, with `window`.
        title (`str`, *optional*): the title, such as the name of the file.
        overall (`dict`, *optional*): the answer to the whole file.
        label_range (`tuple[float, float]`, *optional*): the lowest and highest possible score; by default the scale is
            symmetric around 0 and holds all scores.
        classes (`Sequence[str]`, *optional*): the names of the classes, for a model that predicts classes.
        modalities (`Sequence[str]`, *optional*): the modalities that the model reads.

    Raises:
        ValueError: if there is no answer.
        MissingExtraError: if matplotlib is not installed.

    Example:

    ```python
    from hf_fusion.evaluation.curve_plot import plot_curve
    from hf_fusion.evaluation.plots import save_figure

    answers = [
        {"start": 0.0, "end": 4.0, "text": "good morning", "label": "positive", "score": 1.2,
         "modalities": {"text": 0.5, "audio": 0.7}},
        {"start": 4.0, "end": 8.0, "text": None, "label": None, "score": None, "modalities": {}},
    ]
    figure = plot_curve(answers, "talk.mp4", label_range=(-3.0, 3.0))  # save_figure(figure, "talk.png")
    ```
    """
    if not answers:
        raise ValueError("`answers` is empty: there is nothing to plot.")
    cells, middle = _cells(answers), None if classes else _middle(label_range)
    has_words = any(answer["text"] for answer in answers)
    heights = [_CURVE, *[_WORDS] * has_words, *[_BAND] * len(modalities)]
    figure = new_figure(_WIDTH, sum(heights) + 1.2, title)
    curve, *others = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    bands = others[has_words:]
    ends = 0.0, max(cells[-1][1], overall["end"] if overall else 0.0)
    draw = _draw_classes if classes else _draw_scores
    handles = draw(curve, answers, cells, classes or label_range) + _draw_overall(curve, overall, bool(classes))
    if any(answer["label"] is None for answer in answers):
        handles.append(_patch(_GAP, "nothing known"))
    for axes in (curve, *bands):
        _draw_gaps(axes, answers, cells)
        axes.tick_params(axis="x", length=0)
    for axes, name in zip(bands, modalities, strict=True):
        _draw_band(axes, answers, cells, name)
    if has_words:
        _draw_words(others[0], curve, answers, middle, ends)
    curve.set_xlim(ends)
    _format_time([curve, *bands][-1], ends[1])
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), fontsize=8, frameon=False)
    return plain_text(figure)


def _middle(label_range):
    return sum(label_range) / 2 if label_range else 0.0


def _cells(answers):
    """The stretch of time that each answer stands for in the picture: overlapping ones meet halfway."""
    edges = [[answer["start"], answer["end"]] for answer in answers]
    for (before, answer), (left, right) in zip(pairwise(answers), pairwise(edges), strict=True):
        if answer["start"] < before["end"]:
            left[1] = right[0] = (before["start"] + before["end"] + answer["start"] + answer["end"]) / 4
    return edges


def _draw_scores(axes, answers, cells, label_range):
    middle = _middle(label_range)
    known = [answer["score"] for answer in answers if answer["score"] is not None]
    if label_range is None:
        most = max(map(abs, known), default=1.0)
        label_range = (-most, most)
    low, high = min([label_range[0], *known]), max([label_range[1], *known])
    axes.axhline(middle, color=UNCLEAR, linewidth=0.8)
    span = len(answers) // _SMOOTH if len(answers) > _MOST_POINTS else 1
    for times, scores in _runs(answers, cells):
        line = _running_mean(scores, span)
        for color, side in ((POSITIVE, line > middle), (NEGATIVE, line < middle)):
            axes.fill_between(times, middle, line, side, interpolate=True, color=color, alpha=_FILL, linewidth=0)
        axes.plot(times, line, color="black", linewidth=1.2)
        if span > 1:
            axes.plot(times, scores, color=UNCLEAR, linewidth=0.4, alpha=0.6, zorder=1)
    axes.set(ylabel="score", ylim=(low - 0.03 * (high - low), high + 0.03 * (high - low)))
    handles = [_patch(POSITIVE, "positive", _FILL), _patch(NEGATIVE, "negative", _FILL)]
    if span > 1:
        seconds = span * (cells[-1][1] - cells[0][0]) / len(answers)
        handles += [_line(f"mean over {_clock(seconds)}"), _line("score", UNCLEAR, linewidth=0.6)]
    return handles


def _running_mean(scores, span):
    """The mean over `span` scores around each one, or those there are."""
    ones = np.ones(span)
    count = np.convolve(np.ones(len(scores)), ones)
    start = (span - 1) // 2
    return (np.convolve(scores, ones) / count)[start : start + len(scores)]


def _runs(answers, cells):
    """Times and scores of the lines between gaps: through the middles of overlapping stretches, else in steps."""
    overlap = any(answer["start"] < before["end"] for before, answer in pairwise(answers))
    runs, last = [], None
    for answer, (left, right) in zip(answers, cells, strict=True):
        if answer["score"] is not None:
            if last is None or left > last + 1e-6:
                runs.append([])
            runs[-1].append((left, _center(answer), right, answer["score"]))
        last = None if answer["score"] is None else right
    for run in runs:
        lefts, middles, rights, scores = map(np.array, zip(*run, strict=True))
        if overlap:
            yield np.r_[lefts[0], middles, rights[-1]], np.r_[scores[0], scores, scores[-1]]
        else:
            yield np.stack([lefts, rights], axis=1).ravel(), np.repeat(scores, 2)


def _draw_classes(axes, answers, cells, classes):
    colormap = import_extra("matplotlib", "plots").colormaps["tab10" if len(classes) <= 10 else "tab20"]
    colors = {name: colormap(i % colormap.N) for i, name in enumerate(classes)}
    shown = [name for name in classes if any(answer["label"] == name for answer in answers)]
    for name in shown:
        heights = [answer["score"] if answer["label"] == name else 0.0 for answer in answers]
        _draw_bars(axes, cells, heights, colors[name])
    axes.set(ylabel="probability", ylim=(0, 1))
    return [_patch(colors[name], name) for name in shown]


def _draw_overall(axes, overall, is_class):
    """Writes the overall answer above the curve; returns its handles for the legend."""
    if overall is None:
        return []
    score = f"{overall['score']:.0%}" if is_class else f"{overall['score']:+.2f}"
    axes.set_title(f"overall: {overall['label']}, {score}", fontsize=9, loc="right")
    if is_class:
        return []
    axes.axhline(overall["score"], color="black", linestyle=":", linewidth=1)
    return [_line("overall", linestyle=":", linewidth=1)]


def _draw_gaps(axes, answers, cells):
    gaps = [cell for answer, cell in zip(answers, cells, strict=True) if answer["label"] is None]
    if gaps:
        _draw_bars(axes, gaps, np.ones(len(gaps)), _GAP, transform=axes.get_xaxis_transform(), zorder=0)


def _draw_band(axes, answers, cells, name):
    _draw_bars(axes, cells, [answer["modalities"].get(name, 0.0) for answer in answers], MODALITY_COLORS[name])
    axes.set(ylim=(0, 1), yticks=[])
    axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)


def _draw_bars(axes, cells, heights, color, **style):
    """Bars as one area, which is drawn fast."""
    times = np.repeat(cells, 2, axis=1).ravel()  # left, left, right, right
    levels = np.outer(np.array(heights, dtype=float), (0, 1, 1, 0)).ravel()
    axes.fill_between(times, levels, color=color, linewidth=0, **style)


def _draw_words(axes, curve, answers, middle, ends):
    """Writes the words of the strongest answers below their places, and marks these on the curve."""
    axes.set(ylim=(0, 1))
    axes.set_axis_off()
    inch = (ends[1] - ends[0]) / (_WIDTH - _MARGINS)  # seconds of an inch
    chosen = _choose(answers, middle, _SNIPPET * inch)
    centers = [_center(answers[i]) for i in chosen]
    for i, center in zip(chosen, centers, strict=True):
        others = [abs(center - other) for other in centers if other != center]
        width = min([*others, ends[1] - ends[0]])
        place = min(max(center, ends[0] + width / 2), ends[1] - width / 2) if len(centers) == 1 else center
        text = _snippet(answers[i]["text"], int(width / inch / _CHARACTER) - 1)
        axes.text(place, 1, text, fontsize=_FONT, va="top", ha="center", linespacing=1.1)
        if middle is not None and answers[i]["score"] is not None:
            curve.plot([center, center], [curve.get_ylim()[0], answers[i]["score"]], color=UNCLEAR, linewidth=0.5)
            curve.plot([center], [answers[i]["score"]], marker="o", markersize=3, color="black")


def _choose(answers, middle, distance):
    """
    Numbers of the answers whose words are shown: as many as have room, and among these the strongest. None lies within
    `distance` of another or shares time with it.
    """
    spoken = sorted((i for i, answer in enumerate(answers) if answer["text"]), key=lambda i: _center(answers[i]))
    strengths = [_strength(answers[i], middle) for i in spoken]
    strongest = max(strengths, default=0.0) or 1.0
    best = [(0.0, [])]  # of the first n answers: the worth of the best choice, and the choice as nested pairs
    last = 0
    for n, (i, strength) in enumerate(zip(spoken, strengths, strict=True)):
        while last < n and not _collide(answers[spoken[last]], answers[i], distance):
            last += 1
        worth = best[last][0] + 1 + strength / strongest
        best.append(max(best[-1], (worth, [best[last][1], i]), key=lambda choice: choice[0]))
    chosen, choice = [], best[-1][1]
    while choice:
        choice, i = choice
        chosen.append(i)
    return chosen[::-1]


def _collide(before, answer, distance):
    return answer["start"] < before["end"] - 1e-6 or _center(answer) - _center(before) < distance


def _center(answer):
    return (answer["start"] + answer["end"]) / 2


def _strength(answer, middle):
    """How far an answer is from saying nothing."""
    if answer["score"] is None:
        return 0.0
    return answer["score"] if middle is None else abs(answer["score"] - middle)


def _snippet(text, width):
    """A text in at most `_LINES` lines."""
    wide = any(unicodedata.east_asian_width(character) in "WF" for character in text)
    lines = wrap(text, width // 2 if wide else width).split("\n")
    return "\n".join(lines if len(lines) <= _LINES else [*lines[: _LINES - 1], lines[_LINES - 1][: width - 1] + "…"])


def _format_time(axes, seconds):
    ticker = import_extra("matplotlib.ticker", "plots")
    step = next((step for step in _STEPS if seconds / step <= _TICKS), _STEPS[-1])
    axes.xaxis.set_major_locator(ticker.MultipleLocator(step))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: _clock(value)))
    axes.tick_params(axis="x", length=3)
    axes.set_xlabel("time", fontsize=9)


def _clock(seconds):
    """`1:05`, `1:02:05`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _line(label, color="black", **style):
    return import_extra("matplotlib.lines", "plots").Line2D([], [], color=color, label=label, **style)


def _patch(color, label, alpha=None):
    return import_extra("matplotlib.patches", "plots").Patch(color=color, label=label, alpha=alpha)


def check_curves(plot: str, window: float | str | None) -> None:
    """
    Checks before a long run that its curves can be drawn.

    Raises:
        DataError: if there is no window, or the picture has no known ending.
        MissingExtraError: if matplotlib is not installed.
    """
    import_extra("matplotlib", "plots")
    if window is None:
        raise DataError("`plot` shows the answers over time: set `window` to seconds or to sentence.")
    if not _is_folder(plot) and Path(plot).suffix[1:] not in FORMATS:
        raise DataError(f"`plot` must end in .{', .'.join(FORMATS)}, or be a folder, got {plot!r}.")


def curve_path(plot: str, file: str, files: Sequence[str]) -> Path:
    """
    Returns the path of the picture of one of several media files.

    A folder (one that exists, or a name without suffix) gets `STEM.png` for each file. Else the only file has the
    picture `plot` itself; of several each has `NAME-STEM.png`. Files of the same stem keep their ending, and those of
    the same name have a number.
    """
    path = Path(plot)
    name = Path(file).stem
    if sum(Path(other).stem == name for other in files) > 1:
        name = Path(file).name
    same = [other for other in files if Path(other).name == Path(file).name]
    if len(same) > 1:
        name += f"-{same.index(file) + 1}"
    if _is_folder(plot):
        return path / f"{name}.png"
    return path if len(files) == 1 else path.with_name(f"{path.stem}-{name}{path.suffix}")


def _is_folder(plot):
    return plot.endswith("/") or Path(plot).is_dir() or not Path(plot).suffix


def draw_curve(prediction, plot: str, files: Sequence[str], config) -> Path | None:
    """
    Draws the picture of a predicted media file.

    Args:
        prediction ([`MediaPrediction`]): its answers. A file with an error has no picture.
        plot (`str`): the picture, or the folder; see [`curve_path`].
        files (`Sequence[str]`): all media files of the run.
        config: the configuration of the model.

    Returns:
        `Path`: the picture, or `None`.
    """
    if prediction.error:
        return None
    kind = (
        {"label_range": config.label_range} if config.num_labels == 1 else {"classes": list(config.id2label.values())}
    )
    figure = plot_curve(
        prediction.answers, Path(prediction.file).name, prediction.overall, modalities=config.modalities, **kind
    )
    path = curve_path(plot, prediction.file, files)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_figure(figure, path)
