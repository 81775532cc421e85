"""The watchdog's decisions, on servers and a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from operations.errors import NoRoom, ServerError
from operations.supervisor.watchdog import ROOM_S, CanaryLate, CanaryMissed, Misses, Stopped, Watchdog

DEAD, LATE = CanaryMissed("the stub is not healthy"), CanaryLate("no answer within 1.25 s")
DEADLINE_S = 1.25


class Time:
    """Clock and stop event in one: waiting returns at once, and the end comes at a fixed moment."""

    def __init__(self, ends_s: float) -> None:
        self.now, self._ends_s = 0.0, ends_s

    def clock(self) -> float:
        return self.now

    def is_set(self) -> bool:
        return self.now >= self._ends_s

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return self.is_set()


class Toy:
    """A server whose `canary` gives a release, or a miss, by the seconds since its start."""

    def __init__(
        self,
        time: Time,
        canary: Callable[[float], int | CanaryMissed] = lambda seconds: 1,
        *,
        ends_s: float = 1e9,
        works: bool = False,
    ) -> None:
        self._time, self._canary, self._ends_s, self._works = time, canary, ends_s, works
        self._started = time.now
        self.release = first if isinstance(first := canary(0), int) else 1
        self.asked: list[float] = []
        self.stopped: list[bool] = []

    def ask_canary(self) -> int:
        self.asked.append(self._time.now)
        answer = self._canary(self._time.now - self._started)
        if isinstance(answer, CanaryMissed):
            self._time.now += DEADLINE_S if isinstance(answer, CanaryLate) else 0.01
            raise answer
        self._time.now += 0.01
        return answer

    def count_answers(self) -> tuple[int, ...]:
        return (int(100 * self._time.now),) * 2 if self._works else (7, 7)

    def exit_code(self) -> int | None:
        return -9 if self._time.now - self._started >= self._ends_s else None

    def stop(self, drain: bool) -> None:
        self.stopped.append(drain)


class World:
    """A watchdog whose starts are listed; the last one repeats."""

    def __init__(self, ends_s: float, *starts: Callable[[Time], Toy]) -> None:
        self.time = Time(ends_s)
        self._starts: Iterator[Callable[[Time], Toy]] = iter(starts)
        self._last = starts[-1]
        self.began: list[float] = []
        self.servers: list[Toy] = []
        self.watchdog = Watchdog(self._open, self.time, self.time.clock)

    def run(self) -> list[dict[str, object]]:
        """Run until the end; the logged events."""
        with capture_logs() as events:
            self.watchdog.run()
        return events

    def _open(self) -> Toy:
        self.began.append(self.time.now)
        server = next(self._starts, self._last)(self.time)
        self.servers.append(server)
        return server


def fails(time: Time) -> Toy:
    raise ServerError("no such table")


def has_no_room(time: Time) -> Toy:
    raise NoRoom("/dev/shm has 0 MiB free")


def test_a_healthy_server_is_asked_every_second_and_drained_at_the_end() -> None:
    """There is one start, one canary per second, and nothing to log."""
    world = World(10, Toy)
    assert world.run() == []
    (server,) = world.servers
    assert server.asked == pytest.approx(range(10))
    assert server.stopped == [True]
    assert world.watchdog.restarts.total() == 0


@pytest.mark.parametrize(
    ("trouble", "lost"),
    [
        ({"canary": lambda seconds: 3 if seconds < 4 else DEAD}, "server fails"),
        ({"canary": lambda seconds: 3 if seconds < 4 else LATE}, "server hangs"),
        ({"canary": lambda seconds: 3, "ends_s": 4}, "server ended"),
    ],
)
def test_a_lost_server_is_noticed_and_replaced(trouble: dict[str, object], lost: str) -> None:
    """Within 5 s it is killed, not drained. The next one starts at once, and the log has the duration."""
    world = World(20, lambda time: Toy(time, **trouble), lambda time: Toy(time, lambda seconds: 3))
    events = {event["event"]: event for event in world.run()}

    assert 4 <= world.began[1] < 4 + 5
    assert world.servers[0].stopped == [False]
    assert events[lost]["release"] == 3
    assert events[lost]["log_level"] == "error"
    assert events["server restored"]["release"] == 3
    assert 0 < events["server restored"]["down_s"] < 6
    assert world.watchdog.restarts.total() == 1
    assert world.watchdog.health.release == 3


def test_a_busy_server_is_left_alone() -> None:
    """All canaries are late, and both steps answer other requests: it is not ready, and not started again."""
    world = World(60, lambda time: Toy(time, lambda seconds: LATE if seconds > 5 else 1, works=True))
    events = world.run()
    assert len(world.servers) == 1
    assert [event["event"] for event in events] == ["canary missed"]


def test_one_step_that_stands_still_is_no_busy_server() -> None:
    """The scorer still works off the requests that the sampler passed on before it stopped."""
    misses = Misses()
    assert not misses.record_miss(1.0, late=True, answers=(50, 40))
    assert misses.record_miss(2.0, late=True, answers=(50, 48))


def test_one_missed_canary_is_bad_luck() -> None:
    world = World(20, lambda time: Toy(time, lambda seconds: DEAD if 5 <= seconds < 5.1 else 1))
    events = [event["event"] for event in world.run()]
    assert events == ["canary missed", "canary answered"]
    assert len(world.servers) == 1


def test_one_dead_instance_of_several_is_noticed() -> None:
    """Every other canary fails: successes between do not make up for it."""
    answers = iter([1, DEAD] * 100)
    world = World(20, lambda time: Toy(time, lambda seconds: next(answers)), Toy)
    world.run()
    assert len(world.servers) == 2
    assert world.began[1] < 5


def test_crash_loops_back_off_and_a_minute_of_health_forgets_them() -> None:
    """Pauses of 0, 1, 2, 4 … 60 s separate a server's end from the next start; after steady health it is 0
    again.
    """
    dies = [lambda time: Toy(time, ends_s=0.5)] * 10
    world = World(1000, *dies, lambda time: Toy(time, ends_s=100), Toy)
    world.run()
    ends = [server.asked[-1] + 1 for server in world.servers[:-1]]
    pauses = [began - end for began, end in zip(world.began[1:], ends, strict=True)]
    assert [round(pause) for pause in pauses] == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 0]


def test_a_start_that_fails_later_is_tried_again() -> None:
    """The supervisor stays. Each failure is an event with its reason and the missing release."""
    world = World(30, lambda time: Toy(time, ends_s=3), fails, fails, Toy)
    events = world.run()
    failed = [event for event in events if event["event"] == "start failed"]
    assert [(event["reason"], event["release"]) for event in failed] == [("no such table", 1)] * 2
    assert [event["start_in_s"] for event in failed] == [1, 2]
    assert events[-1]["event"] == "server restored"
    assert world.watchdog.restarts == {"exited": 1, "start": 2}


def test_a_start_without_room_is_tried_every_two_seconds() -> None:
    """It goes on, since nothing is started. A crash loop before and after it goes on backing off."""
    dies = [lambda time: Toy(time, ends_s=0.5)] * 4
    world = World(300, *dies, *[has_no_room] * 40, *dies, Toy)
    events = world.run()
    pauses = [event["start_in_s"] for event in events if "start_in_s" in event]
    assert pauses == [0, 1, 2, 4, *[ROOM_S] * 40, 8, 16, 32, 60]


def test_a_first_start_that_fails_is_the_end() -> None:
    with pytest.raises(ServerError, match="no such table"):
        World(30, fails).run()


def test_a_promotion_is_seen() -> None:
    """Another release answers: an event has both numbers and the time. Nothing restarts."""
    world = World(10, lambda time: Toy(time, lambda seconds: 1 if seconds < 5 else 2))
    (event,) = world.run()
    assert (event["event"], event["release"], event["before"]) == ("release switched", 2, 1)
    assert world.watchdog.health.since_s == pytest.approx(5, abs=0.1)


def stops(time: Time) -> Toy:
    raise Stopped


def test_it_ends_at_any_moment() -> None:
    """The end comes in the first start, in a later one, and in a pause between two. Nothing is started after
    it.
    """
    first = World(5, stops)
    assert first.run() == []
    later = World(50, lambda time: Toy(time, ends_s=3), stops)
    later.run()
    assert [server.stopped[-1] for server in later.servers] == [False]
    pausing = World(10, *[lambda time: Toy(time, ends_s=0.5)] * 20)
    pausing.run()
    assert all(began < 10 for began in pausing.began)


def test_a_lost_server_is_not_drained_at_the_end() -> None:
    """It would not answer; draining would only delay the end."""
    world = World(2.5, lambda time: Toy(time, lambda seconds: LATE if seconds > 1.5 else 1))
    world.run()
    assert world.servers[0].stopped == [False]
