"""Errors of a model: calibration, worst examples, metrics by length and source, the papers' signs of failure."""

from collections.abc import Callable
from typing import Any

import numpy as np
from datasets import Dataset
from scipy.special import log_softmax, softmax

from hf_fusion.evaluation.calibration import (
    CalibrationError,
    calibration_error,
    fit_temperature,
    measure_coverage,
    risk_coverage,
)
from hf_fusion.evaluation.diagnostics.collect import Diagnosis
from hf_fusion.evaluation.diagnostics.findings import Finding, Section, at_least, at_most
from hf_fusion.evaluation.metrics import ReviewMetrics, class_metrics, select_sentiment_metrics
from hf_fusion.evaluation.plots import plot_calibration, plot_confusion, plot_risk_coverage, plot_scores

_LARGEST_CALIBRATION_ERROR = 0.05
# Signs of failure named in the papers; the limits are this package's own.
_LARGEST_GAP_AT_ZERO, _LARGEST_GAP_OF_FINENESS = 0.05, 0.4
# The error of a model that learned nothing equals that of a constant.
_LARGEST_SHARE_OF_REFERENCE = 0.95
# Likewise, the accuracy of a model that learned nothing.
_LEAST_TIMES_REFERENCE = 1.1
_WORST = 8
_FEWEST_ROWS = 20
_SAMPLES = 200


class ReviewErrors(Diagnosis):
    """
    Errors on the fine classes: confusion, calibration of the answers before and after temperature scaling, the risk of
    answers by their coverage, worst examples.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline of a DyFuLM.
        reviews (`Dataset`): rows with `text` and `labels`. Does not apply if none has a fine label.
    """

    def __init__(self, classify, reviews: Dataset):
        config = classify.model.config
        self.names = list(config.id2label.values())
        self._temperature, self._threshold = config.temperature, config.abstain_below
        labels = reviews["labels"] if "labels" in reviews.column_names else []
        self._kept = [i for i, label in enumerate(labels) if label is not None]
        self.applies = bool(self._kept)
        self.reviews = reviews
        self._logits = np.zeros((len(reviews), len(self.names)))

    def observe(self, numbers, outputs):
        """Keeps the logits of the fine classes."""
        self._logits[numbers] = outputs["logits"].numpy() / self._temperature

    def section(self):
        """Measures calibration and metrics by group, and lists the worst examples."""
        names, reviews, logits = self.names, self.reviews.select(self._kept), self._logits[self._kept]
        labels = np.array(reviews["labels"])
        predicted, probabilities = logits.argmax(1), softmax(logits, axis=1)
        correct = predicted == labels
        scaled, temperature = scale_temperature(logits, labels)
        confidence, confidence_scaled = probabilities.max(1), softmax(scaled, axis=1).max(1)
        before, after = calibration_error(correct, confidence), calibration_error(correct, confidence_scaled)
        limit = max(_LARGEST_CALIBRATION_ERROR, chance_calibration_error(confidence))

        def metrics(rows):
            result = ReviewMetrics().compute(predictions={"fine": predicted[rows]}, references={"fine": labels[rows]})
            return {"accuracy": result["fine_accuracy"], "macro F1": result["fine_macro_f1"]}

        losses = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
        worst = [
            {"text": reviews[int(i)]["text"][:300], "true": names[labels[i]], "predicted": names[predicted[i]],
             "probability of the true class": float(probabilities[i, labels[i]])}
            for i in np.argsort(-losses)[:_WORST]
        ]  # fmt: skip
        lengths = np.array([len(text.split()) for text in reviews["text"]])
        tables = {"By length of the text in words": by_length(lengths, metrics), "Worst examples": worst}
        if "source" in reviews.column_names:
            tables["By source"] = _by_group(np.array([str(source) for source in reviews["source"]]), metrics)
        return Section(
            "Errors",
            f"Fine classes of {len(labels):,} reviews, with the temperature of the model's configuration, "
            f"{self._temperature:.3g}. Temperature scaling divides the logits by a constant, fitted on "
            "one half of the rows and applied to the other; it changes no answer, only its probability. A calibrated "
            f"model, too, shows some calibration error on {len(labels):,} rows; the limit is at least as high.",
            [
                at_most("expected calibration error", before, limit,
                        "the probabilities can be trusted",
                        "the probabilities cannot be trusted"),
                at_most("the same after temperature scaling", after, limit,
                        f"a temperature of {temperature:.2f} corrects it" if before > limit
                        else "no correction needed", "a temperature alone does not correct it"),
                *self._coverage(correct, confidence),
            ],
            {
                "confusion": plot_confusion(labels, predicted, names, "Fine sentiment"),
                "calibration": plot_calibration(correct, confidence, "Calibration", before=self._raw_confidence()),
                "calibration_scaled": plot_calibration(
                    correct, confidence_scaled, f"Calibration, temperature {temperature:.2f}"
                ),
                "risk_coverage": plot_risk_coverage(
                    {"model": risk_coverage(correct, confidence)}, "Answers of fine sentiment", self._threshold
                ),
            },
            tables,
            {"calibration": {"error": before, "error_scaled": after, "temperature": temperature}},
            quotes=("tables.Worst examples",),
        )  # fmt: skip

    def _raw_confidence(self):
        """Returns the probabilities without the temperature of the model; `None` if it has none."""
        if self._temperature == 1:
            return None
        return softmax(self._logits[self._kept] * self._temperature, axis=1).max(1)

    def _coverage(self, correct, confidence):
        """Informs on the answers that are given, if some may be unsure."""
        if not self._threshold:
            return []
        shares = measure_coverage(correct, confidence, self._threshold)
        limit = f"probability of at least {self._threshold:.3g}"
        return [
            Finding("share of texts with a label", shares["coverage"], limit, None, "the others are unsure"),
            Finding("accuracy of these labels", shares["answered_accuracy"], limit, None,
                    f"{correct.mean():.3f} if every text had one"),
        ]  # fmt: skip


