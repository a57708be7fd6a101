"""DashFusion: the shares of modalities and of parts of the fusion in the scores."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch

from hf_fusion.evaluation.diagnostics.collect import Track, untracked
from hf_fusion.evaluation.diagnostics.findings import Finding, Section, at_most
from hf_fusion.evaluation.diagnostics.timelines import (
    MOST_TIMELINES,
    largest_columns,
    make_timeline,
    media_settings,
    plot_timeline,
    timelines_text,
)
from hf_fusion.evaluation.plots import BETTER, UNCLEAR, legend_below, new_figure, plain_text
from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.utils.extras import import_extra, missing_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLE = "Where the scores come from"
# The contributions must add up to the explained difference, with at most this relative error.
_LARGEST_GAP = 0.05
# The largest share of one modality: above it the others have almost no effect.
_LARGEST_SHARE = 0.95
# Each clip costs 128 passes with gradients: on a core 0.3 s for a few frames, 6 s for 300 of audio and 350 of vision.
MOST_CLIPS, _MOST_FRAMES = 20, 5000
# For a trained model the relative error of the sum was 14 to 18 % with 32 steps, and below 2 % with 128.
_STEPS, _SEQUENCES = 128, 16
_RESAMPLES = 1000
_EMBEDDED = {"input_ids": "inputs_embeds", "input_ids_b": "inputs_embeds_b"}
_MODALITY_OF = {
    "inputs_embeds": "text", "inputs_embeds_b": "text", "audio_features": "audio", "vision_features": "vision",
}  # fmt: skip
_STREAM_OF = {f"{name}_features": name for name in STREAMS}


def attribution_section(
    classify,
    inputs: list[dict],
    most_clips: int = MOST_CLIPS,
    batch_size: int = 2,
    track: Track = untracked,
    ids: Sequence[str] | None = None,
) -> Section | None:
    """
    Computes integrated gradients (Sundararajan et al. 2017, by captum) of the score, or of the predicted class's logit:

    - over the inputs, from a text of mask tokens between the special ones and frames of zeros;
    - over the inputs of the head (bottleneck, text, audio, vision), from their mean over the clips.

    For a model that reads media, some clips are shown over time, and the columns that count most by their names.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline of a DashFusion.
        inputs (`list[dict]`): the result of [`row_inputs`]; only clips with all modalities of the model are examined.
        most_clips (`int`, *optional*, defaults to 20): the number of clips to examine, in a fixed random sample. Fewer
            if they have more than 5,000 frames in total, since each clip costs 128 passes with gradients.
        batch_size (`int`, *optional*, defaults to 2): the number of clips per batch.
        track (`Callable`, *optional*): wraps the batches for a progress bar; see [`observe_rows`].
        ids (`Sequence[str]`, *optional*): the names of the clips; by default their numbers.

    Returns:
        [`Section`] or `None`: the section, or a note if captum is not installed. `None` if the model reads one
        modality, no clip has all modalities, or the text encoder does not accept embeddings.
    """
    config = classify.model.config
    read = [name for name in MODALITIES if name in config.modalities]
    numbers = [i for i, clip in enumerate(inputs) if set(read) <= set(clip)]
    complete = len(numbers)
    numbers = _sample_clips(inputs, numbers, most_clips)
    names = [str(ids[i] if ids is not None else i) for i in numbers]
    inputs = [inputs[i] for i in numbers]
    if len(read) < 2 or not inputs or "inputs_embeds" not in classify.model.dashfusion.text_inputs:
        return None
    if find_spec("captum") is None:
        return Section(_TITLE, f"Not computed. {missing_extra('captum', 'analyze')}")
    by_modality, pooled, targets, settings = [], [], [], media_settings(classify)
    timelines, by_column = [], {name: [] for name in STREAMS if name in read}
    starts = range(0, len(inputs), batch_size)
    for start in track(starts, "attribution", len(starts)):
        batch = classify.preprocess(inputs[start : start + batch_size])
        batch = classify._ensure_tensor_on_device(batch, device=classify.device)
        with torch.no_grad():
            logits = classify.model(**batch).logits
            targets.append(logits.argmax(-1))
            pooled.append(classify.model.dashfusion(**batch).pooler_output)
        values, gap = _over_values(classify, batch, targets[-1])
        by_modality.append({**_over_modalities(values), "gap": gap})
        for i, clip in enumerate(inputs[start : start + batch_size]) if settings else ():
            found = _of_clip(values, batch, i)
            for name, clips in by_column.items():
                clips.append(found[name])
            if len(timelines) < MOST_TIMELINES:
                positions = {name: value.sum(-1) for name, value in found.items()}
                score = logits[i, targets[-1][i]].item()
                timelines.append(make_timeline(classify, clip, names[start + i], score, positions, settings))
    by_modality = {name: torch.cat([part[name] for part in by_modality]) for name in (*read, "gap")}
    by_part = _over_head(classify.model, torch.cat(pooled), torch.cat(targets)) if len(inputs) > 1 else {}
    gap = (by_modality.pop("gap").mean() / _total(by_modality).abs().mean().clamp_min(1e-9)).item()
    contributions = {"modality": by_modality, "part": by_part}
    shares = {title: _shares(parts) for title, parts in contributions.items()}
    intervals = {title: _share_intervals(parts) for title, parts in contributions.items()}
    strongest = max(read, key=shares["modality"].get)
    findings = [
        at_most("share of the strongest modality", shares["modality"][strongest], _LARGEST_SHARE,
                f"all modalities count, {strongest} most", f"{strongest} decides nearly alone",
                intervals["modality"][strongest]),
        at_most("contributions that do not add up, as a share", gap, _LARGEST_GAP, "the shares can be trusted",
                "the shares are rough: the score changes too abruptly for integrated gradients"),
    ]  # fmt: skip
    for part in list(by_part)[:1]:
        text = "the rest reaches the head through the first states of text, audio and vision"
        findings.append(
            Finding(f"share that comes through the {part}", shares["part"][part], f"an equal share is {1 / 4:g}", None,
                    text, intervals["part"][part])
        )  # fmt: skip
    text = (
        f"Integrated gradients over {len(inputs)} of {complete} clips. By modality: what the inputs add to the score, "
        "against a text of mask tokens and frames of zeros. By part: what the four vectors that the head reads add, "
        "against their mean. Shares are of the mean absolute contributions. A share is not the cost of losing the "
        "modality: it divides the score of complete clips among their inputs, while a modality that is lost is also "
        "missing where the others are aligned and fused with it, and such clips may never have been seen in training. "
        "A modality can have a small share and still be costly to lose."
    )
    data, tables = {"attribution": {**shares, "gap": gap}}, {}
    quotes = tuple(f"figures.timeline_{number}" for number in range(1, len(timelines) + 1))
    figures = {"attribution": plot_shares(shares, intervals)}
    if timelines:
        text += f" {timelines_text(timelines)}"
        figures |= {f"timeline_{number}": plot_timeline(timeline) for number, timeline in enumerate(timelines, 1)}
        tables["Columns that contribute most"] = largest_columns(by_column, settings)
    return Section(_TITLE, text, findings, figures, tables, data, quotes)


def plot_shares(shares: dict[str, dict[str, float]], intervals: dict[str, dict[str, tuple[float, float]]]) -> Figure:
    """
    Plots the shares of the contributions with 95 % intervals, one panel per division; equal shares are dotted.

    Args:
        shares (`dict`): the share of each member, by division ("modality", "part").
        intervals (`dict`): the ends of the intervals, in the same form.
    """
    shares = {title: parts for title, parts in shares.items() if parts}
    figure = new_figure(4.6 * len(shares), 3.2, "Shares of the contributions to the score")
    panels = figure.subplots(1, len(shares), squeeze=False)[0]
    for axes, (title, parts) in zip(panels, shares.items(), strict=True):
        values, places = np.array(list(parts.values())), range(len(parts))
        ends = np.array([intervals[title][name] for name in parts])
        axes.barh(places, values, color=BETTER, alpha=0.6)
        axes.errorbar(values, places, xerr=np.abs(ends.T - values), fmt="none", color="black", capsize=3,
                      label="95 % interval over clips")  # fmt: skip
        axes.axvline(1 / len(parts), color=UNCLEAR, linestyle=":", label="equal shares")
        axes.set_yticks(places, list(parts))
        axes.invert_yaxis()
        axes.set(title=f"by {title}", xlabel="share", xlim=(0, 1))
    legend_below(figure, panels[0])
    return plain_text(figure)


def _sample_clips(inputs, numbers, most_clips):
    """Samples numbers of clips with at most `_MOST_FRAMES` frames in total, but at least one; keeps their order."""
    drawn = np.random.default_rng(0).permutation(numbers)[:most_clips]  # a file may be sorted
    frames = np.cumsum([sum(len(inputs[i].get(name, ())) for name in STREAMS) for i in drawn])
    return sorted(drawn[: max(1, int((frames <= _MOST_FRAMES).sum()))].tolist())


def _over_modalities(values):
    """Sums contributions to one `(clips,)` for each modality."""
    totals = {}
    for name, contributions in values.items():
        totals[_MODALITY_OF[name]] = totals.get(_MODALITY_OF[name], 0) + contributions.flatten(1).sum(1)
    return totals


def _of_clip(values, batch, i):
    """The contributions `(positions, features)` of a clip, without padding: of tokens by the names of their ids."""
    found = {}
    for name, contributions in values.items():
        if name in _STREAM_OF:
            mask, key = batch[f"{_STREAM_OF[name]}_attention_mask"], _STREAM_OF[name]
        else:
            key = next(ids for ids, embeds in _EMBEDDED.items() if embeds == name)
            mask = batch[key.replace("input_ids", "attention_mask")]
        found[key] = contributions[i][mask[i].bool().cpu()].numpy()
    return found


def _over_values(classify, batch, targets):
    """Returns the contributions `(clips, positions, features)` of each input, and the error of their sum `(clips,)`."""
    integrated_gradients = import_extra("captum.attr", "analyze").IntegratedGradients
    embedded, baselines = {}, {}
    for name, values in batch.items():
        if name in _EMBEDDED:
            embeddings, blank = _get_embeddings(classify, name, values)
            embedded[_EMBEDDED[name]], baselines[_EMBEDDED[name]] = (
                embeddings(values).detach(),
                embeddings(blank).detach(),
            )
        elif name in _MODALITY_OF:
            embedded[name], baselines[name] = values, torch.zeros_like(values)
    rest = {name: values for name, values in batch.items() if name not in (*_EMBEDDED, *embedded)}
    names = [*embedded, *rest]

    def logits(*values):
        return classify.model(**dict(zip(names, values, strict=True))).logits

    with torch.backends.cudnn.flags(enabled=False):  # cuDNN has no gradient of recurrent layers in evaluation mode
        contributions, gap = integrated_gradients(logits).attribute(
            tuple(embedded.values()), tuple(baselines.values()), target=targets,
            additional_forward_args=tuple(rest.values()), n_steps=_STEPS, internal_batch_size=_SEQUENCES,
            return_convergence_delta=True,
        )  # fmt: skip
    with torch.no_grad():  # an encoder that derives positions from ids gives other outputs for embeddings
        differences = classify.model(**batch).logits - logits(*embedded.values(), *rest.values())
        changed = differences.gather(1, targets.unsqueeze(1)).squeeze(1)
    values = {name: part.detach().float().cpu() for name, part in zip(embedded, contributions, strict=True)}
    return values, (gap.detach().abs() + changed.abs()).cpu()


def _get_embeddings(classify, name, ids):
    """Returns the token embeddings of an input, and the ids of its baseline text."""
    second = name == "input_ids_b"
    encoders, processor = classify.model.dashfusion.encoders, classify.processor
    encoder = encoders["b"] if second else next(iter(encoders.values()))
    tokenizer = processor.tokenizer_b if second else processor.tokenizer
    nothing = next(i for i in (tokenizer.mask_token_id, tokenizer.unk_token_id, 0) if i is not None)
    special = torch.tensor(sorted({*tokenizer.all_special_ids} - {tokenizer.unk_token_id}), device=ids.device)
    return encoder.get_input_embeddings(), torch.where(torch.isin(ids, special), ids, nothing)


def _over_head(model, pooled, targets):
    """Returns the contribution `(clips,)` of each input of the head."""
    integrated_gradients = import_extra("captum.attr", "analyze").IntegratedGradients
    values = integrated_gradients(model.classifier).attribute(
        pooled, pooled.mean(0, keepdim=True), target=targets, n_steps=_STEPS
    )
    names = ("bottleneck" if model.config.fusion == "hbf" else "aligned", *MODALITIES)
    return dict(zip(names, values.detach().unflatten(1, (4, -1)).sum(-1).unbind(1), strict=True))


def _total(contributions):
    return torch.stack(list(contributions.values())).sum(0)


def _shares(contributions):
    sizes = {name: values.abs().mean().item() for name, values in contributions.items()}
    return {name: size / max(sum(sizes.values()), 1e-12) for name, size in sizes.items()}


def _share_intervals(contributions):
    """Returns the 95 % bootstrap intervals of [`_shares`] over the clips."""
    if not contributions:
        return {}
    sizes = np.stack([values.abs().cpu().numpy() for values in contributions.values()], axis=1)  # (clips, parts)
    drawn = np.random.default_rng(0).integers(0, len(sizes), (_RESAMPLES, len(sizes)))
    means = sizes[drawn].mean(1)  # (resamples, parts)
    ends = np.quantile(means / np.maximum(means.sum(1, keepdims=True), 1e-12), (0.025, 0.975), axis=0)
    return {name: (float(low), float(high)) for name, low, high in zip(contributions, *ends, strict=True)}
