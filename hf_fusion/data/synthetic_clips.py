"""`synthetic-clips`: spoken reviews as words, audio frames and vision frames, whose exact score is known.

A speaker gives two or three opinions ("room terrible view nice bar small"). Each modality knows a part of the score,
and time joins the parts:

- the text says what the opinions are: each opinion word has a strength from -3 to 3;
- the audio says which opinion counts: the voice is loud at one opinion word, and at some words that are no opinion;
- the vision says what is meant the other way round (sarcasm): the face is wry at some of the opinion words.

The score is the strength of the loud opinion, with the other sign if the face is wry at that moment; in [-3, 3]. Words
have lengths of their own, audio and vision have frame rates of their own, and the tempo differs from clip to clip:
position alone does not tell which frame belongs to which word. What does is the sound: every word belongs to one of six
sounds, which show in the audio frames (as a voice) and in the vision frames (as a mouth). Each sound has one
opinion word of either polarity and of the same strength, so that no sound leans to a side; within a clip no two
opinions share one.

Instead of the score, `several_labels` gives the clip any number of labels, for which the text and the face at its
opinions are needed: praise and complaint (an opinion of the greatest strength is meant so), sarcasm (a wry face).
"""

import numpy as np
from datasets import Array2D, ClassLabel, Dataset, DatasetDict, Features, List, Value

from hf_fusion.data.synthetic_reviews import ASPECTS, OPINIONS
from hf_fusion.utils.errors import DataError

AUDIO_RATE, VISION_RATE = 8.0, 4.0  # frames a second
NUM_SOUNDS = 6
AUDIO_FEATURE_SIZE, VISION_FEATURE_SIZE = 2 + NUM_SOUNDS, 2 + NUM_SOUNDS
SARCASM = 0.3
LABELS = ("praise", "complaint", "sarcasm")
_STRONG = 3
_STRENGTHS = {word: strength for strength, words in OPINIONS.items() for word in words[:2]}
# the weakest sound like the weakest, the strongest like the strongest
_NEGATIVE = [word for word, strength in _STRENGTHS.items() if strength < 0]
_POSITIVE = [word for word, strength in reversed(_STRENGTHS.items()) if strength > 0]
_SOUNDS = {word: i for words in (_NEGATIVE, _POSITIVE) for i, word in enumerate(words)}
_NOISE = 0.25


def _sound(word):
    return _SOUNDS.get(word, sum(map(ord, word)) % NUM_SOUNDS)


def _words(rng):
    """The words of a clip and the places of its opinions."""
    words, places, sounds = [], [], set()
    for _ in range(rng.integers(2, 4)):
        free = [word for word in _STRENGTHS if _sound(word) not in sounds]
        opinion = str(rng.choice(free))
        sounds.add(_sound(opinion))
        words += [str(rng.choice(ASPECTS[:-1])), opinion]
        places.append(len(words) - 1)
    return words, places


def _frames(rng, words, times, rate, level, marks):
    """Frames `(frames, 2 + sounds)`: a level with marks at some words, a distractor, and the sound of the word."""
    moments = np.arange(0, times[-1], 1 / rate) + 0.5 / rate
    spoken = np.clip(np.searchsorted(times, moments, side="right") - 1, 0, len(words) - 1)
    features = rng.normal(0, _NOISE, (len(moments), 2 + NUM_SOUNDS))
    features[:, 0] += level
    for word, value in marks.items():
        features[spoken == word, 0] += value
    features[:, 1] += np.sin(moments * rng.uniform(1, 3))  # pitch, or a movement of the head: means nothing
    features[np.arange(len(moments)), 2 + np.array([_sound(word) for word in words])[spoken]] += 1
    return features.astype(np.float32)


