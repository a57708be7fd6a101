"""The published masks, bit for bit: each array comes from the published code itself."""

import hashlib
import random
from itertools import islice

import numpy as np
import pytest
import torch
from golden import GOLDEN, IDS, LENGTHS, NOTES, PADDED, padded

from hf_fusion.data.protocols import PROTOCOLS, Condition, keep_masks
from hf_fusion.data.protocols.published import (
    MPLMM_KEPT,
    cms_training_missing,
    cyin_by_probability,
    cyin_by_rate,
    gcnet_table,
    imder_batches,
    lnln_training_rates,
    mplmm_codes,
    uniform_positions,
)
from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.utils.errors import DataError


def exact(protocol, condition, mask_seed, lengths=LENGTHS, widths=PADDED):
    return keep_masks(protocol, condition, lengths, "exact", mask_seed, "test", IDS, widths)


def rates(key):
    return [float(rate) for rate in GOLDEN[key]]


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("place", range(11))
def test_tfr(case, place):
    seeds = tuple(GOLDEN["A.seeds"][case].tolist())
    masks = padded(exact("tfr", PROTOCOLS["tfr"].conditions[place], seeds))
    for name in MODALITIES:
        assert np.array_equal(masks[name], GOLDEN[f"A.{name}_keep"][case, place])


@pytest.mark.parametrize("seed", [1111, 1112])
@pytest.mark.parametrize("place", range(10))
def test_lnln(seed, place):
    masks = padded(exact("lnln", PROTOCOLS["lnln"].conditions[place], seed))
    for name in MODALITIES:
        assert np.array_equal(masks[name], GOLDEN[f"B.eval{seed}.{name}_keep"][place])


@pytest.mark.parametrize("place", range(10))
def test_equal_widths_lose_the_same_positions(place):
    """A defect of the published masks, where all modalities are padded to one length."""
    golden = {name: GOLDEN[f"B.equal_shapes.{name}_keep"] for name in MODALITIES}
    lengths = {name: kept[0].sum(axis=1).tolist() for name, kept in golden.items()}  # nothing is lost at the rate 0
    masks = exact("lnln", PROTOCOLS["lnln"].conditions[place], 1111, lengths, dict.fromkeys(MODALITIES, 12))
    for name in MODALITIES:
        kept = np.stack([np.pad(mask, (0, 12 - len(mask))) for mask in masks[name]])
        assert np.array_equal(kept, golden[name][place])
    assert all(map(np.array_equal, masks["audio"], masks["vision"]))


@pytest.mark.parametrize("key", sorted(NOTES["real_shapes"]))
def test_real_shapes(key):
    kind, rate = key[0], float(key[2:])
    widths = {"text": 50, "audio": 375, "vision": 500}
    seeds = (111, 1111, 11111) if kind == "A" else (1111, 1111, 1111)
    for (name, width), seed in zip(widths.items(), seeds, strict=True):
        kept = uniform_positions([width] * 686, width, rate, seed, name == "text")
        total, digest = NOTES["real_shapes"][key][name]
        assert kept.sum() == total
        assert hashlib.sha256(np.packbits(kept).tobytes()).hexdigest() == digest


@pytest.mark.parametrize("case", range(3))
def test_lnln_training(case):
    seed = int(GOLDEN["B.train.seeds"][case])
    first, *redraws = islice(lnln_training_rates(6, seed, PADDED["vision"]), 4)
    assert np.array_equal(first, GOLDEN["B.train.rates"][case])
    assert np.array_equal(redraws, GOLDEN["B.redraw.rates"][case])
    for drawn, key in ((first, "B.train"), (redraws[0], "B.redraw")):
        for name, own in zip(MODALITIES, drawn, strict=True):
            kept = uniform_positions(LENGTHS[name], PADDED[name], own, 1111, name == "text")
            assert np.array_equal(kept, GOLDEN[f"{key}.{name}_keep"][case])


@pytest.mark.parametrize("count", GOLDEN["C.gcnet.sizes"].tolist())
def test_gcnet(count):
    tables = [
        [gcnet_table(count, rate, np.random.RandomState(seed)) for rate in rates("C.gcnet.rates")]
        for seed in GOLDEN["C.gcnet.seeds"].tolist()
    ]
    assert np.array_equal(tables, GOLDEN[f"C.gcnet.keep_n{count}"])


def test_gcnet_draws_on_for_a_second_speaker():
    generator = np.random.RandomState(66)
    tables = [gcnet_table(35, 0.4, generator).reshape(5, 7, 3) for _ in range(2)]
    assert np.array_equal(tables, GOLDEN["C.gcnet.host_guest_len5_batch7"])


def test_gcnet_in_columns_of_its_own():
    masks = exact("gcnet", "0.5", 66)
    kept = np.array([[masks[name][i].all() for name in ("audio", "text", "vision")] for i in range(6)])
    assert np.array_equal(kept, GOLDEN["C.gcnet.keep_n6"][1, 5])


def test_gcnet_never_ends_for_some_sizes(monkeypatch):
    monkeypatch.setattr("hf_fusion.data.protocols.published._MOST_TRIES", 200)
    with pytest.raises(DataError, match=r"does not end for 33 rows at the rate 0\.5"):
        gcnet_table(33, 0.5, np.random.RandomState(0))


@pytest.mark.parametrize("batches", [22, 41])
def test_imder(batches):
    tables = [
        [imder_batches(rate, batches, seed) for rate in rates("C.imder.rates")]
        for seed in GOLDEN["C.imder.seeds"].tolist()
    ]
    assert np.array_equal(tables, GOLDEN[f"C.imder.keep_text_vision_audio_B{batches}"])


