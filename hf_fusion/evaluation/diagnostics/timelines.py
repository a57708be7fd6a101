"""DashFusion on media: where in time the score of a clip comes from, in its words, its voice and its face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_fusion.evaluation.plots import BETTER, WORSE, new_figure, plain_text
from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.models.media_face import FACE_COLUMNS
from hf_fusion.models.media_frames import MediaSettings
from hf_fusion.models.media_text import spread_words
from hf_fusion.models.media_voice import DESCRIPTORS, speech_regions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TIMELINES = 4
COLUMNS = {"descriptors": DESCRIPTORS, "face": FACE_COLUMNS}
_MOST_COLUMNS = 10
_WIDTH, _PANEL = 9.5, 1.0  # inches
_LINE, _LONGEST = 0.15, 24  # inches and characters of a word that is written
_NAMES = {"text": "words", "audio": "voice", "vision": "picture"}


@dataclass
class Timeline:
    """
    The contributions to the score of a clip over time.

    Args:
        clip_id (`str`): the clip.
        score (`float`): the score, or the logit of the predicted class.
        words (`list[tuple(float, float, str)]`): start, end and text of each word, in seconds.
        values (`dict[str, np.ndarray]`): for "text" a contribution for each word, for "audio" and "vision" one for each
            frame.
        rates (`dict[str, int]`): frames per second.
        unit (`str`): the name of `score`.
    """

    clip_id: str
    score: float
    words: list
    values: dict[str, np.ndarray]
    rates: dict[str, int]
    unit: str = "score"

    def steps(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Starts and ends of the words or frames of a modality in seconds, and their contributions per second."""
        values = self.values[name]
        if name == "text":
            starts, ends = np.array([word[:2] for word in self.words], dtype=float).reshape(-1, 2).T
        else:
            starts = np.arange(len(values)) / self.rates[name]
            ends = starts + 1 / self.rates[name]
        return starts, ends, values / np.maximum(ends - starts, 1e-3)


def media_settings(classify) -> MediaSettings | None:
    """The settings by which the model of a pipeline reads media; `None` if it was trained on other frames."""
    extractor = getattr(classify.processor, "feature_extractor", None)
    media = getattr(extractor, "media_extractor", None)
    return None if media is None else media.settings


def make_timeline(
    classify, clip: dict, clip_id: str, score: float, contributions: dict[str, np.ndarray], settings: MediaSettings
) -> Timeline:
    """
    Places the contributions of a clip in time.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline.
        clip (`dict`): its input.
        clip_id (`str`), score (`float`): see [`Timeline`].
        contributions (`dict[str, np.ndarray]`): of the tokens by the names of the inputs `input_ids` and `input_ids_b`,
            and of the frames by "audio" and "vision", without padding.
        settings ([`MediaSettings`]): of the model.
    """
    rates = {name: getattr(settings, f"{name}_rate") for name in STREAMS if name in contributions}
    values = {name: contributions[name] for name in rates}
    words = []
    if "input_ids" in contributions and all(tokenizer.is_fast for tokenizer in classify.processor.tokenizers):
        seconds = max((len(values[name]) / rate for name, rate in rates.items()), default=1.0)
        words = spread_words(clip["text"], _speech(clip, settings) or [(0.0, seconds)])
        values = {"text": _over_words(classify.processor, clip["text"], contributions), **values}
    unit = "score" if classify.model.config.num_labels == 1 else "logit"
    return Timeline(clip_id, score, [tuple(word) for word in words], values, rates, unit)


def _speech(clip, settings):
    """Where somebody speaks, as far as the frames tell."""
    if settings.audio != "descriptors" or "audio" not in clip:
        return []
    return speech_regions(np.asarray(clip["audio"]), settings.audio_rate)


def _over_words(processor, text, contributions):
    """The contribution of each word: that of its tokens."""
    ends, place = [], 0
    for word in text.split():
        place = text.index(word, place) + len(word)
        ends.append(place)
    totals = np.zeros(len(ends))
    tokenizers = dict(zip(("input_ids", "input_ids_b"), processor.tokenizers, strict=False))
    for name, tokenizer in tokenizers.items():
        values = contributions[name]
        offsets = tokenizer(text, truncation=True, max_length=len(values), return_offsets_mapping=True)
        for value, (start, end) in zip(values, offsets["offset_mapping"], strict=True):
            if end > start:  # special tokens are no part of the text
                totals[np.searchsorted(ends, end)] += value
    return totals


