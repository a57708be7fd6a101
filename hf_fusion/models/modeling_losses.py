"""Losses over the labels that are present, and contrastive losses over the pairs that there are."""

import torch
from torch import nn

# The exponent alpha of the ordinal log loss: the middle one of those that its authors compare (1, 1.5 and 2).
ORDINAL_EXPONENT = 1.5


def at_least_float32(values):
    """Half-precision values in float32, for the losses; others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def cross_entropy(logits, labels, class_weights=None):
    """Mean cross-entropy over the labels that are not -100, and 1 if there is any (else 0 and 0). With class weights
    the mean is weighted, as that of `nn.CrossEntropyLoss`."""
    weights = None if class_weights is None else class_weights.to(logits.dtype)
    total = nn.functional.cross_entropy(logits, labels, weights, ignore_index=-100, reduction="sum")
    count = label_weight(labels, weights)
    return total / torch.where(count > 0, count, 1), (labels != -100).any().to(total.dtype)


def label_weight(labels, class_weights=None, answers=None):
    """How much the labels that are not -100 count in a mean: their number, or the sum of their classes' weights; each
    times the number of its `answers` (see [`corn_answers`]) where that is given."""
    counts = labels != -100 if answers is None else answers
    return counts.sum() if class_weights is None else (class_weights[labels.clamp(min=0)] * counts).sum()


def focal_loss(logits, labels, class_weights=None, gamma=2.0):
    """
    Focal loss (Lin et al. 2017, Eq. 5): the cross-entropy of each row, times (1 - p)^gamma for the probability p of its
    label, so that rows which are predicted well count little. With gamma 0 it is [`cross_entropy`].

    Args:
        logits (`torch.Tensor` of shape `(batch, classes)`): the predictions.
        labels (`torch.LongTensor` of shape `(batch,)`): classes, -100 where missing.
        class_weights (`torch.Tensor` of shape `(classes,)`, *optional*): as in [`cross_entropy`].
        gamma (`float`, *optional*, defaults to 2.0): at least 0.

    Returns:
        The mean, and 1 if there is any label (else 0 and 0).
    """
    log_probabilities = logits.log_softmax(dim=-1)
    factors = (gamma * _of_labels(log_complements(log_probabilities), labels)).exp()
    return _label_mean(-factors * _of_labels(log_probabilities, labels), labels, class_weights)


def ordinal_log_loss(logits, labels, class_weights=None):
    """
    Ordinal log loss (Castagnos et al. 2022): -sum_i log(1 - p_i) d(label, i)^alpha over the classes i, where d is the
    difference of the classes' numbers: probability costs the more, the further it is from the label. For alpha see
    `ORDINAL_EXPONENT`; for arguments and result [`focal_loss`].
    """
    log_probabilities = logits.log_softmax(dim=-1)
    classes = torch.arange(logits.shape[-1], device=logits.device)
    distances = (classes - labels.unsqueeze(1)).abs().to(logits.dtype) ** ORDINAL_EXPONENT  # (batch, classes)
    return _label_mean(-(distances * log_complements(log_probabilities)).sum(dim=-1), labels, class_weights)


def corn_log_probabilities(conditional_logits):
    """
    The classes' log probabilities by the conditional ones of CORN (Shi et al. 2023).

    Args:
        conditional_logits (`torch.Tensor` of shape `(batch, classes - 1)`): for each class but the last, the logit of
            lying above it, given that no lower class applies.

    Returns:
        `torch.Tensor` of shape `(batch, classes)` in float32 or more: log probabilities, which are logits too (their
        softmax are the probabilities).
    """
    conditional_logits = at_least_float32(conditional_logits)
    above = nn.functional.logsigmoid(conditional_logits)
    stays = nn.functional.logsigmoid(-conditional_logits)
    # class k: above all lower ones, and not above k; nothing is above the last one
    return nn.functional.pad(above.cumsum(dim=-1), (1, 0)) + nn.functional.pad(stays, (0, 1))


def corn_loss(log_probabilities, labels, class_weights=None):
    """
    Loss of CORN (Shi et al. 2023): the mean binary cross-entropy of all conditional questions that the labels answer. A
    label answers whether a text lies above each class up to its own ([`corn_answers`]); the sum over these is the
    negative log probability of the label.

    Args:
        log_probabilities (`torch.Tensor` of shape `(batch, classes)`): the result of [`corn_log_probabilities`].
        labels, class_weights: as in [`focal_loss`]; a weight counts for all answers of its class.

    Returns:
        The mean, and 1 if there is any label (else 0 and 0).
    """
    answers = corn_answers(labels, log_probabilities.shape[-1])
    return _label_mean(-_of_labels(log_probabilities, labels), labels, class_weights, answers)


def corn_answers(labels, num_classes):
    """How many of the `num_classes - 1` conditional questions of CORN each label answers, 0 for a missing one."""
    return (labels + 1).clamp(0, num_classes - 1)


def log_complements(log_probabilities):
    """log(1 - p) for each class of `(batch, classes)`: the log of the sum over the others, which is finite and has a
    gradient where p rounds to 1."""
    own = torch.eye(log_probabilities.shape[-1], dtype=torch.bool, device=log_probabilities.device)
    others = log_probabilities.unsqueeze(-2).masked_fill(own, -torch.inf)  # (batch, classes, classes)
    return others.logsumexp(dim=-1)


def _of_labels(values, labels):
    """Of `(batch, classes)` the value of each row's label; of any class where it is missing."""
    return values.gather(1, labels.clamp(min=0).unsqueeze(1)).squeeze(1)


