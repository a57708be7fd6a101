"""Predicts many rows with a checkpoint: each input row gives one output row."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import torch
from transformers import pipeline

import hf_fusion.models  # noqa: F401 - registers the pipeline
from hf_fusion.deployment.loading import load_checkpoint
from hf_fusion.models.configuration_common import check_probability
from hf_fusion.models.pipeline_common import KEPT, LONG_TEXTS, TRUNCATED
from hf_fusion.models.processing_text import InputError, aspect_words, is_blank, text_problem
from hf_fusion.utils.errors import DataError, listed

# Batches read ahead, so that texts of similar length can be batched together.
WINDOW_BATCHES = 16
DTYPES = ("float32", "bfloat16", "float16")
_CLASS = [("label", pa.string()), ("score", pa.float64())]
# The columns of an aspect in files without nested columns begin with these words.
_ASPECT = {**dict(_CLASS), "error": pa.string()}

# The aspects of texts: words, or words with lists of synonyms.
Aspects = Sequence[str] | Mapping[str, Sequence[str]]


def prediction_types(
    config, flat: bool = False, long_texts: str | None = None, aspects: Aspects | None = None
) -> dict[str, pa.DataType]:
    """
    Returns names and types of the columns that a prediction adds to those of the input.

    Args:
        config: the configuration of the model.
        flat: whether to return the columns of [`flat_row`].
        long_texts, aspects: see [`predict_rows`].
    """
    answer = [*_CLASS, *([("labels", pa.list_(pa.string()))] if has_label_sets(config) else [])]
    kept = [(KEPT, pa.float64())] if _says_kept(config, long_texts) else []
    ends = dict([(TRUNCATED, pa.bool_()), *kept, ("error", pa.string())])
    expected = [] if config.class_values is None else [("expected", pa.float64())]
    intensity = [("intensity", pa.float64())] if "intensity" in config.heads else []
    may_abstain = abstains(config)
    if flat:
        coarse = [("coarse", pa.string()), ("coarse_score", pa.float64())] if "coarse_logits" in config.heads else []
        doubts = [("unsure", pa.bool_()), ("alternatives", pa.string())] if may_abstain else []
        parts = [(f"{name}_{aspect}", _ASPECT[name]) for aspect in aspects or () for name in _ASPECT]
        return {**dict([*answer, *coarse, *intensity, *expected, *doubts, *parts]), **ends}
    coarse = [("coarse", pa.struct(_CLASS))] if "coarse_logits" in config.heads else []
    doubts = [("unsure", pa.bool_()), ("alternatives", pa.list_(pa.struct(_CLASS)))] if may_abstain else []
    fields = [*answer, *coarse, *intensity, *expected, *doubts]
    of_aspect = pa.struct([*fields, ("error", pa.string())])
    parts = [("aspects", pa.struct([(aspect, of_aspect) for aspect in aspects]))] if aspects else []
    return {"prediction": pa.struct([*fields, *parts]), **ends}


def flat_row(row: dict[str, Any]) -> dict[str, Any]:
    """
    Flattens a row of [`predict_rows`] for files without nested columns, such as csv: `prediction` is replaced by
    `label` and `score`, and for a DyFuLM with these heads also `coarse`, `coarse_score` and `intensity`, and where the
    classes have values, `expected`; where answers may be unsure `unsure`, and `alternatives` as text; and for each
    aspect, such as "room", `label_room`, `score_room` and `error_room`.

    Raises:
        DataError: if the input has a column with one of these names.
    """
    answer: dict[str, Any] = {}
    for name, value in row["prediction"].items():
        if name == "coarse":
            answer |= {name: value["label"], f"{name}_score": value["score"]}
        elif name == "aspects":
            parts = {aspect: part or {} for aspect, part in value.items()}
            answer |= {f"{one}_{aspect}": part.get(one) for aspect, part in parts.items() for one in _ASPECT}
        else:
            answer[name] = value
    if answer.get("alternatives"):
        answer["alternatives"] = ", ".join(f"{one['label']} ({one['score']:.2f})" for one in answer["alternatives"])
    if taken := [name for name in answer if name in row]:
        raise DataError(
            f"The input has a column {taken[0]!r}, which would be overwritten; rename it, or write .jsonl or .parquet, "
            "where the results are in the column `prediction`."
        )
    places = ((name, answer if name == "prediction" else {name: value}) for name, value in row.items())
    return {name: value for _, part in places for name, value in part.items()}


def output_schema(
    columns: pa.Schema, config, long_texts: str | None = None, aspects: Aspects | None = None
) -> pa.Schema:
    """
    Returns the output columns for rows with the given columns: without frames of clips, with the added columns.

    Args:
        columns (`pa.Schema`): the columns of the rows.
        config: the configuration of the model.
        long_texts, aspects: see [`predict_rows`].

    Raises:
        DataError: if a column has the name of an added one.
    """
    added = prediction_types(config, long_texts=long_texts, aspects=aspects)
    _check_columns(columns.names, added)
    kept = [column for column in columns if column.name not in config.frame_columns]
    return pa.schema([*kept, *added.items()])


def has_label_sets(config) -> bool:
    """Whether predictions have any number of labels at once."""
    return config.problem_type == "multi_label_classification"


def abstains(config) -> bool:
    """Whether predictions may be unsure, without a label."""
    return bool(getattr(config, "abstain_below", None))


def set_answers(config, calibration: bool = True, abstain_below: float | None = None) -> None:
    """
    Changes the answers of a loaded model, as the options of the pipeline do.

    Args:
        config: the configuration of the model, which is changed.
        calibration (`bool`, *optional*, defaults to `True`): whether its temperatures and `abstain_below` apply.
        abstain_below (`float`, *optional*): replaces that of the configuration; 0 for none.

    Raises:
        DataError: if the answers of the model have no temperatures, or the probability is none.
    """
    fields = [head.temperature for head in config.heads.values() if head.temperature]
    if not fields and not (calibration and abstain_below is None):
        raise DataError(f"`calibration` and `abstain_below` are for a DyFuLM, this model is a {config.model_type}.")
    for name, value in {**dict.fromkeys(fields, 1.0), "abstain_below": None}.items() if not calibration else ():
        setattr(config, name, value)
    if abstain_below is not None:
        try:
            check_probability("abstain_below", abstain_below)
        except ValueError as error:
            raise DataError(str(error)) from error
        config.abstain_below = abstain_below or None


def _no_answer(config):
    nothing = {"label": None, "score": None, **({"labels": None} if has_label_sets(config) else {})}
    coarse = {"coarse": dict(nothing)} if "coarse_logits" in config.heads else {}
    intensity = {"intensity": None} if "intensity" in config.heads else {}
    expected = {} if config.class_values is None else {"expected": None}
    doubts = {"unsure": None, "alternatives": None} if abstains(config) else {}
    return {**nothing, **coarse, **intensity, **expected, **doubts}


def _says_kept(config, long_texts):
    """Whether rows say which share of their text was read: of texts that are cut."""
    return long_texts == "cut" and config.reads_windows


def load_pipeline(checkpoint: str, dtype: str = "float32", device: str | None = None, compiled: bool = False):
    """
    Loads the `fusion-sentiment` pipeline of a checkpoint with this package's code.

    Args:
        checkpoint (`str`): a folder (also one with a LoRA adapter), or a name on the Hub.
        dtype (`str`, *optional*, defaults to `"float32"`): `"float32"`, `"bfloat16"` or `"float16"`.
        device (`str`, *optional*): `"cpu"`, `"cuda:0"` ...; by default the accelerator if there is one.
        compiled (`bool`, *optional*, defaults to `False`): whether to compile the model with `torch.compile` for
            dynamic lengths. The first batches take longer.

    Raises:
        DataError: if weights are missing or unexpected, a file of the checkpoint is damaged, the model is not one of
            this package, or there is no such dtype or device.
        OSError: if there is no such checkpoint, or it has no weights in `.safetensors`; pickles are not read.
    """
    if dtype not in DTYPES:
        raise DataError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    _check_device(device)
    model, processor = load_checkpoint(checkpoint)
    model = model.to(getattr(torch, dtype))
    if compiled:
        model.compile(dynamic=True)
    return pipeline("fusion-sentiment", model=model, processor=processor, device=device)


def _check_device(device):
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise DataError(f"`device` {device!r} cannot be used here: {reason}") from error


def settle_long_texts(config, long_texts: str | None) -> str:
    """
    Returns how a model reads long texts: in the way that is asked for, or by default in windows if it can.

    Args:
        config: the configuration of the model.
        long_texts (`str`, *optional*): `"window"` or `"cut"`.

    Raises:
        DataError: if there is no such way, or the model cannot read windows.
    """
    if long_texts not in (None, *LONG_TEXTS):
        raise DataError(f"`long_texts` must be one of {', '.join(LONG_TEXTS)}, got {long_texts!r}.")
    if long_texts == "window" and not config.reads_windows:
        raise DataError("`long_texts` window is for a DyFuLM; this model cuts long texts.")
    return long_texts or ("window" if config.reads_windows else "cut")


def settle_aspects(config, aspects: Aspects | None) -> dict[str, list[str]] | None:
    """
    Returns each aspect with its synonyms.

    Args:
        config: the configuration of the model.
        aspects (`list[str]` or `dict[str, list[str]]`, *optional*): see [`FusionSentimentPipeline`].

    Raises:
        DataError: if the aspects are none, or the model reads more than text.
    """
    if aspects is None:
        return None
    if tuple(config.modalities) != ("text",):
        raise DataError("`aspects` is for models that read text alone.")
    try:
        return {name: words[1:] for name, words in aspect_words(aspects).items()}
    except ValueError as error:
        raise DataError(str(error)) from error


def check_consistent(config, consistent: bool) -> None:
    """Raises [`DataError`] if the answer of a coarse head is asked for, and the model has none."""
    if not consistent and "coarse_logits" not in config.heads:
        raise DataError("`consistent` is for a model with a coarse head, which this one does not have.")


def predict_rows(
    classify,
    rows: Iterable[dict[str, Any] | DataError],
    text_column: str = "text",
    batch_size: int = 32,
    long_texts: str | None = None,
    consistent: bool = True,
    aspects: Aspects | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """
    Adds `prediction`, `truncated` and `error` to each row, window by window, in the order of the rows.

    `prediction` is the answer of the pipeline. A row with an `error` has `None` in all fields of `prediction`: the row
    was malformed (then its other columns are `None` too), or the model cannot read it, for instance an empty text.
    `truncated` says whether the row was cut to the maximum length of the model, which texts for a DyFuLM are only with
    `long_texts` "cut"; then rows also have `kept`, the share of the text that was read. With `aspects` each prediction
    has them all: `None` for one that the text does not name, and with an `error` where its sentences cannot be read.
    The columns `audio` and `vision` hold the frames for a DashFusion and are left out of the output. Modalities that
    the model was not trained on are ignored.

    Args:
        classify ([`FusionSentimentPipeline`]): the pipeline.
        rows (`Iterable`): each row as a `dict`, or the `DataError` of a row that could not be read.
        text_column (`str`): the column with the text.
        batch_size (`int`): the number of rows per forward pass.
        long_texts (`str`, *optional*): `"window"` (default for DyFuLM) or `"cut"`; see [`FusionSentimentPipeline`].
        consistent (`bool`), aspects (`list[str]` or `dict[str, list[str]]`, *optional*): see
            [`FusionSentimentPipeline`].

    Raises:
        DataError: if the input has a column with the name of an added one, or the model has not the options.
    """
    if batch_size < 1:
        raise DataError(f"`batch_size` must be at least 1, got {batch_size}.")
    rows = iter(rows)
    config = classify.model.config
    long_texts = settle_long_texts(config, long_texts)
    aspects = settle_aspects(config, aspects)
    check_consistent(config, consistent)
    options = {"batch_size": batch_size, "long_texts": long_texts, "aspects": aspects}
    options |= {} if consistent else {"consistent": False}
    added = prediction_types(config, long_texts=long_texts, aspects=aspects)
    frame_columns, modalities = config.frame_columns, config.modalities
    names: list[str] = []
    while window := list(islice(rows, WINDOW_BATCHES * batch_size)):
        problems = [_find_problem(row, text_column, modalities, frame_columns) for row in window]
        good = [i for i, problem in enumerate(problems) if problem is None]
        clips = [_select_modalities(window[i], text_column, modalities) for i in good]
        answers = dict(zip(good, _predict_clips(classify, clips, options), strict=True))
        names = names or next((list(row) for row in window if isinstance(row, dict)), [])
        _check_columns({name for row in window if isinstance(row, dict) for name in row}, added)
        yield [
            {
                **{
                    name: value
                    for name, value in (dict.fromkeys(names) if isinstance(row, DataError) else row).items()
                    if name not in frame_columns
                },
                **(answers[i] if i in answers else _error_fields(config, problems[i], options)),
            }
            for i, row in enumerate(window)
        ]


def _check_columns(names, added):
    if taken := set(added).intersection(names):
        raise DataError(f"The input has a column {sorted(taken)[0]!r}, which would be overwritten; rename it.")


def _error_fields(config, error, options):
    parts = {} if options["aspects"] is None else {"aspects": dict.fromkeys(options["aspects"])}
    kept = {KEPT: None} if _says_kept(config, options["long_texts"]) else {}
    return {"prediction": _no_answer(config) | parts, TRUNCATED: None, **kept, "error": error}


def _select_modalities(row, text_column, modalities):
    """Selects the modalities of a row that the model reads."""
    return {name: row.get(text_column if name == "text" else name) for name in modalities}


def _predict_clips(classify, clips, options):
    """Predicts clips; returns the `prediction`, `truncated`, `kept` (of texts that are cut) and `error` of each."""
    answers = classify(clips, return_truncated=True, on_error="return", **options)
    config = classify.model.config
    return [
        _error_fields(config, answer.reason, options)
        if isinstance(answer, InputError)
        else _answer_fields(config, answer, options)
        for answer in answers
    ]


def _answer_fields(config, answer, options):
    """Returns the fields of an answer, all of them: one that is sure has no alternatives."""
    fields = _error_fields(config, None, options)
    fields |= {name: answer.pop(name) for name in (TRUNCATED, KEPT) if name in fields}
    answer.pop(KEPT, None)  # the whole text
    for aspect, part in answer.pop("aspects", {}).items():
        fields["prediction"]["aspects"][aspect] = {**_no_answer(config), "error": None, **part}
    fields["prediction"] |= answer
    return fields


def _find_problem(row, text_column, modalities, frame_columns):
    """Returns the reason why a row cannot be read, or `None`. The pipeline itself checks the frames."""
    if isinstance(row, DataError):
        return str(row)
    if text_column not in row and not set(frame_columns) & set(row):
        return f"no column {text_column!r}; there are {listed(row)}"
    text = row.get(text_column)
    blank = text is None or (isinstance(text, str) and is_blank(text))
    if "text" not in modalities or (blank and any(row.get(name) is not None for name in frame_columns)):
        return None
    problem = text_problem(text)
    return problem and f"{text_column!r} {problem}"
