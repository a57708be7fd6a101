"""The answers of a checkpoint as the page shows them: words, lengths of bars, and the colors of the words of a text."""

from dataclasses import dataclass, field, replace
from itertools import combinations

from hf_fusion.deployment.demo.checkpoints import DemoModel
from hf_fusion.deployment.predictions import has_label_sets
from hf_fusion.models.pipeline_common import LABEL_THRESHOLD, MODALITIES, TRUNCATED, learned_without
from hf_fusion.models.processing_text import InputError

# Longer texts are answered without an explanation, which takes as long as some 30 texts.
MOST_EXPLAINED = 2_000  # characters
MOST_BARS = 8
# From which share of the strongest relevance on, and how far from one half a gate, a word has which step of a color.
_RELEVANCE_STEPS = (0.1, 0.35, 0.7)
_GATE_STEPS = (0.02, 0.1, 0.25)
_STRONGEST = 5
_WAIT = "The words are being colored ..."
_TOO_LONG = f"Words are colored up to {MOST_EXPLAINED:,} characters; this text has {{:,}}."


@dataclass
class Bar:
    """A line of a chart. `share` is the length in [0, 1]."""

    name: str
    share: float
    value: str
    chosen: bool = False


@dataclass
class Chart:
    """Bars under a title; those beyond `MOST_BARS` are folded in."""

    title: str
    bars: list[Bar]
    note: str = ""

    @property
    def shown(self):
        """The bars that are always seen."""
        return self.bars[:MOST_BARS]

    @property
    def folded(self):
        """The bars behind a button."""
        return self.bars[MOST_BARS:]


@dataclass
class Scale:
    """A number between two ends. `middle` and `place` are shares of the way."""

    title: str
    low: str
    high: str
    place: float
    value: str
    middle: float | None = None


@dataclass
class Word:
    """
    A stretch of the text. `relevance` and `encoder` name a tint of the page, such as "for-2" and "b-1"; empty for none,
    `None` for what lies between the words. `gate` is the share of encoder A in [0, 1].
    """

    text: str
    relevance: str | None = None
    encoder: str | None = None
    value: float | None = None
    gate: float | None = None


@dataclass
class Explanation:
    """The words of a text with their parts in the answer."""

    label: str
    words: list[Word]
    encoders: tuple[str, str] | None
    gate: float | None

    @property
    def strongest(self):
        """The words of the largest relevance, for readers who see no colors."""
        known = [word for word in self.words if word.value is not None]
        return sorted(known, key=lambda word: -abs(word.value))[:_STRONGEST]


@dataclass
class Row:
    """The answer to a choice of modalities."""

    modalities: str
    label: str
    score: str
    place: float
    chosen: bool = False


@dataclass
class Answer:
    """What the page shows of an answer, or why there is none."""

    model: str
    error: str | None = None
    headline: str = ""
    score: str = ""
    unsure: bool = False
    alternatives: list[str] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    scales: list[Scale] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    explanation: Explanation | None = None
    notes: list[str] = field(default_factory=list)


def answer_text(model: DemoModel, text: str) -> Answer:
    """Answers a text; [`explain_answer`] adds the explanation."""
    try:
        answer = _describe(model, {"text": text})
    except InputError as error:
        return Answer(model.name, error.reason)
    if model.explains:
        answer.notes.append(_WAIT if len(text) <= MOST_EXPLAINED else _TOO_LONG.format(len(text)))
    return answer


def explain_answer(model: DemoModel, text: str, answer: Answer) -> Answer:
    """The answer with an explanation, where the model has one and the text is not too long; otherwise as it is."""
    if _WAIT not in answer.notes:
        return answer
    notes = [note for note in answer.notes if note != _WAIT]
    return replace(answer, notes=notes, explanation=_explain(model, text))


def answer_clip(model: DemoModel, clip: dict, chosen: list[str]) -> Answer:
    """
    Answers a clip by some of its modalities, beside the answers by every other choice.

    Args:
        model: the model.
        clip: text, audio and vision, as far as there are any.
        chosen: the modalities that are switched on.
    """
    there = [name for name in MODALITIES if clip.get(name) is not None and name in model.config.modalities]
    chosen = [name for name in there if name in chosen]
    if not chosen:
        return Answer(model.name, f"Switch on at least one of {', '.join(model.config.modalities)} that the clip has.")
    try:
        answer = _describe(model, {name: clip[name] for name in chosen})
    except InputError as error:
        return Answer(model.name, error.reason)
    choices = [names for count in range(len(there), 0, -1) for names in combinations(there, count)]
    given = [{name: clip[name] for name in names} for names in choices]
    for names, found in zip(choices, model(given, on_error="return"), strict=True):
        if not isinstance(found, InputError):
            answer.rows.append(
                Row(" + ".join(names), found["label"], model.written(found["score"]), model.place(found["score"]),
                    list(names) == chosen)
            )  # fmt: skip
    missing = [name for name in model.config.modalities if name not in chosen]
    if learned_without(model.config):
        return answer
    if missing:
        answer.notes.append(
            f"This model was never trained to do without {' and '.join(missing)}: the answer is a guess."
        )
    elif len(choices) > 1:
        answer.notes.append("This model was never trained to do without a modality: the answers to parts are guesses.")
    return answer


