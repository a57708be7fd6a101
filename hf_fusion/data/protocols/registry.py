"""The protocols of the field: their conditions, their sources, and the defects of the published forms."""

from collections.abc import Sequence

import numpy as np

from hf_fusion.data.protocols.base import Condition, Protocol
from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.utils.errors import RecipeError, listed

COMPLETE = Condition("complete")


def _at(rates: Sequence[float]) -> tuple[Condition, ...]:
    """Conditions with the same rate in all modalities."""
    return tuple(Condition(f"{rate:g}" if rate % 1 else f"{rate:.1f}", rate, (rate,) * 3) for rate in rates)


def _tenths(first: int, last: int) -> tuple[Condition, ...]:
    return _at([step / 10 for step in range(first, last + 1)])


def _patterns_at(rates):
    conditions = tuple(Condition(f"independent_{rate:g}", rate, (rate,) * 3) for rate in rates if rate)
    return (COMPLETE, *conditions)


def _own_rates(rates):
    if len(rates) != len(MODALITIES):
        raise RecipeError(f"`imbalanced` takes three rates, of text, audio and vision, got {rates}.")
    name = "_".join(f"{modality}_{rate:g}" for modality, rate in zip(MODALITIES, rates, strict=True))
    return (COMPLETE, Condition(name, rates=tuple(rates)))


def gcnet_shares(rate: float) -> tuple[float, float]:
    """
    Returns the shares of clips that lose one and two modalities where one, drawn at random, is kept for sure and each
    other one by the same probability.
    """
    kept = max(1 - 1.5 * rate, 0.0)
    return 2 * kept * (1 - kept), (1 - kept) ** 2


def imder_shares(rate: float) -> tuple[float, float]:
    """Returns the nominal shares of clips that lose one and two modalities in IMDer; linear between its rates."""
    rates = np.arange(8) / 10
    one = np.interp(rate, rates, (0, 0.1, 0.2, 0.3, 0.2, 0.1, 0, 0))
    two = np.interp(rate, rates, (0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1))
    return float(one), float(two)


def mplmm_shares(rate: float) -> tuple[float, float]:
    """Returns the shares of clips that lose one and two modalities: half of the hit clips each."""
    return rate / 2, rate / 2


def _own_rate_or_none(rates, chances):
    """Own rates for the modalities, each of which is complete in half of the clips."""
    return tuple(rate if chance < 0.5 else 0.0 for rate, chance in zip(rates, chances, strict=True))


_SUBSETS = [("text",), ("audio",), ("vision",), ("text", "audio"), ("text", "vision"), ("audio", "vision")]

