"""Errors of requests, and their answers in JSON."""

import json
import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hf_fusion.deployment.server.batching import QueueFullError
from hf_fusion.models.handler import RequestError

logger = logging.getLogger(__name__)

# The status of a request whose client went away: no answer is sent.
CLIENT_GONE = 499
_STATUS = {"invalid_request": 400, "invalid_input": 422, "too_large": 413}
_KINDS = {404: "not_found", 405: "method_not_allowed", 415: "unsupported_media_type"}
_ADVICE = {
    404: "There is no such path; /openapi.json describes the server.",
    405: "This path takes another method; /openapi.json describes the server.",
}


class JSONResponse(Response):
    """JSON in ASCII, without NaN, that no browser keeps or takes for something else."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200, headers: dict[str, str] | None = None):
        own = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        super().__init__(content, status_code, {**own, **(headers or {})})

    def render(self, content: Any) -> bytes:
        """Returns the JSON."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class RequestTimeoutError(Exception):
    """
    A request took longer than its limit.

    Args:
        message (`str`): what took so long.
        status (`int`): 408 if the client did, 504 if the server did.
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


def error_response(
    kind: str, message: str, status: int, field: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """Creates the response of an error: `{"error": {"type", "message", "field"}}`."""
    return JSONResponse({"error": {"type": kind, "message": message, "field": field}}, status, headers)


async def answer_error(request: Request, error: Exception) -> Response:
    """Creates the response of an exception of a route."""
    if isinstance(error, RequestError):
        # a body that was not read to its end must not become the next request
        headers = {"connection": "close"} if error.kind == "too_large" else None
        return error_response(error.kind, error.message, _STATUS[error.kind], error.field, headers)
    if isinstance(error, QueueFullError):
        return error_response("overloaded", str(error), 503, headers={"retry-after": str(error.retry_after)})
    if isinstance(error, RequestTimeoutError):
        return error_response("timeout", str(error), error.status, headers={"connection": "close"})
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_GONE)
    if isinstance(error, HTTPException):
        status, headers = error.status_code, dict(error.headers or {})
        message = _ADVICE.get(status, error.detail)
        return error_response(_KINDS.get(status, "invalid_request"), message, status, headers=headers)
    logger.error("A request to %r failed", request.scope["path"], exc_info=error)
    return error_response("internal", "The server failed on this request; its log has the reason.", 500)
