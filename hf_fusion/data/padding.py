"""Removes the padding of frames: declared lengths are used as far as the frames agree with them."""

import logging
from dataclasses import dataclass

import numpy as np

from hf_fusion.data.tally import tally
from hf_fusion.utils.errors import DataError

logger = logging.getLogger(__name__)

PADDINGS = ("start", "end", "none")
_UNKNOWN = -1
_MAX_SHOWN = 3
# Without lengths, zeros at one end are padding if most clips have them and so many times more than at the other end.
_DOMINANCE = 3


@dataclass
class PaddedClips:
    """
    The frames of one modality in all clips of a file.

    Args:
        place: begins every message, such as "features.pkl, field 'audio'".
        names: how messages name each clip.
        frames: for each clip an array (frames, features), with its padding.
        lengths: for each clip the declared number of frames; `None` where the file has none.
    """

    place: str
    names: list[str]
    frames: list[np.ndarray]
    lengths: list[int | None]

    def __post_init__(self):
        self.sizes = np.array([len(frames) for frames in self.frames], dtype=np.int64)
        bounds = [_bounds(frames) for frames in self.frames]
        self.first, self.last, self.first_finite, self.last_finite = (
            np.array([bound[end] for bound in bounds], dtype=np.int64) for end in range(4)
        )
        self.declared = np.array(
            [_UNKNOWN if length is None else min(length, 2**62) for length in self.lengths], dtype=np.int64
        )

    @property
    def filled(self) -> np.ndarray:
        """Which clips have a frame that is not all zeros."""
        return self.last > 0


def unpad(clips: PaddedClips, padding: str | None = None, use_lengths: bool = True) -> list[np.ndarray]:
    """
    The frames of each clip without its padding; no frames for a clip of zeros alone.

    Where padding lies is found from all clips together. With lengths it is the end at which no clip has values outside
    its length. Lengths that end at the first frame of zeros (MMSA made those of MOSEI in this way) say nothing: these
    clips are read as those without lengths, whose zeros are padding at the end where most clips have them. There values
    that are not finite count as zeros, except in a clip that has no others. Frames of zeros between others are frames.

    Args:
        clips: the padded clips.
        padding: "start", "end" or "none" where it is known; lengths are then believed.
        use_lengths: whether to look at the declared lengths.

    Returns:
        `list[np.ndarray]`, views of the arrays given.

    Raises:
        DataError: if lengths and frames contradict each other, or both ends of clips have zeros and nothing tells which
            of them are padding; names clip and counts.
    """
    if not use_lengths:
        clips.declared[:] = _UNKNOWN
    elif padding is None:
        _check_lengths_beyond_the_array(clips)
    lengths = np.minimum(clips.declared, clips.sizes)
    told = clips.filled & (lengths != _UNKNOWN)
    told_padding = padding
    if padding is None and told.any():
        told_padding = _padding_of_lengths(clips, lengths, told)
        if told_padding is None:
            told[:] = False
    untold = clips.filled & ~told
    untold_padding = padding
    if padding is None and untold.any():
        untold_padding = _padding_of_zeros(clips, untold, told_padding)
    starts, stops = np.zeros_like(clips.sizes), clips.sizes.copy()
    for which, where, first, last in (
        (told, told_padding, clips.sizes - lengths, lengths),
        (untold, untold_padding, clips.first_finite, clips.last_finite),
    ):
        if where == "start":
            starts[which] = first[which]
        elif where == "end":
            stops[which] = last[which]
    stops[~clips.filled] = 0
    _report_told(clips, told & (lengths < clips.sizes), told_padding, starts, stops)
    _report_untold(clips, untold, untold_padding, starts, stops)
    return [frames[start:stop] for frames, start, stop in zip(clips.frames, starts, stops, strict=True)]


def _bounds(frames):
    """The first frame that is not all zeros, and the one after the last; values that are not finite are no zeros. Then
    the same where they are, unless there is nothing else."""
    bounds = _ends(frames.any(axis=1))
    finite = np.isfinite(frames)
    if finite.all():
        return bounds * 2
    rows = (finite & (frames != 0)).any(axis=1)
    return bounds + (_ends(rows) if rows.any() else bounds)


