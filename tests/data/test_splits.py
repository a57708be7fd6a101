import hashlib

import pytest

from hf_fusion.data.splits import (
    SPLIT_ALIASES,
    SPLITS,
    canonical_split,
    check_shares,
    report_rejected,
    split_by_hash,
    split_in_name,
)  # fmt: skip
from hf_fusion.utils.errors import DataError

THREE = (0.6, 0.3, 0.1)


class TestSplitByHash:
    def test_shares_are_met(self):
        drawn = [split_by_hash(f"video {n}", THREE, 0) for n in range(2000)]
        for split, share in zip(SPLITS, THREE, strict=True):
            assert drawn.count(split) / 2000 == pytest.approx(share, abs=0.03)

    def test_is_the_same_on_every_machine(self):
        drawn = [split_by_hash(name, THREE, 0) for name in ("a", "b", "24", "é", "\ud800")]
        assert drawn == ["train", "validation", "test", "train", "validation"]

    def test_case_and_white_space_do_not_count(self):
        for n in range(50):
            assert split_by_hash(f"  The\tROOM {n}\n", THREE, 0) == split_by_hash(f"the room {n}", THREE, 0)

    def test_seeds_and_texts_are_independent(self):
        def draw(seed):
            return [split_by_hash(str(n), (0.5, 0.5, 0.0), seed) for n in range(1000)]

        same = sum(one == other for one, other in zip(draw(1), draw(2), strict=True))
        assert same == pytest.approx(500, abs=60)
        texts = [str(n) for n in range(50)]
        one, other = ([split_by_hash(a + text, THREE, b) for text in texts] for a, b in (("1", 1), ("", 11)))
        assert one != other, "seed and text are kept apart"

    @pytest.mark.parametrize("shares", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0, 0.5)], ids=str)
    def test_nothing_goes_where_the_share_is_nothing(self, shares):
        drawn = {split_by_hash(str(n), shares, 0) for n in range(100)}
        assert drawn == {split for split, share in zip(SPLITS, shares, strict=True) if share}

    @pytest.mark.parametrize(
        ("byte", "shares", "split"),
        [
            (b"\xff", (0.7, 0.3, 0.0), "validation"),
            (b"\xff", (0.7, 0.2, 0.1), "test"),
            (b"\0", (0.0, 0.5, 0.5), "validation"),
            (b"\0", (0.1, 0.5, 0.4), "train"),
        ],
        ids=["highest, no test", "highest", "lowest, no train", "lowest"],
    )
    def test_the_ends_of_the_hashes(self, monkeypatch, byte, shares, split):
        class Constant:
            def __init__(self, content):
                pass

            def digest(self):
                return byte * 32

        monkeypatch.setattr(hashlib, "sha256", Constant)
        assert split_by_hash("x", shares, 0) == split


@pytest.mark.parametrize("shares", [(1, 0, 0), (0.8, 0.1, 0.1), [0.7, 0.2, 0.1], (1 / 3, 1 / 3, 1 / 3)], ids=str)
def test_shares_that_fit(shares):
    check_shares(shares)


@pytest.mark.parametrize("shares", [(), (1,), (0.5, 0.5), (0.25,) * 4, (0.8, 0.1, 0.2), (1.1, -0.1, 0)], ids=str)
def test_shares_that_do_not(shares):
    with pytest.raises(DataError, match=r"`split_shares` must be three shares that sum to 1, got \("):
        check_shares(shares)


def test_aliases_lead_to_splits():
    assert {"valid", "val", "dev", "eval"} < set(SPLIT_ALIASES) and set(SPLIT_ALIASES.values()) <= set(SPLITS)


def test_names_in_any_case():
    assert [*map(canonical_split, ("Train", " DEV", "eval", "Holdout"))] == [
        "train",
        "validation",
        "validation",
        "Holdout",
    ]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.csv", "train"), ("a/Test-00000-of-00002.parquet", "test"), ("amazon_dev.jsonl.gz", "validation"),
        ("reviews.csv", None), ("train/reviews.csv", "train"), ("latest.csv", None), ("trainer.csv", None),
        ("val/en/a.csv", "validation"), ("test.d/test.csv", "test"), ("trains/a.csv", None),
    ],
)  # fmt: skip
def test_splits_in_names_of_files(name, split):
    assert split_in_name(name) == split


class TestReportRejected:
    REJECTED = {"no label": [f"row {n}" for n in range(1, 8)], "no text": ["row 9 (b)"]}
    TEXT = (
        "clips.pkl: 8 unusable rows\n  7 x no label: row 1; row 2; row 3; row 4; row 5 ...\n  1 x no text: row 9 (b)\n"
    )

    def test_as_an_error_it_says_how_many_why_where_and_what_to_do(self):
        with pytest.raises(DataError) as error:
            report_rejected("clips.pkl", self.REJECTED, "error")
        assert str(error.value) == (self.TEXT + "Mend them, or set `rejected_rows` to drop, which leaves them out.")

    def test_as_a_warning(self, caplog):
        report_rejected("clips.pkl", self.REJECTED, "drop")
        (record,) = caplog.records
        assert record.levelname == "WARNING" and record.getMessage() == self.TEXT + "(left out)"

    def test_one_row(self):
        with pytest.raises(DataError, match=r"^a: 1 unusable row\n  1 x no label: row 3\n"):
            report_rejected("a", {"no label": ["row 3"]}, "error")

    def test_five_places_are_shown_in_full(self):
        with pytest.raises(DataError, match=r"5 x no label: 1; 2; 3; 4; 5\n"):
            report_rejected("a", {"no label": list("12345")}, "error")

    @pytest.mark.parametrize("policy", ["error", "drop"])
    def test_nothing_rejected_is_nothing_said(self, policy, caplog):
        report_rejected("a", {}, policy)
        assert not caplog.records
