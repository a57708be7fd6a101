"""Realistic corruptions of texts, frames and whole modalities, in six severities.

Severity 0 changes nothing, 5 is the worst. The corrupted parts depend on the seed and the row, not on the order of the
rows. All severities share one draw: a higher severity corrupts all that a lower one does, except for typos that meet
and for the rule that a clip keeps its last modality.
"""

import math
import re
import string
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.utils.errors import DataError

MAX_SEVERITY = 5
SEVERITIES = tuple(range(MAX_SEVERITY + 1))
# Strength at severity 0, 1 ... 5.
_WORDS_LOST = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5)  # share of the words
_TYPOS = (0.0, 0.01, 0.03, 0.06, 0.1, 0.15)  # share of the characters
_MISHEARD = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # share of the words that can be misheard, or swallowed
_LOWERED = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # share of the words
_SIGNAL_TO_NOISE = (np.inf, 20.0, 10.0, 5.0, 0.0, -5.0)  # decibels
_FRAMES_LOST = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8)  # share of the frames, or of the features
_BURST = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5)  # share of the frames
_BURST_SIGNAL_TO_NOISE = -10.0
_SHIFT = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5)  # share of the clip's length
_LOST = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # share of the clips

# Groups of words that sound alike; each may be written for another of its group.
_HOMOPHONES = (
    "their there they're", "your you're", "its it's", "to too two", "no know", "not knot", "hear here", "where wear",
    "weather whether", "right write", "week weak", "great grate", "fair fare", "see sea", "for four", "by buy bye",
    "one won", "would wood", "son sun", "meet meat", "piece peace", "plane plain", "rode road", "sale sail", "so sew",
    "way weigh", "whole hole", "which witch", "new knew", "night knight", "our hour", "bear bare", "break brake",
    "dear deer", "flour flower", "made maid", "pair pear", "rain reign", "role roll", "stair stare", "steal steel",
    "waist waste", "wait weight", "we're were", "who's whose", "bad bed", "then than", "bored board", "scene seen",
    "course coarse", "principal principle", "threw through", "heal heel", "least leased", "loan lone", "mail male",
)  # fmt: skip
_SOUNDS_LIKE = {
    word: [other for other in group.split() if other != word] for group in _HOMOPHONES for word in group.split()
}
_IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u9fff]")
_FUNCTION_WORDS = frozenset((
    "a", "an", "the", "of", "to", "in", "on", "at", "for", "with", "and", "or", "is", "are", "was", "were", "be",
    "been", "am", "it", "this", "that", "as", "by", "from", "has", "have", "had", "do", "does", "did", "will", "would",
    "can", "could", "not",
))  # fmt: skip


def drop_words(text: str, severity: int, rng: np.random.Generator) -> str:
    """Leaves words out, in a script without spaces characters; one always stays."""
    words = text.split()
    space = "" if len(words) == 1 and _IDEOGRAPH.search(text) else " "
    words = words if space else list(words[0])
    draws = rng.random(len(words))
    kept = [word for word, draw in zip(words, draws, strict=True) if draw >= _WORDS_LOST[severity]]
    return space.join(kept or words[draws.argmax() :][:1]) if words else text


def make_typos(text: str, severity: int, rng: np.random.Generator) -> str:
    """Letters are left out, doubled, swapped with the next one or written for others."""
    draws, kinds, letters = rng.random(len(text)), rng.integers(0, 4, len(text)), rng.integers(0, 26, len(text))
    written, i = [], 0
    while i < len(text):
        character, kind = text[i], kinds[i]
        if draws[i] >= _TYPOS[severity] or not character.isalpha():
            written.append(character)
        elif kind == 1:
            written.append(2 * character)
        elif kind == 2 and i + 1 < len(text):
            written.append(text[i + 1] + character)
            i += 1
        elif kind == 3:
            written.append(string.ascii_lowercase[letters[i]])
        i += 1
    found = "".join(written)
    return found if found.strip() else text


def mishear(text: str, severity: int, rng: np.random.Generator) -> str:
    """As speech recognition errs in English: words for others that sound alike, short ones swallowed, half as often."""
    words, share = text.split(), _MISHEARD[severity]
    draws, choices = rng.random(len(words)), rng.random(len(words))
    heard = []
    for word, draw, choice in zip(words, draws, choices, strict=True):
        alike = _SOUNDS_LIKE.get(word.lower())
        if alike and draw < share:
            heard.append(alike[int(choice * len(alike))])
        elif not (word.lower() in _FUNCTION_WORDS and draw < share / 2):
            heard.append(word)
    return " ".join(heard) if heard else text