def _label_mean(losses, labels, class_weights, answers=None):
    """The sum of the rows' losses `(batch,)`, each times its class's weight, by [`label_weight`]; and 1 if there is any
    label (else 0 and 0)."""
    present = labels != -100
    losses = losses.masked_fill(~present, 0.0)
    weights = None if class_weights is None else class_weights.to(losses.dtype)
    total = losses.sum() if weights is None else (losses * weights[labels.clamp(min=0)]).sum()
    count = label_weight(labels, weights, answers)
    return total / torch.where(count > 0, count, 1), present.any().to(losses.dtype)


def squared_error(predictions, targets):
    """Mean squared error over the targets that are not NaN, and 1 if there is any (else 0 and 0)."""
    present = ~torch.isnan(targets)
    errors = (predictions - torch.where(present, targets, predictions.detach().to(targets.dtype))) ** 2
    count = present.sum()
    return errors.sum() / count.clamp(min=1), (count > 0).to(errors.dtype)


def binary_cross_entropy(logits, labels, class_weights=None):
    """Mean binary cross-entropy over the labels that are not NaN, and 1 if there is any (else 0 and 0). A class weight
    multiplies the loss where its label applies (`pos_weight` of `nn.BCEWithLogitsLoss`)."""
    present = ~torch.isnan(labels)
    weights = None if class_weights is None else class_weights.to(logits.dtype)
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits, labels.nan_to_num(), reduction="none", pos_weight=weights
    )
    count = present.sum()
    return (losses * present).sum() / count.clamp(min=1), (count > 0).to(losses.dtype)


