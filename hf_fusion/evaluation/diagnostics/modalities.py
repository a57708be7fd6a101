"""DashFusion: the contribution of each modality, and the alignment of words with audio and vision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

from hf_fusion.data.synthetic_clips import AUDIO_RATE, VISION_RATE, synthetic_clips
from hf_fusion.evaluation.diagnostics.collect import Diagnosis, Track, untracked
from hf_fusion.evaluation.diagnostics.findings import Finding, Section, at_least, at_most
from hf_fusion.evaluation.diagnostics.timelines import media_settings
from hf_fusion.evaluation.metrics import class_metrics, select_sentiment_metrics
from hf_fusion.evaluation.plots import BETTER, UNCLEAR, legend_below, new_figure, plain_text, wrap
from hf_fusion.evaluation.statistics import share_interval
from hf_fusion.utils.extras import import_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RATES = {"audio": AUDIO_RATE, "vision": VISION_RATE}
# The least rate at which a word's strongest frame lies within the word, relative to chance.
_LEAST_TIMES_CHANCE = 2.0
# Attention more even than this over all frames aligns nothing.
_MOST_EVEN = 0.98
_RESAMPLES = 1000
# The metrics in the table of modalities, of scores or of classes.
_SHOWN = ("mae", "corr", "acc2_has0", "accuracy", "uar", "macro_f1")
_MAPS, _WORDS_OF_A_MAP, _MOST_WORDS_OF_A_MAP = 2, 8, 24


class ModalityDiagnosis(Diagnosis):
    """
    The metrics without each modality, and with each one alone. Does not apply if the model predicts several labels, or
    the clips have a single modality.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline of a DashFusion that predicts scores or classes.
        clips (`Dataset`): clips with `label`; only those with all modalities of the model are examined.
        inputs (`list[dict]`): the result of [`row_inputs`].
        batch_size (`int`, *optional*, defaults to 32): the number of clips per forward pass.
        track (`Callable`, *optional*): wraps the sets of modalities for a progress bar; see [`observe_rows`].
    """

    def __init__(self, classify, clips: Dataset, inputs: list[dict], batch_size: int = 32, track: Track = untracked):
        self.classify, self.inputs, self.batch_size, self.track = classify, inputs, batch_size, track
        self.config = classify.model.config
        self.names = [name for name in self.config.modalities if any(name in clip for clip in inputs)]
        self._complete = [i for i, clip in enumerate(inputs) if set(self.names) <= set(clip)]
        self._classes = list(self.config.id2label.values()) if self.config.num_labels > 1 else None
        several = self.config.problem_type == "multi_label_classification"
        self.applies = not several and len(self.names) > 1 and bool(self._complete)
        self._labels = np.array([clips["label"][i] for i in self._complete if self.applies], dtype=float)
        self._predicted = np.zeros(len(inputs))

    def observe(self, numbers, outputs):
        """Keeps the scores, or the numbers of the classes, with all modalities."""
        logits = outputs["logits"]
        self._predicted[numbers] = (logits.argmax(-1) if self._classes else logits.squeeze(-1)).numpy()

    def section(self):
        """Predicts without each modality and with each one alone, and compares the errors."""
        predicted = {"all": self._predicted[self._complete]}
        sets = {f"without {name}": [other for other in self.names if other != name] for name in self.names}
        sets |= {f"{name} alone": [name] for name in self.names}
        for given, kept in self.track(sets.items(), "modalities", len(sets)):
            clips = [{name: self.inputs[i][name] for name in kept} for i in self._complete]
            predicted[given] = self._read(self.classify(clips, self.batch_size))
        metrics = {name: self._measure(values) for name, values in predicted.items()}
        errors = {name: self._errors(values) for name, values in predicted.items()}  # (clips,)
        error, constant = ("mean absolute error", "the median label")
        reference = self._errors(np.full(len(self._labels), np.median(self._labels))).mean()
        if self._classes:
            error, constant = "share of wrong classes", "the most frequent class"
            reference = self._errors(np.full(len(self._labels), np.bincount(self._labels.astype(int)).argmax())).mean()
        findings = [
            Finding(f"cost of losing {name}", float((errors[f"without {name}"] - errors["all"]).mean()),
                    "near 0: not used", None,
                    f"{error} added without it; the error of always answering {constant} is {reference:.3f}",
                    mean_interval(errors[f"without {name}"] - errors["all"]))
            for name in self.names
        ]  # fmt: skip
        if self.config.modality_dropout == self.config.modality_distillation == 0:
            text = (
                "Trained without modality dropout or distillation: the stand-in for a missing modality was never "
                "learned. The numbers say how much the model relies on a modality, not its performance if it had been "
                "trained without it."
            )
        else:
            text = "Trained to do without single modalities: the numbers say what each modality contributes."
        table = [
            {"given": name, **{metric: values[metric] for metric in _SHOWN if metric in values}}
            for name, values in metrics.items()
        ]
        return Section(
            "What each modality contributes",
            text,
            findings,
            {"modalities": plot_modalities(errors, float(reference), error, constant)},
            {"Metrics": table},
            {"modalities": metrics},
        )

    def _read(self, answers):
        """Returns the scores, or the numbers of the classes, `(clips,)`."""
        if self._classes:
            return np.array([self._classes.index(answer["label"]) for answer in answers])
        return np.array([answer["score"] for answer in answers])

    def _measure(self, predicted):
        if self._classes:
            return class_metrics(predicted, self._labels, self._classes)
        compute = select_sentiment_metrics(self.config.label_range).compute
        return compute(predictions=predicted, references=self._labels)

    def _errors(self, predicted):
        """Returns the absolute error of each clip; for classes 0 or 1."""
        return (predicted != self._labels).astype(float) if self._classes else np.abs(predicted - self._labels)


def plot_modalities(
    errors: dict[str, np.ndarray],
    reference: float,
    error: str = "mean absolute error",
    constant: str = "the median label",
) -> Figure:
    """
    Plots the mean error by the modalities given, with 95 % intervals.

    Args:
        errors (`dict[str, np.ndarray]`): the error of each clip `(clips,)`, by the modalities given; `all` is the first
            key.
        reference (`float`): the mean error of a constant prediction.
        error (`str`): the name of the mean error.
        constant (`str`): the constant prediction.
    """
    figure = new_figure(7, 1.9 + 0.36 * len(errors), "Modalities taken away at inference")
    axes = figure.subplots()
    means = np.array([values.mean() for values in errors.values()])
    intervals = np.array([mean_interval(values) for values in errors.values()])
    axes.barh(range(len(errors)), means, color=[BETTER, *[UNCLEAR] * (len(errors) - 1)], alpha=0.6)
    axes.errorbar(means, range(len(errors)), xerr=np.abs(intervals.T - means), fmt="none", color="black", capsize=3,
                  label="95 % interval over clips")  # fmt: skip
    axes.axvline(means[0], color=BETTER, linestyle="--", label="all modalities")
    axes.axvline(reference, color="black", linestyle=":", label=f"always {constant}")
    axes.set_yticks(range(len(errors)), list(errors))
    axes.invert_yaxis()
    axes.set(xlabel=f"{error} (less is better)")
    axes.set_xlim(left=0)
    legend_below(figure, axes)
    return plain_text(figure)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of the mean of `values`, `(clips,)`."""
    means = np.random.default_rng(0).choice(values, (_RESAMPLES, len(values))).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


