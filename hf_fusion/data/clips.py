"""Clips: from files, folders, the Hub or the generator to a data set with text, audio, vision and label."""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from glob import has_magic
from itertools import chain, combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from datasets import Array2D, Dataset, DatasetDict, Features, List, Value

from hf_fusion.data.clip_classes import (
    AUTO,
    SEVERAL_HINT,
    check_names,
    class_names,
    has_label_sets,
    label_word,
    label_words,
    named_label,
    number_classes,
    unusable_class,
)
from hf_fusion.data.decoding import AS_FOUND, TextFormat, check_taken, is_row_file, unicode_or_error
from hf_fusion.data.feature_folder import LABEL_FILES, read_feature_folder
from hf_fusion.data.files import with_options
from hf_fusion.data.hub import load_from_hub
from hf_fusion.data.in_memory import Data, Splits, check_no_options, name_and_splits
from hf_fusion.data.label_sets import number_label_sets, set_words, unusable_set
from hf_fusion.data.labels import LabelError, is_range
from hf_fusion.data.mmsa import read_mmsa
from hf_fusion.data.mosi_utterance import read_mosi_utterance
from hf_fusion.data.split_writer import FRAMES, SplitWriter
from hf_fusion.data.splits import SPLITS, SplitChooser, check_shares, divide_training, report_rejected
from hf_fusion.data.synthetic_clips import synthetic_clips
from hf_fusion.data.tally import tally
from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.models.feature_extraction_dashfusion import STREAMS, real_numbers
from hf_fusion.models.processing_text import is_blank, is_file_name
from hf_fusion.utils.errors import DataError, listed

logger = logging.getLogger(__name__)

SYNTHETIC = "synthetic-clips"
PREPARED_FILE, REPORT_FILE = "dataset_dict.json", "prepared.json"
UNIMODAL_LABELS = ("label_text", "label_audio", "label_vision")


@dataclass
class ClipSource:
    """
    Where clips come from.

    Args:
        name: "synthetic-clips"; an MMSA pickle (.pkl); the MOSI utterances (.npz); a folder written by
            `hf-fusion prepare`; a folder of features with a labels file; or the name of a data set on the Hub
            with the columns `text`, `audio`, `vision` (frames x features) and `label`.
        modalities: which of text, audio and vision to keep; a model trained on the rest is a unimodal baseline.
        label_range: lowest and highest label; `None` accepts any number.
        classes: names of the classes that `label` holds, in the order of their numbers, or `("auto",)`, which takes the
            classes of the training rows, sorted. By default those of a prepared folder with classes; other labels are
            scores.
        several_labels: whether each clip has any number of the classes at once, also none: a list, a vector of 0 and 1,
            or text, see [`set_words`]; `classes` are then `("auto",)` by default. Known of a prepared folder.
        rejected: "error" stops at unusable rows (no label, a label outside the range or of no class, no modality at
            all), "drop" leaves them out and logs how many and why.
        split_shares, split_seed: shares of train, validation and test where no clip has a split, or all of them are of
            train; drawn by a hash of the video's name, so that a video lies in one split. Validation alone, if it is
            missing, is drawn from train.
        options: keyword arguments of the reader (or of the synthetic corpus, or of `datasets.load_dataset`).
        allow_missing_features: whether more than a tenth of the clips of a folder of features may have none.
        text_format: of the labels file of such a folder, where its content does not tell.
        data: the rows by split (`None` for rows in one piece) where they are loaded; `name` is then for messages alone.

    Example:

    ```python
    from hf_fusion.data.clips import ClipSource, load_clips

    source = ClipSource("synthetic-clips", options={"num_train": 8, "num_validation": 4, "num_test": 4})
    clip = load_clips(source)["train"].with_format("numpy")[0]
    clip["text"], clip["audio"].shape, clip["vision"].shape, clip["label"]
    ```
    """

    name: str = SYNTHETIC
    modalities: tuple[str, ...] = MODALITIES
    label_range: tuple[float, float] | None = None
    rejected: str = "error"
    split_shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    allow_missing_features: bool = False
    text_format: TextFormat = AS_FOUND
    data: Splits | None = field(default=None, repr=False)
    classes: tuple[str, ...] | None = None
    several_labels: bool = False

    def __post_init__(self):
        listed = isinstance(self.modalities, (list, tuple)) and all(name in MODALITIES for name in self.modalities)
        if not listed or not self.modalities:
            raise DataError(f"`modalities` must be some of {', '.join(MODALITIES)}, got {self.modalities!r:.100}.")
        if self.label_range is not None and not is_range(self.label_range):
            raise DataError(f"`label_range` must be the lowest and the highest label, got {self.label_range!r:.100}.")
        if self.several_labels and self.classes is None:
            self.classes = AUTO
        if self.classes is not None:
            check_names(self.classes)
            if self.label_range is not None:
                raise DataError("`label_range` is for scores, `classes` for classes: set one of them.")
        if self.rejected not in ("error", "drop"):
            raise DataError(f"`rejected` must be 'error' or 'drop', got {self.rejected!r:.100}.")
        check_shares(self.split_shares)
        if self.data is not None:
            check_no_options(self.name, self.options)
        if self.data is not None or not _has_labels_file(self.name):
            check_taken(self.text_format, self.name)


