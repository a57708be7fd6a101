"""What a model has to beat: the majority, and words counted without their order."""

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from hf_fusion.evaluation.metrics import ReviewMetrics

_COLUMNS = {"fine": "labels", "coarse": "coarse_labels", "intensity": "intensity_labels"}


def majority_baseline(train, test) -> dict[str, float]:
    """[`ReviewMetrics`] of the most frequent classes and the mean intensity of `train`, on `test`."""
    predictions = {}
    for task, column in _COLUMNS.items():
        values = np.array(train[column])
        constant = values.mean() if task == "intensity" else np.bincount(values).argmax()
        predictions[task] = np.full(len(test), constant)
    return _measure(predictions, test)


def bag_of_words_baseline(train, test) -> dict[str, float]:
    """[`ReviewMetrics`] of linear models on word counts: logistic regression for classes, ridge for intensity."""
    predictions = {}
    for task, column in _COLUMNS.items():
        linear = Ridge(alpha=1.0) if task == "intensity" else LogisticRegression(max_iter=1000)
        model = make_pipeline(CountVectorizer(), linear).fit(list(train["text"]), np.array(train[column]))
        predictions[task] = model.predict(list(test["text"]))
    return _measure(predictions, test)


def _measure(predictions, test):
    return ReviewMetrics().compute(
        predictions=predictions, references={task: list(test[column]) for task, column in _COLUMNS.items()}
    )
