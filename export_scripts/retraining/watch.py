"""Watches a canary release until it can be judged, or until it is evident that it harms shops."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from export_scripts.retraining.journal import Canary, Verdict
from export_scripts.retraining.judgement import is_evidently_worse, judge
from export_scripts.retraining.outcome import Outcome, Stopped
from export_scripts.retraining.server import Server
from export_scripts.retraining.tally import add
from export_scripts.settings import RetrainSettings
from operations.errors import NoAnswer
from operations.gateway.traffic import Counts

MINUTE_S: Final = 60.0
LOOK_S: Final = 5.0  # the gateway's counts are a page of some kilobytes
SILENCE_S: Final = 120.0  # without an answer; a supervisor, a gateway or a machine starts again in less

log = structlog.get_logger()


@dataclass(frozen=True)
class Clock:
    """The time that a watch takes; a test has another."""

    now: Callable[[], float] = time.time  # Unix time: a watch goes on in another process
    pause: Callable[[float], None] = time.sleep


REAL: Final = Clock()


def watch(
    server: Server,
    canary: Canary,
    active: int,
    settings: RetrainSettings,
    save: Callable[[], None],
    clock: Clock,
) -> Verdict:
    """Add up what shops are answered until ``canary.until_s``, and judge it.

    ``save`` is called after each look, so that a killed watch goes on with its counts. Raises Stopped if
    somebody else changes the active or the canary release, or if the gateway is silent for SILENCE_S.
    """
    heard_s = clock.now()
    while True:
        # A clock that was set back would otherwise make a watch of an hour one of a year.
        canary.until_s = min(canary.until_s, clock.now() + settings.minutes * MINUTE_S)
        heard_s = min(heard_s, clock.now())
        try:
            add(canary, look(server, canary.release, active))
            heard_s = clock.now()
            save()
        except NoAnswer as error:
            if clock.now() - heard_s > SILENCE_S:
                raise Stopped(
                    Outcome.NO_GATEWAY,
                    f"{error}. Release {canary.release} stays the canary release; the next run goes on",
                ) from None
            log.warning("traffic not read", reason=str(error))
        if is_evidently_worse(canary, active, settings) or clock.now() >= canary.until_s:
            return judge(canary, active, settings)
        clock.pause(max(0.0, min(LOOK_S, canary.until_s - clock.now())))


def look(server: Server, canary: int, active: int) -> Counts:
    """The counts, while both releases are still what they were. Raises NoAnswer without a gateway."""
    traffic = server.traffic()
    if traffic["active"] != active:
        raise Stopped(
            Outcome.OVERTAKEN,
            f"release {traffic['active']} became the active one while release {canary} was watched, which "
            f"ended its canary; release {active} was active before",
        )
    if traffic["canary"] != canary:
        other = "none is" if traffic["canary"] is None else f"release {traffic['canary']} is"
        raise Stopped(
            Outcome.OVERTAKEN,
            f"release {canary} is not the canary release any more, {other}: somebody else ended its watch",
        )
    if traffic["counts"] is None:
        raise NoAnswer("no gateway answers the supervisor, so nobody counts the requests")
    return traffic["counts"]
