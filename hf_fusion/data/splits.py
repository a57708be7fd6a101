"""Names of splits, splits drawn by hash, and the report of rejected rows."""

import hashlib
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from datasets import Dataset, DatasetDict

from hf_fusion.data.labels import LabelError
from hf_fusion.data.tally import tally
from hf_fusion.utils.errors import DataError, listed

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
SPLIT_ALIASES = {
    "valid": "validation", "val": "validation", "dev": "validation", "eval": "validation", "development": "validation",
    "training": "train", "testing": "test",
}  # fmt: skip
WAY_OUT = 'Give every row a split, or draw all: set `columns` to {"split": null}.'
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
        way_out: advice for sources of which only some rows name a split.
    """

    def __init__(self, seed: int, way_out: str = WAY_OUT):
        self._seed, self._way_out = seed, way_out
        self._drawn = False
        # splits that rows named
        self.named: set[str] = set()
        # places of the rows for which [`choose`] gave `None`
        self.waiting: list[str] = []

    def choose(self, own, may_wait: bool, table_split, shares, text: str, place: str) -> str | None:
        """
        Args:
            own: the row's own split; "", "nan" and "null" count as none.
            may_wait: whether a row without a split waits for those that follow.
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
        if not _is_nothing(own):
            if self._drawn:
                raise DataError(f"{place} names a split ({own!r:.50}), rows before have none. {self._way_out}")
            split = _known(own)
            self.named.add(split)
            return split
        if shares is None:
            return _known(table_split)
        if may_wait:
            self.waiting.append(place)
            return None
        if self.named:
            raise LabelError("", NO_SPLIT, "split")
        self._drawn = True
        return split_by_hash(text, shares, self._seed)


def _is_nothing(own):
    return own is None or own != own or (isinstance(own, str) and own.strip().lower() in ("", "nan", "null", "none"))


def _known(split):
    known = canonical_split(str(split))
    if known not in SPLITS:
        detail = f"{str(split)!r:.100} is none of {', '.join((*SPLITS, *SPLIT_ALIASES))}"
        raise LabelError(detail, "unknown split", "split", split)
    return known


def are_training(names: Iterable[str | None]) -> bool:
    """Whether splits of these names are nothing but training rows."""
    return {name and canonical_split(name) for name in names} == {"train"}


def divide_training(
    splits: DatasetDict,
    only_training: bool,
    name: str,
    shares: tuple[float, float, float],
    seed: int,
    keys: Callable[[Dataset], list[str]],
) -> DatasetDict:
    """
    Divides the training rows of a source that has no others by the shares; of one that lacks validation alone, draws it
    from them. The log says so, with counts.

    Args:
        splits: the splits that have rows.
        only_training: whether the source names no split but train; may have been divided already.
        name: of the source, for the log.
        shares: of train, validation and test.
        seed: of the draw.
        keys: the texts by which the rows of a split are drawn.
    """
    if only_training:
        drawn = _divided(splits, shares, seed, keys)
        if set(drawn) != {"train"}:
            logger.warning(
                "%s: the only split is train; its rows are divided into %s. `split_shares` 1 0 0 trains on all.",
                name, listed(f"{len(rows)} of {split}" for split, rows in drawn.items()),
            )  # fmt: skip
        return drawn
    train, validation, _ = shares
    if set(splits) != {"train", "test"} or not validation:
        return splits
    drawn = _divided(splits, (train / (train + validation), validation / (train + validation), 0.0), seed, keys)
    if "train" not in drawn:  # a single text or video
        return splits
    logger.warning(
        "%s: there is no validation split; %d of %d training rows are drawn for it.",
        name, len(drawn.get("validation", ())), len(splits["train"]),
    )  # fmt: skip
    tally("training rows are drawn for validation, which is missing", len(drawn.get("validation", ())))
    return drawn


def _divided(splits, shares, seed, keys):
    """The splits, with the training rows drawn anew."""
    numbers = {}
    for number, key in enumerate(keys(splits["train"])):
        numbers.setdefault(split_by_hash(key, shares, seed), []).append(number)
    drawn = {**splits, **{split: splits["train"].select(numbers.get(split, [])) for split in {"train", *numbers}}}
    return DatasetDict({split: drawn[split] for split in SPLITS if len(drawn.get(split, ()))})


def check_shares(shares) -> None:
    """Raises `DataError` unless `shares` are those of train, validation and test."""
    numbers = isinstance(shares, (list, tuple)) and all(type(share) in (int, float) for share in shares)
    # written so that NaN fails, too
    if not (numbers and len(shares) == 3 and min(shares) >= 0 and abs(sum(shares) - 1) <= 1e-6):
        raise DataError(f"`split_shares` must be three shares that sum to 1, got {shares!r:.100}.")


def report_rejected(origin: str, rejected: dict[str, list[str]], policy: str) -> None:
    """
    Reports how many rows are rejected, for which reasons, and where the first ones are.

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
        raise DataError(message + "\nMend them, or set `rejected_rows` to drop, which leaves them out.")
    logger.warning("%s\n(left out)", message)
    for reason, places in rejected.items():
        tally(f"rows left out: {reason}", len(places))
