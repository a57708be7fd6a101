"""Class weights of the loss, for training data with rare classes."""

import json
import math

import numpy as np

BALANCED = "balanced"
_ACCEPTED = f"{BALANCED!r} or a number of at least 0 for each class, such as [4, 4, 2, 1, 1]"


def parse_class_weights(value):
    """
    Parses the setting `class_weights` of a recipe or a command line.

    Args:
        value (`str`, `list` or `None`): `"balanced"`, numbers, or a string of numbers: a JSON list, or separated by
        commas or spaces.

    Returns:
        `"balanced"`, `list[float]` or `None`.

    Raises:
        ValueError: for anything else.
    """
    if value is None or value == BALANCED:
        return value
    try:
        words = value
        if isinstance(value, str):
            words = json.loads(value) if value.lstrip().startswith("[") else value.replace(",", " ").split()
        weights = [float(word) for word in words]
    except (TypeError, ValueError) as error:
        raise ValueError(f"`class_weights` must be {_ACCEPTED}, got {value!r:.100}.") from error
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ValueError(f"`class_weights` must be {_ACCEPTED}, one of them above 0, got {value!r:.100}.")
    return weights


def compute_class_weights(setting, labels, config) -> list[float]:
    """
    Computes the weight of each class.

    Args:
        setting (`str` or `list[float]`): the result of [`parse_class_weights`], not `None`.
        labels (`list`): the labels of the training data; -100 or `None` for missing ones. Several labels are vectors
            of 0 and 1.
        config ([`PretrainedConfig`]): the configuration of the model.

    Returns:
        `list[float]`: the given weights, or n / (classes * rows of the class), so that all classes have the same total
        weight. For several labels, rows without the label / rows with it, so that both have the same.

    Raises:
        ValueError: if the model predicts scores, the number of weights differs from that of the classes, or
            `"balanced"` meets a class without rows.
    """
    several = any(np.ndim(label) > 0 for label in labels[:1])
    if config.num_labels == 1 or config.problem_type == "regression":
        raise ValueError("`class_weights` is for classes; this model predicts a score.")
    names = [str(config.id2label[number]) for number in range(config.num_labels)]
    if setting != BALANCED:
        if len(setting) != len(names):
            raise ValueError(
                f"`class_weights` has {len(setting)} numbers, but there are {len(names)} classes: {', '.join(names)}."
            )
        return setting
    if several:
        vectors = np.array([label for label in labels if label is not None])  # (rows, labels)
        counts = np.nansum(vectors, axis=0)
    else:
        present = np.array([label for label in labels if label is not None and label != -100], dtype=np.int64)
        counts = np.bincount(present, minlength=len(names))
    if not counts.all():
        absent = ", ".join(name for name, count in zip(names, counts, strict=True) if not count)
        raise ValueError(
            f"`class_weights` cannot be {BALANCED}: no training row is {absent}. Give a number for each class instead."
        )
    if several:
        return ((len(vectors) - counts) / counts).tolist()
    return (len(present) / (len(names) * counts)).tolist()