def _describe(model, clip):
    """The answer to an input without the parts that need further passes."""
    config = model.config
    if not model.has_classes:
        found = model(clip, return_truncated=True)
        low, high = config.label_range
        scale = Scale(
            "Score", f"{low:g}", f"{high:g}", model.place(found["score"]), model.written(found["score"]), middle=0.5
        )
        return Answer(
            model.name, None, found["label"], model.written(found["score"]), scales=[scale], notes=_notes(found)
        )
    ranked = model(clip, top_k=None, return_truncated=True)
    best, sets = ranked[0], has_label_sets(config)
    applies = [entry["label"] for entry in ranked if sets and entry["score"] >= LABEL_THRESHOLD]
    unsure = bool(best.get("unsure"))
    answer = Answer(model.name, None, best["label"], f"{best['score']:.0%}", unsure, notes=_notes(best))
    if sets:
        answer.headline, answer.score = ", ".join(applies) or "no label", ""
    if unsure:
        answer.alternatives = [f"{entry['label']} ({entry['score']:.0%})" for entry in ranked[:3]]
    chosen = applies or [best["label"]]
    entries = ranked  # few classes stay in their own order, so that answers can be compared
    if len(ranked) <= MOST_BARS:
        entries = sorted(ranked, key=lambda entry: config.label2id[entry["label"]])
    bars = [Bar(entry["label"], entry["score"], f"{entry['score']:.1%}", entry["label"] in chosen) for entry in entries]
    answer.charts.append(Chart("Labels" if sets else "Fine classes" if "coarse" in best else "Classes", bars))
    if coarse := best.get("coarse"):
        bar = Bar(coarse["label"], coarse["score"], f"{coarse['score']:.1%}", True)
        answer.charts.append(Chart("Coarse class", [bar]))
    if "intensity" in best:
        answer.scales.append(_scale("Intensity", best["intensity"], config.intensity_range))
    if best.get("expected") is not None:
        values = config.class_values
        answer.scales.append(_scale("Expected value", best["expected"], (values[0], values[-1])))
    return answer


def _scale(title, value, ends):
    low, high = ends
    place = min(max((value - low) / (high - low), 0.0), 1.0)
    return Scale(title, f"{low:g}", f"{high:g}", place, f"{value:.2f}")


def _notes(found):
    return ["The input is longer than the model reads: its end was cut."] if found[TRUNCATED] else []


def _explain(model, text):
    answer = model(text, explain=True)
    label = answer["label"] or answer["alternatives"][0]["label"]
    spans = answer["explanation"]
    most = max((abs(span["relevance"]) for span in spans), default=0.0) or 1.0
    words, end = [], 0
    for span in spans:
        if span["start"] > end:
            words.append(Word(text[end : span["start"]]))
        start, end = max(span["start"], end), max(span["end"], end)
        blanks = len(text[start:end]) - len(text[start:end].lstrip())  # before the word
        words.append(Word(text[start : start + blanks]))
        start += blanks
        words.append(
            Word(text[start:end], _tint(span["relevance"] / most, _RELEVANCE_STEPS, ("for", "against")),
                 _encoder_tint(span["gate"]), span["relevance"], span["gate"])
        )  # fmt: skip
    words.append(Word(text[end:]))
    gates = [span["gate"] for span in spans if span["gate"] is not None]
    gate = sum(gates) / len(gates) if gates else None
    return Explanation(label, words, _encoder_names(model.config) if gates else None, gate)


def _tint(value, steps, sides):
    """The tint of a signed strength: the side, and how many of the steps it reaches."""
    step = sum(abs(value) >= least for least in steps)
    return f"{sides[value < 0]}-{step}" if step else ""


def _encoder_tint(gate):
    return None if gate is None else _tint(gate - 0.5, _GATE_STEPS, ("a", "b"))


def _encoder_names(config):
    return tuple(
        f"{letter} ({part.model_type})"
        for letter, part in (("A", config.encoder_a_config), ("B", config.encoder_b_config))
    )