def nt_xent(similarity, positives, negatives, temperature):
    """
    Normalised temperature-scaled cross-entropy (NT-Xent; Chen et al. 2020, Eq. 1) over chosen pairs.

    The loss of a positive pair (i, j) is -log(e_ij / (e_ij + sum of e_ik over the negatives k of i)), with
    e = exp(similarity / temperature); it is 0 where i has no negatives.

    Args:
        similarity (`torch.Tensor` of shape `(..., anchors, others)`): cosine similarities.
        positives, negatives (`torch.BoolTensor` of the same shape): the pairs that count as positive and as negative.
        temperature (`float`): above 0.

    Returns:
        `torch.Tensor` of shape `()`: the mean over all positive pairs; 0 if there is none.
    """
    logits = similarity / temperature
    # finite, so that an anchor without negatives has gradient 0 instead of NaN
    nothing = torch.finfo(logits.dtype).min / 2
    negative_mass = logits.masked_fill(~negatives, nothing).logsumexp(dim=-1, keepdim=True)  # (..., anchors, 1)
    losses = nn.functional.softplus(negative_mass - logits)
    return (losses * positives).sum() / positives.sum().clamp(min=1)


def distillation_loss(logits, whole, problem_type):
    """
    How far the answers to clips with hidden modalities are from the answers to the whole clips.

    Args:
        logits (`torch.Tensor` of shape `(batch, num_labels)`): of the clips with hidden modalities.
        whole (`torch.Tensor` of the same shape): of the whole clips; no gradient flows into it.
        problem_type (`str`): of the configuration.

    Returns:
        `torch.Tensor` of shape `()`: mean squared error of scores, Kullback-Leibler divergence of classes, or the mean
        one of several labels, each with its two outcomes; 0 where both agree.
    """
    logits, whole = at_least_float32(logits), at_least_float32(whole.detach())
    if problem_type == "regression":
        return nn.functional.mse_loss(logits, whole)
    if problem_type == "single_label_classification":
        log_probabilities = (values.log_softmax(-1) for values in (logits, whole))
        return nn.functional.kl_div(*log_probabilities, reduction="batchmean", log_target=True)
    # each label as two classes, yes and no
    log_probabilities = (nn.functional.logsigmoid(torch.stack([values, -values], dim=-1)) for values in (logits, whole))
    return nn.functional.kl_div(*log_probabilities, reduction="sum", log_target=True) / logits.numel()


def semantic_alignment_loss(embeds, present, anchors, temperature):
    """
    NT-Xent between the modalities of a batch: an anchor's positives are the other modalities of its own clip, its
    negatives those of all other clips (DashFusion, semantic alignment).

    Args:
        embeds (`dict[str, torch.Tensor]`): for each modality the clips' vectors, of shape `(batch, hidden)`.
        present (`dict[str, torch.BoolTensor]`): for each modality which clips have it, of shape `(batch,)`.
        anchors (`tuple[str]`): the modalities that the others are aligned to.
        temperature (`float`): of NT-Xent.

    Returns:
        `torch.Tensor` of shape `()`; 0 if no clip has an anchor and another modality.
    """
    unit = {name: nn.functional.normalize(at_least_float32(value), dim=-1) for name, value in embeds.items()}
    own = torch.eye(len(next(iter(unit.values()))), dtype=torch.bool, device=next(iter(unit.values())).device)
    similarities, positives, negatives = [], [], []
    for anchor in anchors:
        others = [name for name in unit if name != anchor]
        similarities.append(unit[anchor] @ torch.cat([unit[name] for name in others]).T)  # (batch, others * batch)
        valid = present[anchor].unsqueeze(1) & torch.cat([present[name] for name in others])
        same_clip = own.repeat(1, len(others))
        positives.append(valid & same_clip)
        negatives.append(valid & ~same_clip)
    return nt_xent(torch.stack(similarities), torch.stack(positives), torch.stack(negatives), temperature)


def joint_features(embeds, present):
    """
    What clips are compared by: all their vectors side by side, 0 where a modality is missing.

    Args:
        embeds (`dict[str, torch.Tensor]`): for each kind the clips' vectors, of shape `(batch, hidden)`.
        present (`dict[str, torch.BoolTensor]`): for each kind which clips have it, of shape `(batch,)`.

    Returns:
        `torch.Tensor` of shape `(batch, kinds * hidden)`.
    """
    return torch.cat([value * present[name].unsqueeze(1) for name, value in embeds.items()], dim=-1)


