"""The watchdog: asks a canary every second, starts the server again when it does not answer, backs off.

It knows neither Triton nor the time: server, clock and the event that ends it are given to it.
"""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from operations.errors import CestaError
from operations.server.process import ServerError

log = structlog.get_logger()

INTERVAL_S = 1.0  # from the start of one canary to that of the next
AGAIN_S = 0.2  # after a canary that was missed
ENOUGH = 2  # missed canaries: one may be bad luck
FAILED_WITHIN_S = 5.0  # two failures so close are no luck, whatever was answered between: one of several
# instances may be dead
PAUSES_S = (0, 1, 2, 4, 8, 16, 32, 60)  # before one start after the other
STEADY_S = 60.0  # of health: then the next start is the first of a new row


LOST = {  # kind of trouble → event
    "exited": "server ended",
    "failed": "server fails",
    "late": "server hangs",
    "start": "start failed",
}


class CanaryMissed(Exception):  # noqa: N818 - it says what happened
    """A canary that brought no recommendation."""


class CanaryLate(CanaryMissed):
    """It brought none in time: the server may be hung, or only busy."""


class Stopped(Exception):  # noqa: N818 - likewise
    """A start that was given up, since the watchdog was asked to stop."""


class Served(Protocol):
    """A server that has answered once."""

    @property
    def release(self) -> int:
        """That answered."""

    def canary(self) -> int:
        """The release that answered. Raises CanaryMissed."""

    def answered(self) -> tuple[int, ...] | None:
        """How much each step of the ensemble has answered so far; None if the server does not tell."""

    def exit_code(self) -> int | None:
        """None while it runs."""

    def stop(self, drain: bool) -> None:
        """End it, with or without answering what is in flight."""


