"""`cesta serve`: the embedded server under a watchdog, and the app that reports its state."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI

from operations.address import join_address
from operations.events.desk import EventDesk
from operations.events.figures import Figures
from operations.events.kafka_source import KafkaSource
from operations.events.local_copy import LocalCopy
from operations.events.log import EventLog
from operations.events.opening import EVENTS, is_shared, open_store, read_offsets
from operations.events.release_facts import ReleaseFacts
from operations.explaining.explanations import Explanations
from operations.gateway.link import GatewayLink, admin_token
from operations.gateway.nginx import GatewaySettings
from operations.gateway.traffic import Traffic, read_traffic
from operations.log_stream import announce
from operations.processes.listeners import way_out
from operations.releases.model_control import ModelControl
from operations.releases.repository import read_release
from operations.releases.serving_mark import mark_served
from operations.releases.stores.store import Repository, open_repository
from operations.server.control_secret import make_secret
from operations.server.process import ServerError, ServerSettings
from operations.server.runtime_folder import sweep
from operations.server.settings import WHOLE_CONFIGS, check_port, claim_ports, family_of, find_own_ip
from operations.server.signals import ignore_signals, interrupt_on_signals
from operations.server.version import MINIMUM
from operations.settings import load_bars
from operations.supervisor.admin import Operator
from operations.supervisor.app import make_app
from operations.supervisor.drift import DriftWatch
from operations.supervisor.embedded import EmbeddedServer, open_server
from operations.supervisor.events import Events
from operations.supervisor.metrics import Metrics
from operations.supervisor.operation_log import OperationLog
from operations.supervisor.server_log import log_handler
from operations.supervisor.status import Status
from operations.supervisor.stock import StockMetrics, follow_stock, make_stock_router, stock_token
from operations.supervisor.threads import run_in_thread, run_unattended
from operations.supervisor.watchdog import Watchdog

log = structlog.get_logger()

_APP_ENDS_S = 2
_POLL_S = 0.2


def serve(
    settings: ServerSettings,
    port: int,
    gateway: GatewaySettings | None = None,
    pinned: int | None = None,
    events: str | None = None,
    source: str | None = None,
) -> None:
    """Serve in the foreground until Ctrl-C or SIGTERM, which drain; the app listens on `port` (0: any).

    With a `gateway`, this process counts its requests, lets its admins change releases, and probes it. With
    `pinned`, the server answers with that release only, and its admins change nothing. With `events`, the
    address of a store, it keeps the events that the gateway sends, and those of the topic `source`.

    Raises CestaError if the first start fails. Later starts are repeated until one succeeds.
    """
    try:
        interrupt_on_signals()
        with _open_listener(find_own_ip(settings.host), port) as listener:
            _serve(_complete(settings), listener, gateway, pinned, events, source)
    except KeyboardInterrupt:
        return


def _complete(settings: ServerSettings) -> ServerSettings:
    """Add a secret and ports for all restarts, and remove the models, which pinned.py loads."""
    for folder in sweep():  # before the ports are claimed: what a killed server left holds them
        log.info("removed what a killed server left", folder=str(folder))
    secret = settings.control_secret or make_secret()
    options = (*settings.extra_args, *WHOLE_CONFIGS)
    return replace(claim_ports(settings), control_secret=secret, models=(), extra_args=options)


def _serve(
    settings: ServerSettings,
    listener: socket.socket,
    gateway: GatewaySettings | None,
    pinned: int | None,
    events: str | None,
    source: str | None,
) -> None:
    ending, metrics = threading.Event(), Metrics()
    repository = open_repository(settings.repository)
    announced = False

    def open_announced() -> EmbeddedServer:
        nonlocal announced
        server = open_server(settings, repository, ending, log_handler(), pinned)
        status.note_start(server.fallback, server.server.triton)
        if not announced:
            _announce(server, listener)
            announced = True
        return server

    watchdog = Watchdog(open_announced, ending, time.monotonic, on_canary=metrics.observe)
    status = Status(watchdog, repository, pinned)
    metrics.add_status(status)

    def answering() -> int | None:
        return watchdog.health.release

    drift = DriftWatch(
        join_address(settings.host, settings.metrics_port),
        answering,
        lambda release: read_release(repository, release),
        metrics.canaries,
    )
    metrics.registry.register(drift)
    run_unattended(lambda: status.follow(ending), "repository not read")
    run_unattended(lambda: drift.follow(ending), "drift not measured")
    watching = run_in_thread(watchdog.run)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(mark_served(repository))
            beside = gateway.folder if gateway else None
            stock = stack.enter_context(follow_stock(settings.live, beside))
            status.stock, operator = stock, None
            kept = explanations = None
            metrics.registry.register(StockMetrics(stock, lambda: watchdog.health.release))
            if gateway:
                stack.enter_context(GatewayLink(gateway, repository, metrics.registry, answering, pinned))
                explanations = Explanations(repository, answering, settings.live)
                stack.callback(explanations.close)
                operator = _operator(settings, repository, gateway.folder, metrics, pinned)
                if events:
                    facts = ReleaseFacts(repository, lambda: watchdog.health.release)
                    kept = stack.enter_context(_keep_events(events, source, gateway.folder, metrics, facts))
            routes = make_stock_router(stock, stock_token(stock.folder, beside)) if stock else None
            app = make_app(watchdog, status, metrics, operator, drift, kept, explanations, routes)
            stack.enter_context(_run_app(app, listener))
            _wait(watching)
    finally:
        ignore_signals()  # the drain has its own limit
        ending.set()
        watching.exception()


def _wait(watching: Future[None]) -> None:
    """Wait for the watchdog's end, in short waits: a signal to another thread does not end a long one."""
    while not watching.done():
        with contextlib.suppress(TimeoutError):
            watching.exception(_POLL_S)
    watching.result()