def generate_clip(rng: np.random.Generator) -> dict:
    """
    One clip.

    Returns:
        `dict` with `text`, `audio` (frames, 8), `vision` (frames, 8), `label` (the score), `labels` (the numbers of its
        `LABELS`), `word_times` (when each word begins, and the end, in seconds), `opinions` (places of the opinion
        words among the words), `emphasis` (place of the one that counts) and `sarcastic` (whether the face is wry
        there).
    """
    words, places = _words(rng)
    tempo = rng.uniform(0.25, 0.45)  # seconds a word
    times = np.concatenate([[0], np.cumsum(tempo * rng.uniform(0.7, 1.3, len(words)))])
    # an opinion word is spoken long enough that every stream has a frame of it
    longer = np.zeros(len(words))
    longer[places] = 1 / VISION_RATE
    times[1:] += np.cumsum(longer)

    emphasis = int(rng.choice(places))
    others = [place for place in range(len(words)) if place not in places]
    loud = [emphasis, *rng.choice(others, size=rng.integers(0, 3), replace=False).tolist()]
    strengths = {place: _STRENGTHS[words[place]] for place in places}
    sarcastic = {place: bool(rng.random() < SARCASM) for place in places}
    faces = {place: 1.0 for place in places if sarcastic[place]}
    return {
        "text": " ".join(words),
        "audio": _frames(rng, words, times, AUDIO_RATE, rng.normal(0, 0.3), dict.fromkeys(loud, 1.0)),
        "vision": _frames(rng, words, times, VISION_RATE, 0.0, faces),
        "label": float(strengths[emphasis] * (-1 if sarcastic[emphasis] else 1)),
        "labels": _label_set([strengths[place] * (-1 if sarcastic[place] else 1) for place in places], faces),
        "word_times": times.tolist(),
        "opinions": places,
        "emphasis": emphasis,
        "sarcastic": sarcastic[emphasis],
    }


def _label_set(meant, faces):
    """The numbers of the labels of a clip whose opinions are meant so."""
    applies = (max(meant) >= _STRONG, min(meant) <= -_STRONG, bool(faces))
    return [i for i, there in enumerate(applies) if there]


def _clip(rng, sarcastic):
    while True:
        clip = generate_clip(rng)
        if sarcastic is None or clip["sarcastic"] == sarcastic:
            return clip


def synthetic_clips(
    num_train: int = 4000,
    num_validation: int = 500,
    num_test: int = 1000,
    seed: int = 0,
    sarcastic: bool | None = None,
    several_labels: bool = False,
):
    """
    Generates the corpus.

    Args:
        num_train, num_validation, num_test: clips per split.
        seed: of the generator; the same seed gives the same corpus.
        sarcastic: only clips whose score has (or has not) the opposite sign of the words; all by default.
        several_labels: whether `label` is the list of the clip's `LABELS`, in place of the score.

    Returns:
        `DatasetDict` of `train`, `validation` and `test` with `id` and what [`generate_clip`] describes.

    Raises:
        DataError: if `sarcastic` is not true, false or null, or `several_labels` not true or false.
    """
    if type(several_labels) is not bool:
        raise DataError(f"`several_labels` must be true or false, got {several_labels!r}.")
    if sarcastic is not None and type(sarcastic) is not bool:
        raise DataError(f"`sarcastic` must be true, false or null, got {sarcastic!r}.")
    rng = np.random.default_rng(seed)
    features = Features(
        id=Value("string"),
        text=Value("string"),
        audio=Array2D((None, AUDIO_FEATURE_SIZE), "float32"),
        vision=Array2D((None, VISION_FEATURE_SIZE), "float32"),
        label=List(ClassLabel(names=list(LABELS))) if several_labels else Value("float32"),
        word_times=List(Value("float32")),
        opinions=List(Value("int64")),
        emphasis=Value("int64"),
        sarcastic=Value("bool"),
    )
    splits = {}
    for split, count in (("train", num_train), ("validation", num_validation), ("test", num_test)):
        rows = [{"id": f"synthetic-{split}-{i}", **_clip(rng, sarcastic)} for i in range(count)]
        rows = [{**row, "label": row["labels"]} for row in rows] if several_labels else rows
        splits[split] = Dataset.from_dict({name: [row[name] for row in rows] for name in features}, features=features)
    return DatasetDict(splits)
