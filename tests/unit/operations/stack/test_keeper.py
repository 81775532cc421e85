"""A program is started again, ever later; after ten failures in ten minutes it is given up and reported."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from operations.errors import CestaError
from operations.stack.keeper import PAUSES_S, Keeper


@dataclass
class World:
    """A program that follows a script, a clock that only waiting moves, and the event that ends it."""

    starts: list[Exception | float]  # each start fails, or the program lives for some seconds
    now_s: float = 0.0
    started_s: list[float] = field(default_factory=list)
    stopped: int = 0
    log: Path = Path("/somewhere/log")
    _dies_s: float = 0.0
    _over: bool = False

    def start(self) -> None:
        self.started_s.append(self.now_s)
        if len(self.started_s) > len(self.starts):
            self._over, self._dies_s = True, float("inf")
            return
        result = self.starts[len(self.started_s) - 1]
        if isinstance(result, Exception):
            raise result
        self._dies_s = self.now_s + result

    @property
    def exit_code(self) -> int | None:
        return -9 if self.now_s >= self._dies_s else None

    def stop(self) -> None:
        self.stopped += 1

    def wait(self, timeout: float | None = None, /) -> bool:
        self.now_s = round(self.now_s + (timeout or 0), 6)
        return self._over

    def keep(self) -> Keeper:
        """Run a keeper until the script is over or the program is given up."""
        keeper = Keeper("gateway", self, self, lambda: self.now_s)
        keeper.stop()
        keeper.run()
        return keeper


def test_a_program_that_dies_at_once_is_started_ever_later_and_given_up() -> None:
    """Ten failures: nine starts again. The sentence has name, number, reason and log."""
    world = World([0.0] * 20)
    with capture_logs() as events:
        keeper = world.keep()
    gaps = [later - earlier for earlier, later in zip(world.started_s, world.started_s[1:], strict=False)]
    assert gaps == pytest.approx([pause + 0.1 for pause in PAUSES_S])  # a death is seen after 0.1 s
    assert keeper.given_up == (
        "gateway failed 10 times within 10 minutes and is not started again: it was ended by signal 9; "
        "its log is /somewhere/log"
    )
    assert (events[-1]["event"], events[-1]["program"], events[-1]["failures"]) == (
        "program given up",
        "gateway",
        10,
    )
    assert world.stopped == 1


def test_a_start_that_fails_counts_like_a_death() -> None:
    """The reason is the error's sentence."""
    world = World([5.0, *[CestaError("127.0.0.1:8080 cannot be used")] * 4, OSError("disk full"), 700.0, 1.0])
    with capture_logs() as events:
        keeper = world.keep()
    assert keeper.given_up == ""
    assert len(world.started_s) == 9
    assert [event["reason"] for event in events if event["event"] == "program ended"][4:6] == [
        "127.0.0.1:8080 cannot be used",
        "disk full",
    ]
    restored = [event for event in events if event["event"] == "program restored"]
    assert restored[0]["down_s"] == pytest.approx(sum(PAUSES_S[:6]))


def test_failures_of_more_than_ten_minutes_ago_are_forgotten() -> None:
    """A program that dies every two minutes is kept up for ever, and its pauses stay short."""
    world = World([120.0] * 30)
    with capture_logs() as events:
        keeper = world.keep()
    assert keeper.given_up == ""
    assert max(event["start_in_s"] for event in events if event["event"] == "program ended") <= PAUSES_S[4]


def test_the_first_start_is_not_repeated() -> None:
    """The error is raised: a port that is taken ends the stack at once."""
    world = World([CestaError("127.0.0.1:9090 cannot be used"), 5.0])
    with pytest.raises(CestaError, match="9090"):
        world.keep()
    assert (len(world.started_s), world.stopped) == (1, 1)


def test_the_first_start_of_monitoring_is_repeated() -> None:
    """Shops do not wait for it: with a damaged folder of Prometheus they are answered all the same."""
    world = World([CestaError("prometheus ended"), OSError("disk full"), 5.0])
    keeper = Keeper("prometheus", world, world, lambda: world.now_s, needed=False)
    keeper.stop()
    with capture_logs() as events:
        keeper.run()
    assert keeper.ready.is_set()
    assert keeper.late
    assert [event["event"] for event in events[:3]] == ["program ended", "program ended", "program restored"]


def test_an_error_that_nobody_foresaw_does_not_end_the_keeper() -> None:
    """Nobody else would start the program again, or say that it is down."""
    world = World([1.0, UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 5.0])
    with capture_logs() as events:
        world.keep()
    assert "invalid start byte" in next(event["reason"] for event in events[1:] if "reason" in event)
    assert [event["event"] for event in events if event["event"] == "program restored"]


def test_nothing_is_started_once_it_ends() -> None:
    """A program that dies while the stack stops stays down."""
    world = World([1.0])
    world.wait = lambda timeout=None: True  # type: ignore[method-assign]
    world.keep()
    assert (len(world.started_s), world.stopped) == (1, 1)


def test_a_closed_terminal_lets_no_program_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("operations.stack.keeper.log.error", broken, raising=False)
    world = World([1.0, 1.0])
    assert world.keep().given_up == ""
    assert len(world.started_s) == 3


def test_a_program_runs_until_its_turn_to_stop() -> None:
    """The gateway stops before the server behind it."""
    world = World([])
    keeper = Keeper("gateway", world, world, lambda: world.now_s)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    assert keeper.ready.wait(5)
    assert world.stopped == 0
    keeper.stop()
    thread.join(5)
    assert world.stopped == 1
