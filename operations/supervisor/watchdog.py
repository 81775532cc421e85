"""The watchdog: it sends a canary every second, restarts a server that does not answer, and backs off.

It knows neither Triton nor the time: it receives the server, the clock and the event that ends it.
"""

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog

from operations.errors import CestaError, NoRoom

log = structlog.get_logger()

INTERVAL_S = 1.0  # from the start of one canary to that of the next
RETRY_S = 0.2  # after a missed canary
ENOUGH_MISSES = 2  # then the server is lost; a single miss may be bad luck
# Two failures within this time are not bad luck, even with answers between: an instance may be dead.
FAILED_WITHIN_S = 5.0
PAUSES_S = (0, 1, 2, 4, 8, 16, 32, 60)  # before each of the starts that follow one another
ROOM_S = 2  # before each look whether there is room for a start; a look costs nothing
STEADY_S = 60.0  # after so long in good health, the pauses begin again

LOST = {  # kind of trouble → event
    "exited": "server ended",
    "failed": "server fails",
    "late": "server hangs",
    "start": "start failed",
}


class CanaryMissed(Exception):  # noqa: N818 - it says what happened
    """A canary without a recommendation."""


class CanaryLate(CanaryMissed):
    """A canary without an answer in time: the server hangs, or is only busy."""


class Stopped(Exception):  # noqa: N818 - as above
    """A start that ended early because the watchdog was told to end."""


class WatchedServer(Protocol):
    """A server that has answered once."""

    @property
    def release(self) -> int:
        """The release that answered."""

    def ask_canary(self) -> int:
        """Send a canary and return the release that answered. Raises CanaryMissed."""

    def count_answers(self) -> tuple[int, ...] | None:
        """Return how many requests each step of the ensemble has answered; None if the server is silent."""

    def exit_code(self) -> int | None:
        """Return the exit code; None while the server runs."""

    def stop(self, drain: bool) -> None:
        """End the server; with `drain`, after the requests in flight."""


class Ending(Protocol):
    """A threading.Event that is set when the watchdog must end."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float | None = None, /) -> bool: ...


@dataclass(frozen=True)
class Health:
    """The state of the server at one moment. Seconds are those of the watchdog's clock."""

    ready: bool = False
    reason: str = "the server is starting"  # why it is not ready
    release: int | None = None  # the release that answered last
    since_s: float | None = None  # when that release first answered
    checked_s: float | None = None  # when the last canary ended, answered or not
    answered_s: float | None = None  # when a canary was last answered


@dataclass
class Misses:
    """Counts missed canaries until they are enough to call the server lost."""

    failed_s: list[float] = field(default_factory=list)  # the times of recent failures
    late: int = 0
    answers: tuple[int, ...] | None = None  # answers of each step, counted after the last late canary

    def record_answer(self) -> None:
        """Forget late canaries, but not recent failures."""
        self.late, self.answers = 0, None

    def record_miss(self, now_s: float, late: bool, answers: tuple[int, ...] | None) -> bool:
        """Count a miss; return whether the server is lost.

        A late canary does not count while every step of the ensemble goes on answering other requests.
        """
        if not late:
            recent_s = [failed_s for failed_s in self.failed_s if now_s - failed_s <= FAILED_WITHIN_S]
            self.failed_s = [*recent_s, now_s]
        elif self.answers and answers and all(a > b for a, b in zip(answers, self.answers, strict=True)):
            self.late = 0
        else:
            self.late += 1
        self.answers = answers
        return self.late + len(self.failed_s) >= ENOUGH_MISSES


