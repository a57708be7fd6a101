"""Predicts files to files: rows to one file or to a folder that several processes fill, media files to one file."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hf_fusion.data.clips import is_clip_source
from hf_fusion.data.decoding import AS_FOUND, TextFormat
from hf_fusion.data.files import RowWriter, is_flat
from hf_fusion.data.parts import find_parts
from hf_fusion.deployment.predict_media import (
    MediaParts,
    MediaPrediction,
    MediaPredictor,
    find_media,
    flat_media_row,
    media_types,
    predict_media,
    run_settings,
)
from hf_fusion.deployment.prediction_input import check_output, check_text_column, read_input
from hf_fusion.deployment.prediction_shards import PredictionShards
from hf_fusion.deployment.predictions import (
    abstains,
    flat_row,
    has_label_sets,
    load_pipeline,
    predict_rows,
    prediction_types,
    set_answers,
    settle_aspects,
    settle_long_texts,
)
from hf_fusion.media.folder import is_media_name
from hf_fusion.media.sandbox import Sandbox
from hf_fusion.utils.errors import DataError, listed


@dataclass
class PredictionRequest:
    """
    The input, output and settings of a prediction.

    Args:
        checkpoint: a run folder, or a name on the Hub.
        input: files of rows or media files, folders or patterns of them, a source of clips, or "-" for standard input.
        output: a file, a folder (a name without suffix), or "-" for standard output.
        text_column: the column with the text.
        text_format: the format of text files.
        batch_size: the number of rows per forward pass.
        shard_rows: the number of rows per file in a folder.
        dataset_options: options for the reader of a source of clips.
        dtype, device, compile: see [`load_pipeline`].
        calibration, abstain_below: see [`set_answers`].
        long_texts, consistent, aspects: see [`predict_rows`].
        window, hop, asr, language: for media files; see [`FusionSentimentPipeline`].
        timeout: seconds for each media file, which another process reads then; by default this one does.
        plot: where pictures of media files are drawn, for [`predict_files`] only a setting of the run.
    """

    checkpoint: str
    input: list[str]
    output: str
    text_column: str = "text"
    text_format: TextFormat = AS_FOUND
    batch_size: int = 32
    shard_rows: int = 100_000
    dataset_options: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    device: str | None = None
    compile: bool = False
    calibration: bool = True
    abstain_below: float | None = None
    long_texts: str | None = None
    consistent: bool = True
    aspects: dict[str, list[str]] | None = None
    window: float | str | None = None
    hop: float | None = None
    asr: str | None = None
    language: str | None = None
    timeout: float | None = None
    plot: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether the output is a folder of parquet files."""
        output = self.output
        return output != "-" and (Path(output).is_dir() or output.endswith("/") or not Path(output).suffix)


@dataclass
class PredictionCounts:
    """The number of rows, of rows with an error, of truncated and of unsure ones (`None` if no answer may be). For a
    folder only the main process counts the last three."""

    rows: int = 0
    failed: int = 0
    cut: int = 0
    unsure: int | None = None


def predict_files(
    request: PredictionRequest,
    state,
    report: Callable[[str, str], None],
    on_media: Callable[[MediaPrediction, list[str], Any], None] = lambda prediction, files, config: None,
) -> PredictionCounts:
    """
    Predicts all rows, or all media files, of the input.

    Args:
        request ([`PredictionRequest`]): input, output and settings.
        state (`accelerate.PartialState`): the processes that share the work.
        report (`Callable[[str, str], None]`): called with the name of each row or file that cannot be read, and its
            error; and with notes on media files.
        on_media (`Callable`, *optional*): called with each new [`MediaPrediction`], all media files, and the
            configuration of the model.

    Raises:
        DataError: if the input cannot be read, or several processes would write to one file.
        OSError: if the file or the checkpoint does not exist.
    """
    several = state.num_processes > 1
    if several and not request.is_folder:
        raise DataError(
            f"{state.num_processes} processes cannot write one file ({request.output}); set `output` to a folder, NAME/"
        )
    check_output(request.output, request.input)
    device = request.device or (str(state.device) if several else None)
    classify = load_pipeline(request.checkpoint, request.dtype, device, request.compile)
    set_answers(classify.model.config, request.calibration, request.abstain_below)
    extractor = getattr(classify.processor, "feature_extractor", None)
    if getattr(extractor, "media_extractor", None) or any(map(is_media_name, request.input)):
        files, beside = find_media(request.input)
        if beside:
            names = listed(Path(name).name for name in beside)
            report("Left out", f"{names}: files of rows beside media files are not read.")
        if files:
            return _media_to_file(request, classify, files, report, on_media)
    _check_not_set(request, _MEDIA_OPTIONS, "media files")
    return _to_folder(request, classify, state, report) if request.is_folder else _to_file(request, classify, report)


