"""
Talks of nobody: small videos with subtitles and labels, whose voice is computed and whose face is drawn.

A talk is a row of opinions ("The staff was wonderful."), each with a score in [-3, 3] that words and voice share: the
opinion word has a strength of -2, -1, 1 or 2, and the voice adds 1 where it is high and loud, nothing where it is
plain, and takes 1 away where it is low and quiet. The corners of the mouth follow the voice. So words alone, a voice
alone and a face alone each tell a part. That such voices sound like moods is a rule of these talks, not of people.
"""

import csv
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from hf_fusion.data.synthetic_reviews import ASPECTS
from hf_fusion.media.drawn_face import draw_face
from hf_fusion.models.media_decoding import SAMPLE_RATE
from hf_fusion.utils.extras import import_extra

OPINIONS = {
    -2: ("terrible", "awful", "disgusting"), -1: ("bad", "poor", "dated"),
    1: ("good", "nice", "fine"), 2: ("excellent", "wonderful", "perfect"),
}  # fmt: skip
LABEL_RANGE = (-3.0, 3.0)
PICTURE_RATE = 5  # pictures a second
_WIDTH, _HEIGHT = 160, 120
_PAUSE = 0.8  # seconds between sentences
_SYLLABLE = 0.2  # seconds
# First and second formant of some vowels in Hz, and the bandwidth of both.
_VOWELS, _BANDWIDTH = ((730, 1090), (530, 1840), (390, 1990), (570, 840), (440, 1020)), 120
_HIGHEST = 5000  # Hz, of the harmonics


@dataclass
class Sentence:
    """
    An opinion of a talk.

    Args:
        text: what is said.
        strength: of the opinion word: -2, -1, 1 or 2.
        tone: of the voice: -1 (low and quiet), 0 or 1 (high and loud).
        start, end: seconds, of the voice.
    """

    text: str
    strength: int
    tone: int
    start: float = 0.0
    end: float = 0.0

    @property
    def score(self) -> float:
        """From -3 to 3."""
        return float(self.strength + self.tone)


