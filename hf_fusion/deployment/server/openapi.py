"""The OpenAPI description of the server."""

from typing import Any

from hf_fusion import __version__
from hf_fusion.deployment.server.options import ServerOptions
from hf_fusion.models.handler import EXPLANATION_COST, PARAMETERS

_PARAMETERS = {
    "top_k": "The most probable classes as a list, so many; null: all. The other heads are in the first one.",
    "explain": "Gate and relevance of each span (DyFuLM, not of exported models).",
    "consistent": "Whether `coarse` follows from the fine class (DyFuLM).",
    "calibration": "Whether the calibration of the checkpoint applies (DyFuLM).",
    "abstain_below": "The probability below which an answer is unsure, and has no label; 0: none (DyFuLM).",
    "aspects": "Words, or words with lists of synonyms: also the answers to the sentences that name them.",
    "long_texts": "window reads texts beyond the limit whole, cut their beginning.",
    "truncation": "true: the same as long_texts cut.",
    "return_truncated": "Whether answers say whether their input was cut.",
    "on_error": "return: an error is in the place of an answer (default for lists); raise: it is that of the request.",
    "window": "Media files: seconds of each answer, or sentence.",
    "hop": "Media files: seconds from one window to the next.",
    "language": "Media files: what is spoken, for speech recognition.",
}
_ERRORS = {
    400: "The request is not valid; `field` names the part.",
    401: "The key is missing or wrong.",
    408: "The request did not arrive whole within the limit.",
    413: "The request, a text or a clip is larger than the limit; `field` names it.",
    415: "The body is neither JSON nor a form.",
    422: "The input cannot be read.",
    500: "An error of the server.",
    503: "The queue is full; `Retry-After` has the seconds.",
    504: "The answer took longer than the limit.",
}


def describe_api(options: ServerOptions, reads_media: bool) -> dict[str, Any]:
    """
    Returns the description, in version 3.1 of OpenAPI.

    Args:
        options ([`ServerOptions`]): the limits.
        reads_media (`bool`): whether media files are accepted.
    """
    content = {"application/json": {"schema": _ref("Request")}}
    if reads_media:
        content["multipart/form-data"] = {"schema": _ref("MediaRequest")}
    predict = {
        "summary": "The sentiment of texts or clips",
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": _json("The answer; to a list of inputs a list, with an error in the place of an input that cannot "
                         "be read.", _ref("Answers")),
            **{str(status): _json(text, _ref("Error")) for status, text in _ERRORS.items()},
        },
    }  # fmt: skip
    gets = {
        "/health": "Whether the server runs",
        "/ready": "Whether it takes requests: 503 while the queue is full",
        "/info": "Model, version, revision, labels and limits",
        "/metrics": "Metrics for Prometheus",
        "/openapi.json": "This description",
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "hf-fusion serve", "version": __version__},
        "paths": {"/predict": {"post": predict}, **{path: {"get": _get(path, text)} for path, text in gets.items()}},
        "components": {
            "schemas": _schemas(options),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _get(path, text):
    if path == "/metrics":
        return {"summary": text, "responses": {"200": {"description": text, "content": {"text/plain": {}}}}}
    responses = {"200": _json(text, {"type": "object"})}
    if path == "/ready":
        responses["503"] = _json("The queue is full.", {"type": "object"})
    return {"summary": text, "responses": responses}


def _schemas(options):
    text = {"type": "string", "maxLength": options.max_text_length}
    frames = {
        "oneOf": [
            {"type": "array", "maxItems": options.max_frames, "items": {"type": "array", "items": {"type": "number"}}},
            {"type": "string", "contentEncoding": "base64", "description": "A .npy file of float32."},
        ],
        "description": "(frames, features)",
    }
    clip = {
        "type": "object",
        "properties": {"text": text, "audio": frames, "vision": frames},
        "additionalProperties": False,
        "minProperties": 1,
    }
    parameters = {name: {"type": list(kinds), "description": _PARAMETERS[name]} for name, kinds in PARAMETERS.items()}
    score = {"label": {"type": ["string", "null"]}, "score": {"type": ["number", "null"]}}
    error = {
        "type": {"type": "string"},
        "message": {"type": "string"},
        "field": {"type": ["string", "null"], "description": "Such as inputs[2].audio."},
    }
    cost = f"With `explain` each counts as {EXPLANATION_COST}, with `aspects` one more for each."
    return {
        "Clip": clip,
        "Input": {"oneOf": [text, _ref("Clip")]},
        "Parameters": {"type": "object", "properties": parameters, "additionalProperties": False},
        "Request": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "inputs": {
                    "oneOf": [
                        _ref("Input"),
                        {"type": "array", "items": _ref("Input"), "maxItems": options.max_inputs, "description": cost},
                    ]
                },
                "parameters": _ref("Parameters"),
            },
            "additionalProperties": False,
        },
        "MediaRequest": {
            "type": "object",
            "required": ["media"],
            "properties": {
                "media": {"type": "string", "contentMediaType": "application/octet-stream"},
                "text": {"type": "string", "description": "What is said in it."},
                "parameters": {"type": "string", "contentMediaType": "application/json"},
            },
        },
        "Answer": {
            "type": "object",
            "required": list(score),
            "properties": {
                **score,
                "coarse": {"type": "object", "properties": score},
                "intensity": {"type": "number"},
                "expected": {"type": "number"},
                "unsure": {"type": "boolean"},
            },
            "description": "The answer of the pipeline; the fields depend on model and parameters.",
        },
        "Answers": {
            "oneOf": [
                _ref("Answer"),
                _ref("Error"),
                {
                    "type": "array",
                    "items": {"oneOf": [_ref("Answer"), _ref("Error"), {"type": "array", "items": _ref("Answer")}]},
                },
            ]
        },
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": "object", "required": list(error), "properties": error}},
        },
    }


def _ref(name):
    return {"$ref": f"#/components/schemas/{name}"}


def _json(text, schema):
    return {"description": text, "content": {"application/json": {"schema": schema}}}