def _ends(there):
    """The first true place, and the one after the last."""
    places = np.flatnonzero(there)
    return (places[0], places[-1] + 1) if len(places) else (0, 0)


def _check_lengths_beyond_the_array(clips):
    """Extractors cut long clips and keep their length: such a clip fills its array."""
    beyond = clips.declared > clips.sizes
    padded = beyond & clips.filled & ((clips.first > 0) | (clips.last < clips.sizes))
    if padded.any():
        index = int(np.flatnonzero(padded)[0])
        raise DataError(
            f"{clips.place}, {clips.names[index]}: the length {clips.lengths[index]:,} is beyond the array of "
            f"{clips.sizes[index]} frames, which begins or ends with zeros ({_count(clips, padded)} like it). "
            f"{_WAY_OUT}"
        )
    if beyond.any():
        _tally(clips, "lengths beyond the array, whose frames are all read", beyond)
        logger.warning(
            "%s: the length of %s is beyond the array, which it fills: all frames are read, the extractor cut the "
            "rest.", clips.place, _count(clips, beyond),
        )  # fmt: skip


def _padding_of_lengths(clips, lengths, told):
    """The end at which clips are padded, by their lengths; `None` if these end at the first frame of zeros."""
    outside = (clips.sizes - lengths)[told]
    at_end = clips.last[told] <= lengths[told]
    at_start = clips.first[told] >= outside
    if at_end.all() and at_start.all():
        if outside.any():
            raise _undecided(clips, told & (lengths < clips.sizes))
        _check_zeros_within(clips, told, clips.first > 0, "begin")
        _check_zeros_within(clips, told, clips.last < clips.sizes, "end")
        return "none"
    if at_end.all():
        _check_zeros_within(clips, told, clips.last < lengths, "end")
        return "end"
    if at_start.all():
        _check_zeros_within(clips, told, clips.first > clips.sizes - lengths, "begin")
        return "start"
    if all(_ends_at_first_zeros(clips.frames[i], clips.declared[i]) for i in np.flatnonzero(told)):
        odd = np.zeros_like(told)
        odd[told] = ~at_end
        _tally(clips, "lengths not used, as they end at the first frame of zeros", told)
        logger.warning(
            "%s: lengths end at the first frame of zeros, but %s has frames behind it: the lengths are not used.",
            clips.place, _count(clips, odd),
        )  # fmt: skip
        return None
    raise _contradiction(clips, lengths, told, at_end, at_start)


def _ends_at_first_zeros(frames, length):
    """Whether the length was made by the rule of MMSA: up to the first frame with the sum 0, but at least 1."""
    with np.errstate(all="ignore"):
        zeros = np.flatnonzero(frames.sum(axis=1) == 0)
    return length == max(1, zeros[0] if len(zeros) else len(frames))


def _contradiction(clips, lengths, told, at_end, at_start):
    fits, where = (at_end, "end") if at_end.sum() >= at_start.sum() else (at_start, "start")
    odd = np.zeros_like(told)
    odd[told] = ~fits
    index = int(np.flatnonzero(odd)[0])
    return DataError(
        f"{clips.place}, {clips.names[index]}: the length is {lengths[index]} of {clips.sizes[index]} frames, but "
        f"frames {clips.first[index] + 1} to {clips.last[index]} have values. Lengths fit padding at the {where} in "
        f"{int(fits.sum())} of {int(told.sum())} clips; not in {_count(clips, odd)}. {_WAY_OUT}"
    )


_WAY_OUT = (
    "Mend the file, or say what holds: with the option padding (start, end or none) lengths are believed and other "
    "frames dropped, with use_lengths=false zeros tell what is padding "
    '(options {"padding": "end"} or {"use_lengths": false}).'
)


