"""Baselines: constant predictions, and linear models on counts of words."""

from collections.abc import Sequence

import numpy as np
from datasets import DatasetDict
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hf_fusion.data.clip_classes import class_names
from hf_fusion.data.label_sets import label_vectors
from hf_fusion.evaluation.metrics import ReviewMetrics, class_metrics, label_set_metrics, select_sentiment_metrics

_ALPHAS = np.logspace(-1, 6, 29)
# of the penalty of logistic regression
_INVERSES = np.logspace(-4, 1, 11)
_MAX_TERMS = 200_000
_COLUMNS = {"fine": "labels", "coarse": "coarse_labels", "intensity": "intensity_labels"}


def majority_baseline(train, test) -> dict[str, float]:
    """Predicts the most frequent classes and the mean intensity of `train`; returns [`ReviewMetrics`] on `test`."""
    predictions = {}
    for task in _tasks(train, test):
        _, values = _labelled(train, task)
        constant = values.mean() if task == "intensity" else np.bincount(values).argmax()
        predictions[task] = np.full(len(test), constant)
    return _measure(predictions, test)


def bag_of_words_baseline(train, test) -> dict[str, float]:
    """Fits logistic regression and ridge regression on word counts; returns [`ReviewMetrics`] on `test`."""
    return _linear_baseline(train, test, CountVectorizer)


def tfidf_baseline(train, test) -> dict[str, float]:
    """Like [`bag_of_words_baseline`], with the TF-IDF of words and word pairs."""
    return _linear_baseline(
        train, test, lambda: TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=_MAX_TERMS)
    )


def _linear_baseline(train, test, vectorizer):
    predictions = {}
    for task in _tasks(train, test):
        texts, values = _labelled(train, task)
        if len(set(values.tolist())) == 1:  # a single class cannot be fitted
            predictions[task] = np.full(len(test), values[0])
            continue
        linear = Ridge(alpha=1.0) if task == "intensity" else LogisticRegression(max_iter=1000)
        model = make_pipeline(vectorizer(), linear).fit(texts, values)
        predictions[task] = model.predict(list(test["text"]))
    return _measure(predictions, test)


def _tasks(train, test):
    """Returns the tasks for which both splits have labels."""
    return [
        task
        for task, column in _COLUMNS.items()
        if all(column in rows.column_names and any(_is_given(v) for v in rows[column]) for rows in (train, test))
    ]


def _labelled(rows, task):
    """Returns texts and labels of the rows with a label for the task."""
    pairs = [(text, value) for text, value in zip(rows["text"], rows[_COLUMNS[task]], strict=True) if _is_given(value)]
    texts, values = zip(*pairs, strict=True)
    return list(texts), np.array(values)


def _is_given(value):
    return value is not None and value == value and value != -100


def mean_baseline(clips: DatasetDict, label_range) -> dict[str, float]:
    """Predicts the mean training label; returns [`SentimentRegressionMetrics`] on the test split."""
    return _measure_scores(np.full(len(clips["test"]), np.mean(clips["train"]["label"])), clips, label_range)


def ridge_baseline(clips: DatasetDict, modalities, label_range) -> dict[str, float]:
    """
    Fits ridge regression on the mean frames and the words of each clip; returns [`SentimentRegressionMetrics`].

    The text is represented by the column `text_features` if there is one, otherwise by the TF-IDF of words and word
    pairs. Features are scaled on the training split, and the penalty with the lowest MAE on validation is chosen.

    Args:
        clips (`DatasetDict`): the splits `train`, `validation` and `test`.
        modalities (`Sequence[str]`): any of "text", "audio" and "vision".
        label_range (`tuple[float, float]`): the range of the labels, which selects the metrics.
    """
    inputs = _clip_inputs(clips, modalities)
    labels = {split: np.array(clips[split]["label"]) for split in clips}

    def fit(alpha):
        return Ridge(alpha=alpha).fit(inputs["train"], labels["train"])

    def validation_error(alpha):
        return np.abs(fit(alpha).predict(inputs["validation"]) - labels["validation"]).mean()

    return _measure_scores(fit(min(_ALPHAS, key=validation_error)).predict(inputs["test"]), clips, label_range)


def class_baselines(clips: DatasetDict, modalities: list[str]) -> dict[str, dict[str, float]]:
    """
    Predicts the largest class of the training split, and fits [`logistic_baseline`] on each modality and on all.

    Args:
        clips (`DatasetDict`): the splits `train`, `validation` and `test`, whose `label` is a `ClassLabel`.
        modalities (`list[str]`): the modalities that the clips have.

    Returns:
        `dict[str, dict[str, float]]`: [`class_metrics`] on the test split by name.
    """
    largest = np.bincount(clips["train"]["label"]).argmax()
    results = {"largest class": _measure_classes(np.full(len(clips["test"]), largest), clips)}
    for chosen in [[name] for name in modalities] + ([modalities] if len(modalities) > 1 else []):
        results["logistic: " + " + ".join(chosen)] = logistic_baseline(clips, chosen)
    return results


