"""`EndpointHandler`: JSON requests to answers of the `fusion-sentiment` pipeline. `hf-fusion serve` uses it, and a
published checkpoint has this file for Inference Endpoints, so that it imports nothing of the package."""

import base64
import io
import math
import os
from typing import Any, NamedTuple

import numpy as np
from transformers import pipeline

# The pipeline's options that a request may set, with the JSON types of their values. `asr` would load any checkpoint
# that the request names, and `batch_size` is up to the operator.
PARAMETERS = {
    "top_k": ("integer", "null"),
    "explain": ("boolean",),
    "consistent": ("boolean",),
    "calibration": ("boolean",),
    "abstain_below": ("number", "null"),
    "aspects": ("array", "object", "null"),
    "long_texts": ("string", "null"),
    "truncation": ("boolean",),
    "return_truncated": ("boolean",),
    "on_error": ("string",),
    "window": ("number", "string", "null"),
    "hop": ("number", "null"),
    "language": ("string", "null"),
}
FIELDS = ("inputs", "parameters")
MODALITIES = ("text", "audio", "vision")
# An explanation takes as long as so many texts.
EXPLANATION_COST = 32
_ASPECTS = 100  # words and synonyms together
_NPY_VERSIONS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_TYPES = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31,
    "number": lambda value: _is_number(value),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


class RequestError(ValueError):
    """
    A request, or one of its inputs, that cannot be answered.

    Args:
        message (`str`): what is wrong, and what is accepted.
        field (`str`, *optional*): the part of the request, such as `"parameters.top_k"` or `"inputs[2].audio"`.
        kind (`str`, *optional*, defaults to `"invalid_request"`): `"invalid_request"`, `"invalid_input"` or
            `"too_large"`.

    Example:

    ```python
    from hf_fusion.models.handler import RequestError

    error = RequestError("Expected integer or null, got '2'.", "parameters.top_k")
    error.as_dict()["error"]["field"]  # "parameters.top_k"
    ```
    """

    def __init__(self, message, field=None, kind="invalid_request"):
        super().__init__(message)
        self.message, self.field, self.kind = message, field, kind

    def __str__(self):
        return self.message if self.field is None else f"{self.field}: {self.message}"

    def as_dict(self):
        """`dict`: `{"error": {"type", "message", "field"}}`."""
        return {"error": {"type": self.kind, "message": self.message, "field": self.field}}


class Request(NamedTuple):
    """
    A request that was read.

    Args:
        inputs (`list`): those of the pipeline; a [`RequestError`] in the place of one that cannot be read.
        parameters (`dict`): those of the pipeline, without `on_error`.
        on_error (`str`): `"raise"` or `"return"`.
        single (`bool`): whether the request has one input, which is not in a list.
    """

    inputs: list
    parameters: dict
    on_error: str
    single: bool

    @property
    def readable(self):
        """`list`: the inputs without those that cannot be read."""
        return [value for value in self.inputs if not isinstance(value, RequestError)]


