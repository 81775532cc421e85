"""`cesta serve` with an event log: it knows the release's items and days, and survives being killed."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from operations.events.event import read_event
from operations.events.sqlite_store import SqliteStore
from operations.gateway.keys import add_key
from operations.gateway.link import TOKEN
from tests.running.supervised import Supervised

if TYPE_CHECKING:
    from tests.building.slices import Built

pytestmark = [pytest.mark.triton, pytest.mark.timeout(240)]

WAIT_S = 60


class Till:
    """Reports events to a supervisor as the gateway does."""

    def __init__(self, serving: Supervised, gateway: Path) -> None:
        self._address, self._token = serving.addresses["supervisor"], (gateway / TOKEN).read_text()

    def send(self, *events: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._address, timeout=WAIT_S)
        try:
            body = json.dumps({"events": events})
            connection.request("POST", "/v1/events", body, {"X-Cesta-Admin": self._token})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer


def event(event_id: str, **about: Any) -> dict[str, Any]:
    return {"event_id": event_id, "basket_id": f"b-{event_id}", "item_ids": ["1029743"], **about}


@pytest.fixture
def serving(built: Built, compiled: Path, start_server: Any, tmp_path: Path) -> tuple[Path, Path]:
    """A repository and a gateway's folder of this test."""
    gateway = tmp_path / "gateway"
    add_key(gateway, "till", "events", 100)
    return Path(shutil.copytree(built.repository, tmp_path / "repository")), gateway


def test_events_are_checked_against_the_release_and_survive_kill_9(serving: tuple[Path, Path]) -> None:
    repository, gateway = serving
    started = Supervised(repository, f"--gateway={gateway}")
    try:
        check_the_release(Till(started, gateway))
        acknowledged = send_until_killed(started, Till(started, gateway))
    finally:
        started.kill()
    again = Supervised(repository, f"--gateway={gateway}")
    try:
        till = Till(again, gateway)
        told = till.send(*(event(event_id) for event_id in acknowledged[-100:]))
        assert (told["accepted"], told["known"]) == (0, len(acknowledged[-100:]))
        till.send(event("after"))
        assert again.end(signal.SIGTERM) == 0
    finally:
        again.kill()
    store = SqliteStore(gateway / "events")
    kept = [read_event(logged.content).event_id for logged in store.read(0, 1_000_000)]
    store.close()
    assert len(set(kept)) == len(kept)
    assert {*acknowledged, "after"} <= set(kept)


def check_the_release(till: Till) -> None:
    """The slice's receipts begin in May 2017; its items are read once the first event has come."""
    deadline = time.monotonic() + WAIT_S
    for n in range(10_000):
        told = till.send(event(f"unknown-{n}", item_ids=["1029743", "no such item"]))
        if told["unknown_items"] == 1:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    told = till.send(event("old", at="2017-05-01T00:00:00Z"), event("late", at="2017-06-01T00:00:00Z"))
    assert (told["accepted"], [each["code"] for each in told["refused"]]) == (1, ["event_before_receipts"])


def send_until_killed(serving: Supervised, till: Till) -> list[str]:
    """Two senders at work when the supervisor is killed; return what it had acknowledged."""
    acknowledged: list[str] = []

    def sell(name: str) -> None:
        for n in range(1_000_000):
            try:
                told = till.send(event(f"{name}-{n}"))
            except (OSError, http.client.HTTPException):
                return
            assert told["accepted"] == 1
            acknowledged.append(f"{name}-{n}")

    senders = [threading.Thread(target=sell, args=(name,)) for name in ("a", "b")]
    for sender in senders:
        sender.start()
    deadline = time.monotonic() + WAIT_S
    while len(acknowledged) < 50:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(serving.process.pid, signal.SIGKILL)
    for sender in senders:
        sender.join(WAIT_S)
    return acknowledged