def largest_columns(
    contributions: dict[str, list[np.ndarray]], settings: MediaSettings
) -> list[dict[str, str | float]]:
    """
    The named columns of audio and vision that contribute most.

    Args:
        contributions (`dict[str, list]`): for each stream the contributions `(frames, features)` of each clip.
        settings ([`MediaSettings`]): of the model.

    Returns:
        `list[dict]`: `column`, `of`, and `share` of the mean absolute contributions of all named columns, the largest
        first.
    """
    sizes = {}
    for name, clips in contributions.items():
        columns = COLUMNS.get(getattr(settings, name), ())
        means = np.mean([np.abs(clip.sum(0)) for clip in clips], axis=0) if clips and columns else ()
        sizes |= {(name, column): float(size) for column, size in zip(columns, means, strict=True)}
    total = sum(sizes.values()) or 1.0
    ranked = sorted(sizes.items(), key=lambda item: -item[1])[:_MOST_COLUMNS]
    return [{"column": column, "of": name, "share": size / total} for (name, column), size in ranked]


def plot_timeline(timeline: Timeline) -> Figure:
    """
    Plots the contributions to the score of a clip over time, a panel for each modality on one scale; an area is a
    contribution.

    Args:
        timeline ([`Timeline`]): the clip.
    """
    names = list(timeline.values)
    rest = timeline.score - sum(values.sum() for values in timeline.values.values())
    title = f"{timeline.clip_id}: {timeline.unit} {timeline.score:+.2f} (without words, voice and picture {rest:+.2f})"
    figure = new_figure(_WIDTH, _PANEL * len(names) + 1.0 + 0.6 * ("text" in names), title)
    heights = [_PANEL + 0.6 * (name == "text") for name in names]
    panels = figure.subplots(len(names), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    steps = {name: timeline.steps(name) for name in names}
    most = max(max(map(abs, values), default=0.0) for _, _, values in steps.values()) or 1.0
    seconds = max((ends[-1] for _, ends, _ in steps.values() if len(ends)), default=1.0)
    for axes, (name, (starts, ends, values)) in zip(panels, steps.items(), strict=True):
        colors = [BETTER if value > 0 else WORSE for value in values]
        axes.bar(starts, values, ends - starts, align="edge", color=colors, linewidth=0)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set(ylim=(-1.1 * most, 1.1 * most))
        axes.set_ylabel(f"{_NAMES[name]}\n{timeline.values[name].sum():+.2f}", rotation=0, ha="right", va="center")
        if name == "text":
            _write_words(axes, timeline, most, seconds)
    panels[-1].set(xlabel=f"seconds; height: {timeline.unit} per second", xlim=(0, seconds))
    return plain_text(figure)


def _write_words(axes, timeline, most, seconds):
    """Writes the words upright into their places; where there is no room for all, those that contribute most."""
    values, taken = np.abs(timeline.values["text"]), []
    for i in np.argsort(-values, kind="stable"):
        start, end, word = timeline.words[i]
        middle = (start + end) / 2
        if all(abs(middle - other) > _LINE / _WIDTH * seconds for other in taken):
            taken.append(middle)
            axes.text(middle, -1.05 * most, word[:_LONGEST], rotation=90, ha="center", va="bottom", fontsize=7)


def timelines_text(timelines: Sequence[Timeline]) -> str:
    """The explanation of the pictures for the report."""
    text = (
        f"Over time, for {len(timelines)} clips: the panels show how much the words, the frames of the voice and those "
        "of the picture add to the score (blue) or take from it (orange), per second, so that an area is a "
        "contribution; the sum is beside it."
    )
    if any(timeline.words for timeline in timelines):
        text += (
            " Prepared data keep no times of words: they are spread evenly over the time in which a voice is heard, by "
            "their length, so that the place of a single word is a guess."
        )
    return text