def _undecided(clips, which):
    return DataError(
        f"{clips.place}: the lengths fit padding at the start and at the end alike ({_count(clips, which)}); the two "
        "readings differ in frames of zeros. Say where padding is in the options: "
        '{"padding": "end"} (or "start", or "none").'
    )


def _check_zeros_within(clips, told, zeros, verb):
    """Frames of zeros that begin or end a clip within its length: of few clips frames, of most a wrong length."""
    zeros = zeros & told
    if zeros.sum() > max(1, told.sum() / 2):
        raise DataError(
            f"{clips.place}: the lengths of {_count(clips, zeros)}, of {int(told.sum())} in all, take in frames of "
            f"zeros that {verb} the clip: they seem to be lengths of something else, or of the padded array. {_WAY_OUT}"
        )
    if zeros.any():
        logger.warning(
            "%s: %s %ss with frames of zeros within its length; they are kept.", clips.place, _count(clips, zeros), verb
        )


def _padding_of_zeros(clips, untold, default):
    """The end at which clips without lengths are padded; `default` where zeros do not tell."""
    front, back = clips.first_finite[untold], (clips.sizes - clips.last_finite)[untold]
    if not front.any():
        return "end"
    if not back.any():
        return "start"
    # as many frames of zeros in every clip are no padding: those of [CLS] in aligned files
    padded_front, padded_back = (int((zeros > zeros.min()).sum()) for zeros in (front, back))
    if padded_back >= max(len(front) / 2, _DOMINANCE * padded_front):
        return "end"
    if padded_front >= max(len(front) / 2, _DOMINANCE * padded_back):
        return "start"
    if default in ("start", "end"):
        return default
    raise DataError(
        f"{clips.place}: no lengths that say what is padding, and frames of zeros begin {int((front > 0).sum())} and "
        f"end {int((back > 0).sum())} of {len(front)} clips. Say where padding is in the options: "
        '{"padding": "end"} (or "start", or "none").'
    )


def _report_told(clips, shorter, padding, starts, stops):
    """Logs the frames that lengths cut off, and lengths that do not count from the front."""
    dropped = shorter & ((clips.first < starts) | (clips.last > stops))
    if dropped.any():
        _tally(clips, "clips with values outside the length, which are dropped", dropped)
        logger.warning(
            "%s: %s with values outside the length: dropped, as padding=%r says.",
            clips.place, _count(clips, dropped), padding,
        )  # fmt: skip
    elif shorter.any() and padding == "start":
        logger.warning("%s: padded at the start; lengths count the last frames.", clips.place)


def _report_untold(clips, untold, padding, starts, stops):
    """Logs how frames of zeros were interpreted."""
    if untold.any() and padding != "none":
        stripped = untold & (stops - starts < clips.sizes)
        _tally(clips, "clips without lengths, whose frames of zeros at an end count as padding", stripped)
        logger.warning(
            "%s: no lengths: frames of zeros at the %s of a clip count as padding; %d of %d clips have some.",
            clips.place, padding, int(stripped.sum()), int(untold.sum()),
        )  # fmt: skip
        lost = untold & ((starts > clips.first) | (stops < clips.last))
        if lost.any():
            _tally(clips, "clips with padding that is not finite", lost)
            logger.warning("%s: that padding is not finite (NaN) in %s.", clips.place, _count(clips, lost))
    empty = ~clips.filled & (clips.declared != 0)
    if empty.any():
        _tally(clips, "clips with nothing but zeros, which counts as missing", empty)
        logger.warning("%s: nothing but zeros in %s; it counts as missing there.", clips.place, _count(clips, empty))


def _tally(clips, what, which):
    tally(f"{clips.place.rpartition(', ')[2]}: {what}", int(which.sum()))


def _count(clips, which):
    """ "3 clips (the first ones by name)"."""
    indices = np.flatnonzero(which)
    shown = ", ".join(clips.names[i] for i in indices[:_MAX_SHOWN])
    return (
        f"{len(indices)} clip{'s' if len(indices) > 1 else ''} ({shown}{', ...' if len(indices) > _MAX_SHOWN else ''})"
    )
