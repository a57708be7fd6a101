"""Sound masks: what they depend on, what they never do, and their rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_fusion.data.protocols import PROTOCOLS, Condition, keep_masks, measure_rates
from hf_fusion.data.protocols.registry import gcnet_shares, imder_shares
from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.utils.errors import DataError, RecipeError

BY_POSITION = [name for name, protocol in PROTOCOLS.items() if protocol.unit == "positions"]
BY_RATE = [name for name, protocol in PROTOCOLS.items() if protocol.shares]
CASES = [(name, condition.name) for name, protocol in PROTOCOLS.items() for condition in protocol.conditions]

lengths_of_clips = st.lists(st.tuples(*[st.integers(0, 30)] * 3).filter(any), min_size=1, max_size=12)
any_rate = st.floats(0, 1)


def draw(protocol, condition, clips, seed=1111, split="test", ids=None, **options):
    lengths = {name: [clip[i] for clip in clips] for i, name in enumerate(MODALITIES)}
    ids = [f"clip {i}" for i in range(len(clips))] if ids is None else ids
    return keep_masks(protocol, condition, lengths, "sound", seed, split, ids, **options)


def same(first, second):
    return all(np.array_equal(a, b) for name in MODALITIES for a, b in zip(first[name], second[name], strict=True))


@given(st.sampled_from(CASES), lengths_of_clips, st.randoms())
def test_the_order_of_clips_does_not_matter(case, clips, numbers):
    order = list(range(len(clips)))
    numbers.shuffle(order)
    plain = draw(*case, clips)
    shuffled = draw(*case, [clips[i] for i in order], ids=[f"clip {i}" for i in order])
    assert same({name: [plain[name][i] for i in order] for name in MODALITIES}, shuffled)


@given(st.sampled_from(CASES), lengths_of_clips, st.integers(1, 50))
def test_padding_does_not_matter(case, clips, more):
    widths = {name: max(map(max, clips)) + more for name in MODALITIES}
    assert same(draw(*case, clips), draw(*case, clips, padded_lengths=widths))


@given(st.sampled_from(BY_POSITION), any_rate, lengths_of_clips)
def test_masks_of_positions_do_not_depend_on_other_clips(name, rate, clips):
    condition = Condition("", rate, (rate,) * 3, block=rate / 2)
    whole, alone = draw(name, condition, clips), draw(name, condition, clips[-1:], ids=[f"clip {len(clips) - 1}"])
    assert same({name: masks[-1:] for name, masks in whole.items()}, alone)


@given(any_rate, st.integers(1, 40), st.integers(0, 40))
def test_a_longer_clip_begins_as_a_shorter_one(rate, length, more):
    """So that the limit of the processor does not matter."""
    short, long = (draw("lnln", Condition("", rate, (rate,) * 3), [(0, n, n)]) for n in (length, length + more))
    for name in ("audio", "vision"):
        assert np.array_equal(short[name][0], long[name][0][:length])


@given(st.sampled_from(BY_POSITION), any_rate, any_rate, any_rate, any_rate, lengths_of_clips)
def test_positions_are_nested_over_rates(name, rate, more_rate, block, more_block, clips):
    low, high = (min(rate, more_rate), min(block, more_block)), (max(rate, more_rate), max(block, more_block))
    mild, strong = (draw(name, Condition("", r, (r,) * 3, block=b), clips) for r, b in (low, high))
    for modality in MODALITIES:
        assert all((a >= b).all() for a, b in zip(mild[modality], strong[modality], strict=True))


@given(st.sampled_from(BY_RATE), any_rate, any_rate, lengths_of_clips)
def test_modalities_are_nested_over_rates(name, rate, more_rate, clips):
    mild, strong = (draw(name, Condition("", r, (r,) * 3), clips) for r in sorted((rate, more_rate)))
    for modality in MODALITIES:
        assert all((a >= b).all() for a, b in zip(mild[modality], strong[modality], strict=True))


@given(st.lists(any_rate, min_size=3, max_size=3), any_rate, lengths_of_clips)
def test_imbalanced_rates_are_nested_where_they_grow_alike(rates, share, clips):
    mild, strong = (draw("imbalanced", Condition("", rates=tuple(r * s for r in rates)), clips) for s in (share, 1))
    for modality in MODALITIES:
        assert all((a >= b).all() for a, b in zip(mild[modality], strong[modality], strict=True))


@given(st.sampled_from(["gcnet", "imder", "mplmm", "imbalanced"]), any_rate, lengths_of_clips)
def test_a_clip_keeps_a_modality_that_it_has(name, rate, clips):
    masks = draw(name, Condition("", rate, (rate,) * 3), clips)
    for i, clip in enumerate(clips):
        assert any(masks[modality][i].any() for modality in MODALITIES)
        assert [len(masks[modality][i]) for modality in MODALITIES] == list(clip)


@given(any_rate, st.integers(0, 40))
def test_the_ends_of_a_text_stay_as_long_as_a_word_does(rate, length):
    (kept,) = draw("tfr", Condition("", rate, (rate,) * 3), [(length, 1, 1)])["text"]
    if length > 2:
        assert kept[0] == kept[-1] == kept[1:-1].any()
    else:
        assert kept.all(), "nothing but special tokens"


CLIPS = [(40, 60, 50)] * 240


@pytest.mark.parametrize(("name", "condition"), [("lnln", "0.5"), ("gcnet", "0.5"), ("imbalanced", "shared")])
@pytest.mark.parametrize("change", [{"seed": 2222}, {"split": "validation"}, {"ids": [f"x{i}" for i in range(240)]}])
def test_masks_depend_on_seed_split_and_id(name, condition, change):
    first, second = draw(name, condition, CLIPS), draw(name, condition, CLIPS, **change)
    for modality in MODALITIES:
        distances = np.concatenate(first[modality]) != np.concatenate(second[modality])
        assert distances.mean() > 0.3, "half of two independent ones would differ, 0.42 at the rate 0.3"


def test_modalities_are_independent():
    """Unlike the published ones with one seed, also where lengths are equal."""
    masks = draw("lnln", "0.5", [(62, 60, 60)] * 200)
    flat = [np.concatenate([mask[1:-1] for mask in masks["text"]])]
    flat += [np.concatenate(masks[name]) for name in ("audio", "vision")]
    assert np.abs(np.corrcoef(flat) - np.eye(3)).max() < 0.03


def test_rates_of_positions():
    for place, rate in enumerate(np.arange(10) / 10):
        rates = measure_rates(draw("lnln", PROTOCOLS["lnln"].conditions[place], CLIPS))
        assert rates["audio"]["positions"] == pytest.approx(rate, abs=0.015)
        assert rates["text"]["positions"] == pytest.approx(rate * 38 / 40, abs=0.015)


@pytest.mark.parametrize(("name", "shares"), [("gcnet", gcnet_shares), ("imder", imder_shares)])
def test_whole_modalities_by_exact_counts(name, shares):
    for condition in PROTOCOLS[name].conditions:
        one, two = shares(condition.rate)
        assert one + 2 * two == pytest.approx(3 * min(condition.rate, 2 / 3), abs=1e-9)
        masks = draw(name, condition, CLIPS)
        lost = np.array([[not mask.any() for mask in masks[modality]] for modality in MODALITIES])
        counts = np.bincount(lost.sum(axis=0), minlength=4)
        assert counts[3] == 0
        assert abs(counts[2] - two * 240) <= 0.5 and abs(counts[1] + counts[2] - (one + two) * 240) <= 0.5
        assert np.ptp(lost.sum(axis=1)) <= 2, "each modality as often"


@pytest.mark.parametrize(("name", "condition"), [("gcnet", "0.5"), ("imbalanced", "shared"), ("lnln", "0.5")])
def test_clips_with_one_id_have_one_mask(name, condition):
    masks = draw(name, condition, CLIPS[:40], ids=list("abcd") * 10)
    assert all(np.array_equal(kept[i], kept[i + 4]) for kept in masks.values() for i in range(36))


def test_mplmm_loses_its_six_patterns_alike():
    masks = draw("mplmm", "0.7", CLIPS)
    lost = np.array([[not mask.any() for mask in masks[modality]] for modality in MODALITIES]).T
    patterns, counts = np.unique(lost[lost.any(axis=1)], axis=0, return_counts=True)
    assert len(patterns) == 6 and counts.sum() == 0.7 * 240 and np.ptp(counts) <= 1


def test_imbalanced_rates():
    rates = measure_rates(draw("imbalanced", "text_heavy", CLIPS))
    assert [rates[name]["clips"] for name in MODALITIES] == pytest.approx([0.7, 0.1, 0.1], abs=0.015)
    own = PROTOCOLS["imbalanced"].at_rates([0.5, 0.25, 0.0]).conditions[1]
    assert measure_rates(draw("imbalanced", own, CLIPS))["vision"]["clips"] == 0


def test_blocks():
    for clip in draw("cms", "block_30", CLIPS)["audio"]:
        lost = np.flatnonzero(~clip)
        assert len(lost) == 18 and np.ptp(lost) == 17, "one block of an exact size"
    starts = [np.flatnonzero(~clip)[0] for clip in draw("cms", "block_30", CLIPS)["audio"]]
    assert min(starts) == 0 and max(starts) == 42, "anywhere"
    burst = measure_rates(draw("cms", "mixed_burst", CLIPS))["vision"]["positions"]
    assert burst == pytest.approx(1 - 0.8 * 0.7, abs=0.02)


def test_fixed_subsets():
    masks = draw("fixed", "text+vision", CLIPS)
    assert all(mask.all() for name in ("text", "vision") for mask in masks[name])
    assert not any(mask.any() for mask in masks["audio"])


def test_a_complete_condition_loses_nothing():
    for protocol in PROTOCOLS.values():
        complete = [condition for condition in protocol.conditions if condition.is_complete]
        assert complete == [protocol.conditions[0]]
        for mode in ("sound", "exact") if protocol.published_mask_seeds else ("sound",):
            lengths = {"text": [5], "audio": [4]}
            masks = keep_masks(protocol, complete[0], lengths, mode, protocol.mask_seeds(mode)[0], "test", ["a"])
            assert all(masks[name][0].all() for name in lengths)


def test_conditions_that_differ_for_the_data():
    names = [condition.name for condition in PROTOCOLS["fixed"].conditions_for(["text", "audio"])]
    assert names == ["complete", "text", "audio"]
    names = [condition.name for condition in PROTOCOLS["cms"].conditions_for(["text"])]
    assert names == ["complete", "block_30", "block_50", "text_missing", "text_heavy", "av_heavy", "mixed_burst"]
    assert len(PROTOCOLS["gcnet"].conditions_for(["audio", "vision"])) == 8


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"protocol": "momke"}, RecipeError, "no protocol 'momke'; known are tfr, lnln"),
        ({"condition": "2"}, DataError, "lnln has no condition '2'; it has 0.0, 0.1"),
        ({"mode": "fair"}, DataError, "`mode` must be sound or exact, got 'fair'"),
        ({"lengths": {"smell": [1]}}, DataError, "by modality"),
        ({"lengths": {"text": [1, 2]}}, DataError, "2 clips for text, `ids` has 1"),
        ({"protocol": "fixed", "condition": "text"}, DataError, "whole modalities, but the data has only text"),
    ],
)
def test_masks_that_cannot_be_drawn(arguments, error, words):
    usual = {"protocol": "lnln", "condition": "0.1", "lengths": {"text": [3]}, "mode": "sound"}
    with pytest.raises(error, match=words):
        keep_masks(**{**usual, **arguments}, mask_seed=0, split="test", ids=["a"])


def test_rates_of_the_user():
    assert [c.name for c in PROTOCOLS["lnln"].at_rates([0, 0.25]).conditions] == ["0.0", "0.25"]
    with pytest.raises(RecipeError, match="fixed has no rates"):
        PROTOCOLS["fixed"].at_rates([0.1])
    with pytest.raises(RecipeError, match=r"from 0 to 1, got \[1.5\]"):
        PROTOCOLS["lnln"].at_rates([1.5])
    with pytest.raises(RecipeError, match="three rates, of text, audio and vision"):
        PROTOCOLS["imbalanced"].at_rates([0.5])


def test_every_protocol_tells_its_defects():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name and protocol.defects and protocol.source and protocol.training
        assert all(text.endswith(".") and text[0].isupper() for text in (*protocol.defects, protocol.training))