def load_clips(
    data: Data | ClipSource = SYNTHETIC,
    *,
    modalities: Sequence[str] | None = None,
    label_range: Sequence[float] | None = None,
    rejected_rows: Literal["error", "drop"] | None = None,
    split_shares: Sequence[float] | None = None,
    split_seed: int | None = None,
    options: dict[str, Any] | None = None,
    allow_missing_features: bool | None = None,
    text_format: TextFormat | None = None,
    classes: Sequence[str] | None = None,
    several_labels: bool | None = None,
) -> DatasetDict:
    """
    Reads and checks clips. They go to a temporary file as they are read, from which the data sets are mapped: a corpus
    may be larger than memory.

    Args:
        data (`str`, `Path`, `pandas.DataFrame`, `Dataset` or `DatasetDict`, defaults to `"synthetic-clips"`): an MMSA
            pickle (.pkl), the MOSI utterances (.npz), a prepared folder, a folder of features with a labels file, a
            data set on the Hub, or rows with `label` and some of `text`, `audio` and `vision` (frames x features). Or a
            [`ClipSource`], which holds all other arguments.
        modalities (`list[str]`, *optional*): which of text, audio and vision to keep; all by default.
        label_range (`tuple(float, float)`, *optional*): lowest and highest label; by default any number is accepted.
        rejected_rows (`str`, *optional*, defaults to `"error"`): `"drop"` leaves unusable rows out and logs them.
        split_shares (`tuple(float, float, float)`, *optional*, defaults to `(0.8, 0.1, 0.1)`): shares of train,
            validation and test where there is no split, drawn by the video's name.
        split_seed (`int`, *optional*, defaults to 0): seed of that division.
        options (`dict`, *optional*): of the reader, the synthetic corpus, or `datasets.load_dataset`.
        allow_missing_features (`bool`, *optional*, defaults to `False`): whether more than a tenth of the clips of a
            folder of features may have none.
        text_format ([`TextFormat`], *optional*): of the labels file of such a folder.
        classes (`list[str]`, *optional*): names of the classes in `label`, in the order of their numbers, or
            `["auto"]`, which takes the classes of the training rows: words in alphabetical order, numbers in rising
            order. By default the labels are scores, except in a prepared folder with classes.
        several_labels (`bool`, *optional*, defaults to `False`): whether each clip has any number of the classes at
            once, also none: lists of names or numbers, vectors of 0 and 1, or text with `;`, `,` or `|` between names.

    Returns:
        `DatasetDict` of the splits found, with the columns `id`, `text` (`None` where missing), `audio` and `vision`
        (float32 arrays `(frames, features)`, without frames where missing), `label` (float, a `ClassLabel` of classes,
        or a list of them for several labels), and further columns of the source (labels of single modalities, the truth
        of the synthetic corpus). Values that are not finite are replaced by 0, and their number is logged.

    Raises:
        DataError: if a file or a row is not as declared; names it.
        FileNotFoundError: if the file or folder does not exist.

    Example:

    ```python
    from hf_fusion import load_clips

    clips = load_clips("synthetic-clips", options={"num_train": 4, "num_validation": 2, "num_test": 2})
    clips["train"].with_format("numpy")[0]["audio"].shape  # (frames, features)
    ```
    """
    fields: dict[str, Any] = {
        "modalities": modalities, "label_range": label_range, "rejected": rejected_rows, "split_shares": split_shares,
        "split_seed": split_seed, "options": options, "allow_missing_features": allow_missing_features,
        "text_format": text_format, "classes": None if classes is None else tuple(classes),
        "several_labels": several_labels,
    }  # fmt: skip
    given = {name: value for name, value in fields.items() if value is not None}
    if isinstance(data, ClipSource):
        if given:
            raise TypeError(f"A ClipSource holds all arguments: set `{next(iter(given))}` there.")
        source = data
    else:
        name, splits = name_and_splits(data)
        source = ClipSource(name, data=splits, **given)
    if _is_dataset(source):
        clips = _dataset(source)
        source = _with_own_classes(source, clips)
    else:
        clips = collect_clips(clean_clips(source))
    clips = {split: _with_only(table, source, split) for split, table in clips.items()}
    clips = DatasetDict({split: table for split, table in clips.items() if len(table)})
    if not clips:
        raise DataError(f"{source.name} has no clips.")
    clips = with_classes(clips, source)
    clips = divide_training(
        clips,
        set(clips) == {"train"},
        source.name,
        source.split_shares,
        source.split_seed,
        lambda rows: [_video(row, source) for row in rows.select_columns(_names_of_video(rows))],
    )
    _warn_of_divided_videos(clips, source.name)
    for name in source.modalities:
        if not any(has_modality(table, name) for table in clips.values()):
            logger.warning("%s: no clip has %s.", source.name, name)
    return clips