def chance_calibration_error(confidence: np.ndarray) -> float:
    """Returns the 95 % quantile of the calibration error of a perfectly calibrated model with these confidences."""
    rng = np.random.default_rng(0)
    return float(np.quantile([calibration_error(rng.random(len(confidence)) < confidence, confidence)
                              for _ in range(_SAMPLES)], 0.95))  # fmt: skip


def scale_temperature(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """
    Applies temperature scaling (Guo et al. 2017) with a temperature fitted on other rows.

    Args:
        logits (`np.ndarray` of shape `(rows, classes)`): the logits.
        labels (`np.ndarray` of shape `(rows,)`): the classes.

    Returns:
        `tuple[np.ndarray, float]`: the scaled logits and the mean of the two temperatures. Each half of the rows (even
        and odd numbers) is scaled by the temperature fitted on the other half.
    """
    halves = [np.arange(len(labels)) % 2 == side for side in (0, 1)]
    scaled, temperatures = np.array(logits, dtype=float), []
    for fitted, judged in (halves, halves[::-1]):
        try:
            temperatures.append(fit_temperature(logits[fitted], labels[fitted], fewest_rows=1))
        except CalibrationError:  # all right, or of one class: there is nothing to fit
            temperatures.append(1.0)
        scaled[judged] = logits[judged] / temperatures[-1]
    return scaled, float(np.mean(temperatures)) if temperatures else 1.0


class ClipClassErrors(Diagnosis):
    """
    Errors of the classes of clips: confusion, metrics by length, and the clips with the most confident wrong answers.
    Applies if a DashFusion predicts classes.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline of a DashFusion.
        clips (`Dataset`): clips with `id` and `label`.
        inputs (`list[dict]`): the result of [`row_inputs`].
    """

    def __init__(self, classify, clips: Dataset, inputs: list[dict]):
        config = classify.model.config
        self.applies = config.num_labels > 1 and config.problem_type != "multi_label_classification"
        self.names = list(config.id2label.values())
        self.clips, self.inputs = clips, inputs
        self._logits = np.zeros((len(clips), len(self.names)))

    def observe(self, numbers, outputs):
        """Keeps the logits."""
        self._logits[numbers] = outputs["logits"].numpy()

    def section(self):
        """Compares with the most frequent class, and lists the worst clips."""
        labels, predicted = np.array(self.clips["label"]), self._logits.argmax(-1)
        probabilities = softmax(self._logits, axis=-1).max(-1)

        def metrics(rows):
            result = class_metrics(predicted[rows], labels[rows], self.names)
            return {name: result[name] for name in ("accuracy", "uar", "macro_f1")}

        overall = class_metrics(predicted, labels, self.names)
        reference = float(np.bincount(labels).max() / len(labels))
        findings = [
            at_least(f"accuracy, against that of the most frequent class ({reference:.3f})",
                     float((predicted == labels).mean()) / reference, _LEAST_TIMES_REFERENCE,
                     "the answers follow the labels", "hardly better than always answering the most frequent class")
        ]  # fmt: skip
        wrong = [i for i in np.argsort(-probabilities) if predicted[i] != labels[i]]
        worst = [
            {"id": self.clips[int(i)]["id"], "text": self.inputs[i].get("text", "")[:200],
             "true": self.names[labels[i]], "predicted": self.names[predicted[i]],
             "probability": float(probabilities[i])}
            for i in wrong[:_WORST]
        ]  # fmt: skip
        tables = {
            "Recall of each class": [{"class": name, "recall": overall[f"{name}_recall"]} for name in self.names],
            "By length of the longest modality": by_length(_longest(self.inputs), metrics),
            "Worst clips": worst,
        }
        figures = {"confusion": plot_confusion(labels, predicted, self.names, "Classes")}
        text, data = f"Classes of {len(labels):,} clips.", {"metrics": overall}
        return Section("Errors", text, findings, figures, tables, data, quotes=("tables.Worst clips",))


class ClipErrors(Diagnosis):
    """
    Errors of a score: metrics by length, worst clips, and the signs of failure of DashFusion's paper. Applies if the
    model predicts scores; see [`ClipClassErrors`].

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline of a DashFusion.
        clips (`Dataset`): clips with `id` and `label`.
        inputs (`list[dict]`): the result of [`row_inputs`].
    """

    def __init__(self, classify, clips: Dataset, inputs: list[dict]):
        self.config = classify.model.config
        self.applies = self.config.num_labels == 1
        self.clips, self.inputs = clips, inputs
        self._scores = np.zeros(len(clips))

    def observe(self, numbers, outputs):
        """Keeps the scores."""
        self._scores[numbers] = outputs["logits"].squeeze(-1).numpy()

    def section(self):
        """Measures metrics by length and the signs of failure, and lists the worst clips."""
        scores, labels = self._scores, np.array(self.clips["label"], dtype=float)
        compute = select_sentiment_metrics(self.config.label_range).compute

        def metrics(rows):
            result = compute(predictions=scores[rows], references=labels[rows])
            return {name: result[name] for name in ("mae", "corr", "acc2_has0", "acc2_non0") if name in result}

        overall = compute(predictions=scores, references=labels)
        reference = max(float(np.abs(np.median(labels) - labels).mean()), 1e-9)
        findings = [
            at_most(f"mean absolute error, against that of the median label ({reference:.3f})",
                    overall["mae"] / reference, _LARGEST_SHARE_OF_REFERENCE, "the scores follow the labels",
                    "hardly better than always answering the median label")
        ]  # fmt: skip
        if "acc2_non0" in overall:
            gap = abs(overall["acc2_non0"] - overall["acc2_has0"])
            findings.append(
                at_most("gap between Acc-2 Has0 and Non0", gap, _LARGEST_GAP_AT_ZERO, "neutral clips fit the others",
                        "clips near zero decide: the sign of weak sentiment is not learned")
            )  # fmt: skip
        accuracy = overall.get("acc2_non0", overall["acc2_has0"])
        findings.append(
            at_most("Acc-2 minus Acc-5", accuracy - overall["acc5"], _LARGEST_GAP_OF_FINENESS,
                    "strength is learned along with the sign", "the sign is learned, the strength is not")
        )  # fmt: skip
        worst = [
            {"id": self.clips[int(i)]["id"], "text": self.inputs[i].get("text", "")[:200], "true": float(labels[i]),
             "predicted": float(scores[i])}
            for i in np.argsort(-np.abs(scores - labels))[:_WORST]
        ]  # fmt: skip
        tables = {"By length of the longest modality": by_length(_longest(self.inputs), metrics), "Worst clips": worst}
        figures = {"scores": plot_scores(labels, scores, "Sentiment score", self.config.label_range)}
        text, data = f"Scores of {len(labels):,} clips.", {"metrics": overall}
        return Section("Errors", text, findings, figures, tables, data, quotes=("tables.Worst clips",))


def _longest(inputs):
    """Returns the number of words or frames of the longest modality of each clip."""
    return np.array([max(len(v.split()) if isinstance(v, str) else len(v) for v in clip.values()) for clip in inputs])


def by_length(lengths: np.ndarray, metrics: Callable[[np.ndarray], dict[str, float]]) -> list[dict[str, Any]]:
    """Computes the metrics of the shortest, middle and longest third of the rows."""
    if len(lengths) < 3 * _FEWEST_ROWS:
        return []
    order = np.argsort(lengths, kind="stable")
    return [
        {"length": f"{lengths[rows].min()} to {lengths[rows].max()}", "rows": len(rows), **metrics(rows)}
        for rows in np.array_split(order, 3)
    ]


def _by_group(groups, metrics):
    """Computes the metrics of each group with enough rows."""
    names, counts = np.unique(groups, return_counts=True)
    return [
        {"source": str(name), "rows": int(count), **metrics(np.flatnonzero(groups == name))}
        for name, count in zip(names, counts, strict=True)
        if count >= _FEWEST_ROWS
    ]
