"""DyFuLM: the values of the gate between the encoders, and the attention over their layers."""

from __future__ import annotations

import textwrap
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

from hf_fusion.evaluation.diagnostics.collect import Diagnosis, iterate_outputs
from hf_fusion.evaluation.diagnostics.findings import Section, at_least, at_most
from hf_fusion.evaluation.plots import UNCLEAR, legend_below, new_figure, plain_text
from hf_fusion.utils.extras import import_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A gate is collapsed if nearly all values lie in 0.5 +- 0.05: the fusion is then a plain mean of the two encoders.
_AROUND_HALF, _MOST_AROUND_HALF = 0.05, 0.9
# An encoder is idle if the mean gate leaves it less than this share.
_LEAST_SHARE = 0.05
_LEAST_DEVIATION = 0.01
# Layer attention is concentrated if one layer has nearly all weight, and idle if all layers have nearly the same.
_MOST_OF_ONE_LAYER, _MOST_EVEN = 0.9, 0.95
_BINS = np.linspace(0, 1, 42)  # 0.5 lies in the middle of a bin, so that gates of 0.499 and 0.501 share one
_EXAMPLES, _FEWEST_WORDS, _MOST_WORDS = 4, 4, 18
# Words of a table: the most extreme ones of those that occur in so many texts.
_TABLE_WORDS, _FEWEST_TEXTS = 10, 5
_GROUPS = 3  # of texts, by their gate
# Sizes of the figure of words, in points and characters: a monospaced character is 0.6 of the font size wide,
# rounded up to whole pixels.
_FONT, _LINE_HEIGHT, _LINE_WIDTH = 9, 22, 76
_ADVANCE = 0.64 * _FONT


