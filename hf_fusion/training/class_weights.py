"""Class weights of the loss, for training data with rare classes."""

import json
import math

import numpy as np

BALANCED = "balanced"
# For each setting the labels that it weighs, and the field of the configuration that names their classes.
SETTINGS = {"class_weights": ("labels", "id2label"), "coarse_class_weights": ("coarse_labels", "coarse_id2label")}
_ACCEPTED = f"{BALANCED!r} or a number of at least 0 for each class, such as [4, 4, 2, 1, 1]"


def parse_class_weights(value, name="class_weights"):
    """
    Parses one of `SETTINGS` in a recipe or a command line.

    Args:
        value (`str`, `list` or `None`): `"balanced"`, numbers, or a string of numbers: a JSON list, or separated by
            commas or spaces.
        name (`str`, *optional*, defaults to `"class_weights"`): the setting, for errors.

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
        raise ValueError(f"`{name}` must be {_ACCEPTED}, got {value!r:.100}.") from error
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ValueError(f"`{name}` must be {_ACCEPTED}, one of them above 0, got {value!r:.100}.")
    return weights


def compute_class_weights(setting, labels, config, name="class_weights") -> list[float]:
    """
    Computes the weight of each class.

    Args:
        setting (`str` or `list[float]`): the result of [`parse_class_weights`], not `None`.
        labels (`list`): the labels of the training data; -100 or `None` for missing ones. Several labels are vectors
            of 0 and 1.
        config ([`PretrainedConfig`]): the configuration of the model.
        name (`str`, *optional*, defaults to `"class_weights"`): which of `SETTINGS` it is.

    Returns:
        `list[float]`: the given weights, or n / (classes * rows of the class), so that all classes have the same total
        weight. For several labels, rows without the label / rows with it, so that both have the same.

    Raises:
        ValueError: if the model predicts scores, or no such classes, the number of weights differs from that of the
            classes, or `"balanced"` meets a class without rows, of several labels also one that every row has.
    """
    several = any(np.ndim(label) > 0 for label in labels[:1])
    if config.num_labels == 1 or config.problem_type == "regression":
        raise ValueError(f"`{name}` is for classes; this model predicts a score.")
    by_number = getattr(config, SETTINGS[name][1], None)
    if not by_number:
        raise ValueError(f"`{name}` is for coarse classes; this model predicts none.")
    names = [str(by_number[number]) for number in range(len(by_number))]
    if setting != BALANCED:
        if len(setting) != len(names):
            raise ValueError(
                f"`{name}` has {len(setting)} numbers, but there are {len(names)} classes: {', '.join(names)}."
            )
        return setting
    if several:
        vectors = np.array([label for label in labels if label is not None])  # (rows, labels)
        counts, others = np.nansum(vectors, axis=0), np.nansum(1 - vectors, axis=0)
    else:
        present = np.array([label for label in labels if label is not None and label != -100], dtype=np.int64)
        counts = np.bincount(present, minlength=len(names))
    if not counts.all():
        absent = ", ".join(word for word, count in zip(names, counts, strict=True) if not count)
        raise ValueError(
            f"`{name}` cannot be {BALANCED}: no training row is {absent}. Give a number for each class instead."
        )
    if several:
        if not others.all():
            constant = ", ".join(word for word, count in zip(names, others, strict=True) if not count)
            raise ValueError(
                f"`{name}` cannot be {BALANCED}: every training row is {constant}, which would get the weight 0. Give "
                "a number for each class instead."
            )
        return (others / counts).tolist()
    return (len(present) / (len(names) * counts)).tolist()
