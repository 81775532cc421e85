"""`cesta serve`: the embedded server under a watchdog, and the app that tells about it."""

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI

from operations.gateway.link import GatewayLink, admin_token
from operations.gateway.nginx import GatewaySettings
from operations.releases.model_control import ModelControl
from operations.releases.store import Repository, open_repository
from operations.server.control_secret import make_secret
from operations.server.process import ServerError, ServerSettings
from operations.server.settings import claim_ports
from operations.settings import load_bars
from operations.supervisor.admin import Operator
from operations.supervisor.app import make_app
from operations.supervisor.embedded import EmbeddedServer, open_server
from operations.supervisor.metrics import Metrics
from operations.supervisor.server_log import logged
from operations.supervisor.status import Status
from operations.supervisor.threads import alone, in_thread
from operations.supervisor.watchdog import Watchdog

log = structlog.get_logger()

_ASKED = (signal.SIGINT, signal.SIGTERM)
_APP_ENDS_S = 2
_LOOK_S = 0.2


def serve(settings: ServerSettings, port: int, gateway: GatewaySettings | None = None) -> None:
    """Serve in the foreground until Ctrl-C or SIGTERM, which drain; the app listens on `port` (0: any).

    `gateway` is one to work with: its requests are counted, its admins may change releases, and whether it is
    there is probed.

    Raises ServerError or CestaError if the first start fails. Later ones are tried again and again.
    """
    try:
        for asked in _ASKED:  # both: a shell starts background jobs with SIGINT ignored
            signal.signal(asked, signal.default_int_handler)
        with _listening(settings.host, port) as listener:
            _serve(_complete(settings), listener, gateway)
    except KeyboardInterrupt:
        return


def _complete(settings: ServerSettings) -> ServerSettings:
    """With a secret, with ports that stay the same over all restarts, and without models."""
    secret = settings.control_secret or make_secret()
    return replace(claim_ports(settings), control_secret=secret, models=())  # loaded over gRPC, see pinned.py


def _serve(settings: ServerSettings, listener: socket.socket, gateway: GatewaySettings | None) -> None:
    ending, metrics = threading.Event(), Metrics()
    repository = open_repository(settings.repository)
    opened = 0

    def open_one() -> EmbeddedServer:
        nonlocal opened
        server = open_server(settings, repository, ending, logged())
        opened += 1
        if opened == 1:
            _tell(server, listener)
        return server

    watchdog = Watchdog(open_one, ending, time.monotonic, on_canary=metrics.observe)
    status = Status(watchdog, repository)
    metrics.tell_of(status)
    alone(lambda: status.follow(ending), "repository not read")
    watching = in_thread(watchdog.run)
    try:
        with contextlib.ExitStack() as stack:
            operator = None
            if gateway:
                stack.enter_context(GatewayLink(gateway, repository, metrics.registry))
                operator = _operator(settings, repository, gateway.folder)
            stack.enter_context(_app(make_app(watchdog, status, metrics, operator), listener))
            _wait(watching)
    finally:
        for asked in _ASKED:
            signal.signal(asked, signal.SIG_IGN)  # once is enough: the drain has its own limit
        ending.set()
        watching.exception()


def _wait(watching: Future[None]) -> None:
    """Until it is done. In short waits: a signal that another thread was handed does not end a long one."""
    while not watching.done():
        with contextlib.suppress(TimeoutError):
            watching.exception(_LOOK_S)
    watching.result()


def _operator(settings: ServerSettings, repository: Repository, gateway: Path) -> Operator:
    grpc = f"{settings.host}:{settings.grpc_port}"
    control = lambda: ModelControl(grpc, settings.control_secret)  # noqa: E731 - one for each change
    return Operator(repository, control, load_bars(), admin_token(gateway))


def _tell(server: EmbeddedServer, listener: socket.socket) -> None:
    triton, (host, port) = server.server, listener.getsockname()[:2]
    addresses = {"http": triton.http, "grpc": triton.grpc, "metrics": triton.metrics}
    addresses["supervisor"] = f"{host}:{port}"
    print("ready:", *(f"{name} {address}" for name, address in addresses.items()), flush=True)
    log.info("ready", release=server.release, **addresses)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ServerError(
            f"supervisor_port {port} on {host} cannot be used ({error.strerror}); stop what listens there, "
            "or choose another with --supervisor-port (0: any free one)"
        ) from None
    with listener:
        yield listener


@contextmanager
def _app(app: FastAPI, listener: socket.socket) -> Iterator[None]:
    """The app in a thread of its own: neither it nor the watchdog can hold the other up."""
    config = uvicorn.Config(
        app,
        log_config=None,  # what it has to say goes through the caller's logging
        access_log=False,
        timeout_graceful_shutdown=_APP_ENDS_S,
    )
    server = uvicorn.Server(config)
    running = in_thread(lambda: server.run(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        running.exception()