def _warn_of_divided_videos(clips, name):
    """Warns if the source puts clips of one video into several splits: a model knows their speakers then."""
    videos = [set(table["video"]) - {None} for table in clips.values() if "video" in table.column_names]
    divided = sorted({video for one, other in combinations(videos, 2) for video in one & other})
    if divided:
        logger.warning(
            "%s: clips of %d videos lie in several splits (%s): results on validation and test are too good.",
            name, len(divided), listed(divided[:5]),
        )  # fmt: skip


def with_classes(clips: DatasetDict, source: ClipSource) -> DatasetDict:
    """
    Clips whose `label` is a `ClassLabel` (with `several_labels` a list of them), where `source.classes` declares
    classes; else the clips as they are.

    Raises:
        DataError: see [`number_classes`] and [`number_label_sets`].
    """
    if source.classes is None:
        return clips
    tables = [*clips.values(), *(source.data or {}).values()]
    order = next(filter(None, map(class_names, tables)), None)
    number = number_label_sets if source.several_labels else number_classes
    return number(clips, source.classes, source.name, order)


def _with_own_classes(source, clips):
    """The source with the classes of a prepared folder, if it has any and the source declares none."""
    table = next(iter(clips.values()), None)
    if table is None or class_names(table) is None:
        return source
    changes = {"classes": source.classes or tuple(class_names(table)), "label_range": None}
    return replace(source, **changes, several_labels=source.several_labels or has_label_sets(table))


def _names_of_video(rows):
    return [name for name in ("id", "video") if name in rows.column_names]


def clean_clips(source: ClipSource, rows: Iterable[dict[str, Any]] | None = None) -> Iterator[dict[str, Any]]:
    """
    Reads clips one by one, each with `split`, checked and with finite features; see [`load_clips`].

    Replaced values and rejected rows are logged when the last clip has been read.

    Args:
        source: where the clips are, and what they should be.
        rows: the clips as [`read_clips`] gives them; read from the source by default.

    Raises:
        DataError: if a file or a row is not as declared, or, at the end, if rows were unusable and
            `source.rejected` is "error".
    """
    widths: dict[str, int] = {}
    rejected: dict[str, list[str]] = {}
    counts, lost = {"audio": 0, "vision": 0, "text": 0}, {"audio": 0, "vision": 0}
    seen: set[str] = set()
    chooser = SplitChooser(source.split_seed, "Give every clip a split, or none.")
    for number, row in enumerate(read_clips(source, labelled=True) if rows is None else rows, 1):
        place = f"row {number} ({row['id']!s:.200})"
        row.update((name, None) for name in MODALITIES if name not in source.modalities)
        for name in STREAMS:
            row[name], replaced = _frames(row[name], name, widths, f"{source.name}, {place}")
            if replaced and row[name] is None:
                lost[name] += 1
            else:
                counts[name] += replaced
        if not isinstance(row["text"], str | None):
            raise DataError(f"{source.name}, {place}: field 'text' must be a text, got {row['text']!r:.50}.")
        if isinstance(problem := unicode_or_error({name: row[name] for name in ("id", "text")}, place), DataError):
            raise DataError(f"{source.name}, {problem}")
        if row["text"] is not None and is_blank(row["text"]):
            row["text"], counts["text"] = None, counts["text"] + 1
        reason = "an id that came before" if row["id"] in seen else _unusable(row, source)
        seen.add(row["id"])
        try:
            row["split"] = None if reason else _split(row, source, chooser, f"{source.name}, {place}")
        except LabelError as error:
            reason = error.reason
            place += error.detail and f": {error.detail}"
        if reason:
            rejected.setdefault(reason, []).append(place)
            continue
        row["label"] = _read_label(row["label"], source)
        yield row
    for name in STREAMS:
        _tell(source.name, counts[name], f"{name} values were not finite and became 0")
        _tell(source.name, lost[name], f"clips have no finite {name} value, which counts as missing")
    _tell(source.name, counts["text"], "texts are empty and count as missing")
    report_rejected(source.name, rejected, source.rejected)


