"""Measures how many events the log acknowledges, how fast, and how much room they take.

python -m loadtests.events FOLDER                      the log alone, in this process
python -m loadtests.events --gateway HOST:PORT --key-file FILE    through a running gateway

Senders wait for each acknowledgement before they send again. FOLDER must lie on the disk to be measured: an
acknowledgement is a flush of that disk.
"""

import argparse
import http.client
import json
import shutil
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from operations.events.event import Event
from operations.events.log import EventLog
from operations.events.sqlite_store import SqliteStore

RUNS: Final = ((1, 1), (8, 1), (32, 1), (8, 100), (32, 100), (8, 1000))  # senders, events of a request
WAIT_S: Final = 60
ITEMS: Final = 8  # of a purchase

Send = Callable[[Sequence[Event]], None]


@dataclass(frozen=True)
class Measured:
    """One run. Times are those from sending to the acknowledgement."""

    senders: int
    per_request: int
    events: int
    seconds: float
    times_s: Sequence[float]


def purchases(prefix: str, per_request: int) -> Iterator[list[Event]]:
    """Yield requests of new purchases, with ids as long as those of a real shop."""
    for number in count():
        yield [
            Event(
                "purchase",
                f"{prefix}-{number}-{n}",
                f"{number:08d}{n:04d}",
                tuple(sorted(f"{1_000_000 + 7919 * (number + n + item) % 90_000}" for item in range(ITEMS))),
                user_id=f"{(number * per_request + n) % 50_000}",
                at_ms=time.time_ns() // 1_000_000,
            )
            for n in range(per_request)
        ]


def measure(make_send: Callable[[], Send], senders: int, per_request: int, seconds: float) -> Measured:
    """Send for so long."""
    times: list[float] = []
    ends = time.perf_counter() + seconds

    def run() -> None:
        send = make_send()
        for events in purchases(uuid.uuid4().hex[:16], per_request):
            began = time.perf_counter()
            if began > ends:
                return
            send(events)
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    threads = [threading.Thread(target=run) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Measured(senders, per_request, per_request * len(times), time.perf_counter() - began, times)


@contextmanager
def log_alone(folder: Path) -> Iterator[EventLog]:
    """Yield a new log in the folder, which is removed afterwards."""
    log = EventLog(lambda: SqliteStore(folder))
    log.start()
    try:
        yield log
    finally:
        log.close()
        shutil.rmtree(folder)


def through(gateway: str, key: str) -> Send:
    """Return what posts events to a gateway, on a connection of its own."""
    connection = http.client.HTTPConnection(gateway, timeout=WAIT_S)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def send(events: Sequence[Event]) -> None:
        body = json.dumps({"events": [_wire(event) for event in events]}).encode()
        connection.request("POST", "/v1/events", body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"the gateway answered {answer.status}: {content.decode()}")

    return send


def _wire(event: Event) -> dict[str, object]:
    return {
        "event_id": event.event_id,
        "basket_id": event.basket_id,
        "item_ids": event.item_ids,
        "user_id": event.user_id,
    }


def _row(measured: Measured) -> list[str]:
    centiles = statistics.quantiles(measured.times_s, n=100)
    return [
        str(measured.senders),
        str(measured.per_request),
        f"{measured.events / measured.seconds:,.0f}",
        f"{1000 * centiles[49]:.1f}",
        f"{1000 * centiles[98]:.1f}",
    ]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--gateway")
    parser.add_argument("--key-file", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    asked = parser.parse_args()
    table = Table("senders", "events of a request", "events/s", "p50 ms", "p99 ms")
    if asked.gateway:
        key = asked.key_file.read_text().strip()
        for senders, per_request in RUNS:
            make = lambda: through(asked.gateway, key)  # noqa: E731 - one for each sender
            table.add_row(*_row(measure(make, senders, per_request, asked.seconds)))
        Console().print(table)
        return
    with log_alone(asked.folder / "events-measured") as log:

        def send(events: Sequence[Event]) -> None:
            log.offer(events).result(WAIT_S)

        for senders, per_request in RUNS:
            table.add_row(*_row(measure(lambda: send, senders, per_request, asked.seconds)))
        Console().print(table)
        Console().print(f"{log.size_bytes / log.position:.0f} bytes per event, {log.position:,} events")


if __name__ == "__main__":
    main()