class Watchdog:
    """Keeps a server answering from `run` until `ending` is set.

    `open_server` starts a server and returns it when it has answered. It raises Stopped when `ending` is set,
    and CestaError or OSError when the start fails. `on_canary` receives the seconds that each canary took.
    """

    def __init__(
        self,
        open_server: Callable[[], WatchedServer],
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
        self._lost: tuple[str, float] | None = None  # the reason, and the time of the last answered canary

    def run(self) -> None:
        """Serve. An error of the first start is raised; later starts are repeated until one succeeds."""
        with contextlib.suppress(Stopped):
            self._serve(self._open())

    def now(self) -> float:
        """Return the time of the clock that `health` uses."""
        return self._clock()

    def seconds_unhealthy(self) -> float:
        """Return the seconds since the last answered canary; 0 while the server is ready."""
        return 0.0 if self.health.ready else self._clock() - self._last_answer_s()

    def _serve(self, server: WatchedServer) -> None:
        try:
            while (trouble := self._watch(server)) is not None:
                server.stop(drain=False)
                server = self._replace_server(*trouble)
        finally:
            ready = self.health.ready
            self.health = replace(self.health, ready=False, reason="the server is stopping")
            server.stop(drain=ready)

    def _last_answer_s(self) -> float:
        answered_s = self.health.answered_s
        return self._opened_s if answered_s is None else answered_s

    def _open(self) -> WatchedServer:
        self._starts += 1
        server = self._open_server()
        self._opened_s = self._clock()
        self._record_answer(server.release)
        return server

    def _watch(self, server: WatchedServer) -> tuple[str, str] | None:
        """Send canaries until the server is lost; return the trouble's kind and sentence, None at the end."""
        misses = Misses()
        pause_s = 0.0
        while not self._ending.wait(pause_s):
            if (code := server.exit_code()) is not None:
                return "exited", f"tritonserver ended by itself with {code}"
            began = self._clock()
            try:
                release = server.ask_canary()
            except CanaryMissed as missed:
                late = isinstance(missed, CanaryLate)
                answers = server.count_answers() if late else None
                self._record_miss(missed)
                if misses.record_miss(self._clock(), late, answers) and server.exit_code() is None:
                    return "late" if late else "failed", str(missed)
                pause_s = RETRY_S
            else:
                misses.record_answer()
                self._record_answer(release)
                pause_s = max(0.0, began + INTERVAL_S - self._clock())
            self._on_canary(self._clock() - began)
        return None

    def _record_answer(self, release: int) -> None:
        now_s, before = self._clock(), self.health
        if now_s - self._opened_s >= STEADY_S:
            self._starts = 0
        self.health = Health(
            ready=True,
            reason="",
            release=release,
            since_s=before.since_s if before.release == release else now_s,
            checked_s=now_s,
            answered_s=now_s,
        )
        if before.release not in (None, release):
            log.info("release switched", release=release, before=before.release)
        if self._lost:
            reason, lost_s = self._lost
            down = {"down_s": round(now_s - lost_s, 2), "restarts": self.restarts.total()}
            log.info("server restored", release=release, reason=reason, **down)
            self._lost = None
        elif not before.ready and before.answered_s is not None:
            log.info("canary answered", release=release, down_s=round(now_s - before.answered_s, 2))

    def _record_miss(self, missed: CanaryMissed) -> None:
        before = self.health
        self.health = replace(before, ready=False, reason=str(missed), checked_s=self._clock())
        if before.ready:
            log.warning("canary missed", reason=str(missed), release=before.release)

    def _replace_server(self, kind: str, reason: str) -> WatchedServer:
        """Start servers until one replaces the lost one. Raises Stopped."""
        release, since_s = self.health.release, self._last_answer_s()
        self._lost = reason, since_s
        self.health = replace(self.health, ready=False, reason=reason)
        has_room = True
        while True:
            pause_s = PAUSES_S[min(max(self._starts, 1), len(PAUSES_S)) - 1] if has_room else ROOM_S
            down_s = round(self._clock() - since_s, 2)
            log.error(LOST[kind], reason=reason, release=release, down_s=down_s, start_in_s=pause_s)
            if self._ending.wait(pause_s):
                raise Stopped
            self.restarts[kind] += 1
            try:
                return self._open()
            except (CestaError, OSError) as error:
                kind, reason, has_room = "start", str(error), not isinstance(error, NoRoom)
                if not has_room:  # nothing was started
                    self._starts -= 1
                self.health = replace(self.health, ready=False, reason=reason)