def _tell(name, count, what):
    if count:
        logger.warning("%s: %d %s.", name, count, what)
        tally(what, count)


def _has_labels_file(name):
    return any((Path(name) / file).is_file() for file in LABEL_FILES)


def is_clip_source(name: str) -> bool:
    """Whether [`read_clips`] reads this source: any but files of rows, and folders and patterns of such files."""
    if Path(name).is_dir():
        return _has_labels_file(name) or (Path(name) / PREPARED_FILE).is_file()
    return not is_row_file(name) and not has_magic(name)


def read_clips(source: ClipSource, labelled: bool = False) -> Iterator[dict[str, Any]]:
    """
    Clips one by one as the source has them, unchecked: `id`, `split`, `text`, `audio`, `vision`, `label` ...

    Extractors write NaN or the word "nan" for a missing transcript, and nothing but zeros for a missing stream: both
    become `None`, and their number is logged at the end.

    Args:
        source: where the clips are.
        labelled: whether a data set of the Hub must have the column `label`.

    Raises:
        DataError: if a file is not as declared.
        FileNotFoundError: if the file or folder does not exist.
    """
    return _with_none_for_missing(source.name, _read(source, labelled))


def _with_none_for_missing(name, rows):
    nans, zeros = [], {stream: [] for stream in STREAMS}
    for row in rows:
        if _is_nan(row.get("text")):
            row["text"] = None
            nans.append(row["id"])
        for stream, found in zeros.items():
            if _is_zeros(row.get(stream)):
                row[stream] = None
                found.append(row["id"])
        yield row
    tally("texts are NaN or 'nan' and count as missing", len(nans))
    if nans:
        logger.warning("%s: %d texts are NaN or 'nan' and count as missing: %s.", name, len(nans), listed(nans[:5]))
    for stream, found in zeros.items():
        tally(f"clips have nothing but zeros as {stream}, which counts as missing", len(found))
        if found:
            logger.warning(
                "%s: the %s of %d clips is nothing but zeros and counts as missing: %s.",
                name, stream, len(found), listed(found[:5]),
            )  # fmt: skip


def _is_nan(text):
    return (isinstance(text, str) and text.strip().lower() == "nan") or (isinstance(text, float) and text != text)


def _is_zeros(frames):
    if frames is None:
        return False
    try:
        return np.ndim(frames) == 2 and np.size(frames) > 0 and not np.any(frames)
    except (TypeError, ValueError):  # no array of numbers
        return False


def _read(source, labelled):
    path = Path(source.name)
    if source.data is not None:
        return _loaded_rows(source, source.data, labelled)
    if _is_dataset(source):
        return _dataset_rows(_dataset(source))
    if source.name.endswith(".pkl"):
        return with_options(source.name, partial(read_mmsa, source.name), source.options)
    if source.name.endswith(".npz"):
        read = partial(read_mosi_utterance, source.name, modalities=source.modalities)
        return with_options(source.name, read, source.options)
    if path.is_dir():
        given = {"modalities": source.modalities, "allow_missing_features": source.allow_missing_features}
        read = partial(read_feature_folder, source.name, text_format=source.text_format, **given)
        return with_options(source.name, read, source.options)
    known = (
        "Known are MMSA pickles (.pkl), the MOSI utterances (.npz), folders written by `hf-fusion prepare`, and "
        f"folders with one of {', '.join(LABEL_FILES)}."
    )
    if path.is_file():
        raise DataError(f"{source.name}: unknown kind of file. {known}")
    if path.suffix or source.name.startswith((".", "/")):
        raise FileNotFoundError(f"{source.name}: no such file or folder. {known}")
    return _loaded_rows(source, load_from_hub(source.name, source.options), labelled)


