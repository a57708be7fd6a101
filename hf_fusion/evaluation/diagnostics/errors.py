"""Where a model errs: calibration, worst examples, metrics by length and source, the failure signs of the papers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from hf_fusion.evaluation.diagnostics.collect import inputs_of, outputs_over
from hf_fusion.evaluation.diagnostics.findings import Section, at_most
from hf_fusion.evaluation.metrics import ReviewMetrics, sentiment_metrics_for
from hf_fusion.evaluation.plots import calibration_error, plot_calibration, plot_confusion, plot_scores

_LARGEST_CALIBRATION_ERROR = 0.05
# Signs of trouble in the papers; the limits are this package's.
_LARGEST_GAP_AT_ZERO, _LARGEST_GAP_OF_FINENESS = 0.05, 0.4
_WORST = 8
_FEWEST_ROWS = 20


def review_errors(classify, reviews: Dataset, folder: Path, batch_size: int = 32) -> Section | None:
    """
    Errors on the fine classes: confusion, calibration before and after temperature scaling, worst examples.

    Args:
        classify ([`FusionSentimentPipeline`]): of a DyFuLM.
        reviews: with `text` and `labels`.
        folder: gets `confusion.png`, `calibration.png` and `calibration_scaled.png`.
        batch_size: texts of a forward pass.

    Returns:
        The section; `None` if the reviews have no fine labels.
    """
    labels = reviews["labels"] if "labels" in reviews.column_names else []
    kept = [i for i, label in enumerate(labels) if label is not None]
    if not kept:
        return None
    reviews, names = reviews.select(kept), list(classify.model.config.id2label.values())
    logits, labels = np.zeros((len(kept), len(names))), np.array(reviews["labels"])
    for members, _, outputs in outputs_over(classify, reviews, batch_size):
        logits[members] = outputs["logits"].numpy()
    predicted, probabilities = logits.argmax(1), softmax(logits, axis=1)
    correct = predicted == labels
    scaled, temperature = scale_temperature(logits, labels)
    confidence, confidence_scaled = probabilities.max(1), softmax(scaled, axis=1).max(1)
    before, after = calibration_error(correct, confidence), calibration_error(correct, confidence_scaled)
    pictures = [folder / name for name in ("confusion.png", "calibration.png", "calibration_scaled.png")]
    plot_confusion(pictures[0], labels, predicted, names, "Fine sentiment")
    plot_calibration(pictures[1], correct, confidence, "Calibration")
    plot_calibration(pictures[2], correct, confidence_scaled, f"Calibration, temperature {temperature:.2f}")

    def metrics(rows):
        found = ReviewMetrics().compute(predictions={"fine": predicted[rows]}, references={"fine": labels[rows]})
        return {"accuracy": found["fine_accuracy"], "macro F1": found["fine_macro_f1"]}

    losses = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    worst = [
        {"text": reviews[int(i)]["text"][:300], "true": names[labels[i]], "predicted": names[predicted[i]],
         "probability of the true class": float(probabilities[i, labels[i]])}
        for i in np.argsort(-losses)[:_WORST]
    ]  # fmt: skip
    lengths = np.array([len(text.split()) for text in reviews["text"]])
    tables = {"By length of the text": by_length(lengths, metrics), "Worst examples": worst}
    if "source" in reviews.column_names:
        tables["By source"] = _by_group(np.array([str(source) for source in reviews["source"]]), metrics)
    return Section(
        "Errors",
        f"Fine classes of {len(kept):,} reviews. Temperature scaling divides the logits by a constant, fitted on one "
        "half of the rows and applied to the other; it changes no answer, only how sure the model claims to be.",
        [
            at_most("expected calibration error", before, _LARGEST_CALIBRATION_ERROR,
                    "the probabilities can be taken at their word", "the probabilities are not to be taken literally"),
            at_most("the same after temperature scaling", after, _LARGEST_CALIBRATION_ERROR,
                    f"a temperature of {temperature:.2f} mends it" if before > _LARGEST_CALIBRATION_ERROR
                    else "as it should be", "a temperature alone does not mend it"),
        ],
        pictures,
        tables,
        {"calibration": {"error": before, "error_scaled": after, "temperature": temperature}},
    )  # fmt: skip


def scale_temperature(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """
    Temperature scaling (Guo et al. 2017) without looking at the rows that it is judged on.

    Args:
        logits: `(rows, classes)`.
        labels: `(rows,)`.

    Returns:
        The scaled logits, every second row by the temperature fitted on the others, and the mean of both temperatures.
    """
    halves = [np.arange(len(labels)) % 2 == side for side in (0, 1)]
    scaled, temperatures = np.array(logits, dtype=float), []
    for fitted, judged in (halves, halves[::-1]):
        if not fitted.any() or not judged.any():
            continue

        def loss(log_temperature, rows=fitted):
            scores = log_softmax(logits[rows] / np.exp(log_temperature), axis=1)
            return -scores[np.arange(rows.sum()), labels[rows]].mean()

        temperatures.append(float(np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x)))
        scaled[judged] = logits[judged] / temperatures[-1]
    return scaled, float(np.mean(temperatures)) if temperatures else 1.0


def clip_errors(classify, clips: Dataset, folder: Path, batch_size: int = 32) -> Section | None:
    """
    Errors of a score: metrics by length, worst clips, and the failure signs of DashFusion's paper.

    Returns:
        The section; `None` if the model predicts classes.
    """
    config = classify.model.config
    if config.num_labels != 1:
        return None
    scores, labels = np.zeros(len(clips)), np.array(clips["label"], dtype=float)
    for members, _, outputs in outputs_over(classify, clips, batch_size):
        scores[members] = outputs["logits"].squeeze(-1).numpy()
    picture = folder / "scores.png"
    plot_scores(picture, labels, scores, "Sentiment score")

    def metrics(rows):
        found = sentiment_metrics_for(config.label_range).compute(predictions=scores[rows], references=labels[rows])
        return {name: found[name] for name in ("mae", "corr", "acc2_has0", "acc2_non0") if name in found}

    found = sentiment_metrics_for(config.label_range).compute(predictions=scores, references=labels)
    findings = []
    if "acc2_non0" in found:
        gap = abs(found["acc2_non0"] - found["acc2_has0"])
        findings.append(
            at_most("gap between Acc-2 Has0 and Non0", gap, _LARGEST_GAP_AT_ZERO, "neutral clips are no trouble",
                    "clips near zero decide: the sign of weak sentiment is not learned")
        )  # fmt: skip
    accuracy = found.get("acc2_non0", found["acc2_has0"])
    findings.append(
        at_most("Acc-2 minus Acc-5", accuracy - found["acc5"], _LARGEST_GAP_OF_FINENESS,
                "strength is learned along with the sign", "the sign is learned, the strength is not")
    )  # fmt: skip
    inputs = inputs_of(clips)
    errors = np.abs(scores - labels)
    worst = [
        {"id": clips[int(i)]["id"], "text": inputs[i].get("text", "")[:200], "true": float(labels[i]),
         "predicted": float(scores[i])}
        for i in np.argsort(-errors)[:_WORST]
    ]  # fmt: skip
    lengths = np.array(
        [max(len(v.split()) if isinstance(v, str) else len(v) for v in clip.values()) for clip in inputs]
    )
    tables = {"By length of the longest modality": by_length(lengths, metrics), "Worst clips": worst}
    return Section("Errors", f"Scores of {len(clips):,} clips.", findings, [picture], tables, {"metrics": found})


def by_length(lengths: np.ndarray, metrics: Callable[[np.ndarray], dict[str, float]]) -> list[dict[str, Any]]:
    """Metrics of the shortest, middle and longest third of the rows."""
    if len(lengths) < 3 * _FEWEST_ROWS:
        return []
    order = np.argsort(lengths, kind="stable")
    return [
        {"length": f"{lengths[rows].min()} to {lengths[rows].max()}", "rows": len(rows), **metrics(rows)}
        for rows in np.array_split(order, 3)
    ]


def _by_group(groups, metrics):
    """Metrics of each group that is large enough to say something."""
    names, counts = np.unique(groups, return_counts=True)
    return [
        {"source": str(name), "rows": int(count), **metrics(np.flatnonzero(groups == name))}
        for name, count in zip(names, counts, strict=True)
        if count >= _FEWEST_ROWS
    ]
