"""DashFusion: what each modality contributes, and whether words find their moment in audio and vision."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from datasets import Dataset

from hf_fusion.data.synthetic_clips import AUDIO_RATE, VISION_RATE, synthetic_clips
from hf_fusion.evaluation.diagnostics.collect import inputs_of, outputs_over
from hf_fusion.evaluation.diagnostics.findings import Finding, Section, at_least
from hf_fusion.evaluation.metrics import sentiment_metrics_for
from hf_fusion.evaluation.plots import save_figure

_RATES = {"audio": AUDIO_RATE, "vision": VISION_RATE}
# A word's strongest frame must be one of its own so many times as often as by chance.
_LEAST_TIMES_CHANCE = 2.0


def modality_section(classify, clips: Dataset, folder: Path, batch_size: int = 32) -> Section | None:
    """
    The metrics with each modality taken away, and with each alone.

    Args:
        classify ([`FusionSentimentPipeline`]): of a DashFusion that predicts scores.
        clips: with `label`.
        folder: gets `modalities.png`.
        batch_size: clips of a forward pass.

    Returns:
        The section; `None` if the model predicts classes, or the clips have one modality only.
    """
    config = classify.model.config
    given = inputs_of(clips)
    names = [name for name in config.modalities if any(name in clip for clip in given)]
    if config.num_labels != 1 or len(names) < 2:
        return None
    wholes = [i for i, clip in enumerate(given) if set(names) <= set(clip)]
    labels = [clips[i]["label"] for i in wholes]

    def metrics(kept):
        scores = [answer["score"] for answer in classify([{n: given[i][n] for n in kept} for i in wholes], batch_size)]
        return sentiment_metrics_for(config.label_range).compute(predictions=scores, references=labels)

    sides = {"all": names}
    sides |= {f"without {name}": [other for other in names if other != name] for name in names}
    sides |= {f"{name} alone": [name] for name in names}
    found = {title: metrics(kept) for title, kept in sides.items()}
    figure, axes = plt.subplots(figsize=(6.5, 1 + 0.4 * len(found)))
    axes.barh(list(found), [values["mae"] for values in found.values()])
    axes.invert_yaxis()
    axes.set(xlabel="mean absolute error (less is better)", title="Modalities taken away at inference")
    picture = folder / "modalities.png"
    save_figure(figure, picture)
    findings = [
        Finding(f"what {name} is worth", found[f"without {name}"]["mae"] - found["all"]["mae"], "none", None,
                "mean absolute error that its loss costs; near 0: it is not used")
        for name in names
    ]  # fmt: skip
    if config.modality_dropout == config.modality_distillation == 0:
        text = (
            "Trained without modality dropout or distillation: what stands in for a missing modality was never "
            "learned. The numbers say how much the model relies on a modality, not what it could do without it."
        )
    else:
        text = "Trained to do without single modalities: the numbers say what each modality contributes."
    table = [
        {"given": title, **{name: values[name] for name in ("mae", "corr", "acc2_has0")}}
        for title, values in found.items()
    ]
    return Section(
        "What each modality contributes", text, findings, [picture], {"Metrics": table}, {"modalities": found}
    )


def alignment_section(
    classify, clips: Dataset, folder: Path, batch_size: int = 32, corpus: dict | None = None
) -> Section | None:
    """
    Where the words look in audio and vision: maps, and on synthetic clips how often they are right.

    Args:
        classify ([`FusionSentimentPipeline`]): of a DashFusion with temporal alignment anchored in the text.
        clips: with all three modalities.
        folder: gets `alignment.png`.
        batch_size: clips of a forward pass.
        corpus: options of the synthetic corpus that the clips are of; its word times are the truth.

    Returns:
        The section; `None` if there is no attention of words to frames.
    """
    config = classify.model.config
    others = [name for name in _RATES if name in config.modalities and name in clips.column_names]
    anchored = config.temporal_alignment and "text" in config.anchors and "text" in config.modalities
    if not anchored or not others or config.text_config.model_type == "dyfulm":
        return None
    truth = _truth(corpus)
    hits: dict[str, list[bool]] = {name: [] for name in others}
    chances: dict[str, list[float]] = {name: [] for name in others}
    maps = []
    inputs = inputs_of(clips)
    for members, _, outputs in outputs_over(classify, clips, batch_size):
        for place, row in enumerate(members):
            if set(inputs[row]) < {"text", *others}:
                continue
            words = _words_of_tokens(classify.processor.tokenizer, inputs[row]["text"])
            weights = {
                name: outputs["alignment_attentions"][f"text_{name}"][place]
                .numpy()
                .mean(0)[: len(words), 1 : 1 + len(inputs[row][name])]
                for name in others
            }  # (tokens, frames), the mean over heads
            if len(maps) < 2 and 4 <= len(inputs[row]["text"].split()) <= 12:
                maps.append((inputs[row]["text"], words, weights))
            if (known := truth.get(clips[row]["id"])) is not None:
                for name in others:
                    _judge(known, words, weights[name], _RATES[name], hits[name], chances[name])
    picture = folder / "alignment.png"
    pictures = [picture] if maps else []
    if maps:
        _plot_maps(picture, classify.processor.tokenizer, maps)
    findings, data = [], {}
    for name in others:
        if hits[name]:
            rate, chance = float(np.mean(hits[name])), float(np.mean(chances[name]))
            data[name] = {"hit_rate": rate, "chance": chance, "opinions": len(hits[name])}
            findings.append(
                at_least(f"{name} frames found, against chance ({chance:.3f})", rate / max(chance, 1e-9),
                         _LEAST_TIMES_CHANCE, f"opinion words find their own moment ({rate:.1%})",
                         f"opinion words do not find their moment ({rate:.1%})")
            )  # fmt: skip
    text = "For each word the attention over the frames of audio and vision, as a mean over heads."
    text += (
        " On synthetic clips it is known when a word is spoken: a hit is an opinion word whose strongest frame is one "
        "of its own."
        if data
        else " When a word is spoken is not known here; look at the maps."
    )
    return Section("Temporal alignment", text, findings, pictures, data={"alignment": data})


def _truth(corpus):
    """Word times and opinion places by clip, where the clips are synthetic."""
    if corpus is None:
        return {}
    return {row["id"]: row for rows in synthetic_clips(**corpus).values() for row in
            rows.select_columns(["id", "word_times", "opinions"])}  # fmt: skip


def _words_of_tokens(tokenizer, text):
    """For each token the number of its word in `text.split()`; -1 for special tokens."""
    encoded = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, truncation=False)
    starts = np.cumsum([0] + [len(word) + 1 for word in text.split()])
    return [
        -1 if special else int(np.searchsorted(starts, start, side="right")) - 1
        for (start, _), special in zip(encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
    ]


def _judge(known, words, weights, rate, hits, chances):
    """Adds for each opinion word whether its strongest frame is its own, and how likely that is by chance."""
    moments = (np.arange(weights.shape[1]) + 0.5) / rate
    for opinion in known["opinions"]:
        tokens = [i for i, word in enumerate(words[: len(weights)]) if word == opinion]
        own = (moments >= known["word_times"][opinion]) & (moments < known["word_times"][opinion + 1])
        if tokens and own.any():
            hits.append(bool(own[weights[tokens].mean(0).argmax()]))
            chances.append(float(own.mean()))


def _plot_maps(path, tokenizer, maps):
    figure, panels = plt.subplots(len(maps), 2, figsize=(11, 1 + 2.2 * len(maps)), squeeze=False)
    for row, (text, words, weights) in zip(panels, maps, strict=True):
        tokens = tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])[: len(words)]
        for axes, name in zip(row, ("audio", "vision"), strict=True):
            if name not in weights:
                axes.axis("off")
                continue
            axes.imshow(weights[name], aspect="auto", cmap="viridis")
            axes.set_yticks(range(len(tokens)), tokens, fontsize=7)
            axes.set(title=f"words to {name}", xlabel="frame")
    save_figure(figure, path)