def _is_dataset(source):
    """Whether it is a prepared folder or the synthetic corpus, whose rows are clean."""
    named = source.name == SYNTHETIC or (Path(source.name) / PREPARED_FILE).is_file()
    return named and source.data is None


def _dataset(source):
    """A prepared folder or the synthetic corpus."""
    if source.name == SYNTHETIC:
        return with_options(SYNTHETIC, synthetic_clips, source.options)
    splits = with_options(source.name, lambda: _from_disk(source.name), source.options)
    for split, table in splits.items():
        shapes = [table.features[name] for name in STREAMS if name in table.column_names]
        if "id" not in table.column_names or not all(isinstance(shape, Array2D) for shape in shapes):
            raise DataError(
                f"{source.name} ({split}): was not written by `hf-fusion prepare`. Needed are the columns 'id', "
                "'label', 'text' and, as Array2D, 'audio' and 'vision'."
            )
        _check_columns(source.name, table.column_names)
        if split not in SPLITS:
            raise DataError(f"{source.name}: the split {split!r} is none of {', '.join(SPLITS)}.")
    _tally_again(Path(source.name) / REPORT_FILE)
    return splits


def _tally_again(report):
    """Repeats the counts of rejected rows and filled values of a prepared folder."""
    if not report.is_file():
        return
    try:
        for what, count in json.loads(report.read_text("utf-8")).get("left_out_or_filled", {}).items():
            tally(what, count)
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{report}: damaged: {error}") from error


def _from_disk(name):
    try:
        splits = DatasetDict.load_from_disk(name)
        for table in splits.values():
            for column in table.data.table.columns:  # Arrow trusts the offsets of a file; wrong ones end the process
                for chunk in column.chunks:
                    (chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk).validate(full=True)
    except Exception as error:  # wrong bytes can make Arrow and datasets fail in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise DataError(f"{name}: a damaged folder of `hf-fusion prepare`: {reason}") from error
    return splits


def _check_columns(name, columns, labelled=True):
    if (labelled and "label" not in columns) or not set(MODALITIES).intersection(columns):
        needed = "the column 'label' and some" if labelled else "some"
        raise DataError(f"{name}: needed are {needed} of {', '.join(MODALITIES)}; there are {', '.join(columns)}.")


def _dataset_rows(splits):
    for split, table in splits.items():
        streams, names = [name for name in STREAMS if name in table.column_names], class_names(table)
        for row in table.with_format("numpy", columns=streams, output_all_columns=True):
            frames = {name: row[name] if name in row and len(row[name]) else None for name in STREAMS}
            if names:
                row["label"] = named_label(names, row["label"])
            yield {**row, "split": split, "text": row.get("text"), **frames}


def _loaded_rows(source, found, labelled):
    if list(found) == ["train"]:
        found = {None: found["train"]}  # in one piece: divided by hash
    for split, rows in found.items():
        waiting = iter(rows)
        first = next(waiting, None)
        if first is None:
            continue
        names = rows.column_names or list(first)  # a stream may not know its columns
        _check_columns(source.name, names, labelled)
        own_id = "id" in names
        class_words = class_names(rows) if source.classes else None
        for number, row in enumerate(chain([first], waiting)):
            fields = {name: row.get(name) for name in (*MODALITIES, "label")}
            fields["label"] = named_label(class_words, fields["label"])
            place = str(number) if split is None else f"{split}-{number}"
            yield {"id": str(row["id"]) if own_id else place, "split": row.get("split") or split, **fields}


