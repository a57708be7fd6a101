"""Runs the web application until a signal ends it."""

import logging
import signal
import socket
import sys

import uvicorn
from starlette.applications import Starlette

from hf_fusion.deployment.server.options import ServerOptions

_BACKLOG = 2048


class _AnnouncedServer(uvicorn.Server):
    """Prints its address once it takes requests."""

    def __init__(self, config, address):
        super().__init__(config)
        self.address = address

    async def startup(self, sockets=None):
        await super().startup(sockets)
        if self.started:
            print(f"Serving at {self.address} (SIGTERM or Ctrl-C ends it)", flush=True)

    async def shutdown(self, sockets=None):
        print("Ending after the requests that were accepted", file=sys.stderr, flush=True)
        await super().shutdown(sockets)


def reserve_address(host: str, port: int) -> socket.socket:
    """
    Returns a socket that has the address, and refuses connections until [`run_server`].

    Args:
        host (`str`): the address.
        port (`int`): the port; 0 for any that is free.

    Raises:
        OSError: if the address cannot be used.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise OSError(f"{host}:{port} cannot be used: {getattr(error, 'strerror', None) or error}") from error
    return listener


def run_server(app: Starlette, listener: socket.socket, options: ServerOptions) -> None:
    """
    Serves an application. SIGTERM and Ctrl-C close the socket, and end it after the answers to all requests that were
    accepted, at most `timeout` and `media_timeout` later: a client that does not take its answer would hold it up for
    ever. A second Ctrl-C ends it at once.

    Args:
        app (`Starlette`): the application.
        listener (`socket.socket`): the result of [`reserve_address`].
        options ([`ServerOptions`]): the limits.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
    """
    # warnings on single inputs would fill the log; clients ask for them by `return_truncated`
    logging.getLogger("hf_fusion.models").setLevel(logging.ERROR)
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    config = uvicorn.Config(
        app, http="h11", ws="none", lifespan="on", log_config=None, access_log=False, server_header=False,
        proxy_headers=False, backlog=_BACKLOG, timeout_keep_alive=30,
        timeout_graceful_shutdown=options.timeout + options.media_timeout,
    )  # fmt: skip
    _AnnouncedServer(config, address).run(sockets=[listener])


def exit_on_sigterm() -> None:
    """Ends this process with status 0 on SIGTERM; uvicorn raises the signal again once all is answered."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
