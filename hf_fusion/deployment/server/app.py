"""The web application: routes, access, timeouts."""

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hf_fusion import __version__
from hf_fusion.deployment.server.batching import Batcher
from hf_fusion.deployment.server.bodies import MULTIPART, BodyLimits, kind_of, read_json
from hf_fusion.deployment.server.errors import JSONResponse, RequestTimeoutError, answer_error, error_response
from hf_fusion.deployment.server.metrics import CONTENT_TYPE, ServerMetrics
from hf_fusion.deployment.server.openapi import describe_api
from hf_fusion.deployment.server.options import ServerOptions
from hf_fusion.models.handler import PARAMETERS, EndpointHandler, RequestError
from hf_fusion.models.handler import Request as Inputs

logger = logging.getLogger(__name__)

# Routes that need no key: for the probes of a machine that runs the server.
OPEN_ROUTES = ("/health", "/ready")
_MOST_FIELDS = 4  # of a form


class Server:
    """
    Answers HTTP requests with an [`EndpointHandler`].

    Args:
        handler ([`EndpointHandler`]): the model.
        options ([`ServerOptions`]): the limits.
        name (`str`): the checkpoint, for `/info`. Of a folder only the last part is shown.
        uploads ([`MediaUploads`], *optional*): reads media files.
        api_key (`str`, *optional*): required as `Authorization: Bearer KEY`, except for `/health` and `/ready`.
        worker (`ThreadPoolExecutor`, *optional*): the thread that loaded the model, from [`model_thread`].

    Attributes:
        app (`Starlette`): the ASGI application.
        batcher ([`Batcher`]): the queue. It exists while the application runs.
    """

    def __init__(
        self,
        handler: EndpointHandler,
        options: ServerOptions,
        name: str = "",
        uploads: Any = None,
        api_key: str | None = None,
        worker: ThreadPoolExecutor | None = None,
    ):
        self.handler, self.options, self.uploads, self.worker = handler, options, uploads, worker
        self.name = Path(name).name if Path(name).is_dir() else name
        self.batcher: Batcher | None = None
        self.metrics = ServerMetrics(lambda: self.batcher.length if self.batcher else 0)
        self.bodies = BodyLimits(options.max_body, options.max_media)
        gets = {
            "/health": self.health, "/ready": self.ready, "/info": self.info, "/metrics": self.show_metrics,
            "/openapi.json": self.show_openapi,
        }  # fmt: skip
        routes = [Route("/predict", self.predict, methods=["POST"])]
        routes += [Route(path, endpoint, methods=["GET"]) for path, endpoint in gets.items()]
        gate = Middleware(Gate, metrics=self.metrics, routes=frozenset(("/predict", *gets)), api_key=api_key)
        self.app = Starlette(
            routes=routes, middleware=[gate], exception_handlers={HTTPException: answer_error}, lifespan=self._lifespan
        )
        self.app.router.redirect_slashes = False  # to the host that a request names

    @asynccontextmanager
    async def _lifespan(self, app):
        options = self.options
        async with Batcher(
            self.handler.answer, options.max_batch_size, options.max_wait_ms / 1000, options.max_queue,
            self.metrics.note_batch, self.worker,
        ) as self.batcher:  # fmt: skip
            yield
        if self.uploads is not None:
            self.uploads.close()

    async def predict(self, request: Request) -> Response:
        """POST /predict"""
        kind, start, limit = kind_of(request), perf_counter(), self.options.timeout
        self.batcher.check_room()
        if kind == MULTIPART and self.uploads is None:
            raise HTTPException(415, "This server reads no media files: send application/json.")
        async with self.bodies.limited(request, kind) as limited:  # a request counts until it is answered
            if kind == MULTIPART:
                limit += self.options.media_timeout
                form = await _within(limit, limited.form(max_files=1, max_fields=_MOST_FIELDS))
                work = self._answer_form(form)
            else:
                work = self._answer(await _within(limit, read_json(limited, self.handler.read)))
            return JSONResponse(await _attended(request, limit - (perf_counter() - start), work))

    async def _answer(self, inputs):
        return self.handler.write(inputs, await self.batcher.submit(inputs.readable, inputs.parameters))

    async def _answer_form(self, form):
        """The answer to a request with a media file."""
        file, text, given = self.uploads.read_fields(form)
        if text is not None:
            self.handler.check_text(text, "text")
        parameters = self.handler.read_parameters(given, 1)
        clip = await self.uploads.read_file(file, text, parameters.get("language"))
        self._check_windows(clip, parameters)
        return await self._answer(Inputs([clip], parameters, parameters.pop("on_error", "raise"), True))

    def _check_windows(self, clip, parameters):
        """Raises [`RequestError`] if a file has too many windows."""
        step, most = parameters.get("hop") or parameters.get("window"), self.options.max_inputs
        if isinstance(step, (int, float)) and not isinstance(clip, RequestError) and clip.seconds / step > most:
            message = f"At most {most} windows, and {clip.seconds:.0f} seconds have more of {step:g} seconds."
            raise RequestError(message, "parameters.window", "too_large")

    async def health(self, request: Request) -> Response:
        """GET /health"""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """GET /ready"""
        is_ready = self.batcher is not None and self.batcher.is_ready
        return JSONResponse({"status": "ready" if is_ready else "busy"}, 200 if is_ready else 503)

    async def show_metrics(self, request: Request) -> Response:
        """GET /metrics"""
        return Response(self.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def show_openapi(self, request: Request) -> Response:
        """GET /openapi.json"""
        return JSONResponse(describe_api(self.options, self.uploads is not None))

    async def info(self, request: Request) -> Response:
        """GET /info"""
        classify, options = self.handler.classify, self.options
        config, extractor = classify.model.config, getattr(classify.processor, "feature_extractor", None)
        frames = [name for name in config.modalities if name in config.frame_columns]
        labels = {"labels": list(config.id2label.values())}
        if config.num_labels == 1:
            labels = {"labels": ["negative", "neutral", "positive"], "score_range": list(config.label_range)}
        if "coarse_logits" in config.heads:
            labels["coarse_labels"] = list(config.coarse_id2label.values())
        return JSONResponse({
            "model": self.name, "version": __version__, "revision": getattr(config, "_commit_hash", None),
            "architecture": config.model_type, "runtime": {"pt": "torch", "np": "onnxruntime"}[classify.tensor_type],
            **labels, "modalities": list(config.modalities), "max_length": classify.processor.max_length,
            "features": {name: getattr(extractor, f"{name}_feature_size") for name in frames},
            "media_files": self.uploads is not None, "parameters": list(PARAMETERS),
            "limits": {
                "inputs": options.max_inputs, "text_length": options.max_text_length, "frames": options.max_frames,
                "body_bytes": options.max_body, "media_bytes": options.max_media, "timeout": options.timeout,
            },
        })  # fmt: skip


class Gate:
    """
    ASGI middleware around the routes: checks the key, counts requests, answers exceptions.

    Args:
        app (`ASGIApp`): the routes.
        metrics ([`ServerMetrics`]): the counters.
        routes (`frozenset[str]`): the paths that are counted by name.
        api_key (`str`, *optional*): the key.
    """

    def __init__(self, app: ASGIApp, metrics: ServerMetrics, routes: frozenset[str], api_key: str | None = None):
        self.app, self.metrics, self.routes = app, metrics, routes
        self._expected = None if api_key is None else f"Bearer {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start, status = perf_counter(), 0

        async def send_noted(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        request = Request(scope, receive)
        try:
            if self._allows(request):
                await self.app(scope, receive, send_noted)
            else:
                headers = {"www-authenticate": "Bearer"}
                response = error_response(
                    "unauthorized", "Send the key as Authorization: Bearer KEY.", 401, headers=headers
                )
                await response(scope, receive, send_noted)
        except Exception as error:
            response = await answer_error(request, error)
            if status:  # too late for another answer
                raise
            await response(scope, receive, send_noted)
        finally:
            path = scope["path"] if scope["path"] in self.routes else "other"
            self.metrics.note_request(path, status, perf_counter() - start)

    def _allows(self, request):
        # not `request.url`, which a header of the request can change
        if self._expected is None or request.scope["path"] in OPEN_ROUTES:
            return True
        given = request.headers.get("authorization", "").encode("latin-1")
        return hmac.compare_digest(given, self._expected)


async def _within(seconds: float, work: Awaitable[Any]) -> Any:
    """Waits for the end of reading a request."""
    try:
        return await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError as error:
        raise RequestTimeoutError(f"The request did not arrive whole within {seconds:g} s.", 408) from error


async def _attended(request: Request, seconds: float, work: Coroutine[Any, Any, Any]) -> Any:
    """Waits for the end of answering a request. It is cancelled if the client goes away, or `seconds` are over."""
    answering, leaving = asyncio.create_task(work), asyncio.create_task(_wait_until_gone(request.receive))
    try:
        await asyncio.wait((answering, leaving), timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return answering.result()
        if leaving.done():
            raise ClientDisconnect
        raise RequestTimeoutError("The answer took longer than the limit of this server; try again later.", 504)
    finally:
        answering.cancel()
        leaving.cancel()


async def _wait_until_gone(receive):
    while (await receive())["type"] != "http.disconnect":
        pass
