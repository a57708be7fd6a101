"""Mining against a naive double loop, and what the rules leave out."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_fusion.training import mining
from hf_fusion.training.mining import MiningRules, mine_partners
from hf_fusion.utils.errors import RecipeError


def naive(embeddings, classes, rules):
    """Rows of positives, hard and easy negatives, by sorting every row of the whole matrix."""
    unit = torch.nn.functional.normalize(embeddings.double(), dim=-1)
    similarity = unit @ unit.T
    rows = []
    for i in range(len(unit)):
        near = [j for j in similarity[i].argsort(descending=True).tolist() if classes[j] >= 0 and j != i]
        same = [j for j in near if classes[j] == classes[i]]
        others = [j for j in near if classes[j] != classes[i]]
        if classes[i] < 0:
            same = others = []
        hard = others[: rules.num_hard]
        easy = [j for j in others[::-1][: rules.num_easy] if j not in hard]
        rows.append((same[: rules.num_positives], hard, easy))
    return rows


def rows_of(partners):
    kinds = (partners.positives, partners.hard, partners.easy)
    return [tuple([j for j in kind[i].tolist() if j >= 0] for kind in kinds) for i in range(len(partners.positives))]


def clips(count, width=12, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator), torch.randint(-1, classes, (count,), generator=generator)


class TestExact:
    @given(count=st.integers(1, 60), classes=st.integers(0, 5), seed=st.integers(0, 99), sizes=st.tuples(
        st.integers(1, 4), st.integers(0, 4), st.integers(0, 4)))  # fmt: skip
    def test_as_the_double_loop(self, count, classes, seed, sizes):
        rules = MiningRules(*sizes)
        embeddings, labels = clips(count, classes=classes, seed=seed)
        assert rows_of(mine_partners(embeddings, labels, rules)) == naive(embeddings, labels, rules)

    @pytest.mark.parametrize("columns", [47, 150, 2**16])
    @pytest.mark.parametrize("block", [3, 64])
    def test_in_chunks_of_any_size(self, monkeypatch, columns, block):
        monkeypatch.setattr(mining, "_COLUMNS", columns)
        monkeypatch.setattr(mining, "_CHUNK_ELEMENTS", 5 * columns)
        monkeypatch.setattr(mining, "_BLOCK", block)
        embeddings, labels = clips(150)
        assert rows_of(mine_partners(embeddings, labels)) == naive(embeddings, labels, MiningRules())

    def test_partners_are_rows_and_not_ranks(self):
        embeddings, labels = clips(300)
        table = mine_partners(embeddings, labels)
        known = torch.nonzero(labels >= 0).squeeze(1)
        assert (labels[table.positives[known]] == labels[known].unsqueeze(1)).all()
        assert (labels[table.hard[known]] != labels[known].unsqueeze(1)).all()
        assert table.table().shape == (300, 6) and (table.table()[labels < 0] == -1).all()

    def test_of_some_queries(self):
        embeddings, labels = clips(300)
        queries = torch.tensor([250, 3, 77])
        found, everything = mine_partners(embeddings, labels, queries=queries), mine_partners(embeddings, labels)
        assert torch.equal(found.table(), everything.table()[queries])

    @pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [-1, -1, -1]], ids=["one", "each", "none"])
    def test_classes_without_partners(self, labels):
        partners = mine_partners(torch.randn(3, 4), torch.tensor(labels))
        assert [len(set(row.tolist()) - {-1}) for row in partners.positives] == [2 * (labels[0] == labels[1] == 0)] * 3
        assert (partners.hard >= 0).any() == (labels == [0, 1, 2])

    def test_memory_does_not_grow_with_the_square(self):
        program = (
            "import resource, torch; from hf_fusion.training.mining import mine_partners\n"
            "torch.set_num_threads(1); e, c = torch.randn(60000, 8), torch.randint(0, 5, (60000,))\n"
            "mine_partners(e[:2000], c[:2000])\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "mine_partners(e, c, queries=torch.arange(2000))\n"
            "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
        )
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert int(found.stdout) < 300, "MB; 2,000 x 60,000 similarities alone have 480"


class TestRules:
    EMBEDDINGS, LABELS = clips(200)

    def similarity(self):
        unit = torch.nn.functional.normalize(self.EMBEDDINGS, dim=-1)
        return unit @ unit.T

    def test_rank_range(self):
        plain = mine_partners(self.EMBEDDINGS, self.LABELS, MiningRules(num_hard=7))
        found = mine_partners(self.EMBEDDINGS, self.LABELS, MiningRules(rank_range=(3, 5)))
        assert torch.equal(found.hard, plain.hard[:, 3:5])

    @pytest.mark.parametrize("rule", [{"margin": 0.2}, {"relative_margin": 0.4}], ids=str)
    def test_margins(self, rule):
        rules = MiningRules(**rule)
        found, similarity = mine_partners(self.EMBEDDINGS, self.LABELS, rules), self.similarity()
        ranked = mine_partners(self.EMBEDDINGS, self.LABELS, MiningRules(num_hard=200)).hard  # all of other classes
        changed = 0
        for i in torch.nonzero(self.LABELS >= 0).squeeze(1).tolist():
            nearest = similarity[i, found.positives[i, 0]]
            limit = nearest - rule["margin"] if "margin" in rule else nearest - 0.4 * nearest.abs()
            expected = [j for j in ranked[i].tolist() if j >= 0 and similarity[i, j] <= limit][:2]
            assert len(expected) == 2, "there is always something far enough"
            assert [j for j in found.hard[i].tolist() if j >= 0] == expected
            changed += expected != ranked[i, :2].tolist()
        assert changed > 50

    def test_random_negatives(self):
        rules = MiningRules(negatives="random", seed=3)
        found = mine_partners(self.EMBEDDINGS, self.LABELS, rules)
        known = self.LABELS >= 0
        negatives = torch.cat([found.hard, found.easy], dim=1)
        assert (negatives[~known] == -1).all() and (found.hard[known] >= 0).all()
        there = negatives >= 0  # the same draw twice counts once
        assert there[known].float().mean() > 0.95
        drawn, own = self.LABELS[negatives[there]], self.LABELS.unsqueeze(1).expand_as(negatives)[there]
        assert (drawn >= 0).all() and (drawn != own).all()
        nearest = mine_partners(self.EMBEDDINGS, self.LABELS)
        assert torch.equal(found.positives, nearest.positives)
        assert len(set(negatives[known].flatten().tolist())) > 150, "all over the data"
        assert torch.equal(found.table(), mine_partners(self.EMBEDDINGS, self.LABELS, rules).table())

    def test_random_negatives_of_one_class(self):
        found = mine_partners(torch.randn(5, 3), torch.zeros(5, dtype=torch.long), MiningRules(negatives="random"))
        assert (found.hard == -1).all() and (found.positives >= 0).all()

    @pytest.mark.parametrize(
        "fields",
        [{"negatives": "all"}, {"rank_range": (5, 2)}, {"rank_range": (5, 6)}, {"rank_range": (5,)}, {"num_easy": -1}],
        ids=str,
    )
    def test_impossible_ones(self, fields):
        with pytest.raises(RecipeError, match=r"negative|rank range"):
            MiningRules(**fields)


class TestErrors:
    def test_shapes(self):
        with pytest.raises(RecipeError, match=r"got \(3, 4\) and \(2,\)"):
            mine_partners(torch.randn(3, 4), torch.zeros(2, dtype=torch.long))

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_embeddings_that_are_not_finite(self, value):
        embeddings = torch.randn(3, 4)
        embeddings[1, 2] = value
        with pytest.raises(RecipeError, match="not finite"):
            mine_partners(embeddings, torch.zeros(3, dtype=torch.long))


class TestFaiss:
    def test_agrees_where_it_is_exact(self):
        pytest.importorskip("faiss")
        embeddings, labels = clips(600)
        found = mine_partners(embeddings, labels, index="faiss")
        assert rows_of(found) == naive(embeddings, labels, MiningRules())

    def test_finds_most_in_clusters(self):
        pytest.importorskip("faiss")
        embeddings, labels = clips(12000, width=16, classes=2)
        queries = torch.nonzero(labels >= 0).squeeze(1)[:200]
        found, exact = (mine_partners(embeddings, labels, queries=queries, index=i).table() for i in ("faiss", "exact"))
        assert (found == exact).float().mean() > 0.8

    def test_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "faiss", None)
        with pytest.raises(ImportError, match=r"faiss, which is not installed: pip install 'hf-fusion\[faiss\]'"):
            mine_partners(*clips(10), index="faiss")