def test_imder_counts():
    counts = [
        [
            np.bincount(imder_batches(rate, int(batches), 0).sum(axis=1), minlength=4)[1:]
            for batches in GOLDEN["C.imder.batches"]
        ]
        for rate in rates("C.imder.rates")
    ]
    assert np.array_equal(counts, GOLDEN["C.imder.batches_missing_two_one_none"])


def test_imder_loses_the_same_in_a_batch():
    count = 32 * 22 - 18  # MOSI has 686 clips in its test
    lengths = {name: [2] * count for name in MODALITIES}
    masks = keep_masks("imder", "0.5", lengths, "exact", 1111, "test", [str(i) for i in range(count)])
    for column, name in enumerate(("text", "vision", "audio")):
        golden = GOLDEN["C.imder.keep_text_vision_audio_B22"][0, 5, :, column]
        assert [mask.all() for mask in masks[name]] == np.repeat(golden, 32)[:count].tolist()


def test_fixed():
    for condition, golden in zip(PROTOCOLS["fixed"].conditions[1:], GOLDEN["D.keep_text_audio_vision"], strict=True):
        masks = exact("fixed", condition, 0)
        for name, kept in zip(MODALITIES, golden, strict=True):
            assert all((mask == kept).all() for mask in masks[name])


@pytest.mark.parametrize("case", range(2))
def test_cyin(case):
    seed = int(GOLDEN["D.cyin.seeds"][case])
    for function, values, key in (
        (cyin_by_rate, "D.cyin.rates", "D.cyin.keep_rate_n32"),
        (cyin_by_probability, "D.cyin.probabilities", "D.cyin.keep_probability_n32"),
    ):
        tables = [function(32, rate, torch.Generator().manual_seed(seed)) for rate in rates(values)]
        assert np.array_equal(tables, GOLDEN[key][case])


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("place", range(5))
def test_mplmm(case, place):
    """Two epochs of training, validation and test, and the final evaluation, from one generator."""
    drop_rate, generator = float(GOLDEN["E.drop_rates"][place]), random.Random(int(GOLDEN["E.seeds"][case]))
    drawn = {"train": [], "valid": [], "test": []}
    sizes = {"train": 40, "valid": 12, "test": 20}
    for split in (*sizes, *sizes, "valid"):
        drawn[split].append(mplmm_codes(sizes[split], drop_rate, generator))
    for split, codes in drawn.items():
        assert np.array_equal(codes, GOLDEN[f"E.codes_{split}"][case, place])


def test_mplmm_codes():
    assert np.array_equal(MPLMM_KEPT, GOLDEN["E.code_keep_text_audio_vision"])
    masks = exact("mplmm", "0.7", 666)
    codes = GOLDEN["E.codes_train"][GOLDEN["E.seeds"].tolist().index(666), 3, 0, :6]
    for name, kept in zip(MODALITIES, MPLMM_KEPT[codes].T, strict=True):
        assert [mask.all() for mask in masks[name]] == kept.tolist()


@pytest.mark.parametrize("place", range(13))
def test_cms(place):
    name = NOTES["F.patterns"][place]
    cms = PROTOCOLS["cms"]
    if name.startswith("independent"):
        condition = cms.at_rates([float(name.split("_")[1])]).conditions[1]
        assert condition.name in (name, name.removesuffix(".0"))
    else:
        condition = cms.condition(name)
    for seed_place, seed in enumerate(GOLDEN["F.mask_seeds"].tolist()):
        masks = padded(exact("cms", condition, seed))
        for modality in MODALITIES:
            valid = np.arange(PADDED[modality]) < np.array(LENGTHS[modality])[:, None]
            missing = GOLDEN[f"F.{modality}_missing"][place, seed_place].astype(bool)
            assert np.array_equal(masks[modality], valid & ~missing)


def test_cms_training():
    for case, seed in enumerate(GOLDEN["F.train.seeds"].tolist()):
        for epoch_place, epoch in enumerate(GOLDEN["F.train.epochs"].tolist()):
            for i in range(6):
                lengths = [LENGTHS[name][i] for name in MODALITIES]
                rate, missing = cms_training_missing(lengths, list(PADDED.values()), seed, epoch, i)
                assert rate == GOLDEN["F.train.eta"][case, epoch_place, i]
                for name, lost in zip(MODALITIES, missing, strict=True):
                    assert np.array_equal(lost, GOLDEN[f"F.train.{name}_missing"][case, epoch_place, i])


def test_masks_of_may_2026_are_those_of_lnln():
    """That code damages audio and vision alone unless told otherwise."""
    for place, rate in enumerate(rates("F.may2026_default_AV.rates")):
        masks = padded(exact("lnln", Condition("", rate, (rate,) * 3), 1111))
        for name in ("audio", "vision"):
            assert np.array_equal(masks[name], GOLDEN[f"F.may2026_default_AV.{name}_keep"][place])


def test_missing_modalities_of_a_clip_stay_missing():
    lengths = {"text": [5, 0, 3], "audio": [4, 6, 0], "vision": [0, 2, 2]}
    for protocol in PROTOCOLS.values():
        for seed in protocol.published_mask_seeds[:1]:
            masks = keep_masks(protocol, protocol.conditions[-1], lengths, "exact", seed, "test", IDS[:3])
            assert {name: list(map(len, kept)) for name, kept in masks.items()} == lengths


def test_no_exact_mode_without_a_code():
    with pytest.raises(DataError, match="masks of imbalanced were not published"):
        exact("imbalanced", "shared", 0)


def test_rates_without_published_shares():
    for rate in (0.05, 0.15, 0.8, 1.0):
        with pytest.raises(DataError, match=r"IMDer has the rates 0\.1, 0\.2 \.\.\. 0\.7"):
            imder_batches(rate, 22, 1111)