_MEDIA_OPTIONS = ("window", "hop", "asr", "language", "timeout", "plot")
_ROW_OPTIONS = ("text_column", "text_format", "dataset_options", "shard_rows", "long_texts", "consistent", "aspects")


def _check_not_set(request, names, what):
    """Raises [`DataError`] if one of the options, which are for `what`, is not at its default."""
    for item in fields(request):
        default = item.default_factory() if item.name == "dataset_options" else item.default
        if item.name in names and getattr(request, item.name) != default:
            raise DataError(f"`{item.name}` is for {what}; there are none in the input.")


def _media_to_file(request, classify, files, report, on_media):
    _check_not_set(request, _ROW_OPTIONS, "files of rows")
    if request.is_folder:
        raise DataError(f"{request.output} is a folder; of media files `output` must be .csv, .jsonl or .parquet.")
    if request.timeout is not None and not request.timeout > 0:
        raise DataError(f"`timeout` must be above 0 seconds, got {request.timeout}.")
    config, flat, counts, parts = classify.model.config, is_flat(request.output), PredictionCounts(), None

    def keep(prediction):
        for note in prediction.notes:
            report(prediction.file, note)
        on_media(prediction, files, config)

    with (
        Sandbox(request.timeout) if request.timeout else nullcontext() as sandbox,
        RowWriter(request.output, media_types(config, flat)) as writer,
    ):
        predictor = MediaPredictor(
            classify, request.window, request.hop, request.asr, request.language, request.batch_size, sandbox,
            request.checkpoint,
        )  # fmt: skip
        if request.output != "-":
            settings = run_settings(predictor, request.checkpoint, dtype=request.dtype, plot=request.plot)
            parts = MediaParts(f"{request.output}.parts", settings)
        for prediction in predict_media(predictor, files, parts, keep):
            rows = prediction.rows(has_label_sets(config))
            writer.write([flat_media_row(row) for row in rows] if flat else rows)
            counts.rows += len(rows)
            counts.cut += sum(bool(row["truncated"]) for row in rows)
            if prediction.error:
                counts.failed += 1
                report(prediction.file, prediction.error)
    if parts:
        parts.remove()
    return counts


def _to_file(request, classify, report):
    config, flat = classify.model.config, is_flat(request.output)
    counts = PredictionCounts(unsure=0 if abstains(config) else None)
    options = {
        "long_texts": settle_long_texts(config, request.long_texts),
        "aspects": settle_aspects(config, request.aspects),
    }
    with RowWriter(request.output, prediction_types(config, flat, **options)) as writer:
        rows, total = read_input(
            request.input, request.text_column, config, request.dataset_options, request.text_format
        )
        with tqdm(total=total, unit="row", file=sys.stderr) as bar:
            for window in predict_rows(
                classify, rows, request.text_column, request.batch_size, consistent=request.consistent, **options
            ):
                writer.write([flat_row(row) for row in window] if flat else window)
                for row in window:
                    counts.rows += 1
                    counts.cut += bool(row["truncated"])
                    if counts.unsure is not None:
                        counts.unsure += bool(row["prediction"]["unsure"])
                    if row["error"]:
                        counts.failed += 1
                        report(f"row {counts.rows}", row["error"])
                bar.update(len(window))
    return counts


def _to_folder(request, classify, state, report):
    config = classify.model.config
    for name in request.input:
        if name == "-" or (config.frame_columns and is_clip_source(name)):
            raise DataError(
                f"{name} cannot be divided into shards; only files of rows can. `output` must be .jsonl or .parquet."
            )
    parts = find_parts(request.input)
    check_text_column(parts, request.text_column, config, request.text_format)
    shards = PredictionShards(
        request.output, parts, request.checkpoint, config, request.dtype, request.text_column, request.shard_rows,
        request.text_format, request.calibration, request.abstain_below, request.long_texts, request.consistent,
        request.aspects,
    )  # fmt: skip
    with shards.progress_bar() if state.is_main_process else nullcontext():
        shards.fill(
            classify,
            request.batch_size,
            state.process_index,
            state.num_processes,
            report=lambda row, error: report(f"row {row}", error),
        )
    # Only the main process, which finishes last, raises errors here: a launcher stops all processes if one fails.
    failed, cut, unsure = shards.count() if state.is_main_process else (0, 0, None)
    return PredictionCounts(len(shards.parts), failed, cut, unsure)