class AlignmentDiagnosis(Diagnosis):
    """
    The attention of words to the frames of audio and vision: maps, evenness, and on synthetic clips the rate of correct
    alignments. Does not apply if there is no attention of words to frames.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline of a DashFusion with temporal alignment anchored in the
            text.
        clips (`Dataset`): clips with all three modalities.
        inputs (`list[dict]`): the result of [`row_inputs`].
        corpus (`dict`, *optional*): options of the synthetic corpus that the clips come from. Its word times are the
            reference.
    """

    def __init__(self, classify, clips: Dataset, inputs: list[dict], corpus: dict | None = None):
        config = classify.model.config
        self.classify, self.inputs = classify, inputs
        self.names = [name for name in _RATES if name in config.modalities and name in clips.column_names]
        anchored = config.temporal_alignment and "text" in config.anchors and "text" in config.modalities
        # with two tokenizers the anchor consists of common spans, not of tokens
        self.applies = bool(anchored and self.names) and not classify.processor.has_two_tokenizers
        self._ids = clips["id"]
        self._truth = _truth(corpus)
        self._rates = _frame_rates(classify, corpus)
        self._hits: dict[str, list[bool]] = {name: [] for name in self.names}
        self._chances: dict[str, list[float]] = {name: [] for name in self.names}
        self._evenness: dict[str, list[float]] = {name: [] for name in self.names}
        self._maps: dict[int, Any] = dict.fromkeys(self._rows_of_maps())

    def _rows_of_maps(self):
        """Returns the complete clips whose number of words is closest to the size of a readable map."""
        words = {i: len(clip["text"].split()) for i, clip in enumerate(self.inputs) if self._is_complete(clip)}
        fitting = [i for i, count in words.items() if count <= _MOST_WORDS_OF_A_MAP]
        return sorted(fitting, key=lambda i: abs(words[i] - _WORDS_OF_A_MAP))[:_MAPS]

    def _is_complete(self, clip):
        return {"text", *self.names} <= set(clip)

    def observe(self, numbers, outputs):
        """Keeps attention maps and statistics of the attention."""
        tokenizer = self.classify.processor.tokenizer
        for place, row in enumerate(numbers):
            if not self._is_complete(self.inputs[row]):
                continue
            text = self.inputs[row]["text"]
            words = _words_of_tokens(tokenizer, text)
            weights = {
                name: outputs["alignment_attentions"][f"text_{name}"][place]
                .numpy()
                .mean(0)[: len(words), 1 : 1 + len(self.inputs[row][name])]
                for name in self.names
            }  # (tokens, frames), the mean over heads
            for name, values in weights.items():
                self._evenness[name].append(_evenness(values))
            if row in self._maps:
                self._maps[row] = (tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])[: len(words)], weights)
            if (known := self._truth.get(self._ids[row])) is not None:
                for name in self.names:
                    _judge(known, words, weights[name], _RATES[name], self._hits[name], self._chances[name])

    def section(self):
        """Reports the evenness of the attention, and hits on synthetic clips."""
        findings, data = [], {}
        for name in self.names:
            if self._hits[name]:
                hits = self._hits[name]
                rate, chance = float(np.mean(hits)), max(float(np.mean(self._chances[name])), 1e-9)
                data[name] = {"hit_rate": rate, "chance": chance, "opinions": len(hits)}
                interval = [limit / chance for limit in share_interval(sum(hits), len(hits))]
                findings.append(
                    at_least(f"{name} frames found, against chance ({chance:.3f})", rate / chance,
                             _LEAST_TIMES_CHANCE, f"opinion words find their own moment ({rate:.1%})",
                             f"opinion words do not find their moment ({rate:.1%})", tuple(interval))
                )  # fmt: skip
            evenness = [value for value in self._evenness[name] if np.isfinite(value)]
            if evenness:
                findings.append(
                    at_most(f"evenness of the attention to {name} frames", float(np.mean(evenness)), _MOST_EVEN,
                            "words attend to some frames more than to others",
                            "words attend to all frames alike: there is no alignment")
                )  # fmt: skip
        text = (
            "For each word the attention over the frames of audio and vision, as a mean over heads. Evenness is its "
            "entropy as a share of that of equal attention (1 = all frames alike)."
        )
        text += (
            " On synthetic clips it is known when a word is spoken: a hit is an opinion word whose strongest frame is "
            "one of its own."
            if data
            else " When a word is spoken is not known here."
        )
        maps = [attention for attention in self._maps.values() if attention is not None]
        figures = {"alignment": plot_attention_maps(maps, self._rates)} if maps else {}
        return Section(
            "Temporal alignment", text, findings, figures, data={"alignment": data}, quotes=("figures.alignment",)
        )


