"""One life of the embedded server under the watchdog: its start, its releases, its canaries, its end."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

import structlog

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE
from operations.records.manifest import ReleaseManifest
from operations.releases.mirror.local_files import LocalFiles, local_files
from operations.releases.model_control import ModelControl
from operations.releases.repository import CONFIG, read_release, require_active
from operations.releases.stores.store import Repository
from operations.releases.trial import load_limit_s
from operations.server.process import Server, ServerError, ServerSettings
from operations.server.settings import check_repository
from operations.supervisor.canary import Canary
from operations.supervisor.fallback import Fallback, find_fallback, record_start
from operations.supervisor.pinned import NOBODY, load_active, load_named, load_others
from operations.supervisor.threads import run_in_thread, run_unattended
from operations.supervisor.watchdog import CanaryMissed, Ending, Stopped

log = structlog.get_logger()

LOAD_S = 600  # of a release whose size is unknown
SILENT_S = 10  # a loading server still answers whether it is alive
FIRST_ANSWER_S = 20  # for a release that was just loaded, on a busy machine
ENDING_S = 0.5
POLL_S = 0.05
LOADED_S = 2.0  # between two looks at what is loaded; a command keeps what it loads for much longer


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
    settings: ServerSettings,
    repository: Repository,
    ending: Ending,
    on_log: Callable[[str], object],
    pinned: int | None = None,
) -> EmbeddedServer:
    """Start a server on a repository and return it when the active release answers, or else the previous one.

    With ``pinned``, only that release answers, whichever one is active.

    Raises Stopped once `ending` is set, and CestaError with the way out if the server does not get ready.
    """
    local = local_files(repository)
    local.refresh(starting=True)
    settings = replace(settings, repository=local.folder.root)
    is_named = pinned is None and not local.is_copy
    if is_named and ((repository / ENSEMBLE / CONFIG).exists() or not find_fallback(repository, "")):
        check_repository(replace(settings, models=(ENSEMBLE,)))  # else that config is lost
    start = _Start(settings, local, ending, on_log, pinned)
    with contextlib.ExitStack() as failed:
        failed.callback(local.close)
        server = start.serve()
        failed.pop_all()
    return server


@dataclass(frozen=True)
class _Start:
    """The start of a server with one release."""

    settings: ServerSettings
    local: LocalFiles
    ending: Ending
    on_log: Callable[[str], object]
    pinned: int | None = None

    def serve(self) -> EmbeddedServer:
        """Serve the pinned release, or the active one or, if that fails, the previous one."""
        if self.pinned is not None:
            return self.with_pinned(self.pinned)
        try:
            return self.with_active()
        except _ReleaseFailedError as failed:
            reason = str(failed)
        return self.with_previous(reason)

    def with_active(self) -> EmbeddedServer:
        """Serve the active release. Raises _ReleaseFailedError if the server could serve another one."""
        config = self.settings.config
        return self._open(lambda control: load_active(self.local, control, config), self._read(None))

    def with_pinned(self, release: int) -> EmbeddedServer:
        """Serve a release and no other: whoever names it does not want another one instead."""
        config = self.settings.config
        try:
            return self._open(
                lambda control: load_named(self.local, control, release, config, NOBODY), self._read(release)
            )
        except _ReleaseFailedError as failed:
            raise ServerError(str(failed)) from None

    def with_previous(self, reason: str) -> EmbeddedServer:
        """Serve the previous release, on a new server: the active one failed for ``reason``."""
        fallback, config = find_fallback(self.local.folder, reason), self.settings.config
        if fallback is None:
            raise ServerError(reason)
        release = fallback.release
        log.error("active release not served", active=fallback.active, instead=release, reason=reason)
        try:
            return self._open(
                lambda control: load_named(self.local, control, release, config),
                self._read(release),
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
        complete = partial(self._complete, server, control, release, fallback)
        run_unattended(complete, "other releases not loaded")
        return EmbeddedServer(server, canary, release, fallback)

    def _await_listening(self, server: Server, control: ModelControl, listening: threading.Event) -> None:
        while not (server.exit_code is not None or self.ending.is_set() or control.is_there()):
            time.sleep(POLL_S)
        if server.exit_code is None:
            listening.set()

    def _complete(
        self, server: Server, control: ModelControl, release: int, fallback: Fallback | None
    ) -> None:
        """Write the record of the start, load the other releases, and keep a mirror from deleting them.

        A pinned server loads no others, and says nothing about the repository's active release.
        """
        if self.pinned is None:
            record_start(self.local.origin, release, fallback)
        with control, contextlib.closing(self.local):
            if self.pinned is None:
                load_others(self.local, control)
            while self.local.is_copy and server.exit_code is None:
                _keep_loaded(self.local, control)
                time.sleep(LOADED_S)

    def _read(self, release: int | None) -> ReleaseManifest | None:
        """A manifest; None if it is damaged or not here: the check before the load says so."""
        for repository in (self.local.folder, self.local.origin):
            try:
                number = require_active(self.local.folder) if release is None else release
                return read_release(repository, number)
            except (CestaError, OSError):
                continue
        return None


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


def _keep_loaded(local: LocalFiles, control: ModelControl) -> None:
    """Keep the releases that the server has loaded, which a command may change at any time."""
    with contextlib.suppress(CestaError, OSError):  # it is busy, or ends
        local.keep_only({release for loaded in control.ready_parts().values() for release in loaded})


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
            raise ServerError(
                f"tritonserver is not ready after {now_s - began_s:.0f} s; start it again when the machine "
                f"is less busy. Its last lines:\n{server.log_tail}"
            )
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