class GateDiagnosis(Diagnosis):
    """
    The values of the gate between the encoders, and their dependence on the text.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline of a DyFuLM.
        reviews (`Dataset`): rows with `text` and, optionally, `labels`. Does not apply if the model has no gate.
    """

    def __init__(self, classify, reviews: Dataset):
        self.classify, self.reviews = classify, reviews
        self.applies = classify.model.config.cross_fusion == "gate"
        rows = len(reviews)
        self._shares = np.zeros((rows, len(_BINS) - 1))
        self._means, self._near = np.zeros(rows), np.zeros(rows)
        self._within = np.full(rows, np.nan)
        self._sums = 0.0  # (3, hidden): sums of 1, gate and gate squared over all spans
        self._words: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))  # by word and text
        self._predicted = np.zeros(rows, dtype=int)
        fitting = [i for i, text in enumerate(reviews["text"]) if _FEWEST_WORDS <= len(text.split()) <= _MOST_WORDS]
        self._examples: dict[int, list[dict]] = {row: [] for row in fitting[:_EXAMPLES]}

    def observe(self, numbers, outputs):
        """Sums and counts the gate values of each text."""
        self._predicted[numbers] = outputs["logits"].argmax(-1).numpy()
        for row, gate in zip(numbers, _gates(outputs), strict=True):  # (spans, hidden)
            self._shares[row] = np.histogram(gate, _BINS)[0] / max(gate.size, 1)
            self._means[row], self._near[row] = gate.mean(), (np.abs(gate - 0.5) <= _AROUND_HALF).mean()
            self._within[row] = gate.mean(1).std() if len(gate) > 1 else np.nan
            gate = gate.astype(np.float64)
            self._sums = self._sums + np.stack([np.full(gate.shape[1], len(gate)), gate.sum(0), (gate**2).sum(0)])
            spans = _spans(self.classify, self.reviews[row]["text"], gate)
            for span in spans:
                self._words[span["text"].strip().lower()][row].append(span["gate"])
            if row in self._examples:
                self._examples[row] = spans

    def section(self):
        """Checks the mean and the variation of the gate."""
        count, total, squares = self._sums
        deviation = float(np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0)).mean())
        mean = float(self._means.mean())
        examples = [spans for spans in self._examples.values() if spans]
        classes = _classes(self.classify, self.reviews)
        figures = {"gate_histogram": plot_gate_histogram(self._shares, classes)}
        if examples:
            figures["gate_words"] = plot_gate_words(examples)
        return Section(
            "Gate between the encoders",
            "The gate says for each piece of text and each feature how much encoder A counts (1 = A alone, 0 = B "
            "alone, 0.5 = both alike).",
            [
                at_most("share of gate values in 0.5 ± 0.05", float(self._near.mean()), _MOST_AROUND_HALF,
                        "the gate chooses", "the gate is nearly a plain mean of the encoders: little fusion was "
                        "learned"),
                at_least("mean of the gate", mean, _LEAST_SHARE, "encoder A takes part", "encoder A is hardly used"),
                at_most("mean of the gate, from above", mean, 1 - _LEAST_SHARE,
                        "encoder B takes part", "encoder B is hardly used"),
                at_least("deviation of a feature's gate between pieces of text", deviation, _LEAST_DEVIATION,
                         "the gate depends on its input",
                         "the gate hardly depends on its input: each feature has nearly the same gate everywhere"),
            ],
            figures,
            {"Gate by class": self._by_class(classes), "Texts by their gate": self._by_gate(), **self._word_tables()},
            {"gate": {"mean": mean, "share_near_half": float(self._near.mean()),
                           "deviation_of_features": deviation, "deviation_between_texts": float(self._means.std()),
                           "deviation_between_spans": _mean_of_known(self._within),
                           "histogram": {"edges": _BINS.tolist(), "shares": self._shares.mean(0).tolist()},
                           "words": examples}},
            quotes=("figures.gate_words", "data.gate.words"),
        )  # fmt: skip

    def _by_class(self, classes):
        return [
            {"class": name, "texts": int(members.sum()), "gate": float(self._means[members].mean()),
             "deviation between texts": float(self._means[members].std())}
            for name, members in classes.items()
        ]  # fmt: skip

    def _by_gate(self):
        """Compares the texts of which encoder B has the most, in three groups, with those of encoder A."""
        lengths = np.array([len(text.split()) for text in self.reviews["text"]])
        labels = self.reviews["labels"] if "labels" in self.reviews.column_names else [None] * len(lengths)
        rows = []
        for group in np.array_split(np.argsort(self._means, kind="stable"), min(_GROUPS, len(lengths))):
            gates = self._means[group]
            right = [self._predicted[i] == labels[i] for i in group if labels[i] is not None]
            accuracy = {"accuracy": float(np.mean(right))} if right else {}
            rows.append({"gate": f"{gates.min():.3f} to {gates.max():.3f}", "texts": len(group),
                         "median words": float(np.median(lengths[group])), **accuracy})  # fmt: skip
        return rows

    def _word_tables(self):
        """Lists the words with the lowest and the highest mean gate."""
        words = [
            {"word": word, "texts": len(texts), "gate": float(np.mean([np.mean(gates) for gates in texts.values()]))}
            for word, texts in self._words.items()
            if len(texts) >= _FEWEST_TEXTS and any(map(str.isalnum, word))
        ]
        words.sort(key=lambda row: row["gate"])
        if not words:
            return {}
        return {"Words of encoder B": words[:_TABLE_WORDS], "Words of encoder A": words[: -_TABLE_WORDS - 1 : -1]}


def compute_span_gates(classify, text: str) -> list[dict[str, Any]]:
    """
    Computes the gate of each common span of a text.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline of a DyFuLM with gate and common spans.
        text (`str`): the text.

    Returns:
        `list[dict]`: `start` and `end` (characters), `text` and `gate` of each common span. The gate is the mean over
        features; above 0.5 encoder A has more weight. Empty if there are no spans.
    """
    _, outputs = next(iterate_outputs(classify, [{"text": text}]))
    return _spans(classify, text, _gates(outputs)[0])