def lower(text: str, severity: int, rng: np.random.Generator) -> str:
    """Writes words without capitals."""
    words = text.split()
    draws = rng.random(len(words))
    return " ".join(w.lower() if d < _LOWERED[severity] else w for w, d in zip(words, draws, strict=True)) or text


def add_noise(frames, severity, rng, deviation):
    """Adds white noise; `deviation` `(features,)` is that of the data, on which the signal-to-noise ratio rests."""
    return frames + _noise(frames, _SIGNAL_TO_NOISE[severity], rng, deviation)


def drop_frames(frames, severity, rng, deviation):
    """Sets frames to 0, as extractors write where they found nothing."""
    return np.where(rng.random(len(frames))[:, None] < _FRAMES_LOST[severity], 0, frames)


def add_burst(frames, severity, rng, deviation):
    """Drowns one stretch in noise that is ten decibels louder than the signal."""
    start = int(rng.random() * len(frames))  # it may go on at the beginning
    noise = _noise(frames, _BURST_SIGNAL_TO_NOISE, rng, deviation)
    inside = (np.arange(len(frames)) - start) % len(frames) < max(round(_BURST[severity] * len(frames)), 1)
    return np.where(inside[:, None], frames + noise, frames)


def drop_features(frames, severity, rng, deviation):
    """Sets a block of neighbouring features to 0 in the whole clip."""
    width = frames.shape[1]
    first = int(rng.random() * width)
    lost = (np.arange(width) - first) % width < max(round(_FRAMES_LOST[severity] * width), 1)
    return np.where(lost, 0, frames)


def shift(frames, severity, rng, deviation):
    """Moves the frames in time, to either side; frames that leave at one end enter at the other."""
    side = 1 if rng.random() < 0.5 else -1
    return np.roll(frames, side * max(round(_SHIFT[severity] * len(frames)), 1), axis=0)


def _noise(frames, decibels, rng, deviation):
    return rng.standard_normal(frames.shape) * deviation * 10 ** (-decibels / 20)


TEXT_CORRUPTIONS: dict[str, Callable] = {
    "word_dropout": drop_words, "typos": make_typos, "speech_errors": mishear, "lower_case": lower,
}  # fmt: skip
_FRAME_CORRUPTIONS: dict[str, Callable] = {
    "noise": add_noise, "frame_dropout": drop_frames, "burst": add_burst, "feature_loss": drop_features, "shift": shift,
}  # fmt: skip
STREAM_CORRUPTIONS = {f"{stream}_{name}": (stream, name) for stream in STREAMS for name in _FRAME_CORRUPTIONS}
LOSSES = {f"{name}_loss": name for name in ("text", "audio", "vision")}
CORRUPTIONS = (*TEXT_CORRUPTIONS, *STREAM_CORRUPTIONS, *LOSSES)


def check_corruptions(corruptions: Mapping[str, int], columns: list[str]) -> None:
    """Raises [`DataError`] if a corruption or severity does not exist, or the data lacks its modality."""
    for name, severity in corruptions.items():
        if name not in CORRUPTIONS:
            raise DataError(f"There is no corruption {name!r}; known are {', '.join(CORRUPTIONS)}.")
        if type(severity) is not int or not 0 <= severity <= MAX_SEVERITY:
            raise DataError(f"The severity of {name} must be a whole number, 0 to {MAX_SEVERITY}, got {severity!r}.")
        if modality_of(name) not in columns:
            raise DataError(f"{name} needs {modality_of(name)}, the data has {', '.join(columns)}.")


def modality_of(name: str) -> str:
    """The modality that a corruption changes: text, audio or vision."""
    if name in LOSSES:
        return LOSSES[name]
    return STREAM_CORRUPTIONS[name][0] if name in STREAM_CORRUPTIONS else "text"


