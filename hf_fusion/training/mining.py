"""Who is contrasted with whom: the most and least similar clips of the same and of other classes, at any size."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from hf_fusion.training.model_arguments import RecipeError

# Similarities that are held at a time: 64 MB in float32.
_CHUNK_ELEMENTS = 16 * 2**20
_COLUMNS = 2**16
# The largest of so many neighbours stand for them while the largest of a row are looked for.
_BLOCK = 64


@dataclass(frozen=True)
class MiningRules:
    """
    Which partners a clip gets. The defaults are the paper's (DashFusion, supervised contrastive learning).

    Args:
        num_positives: the most similar clips of the same class.
        num_hard, num_easy: the most and the least similar clips of other classes.
        negatives: "nearest" chooses hard negatives by similarity, "random" draws all negatives among the other
            classes (the paper's ablation).
        rank_range: hard negatives come from these ranks of the most similar ones, the first inclusive, the second
            exclusive: (0, n) with n = `num_hard` by default; (10, 50) leaves the ten nearest out, which are often
            wrongly labelled.
        margin: a hard negative must be less similar than the clip's most similar positive by at least this.
        relative_margin: the same as a share of the positive's similarity: 0.05 wants at most 95 % of it.
        seed: of random negatives.
    """

    num_positives: int = 2
    num_hard: int = 2
    num_easy: int = 2
    negatives: str = "nearest"
    rank_range: tuple[int, int] | None = None
    margin: float | None = None
    relative_margin: float | None = None
    seed: int = 0

    def __post_init__(self):
        if self.negatives not in ("nearest", "random"):
            raise RecipeError(f"negatives must be 'nearest' or 'random', got {self.negatives!r}.")
        if self.rank_range is not None:
            first, last = self.rank_range
            if not 0 <= first < last or last - first < self.num_hard:
                raise RecipeError(
                    f"The rank range must be (first, last) with room for {self.num_hard} hard negatives, got "
                    f"{tuple(self.rank_range)}."
                )

    @property
    def ranks(self) -> tuple[int, int]:
        """First and last rank of hard negatives; with a margin more are looked at than taken."""
        if self.rank_range is not None:
            return tuple(self.rank_range)
        filtered = self.margin is not None or self.relative_margin is not None
        return 0, self.num_hard * (16 if filtered else 1)


@dataclass
class Partners:
    """
    The partners of each query: rows of the data set, -1 where there is none.

    Args:
        positives, hard, easy (`torch.LongTensor` of shape `(queries, num_positives / num_hard / num_easy)`): the best
            ones first.
    """

    positives: torch.Tensor
    hard: torch.Tensor
    easy: torch.Tensor

    def table(self) -> torch.Tensor:
        """All of them side by side: `(queries, num_positives + num_hard + num_easy)`."""
        return torch.cat([self.positives, self.hard, self.easy], dim=1)


def mine_partners(
    embeddings: torch.Tensor,
    classes: torch.Tensor,
    rules: MiningRules | None = None,
    queries: torch.Tensor | None = None,
    device: str | torch.device | None = None,
    index: str = "exact",
) -> Partners:
    """
    Partners by cosine similarity. No N x N matrix is built: memory is O(N * k) beside one chunk of similarities and the
    normalised embeddings.

    Args:
        embeddings (`torch.Tensor` of shape `(clips, width)`): of the training clips.
        classes (`torch.LongTensor` of shape `(clips,)`): the class of each clip; -1 = none: it has no partners and is
            nobody's.
        rules: how many of which kind.
        queries (`torch.LongTensor` of shape `(queries,)`, *optional*): the rows to find partners for; all by default.
        device: where to compute; the embeddings' by default.
        index: "exact", or "faiss" (extra `faiss`): approximate search in clusters, for sizes where even one pass over
            all pairs is too long.

    Returns:
        [`Partners`] of the queries, on the CPU.

    Raises:
        RecipeError: if an embedding is not finite, the shapes do not fit, or faiss is not installed.
    """
    rules = rules or MiningRules()
    if embeddings.ndim != 2 or classes.shape != embeddings.shape[:1]:
        raise RecipeError(
            f"Embeddings must be (clips, width) and classes (clips,), got {tuple(embeddings.shape)} and "
            f"{tuple(classes.shape)}."
        )
    if not torch.isfinite(embeddings.sum()) and not torch.isfinite(embeddings).all():
        raise RecipeError("Some embeddings are not finite: the training has diverged.")
    device = embeddings.device if device is None else torch.device(device)
    # Clips in the order of their classes: the same class is a slice, and needs no mask.
    order = classes.argsort(stable=True)
    order = order[classes[order] >= 0]
    vectors = embeddings[order].to(device, torch.float32)
    vectors /= torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp(min=1e-12)
    bounds = _bounds(classes[order])
    search = {"exact": _search_exactly, "faiss": _search_with_faiss}[index]
    places = torch.full_like(classes, -1).cpu()
    places[order.cpu()] = torch.arange(len(order))
    wanted = places if queries is None else places[queries.cpu()]

    count = (rules.num_positives, rules.ranks[1], rules.num_easy)
    found = [torch.full((len(wanted), n), -1) for n in count]
    similarity = [torch.full((len(wanted), n), -torch.inf) for n in count]
    for first, last in pairwise(bounds):
        rows = torch.nonzero((wanted >= first) & (wanted < last)).squeeze(1)
        for part, chosen, values in search(vectors, wanted[rows], first, last, count):
            for kind in range(3):
                n = chosen[kind].shape[1]
                found[kind][rows[part], :n] = chosen[kind].cpu()
                similarity[kind][rows[part], :n] = values[kind].cpu()
    hard = _within_rules(found[1], similarity[1], similarity[0][:, :1], rules)
    found = [found[0], hard, found[2]]
    if rules.negatives == "random":
        found[1:] = _random_negatives(wanted, bounds, rules)
    order = torch.cat([order.cpu(), torch.tensor([-1])])  # so that -1 stays -1
    return Partners(*(order[ids] for ids in found))


def _bounds(sorted_classes):
    """Where each class begins, and the end."""
    counts = torch.unique_consecutive(sorted_classes, return_counts=True)[1]
    return [0, *counts.cumsum(0).tolist()]


def _search_exactly(vectors, places, first, last, count):
    """
    The nearest of the same class and the nearest and furthest of the others, for clips of the class `first:last`.

    Yields a slice of `places`, and for each kind the places `(rows, k)` and similarities, the best first; -1 where
    there are too few.
    """
    columns = min(len(vectors), _COLUMNS)
    height = max(_CHUNK_ELEMENTS // columns, 1)
    for start in range(0, len(places), height):
        part = slice(start, start + height)
        own = places[part].to(vectors.device)
        anchors = vectors[own]
        best = [_Best(len(own), n, vectors.device) for n in count]
        for left in range(0, len(vectors), columns):
            right = min(left + columns, len(vectors))
            similarity = anchors @ vectors[left:right].T  # (rows, columns)
            inside = (max(first, left), min(last, right))
            if inside[0] < inside[1]:
                same = similarity[:, inside[0] - left : inside[1] - left]
                here = (own >= inside[0]) & (own < inside[1])
                same[here, own[here] - inside[0]] = -torch.inf  # itself
                best[0].offer(same, inside[0])
            for begin, end in ((left, min(first, right)), (max(last, left), right)):
                if begin < end:
                    others = similarity[:, begin - left : end - left]
                    best[1].offer(others, begin)
                    best[2].offer(others, begin, largest=False)
        yield part, [kind.places for kind in best], [kind.values for kind in best]


class _Best:
    """The `count` best columns of each row so far."""

    def __init__(self, rows, count, device):
        self.count = count
        self.values = torch.full((rows, 0), -torch.inf, device=device)
        self.places = torch.full((rows, 0), -1, device=device)

    def offer(self, similarity, offset, largest=True):
        """Takes more columns `(rows, columns)`, the first of which is number `offset`."""
        if not self.count:
            return
        values, places = _extremes(similarity, min(self.count, similarity.shape[1]), largest)
        values = values if largest else -values
        places = torch.where(values > -torch.inf, places + offset, -1)
        values, places = torch.cat([self.values, values], 1), torch.cat([self.places, places], 1)
        self.values, chosen = values.topk(min(self.count, values.shape[1]), dim=1)
        self.places = places.gather(1, chosen)


def _extremes(values, count, largest):
    """The `count` largest (or smallest) of each row, as `topk`, in a fraction of its time on a CPU.

    The k largest of a row lie in the k blocks with the largest maxima.
    """
    blocks = values.shape[1] // _BLOCK
    if values.device.type != "cpu" or blocks <= 4 * count:
        return values.topk(count, dim=1, largest=largest)
    whole = values[:, : blocks * _BLOCK].unflatten(1, (blocks, _BLOCK))
    peaks = whole.amax(2) if largest else whole.amin(2)  # (rows, blocks)
    chosen = peaks.topk(count, dim=1, largest=largest).indices
    members = chosen.unsqueeze(2) * _BLOCK + torch.arange(_BLOCK)  # (rows, count, block)
    rest = torch.arange(blocks * _BLOCK, values.shape[1]).expand(len(values), -1)
    candidates = torch.cat([members.flatten(1), rest], dim=1)
    found, which = values.gather(1, candidates).topk(count, dim=1, largest=largest)
    return found, candidates.gather(1, which)


def _search_with_faiss(vectors, places, first, last, count):
    """As [`_search_exactly`], approximately, with one index for each side; the least similar are the nearest to -x."""
    try:
        import faiss
    except ImportError as error:
        raise RecipeError("The index 'faiss' needs the extra `faiss`: pip install 'hf-fusion[faiss]'") from error

    vectors = vectors.cpu().numpy()
    sides = {"same": np.arange(first, last), "others": np.r_[0:first, last : len(vectors)]}
    anchors = vectors[places.numpy()]
    indexes = {name: _faiss_index(faiss, vectors[members]) for name, members in sides.items()}
    results = []
    for name, sign, n in (("same", 1, count[0] + 1), ("others", 1, count[1]), ("others", -1, count[2])):
        members = np.append(sides[name], -1)  # faiss answers -1 where it finds too few
        n = min(n, len(sides[name]))
        if not n:
            results.append((torch.full((len(places), 0), -1), torch.full((len(places), 0), -torch.inf)))
            continue
        values, ids = indexes[name].search(sign * anchors, n)
        results.append((torch.from_numpy(members[ids]), torch.from_numpy(values)))
    results[0] = _without_itself(*results[0], places, count[0])
    yield slice(None), [ids for ids, _ in results], [values for _, values in results]


def _faiss_index(faiss, vectors):
    """Inner products; in clusters where there are enough vectors to fill them."""
    clusters = int(len(vectors) ** 0.5)
    kind = f"IVF{clusters},Flat" if len(vectors) > 40 * clusters else "Flat"
    index = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    if kind != "Flat":
        faiss.extract_index_ivf(index).nprobe = max(clusters // 16, 8)
    return index


def _without_itself(ids, values, places, count):
    values = values.masked_fill((ids == places.unsqueeze(1)) | (ids < 0), -torch.inf)
    values, chosen = values.sort(dim=1, descending=True)
    ids = torch.where(values > -torch.inf, ids.gather(1, chosen), -1)
    return ids[:, :count], values[:, :count]


def _within_rules(hard, similarity, nearest_positive, rules):
    """Leaves out the first ranks and what is too similar; the best `num_hard` of the rest, -1 where there are fewer."""
    allowed = hard >= 0
    allowed[:, : rules.ranks[0]] = False
    if rules.margin is not None:
        allowed &= similarity <= nearest_positive - rules.margin
    if rules.relative_margin is not None:
        allowed &= similarity <= nearest_positive - rules.relative_margin * nearest_positive.abs()
    order = (~allowed).int().argsort(dim=1, stable=True)[:, : rules.num_hard]
    return torch.where(allowed.gather(1, order), hard.gather(1, order), -1)


def _random_negatives(places, bounds, rules):
    """Clips of other classes, drawn with the seed; each of a clip's draws on its own."""
    generator = torch.Generator().manual_seed(rules.seed)
    ends = torch.tensor([*bounds, bounds[-1]])
    of_class = torch.searchsorted(ends[:-1], places.clamp(min=0), right=True)
    first, last = ends[of_class - 1].unsqueeze(1), ends[of_class].unsqueeze(1)
    others = bounds[-1] - (last - first)
    draws = torch.rand(len(places), rules.num_hard + rules.num_easy, generator=generator)
    chosen = (draws * others).long().clamp(max=(others - 1).clamp(min=0))
    chosen = torch.where(chosen >= first, chosen + last - first, chosen)
    usable = (places >= 0).unsqueeze(1) & (others > 0)
    drawn = torch.where(usable, chosen, -1)
    return drawn[:, : rules.num_hard], drawn[:, rules.num_hard :]