def contrastive_pairs(features, same, different, num_positives, num_hard, num_easy):
    """
    Chooses each clip's partners within the batch (DashFusion, supervised contrastive learning).

    Args:
        features (`torch.Tensor` of shape `(batch, width)`): vectors compared by cosine similarity; no gradient flows.
        same, different (`torch.BoolTensor` of shape `(batch, batch)`): whether two clips have the same class or
            different ones. Clips without a label are in neither, and no clip is its own partner.
        num_positives (`int`): the most similar clips of the same class.
        num_hard, num_easy (`int`): the most and the least similar clips of other classes.

    Returns:
        `positives` and `negatives` (`torch.BoolTensor` of shape `(batch, batch)`), with fewer partners where the batch
        does not have as many.
    """
    unit = nn.functional.normalize(at_least_float32(features.detach()), dim=-1)
    similarity = unit @ unit.T
    positives = _most_similar(similarity, same, num_positives)
    hard = _most_similar(similarity, different, num_hard)
    return positives, hard | _most_similar(-similarity, different, num_easy)


def _most_similar(similarity, candidates, count):
    count = min(count, len(similarity))
    chosen = similarity.masked_fill(~candidates, -torch.inf).topk(count, dim=-1).indices
    return torch.zeros_like(candidates).scatter(-1, chosen, True) & candidates


def label_classes(labels, step):
    """
    Which clips are of the same class and which of different ones.

    Args:
        labels (`torch.Tensor` of shape `(batch,)` or `(batch, labels)`): classes (-100 = missing), or scores or
            several labels (NaN = missing).
        step (`float` or `None`): scores are rounded to multiples of it, half to even; `None` compares them as they are.

    Returns:
        `same` and `different` (`torch.BoolTensor` of shape `(batch, batch)`); a clip is neither to itself.
    """
    rows = labels.reshape(len(labels), -1)
    known = ~torch.isnan(rows).any(-1) if rows.is_floating_point() else (rows != -100).all(-1)
    if step is not None:
        rows = torch.round(rows / step)
    equal = (rows.unsqueeze(1) == rows.unsqueeze(0)).all(-1)
    comparable = known.unsqueeze(1) & known.unsqueeze(0)
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    return equal & comparable & ~itself, ~equal & comparable


def supervised_contrastive_loss(embeds, present, positives, negatives, temperature):
    """
    NT-Xent between clips, for each kind of vector on its own (DashFusion, supervised contrastive learning).

    Args:
        embeds (`dict[str, torch.Tensor]`): for each kind the clips' vectors, of shape `(batch, hidden)`.
        present (`dict[str, torch.BoolTensor]`): for each kind which clips have it, of shape `(batch,)`.
        positives, negatives (`torch.BoolTensor` of shape `(batch, batch)`): see [`contrastive_pairs`].
        temperature (`float`): of NT-Xent.

    Returns:
        `torch.Tensor` of shape `()`: the mean over all positive pairs of all kinds; 0 if there is none.
    """
    stacked = torch.stack([nn.functional.normalize(at_least_float32(value), dim=-1) for value in embeds.values()])
    both = torch.stack([present[name].unsqueeze(1) & present[name].unsqueeze(0) for name in embeds])
    similarity = stacked @ stacked.mT  # (kinds, batch, batch)
    return nt_xent(similarity, positives & both, negatives & both, temperature)