class EndpointHandler:
    """
    Answers requests `{"inputs": ..., "parameters": {...}}`, as parsed from JSON, with the pipeline's answers.

    `inputs` is a text, an object with any of `text`, `audio` and `vision`, or a list of these. Frames are nested lists
    `(frames, features)` of numbers, or a string: the base64 of a `.npy` file of float32. `parameters` are options of
    the pipeline. In a list, an input that cannot be read has `{"error": ...}` in the place of its answer, and the
    others are answered; `on_error` changes that.

    Args:
        path (`str`, *optional*): the folder of the checkpoint, or its name on the Hub. Its own code is used.
        classify (*optional*): a pipeline that is loaded, in place of `path`: a [`FusionSentimentPipeline`], or
            [`OnnxFusion`] for an exported model.
        batch_size (`int`, *optional*, defaults to 32): inputs per forward pass, at most.
        max_inputs (`int`, *optional*, defaults to 256): inputs of a request, at most; with `aspects` each counts once
            more for each aspect, with `explain` 32 times.
        max_text_length (`int`, *optional*, defaults to 50,000): characters of a text, at most.
        max_frames (`int`, *optional*, defaults to 20,000): frames of audio or vision, at most.

    Example:

    ```python
    from hf_fusion import DyFuLMConfig, DyFuLMForSequenceClassification, DyFuLMProcessor, FusionSentimentPipeline
    from hf_fusion.data.tokenizers import train_tokenizer
    from hf_fusion.models.handler import EndpointHandler

    texts = ["The bed was good.", "The room was not clean."]
    encoder = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = DyFuLMForSequenceClassification(DyFuLMConfig(encoder_a_config=encoder, encoder_b_config=encoder))
    processor = DyFuLMProcessor(train_tokenizer(texts, "wordpiece", 100))
    handler = EndpointHandler(classify=FusionSentimentPipeline(model=model, processor=processor))
    handler({"inputs": texts, "parameters": {"top_k": 2}})  # for a checkpoint: EndpointHandler("runs/mine")
    ```
    """

    def __init__(
        self, path="", classify=None, batch_size=32, max_inputs=256, max_text_length=50_000, max_frames=20_000
    ):
        if classify is None and os.path.isfile(os.path.join(path, "onnx_fusion.json")):
            raise ValueError(f"{path} is an exported model: pass `classify=OnnxFusion.from_pretrained({path!r})`.")
        if classify is None:
            classify = pipeline("fusion-sentiment", model=path, trust_remote_code=True)
        self.classify = classify
        self.batch_size, self.max_inputs = batch_size, max_inputs
        self.max_text_length, self.max_frames = max_text_length, max_frames

    def __call__(self, data: Any):
        """
        Answers one request.

        Returns:
            `dict`, or a list for a list of inputs: the answers of the pipeline, as values for JSON.

        Raises:
            RequestError: if the request is not valid, or its input cannot be read.
        """
        request = self.read(data)
        return self.write(request, self.answer(request.readable, request.parameters))

    def read(self, data):
        """Checks a request, and reads its inputs into a [`Request`]; raises [`RequestError`]."""
        if not isinstance(data, dict):
            raise RequestError(f'Expected an object {{"inputs": ..., "parameters": {{...}}}}, got {_shown(data)}.')
        _check_names(data, FIELDS)
        if data.get("inputs") is None:
            raise RequestError("Expected a text, an object with text, audio or vision, or a list of these.", "inputs")
        inputs, single = data["inputs"], not isinstance(data["inputs"], list)
        parameters = self.read_parameters(data.get("parameters"), 1 if single else len(inputs))
        on_error = parameters.pop("on_error", "raise" if single else "return")
        if single:
            return Request([self._read_or_error(inputs, "inputs")], parameters, on_error, True)
        values = [self._read_or_error(value, f"inputs[{i}]") for i, value in enumerate(inputs)]
        return Request(values, parameters, on_error, False)

    def read_parameters(self, parameters, count):
        """The parameters of a request of so many inputs, as a new dict; raises [`RequestError`]."""
        parameters = {} if parameters is None else parameters
        if not isinstance(parameters, dict):
            raise RequestError(f"Expected an object of parameters, got {_shown(parameters)}.", "parameters")
        _check_names(parameters, PARAMETERS, "parameters.")
        for name, value in parameters.items():
            if not any(_TYPES[kind](value) for kind in PARAMETERS[name]):
                expected = " or ".join(PARAMETERS[name])
                raise RequestError(f"Expected {expected}, got {_shown(value)}.", f"parameters.{name}")
        self._check_cost(count, parameters)
        try:
            if parameters:
                self.classify([], **parameters)  # checks the values
        except ValueError as error:
            raise _parameter_error(error, parameters) from error
        return dict(parameters)

    def _check_cost(self, count, parameters):
        """Raises [`RequestError`] if so many inputs take too long with these parameters."""
        aspects = parameters.get("aspects") or ()
        synonyms = aspects.values() if isinstance(aspects, dict) else ()
        words = len(aspects) + sum(len(names) for names in synonyms if isinstance(names, list))
        if words > _ASPECTS:
            raise RequestError(f"At most {_ASPECTS} words, got {words}.", "parameters.aspects", "too_large")
        cost = count * ((EXPLANATION_COST if parameters.get("explain") else 1) + len(aspects))
        if cost > self.max_inputs:
            counted = "" if cost == count else f", which count as {cost} with `explain` and `aspects`"
            raise RequestError(f"At most {self.max_inputs} inputs, got {count}{counted}.", "inputs", "too_large")

    def answer(self, inputs, parameters):
        """
        The pipeline's answers to inputs of requests with the same parameters.

        Returns:
            `list`: for each input its answer, or an error (`ValueError` with `reason`) if it cannot be read.

        Raises:
            RequestError: if the parameters do not fit the model.
        """
        try:
            return self.classify(inputs, batch_size=self.batch_size, on_error="return", **parameters)
        except ValueError as error:
            refusal = _parameter_error(error, parameters)
            if refusal.field == "parameters":  # it names none of them: an error of the model
                raise
            raise refusal from error

    def write(self, request, answers):
        """The answers to the readable inputs of a request -> its result, as values for JSON; raises
        [`RequestError`]."""
        answers, results = iter(answers), []
        for i, value in enumerate(request.inputs):
            result = value if isinstance(value, RequestError) else next(answers)
            field = "inputs" if request.single else f"inputs[{i}]"
            if not isinstance(result, ValueError) and not _is_finite(result):
                result = RequestError("The model has no finite answer to it.", field, "invalid_input")
            if isinstance(result, ValueError):
                if not isinstance(result, RequestError):
                    result = RequestError(result.reason, field, "invalid_input")
                if request.on_error == "raise":
                    raise result
                result = result.as_dict()
            results.append(result)
        return results[0] if request.single else results

    def _read_or_error(self, value, field):
        """An input of the pipeline, or the [`RequestError`] of one that cannot be read."""
        try:
            return self._read_input(value, field)
        except RequestError as error:
            return error

    def _read_input(self, value, field):
        if isinstance(value, str):
            return self.check_text(value, field)
        if not isinstance(value, dict):
            raise RequestError(f"Expected a text or an object, got {_shown(value)}.", field, "invalid_input")
        _check_names(value, MODALITIES, f"{field}.", "invalid_input")
        clip = {name: item for name, item in value.items() if item is not None}
        if not clip:
            raise RequestError(f"Expected any of {', '.join(MODALITIES)}.", field, "invalid_input")
        if "text" in clip:
            self.check_text(clip["text"], f"{field}.text")
        for name in MODALITIES[1:]:
            if name in clip:
                clip[name] = self._read_frames(clip[name], f"{field}.{name}")
        return clip

    def check_text(self, text, field):
        """The text; raises [`RequestError`] if it is none, or too long."""
        if not isinstance(text, str):
            raise RequestError(f"Expected a string, got {_shown(text)}.", field, "invalid_input")
        if len(text) > self.max_text_length:
            raise RequestError(f"At most {self.max_text_length:,} characters, got {len(text):,}.", field, "too_large")
        return text

    def _read_frames(self, value, field):
        """Frames `(frames, features)` as float32."""
        if isinstance(value, str):
            return self._read_npy(value, field)
        if not isinstance(value, list):
            expected = "Expected a list of frames, or the base64 of a .npy file"
            raise RequestError(f"{expected}, got {_shown(value)}.", field, "invalid_input")
        self._check_count(len(value), field)
        for i, row in enumerate(value):
            if not isinstance(row, list) or len(row) != len(value[0]):
                expected = "Expected a list of numbers" + (f", {len(value[0])} as in the first frame" if i else "")
                raise RequestError(f"{expected}, got {_shown(row)}.", f"{field}[{i}]", "invalid_input")
            if not all(type(number) in (int, float) for number in row):
                wrong = next(number for number in row if type(number) not in (int, float))
                raise RequestError(f"Expected numbers, got {_shown(wrong)}.", f"{field}[{i}]", "invalid_input")
        try:
            with np.errstate(over="ignore"):
                frames = np.array(value, dtype=np.float32)  # (frames, features)
        except OverflowError:
            frames = np.array([np.inf])
        if not np.isfinite(frames).all():
            raise RequestError("A number is beyond the range of float32.", field, "invalid_input")
        return frames

    def _read_npy(self, text, field):
        """The frames of a `.npy` file in base64. Its header is checked before memory is taken for what it declares."""
        try:
            content = base64.b64decode(text, validate=True)
            file = io.BytesIO(content)
            read_header = _NPY_VERSIONS[np.lib.format.read_magic(file)]
            shape, _, dtype = read_header(file)
        except Exception as error:  # numpy reads the header as a Python literal, whose errors are of many kinds
            raise RequestError("This is not the base64 of a .npy file.", field, "invalid_input") from error
        if dtype not in (np.dtype("<f4"), np.dtype(">f4")):
            raise RequestError(f"Expected float32, got {dtype!s:.50}.", field, "invalid_input")
        if len(shape) != 2 or not all(type(size) is int and size >= 0 for size in shape):
            raise RequestError(f"Expected the shape (frames, features), got {shape}.", field, "invalid_input")
        self._check_count(shape[0], field)
        if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
            raise RequestError(f"The file has another size than its shape {shape}.", field, "invalid_input")
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False).astype(np.float32)

    def _check_count(self, count, field):
        if count > self.max_frames:
            raise RequestError(f"At most {self.max_frames:,} frames, got {count:,}.", field, "too_large")


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30