def _frames(frames, name, widths, place):
    """Frames as finite float32 `(frames, features)`, `None` if no value is; and how many values were not finite."""
    if frames is None:
        return None, 0
    try:
        with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, see below
            frames = real_numbers(frames).astype(np.float32, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{place}: field '{name}' is no array of numbers: {str(error)[:200]}") from error
    if frames.size == 0:
        return None, 0
    if frames.ndim != 2:
        raise DataError(f"{place}: field '{name}' must have the shape (frames, features), got {frames.shape}.")
    if frames.shape[1] != widths.setdefault(name, frames.shape[1]):
        raise DataError(f"{place}: field '{name}' has {frames.shape[1]} features, the rows before {widths[name]}.")
    finite = np.isfinite(frames)
    if finite.all():
        return frames, 0
    if not finite.any():
        return None, int(frames.size)
    return np.where(finite, frames, np.float32(0)), int((~finite).sum())


def _split(row, source, chooser, place):
    return chooser.choose(row.get("split"), False, None, source.split_shares, _video(row, source), place)


def _video(row, source):
    """The video of a clip; all its clips go to one split."""
    if row.get("video"):
        return row["video"]
    clip_id = row["id"]
    if source.name.endswith(".npz"):  # VIDEO_NUMBER in the MOSI utterances
        return clip_id.rpartition("_")[0]
    return clip_id.split("$_$")[0]


def _unusable(row, source):
    """The reason to reject a row, or `None`."""
    if all(row[name] is None for name in source.modalities):
        return f"no {' and no '.join(source.modalities)}"
    if row["text"] is not None and is_file_name(row["text"]):
        return "a text that is the name of a file"
    return _unusable_label(row["label"], source)


def _read_label(label, source):
    """A usable label as a number, a word or a list of words."""
    if source.several_labels:
        return set_words(label)
    return float(label) if source.classes is None else label_word(label)


def _unusable_label(label, source):
    if source.several_labels:
        return unusable_set(label, source.classes)
    if source.classes is not None:
        return unusable_class(label, source.classes)
    label_range = source.label_range
    try:
        label = float("nan" if label is None else label)
    except (TypeError, ValueError, OverflowError):
        hint = " (if it is a class, set `classes` to auto, or to the names of the classes)"
        return f"a label that is no number{SEVERAL_HINT if isinstance(label, (list, tuple, np.ndarray)) else hint}"
    if not np.isfinite(label):
        return "no label"
    # as float32, which labels are stored as: 0.1 lies within 0 to 0.1
    if label_range is not None and not np.float32(label_range[0]) <= np.float32(label) <= np.float32(label_range[1]):
        return f"a label outside the range {label_range[0]:g} to {label_range[1]:g}"
    return None


def collect_clips(rows: Iterable[dict[str, Any]], folder: str | Path | None = None) -> DatasetDict:
    """
    Writes clips to disk as they come, and maps the files.

    Args:
        rows: clips as [`clean_clips`] gives them; the first one tells which columns there are beside text, audio,
            vision and label. A stream that no clip has is left out.
        folder: gets a file `SPLIT.arrow` for each split; a temporary one by default.
    """
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return DatasetDict()
    with SplitWriter(_features_of(first), folder) as writer:
        for row in chain([first], rows):
            writer.write(row["split"], row)
        return DatasetDict({split: writer.finish(split) for split in SPLITS if split in writer.filled})


def _features_of(row):
    label = Value("float32" if isinstance(row.get("label"), float | None) else "string")
    label = List(label) if isinstance(row.get("label"), list) else label
    columns = {"id": Value("string"), "text": Value("string"), "label": label}
    columns |= dict.fromkeys(STREAMS, FRAMES)
    columns |= {name: Value("float32") for name in UNIMODAL_LABELS if name in row}
    columns |= {"video": Value("string")} if "video" in row else {}
    return Features({**columns, **({"text_features": List(Value("float32"))} if "text_features" in row else {})})


def has_modality(table: Dataset, name: str) -> bool:
    """Whether any clip has this modality."""
    if name == "text" and "text" in table.column_names:
        return any(text is not None for text in table["text"])
    return name in table.column_names


def _with_only(table, source, split):
    """Removes other modalities, and rows without any modality or with a wrong label."""
    kept = [name for name in source.modalities if name in table.column_names]
    table = table.remove_columns([name for name in MODALITIES if name in table.column_names and name not in kept])
    if not kept:
        raise DataError(f"{source.name} ({split}) has none of {', '.join(source.modalities)}.")
    reasons = [_unusable_label(label, source) for label in label_words(table)]
    if len(kept) < len(MODALITIES):
        for i, row in enumerate(table.select_columns(kept).with_format("numpy")):
            if not any(value is not None and np.size(value) for value in row.values()):
                reasons[i] = f"no {' and no '.join(kept)}"
    if not any(reasons):
        return table
    rejected: dict[str, list[str]] = {}
    for i, reason in enumerate(reasons):
        if reason:
            rejected.setdefault(reason, []).append(f"row {i + 1} ({table[i]['id']})")
    report_rejected(f"{source.name} ({split})", rejected, source.rejected)
    return table.select([i for i, reason in enumerate(reasons) if not reason])
