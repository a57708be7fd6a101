"""Names of the splits, drawing them by hash, and what to do with rows that cannot be used."""

import hashlib
import logging
import re
from pathlib import Path

from hf_fusion.data.errors import DataError
from hf_fusion.data.labels import LabelError
from hf_fusion.data.tally import tally

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
SPLIT_ALIASES = {
    "valid": "validation", "val": "validation", "dev": "validation", "eval": "validation", "development": "validation",
    "training": "train", "testing": "test",
}  # fmt: skip
WAY_OUT = "Give every row a split, or draw all: --columns '{\"split\": null}'."
NO_SPLIT = "no split, though other rows have one"
_MAX_SHOWN = 5


def canonical_split(name: str) -> str:
    """One of `SPLITS` for a name in any case, or the name itself if it stands for none of them."""
    key = name.strip().lower()
    key = SPLIT_ALIASES.get(key, key)
    return key if key in SPLITS else name


def split_in_name(path: str) -> str | None:
    """
    The split that the name of a file or of a folder above it tells: "validation" of `dev-00000-of-00002.parquet` and of
    `valid/reviews.csv`; `None` if none does.

    Args:
        path: with the folders that count.

    Raises:
        DataError: if it tells of several.
    """
    *folders, name = Path(path).parts
    words = re.split(r"[^A-Za-z]+", " ".join([*folders, name.split(".")[0]]))
    found = {split for word in words if (split := canonical_split(word)) in SPLITS}
    if len(found) > 1:
        raise DataError(f"{path}: the name stands for the splits {' and '.join(sorted(found))}.")
    return found.pop() if found else None


def split_by_hash(text: str, shares: tuple[float, float, float], seed: int) -> str:
    """The split of a text, drawn by its hash: the same text (but for case and white space) always has the same."""
    key = f"{seed}\0{' '.join(text.lower().split())}"
    position = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    for split, share in zip(SPLITS, shares, strict=True):
        position -= share
        if position < 0:
            return split
    return next(split for split, share in reversed(list(zip(SPLITS, shares, strict=True))) if share)


class SplitChooser:
    """
    Chooses the split of one row after the other: the row's own, else that of its table, else drawn by its text. A
    source of which some rows name a split and others do not is never drawn.

    Args:
        seed: of the draw.
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._drawn = False
        # splits that rows named
        self.named: set[str] = set()
        # places of the rows for which [`choose`] gave `None`
        self.waiting: list[str] = []

    def choose(self, own, has_column: bool, table_split, shares, text: str, place: str) -> str | None:
        """
        Args:
            own: what the row says; "", "nan" and "null" are nothing.
            has_column: whether the row could say something.
            table_split: the split of its table.
            shares: of the splits into which its table is divided; `None` if it is not.
            text: by which the row is drawn.
            place: of the row, for messages.

        Returns:
            the split; `None` if it depends on the rows that follow: drawn if none of them names one, else an error.

        Raises:
            LabelError: if the split is unknown, or the row has none and others have.
            DataError: if rows before had no split and were drawn.
        """
        if has_column and not _is_nothing(own):
            if self._drawn:
                raise DataError(f"{place} names a split ({own!r:.50}), rows before have none. {WAY_OUT}")
            split = _known(own)
            self.named.add(split)
            return split
        if shares is None:
            return _known(table_split)
        if has_column:
            self.waiting.append(place)
            return None
        if self.named:
            raise LabelError(NO_SPLIT)
        self._drawn = True
        return split_by_hash(text, shares, self._seed)


def _is_nothing(own):
    return own is None or own != own or (isinstance(own, str) and own.strip().lower() in ("", "nan", "null", "none"))


def _known(split):
    known = canonical_split(str(split))
    if known not in SPLITS:
        raise LabelError(f"unknown split|{str(split)!r:.100} is none of {', '.join((*SPLITS, *SPLIT_ALIASES))}")
    return known


def check_shares(shares) -> None:
    """Raises `DataError` unless `shares` are those of train, validation and test."""
    numbers = isinstance(shares, (list, tuple)) and all(type(share) in (int, float) for share in shares)
    # so that what is no number fails, too
    if not (numbers and len(shares) == 3 and min(shares) >= 0 and abs(sum(shares) - 1) <= 1e-6):
        raise DataError(f"`split_shares` must be three shares that sum to 1, got {shares!r:.100}.")


def report_rejected(origin: str, rejected: dict[str, list[str]], policy: str) -> None:
    """
    Says how many rows cannot be used, why, and where the first ones are.

    Args:
        origin: where the rows come from.
        rejected: for each reason the places.
        policy: "error" raises, "drop" logs a warning.

    Raises:
        DataError: with `policy="error"`, if there is any.
    """
    if not rejected:
        return
    count = sum(len(places) for places in rejected.values())
    lines = [
        f"  {len(places)} x {reason}: {'; '.join(places[:_MAX_SHOWN])}{' ...' if len(places) > _MAX_SHOWN else ''}"
        for reason, places in rejected.items()
    ]
    message = f"{origin}: {count} unusable row{'s' if count > 1 else ''}\n" + "\n".join(lines)
    if policy == "error":
        raise DataError(message + "\nMend them, or leave them out with rejected='drop' (--rejected_rows drop).")
    logger.warning("%s\n(left out)", message)
    for reason, places in rejected.items():
        tally(f"rows left out: {reason}", len(places))