def plot_attention_maps(
    maps: Sequence[tuple[list[str], dict[str, np.ndarray]]], rates: dict[str, float] | None = None
) -> Figure:
    """
    Plots the attention of tokens to the frames of the other modalities, as a multiple of equal attention: blue is
    below, red above it.

    Args:
        maps (`Sequence`): the tokens of each clip, and its weights `(tokens, frames)` by modality.
        rates (`dict[str, float]`, *optional*): frames per second by modality; the axis is in seconds then.
    """
    colors, ticker = (import_extra(f"matplotlib.{name}", "plots") for name in ("colors", "ticker"))
    names = list(maps[0][1])
    heights = [0.7 + 0.17 * len(tokens) for tokens, _ in maps]
    figure = new_figure(1.6 + 4.6 * len(names), 0.8 + sum(heights), "Attention of words to frames")
    panels = figure.subplots(len(maps), len(names), squeeze=False, height_ratios=heights)
    times = [{name: values * values.shape[1] for name, values in weights.items()} for _, weights in maps]
    top = max(2.0, *(values.max() for row in times for values in row.values()))
    scale = colors.TwoSlopeNorm(1, vmin=0, vmax=top)
    for row, (tokens, _), values in zip(panels, maps, times, strict=True):
        for axes, name in zip(row, names, strict=True):
            rate = (rates or {}).get(name)
            shift, end = (0, values[name].shape[1] / rate) if rate else (-0.5, values[name].shape[1] - 0.5)
            image = axes.imshow(
                values[name], aspect="auto", cmap="RdBu_r", norm=scale, interpolation="nearest",
                extent=(shift, end, len(tokens) - 0.5, -0.5),
            )  # fmt: skip
            axes.set_yticks(range(len(tokens)), [wrap(token, 24).split("\n")[0] for token in tokens], fontsize=7)
            axes.set(title=f"words to {name}", xlabel="seconds" if rate else "frame")
            axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=not rate))
    bar = figure.colorbar(image, ax=panels.ravel().tolist(), label="attention, times that of equal attention")
    above = ticker.MaxNLocator(3, integer=True).tick_values(2, max(top, 3))
    bar.set_ticks([0, 0.5, 1, *(value for value in above if 1 < value <= top)])
    return plain_text(figure)


