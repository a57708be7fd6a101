"""Names of the splits, drawing them by hash, and what to do with rows that cannot be used."""

import hashlib
import logging

from hf_fusion.data.files import DataError

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
SPLIT_ALIASES = {"valid": "validation", "val": "validation", "dev": "validation"}
_MAX_SHOWN = 5


def split_by_hash(text: str, shares: tuple[float, float, float], seed: int) -> str:
    """The split of a text, drawn by its hash: the same text (but for case and white space) always has the same."""
    key = f"{seed}\0{' '.join(text.lower().split())}"
    position = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    for split, share in zip(SPLITS, shares, strict=True):
        position -= share
        if position < 0:
            return split
    return next(split for split, share in reversed(list(zip(SPLITS, shares, strict=True))) if share)


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
