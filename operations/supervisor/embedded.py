"""One life of the embedded server under the watchdog: started, loaded, asked, ended."""

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
from operations.supervisor.threads import alone, in_thread
from operations.supervisor.watchdog import CanaryMissed, Ending, Stopped

LOAD_S = 600  # a release of millions of items is read, and its kernels are compiled
SILENT_S = 10  # a server that loads goes on answering whether it lives
FIRST_ANSWER_S = 20  # of a release that was just loaded, on a busy machine
ENDING_S = 0.5
POLL_S = 0.05


class EmbeddedServer:
    """A server that has answered; `Served` of the watchdog."""

    def __init__(self, server: Server, canary: Canary, release: int) -> None:
        self.server, self.release = server, release
        self._canary = canary
        self.canary, self.answered = canary.ask, canary.answered

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.server.exit_code

    def stop(self, drain: bool) -> None:
        """Let in-flight requests finish, or kill at once: a hung process hears no signal but that."""
        self._canary.close()
        self.server.stop(grace_s=None if drain else 0)


def open_server(
    settings: ServerSettings, repository: Repository, ending: Ending, on_log: Callable[[str], object]
) -> EmbeddedServer:
    """Start a server on a repository and return it when the active release answers.

    Raises Stopped once `ending` is set; ServerError or CestaError with the way out when it does not come up.
    """
    check_repository(replace(settings, models=(ENSEMBLE,)))
    server = Server(settings, on_log=on_log)
    with contextlib.ExitStack() as failed:
        failed.callback(server.stop, grace_s=0)
        server.start()
        control = failed.enter_context(ModelControl(server.grpc, settings.control_secret))
        canary = failed.enter_context(Canary(server.grpc))
        loading = in_thread(lambda: _bring_up(server, repository, control, canary, ending))
        release = _until(server, ending, loading, control)
        failed.pop_all()
    alone(lambda: _load_rest(repository, control), "other releases not loaded")
    return EmbeddedServer(server, canary, release)


def _bring_up(
    server: Server, repository: Repository, control: ModelControl, canary: Canary, ending: Ending
) -> int:
    """Have the active release loaded; the release that answers."""
    while not (server.exit_code is not None or ending.is_set() or control.is_there()):
        time.sleep(POLL_S)
    load_active(repository, control, server.settings.config)
    try:
        return canary.ask(FIRST_ANSWER_S)
    except CanaryMissed as missed:
        raise ServerError(f"the active release does not answer: {missed}") from None


def _load_rest(repository: Repository, control: ModelControl) -> None:
    with control:
        load_others(repository, control)


def _until(server: Server, ending: Ending, done: Future[int], control: ModelControl) -> int:
    """The result of `done`, unless asked to end, or the server ends or falls silent on the way."""
    began = asked = time.monotonic()
    heard: float | None = None  # that it lives; it does not listen from the first moment
    while not done.done() and server.exit_code is None:
        if ending.wait(POLL_S):
            raise Stopped
        if (now := time.monotonic()) - asked < 1:
            continue
        heard, asked = now if _lives(control) else heard, time.monotonic()
        if now - began > LOAD_S or (heard and asked - heard > SILENT_S):
            raise ServerError(f"tritonserver does not get ready and does not end:\n{server.log_tail}")
    failure = done.exception() if done.done() else None
    if done.done() and failure is None:
        return done.result()
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = server.wait(ENDING_S)  # a call that fails since the server ends comes back first
        server.stop(grace_s=0)  # reads its log to the end
        raise ServerError(f"tritonserver ended with {code} while starting:\n{server.log_tail}")
    assert failure is not None
    raise failure


def _lives(control: ModelControl) -> bool:
    try:
        return control.is_there(timeout_s=1)
    except CestaError:
        return False
