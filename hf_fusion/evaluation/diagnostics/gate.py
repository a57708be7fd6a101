"""DyFuLM: is fusion learned? Gate values between the encoders, and attention over the layers of each."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from datasets import Dataset

from hf_fusion.evaluation.diagnostics.collect import outputs_over
from hf_fusion.evaluation.diagnostics.findings import Section, at_least, at_most
from hf_fusion.evaluation.plots import save_figure

# A gate is collapsed if nearly all of it lies in .5 +- .05: then it is a mean of the two encoders, and nothing else.
_AROUND_HALF, _MOST_AROUND_HALF = 0.05, 0.9
# ... and one encoder is idle if the other one has nearly everything.
_LEAST_SHARE = 0.05
_LEAST_VARIATION = 0.01
# Layer attention is concentrated if one layer has nearly everything.
_MOST_OF_ONE_LAYER = 0.9
_BINS = np.linspace(0, 1, 41)
_EXAMPLES = 4


def gate_section(classify, reviews: Dataset, folder: Path, batch_size: int = 32) -> Section | None:
    """
    What the gate does.

    Args:
        classify ([`FusionSentimentPipeline`]): of a DyFuLM.
        reviews: with `text` and, if there are any, `labels`.
        folder: gets `gate_histogram.png` and `gate_words.png`.
        batch_size: texts of a forward pass.

    Returns:
        The section; `None` if the model has no gate.
    """
    if classify.model.config.cross_fusion != "gate":
        return None
    count = len(reviews)
    counts = np.zeros((count, len(_BINS) - 1))
    means, within, near = np.zeros(count), np.full(count, np.nan), np.zeros(count)
    for members, _, outputs in outputs_over(classify, reviews, batch_size):
        for row, gate in zip(members, _gates(outputs), strict=True):  # (spans, hidden)
            counts[row] = np.histogram(gate, _BINS)[0]
            means[row], near[row] = gate.mean(), (np.abs(gate - 0.5) <= _AROUND_HALF).mean()
            within[row] = gate.mean(1).std() if len(gate) > 1 else np.nan
    total = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(total, 1)
    histogram = folder / "gate_histogram.png"
    _plot_histogram(histogram, shares, _classes(classify, reviews))
    words = folder / "gate_words.png"
    examples = _plot_words(words, classify, list(reviews["text"][:200]))
    between, inside = float(means.std()), float(np.nanmean(within)) if (~np.isnan(within)).any() else 0.0
    return Section(
        "Gate between the encoders",
        "The gate says for each piece of text and each feature how much encoder A counts (1 = A alone, 0 = B alone).",
        [
            at_most("share of gate values in .5 +- .05", float(near.mean()), _MOST_AROUND_HALF,
                    "the gate chooses", "the gate is a plain mean of the encoders: no fusion was learned"),
            at_least("mean of the gate", float(means.mean()), _LEAST_SHARE,
                     "encoder A takes part", "encoder A is hardly used"),
            at_most("mean of the gate, from above", float(means.mean()), 1 - _LEAST_SHARE,
                    "encoder B takes part", "encoder B is hardly used"),
            at_least("deviation between texts and between spans", max(between, inside), _LEAST_VARIATION,
                     "the gate depends on what it reads", "the gate is the same whatever it reads"),
        ],
        [histogram, *([words] if examples else [])],
        data={"gate": {"mean": float(means.mean()), "share_near_half": float(near.mean()),
                       "deviation_between_texts": between, "deviation_between_spans": inside,
                       "histogram": {"edges": _BINS.tolist(), "shares": shares.mean(0).tolist()},
                       "words": examples}},
    )  # fmt: skip


def _gates(outputs):
    """The gate of each text, `(spans, hidden)` without padding."""
    gate, mask = outputs["gate"].numpy(), outputs.get("span_mask")
    if gate.ndim == 2:  # one for the whole text
        return list(gate[:, None])
    return [values[real] for values, real in zip(gate, mask.numpy().astype(bool), strict=True)]


def _classes(classify, reviews):
    """Fine class of each review, by name; one class for all where there are no labels."""
    if "labels" not in reviews.column_names:
        return {"all": np.ones(len(reviews), dtype=bool)}
    labels = np.array([-1 if label is None else label for label in reviews["labels"]])
    names = classify.model.config.id2label
    return {names[i]: labels == i for i in sorted(names) if (labels == i).any()}


def _plot_histogram(path, shares, classes):
    figure, axes = plt.subplots(figsize=(7, 3.8))
    centres = (_BINS[1:] + _BINS[:-1]) / 2
    for name, members in classes.items():
        axes.plot(centres, shares[members].mean(0), label=name)
    axes.axvspan(0.5 - _AROUND_HALF, 0.5 + _AROUND_HALF, color="grey", alpha=0.15)
    axes.set(
        title="Gate values by class (grey: .5 +- .05)", xlabel="gate: share of encoder A", ylabel="share of values"
    )
    axes.legend(fontsize=8)
    save_figure(figure, path)


def gate_of_spans(classify, text: str) -> list[dict]:
    """
    Which encoder wins where.

    Args:
        classify ([`FusionSentimentPipeline`]): of a DyFuLM with gate and common spans.
        text: one text.

    Returns:
        For each common span `start` and `end` (characters), `text` and `gate`, the mean over features: above 0.5
        encoder A counts more. Empty if there are no spans.
    """
    spans = classify.processor.spans_of(text)
    if not spans or classify.model.config.gate_level != "span":
        return []
    outputs = next(outputs_over(classify, Dataset.from_dict({"text": [text]})))[2]
    (gate,) = _gates(outputs)
    values = gate.mean(1).tolist()
    return [
        {"start": start, "end": end, "text": text[start:end], "gate": value}
        for (start, end), value in zip(spans, values, strict=False)
    ]


def _plot_words(path, classify, texts):
    """A row of coloured spans for a few texts of middle length."""
    fitting = [text for text in texts if 4 <= len(text.split()) <= 18][:_EXAMPLES]
    examples = [spans for text in fitting if (spans := gate_of_spans(classify, text))]
    if not examples:
        return []
    figure, axes = plt.subplots(figsize=(10, 0.8 + 0.55 * len(examples)))
    colors = plt.get_cmap("coolwarm")
    spread = max(abs(span["gate"] - 0.5) for spans in examples for span in spans) or 0.5
    for row, spans in enumerate(examples):
        place = 0.0
        for span in spans:
            width = 0.0105 * (len(span["text"]) + 1.2)
            shade = colors(0.5 + 0.5 * (span["gate"] - 0.5) / spread)
            axes.text(place, row, span["text"].replace("$", r"\$"), family="monospace", fontsize=9, va="center",
                      bbox={"facecolor": shade, "edgecolor": "none", "alpha": 0.6, "pad": 1.5})  # fmt: skip
            place += width
    axes.set(xlim=(0, 1.2), ylim=(len(examples) - 0.5, -0.5), title="red: encoder A counts more, blue: encoder B")
    axes.axis("off")
    save_figure(figure, path)
    return examples


def layer_section(classify, reviews: Dataset, folder: Path, batch_size: int = 32) -> Section | None:
    """
    Which layers of each encoder count.

    Returns:
        The section; `None` if layers are not weighted (`layer_fusion` is not "bilstm").
    """
    config = classify.model.config
    if config.layer_fusion != "bilstm":
        return None
    alphas = {name: [None] * len(reviews) for name in config.encoder_configs}
    for members, _, outputs in outputs_over(classify, reviews, batch_size):
        for name, rows in alphas.items():
            for row, alpha in zip(members, outputs[f"layer_attention_{name}"].numpy(), strict=True):
                rows[row] = alpha
    classes, findings, data = _classes(classify, reviews), [], {}
    figure, panels = plt.subplots(1, len(alphas), figsize=(5.2 * len(alphas), 3.8), squeeze=False)
    for axes, (name, rows) in zip(panels[0], alphas.items(), strict=True):
        alpha = np.stack(rows)  # (texts, layers)
        layers, mean = np.arange(1, alpha.shape[1] + 1), alpha.mean(0)
        entropy = float((-alpha * np.log(np.maximum(alpha, 1e-12))).sum(1).mean() / max(np.log(alpha.shape[1]), 1e-12))
        for label, members in classes.items():
            axes.plot(layers, alpha[members].mean(0), marker=".", label=label)
        axes.set(title=f"encoder {name.upper()}", xlabel="layer", ylabel="weight", ylim=(0, 1), xticks=layers)
        if alpha.shape[1] > 1:
            top = int(mean.argmax()) + 1
            findings.append(
                at_most(f"weight of the strongest layer of encoder {name.upper()}", float(mean.max()),
                        _MOST_OF_ONE_LAYER, "several layers count", f"only layer {top} counts: no hierarchy is used")
            )  # fmt: skip
        by_class = {label: alpha[members].mean(0).tolist() for label, members in classes.items()}
        data[name] = {"mean": mean.tolist(), "deviation": alpha.std(0).tolist(), "entropy": entropy}
        data[name]["by_class"] = by_class
    panels[0][-1].legend(fontsize=8)
    picture = folder / "layer_attention.png"
    save_figure(figure, picture)
    text = (
        "How much each layer counts, for each text anew. Entropy is on a scale from 0 (one layer) to 1 (all alike): "
        + ", ".join(f"encoder {name.upper()} {found['entropy']:.2f}" for name, found in data.items())
        + "."
    )
    return Section("Attention over layers", text, findings, [picture], data={"layer_attention": data})
