"""`cesta serve` as a shell starts it, with its logged events and all processes below it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from operations.server.runtime_folder import sweep
from tests.running.processes import Watched, children, command, end

CESTA = [sys.executable, "-m", "operations.cli"]
FREE_PORTS = ["--http-port=0", "--grpc-port=0", "--metrics-port=0", "--supervisor-port=0"]

DIRECT = build_opener(ProxyHandler({}))  # tests name proxies in the environment

Event = dict[str, Any]


class Supervised:
    """The leader of its own process group, and ready when the constructor returns, unless `wait` is false."""

    def __init__(self, repository: Path, *options: str, wait: bool = True) -> None:
        self.process = subprocess.Popen(
            [*CESTA, "serve", f"--repository={repository}", *FREE_PORTS, *options],
            process_group=0,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._events: queue.Queue[Event] = queue.Queue()
        self.not_events: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.runtimes: set[Path] = set()
        self.processes: list[Watched] = []
        if wait:
            self.addresses = self._ready()
            self.look()

    def look(self) -> None:
        """Record the server and the stubs that run now; not those of a trial, which listens elsewhere."""
        port = f"--grpc-port={self.addresses['grpc'].rpartition(':')[2]}"
        (triton,) = (pid for pid in children(self.process.pid) if port in command(pid))
        options = " ".join(command(triton))
        self.shm_prefix = re.search(r"shm-region-prefix-name=(\S+)", options)[1]
        self.runtime = Path(re.search(r"--backend-directory=(\S+)/backends", options)[1])
        self.runtimes.add(self.runtime)
        self.triton, self.processes = triton, [Watched(self.process.pid), Watched(triton)]
        for stub in children(triton):
            with contextlib.suppress(ProcessLookupError):  # Triton forks some that soon end
                self.processes.append(Watched(stub))

    def look_again(self) -> None:
        """Record the next server as soon as it has been started, ready or not."""
        before, deadline = self.triton, time.monotonic() + 60
        while self.triton == before:
            assert time.monotonic() < deadline
            with contextlib.suppress(ValueError, TypeError, OSError):  # none, or not yet tritonserver
                self.look()

    def event(self, *names: str, within_s: float = 90) -> Event:
        """Wait for the next event of one of these names."""
        deadline = time.monotonic() + within_s
        while True:
            with contextlib.suppress(queue.Empty):
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
                if event["event"] in names:
                    return event
                continue
            raise AssertionError(f"no {names} within {within_s} s; {self.process.poll()} {self.not_events}")

    def ask(self, path: str) -> tuple[int, Any]:
        """Status and body of the supervisor's app."""
        try:
            with DIRECT.open(f"http://{self.addresses['supervisor']}{path}", timeout=20) as answer:
                text, code = answer.read().decode(), answer.status
        except HTTPError as error:
            text, code = error.read().decode(), error.code
        return code, json.loads(text) if text.startswith("{") else text

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Signal the whole process group, as a terminal does; the exit code."""
        os.killpg(self.process.pid, how)
        code = self.process.wait(60)
        self._reader.join(20)
        return code

    def kill(self) -> None:
        """End what still runs and remove its remains, for a test that failed."""
        if self.process.poll() is None:
            for pid in (self.process.pid, *children(self.process.pid)):
                end(pid)
        for watched in self.processes:
            if not watched.ended(0):
                end(watched.pid)
        self.process.wait()
        self._reader.join(20)
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()
        sweep()

    def _ready(self) -> dict[str, str]:
        for line in self.process.stdout:
            if line.startswith("ready: "):
                words = line.split()[1:]
                return dict(zip(words[::2], words[1::2], strict=True))
        raise AssertionError(self.not_events)

    def _read(self) -> None:
        for line in self.process.stderr:
            try:
                self._events.put(json.loads(line))
            except ValueError:
                self.not_events.append(line.rstrip())
