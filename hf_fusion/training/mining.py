"""Who is contrasted with whom: the most and least similar clips of the same and of other classes, at any size."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.extras import import_extra

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
        num_hard, num_easy: the most and the least similar clips of other classes; none is both.
        negatives: "nearest" chooses hard negatives by similarity, "random" draws all negatives among the other
            classes (the paper's ablation).
        rank_range: hard negatives come from these ranks of the most similar ones that the margins allow, the first
            inclusive, the second exclusive: (0, `num_hard`) by default; (10, 50) leaves the ten nearest out, which are
            often wrongly labelled.
        margin: a hard negative must be less similar than the clip's most similar positive by at least this. A clip
            without a positive has no limit.
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
        if min(self.num_positives, self.num_hard, self.num_easy) < 0 or self.num_positives < 1:
            raise RecipeError("There must be at least one positive, and no negative number of partners.")
        if self.negatives not in ("nearest", "random"):
            raise RecipeError(f"negatives must be 'nearest' or 'random', got {self.negatives!r}.")
        if self.rank_range is not None:
            ranks = tuple(self.rank_range)
            if len(ranks) != 2 or not 0 <= ranks[0] < ranks[1] or ranks[1] - ranks[0] < self.num_hard:
                raise RecipeError(
                    f"The rank range must be (first, last) with room for {self.num_hard} hard negatives, got {ranks}."
                )

    @property
    def ranks(self) -> tuple[int, int]:
        """First and last rank of hard negatives."""
        return (0, self.num_hard) if self.rank_range is None else tuple(self.rank_range)

    def limit(self, nearest: torch.Tensor) -> torch.Tensor | None:
        """How similar a hard negative may be, `(clips, 1)`, by the similarity of the nearest positive `(clips, 1)`."""
        if self.margin is None and self.relative_margin is None:
            return None
        limits = [nearest - (self.margin or 0.0), nearest - (self.relative_margin or 0.0) * nearest.abs()]
        return torch.where(nearest > -torch.inf, torch.minimum(*limits), torch.inf)


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
    filtered = rules.margin is not None or rules.relative_margin is not None
    if index not in ("exact", "faiss") or (index == "faiss" and filtered):
        raise RecipeError(f"`index` must be 'exact', or 'faiss' (without margins), got {index!r}.")
    search = _search_exactly if index == "exact" else _search_with_faiss
    places = torch.full_like(classes, -1).cpu()
    places[order.cpu()] = torch.arange(len(order))
    wanted = places if queries is None else places[queries.cpu()]

    count = (rules.num_positives, rules.ranks[1], rules.num_easy)
    found = [torch.full((len(wanted), n), -1) for n in count]
    for first, last in pairwise(bounds):
        rows = torch.nonzero((wanted >= first) & (wanted < last)).squeeze(1)
        for part, chosen in search(vectors, wanted[rows], first, last, count, rules):
            for kind in range(3):
                found[kind][rows[part], : chosen[kind].shape[1]] = chosen[kind].cpu()
    found[1] = found[1][:, rules.ranks[0] : rules.ranks[0] + rules.num_hard]
    if rules.negatives == "random":
        found[1:] = _random_negatives(wanted, bounds, rules)
    # in a small class one clip can be among the nearest and the furthest: it counts once
    found[2] = torch.where((found[2].unsqueeze(2) == found[1].unsqueeze(1)).any(2), -1, found[2])
    order = torch.cat([order.cpu(), torch.tensor([-1])])  # so that -1 stays -1
    return Partners(*(order[ids] for ids in found))


def _bounds(sorted_classes):
    """Where each class begins, and the end."""
    counts = torch.unique_consecutive(sorted_classes, return_counts=True)[1]
    return [0, *counts.cumsum(0).tolist()]


def _search_exactly(vectors, places, first, last, count, rules):
    """
    The nearest of the same class and the nearest and furthest of the others, for clips of the class `first:last`.

    Yields a slice of `places`, and for each kind the places `(rows, k)`, the best first; -1 where there are too few.
    """
    columns = min(len(vectors), _COLUMNS)
    height = max(_CHUNK_ELEMENTS // columns, 1)
    for start in range(0, len(places), height):
        part = slice(start, start + height)
        own = places[part].to(vectors.device)
        anchors = vectors[own]
        best = [_Best(len(own), n, vectors.device) for n in count]
        for begin, end in _pieces(first, last, columns):
            same = anchors @ vectors[begin:end].T  # (rows, columns)
            here = (own >= begin) & (own < end)
            same[here, own[here] - begin] = -torch.inf  # itself
            best[0].offer(same, begin)
        limit = rules.limit(best[0].nearest())
        for begin, end in (*_pieces(0, first, columns), *_pieces(last, len(vectors), columns)):
            others = anchors @ vectors[begin:end].T
            best[2].offer(others, begin, largest=False)
            best[1].offer(others if limit is None else others.masked_fill_(others > limit, -torch.inf), begin)
        yield part, [kind.places for kind in best]


def _pieces(first, last, size):
    return [(begin, min(begin + size, last)) for begin in range(first, last, size)]


class _Best:
    """The `count` best columns of each row so far."""

    def __init__(self, rows, count, device):
        self.count = count
        self.values = torch.full((rows, 0), -torch.inf, device=device)
        self.places = torch.full((rows, 0), -1, device=device)

    def nearest(self):
        """The best value of each row, `(rows, 1)`; -inf where there is none."""
        return self.values[:, :1] if self.values.shape[1] else self.values.new_full((len(self.values), 1), -torch.inf)

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


def _search_with_faiss(vectors, places, first, last, count, rules):
    """As [`_search_exactly`], approximately, with one index for each side; the least similar are the nearest to -x."""
    faiss = import_extra("faiss", "faiss")
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
    yield slice(None), [ids for ids, _ in results]


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