def _operator(
    settings: ServerSettings, repository: Repository, gateway: Path, metrics: Metrics, pinned: int | None
) -> Operator:
    page = join_address(settings.host, settings.metrics_port)
    grpc = join_address(settings.host, settings.grpc_port)

    def connect() -> ModelControl:
        return ModelControl(grpc, settings.control_secret)

    def count() -> Traffic:
        return read_traffic(repository, gateway, page, metrics.canaries())

    operations = OperationLog(gateway)
    return Operator(
        repository, connect, load_bars(), admin_token(gateway), count, operations, pinned, gateway
    )


@contextmanager
def _keep_events(
    address: str, source: str | None, gateway: Path, metrics: Metrics, facts: ReleaseFacts
) -> Iterator[Events]:
    """Keep events in the store at an address until the block ends, those of the topic `source` among them."""
    figures = Figures(metrics.registry)
    event_log = EventLog(partial(open_store, address), figures.observe)
    figures.add_log(event_log)
    event_log.start()
    with contextlib.ExitStack() as stack:
        stack.callback(event_log.close)
        if is_shared(address):
            copy = stack.enter_context(LocalCopy(partial(open_store, address), gateway / EVENTS))
            figures.add_copy(event_log, copy)
        if source:
            topic = KafkaSource(source, event_log, figures, partial(read_offsets, address), facts.first_ms)
            figures.add_source(stack.enter_context(topic))
        yield Events(EventDesk(event_log, figures, facts), admin_token(gateway))


def _announce(server: EmbeddedServer, listener: socket.socket) -> None:
    triton, (host, port) = server.server, listener.getsockname()[:2]
    if (found := triton.triton) and found.is_outdated and found.is_exposed:
        log.warning(
            "old tritonserver is exposed", version=found.version, minimum=MINIMUM, host=triton.settings.host
        )
    addresses = {"http": triton.http, "grpc": triton.grpc, "metrics": triton.metrics}
    addresses["supervisor"] = join_address(host, port)
    announce(" ".join(["ready:", *(f"{name} {address}" for name, address in addresses.items())]))
    log.info("ready", release=server.release, **addresses)


@contextmanager
def _open_listener(host: str, port: int) -> Iterator[socket.socket]:
    check_port("supervisor_port", port)
    try:
        listener = socket.create_server((host, port), family=family_of(host), dualstack_ipv6=host == "::")
    except OSError as error:
        raise ServerError(
            f"supervisor_port {port} on {host} cannot be used ({error.strerror}); {way_out(host, port)}, "
            "or choose another with --supervisor-port (0: any free one)"
        ) from None
    with listener:
        yield listener


@contextmanager
def _run_app(app: FastAPI, listener: socket.socket) -> Iterator[None]:
    """Run the app in a thread of its own, so that it and the watchdog cannot delay each other."""
    config = uvicorn.Config(
        app,
        log_config=None,  # its messages go through the caller's logging
        access_log=False,
        timeout_graceful_shutdown=_APP_ENDS_S,
    )
    server = uvicorn.Server(config)
    running = run_in_thread(lambda: server.run(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        running.exception()
