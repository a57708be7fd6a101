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


def run_server(app: Starlette, listener: socket.socket, options: ServerOptions) -> None:
    """
    Serves an application. SIGTERM and Ctrl-C close the socket, and end it after the answers to all requests that were
    accepted, at most `timeout` and `media_timeout` later: a client that does not take its answer would hold it up for
    ever. A second Ctrl-C ends it at once.

    Args:
        app (`Starlette`): the application.
        listener (`socket.socket`): a socket with an address, from [`reserve_address`].
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
