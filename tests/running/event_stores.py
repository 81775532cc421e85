"""The stores of events that the battery of tests runs over."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from operations.events.event import Event
from operations.events.opening import open_store
from operations.events.store import EventStore
from tests.running.door import free_ports


class Folder:
    """The embedded store, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder)

    def open(self) -> EventStore:
        return open_store(self.address)

    def close(self) -> None:
        """Nothing runs."""


class RedisServer:
    """A real redis-server with an append-only file in ``folder``; the test is skipped without it."""

    def __init__(self, folder: Path, *options: str) -> None:
        pytest.importorskip("redis", reason="no client of Redis; pip install 'cesta[redis]'")
        if not (program := shutil.which("redis-server")):
            pytest.skip("no redis-server; apt-get install redis-server")
        folder.mkdir()
        (port,) = free_ports(1)
        files = ["--dir", str(folder), "--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        self._command = [program, "--port", str(port), "--bind", "127.0.0.1", *files, *options]
        self.address = f"redis://127.0.0.1:{port}"
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        import redis

        client = redis.Redis.from_url(self.address)
        deadline = time.monotonic() + 60
        while True:
            try:
                client.ping()
                break
            except redis.RedisError:
                assert time.monotonic() < deadline
                assert self._process.poll() is None
                time.sleep(0.02)
        client.close()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def open(self) -> EventStore:
        return open_store(self.address)

    def close(self) -> None:
        self.kill()


def purchase(event_id: str, *items: str, **about: object) -> Event:
    """A purchase of these items; of milk without any."""
    return Event("purchase", event_id, f"basket of {event_id}", tuple(sorted(items or ("milk",))), **about)
