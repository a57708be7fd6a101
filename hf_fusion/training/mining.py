"""Mines contrastive partners: the most and least similar clips of the same and of other classes."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.extras import import_extra

# The most similarities in memory: 64 MB in float32.
_CHUNK_ELEMENTS = 16 * 2**20
_COLUMNS = 2**16
# The number of columns per block in the search for the largest values of a row.
_BLOCK = 64


@dataclass(frozen=True)
class MiningRules:
    """
    The selection of partners. The defaults are those of the paper (DashFusion, supervised contrastive learning).

    Args:
        num_positives (`int`): the number of most similar clips of the same class.
        num_hard, num_easy (`int`): the numbers of most and of least similar clips of other classes; no clip is both.
        negatives (`str`): `"nearest"` selects hard negatives by similarity, `"random"` draws all negatives from the
            other classes (the paper's ablation).
        rank_range (`tuple[int, int]`, *optional*): the first (inclusive) and last (exclusive) rank of hard negatives
            among the most similar ones that the margins allow; (0, `num_hard`) by default. (10, 50) skips the ten
            nearest, which are often wrongly labelled.
        margin (`float`, *optional*): the least difference in similarity between the nearest positive and a hard
            negative. Clips without a positive have no limit.
        relative_margin (`float`, *optional*): the margin relative to the positive's similarity: 0.05 allows at most
            95 % of it.
        seed (`int`): the seed of random negatives.
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
        """`tuple[int, int]`: the first and last rank of hard negatives."""
        return (0, self.num_hard) if self.rank_range is None else tuple(self.rank_range)

    def limit(self, nearest: torch.Tensor) -> torch.Tensor | None:
        """
        Returns the largest similarity of hard negatives, `(clips, 1)`, for that of the nearest positive, `(clips, 1)`.
        """
        if self.margin is None and self.relative_margin is None:
            return None
        limits = [nearest - (self.margin or 0.0), nearest - (self.relative_margin or 0.0) * nearest.abs()]
        return torch.where(nearest > -torch.inf, torch.minimum(*limits), torch.inf)


@dataclass
class Partners:
    """
    The partners of each query as row numbers of the data set; -1 for missing ones.

    Args:
        positives, hard, easy (`torch.LongTensor` of shape `(queries, num_positives / num_hard / num_easy)`): the
            partners, the best ones first.
    """

    positives: torch.Tensor
    hard: torch.Tensor
    easy: torch.Tensor

    def table(self) -> torch.Tensor:
        """Concatenates all partners: `(queries, num_positives + num_hard + num_easy)`."""
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
    Mines partners by cosine similarity. Memory is O(N * k) for N clips and k partners, plus one chunk of similarities
    and the normalised embeddings; no N x N matrix is built.

    Args:
        embeddings (`torch.Tensor` of shape `(clips, width)`): the embeddings of the training clips.
        classes (`torch.LongTensor` of shape `(clips,)`): the class of each clip. Clips with -1 (no class) have no
            partners and are none.
        rules ([`MiningRules`]): the selection of partners.
        queries (`torch.LongTensor` of shape `(queries,)`, *optional*): the rows to mine for; all by default.
        device (*optional*): the device to compute on; by default that of the embeddings.
        index (`str`): `"exact"`, or `"faiss"` (extra `faiss`): approximate search in clusters, for data where a pass
            over all pairs takes too long.

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
    # Clips are sorted by class, so that a class is a slice and needs no mask.
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
    query_places = places if queries is None else places[queries.cpu()]

    count = (rules.num_positives, rules.ranks[1], rules.num_easy)
    partners = [torch.full((len(query_places), n), -1) for n in count]
    for first, last in pairwise(bounds):
        rows = torch.nonzero((query_places >= first) & (query_places < last)).squeeze(1)
        for part, chosen in search(vectors, query_places[rows], first, last, count, rules):
            for kind in range(3):
                partners[kind][rows[part], : chosen[kind].shape[1]] = chosen[kind].cpu()
    partners[1] = partners[1][:, rules.ranks[0] : rules.ranks[0] + rules.num_hard]
    if rules.negatives == "random":
        partners[1:] = _random_negatives(query_places, bounds, rules)
    # in small data a clip can be among the nearest and the furthest: it counts as hard
    partners[2] = torch.where((partners[2].unsqueeze(2) == partners[1].unsqueeze(1)).any(2), -1, partners[2])
    order = torch.cat([order.cpu(), torch.tensor([-1])])  # so that -1 stays -1
    return Partners(*(order[ids] for ids in partners))


def _bounds(sorted_classes):
    """Returns the start of each class, and the end."""
    counts = torch.unique_consecutive(sorted_classes, return_counts=True)[1]
    return [0, *counts.cumsum(0).tolist()]


def _search_exactly(vectors, places, first, last, count, rules):
    """
    Searches the nearest clips of the same class, and the nearest and furthest of others, for the class `first:last`.

    Yields a slice of `places`, and the places `(rows, k)` of each kind, the best first; -1 if there are too few.
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
            same[here, own[here] - begin] = -torch.inf  # the clip itself
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
        """Returns the best value of each row, `(rows, 1)`; -inf if there is none."""
        return self.values[:, :1] if self.values.shape[1] else self.values.new_full((len(self.values), 1), -torch.inf)

    def offer(self, similarity, offset, largest=True):
        """Adds columns `(rows, columns)`, of which the first has the number `offset`."""
        if not self.count:
            return
        values, places = _extremes(similarity, min(self.count, similarity.shape[1]), largest)
        values = values if largest else -values
        places = torch.where(values > -torch.inf, places + offset, -1)
        values, places = torch.cat([self.values, values], 1), torch.cat([self.places, places], 1)
        self.values, chosen = values.topk(min(self.count, values.shape[1]), dim=1)
        self.places = places.gather(1, chosen)


def _extremes(values, count, largest):
    """Returns the `count` largest (or smallest) values of each row, like `topk`, but much faster on a CPU.

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
    best, which = values.gather(1, candidates).topk(count, dim=1, largest=largest)
    return best, candidates.gather(1, which)


def _search_with_faiss(vectors, places, first, last, count, rules):
    """Approximates [`_search_exactly`] with one index per side; the least similar clips are the nearest to -x."""
    faiss = import_extra("faiss", "faiss")
    vectors = vectors.cpu().numpy()
    sides = {"same": np.arange(first, last), "others": np.r_[0:first, last : len(vectors)]}
    anchors = vectors[places.numpy()]
    indexes = {name: _faiss_index(faiss, vectors[members]) for name, members in sides.items()}
    results = []
    for name, sign, n in (("same", 1, count[0] + 1), ("others", 1, count[1]), ("others", -1, count[2])):
        members = np.append(sides[name], -1)  # faiss returns -1 if it finds too few
        n = min(n, len(sides[name]))
        if not n:
            results.append((torch.full((len(places), 0), -1), torch.full((len(places), 0), -torch.inf)))
            continue
        values, ids = indexes[name].search(sign * anchors, n)
        results.append((torch.from_numpy(members[ids]), torch.from_numpy(values)))
    results[0] = _without_itself(*results[0], places, count[0])
    yield slice(None), [ids for ids, _ in results]


def _faiss_index(faiss, vectors):
    """Creates an index for inner products, with clusters if there are enough vectors."""
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
    """Draws clips of other classes with the seed; the draws of a clip are independent."""
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