def plot_gate_histogram(shares: np.ndarray, classes: dict[str, np.ndarray]) -> Figure:
    """
    Plots a histogram of the gate values by class.

    Args:
        shares (`np.ndarray` of shape `(texts, 41)`): the shares of a text's gate values in 41 equal bins of [0, 1].
        classes (`dict[str, np.ndarray]`): the mask of the texts of each class, by its name.
    """
    figure = new_figure(7, 4.4, "Gate values by class")
    axes = figure.subplots()
    for name, members in classes.items():
        axes.stairs(shares[members].mean(0), _BINS, label=name)
    axes.axvspan(0.5 - _AROUND_HALF, 0.5 + _AROUND_HALF, color="grey", alpha=0.15, label="0.5 ± 0.05")
    axes.set(xlabel="gate (0 = encoder B alone, 1 = encoder A alone)", ylabel="share of values", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    legend_below(figure, axes)
    return plain_text(figure)


def plot_gate_words(examples: Sequence[list[dict[str, Any]]]) -> Figure:
    """
    Plots texts with each span coloured by its gate, on a fixed scale from 0 (blue, encoder B alone) over 0.5 (neutral)
    to 1 (red, encoder A alone).

    Args:
        examples (`Sequence[list[dict]]`): the results of [`compute_span_gates`].
    """
    matplotlib = import_extra("matplotlib", "plots")
    colors, scale = matplotlib.colormaps["coolwarm"], import_extra("matplotlib.colors", "plots").Normalize(0, 1)
    lines = []
    for spans in examples:
        gates = [span["gate"] for span in spans]
        lines += [*_lines(spans), f"gate from {min(gates):.3f} to {max(gates):.3f}"]
    width, height = (_LINE_WIDTH + 2) * _ADVANCE, _LINE_HEIGHT * len(lines)
    top, bottom = 34, 56  # points for the title and the scale
    figure = new_figure(width / 72, (height + top + bottom) / 72, "Gate of each piece of text, mean over features")
    figure.set_layout_engine("none")
    whole = height + top + bottom
    axes = figure.add_axes((0, bottom / whole, 1, height / whole))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for row, line in enumerate(lines):
        y = (row + 0.5) * _LINE_HEIGHT
        if isinstance(line, str):
            axes.text(_ADVANCE, y - 4, line, fontsize=7, color="grey", va="center")
            continue
        x = _ADVANCE
        for word, gate in line:
            axes.text(x, y, word, family="monospace", fontsize=_FONT, va="center",
                      color="white" if abs(gate - 0.5) > 0.3 else "black",
                      bbox={"facecolor": colors(scale(gate)), "edgecolor": "none", "pad": 1.5})  # fmt: skip
            x += _ADVANCE * (_columns(word) + 1)
    scale_axes = figure.add_axes((0.2, 36 / whole, 0.6, 8 / whole))
    mappable = import_extra("matplotlib.cm", "plots").ScalarMappable(scale, colors)
    figure.colorbar(mappable, cax=scale_axes, orientation="horizontal").set_label(
        "gate: 0 = encoder B alone, 0.5 = both alike, 1 = encoder A alone", fontsize=8
    )
    scale_axes.tick_params(labelsize=8)
    return plain_text(figure)


class LayerDiagnosis(Diagnosis):
    """
    The weights of each encoder's layers. Only applies to models with `layer_fusion="bilstm"`.

    Args:
        classify ([`FusionSentimentPipeline`]): of a DyFuLM.
        reviews (`Dataset`): with `text` and, if there are any, `labels`.
    """

    def __init__(self, classify, reviews: Dataset):
        config = classify.model.config
        self.classify, self.reviews = classify, reviews
        self.applies = config.layer_fusion == "bilstm"
        self._weights = {name: [None] * len(reviews) for name in config.encoder_configs}

    def observe(self, numbers, outputs):
        """Keeps the layer weights of each text."""
        for name, rows in self._weights.items():
            for row, weights in zip(numbers, outputs[f"layer_attention_{name}"].numpy(), strict=True):
                rows[row] = weights

    def section(self):
        """Checks the strongest layer and the evenness of each encoder."""
        weights = {name: np.stack(rows) for name, rows in self._weights.items()}  # (texts, layers)
        classes, findings, data = _classes(self.classify, self.reviews), [], {}
        for name, alpha in weights.items():
            mean, layers = alpha.mean(0), alpha.shape[1]
            evenness = float((-alpha * np.log(np.maximum(alpha, 1e-12))).sum(1).mean() / max(np.log(layers), 1e-12))
            if layers > 1:
                top = int(mean.argmax()) + 1
                findings += [
                    at_most(f"weight of the strongest layer of encoder {name.upper()}", float(mean.max()),
                            _MOST_OF_ONE_LAYER, f"other layers than layer {top} count, too",
                            f"only layer {top} counts: no hierarchy is used"),
                    at_most(f"evenness of the layers of encoder {name.upper()}", evenness, _MOST_EVEN,
                            "layers count differently",
                            "nearly a plain mean of the layers: the attention over them hardly chooses"),
                ]  # fmt: skip
            by_class = {label: alpha[members].mean(0).tolist() for label, members in classes.items()}
            data[name] = {"mean": mean.tolist(), "deviation": alpha.std(0).tolist(), "entropy": evenness}
            data[name]["by_class"] = by_class
        text = (
            "The weight of each layer, computed for each text. Evenness is the entropy of the weights as a share "
            "of that of equal weights: 0 = one layer, 1 = all alike, a plain mean."
        )
        figures = {"layer_attention": plot_layer_attention(weights, classes)}
        return Section("Attention over layers", text, findings, figures, data={"layer_attention": data})


def plot_layer_attention(weights: dict[str, np.ndarray], classes: dict[str, np.ndarray]) -> Figure:
    """
    Plots the mean weight of each layer by class, the deviation between texts, and equal weights as reference.

    Args:
        weights (`dict[str, np.ndarray]`): the weights `(texts, layers)` of each encoder.
        classes (`dict[str, np.ndarray]`): by name of the class which texts are of it.
    """
    figure = new_figure(5 * len(weights), 4.2, "Weight of each layer by class")
    panels = figure.subplots(1, len(weights), squeeze=False)[0]
    for axes, (name, alpha) in zip(panels, weights.items(), strict=True):
        layers, mean, deviation = np.arange(1, alpha.shape[1] + 1), alpha.mean(0), alpha.std(0)
        equal = 1 / len(layers)
        axes.fill_between(
            layers, mean - deviation, mean + deviation, color="lightgrey", alpha=0.6, label="deviation between texts"
        )
        for label, members in classes.items():
            axes.plot(layers, alpha[members].mean(0), marker=".", label=label)
        axes.axhline(equal, color=UNCLEAR, linestyle=":", label="equal weights")
        axes.set(title=f"encoder {name.upper()}", xlabel="layer", ylabel="weight", xticks=layers)
        # from 0 to twice the equal weight, so that small differences look small
        axes.set_ylim(0, min(1, max(2 * equal, 1.1 * (mean + deviation).max())))
    legend_below(figure, panels[0])
    return plain_text(figure)


def _gates(outputs):
    """Returns the gate of each text, `(spans, hidden)` without padding."""
    gate, mask = outputs["gate"].numpy(), outputs.get("span_mask")
    if gate.ndim == 2:  # one gate for the whole text
        return list(gate[:, None])
    return [values[real] for values, real in zip(gate, mask.numpy().astype(bool), strict=True)]


def _spans(classify, text, gate):
    """Returns the common spans of a text with their mean gates; none if there is one gate for the whole text."""
    spans = classify.processor.spans_of(text, long_texts="cut")
    if not spans or classify.model.config.gate_level != "span":
        return []
    values = gate.mean(1).tolist()
    return [
        {"start": start, "end": end, "text": text[start:end], "gate": value}
        for (start, end), value in zip(spans, values, strict=False)
    ]


def _classes(classify, reviews):
    """Returns the mask of the reviews of each fine class, by its name; one class for all without labels."""
    if "labels" not in reviews.column_names:
        return {"all": np.ones(len(reviews), dtype=bool)}
    labels = np.array([-1 if label is None else label for label in reviews["labels"]])
    names = classify.model.config.id2label
    known = {names[i]: labels == i for i in sorted(names) if (labels == i).any()}
    return known or {"all": np.ones(len(reviews), dtype=bool)}


def _lines(spans):
    """Arranges the words and gates of a text in lines of at most `_LINE_WIDTH` columns."""
    lines, used = [[]], 0
    for span in spans:
        word = " ".join(span["text"].split())
        for part in textwrap.wrap(word, _LINE_WIDTH // 2) or [word]:
            if used + _columns(part) > _LINE_WIDTH:
                lines, used = [*lines, []], 0
            lines[-1].append((part, span["gate"]))
            used += _columns(part) + 1
    return lines


def _columns(text):
    """Returns the width of a text in columns; East Asian characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _mean_of_known(values):
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else 0.0