def write_talks(folder: str | Path, talks: int = 24, sentences: int = 10, seed: int = 0) -> list[str]:
    """
    Writes a folder of talks as `hf-fusion prepare` reads it: `talk_00.mp4` with `talk_00.srt` ..., and `labels.csv`
    with a row for each sentence. The last fifth of the talks is for tests, the tenth before it for validation.

    Args:
        folder (`str` or `Path`): made where it is needed.
        talks (`int`): the number of videos.
        sentences (`int`): sentences of each.
        seed (`int`): of the generator; the same seed gives the same talks.

    Returns:
        `list[str]`: names of the videos.

    Raises:
        MissingExtraError: if PyAV is not installed.
    """
    folder, rng = Path(folder), np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"talk_{number:02}" for number in range(talks)]
    with open(folder / "labels.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "video", "start", "end", "label", "split"])
        for number, name in enumerate(names):
            split = "test" if number >= talks * 0.8 else "validation" if number >= talks * 0.7 else "train"
            spoken = write_talk(folder / f"{name}.mp4", [draw_sentence(rng) for _ in range(sentences)], rng)
            for place, sentence in enumerate(spoken):
                times = f"{sentence.start - _PAUSE / 3:.2f}", f"{sentence.end + _PAUSE / 3:.2f}"
                writer.writerow([f"{name}_{place}", name, *times, sentence.score, split])
    return [f"{name}.mp4" for name in names]


def draw_sentence(rng: np.random.Generator, strength: int | None = None, tone: int | None = None) -> Sentence:
    """Draws a sentence; with a strength and a tone, one of these."""
    strength = int(rng.choice(list(OPINIONS))) if strength is None else strength
    tone = int(rng.integers(-1, 2)) if tone is None else tone
    return Sentence(f"The {rng.choice(ASPECTS)} was {rng.choice(OPINIONS[strength])}.", strength, tone)


def write_talk(
    path: str | Path, sentences: list[Sentence], rng: np.random.Generator, silent_after: dict[int, float] | None = None
) -> list[Sentence]:
    """
    Writes a talk as a video, with its subtitles beside it.

    Args:
        path (`str` or `Path`): an .mp4 file.
        sentences (`list[Sentence]`): what is said, one after the other.
        rng (`np.random.Generator`): chooses speaker and vowels.
        silent_after (`dict[int, float]`, *optional*): seconds of silence after sentences, by their places. The face is
            away then.

    Returns:
        `list[Sentence]`: the same, with their times.

    Raises:
        MissingExtraError: if PyAV is not installed.
    """
    silent_after = silent_after or {}
    pitch, parts, spoken, seconds = rng.uniform(110, 200), [np.zeros(round(_PAUSE * SAMPLE_RATE))], [], _PAUSE
    for place, sentence in enumerate(sentences):
        sound = _speak(sentence, pitch, rng)
        pause = np.zeros(round((_PAUSE + silent_after.get(place, 0.0)) * SAMPLE_RATE))
        end = seconds + len(sound) / SAMPLE_RATE
        spoken.append(Sentence(sentence.text, sentence.strength, sentence.tone, seconds, end))
        parts += [sound, pause]
        seconds = end + len(pause) / SAMPLE_RATE
    sound = np.concatenate(parts)
    sound += rng.normal(scale=0.002, size=len(sound))
    _write_video(Path(path), sound.astype(np.float32), spoken)
    lines = [
        f"{place}\n{_clock(sentence.start)} --> {_clock(sentence.end)}\n{sentence.text}\n"
        for place, sentence in enumerate(spoken, 1)
    ]
    Path(path).with_suffix(".srt").write_text("\n".join(lines), encoding="utf-8")
    return spoken


def _speak(sentence, pitch, rng):
    """The sound `(samples,)` of a sentence: a syllable for every three letters, each with a vowel."""
    pitch, volume = pitch * 1.35**sentence.tone, 0.12 * 2.0**sentence.tone
    syllables = [_syllable(pitch * rng.uniform(0.94, 1.06), rng) for _ in range(max(4, len(sentence.text) // 3))]
    return volume * np.concatenate(syllables)


def _syllable(pitch, rng):
    """A vowel `(samples,)` that comes and goes: harmonics of a falling pitch, those near two formants the loudest."""
    time = np.arange(round(_SYLLABLE * rng.uniform(0.8, 1.2) * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * pitch * (time - 0.15 * time**2)
    formants = _VOWELS[rng.integers(len(_VOWELS))]
    sound = np.zeros(len(time))
    for harmonic in range(1, int(_HIGHEST / pitch)):
        distances = [(harmonic * pitch - formant) / _BANDWIDTH for formant in formants]
        sound += np.sin(harmonic * phase) * (0.1 / harmonic + sum(1 / (1 + distance**2) for distance in distances))
    return sound / np.abs(sound).max() * np.sin(np.pi * np.arange(len(time)) / len(time)) ** 0.5


def _write_video(path, sound, sentences):
    av = import_extra("av", "media")
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=PICTURE_RATE)
        video.width, video.height, video.pix_fmt, video.bit_rate = _WIDTH, _HEIGHT, "yuv420p", 400_000
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for number in range(round(len(sound) / SAMPLE_RATE * PICTURE_RATE)):
            picture = av.VideoFrame.from_ndarray(_draw(number / PICTURE_RATE, sound, sentences), format="rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        fifo = av.AudioFifo()
        fifo.write(frame)
        for part in fifo.read_many(1024, partial=True):
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))


def _draw(seconds, sound, sentences):
    """The picture at a time: the face of the talk, whose mouth moves with the sound; none in long silences."""
    picture = np.full((_HEIGHT, _WIDTH, 3), (70, 90, 110), np.uint8)
    nearest = min(sentences, key=lambda sentence: max(sentence.start - seconds, seconds - sentence.end, 0.0))
    if not nearest.start - 2 * _PAUSE < seconds < nearest.end + 2 * _PAUSE:
        return picture
    heard = sound[round(seconds * SAMPLE_RATE) :][: SAMPLE_RATE // PICTURE_RATE]
    mouth = min(1.0, 6 * float(np.sqrt(np.mean(heard**2)))) if len(heard) else 0.0
    draw_face(picture, _WIDTH / 2 + 3 * np.sin(seconds), _HEIGHT * 0.55, 92, 0.05 * np.sin(0.7 * seconds),
              0.9 * nearest.tone, mouth)  # fmt: skip
    return picture


def _clock(seconds):
    hours, rest = divmod(round(seconds * 1000), 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02},{rest % 1000:03}"