def logistic_baseline(clips: DatasetDict, modalities: Sequence[str]) -> dict[str, float]:
    """
    Fits logistic regression on the mean frames and the words of each clip, with the penalty of the highest accuracy on
    validation; returns [`class_metrics`]. See [`ridge_baseline`] for the features.
    """
    inputs = _clip_inputs(clips, modalities)
    labels = {split: np.array(clips[split]["label"]) for split in clips}

    def fit(inverse):
        return LogisticRegression(C=inverse, max_iter=2000).fit(inputs["train"], labels["train"])

    def validation_accuracy(inverse):
        return fit(inverse).score(inputs["validation"], labels["validation"])

    return _measure_classes(fit(max(_INVERSES, key=validation_accuracy)).predict(inputs["test"]), clips)


def label_set_baselines(clips: DatasetDict, modalities: list[str]) -> dict[str, dict[str, float]]:
    """
    Predicts the share of each label in the training split, and fits [`one_vs_rest_baseline`] on each modality and on
    all.

    Args:
        clips (`DatasetDict`): the splits `train`, `validation` and `test`, whose `label` is a list of `ClassLabel`.
        modalities (`list[str]`): the modalities that the clips have.

    Returns:
        `dict[str, dict[str, float]]`: [`label_set_metrics`] on the test split by name.
    """
    labels, names = _label_vectors(clips), class_names(clips["test"])
    shares = np.tile(labels["train"].mean(axis=0), (len(labels["test"]), 1))
    results = {"shares of the labels": label_set_metrics(shares, labels["test"], names)}
    for chosen in [[name] for name in modalities] + ([modalities] if len(modalities) > 1 else []):
        results["logistic: " + " + ".join(chosen)] = one_vs_rest_baseline(clips, chosen)
    return results


def one_vs_rest_baseline(clips: DatasetDict, modalities: Sequence[str]) -> dict[str, float]:
    """
    Fits a logistic regression for each label on the mean frames and the words of each clip, with the penalty of the
    highest macro F1 on validation; returns [`label_set_metrics`]. See [`ridge_baseline`] for the features.
    """
    inputs, labels = _clip_inputs(clips, modalities), _label_vectors(clips)

    def fit(inverse):
        linear = LogisticRegression(C=inverse, max_iter=2000)
        return OneVsRestClassifier(linear).fit(inputs["train"], labels["train"].astype(int))

    def validation_f1(inverse):
        predicted = fit(inverse).predict(inputs["validation"])
        return f1_score(labels["validation"], predicted, average="macro", zero_division=0)

    probabilities = fit(max(_INVERSES, key=validation_f1)).predict_proba(inputs["test"])
    return label_set_metrics(probabilities, labels["test"], class_names(clips["test"]))


def _label_vectors(clips):
    return {split: label_vectors(rows["label"], len(class_names(rows))) for split, rows in clips.items()}


def _clip_inputs(clips, modalities):
    """Returns the features of all modalities of each split, one row per clip."""
    features = [_clip_features(clips, name) for name in modalities]
    return {split: sparse.hstack([part[split] for part in features]).tocsr() for split in clips}


def _clip_features(clips, name):
    """Returns the features of each split, one row per clip, fitted on the training split."""
    if name == "text" and "text_features" not in clips["train"].column_names:
        texts = {split: [text or "" for text in rows["text"]] for split, rows in clips.items()}
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2).fit(texts["train"])
        return {split: vectorizer.transform(values) for split, values in texts.items()}
    if name == "text":
        rows = {split: np.array(rows["text_features"]) for split, rows in clips.items()}
    else:
        rows = {split: _mean_frames(part, name) for split, part in clips.items()}
    scaler = StandardScaler().fit(rows["train"])
    return {split: sparse.csr_matrix(scaler.transform(values)) for split, values in rows.items()}


def _mean_frames(rows, name):
    """Returns the mean frame of each clip, `(clips, features)`; 0 for clips without frames."""
    frames = (row[name] for row in rows.select_columns([name]).with_format("numpy"))
    return np.stack([clip.mean(axis=0) if len(clip) else np.zeros(clip.shape[1]) for clip in frames])


def _measure_scores(predictions, clips, label_range):
    return select_sentiment_metrics(label_range).compute(
        predictions=predictions, references=list(clips["test"]["label"])
    )


def _measure_classes(predictions, clips):
    test = clips["test"]
    return class_metrics(predictions, test["label"][:], test.features["label"].names)


def _measure(predictions, test):
    return ReviewMetrics().compute(
        predictions=predictions, references={task: list(test[_COLUMNS[task]]) for task in predictions}
    )
