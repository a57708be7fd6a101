"""Checks labels and brings them into the form that the losses take; errors name the argument."""

import torch


def values_are_known(tensor):
    """`bool`: whether the values may decide something: not while a graph is traced, compiled or exported."""
    return not (torch.compiler.is_compiling() or torch.jit.is_tracing() or type(tensor) is not torch.Tensor)


def class_labels(name, labels, logits):
    """
    One class for each row.

    Args:
        name (`str`): of the labels, for errors.
        labels (`torch.Tensor` of shape `(batch,)` or `(batch, 1)`): classes from 0, -100 (or NaN) where missing; floats
            must be whole numbers.
        logits (`torch.Tensor` of shape `(batch, classes)`): the predictions that they are compared to.

    Returns:
        `torch.LongTensor` of shape `(batch,)`, -100 = missing.

    Raises:
        ValueError: if the shape is another, or a value is no class.
    """
    num_classes = logits.shape[1]
    labels = _column(name, labels, len(logits), "single_label_classification, one class for each row,")
    given = labels
    if labels.is_floating_point():
        labels = labels.masked_fill(labels.isnan(), -100)
    classes = labels.long()
    wrong = (classes != labels) | (classes != -100) & ((classes < 0) | (classes >= num_classes))
    _refuse(name, given, wrong, f"a class from 0 to {num_classes - 1}, or -100 where it is missing")
    return classes


def score_labels(name, labels, predictions, limits=None):
    """
    One score for each row.

    Args:
        name (`str`): of the labels, for errors.
        labels (`torch.Tensor` of shape `(batch,)` or `(batch, 1)`): NaN or -100 where missing.
        predictions (`torch.Tensor` of shape `(batch,)` or `(batch, 1)`): the predictions that they are compared to.
        limits (`tuple(float, float)`, *optional*): lowest and highest score that can be predicted.

    Returns:
        `torch.FloatTensor` of the shape of `predictions`, NaN = missing. An infinite score stays: its loss is infinite,
        at which training stops.

    Raises:
        ValueError: if the shape is another, or a finite value lies outside the limits.
    """
    labels = _column(name, labels, len(predictions), "regression, one score for each row,")
    scores = _floats(labels, predictions.dtype)
    if limits is not None:
        low, high = limits
        slack = 1e-3 * (high - low)  # of rounding
        wrong = ~scores.isinf() & ((scores < low - slack) | (scores > high + slack))
        _refuse(name, labels, wrong, f"a number from {low:g} to {high:g}, or NaN where it is missing")
    return scores.view(predictions.shape)


def several_labels(name, labels, logits):
    """
    Several labels at once for each row.

    Args:
        name (`str`): of the labels, for errors.
        labels (`torch.Tensor` of shape `(batch, labels)`): each in [0, 1]; NaN or -100 where missing. A
            batch in which all are missing may have any shape.
        logits (`torch.Tensor` of the same shape): the predictions that they are compared to.

    Returns:
        `torch.FloatTensor` of the shape of `logits`, NaN = missing.

    Raises:
        ValueError: if the shape is another, or a value lies outside [0, 1].
    """
    values = _floats(labels, logits.dtype)
    if values.shape != logits.shape:
        if len(values) == len(logits) and values_are_known(values) and values.isnan().all():
            return logits.new_full(logits.shape, torch.nan)
        raise ValueError(
            f"`{name}` has the shape {tuple(labels.shape)}, but multi_label_classification needs "
            f"{tuple(logits.shape)}: {logits.shape[1]} labels for each row, each in [0, 1]. For one class for each row "
            "give integers and problem_type='single_label_classification'."
        )
    _refuse(name, labels, (values < 0) | (values > 1), "in [0, 1], or NaN where it is missing")
    return values


def _column(name, labels, rows, what):
    if labels.shape not in ((rows,), (rows, 1)):
        raise ValueError(f"`{name}` has the shape {tuple(labels.shape)}, but {what} needs ({rows},) or ({rows}, 1).")
    return labels.reshape(-1)


def _floats(labels, dtype):
    return labels.to(dtype).masked_fill(labels == -100, torch.nan)


def _refuse(name, labels, wrong, accepted):
    """Raises `ValueError` where `wrong` is true, with the first such value and its row."""
    if values_are_known(wrong) and bool(wrong.any()):
        row = int(wrong.reshape(len(wrong), -1).any(1).nonzero()[0, 0])
        value = labels.reshape(-1)[int(wrong.reshape(-1).nonzero()[0, 0])].item()
        raise ValueError(f"`{name}` has the value {value:g} in row {row}; it must be {accepted}.")