TFR = Protocol(
    name="tfr",
    title="TFR-Net, EMT-DLFR, MMSA: random tokens and frames, one training for each rate",
    source="github.com/thuiar/TFR-Net, github.com/sunlicai/EMT-DLFR, github.com/thuiar/MMSA",
    unit="positions",
    conditions=_tenths(0, 10),
    summary="area",
    training="One training for each rate; the split is damaged once, the same in every epoch.",
    published_selection="lowest validation loss under the same damage",
    defects=(
        "Clip i of training, validation and test loses the same positions, because each split starts from the same "
        "seed.",
        "The masks depend on the padded length and on the number of the row.",
        "There is one realisation of the masks, for all seeds of the model.",
        "MMSA uses one seed for all modalities, which then lose the same positions where padded lengths are equal.",
        "TFR-Net's F1 has prediction and truth exchanged, so that classes are weighted by predictions.",
        "The area contains the rate 0 although captions say from 0.1, and it is not divided by the width of the rates.",
    ),
    published_mask_seeds=((111, 1111, 11111),),
    conditions_at=_at,
)
LNLN = Protocol(
    name="lnln",
    title="LNLN, TF-Mamba: random tokens and frames, one model for all rates",
    source="github.com/Haoyu-ha/LNLN, github.com/codemous/TF-Mamba",
    unit="positions",
    conditions=_tenths(0, 9),
    summary="mean",
    training="Each clip has its own rate in each modality, uniform from 0 to 1; half of the clips are complete in it.",
    published_selection="on the test set at the rate 0.5, with another checkpoint for every metric",
    defects=(
        "Checkpoints are selected on the test set at the rate 0.5.",
        "Every metric comes from its own checkpoint.",
        "One seed serves all modalities: where padded lengths are equal, they lose the same positions.",
        "There is one realisation of the masks.",
        "Rates of training are redrawn only in the loader worker that reads clip 0, so that most clips of an epoch "
        "keep the first draw.",
        "In a single process the redrawn rates are the same numbers in every epoch and for every seed.",
        "The masks depend on the padded length and on the number of the row.",
    ),
    published_mask_seeds=(1111,),
    conditions_at=_at,
    training_rates=_own_rate_or_none,
)
GCNET = Protocol(
    name="gcnet",
    title="GCNet: whole modalities by missing rate",
    source="github.com/zeroQiaoba/GCNet",
    unit="modalities",
    conditions=_tenths(0, 7),
    summary="mean",
    training="One training for each rate, with new masks for every batch.",
    published_selection="highest validation weighted F1, under masks that change in every epoch",
    defects=(
        "The seed is used nowhere, so that no published mask can be rebuilt.",
        "Masks of validation and test are drawn anew in every epoch.",
        "Padding, and a second speaker that the data does not have, count in the realised rate.",
        "The realised rate is up to 0.005 above the nominal one, and 0.667 for 0.7.",
        "For some numbers of rows the drawing never ends.",
        "For IEMOCAP the validation data is the test data.",
    ),
    published_mask_seeds=(66,),
    conditions_at=_at,
    shares=gcnet_shares,
)
IMDER = Protocol(
    name="imder",
    title="IMDer, DiCMoR: whole modalities by missing rate",
    source="github.com/mdswyz/IMDer, github.com/mdswyz/DiCMoR",
    unit="modalities",
    conditions=_tenths(0, 7),
    summary="mean_incomplete",
    training="One training for each rate, from weights that were trained on complete data.",
    published_selection="lowest validation loss, under masks that change in every epoch",
    defects=(
        "All clips of a batch lose the same modalities.",
        "Loaders are shuffled, so that masks of validation and test change in every epoch.",
        "The realised rate depends on the number of batches; with five or fewer nothing is lost.",
        "A rate of 0 takes the pattern of 0.7; complete data is measured with other weights.",
    ),
    published_mask_seeds=(1111, 1112, 1113, 1114, 1115),
    conditions_at=_at,
    shares=imder_shares,
)
FIXED = Protocol(
    name="fixed",
    title="Fixed subsets of the modalities",
    source="MMIN (in github.com/zeroQiaoba/GCNet), github.com/mdswyz/DiCMoR, github.com/RH-Lin/CyIN",
    unit="modalities",
    conditions=(COMPLETE, *(Condition("+".join(names), kept=names) for names in _SUBSETS)),
    summary="mean_incomplete",
    training="One of the subsets for each clip, drawn anew (MMIN).",
    published_selection="none in CyIN, which keeps the last epoch",
    defects=(
        "CyIN draws masks by batch.",
        "CyIN's five seeds are five evaluations of one model, whose numbers are not seeded anew.",
        "CyIN has no validation: the last epoch is kept.",
        "DiCMoR has no code for the subsets.",
    ),
    published_mask_seeds=(0,),
    default_mask_seeds=(0,),  # nothing is drawn
)
MPLMM = Protocol(
    name="mplmm",
    title="MPLMM: one of six patterns for a share of the clips",
    source="github.com/zrguo/MPLMM",
    unit="modalities",
    conditions=_at([0.0, 0.7]),
    summary="mean_incomplete",
    training="Each clip loses one or two modalities by the drop rate, drawn anew whenever it is read.",
    published_selection="lowest validation loss, under masks that change in every epoch",
    defects=(
        "The published numbers are computed on the validation data.",
        "Masks of validation and test depend on all that was drawn before, and change in every epoch.",
        "F1 has prediction and truth exchanged.",
        "The five classes of CH-SIMS are made by rounding to -1, 0 and 1, so that there are three.",
        "The rate is the share of clips with any loss, not of modalities.",
    ),
    published_mask_seeds=(666,),
    conditions_at=_at,
    shares=mplmm_shares,
)
CMS = Protocol(
    name="cms",
    title="CMS-Mamba (July 2026): seven patterns of lost tokens and frames",
    source="github.com/Indecis1ve/CMS-Mamba",
    unit="positions",
    conditions=(
        COMPLETE,
        Condition("block_30", block=0.3),
        Condition("block_50", block=0.5),
        Condition("text_missing", rates=(1.0, 0.0, 0.0)),
        Condition("av_missing", rates=(0.0, 1.0, 1.0)),
        Condition("text_heavy", rates=(0.7, 0.1, 0.1)),
        Condition("av_heavy", rates=(0.1, 0.7, 0.7)),
        Condition("mixed_burst", rates=(0.2, 0.2, 0.2), block=0.3),
    ),
    summary="mean_incomplete",
    training="One rate for each clip and epoch, uniform from 0 to 1, shared by the three modalities.",
    published_selection="lowest mean validation MAE over five rates and three mask seeds",
    defects=(
        "Validation and test share three mask seeds, so that clip i of both has the same mask.",
        "The masks depend on the padded lengths of the modalities before.",
        "The code of May 2026 damages only audio and vision unless told otherwise, and selects on the test set.",
        "There are no result files and no values by rate.",
    ),
    published_mask_seeds=(1111, 2222, 3333, 4444, 5555),
    conditions_at=_patterns_at,
    training_rates=lambda rates, chances: (rates[0],) * 3,
)
IMBALANCED = Protocol(
    name="imbalanced",
    title="Imbalanced rates: whole modalities, each with its own missing rate",
    source="after MissBench (arXiv 2603.09874), whose code is not public",
    unit="modalities",
    conditions=(
        COMPLETE,
        Condition("shared", rates=(0.3, 0.3, 0.3)),
        Condition("text_heavy", rates=(0.7, 0.1, 0.1)),
        Condition("audio_heavy", rates=(0.1, 0.7, 0.1)),
        Condition("vision_heavy", rates=(0.1, 0.1, 0.7)),
    ),
    summary="mean_incomplete",
    training="One of the conditions for each clip and epoch.",
    published_selection="not known",
    defects=("There is no public code, so that published numbers cannot be compared with.",),
    published_mask_seeds=(),
    conditions_at=_own_rates,
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for protocol in (TFR, LNLN, GCNET, IMDER, FIXED, MPLMM, CMS, IMBALANCED)
}


def find_protocol(name: str) -> Protocol:
    """Returns the protocol of this name; raises [`RecipeError`] if there is none."""
    if name not in PROTOCOLS:
        raise RecipeError(f"There is no protocol {name!r}; known are {listed(PROTOCOLS)}.")
    return PROTOCOLS[name]