def _is_finite(answer):
    """Whether the scores of an answer are finite. In half precision the largest frames give NaN, which JSON lacks."""
    entries = answer if isinstance(answer, list) else [answer]
    return all(entry["score"] is None or math.isfinite(entry["score"]) for entry in entries)


def _check_names(mapping, accepted, place="", kind="invalid_request"):
    """Raises [`RequestError`] if a mapping has another name than the accepted ones."""
    unknown = [name for name in mapping if name not in accepted]
    if unknown:
        raise RequestError(
            f"There is no such name. Accepted are {', '.join(accepted)}.", f"{place}{unknown[0]!s:.50}", kind
        )


def _parameter_error(error, parameters):
    """The [`RequestError`] for an error of the pipeline, with the parameter that its message names first."""
    message = str(error)
    places = {message.find(f"`{name}`"): name for name in parameters if f"`{name}`" in message}
    return RequestError(message, f"parameters.{places[min(places)]}" if places else "parameters")


def _shown(value):
    """A value in an error message."""
    for kind in ("null", "boolean"):
        if _TYPES[kind](value):
            return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, dict)):
        return f"{'an array' if isinstance(value, list) else 'an object'} of {len(value)}"
    return f"{value!r:.80}" if isinstance(value, (str, float)) else "a number" if isinstance(value, int) else "a value"