def corrupt_row(
    row: Mapping[str, Any], corruptions: Mapping[str, int], seed: int, deviations: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """
    Corrupts one row.

    Args:
        row: with `id` and some of `text`, `audio` and `vision` (frames x features); `None` or empty = missing.
        corruptions: severity, 0 to 5, by name; applied in this order.
        seed: of the random draws.
        deviations: standard deviation `(features,)` of each stream over the data, for noise.

    Returns:
        A new row. A modality that is lost is `None`, but the last one that a row has stays.
    """
    row = dict(row)
    for name, severity in corruptions.items():
        modality = modality_of(name)
        if severity == 0 or not _has(row, modality):
            continue
        value = row[modality]
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(str(row["id"]).encode())])
        if name in LOSSES:
            others = any(_has(row, other) for other in LOSSES.values() if other != modality)
            row[modality] = None if others and rng.random() < _LOST[severity] else value
        elif name in TEXT_CORRUPTIONS:
            row[modality] = TEXT_CORRUPTIONS[name](value, severity, rng)
        else:
            frames = np.asarray(value, dtype=np.float32)
            change = _FRAME_CORRUPTIONS[STREAM_CORRUPTIONS[name][1]]
            row[modality] = change(frames, severity, rng, deviations[modality]).astype(np.float32)
    return row


def _has(row, name):
    return row.get(name) is not None and len(row[name]) > 0


def corrupt(
    rows: Dataset, corruptions: Mapping[str, int], seed: int = 0, deviations: Mapping[str, np.ndarray] | None = None
) -> Dataset:
    """
    Corrupts a data set; the result has the same columns and lies in memory.

    Args:
        rows: with `id` and the modalities to corrupt.
        corruptions, seed: see [`corrupt_row`].
        deviations: see there; those of these rows by default.

    Raises:
        DataError: if there is no such corruption or severity, or the data lacks its modality.

    Example:

    ```python
    from datasets import Dataset
    from hf_fusion.data.corruption import corrupt

    rows = Dataset.from_dict({"id": ["1"], "text": ["The bed was good and the staff was kind."]})
    corrupt(rows, {"word_dropout": 5}, seed=0)["text"]  # half of the words are lost
    ```
    """
    check_corruptions(corruptions, rows.column_names)
    if deviations is None:
        deviations = {name: _deviation(rows, name) for name in _streams_of(corruptions)}

    def change(row):
        corrupted = corrupt_row(row, corruptions, seed, deviations)
        empty = [name for name in STREAMS if name in row and corrupted[name] is None]
        return {**corrupted, **{name: [] for name in empty}}  # no frames: how a data set has a missing stream

    # in memory: a file for each severity and seed would be left beside the data
    return rows.map(change, features=rows.features, desc="corrupting", keep_in_memory=True, load_from_cache_file=False)


def augment(rows: Dataset, corruptions: Mapping[str, int], seed: int = 0) -> Dataset:
    """
    Appends a corrupted copy of each row, for training.

    Args:
        rows: as for [`corrupt`]; the copies have the same `id`.
        corruptions: highest severity by name; each copy draws from 1 to it.
        seed: of the random draws.

    Raises:
        DataError: as [`corrupt`].
    """
    check_corruptions(corruptions, rows.column_names)
    severities = np.random.default_rng(seed).random(len(rows))
    shares = [np.flatnonzero(np.ceil(severities * MAX_SEVERITY) == level) for level in SEVERITIES[1:]]
    deviations = {name: _deviation(rows, name) for name in _streams_of(corruptions)}
    copies = []
    for level, members in zip(SEVERITIES[1:], shares, strict=True):
        milder = {name: math.ceil(most * level / MAX_SEVERITY) for name, most in corruptions.items()}
        copies.append(corrupt(rows.select(members), milder, seed, deviations))
    return concatenate_datasets([rows, *copies])


def _streams_of(corruptions):
    return {modality_of(name) for name in corruptions if name in STREAM_CORRUPTIONS}


def _deviation(rows, name):
    """Standard deviation `(features,)` of a stream over all frames that are finite."""
    count = total = squares = 0.0
    for row in rows.select_columns([name]).with_format("numpy"):
        if row[name] is None or not len(row[name]):
            continue
        frames = np.asarray(row[name], dtype=np.float64)
        finite = np.isfinite(frames)
        frames = np.where(finite, frames, 0)
        count, total, squares = count + finite.sum(0), total + frames.sum(0), squares + (frames**2).sum(0)
    mean = total / np.maximum(count, 1)
    return np.sqrt(np.maximum(squares / np.maximum(count, 1) - mean**2, 0))
