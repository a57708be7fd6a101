"""Bodies of requests: their sizes are limited while they arrive."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive

from hf_fusion.deployment.server.batching import QueueFullError
from hf_fusion.models.handler import RequestError

JSON, MULTIPART = "application/json", "multipart/form-data"
# Bodies of this size and above are parsed in another thread, so that others need not wait.
_LARGE = 2**15
# All bodies together take so many times the memory of the largest one.
_BODIES = 16
# Of a body that is too large so many times its limit is read and dropped.
_DISCARDED = 4


class BodyLimits:
    """
    A limit for each body, and one for all of them together.

    Args:
        max_body (`int`): bytes of a body with JSON.
        max_media (`int`): bytes of a body with media files.
    """

    def __init__(self, max_body: int, max_media: int):
        self.limits = {JSON: max_body, MULTIPART: max_media}
        self.held = dict.fromkeys(self.limits, 0)

    @asynccontextmanager
    async def limited(self, request: Request, kind: str) -> AsyncIterator[Request]:
        """
        Gives the same request, whose body raises [`RequestError`] as soon as it is longer than the limit, and
        [`QueueFullError`] if there are too many others. It counts until the end of the `async with` statement.
        """
        limit, size = self.limits[kind], 0
        receive: Receive = request.receive
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            if "expect" not in request.headers:
                await _discard(receive, _DISCARDED * limit)
            raise _too_large(limit)

        async def receive_limited():
            nonlocal size
            message = await receive()
            count = len(message.get("body", b""))
            size += count
            self.held[kind] += count
            if size > limit:
                if message.get("more_body"):
                    await _discard(receive, _DISCARDED * limit)
                raise _too_large(limit)
            if self.held[kind] > _BODIES * limit:
                raise QueueFullError(1)
            return message

        limited = Request(request.scope, receive_limited)
        try:
            yield limited
        finally:
            self.held[kind] -= size
            await limited.close()  # the files of a form


async def read_json(request: Request, read: Callable[[Any], Any]) -> Any:
    """Parses a body, and gives what `read` makes of it; raises [`RequestError`] if it is no JSON."""
    body = b"".join([chunk async for chunk in request.stream()])
    if len(body) >= _LARGE:
        return await asyncio.to_thread(lambda: read(parse_json(body)))
    return read(parse_json(body))


async def _discard(receive, most):
    """Reads the rest of a body that is refused: a client that is still sending would miss the answer."""
    while most > 0:
        message = await receive()
        most -= len(message.get("body", b""))
        if not message.get("more_body"):
            return


def kind_of(request: Request) -> str:
    """Returns the type of the body; raises `HTTPException` (415) unless it is JSON or multipart."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in (JSON, MULTIPART):
        return kind
    raise HTTPException(415, f"Send {JSON} or {MULTIPART} (in curl: -H 'Content-Type: {JSON}'), not {kind[:80]!r}.")


def parse_json(body: bytes | str, field: str | None = None) -> Any:
    """Parses JSON; raises [`RequestError`] if it is none, also for NaN and Infinity, which JSON does not have, and for
    objects with a name twice, of which one value would be lost."""
    try:
        return json.loads(body, parse_constant=_refuse, object_pairs_hook=_to_object)
    except RecursionError as error:
        raise RequestError("The JSON is nested too deeply.", field) from error
    except ValueError as error:  # also of bytes that are no UTF-8, and of numbers with thousands of digits
        raise RequestError(f"This is not valid JSON: {str(error)[:200]}", field) from error


def _refuse(name):
    raise ValueError(f"{name} is no number of JSON")


def _to_object(pairs):
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {max(names, key=names.count)!r:.50} comes twice in an object")
    return values


def _too_large(limit):
    return RequestError(f"The body is larger than {limit:,} bytes.", kind="too_large")
