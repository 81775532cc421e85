"""The response cache while the stock changes: hits, latencies, failures at 0, 1, 10, 100 changes a second.

    python -m loadtests.stock 127.0.0.1:8080 --key-file shop.key --stock-key-file stock.key --pairs 1000000

It asks a running gateway an open loop of questions that repeat, as front pages and carts do. Each change is a
request of its own that sets one item, from as many threads as wait for acknowledgements.
"""

import argparse
import http.client
import json
import random
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from loadtests.open_loop import constant_schedule, run
from operations.address import join_address, split_address

CHANGES: Final = (0, 1, 10, 100)  # a second
QUESTIONS: Final = 300  # distinct ones; the n-th is asked in proportion to 1 / n
CHANGED: Final = 500  # items that come and go
PART: Final = 10_000  # entries
THREADS: Final = 30  # a key may have 32 requests in flight
SEED: Final = 7


class Measured(NamedTuple):
    """One row of the table; times in milliseconds."""

    changes: int
    acknowledged: int
    acknowledged_p99: float
    hits: float
    p50: float
    p99: float
    failed: int
    asked: int


class Gateway:
    """A gateway that is asked as a shop and told as its tills."""

    def __init__(self, address: str, key: str, stock_key: str) -> None:
        self.address, self._key, self._stock_key = address, key, stock_key

    def request(self, body: dict[str, Any]) -> bytes:
        """Return a question as the bytes that go over the connection."""
        text = json.dumps(body).encode()
        head = (
            f"POST /v1/recommend HTTP/1.1\r\nHost: {self.address}\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        )
        return head.encode() + text

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask with the key of the stock, or about a question with the shop's. Raises RuntimeError."""
        key = self._key if path == "/v1/recommend" else self._stock_key
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        with closing(http.client.HTTPConnection(self.address, timeout=30)) as connection:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            told = json.load(answer)
        if answer.status not in (200, 202):
            raise RuntimeError(f"{method} {path}: {answer.status}: {told}")
        return told


def measure(gateway: Gateway, metrics: str, changes: int, rate: float, seconds: float) -> Measured:
    """Ask at ``rate`` for ``seconds`` while the stock changes."""
    items = [item["item_id"] for item in gateway.ask("POST", "/v1/recommend", {"k": 20})["items"]]
    rng = random.Random(SEED)
    baskets = [rng.sample(items, rng.randint(1, 4)) for _ in range(QUESTIONS)]
    questions = [gateway.request({"basket": basket, "k": 10}) for basket in baskets]
    weights = [1 / n for n in range(1, QUESTIONS + 1)]
    asked = rng.choices(questions, weights, k=int(rate * seconds))
    before = _cache(metrics)
    with _changing(gateway, changes) as acknowledged:
        outcome = run(gateway.address, asked, constant_schedule(rate, seconds))
    hits, misses = (now - then for now, then in zip(_cache(metrics), before, strict=True))
    milliseconds = np.array(outcome.latencies) * 1000
    waited = np.array(acknowledged or [0.0]) * 1000
    p50, p99 = (float(value) for value in np.percentile(milliseconds, (50, 99)))
    return Measured(
        changes=changes,
        acknowledged=len(acknowledged),
        acknowledged_p99=float(np.percentile(waited, 99)),
        hits=hits / max(hits + misses, 1),
        p50=p50,
        p99=p99,
        failed=outcome.errors,
        asked=len(asked),
    )


@contextmanager
def _changing(gateway: Gateway, rate: int) -> Iterator[list[float]]:
    """Change the stock in the background; yield the seconds that each acknowledgement took."""
    took: list[float] = []
    ending = threading.Event()

    def change(number: int) -> None:
        began = time.perf_counter()
        entry = {"item_id": f"load-{number % CHANGED}", "available": number // CHANGED % 2 == 1}
        gateway.ask("PUT", "/v1/availability", {"items": [entry]})
        took.append(time.perf_counter() - began)

    def send() -> None:
        with ThreadPoolExecutor(THREADS) as threads:
            started, number = time.perf_counter(), 0
            while rate and not ending.wait(max(started + number / rate - time.perf_counter(), 0)):
                threads.submit(change, number)
                number += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield took
    finally:
        ending.set()
        sender.join()


def load_pairs(gateway: Gateway, pairs: int, stores: int = 300) -> float:
    """Replace the stock by so many pairs, in parts; return the seconds until the last acknowledgement."""
    version = gateway.ask("GET", "/v1/availability")["version"] + 1
    parts = -(-pairs // PART)
    began = time.perf_counter()
    for part in range(parts):
        numbers = range(part * PART, min((part + 1) * PART, pairs))
        items = [
            {"item_id": f"pair-{n // stores}", "store_id": str(n % stores), "available": n % 3 > 0}
            for n in numbers
        ]
        about = {"version": version, "replace": True, "part": part + 1, "parts": parts}
        gateway.ask("PUT", "/v1/availability", about | {"items": items})
    return time.perf_counter() - began


def _cache(metrics: str) -> tuple[float, float]:
    """Hits and misses of the ensemble so far."""
    with urllib.request.urlopen(f"http://{metrics}/metrics") as page:
        lines = page.read().decode().splitlines()
    names = ("nv_cache_num_hits_per_model", "nv_cache_num_misses_per_model")
    hits, misses = (
        sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith(f'{name}{{model="recommender"')
        )
        for name in names
    )
    return hits, misses


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure a running gateway and print the rows of docs/stock.md."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.stock", description=main.__doc__)
    parser.add_argument("address", help="host:port of the gateway")
    parser.add_argument("--key-file", type=Path, required=True, help="a key of the role shop")
    parser.add_argument("--stock-key-file", type=Path, required=True, help="a key of the role stock")
    parser.add_argument("--metrics", default="127.0.0.1:8002", help="host:port of Triton's metrics")
    parser.add_argument("--rate", type=float, default=100, help="questions per second")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--pairs", type=int, default=0, help="first load so many pairs")
    given = parser.parse_args(arguments)
    address = join_address(*split_address(given.address))
    gateway = Gateway(address, given.key_file.read_text().strip(), given.stock_key_file.read_text().strip())
    if given.pairs:
        print(f"{given.pairs:,} pairs: {load_pairs(gateway, given.pairs):.1f} s", flush=True)
    print("| changes/s | acknowledged | ack p99 ms | cache hits | p50 ms | p99 ms | failed |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for changes in CHANGES:
        row = measure(gateway, given.metrics, changes, given.rate, given.seconds)
        print(
            f"| {row.changes} | {row.acknowledged} | {row.acknowledged_p99:.0f} | {row.hits:.0%} "
            f"| {row.p50:.1f} | {row.p99:.1f} | {row.failed} of {row.asked} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