class Ending(Protocol):
    """A threading.Event that is set when the watchdog is to end."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float | None = None, /) -> bool: ...


@dataclass(frozen=True)
class Health:
    """What is known at a moment. Seconds are the watchdog's clock's."""

    ready: bool = False
    reason: str = "the server is starting"  # why it is not ready
    release: int | None = None  # that answered last
    since_s: float | None = None  # it answers since then
    asked_s: float | None = None  # the last canary came back, or was given up
    answered_s: float | None = None  # the last good one came back


@dataclass
class Misses:
    """Canaries that brought nothing, and whether they are enough to call the server lost."""

    failed: list[float] = field(default_factory=list)
    late: int = 0
    answered: tuple[int, ...] | None = None  # when the last late one was given up

    def none(self) -> None:
        """A canary was answered."""
        self.late, self.answered = 0, None

    def one(self, now: float, late: bool, answered: tuple[int, ...] | None) -> bool:
        """Is the server lost? A late one does not count while each step of the ensemble goes on answering."""
        if not late:
            self.failed = [then for then in self.failed if now - then <= FAILED_WITHIN_S] + [now]
        elif self.answered and answered and all(a > b for a, b in zip(answered, self.answered, strict=True)):
            self.late = 0
        else:
            self.late += 1
        self.answered = answered
        return self.late + len(self.failed) >= ENOUGH


class Watchdog:
    """Keeps a server answering from `run` until `ending` is set.

    `open_server` starts one and returns it when it has answered; it raises Stopped when `ending` is set, and
    ServerError, CestaError or OSError when there can be none. `on_canary` gets the seconds each canary took.
    """

    def __init__(
        self,
        open_server: Callable[[], Served],
        ending: Ending,
        clock: Callable[[], float],
        *,
        on_canary: Callable[[float], object] = lambda seconds: None,
    ) -> None:
        self.health = Health()  # replaced as a whole, so that other threads may read it
        self.restarts: Counter[str] = Counter()  # by kind of trouble, see LOST
        self._open_server, self._ending, self._clock, self._on_canary = open_server, ending, clock, on_canary
        self._starts = 0  # since the server was healthy for STEADY_S
        self._opened_s = clock()
        self._lost: tuple[str, float] | None = None  # the reason, and when a canary was last answered

    def run(self) -> None:
        """Serve. Raises what the first start raises; later ones go on trying."""
        with contextlib.suppress(Stopped):
            self._serve(self._open())

    def now(self) -> float:
        """The clock that `health` is told by."""
        return self._clock()

    def seconds_unhealthy(self) -> float:
        """Since the last canary that was answered, 0 while the server is ready."""
        return 0.0 if self.health.ready else self._clock() - self._last_answer()

    def _serve(self, server: Served) -> None:
        try:
            while (trouble := self._watch(server)) is not None:
                server.stop(drain=False)
                server = self._replace(*trouble)
        finally:
            ready = self.health.ready
            self._now(ready=False, reason="the server is stopping")
            server.stop(drain=ready)

    def _last_answer(self) -> float:
        answered_s = self.health.answered_s
        return self._opened_s if answered_s is None else answered_s

    def _open(self) -> Served:
        self._starts += 1
        server = self._open_server()
        self._opened_s = self._clock()
        self._answered(server.release)
        return server

    def _watch(self, server: Served) -> tuple[str, str] | None:
        """Ask until the server is lost: the kind of trouble and its sentence; None when asked to end."""
        misses = Misses()
        pause_s = 0.0
        while not self._ending.wait(pause_s):
            if (code := server.exit_code()) is not None:
                return "exited", f"tritonserver ended by itself with {code}"
            began = self._clock()
            try:
                release = server.canary()
            except CanaryMissed as missed:
                late = isinstance(missed, CanaryLate)
                answered = server.answered() if late else None
                self._missed(missed)
                if misses.one(self._clock(), late, answered) and server.exit_code() is None:
                    return "late" if late else "failed", str(missed)
                pause_s = AGAIN_S
            else:
                misses.none()
                self._answered(release)
                pause_s = max(0.0, began + INTERVAL_S - self._clock())
            self._on_canary(self._clock() - began)
        return None

    def _answered(self, release: int) -> None:
        now, before = self._clock(), self.health
        if now - self._opened_s >= STEADY_S:
            self._starts = 0
        since = before.since_s if before.release == release else now
        self._now(ready=True, reason="", release=release, since_s=since, asked_s=now, answered_s=now)
        if before.release not in (None, release):
            log.info("release switched", release=release, before=before.release)
        if self._lost:
            reason, lost_s = self._lost
            down = {"down_s": round(now - lost_s, 2), "restarts": self.restarts.total()}
            log.info("server restored", release=release, reason=reason, **down)
            self._lost = None
        elif not before.ready and before.answered_s is not None:
            log.info("canary answered", release=release, down_s=round(now - before.answered_s, 2))

    def _missed(self, missed: CanaryMissed) -> None:
        before = self.health
        self._now(ready=False, reason=str(missed), asked_s=self._clock())
        if before.ready:
            log.warning("canary missed", reason=str(missed), release=before.release)

    def _replace(self, kind: str, reason: str) -> Served:
        """A server in place of one that is lost, however many starts it takes. Raises Stopped."""
        release, since = self.health.release, self._last_answer()
        self._lost = reason, since
        self._now(ready=False, reason=reason)
        while True:
            pause_s = PAUSES_S[min(max(self._starts, 1), len(PAUSES_S)) - 1]
            down_s = round(self._clock() - since, 2)
            log.error(LOST[kind], reason=reason, release=release, down_s=down_s, start_in_s=pause_s)
            if self._ending.wait(pause_s):
                raise Stopped
            self.restarts[kind] += 1
            try:
                return self._open()
            except (ServerError, CestaError, OSError) as error:
                kind, reason = "start", str(error)
                self._now(ready=False, reason=reason)

    def _now(self, **changes: object) -> None:
        self.health = dataclasses.replace(self.health, **changes)  # type: ignore[arg-type]
