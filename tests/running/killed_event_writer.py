"""Appends events to a store and is killed (-9) at its first step, then at its second, until it survives.

python -m tests.running.killed_event_writer ADDRESS

A step is a call of anything written in C: of SQLite, of a socket. Each life tries events of its own, and
prints one line of JSON: the ids that it tried, those that the store acknowledged, and the offset that the
store then has. The offset of a life is its number.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from operations.events.event import Event
from operations.events.opening import open_store
from operations.events.store import Offset, State

EVENTS = 2  # of one life


def events_of(life: int) -> list[Event]:
    return [Event("purchase", f"{life}-{n}", f"basket-{life}-{n}", ("milk",)) for n in range(EVENTS)]


def live(address: str, life: int, acknowledge: int) -> None:
    store = open_store(address)
    steps = 0

    def count(_frame: Any, event: str, _what: Any) -> None:
        nonlocal steps
        if event == "c_call":
            steps += 1
            if steps == life:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    outcomes = store.append(events_of(life), 1, [Offset("sales", 0, life)])
    sys.setprofile(None)
    assert all(outcome.state is State.ACCEPTED for outcome in outcomes)
    os.write(acknowledge, b"y")


def main(address: str) -> None:
    open_store(address).close()
    for life in range(1, 1000):
        reads, writes = os.pipe()
        child = os.fork()
        if not child:
            live(address, life, writes)
            os._exit(0)
        os.close(writes)
        _, status = os.waitpid(child, 0)
        acknowledged = os.read(reads, 1) == b"y"
        os.close(reads)
        tried = [event.event_id for event in events_of(life)]
        store = open_store(address)
        line = {"tried": tried, "acknowledged": tried if acknowledged else []}
        print(json.dumps(line | {"offset": store.offsets("sales").get(0, 0)}), flush=True)
        store.close()
        if not os.WIFSIGNALED(status):
            return


if __name__ == "__main__":
    main(sys.argv[1])
