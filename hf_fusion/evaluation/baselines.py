"""Baselines: constant predictions, and linear models on counts of words."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from datasets import Dataset, DatasetDict
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from hf_fusion.data.arrow_rows import values_of
from hf_fusion.data.clip_classes import class_names
from hf_fusion.data.label_sets import label_vectors
from hf_fusion.evaluation.metrics import ReviewMetrics, class_metrics, label_set_metrics, select_sentiment_metrics

_ALPHAS = np.logspace(-1, 6, 29)
# of the penalty of logistic regression
_INVERSES = np.logspace(-4, 1, 11)
_MAX_TERMS = 200_000
# Rows to fit word counts on beside a training: reviews of 100 words take half a minute.
_MOST_LINEAR_ROWS = 20_000
# Words of two letters or more, as in scikit-learn; characters where a script has no spaces between words.
_WORDS = r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]{2,}"
_COLUMNS = {"fine": "labels", "coarse": "coarse_labels", "intensity": "intensity_labels"}
_PROBABILITIES = "{}_probabilities"  # the name of the answers with the probabilities of a task


@dataclass
class ReviewBaselines:
    """
    Baselines of reviews on the rows on which a model was evaluated.

    Args:
        metrics (`dict`): the [`ReviewMetrics`] by split and name of the baseline.
        training_rows (`dict[str, int]`): the number of rows by the name of the baseline that was fitted on them.
        answers (`dict`, *optional*): by split and name the answers of each task ("fine", "coarse", "intensity"),
            `(rows,)`, and of the first two the probabilities ("fine_probabilities" ...), `(rows, classes)`; empty if
            only the metrics were kept.
        absent (`str`, *optional*): the reason why there are none.

    Example:

    ```python
    from datasets import Dataset
    from hf_fusion.evaluation.baselines import fit_review_baselines

    train = Dataset.from_dict({"text": ["good room", "bad bar", "good bar"], "labels": [1, 0, 1]})
    test = Dataset.from_dict({"text": ["bad room", "good"], "labels": [0, 1]})
    fit_review_baselines(train, {"test": test}).metrics["test"]["majority"]["fine_accuracy"]  # 0.5
    ```
    """

    metrics: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    training_rows: dict[str, int] = field(default_factory=dict)
    answers: dict[str, dict[str, dict[str, np.ndarray]]] = field(default_factory=dict)
    absent: str | None = None


def fit_review_baselines(train: Dataset, splits: Mapping[str, Dataset]) -> ReviewBaselines:
    """
    Fits the most frequent class, whose probabilities are the shares of the classes, and bag of words (logistic
    regression on word counts; ridge regression for the intensity) on training rows, and measures them on other rows.

    Args:
        train (`Dataset`): reviews with the columns `text` and any of `labels`, `coarse_labels`, `intensity_labels`. Of
            more than 20,000 rows bag of words takes 20,000, always the same ones.
        splits (`Mapping[str, Dataset]`): the rows to measure on, by split.
    """
    sample = train
    if len(train) > _MOST_LINEAR_ROWS:
        drawn = np.random.default_rng(0).choice(len(train), _MOST_LINEAR_ROWS, replace=False)
        sample = train.select(np.sort(drawn))
    fitted = {"majority": _fit_majority(train), "bag of words": _fit_linear(sample, _word_counts)}
    baselines = ReviewBaselines(training_rows={"majority": len(train), "bag of words": len(sample)})
    for split, rows in splits.items():
        baselines.answers[split] = {name: _answer(tasks, rows) for name, tasks in fitted.items()}
        baselines.metrics[split] = {name: _measure(part, rows) for name, part in baselines.answers[split].items()}
    return baselines


def majority_baseline(train, test) -> dict[str, float]:
    """Predicts the most frequent classes and the mean intensity of `train`; returns [`ReviewMetrics`] on `test`."""
    return _measure(_answer(_fit_majority(train), test), test)


def bag_of_words_baseline(train, test) -> dict[str, float]:
    """Fits logistic regression and ridge regression on word counts; returns [`ReviewMetrics`] on `test`."""
    return _measure(_answer(_fit_linear(train, _word_counts), test), test)


def tfidf_baseline(train, test) -> dict[str, float]:
    """Like [`bag_of_words_baseline`], with the TF-IDF of words and word pairs."""

    return _measure(_answer(_fit_linear(train, _tfidf), test), test)


def _word_counts():
    return CountVectorizer(token_pattern=_WORDS)


def _tfidf():
    return TfidfVectorizer(token_pattern=_WORDS, ngram_range=(1, 2), sublinear_tf=True, max_features=_MAX_TERMS)


def _fit_majority(train):
    """
    Returns the answering function of each task that has labels, from texts to probabilities `(texts, classes)` or, for
    the intensity, values `(texts,)`.
    """
    return {task: _fit_constant(_labels(train, task)[0], task) for task in _tasks(train)}


def _fit_linear(train, vectorizer):
    """As [`_fit_majority`], by linear models on the features of texts."""
    answering = {}
    for task in _tasks(train):
        values, numbers = _labels(train, task)
        all_texts = values_of(train, "text")
        texts = [all_texts[number] for number in numbers]
        analyze = vectorizer().build_analyzer()
        if len(set(values.tolist())) == 1 or not any(map(analyze, texts)):  # a single class, or no words, to fit
            answering[task] = _fit_constant(values, task)
            continue
        linear = Ridge(alpha=1.0) if task == "intensity" else LogisticRegression(max_iter=1000)
        # several threads are slower for such small vectors, by far where other processes take the cores
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = make_pipeline(vectorizer(), linear).fit(texts, values)
        answering[task] = fitted.predict if task == "intensity" else partial(_probabilities, fitted)
    return answering


def _probabilities(fitted, texts):
    """Returns the probabilities `(texts, classes)` of a classifier, 0 for classes without a training row."""
    probabilities = np.zeros((len(texts), fitted.classes_.max() + 1))
    probabilities[:, fitted.classes_] = fitted.predict_proba(texts)
    return probabilities


def _fit_constant(values, task):
    constant = values.mean() if task == "intensity" else np.bincount(values) / len(values)
    return lambda texts: np.broadcast_to(constant, (len(texts), *np.shape(constant)))


def _answer(answering, rows):
    """Returns the answers of each task for which the rows have labels, and the probabilities of their classes."""
    texts, tasks, answers = values_of(rows, "text"), _tasks(rows), {}
    for task in (task for task in answering if task in tasks):
        answers[task] = values = answering[task](texts)
        if task != "intensity":
            answers |= {task: values.argmax(-1), _PROBABILITIES.format(task): values}
    return answers


def _tasks(rows):
    """Returns the tasks for which rows have labels."""
    return [
        task
        for task, column in _COLUMNS.items()
        if column in rows.column_names and any(map(_is_given, values_of(rows, column)))
    ]


def _labels(rows, task):
    """Returns the labels of a task, and the numbers of the rows that have one."""
    pairs = [(value, row) for row, value in enumerate(values_of(rows, _COLUMNS[task])) if _is_given(value)]
    values, numbers = zip(*pairs, strict=True)
    return np.array(values), list(numbers)


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


def _measure(answers, test):
    """Returns the [`ReviewMetrics`] of answers; no likelihood if a true class had no row in training."""
    references = {task: values_of(test, column) for task, column in _COLUMNS.items() if task in answers}
    predictions, unseen = dict(answers), []
    for task, labels in references.items():
        name = _PROBABILITIES.format(task)
        if name in answers:
            predictions[name], impossible = _widen(answers[name], labels)
            unseen += [f"{task}_negative_log_likelihood"] * impossible
    return ReviewMetrics().compute(predictions=predictions, references=references) | dict.fromkeys(unseen, np.nan)


def _widen(probabilities, labels):
    """Adds columns for true classes that the training lacks; also returns whether a true class has probability 0."""
    known = np.array([label if _is_given(label) else -100 for label in labels])
    missing = max(known.max() + 1 - probabilities.shape[1], 0)
    probabilities = np.pad(probabilities, ((0, 0), (0, missing)))
    rows = np.flatnonzero(known != -100)
    return probabilities, bool((probabilities[rows, known[rows]] == 0).any())
