"""Masks of a training: their rates, and what they depend on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_fusion.data.protocols import PROTOCOLS, TrainingMasks
from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.utils.errors import RecipeError

LENGTHS = {"text": 42, "audio": 40, "vision": 40}
IDS = [f"clip {i}" for i in range(400)]


def lost_shares(masks, epoch=0, ids=IDS):
    """The lost share of each clip and modality, special tokens apart, `(clips, 3)`."""
    drawn = [masks.draw(epoch, clip, LENGTHS) for clip in ids]
    return np.array([[1 - kept["text"][1:-1].mean(), 1 - kept["audio"].mean(), 1 - kept["vision"].mean()]
                     for kept in drawn])  # fmt: skip


@given(st.sampled_from(sorted(PROTOCOLS)), st.integers(0, 9), st.lists(st.integers(0, 20), min_size=3, max_size=3))
def test_masks_fit_and_repeat(name, epoch, counts):
    lengths = dict(zip(MODALITIES, counts, strict=True))
    first, second = (TrainingMasks(name, seed=3).draw(epoch, "a", lengths) for _ in range(2))
    assert {modality: len(mask) for modality, mask in first.items()} == lengths
    assert all(np.array_equal(first[modality], second[modality]) for modality in MODALITIES)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_masks_change_with_epoch_seed_and_clip(name):
    plain = lost_shares(TrainingMasks(name))
    for other in (
        lost_shares(TrainingMasks(name), epoch=1),
        lost_shares(TrainingMasks(name, seed=1)),
        lost_shares(TrainingMasks(name), ids=[f"x{i}" for i in range(400)]),
    ):
        assert (plain != other).any(axis=1).mean() > 0.3
    fixed = TrainingMasks(name, redraw=False)
    assert np.array_equal(lost_shares(fixed), plain) and np.array_equal(lost_shares(fixed, epoch=7), plain)


def test_lnln_has_own_rates_in_half_of_the_clips():
    shares = lost_shares(TrainingMasks("lnln"))
    assert np.allclose((shares == 0).mean(axis=0), 0.5, atol=0.08)
    damaged = [column[column > 0] for column in shares.T]
    assert np.allclose([column.mean() for column in damaged], 0.5, atol=0.08)
    assert all(np.quantile(column, 0.9) > 0.8 and np.quantile(column, 0.1) < 0.2 for column in damaged)
    assert np.abs(np.corrcoef(shares.T) - np.eye(3)).max() < 0.15, "modalities are independent"


def test_cms_shares_one_rate():
    shares = lost_shares(TrainingMasks("cms"))
    assert np.corrcoef(shares.T).min() > 0.85 and shares.mean() == pytest.approx(0.5, abs=0.05)


def test_one_rate_of_the_user():
    shares = lost_shares(TrainingMasks("tfr", rates=[0.3]))
    assert np.allclose(shares.mean(axis=0), 0.3, atol=0.02)
    for rate in (0.4, 0.7):
        some = lost_shares(TrainingMasks("lnln", rates=[rate]))
        assert np.allclose((some == 0).mean(axis=0), 0.5, atol=0.08), "half of the clips are complete"
        assert np.allclose([column[column > 0].mean() for column in some.T], rate, atol=0.03)
    whole = lost_shares(TrainingMasks("gcnet", rates=[0.5]))
    assert set(whole.ravel()) == {0, 1} and whole.mean() == pytest.approx(0.5, abs=0.03)
    own = lost_shares(TrainingMasks("imbalanced", rates=[0.7, 0.2, 0.0]))
    assert np.allclose(own.mean(axis=0), [0.7, 0.2, 0], atol=0.07)


@pytest.mark.parametrize(("name", "patterns"), [("fixed", 7), ("gcnet", 7), ("imder", 7), ("mplmm", 7)])
def test_whole_modalities(name, patterns):
    shares = lost_shares(TrainingMasks(name))
    assert set(shares.ravel()) == {0, 1} and (shares.sum(axis=1) < 3).all()
    assert len(np.unique(shares, axis=0)) == patterns


@pytest.mark.parametrize("name", ["fixed", "cms", "imbalanced"])
def test_a_clip_of_two_modalities_keeps_one(name):
    masks = TrainingMasks(name)
    drawn = [masks.draw(0, clip, {"text": 9, "audio": 0, "vision": 8}) for clip in IDS]
    assert all(kept["text"].any() or kept["vision"].any() for kept in drawn) or name == "cms"
    if name == "fixed":
        counts = [sum(bool(kept[modality].all()) for kept in drawn) for modality in ("text", "vision")]
        assert counts == pytest.approx([len(IDS) * 2 / 3] * 2, abs=40), "three conditions, as often as each other"


def test_validation_rows(clip_dataset, clip_processor):
    """The same ones for every training, three times, each time with other masks."""
    rows = clip_dataset.add_column("id", [f"clip {i}" for i in range(len(clip_dataset))])
    first, second = (TrainingMasks("lnln", seed=seed).erase_validation(rows, clip_processor) for seed in (0, 1))
    assert first["audio"][:] == second["audio"][:] and first["id"][:] == rows["id"][:] * 3
    copies = [first.select(range(i, i + len(rows)))["audio"][:] for i in range(0, len(first), len(rows))]
    assert len(copies) == 3 and all(copies[i] != copies[j] for i, j in ((0, 1), (0, 2), (1, 2)))
    turned = TrainingMasks("lnln").erase_validation(rows.select(range(len(rows) - 1, -1, -1)), clip_processor)
    assert turned.select(range(len(rows)))["audio"][:] == copies[0][::-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"protocol": "momke"}, "no protocol 'momke'"),
        ({"protocol": "fixed", "rates": [0.1]}, "fixed has no rates"),
        ({"protocol": "lnln", "rates": [2]}, "from 0 to 1"),
        ({"protocol": "imbalanced", "rates": [0.1]}, "three rates"),
        ({"protocol": "imbalanced", "rates": []}, "from 0 to 1"),
        ({"protocol": "lnln", "rates": [0.0]}, "lose nothing"),
        ({"protocol": "cms", "rates": [0.0]}, "lose nothing"),
    ],
)
def test_masks_that_cannot_be_drawn(arguments, words):
    with pytest.raises(RecipeError, match=words):
        TrainingMasks(**arguments)
