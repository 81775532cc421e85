"""One life of the embedded server under the watchdog: its start, its releases, its canaries, its end."""

import contextlib
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE
from operations.releases.model_control import ModelControl
from operations.releases.store import Repository
from operations.server.process import Server, ServerError, ServerSettings
from operations.server.settings import check_repository
from operations.supervisor.canary import Canary
from operations.supervisor.pinned import load_active, load_others
from operations.supervisor.threads import run_in_thread, run_unattended
from operations.supervisor.watchdog import CanaryMissed, Ending, Stopped

LOAD_S = 600  # it reads a release of millions of items and compiles the kernels
SILENT_S = 10  # a loading server still answers whether it is alive
FIRST_ANSWER_S = 20  # for a release that was just loaded, on a busy machine
ENDING_S = 0.5
POLL_S = 0.05


class EmbeddedServer:
    """A server that has answered; the watchdog's `WatchedServer`."""

    def __init__(self, server: Server, canary: Canary, release: int) -> None:
        self.server, self.release = server, release
        self._canary = canary
        self.ask_canary, self.count_answers = canary.ask, canary.count_answers

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.server.exit_code

    def stop(self, drain: bool) -> None:
        """Let requests in flight finish, or kill at once: a hung process obeys no other signal."""
        self._canary.close()
        self.server.stop(grace_s=None if drain else 0)


def open_server(
    settings: ServerSettings, repository: Repository, ending: Ending, on_log: Callable[[str], object]
) -> EmbeddedServer:
    """Start a server on a repository and return it when the active release answers.

    Raises Stopped once `ending` is set, and CestaError with the way out if the server does not get ready.
    """
    check_repository(replace(settings, models=(ENSEMBLE,)))
    server = Server(settings, on_log=on_log)
    with contextlib.ExitStack() as failed:
        failed.callback(server.stop, grace_s=0)
        server.start()
        control = failed.enter_context(ModelControl(server.grpc, settings.control_secret))
        canary = failed.enter_context(Canary(server.grpc))
        loading = run_in_thread(lambda: _load_active(server, repository, control, canary, ending))
        release = _await_release(server, ending, loading, control)
        failed.pop_all()
    run_unattended(lambda: _load_others(repository, control), "other releases not loaded")
    return EmbeddedServer(server, canary, release)


def _load_active(
    server: Server, repository: Repository, control: ModelControl, canary: Canary, ending: Ending
) -> int:
    """Load the active release and return the release that answers."""
    while not (server.exit_code is not None or ending.is_set() or control.is_there()):
        time.sleep(POLL_S)
    load_active(repository, control, server.settings.config)
    try:
        return canary.ask(FIRST_ANSWER_S)
    except CanaryMissed as missed:
        raise ServerError(f"the active release does not answer: {missed}") from None


def _load_others(repository: Repository, control: ModelControl) -> None:
    with control:
        load_others(repository, control)


def _await_release(server: Server, ending: Ending, loading: Future[int], control: ModelControl) -> int:
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
        server.check_stubs()
        alive_s, probed_s = now_s if _is_alive(control) else alive_s, time.monotonic()
        if now_s - began_s > LOAD_S or (alive_s and probed_s - alive_s > SILENT_S):
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