def encoded_partner_loss(embeds, present, partner_mask, num_positives, anchors, supervised, temperature):
    """
    The paper's contrastive loss over clips and partners that were encoded for them: one NT-Xent over each clip's own
    vectors, of all kinds.

    Positive pairs: the anchor modality and each other one, of the clip and of each of its partners (`anchors`); and,
    for each kind, the clip and its positive partners (`supervised`). Negative pairs: for each kind, the clip and its
    negative partners.

    Args:
        embeds (`dict[str, torch.Tensor]`): for each kind the vectors of shape `((1 + partners) * clips, hidden)`: of
            the clips, then of the first partner of each, and so on; positive partners first.
        present (`dict[str, torch.BoolTensor]`): for each kind where there is a vector, of the same length.
        partner_mask (`torch.BoolTensor` of shape `(clips, partners)`): which partners there are.
        num_positives (`int`): number of positive partners.
        anchors (`tuple[str]`): the modalities that the others are aligned to; empty for no semantic alignment.
        supervised (`bool`): whether clips of one class are positive pairs.
        temperature (`float`): of NT-Xent.

    Returns:
        `torch.Tensor` of shape `()`: the mean over all positive pairs of all clips; 0 if there is none.
    """
    clips, partners = partner_mask.shape
    kinds, size = list(embeds), 1 + partners

    def by_clip(values):  # ((1 + partners) * clips, ...) -> (clips, 1 + partners, ...)
        return values.unflatten(0, (size, clips)).transpose(0, 1)

    vectors = torch.cat([by_clip(at_least_float32(embeds[name])) for name in kinds], dim=1)
    vectors = nn.functional.normalize(vectors, dim=-1)  # (clips, kinds * size, hidden)
    there = nn.functional.pad(partner_mask, (1, 0), value=True)
    there = torch.cat([by_clip(present[name]) & there for name in kinds], dim=1)
    positives = torch.zeros(len(kinds), size, len(kinds), size, dtype=torch.bool, device=vectors.device)
    negatives = torch.zeros_like(positives)
    for kind, name in enumerate(kinds):
        negatives[kind, 0, kind, 1 + num_positives :] = True
        positives[kind, 0, kind, 1 : 1 + num_positives] = supervised
        for other, other_name in enumerate(kinds):
            if name in anchors and other != kind and other_name != "aligned":
                positives[kind, :, other, :] |= torch.eye(size, dtype=torch.bool, device=vectors.device)
    both = there.unsqueeze(2) & there.unsqueeze(1)
    positives, negatives = (pairs.flatten(2).flatten(0, 1) & both for pairs in (positives, negatives))
    return nt_xent(vectors @ vectors.mT, positives, negatives, temperature)


class _GatherRows(torch.autograd.Function):
    """Rows of all processes; the gradient of a row is the sum of its gradients in all processes."""

    @staticmethod
    def forward(ctx, values):
        parts = [torch.empty_like(values) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, values.contiguous())
        ctx.rows = len(values)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.contiguous()
        torch.distributed.all_reduce(gradient)
        return gradient.narrow(0, torch.distributed.get_rank() * ctx.rows, ctx.rows)


def gather_clips(embeds, present, labels):
    """
    Vectors, presence and labels of the batches of all processes, in the order of the processes; unchanged in one.

    Every process then has the loss of the joined batch, and the mean of their gradients is that loss's gradient.
    Batches may differ in size: a shorter one is filled up with clips that nothing is present of.

    Args:
        embeds, present (`dict[str, torch.Tensor]`): for each kind, rows of the batch.
        labels (`torch.Tensor` of shape `(batch,)` or `(batch, labels)`): of the batch.

    Returns:
        The same three, of all processes.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return embeds, present, labels
    rows = labels.new_tensor([len(labels)], dtype=torch.long)
    longest = max(part.item() for part in _gather_equal(rows))

    def gather(values, fill=0):
        more = values.new_full((longest - len(values), *values.shape[1:]), fill)
        return _GatherRows.apply(torch.cat([values, more]))

    missing = float("nan") if labels.is_floating_point() else -100
    embeds = {name: gather(value) for name, value in embeds.items()}
    present = {name: gather(value.to(torch.uint8)).bool() for name, value in present.items()}
    return embeds, present, gather(labels, missing)


def _gather_equal(values):
    parts = [torch.empty_like(values) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, values)
    return parts