def _evenness(weights):
    """Returns the entropy of attention over the frames, relative to the largest possible, as mean over the tokens."""
    frames = weights.shape[1]
    if frames < 2:
        return np.nan
    shares = weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)
    return float((-shares * np.log(np.maximum(shares, 1e-12))).sum(1).mean() / np.log(frames))


def _frame_rates(classify, corpus):
    """Frames per second by stream, where they are known: of media files and of synthetic clips."""
    if settings := media_settings(classify):
        return {name: getattr(settings, f"{name}_rate") for name in _RATES}
    return None if corpus is None else _RATES


def _truth(corpus):
    """Returns word times and positions of opinion words by clip, for synthetic clips."""
    if corpus is None:
        return {}
    return {row["id"]: row for rows in synthetic_clips(**corpus).values() for row in
            rows.select_columns(["id", "word_times", "opinions"])}  # fmt: skip


def _words_of_tokens(tokenizer, text):
    """Returns the index in `text.split()` of each token's word; -1 for special tokens."""
    encoded = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, truncation=False)
    starts = np.cumsum([0] + [len(word) + 1 for word in text.split()])
    return [
        -1 if special else int(np.searchsorted(starts, start, side="right")) - 1
        for (start, _), special in zip(encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
    ]


def _judge(known, words, weights, rate, hits, chances):
    """Appends for each opinion word whether its strongest frame lies within it, and the probability by chance."""
    moments = (np.arange(weights.shape[1]) + 0.5) / rate
    for opinion in known["opinions"]:
        tokens = [i for i, word in enumerate(words[: len(weights)]) if word == opinion]
        own = (moments >= known["word_times"][opinion]) & (moments < known["word_times"][opinion + 1])
        if tokens and own.any():
            hits.append(bool(own[weights[tokens].mean(0).argmax()]))
            chances.append(float(own.mean()))
