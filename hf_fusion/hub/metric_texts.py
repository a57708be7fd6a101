"""Explains metrics in model cards."""

from collections.abc import Iterable

_HIGHER, _LOWER = "higher is better", "lower is better"
# By the last words of a metric's name: its direction, as in `hf_fusion.evaluation.metrics.METRICS`, and its meaning.
EXPLANATIONS = {
    "accuracy": (_HIGHER, "share of rows with the right class"),
    "macro_f1": (_HIGHER, "mean over classes of F1, so that a rare class counts as much as a common one"),
    "f1": (_HIGHER, "harmonic mean of precision and recall"),
    "uar": (_HIGHER, "mean over classes of the recall (balanced accuracy)"),
    "recall": (_HIGHER, "share of the rows of a class that are found"),
    "within_one": (_HIGHER, "share of rows at most one class off"),
    "quadratic_kappa": (
        _HIGHER,
        "agreement beyond chance, a miss by two classes counting four times; 1 is perfect",
    ),
    "class_error": (_LOWER, "mean distance to the right class, in classes"),
    "mae": (_LOWER, "mean absolute error"),
    "mse": (_LOWER, "mean squared error"),
    "rmse": (_LOWER, "root of the mean squared error"),
    "r2": (_HIGHER, "share of the variance that is explained; 0 for a model that always answers the mean"),
    "corr": (_HIGHER, "Pearson correlation of true and predicted values"),
    "acc2_has0": (_HIGHER, "accuracy of two classes, negative or not"),
    "acc2_non0": (_HIGHER, "accuracy of two classes, negative or positive, without rows of score 0"),
    "f1_has0": (_HIGHER, "F1 of the classes of acc2_has0, weighted by their rows"),
    "f1_non0": (_HIGHER, "F1 of the classes of acc2_non0, weighted by their rows"),
    "acc3": (_HIGHER, "accuracy of the score in three classes"),
    "acc5": (_HIGHER, "accuracy of the score in five classes"),
    "acc7": (_HIGHER, "accuracy of the score in seven classes"),
    "subset_accuracy": (_HIGHER, "share of rows with all labels right"),
    "hamming_loss": (_LOWER, "share of wrong answers over all labels"),
    "micro_f1": (_HIGHER, "F1 over all answers"),
    "average_precision": (_HIGHER, "mean precision over all thresholds"),
    "weighted_accuracy": (_HIGHER, "mean of the recalls of the rows with and without a label"),
    "weighted_f1": (_HIGHER, "mean of the F1 of the rows with and without a label, weighted by their number"),
    "calibration_error": (_LOWER, "mean difference of probability and accuracy"),
    "expected_calibration_error": (_LOWER, "mean difference of probability and accuracy"),
    "brier_score": (_LOWER, "squared error of the probabilities of all classes; 0 is perfect, 2 the worst"),
    "brier": (_LOWER, "squared error of the probabilities of all classes; 0 is perfect, 2 the worst"),
    "negative_log_likelihood": (_LOWER, "mean of -log of the probability of the right class"),
    "nll": (_LOWER, "mean of -log of the probability of the right class"),
    "coverage": (_HIGHER, "share of rows with an answer that is not unsure"),
    "answered_accuracy": (_HIGHER, "share of the answers that are not unsure with the right class"),
    "loss": (_LOWER, "the loss of the training"),
}


def explain_metrics(names: Iterable[str]) -> list[tuple[list[str], str, str]]:
    """
    Explains metrics; those that differ in the task or class alone are explained together.

    Args:
        names (`Iterable[str]`): the names of metrics, such as `fine_accuracy`. Unknown ones are left out.

    Returns:
        `list[tuple[list[str], str, str]]`: names, direction ("higher is better" or "lower is better") and meaning.

    Example:

    ```python
    >>> from hf_fusion.hub.metric_texts import explain_metrics
    >>> explain_metrics(["fine_accuracy", "intensity_mae", "coarse_accuracy"])[0]
    (['fine_accuracy', 'coarse_accuracy'], 'higher is better', 'share of rows with the right class')
    ```
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        words = name.split("_")
        ends = ("_".join(words[start:]) for start in range(len(words)))
        if end := next((end for end in ends if end in EXPLANATIONS), None):
            groups.setdefault(end, []).append(name)
    return [(members, *EXPLANATIONS[end]) for end, members in groups.items()]
