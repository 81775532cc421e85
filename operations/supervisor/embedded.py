"""One life of the embedded server under the watchdog: its start, its releases, its canaries, its end."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace

import structlog

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE
from operations.records.manifest import ReleaseManifest
from operations.releases.model_control import ModelControl
from operations.releases.repository import CONFIG, read_release
from operations.releases.stores.store import Repository
from operations.releases.trial import load_limit_s
from operations.server.process import Server, ServerError, ServerSettings
from operations.server.settings import check_repository
from operations.supervisor.canary import Canary
from operations.supervisor.fallback import Fallback, find_fallback, record_start
from operations.supervisor.pinned import load_active, load_others, load_previous
from operations.supervisor.threads import run_in_thread, run_unattended
from operations.supervisor.watchdog import CanaryMissed, Ending, Stopped

log = structlog.get_logger()

LOAD_S = 600  # of a release whose size is unknown
SILENT_S = 10  # a loading server still answers whether it is alive
FIRST_ANSWER_S = 20  # for a release that was just loaded, on a busy machine
ENDING_S = 0.5
POLL_S = 0.05


class EmbeddedServer:
    """A server that has answered; the watchdog's `WatchedServer`."""

    def __init__(
        self, server: Server, canary: Canary, release: int, fallback: Fallback | None = None
    ) -> None:
        self.server, self.release, self.fallback = server, release, fallback
        self._canary = canary
        self.ask_canary, self.count_answers = canary.ask, canary.count_answers

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.server.exit_code

    def stop(self, drain: bool) -> None:
        """Let requests in flight finish, or kill at once: a hung process obeys no other signal."""
        self._canary.close()
        self.server.stop(grace_s=None if drain else 0)


class _ReleaseFailedError(Exception):
    """The server listened, and then a release did not load or did not answer."""


def open_server(
    settings: ServerSettings, repository: Repository, ending: Ending, on_log: Callable[[str], object]
) -> EmbeddedServer:
    """Start a server on a repository and return it when the active release answers, or else the previous one.

    Raises Stopped once `ending` is set, and CestaError with the way out if the server does not get ready.
    """
    if (repository / ENSEMBLE / CONFIG).exists() or find_fallback(repository, "") is None:
        check_repository(replace(settings, models=(ENSEMBLE,)))  # else that config is lost
    start = _Start(settings, repository, ending, on_log)
    try:
        return start.with_active()
    except _ReleaseFailedError as failed:
        reason = str(failed)
    return start.with_previous(reason)


@dataclass(frozen=True)
class _Start:
    """The start of a server with one release."""

    settings: ServerSettings
    repository: Repository
    ending: Ending
    on_log: Callable[[str], object]

    def with_active(self) -> EmbeddedServer:
        """Serve the active release. Raises _ReleaseFailedError if the server could serve another one."""
        config = self.settings.config
        return self._open(
            lambda control: load_active(self.repository, control, config), _read(self.repository, None)
        )

    def with_previous(self, reason: str) -> EmbeddedServer:
        """Serve the previous release, on a new server: the active one failed for ``reason``."""
        fallback, config = find_fallback(self.repository, reason), self.settings.config
        if fallback is None:
            raise ServerError(reason)
        release = fallback.release
        log.error("active release not served", active=fallback.active, instead=release, reason=reason)
        try:
            return self._open(
                lambda control: load_previous(self.repository, control, release, config),
                _read(self.repository, release),
                fallback,
            )
        except (_ReleaseFailedError, CestaError) as error:
            raise ServerError(f"{reason}; and {error}") from None

    def _open(
        self,
        load: Callable[[ModelControl], int],
        described: ReleaseManifest | None,
        fallback: Fallback | None = None,
    ) -> EmbeddedServer:
        server = Server(self.settings, on_log=self.on_log)
        with contextlib.ExitStack() as failed:
            failed.callback(server.stop, grace_s=0)
            server.start()
            control = failed.enter_context(ModelControl(server.grpc, self.settings.control_secret))
            canary = failed.enter_context(Canary(server.grpc))
            listening = threading.Event()

            def load_and_ask() -> int:
                self._await_listening(server, control, listening)
                load(control)
                return _ask(canary)

            limit_s = load_limit_s(described, self.settings.config) if described else LOAD_S
            try:
                release = _await_release(server, self.ending, run_in_thread(load_and_ask), control, limit_s)
            except (CestaError, OSError) as error:
                if not listening.is_set():
                    raise
                raise _ReleaseFailedError(_sentence(error, described)) from None
            failed.pop_all()
        run_unattended(lambda: self._complete(control, release, fallback), "other releases not loaded")
        return EmbeddedServer(server, canary, release, fallback)

    def _await_listening(self, server: Server, control: ModelControl, listening: threading.Event) -> None:
        while not (server.exit_code is not None or self.ending.is_set() or control.is_there()):
            time.sleep(POLL_S)
        if server.exit_code is None:
            listening.set()

    def _complete(self, control: ModelControl, release: int, fallback: Fallback | None) -> None:
        """Write the record of the start, and load the other releases."""
        record_start(self.repository, release, fallback)
        with control:
            load_others(self.repository, control)


def _ask(canary: Canary) -> int:
    """The release that answers a first canary."""
    try:
        return canary.ask(FIRST_ANSWER_S)
    except CanaryMissed as missed:
        raise ServerError(f"it does not answer: {missed}") from None


def _sentence(error: CestaError | OSError, described: ReleaseManifest | None) -> str:
    """The error with its release, which those of a server and of a disk lack."""
    if described and isinstance(error, ServerError | OSError):
        return f"release {described.release} cannot be served: {error}"
    return str(error)


def _read(repository: Repository, release: int | None) -> ReleaseManifest | None:
    """A manifest; None if it is damaged: the check before the load says so."""
    try:
        return read_release(repository, release)
    except (CestaError, OSError):
        return None


def _await_release(
    server: Server, ending: Ending, loading: Future[int], control: ModelControl, limit_s: float
) -> int:
    """Return the result of `loading`.

    Raises Stopped once `ending` is set, and ServerError if the server or a stub ends, or falls silent.
    """
    began_s = probed_s = time.monotonic()
    alive_s: float | None = None  # the last sign of life; at first the server does not listen yet
    while not loading.done() and server.exit_code is None:
        if ending.wait(POLL_S):
            raise Stopped
        if (now_s := time.monotonic()) - probed_s < 1:
            continue
        if not loading.done():
            server.check_stubs()
        alive_s, probed_s = now_s if _is_alive(control) else alive_s, time.monotonic()
        if now_s - began_s > limit_s or (alive_s and probed_s - alive_s > SILENT_S):
            raise ServerError(f"tritonserver does not get ready and does not end:\n{server.log_tail}")
    failure = loading.exception() if loading.done() else None
    if loading.done() and failure is None:
        return loading.result()
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = server.wait(ENDING_S)  # when a server ends, its calls fail first
        server.stop(grace_s=0)  # reads the log to its end
        raise ServerError(f"tritonserver ended with {code} while starting:\n{server.log_tail}")
    assert failure is not None  # the server still runs, so `loading` is done and failed
    raise failure


def _is_alive(control: ModelControl) -> bool:
    try:
        return control.is_there(timeout_s=1)
    except CestaError:
        return False
