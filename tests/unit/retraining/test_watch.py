"""A watch: how long it lasts, what ends it, what it makes of a gateway that is silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from export_scripts.retraining.journal import Canary, Journal
from export_scripts.retraining.lock import locked
from export_scripts.retraining.outcome import Outcome, Stopped, outcome_of
from export_scripts.retraining.watch import SILENCE_S, watch
from export_scripts.settings import LEAST_PERCENT, load_settings
from operations.errors import CestaError, NoAnswer
from operations.gateway.traffic import Traffic
from operations.releases import canary
from operations.releases.stores.store import open_repository
from tests.running.scripted_server import Hours

SETTINGS = load_settings(overrides={"retrain.minutes": 10.0}).retrain


class Scripted:
    """Answers one traffic after the other, and then the last one; an error is raised."""

    def __init__(self, *answers: Traffic | Exception) -> None:
        self.answers = list(answers)

    def traffic(self) -> Traffic:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def traffic(requests: float = 0, failed: float = 0, active: int = 1, canary: int | None = 2) -> Traffic:
    counts = {"answered": {"recommender_canary": requests, "recommender": 9 * requests}}
    counts |= {"failed": {"recommender_canary": failed}}
    counts |= {name: {"2": requests} for name in ("timed", "quick", "queries", "items")}
    return {"active": active, "canary": canary, "counts": counts}


def watched(hours: Hours, *answers: Traffic | Exception) -> tuple[str, int]:
    """The finding, and the number of requests."""
    canary = Canary(release=2, percent=10, started_s=hours.now_s, until_s=hours.now_s + 600)
    server = Scripted(*answers)
    verdict = watch(server, canary, 1, SETTINGS, lambda: None, hours.clock)  # type: ignore[arg-type]
    return verdict.found, verdict.requests


def test_a_good_release_is_watched_to_the_end() -> None:
    hours = Hours()
    begun_s = hours.now_s
    assert watched(hours, traffic(), traffic(1500)) == ("as good", 1500)
    assert hours.now_s == begun_s + 600


@pytest.mark.parametrize("at", [1, 20])
def test_a_clock_that_is_set_back_does_not_make_the_watch_a_year_long(at: int) -> None:
    """It begins again at most: a machine starts with a wrong clock, and then asks for the time."""
    hours, looks = Hours(), 0

    class SetBack(Scripted):
        def traffic(self) -> Traffic:
            nonlocal looks
            looks += 1
            if looks == at:
                hours.now_s -= 365 * 86_400
            return super().traffic()

    canary = Canary(release=2, percent=10, started_s=hours.now_s, until_s=hours.now_s + 600)
    server = SetBack(traffic(), traffic(1500))
    verdict = watch(server, canary, 1, SETTINGS, lambda: None, hours.clock)  # type: ignore[arg-type]
    assert verdict.found == "as good"
    assert looks <= at + 600 / 5 + 1


def test_a_release_that_fails_is_not_watched_to_the_end() -> None:
    """The second look sees 1,500 failures."""
    hours = Hours()
    begun_s = hours.now_s
    assert watched(hours, traffic(), traffic(1500, failed=1500)) == ("worse", 1500)
    assert hours.now_s == begun_s + 5


@pytest.mark.parametrize(
    ("later", "words"),
    [
        (traffic(active=3), "release 3 became the active one while release 2 was watched"),
        (traffic(canary=None), "release 2 is not the canary release any more, none is"),
        (traffic(canary=4), "release 2 is not the canary release any more, release 4 is"),
    ],
)
def test_somebody_elses_change_ends_a_watch(later: Traffic, words: str) -> None:
    with pytest.raises(Stopped, match=words) as e:
        watched(Hours(), traffic(), later)
    assert e.value.outcome is Outcome.OVERTAKEN


def test_a_short_silence_is_waited_for() -> None:
    assert watched(Hours(), traffic(), NoAnswer("starts again"), traffic(1500)) == ("as good", 1500)


def test_a_long_silence_ends_the_run_and_not_the_canary() -> None:
    hours = Hours()
    begun_s = hours.now_s
    with pytest.raises(Stopped, match="the next run goes on") as e:
        watched(hours, traffic(), NoAnswer("nobody is there"))
    assert e.value.outcome is Outcome.NO_GATEWAY
    assert SILENCE_S < hours.now_s - begun_s < SILENCE_S + 20


def test_a_full_disk_is_seen_behind_a_sentence() -> None:
    def explain() -> None:
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise CestaError("not published: free some space") from None

    with pytest.raises(CestaError) as e:
        explain()
    assert outcome_of(e.value) is Outcome.DISK_FULL


def test_a_damaged_record_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "retraining.json").write_text('{"runs": [{"started_at": 7}]}')
    with pytest.raises(CestaError, match=r"retraining.json is damaged: .*runs.0.started_at.* delete it"):
        Journal(tmp_path, open_repository(tmp_path / "repository"), 60)


def test_the_lock_is_free_again_after_a_run(tmp_path: Path) -> None:
    entered = 0
    for _ in range(2):
        with locked(tmp_path):
            entered += 1
    assert entered == 2


@pytest.mark.parametrize(
    ("key", "value"), [("percent", 0.001), ("minutes", float("inf")), ("every_days", float("inf"))]
)
def test_what_no_watch_can_do_is_refused_before_anything_is_trained(key: str, value: float) -> None:
    assert LEAST_PERCENT == canary.LEAST_PERCENT
    with pytest.raises(CestaError, match=f"retrain.{key}"):
        load_settings(overrides={f"retrain.{key}": value})
