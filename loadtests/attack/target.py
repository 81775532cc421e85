"""The gateway that is attacked, with a supervisor and Triton behind it, all on loopback."""

import contextlib
import http.client
import json
import random
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loadtests.attack.place import Place
from loadtests.running.environments import ROOT
from loadtests.running.processes import MarkedProcesses
from loadtests.running.servers import READY_WITHIN_S
from operations.gateway.keys import add_key
from operations.gateway.nginx import Gateway, GatewaySettings

RATES: Final = {"honest": 1_000, "attacker": 100_000, "slow": 5, "throughput": 100_000}
RECOVERS_WITHIN_S: Final = 60.0  # of Triton after a crash; more than that ends the run

_CONNECTIONS_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_READY = re.compile(r"^ready: http (\S+) grpc (\S+) metrics \S+ supervisor (\S+)", re.MULTILINE)
_DIED = re.compile(r"process (\d+) exited on signal (\d+)")
_FAULT = re.compile(r"\[(?:alert|emerg)\]|runtime error|exception|stack traceback")  # of the gateway itself


@dataclass(frozen=True)
class Signs:
    """What the servers themselves report, since their start."""

    restarts: int  # of Triton
    deaths: tuple[tuple[int, int], ...]  # of the gateway's workers: process id, signal
    faults: tuple[str, ...]  # other lines of its error log that no caller may cause


class Target:
    """The running servers."""

    def __init__(self, supervised: MarkedProcesses, gateway: Gateway, folder: Path, keys: dict[str, str]):
        self.gateway, self.folder, self.keys = gateway, folder, keys
        self.supervised = supervised
        self.release = int(self.status()["release"])
        self.pauses = list[tuple[float, float]]()  # the gateway was being restarted; of time.monotonic
        self._log_read = 0

    def place(self, **known: Any) -> Place:
        settings = self.gateway.settings
        return Place(
            settings.http,
            settings.grpc,
            self.folder,
            self.release,
            self.keys,
            **known,
        )

    def status(self) -> dict[str, Any]:
        """The supervisor's own answer, past the gateway."""
        with closing(http.client.HTTPConnection(self.gateway.settings.supervisor, timeout=5)) as connection:
            connection.request("GET", "/v1/status")
            status: dict[str, Any] = json.loads(connection.getresponse().read())
        return status

    def read_signs(self) -> Signs:
        """Wait until Triton answers, then read restarts and deaths. Raises TimeoutError if it stays away."""
        deadline = time.monotonic() + RECOVERS_WITHIN_S
        while not (status := self.status())["ready"]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"Triton is not ready after {RECOVERS_WITHIN_S:g} s: {status['reason']}")
            time.sleep(0.2)
        log = self.gateway.settings.error_log.read_text(encoding="utf-8", errors="replace")
        deaths = tuple((int(pid), int(signal)) for pid, signal in _DIED.findall(log))
        faults = tuple(line for line in log.splitlines() if _FAULT.search(line) and not _DIED.search(line))
        return Signs(status["restarts"], deaths, faults)

    def read_failures(self) -> Counter[str]:
        """Answers of the gateway's log since the last look that were 5xx, by key, status and route."""
        with self.gateway.settings.access_log.open("rb") as log:
            log.seek(self._log_read)
            content = log.read()
        whole, _, rest = content.rpartition(b"\n")
        self._log_read += len(content) - len(rest)
        failures = Counter[str]()
        for line in whole.split(b"\n"):
            if b'"status":5' in line:
                entry = json.loads(line)
                failures[f'{entry["status"]} on {entry["route"]} for key "{entry["key"]}"'] += 1
        return failures

    def restart_gateway(self) -> None:
        """Start the gateway afresh: limits that leaked are whole again."""
        begun = time.monotonic()
        self.gateway.stop(grace_s=1)
        self.gateway.start()
        self.pauses.append((begun, time.monotonic()))


def choose_ports(count: int) -> list[int]:
    """Choose free ports that no connection of this machine takes, until nginx starts or starts again."""
    first_of_connections = int(_CONNECTIONS_PORTS.read_text(encoding="ascii").split()[0])
    free = list[int]()
    while len(free) < count:
        port = random.randrange(first_of_connections // 2, first_of_connections)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            free += [port] if port not in free else []
    return free


@contextmanager
def start_target(repository: Path, folder: Path) -> Iterator[Target]:
    """Start supervisor, Triton and gateway on free ports, with the keys of RATES; stop them after the block.

    Raises NotReadyError or CestaError with the reason.
    """
    keys = {name: add_key(folder, name, "shop", rate) for name, rate in RATES.items()}
    http, grpc = (f"127.0.0.1:{port}" for port in choose_ports(2))
    ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics", "supervisor")]
    command = [sys.executable, "-m", "operations.cli", "serve", f"--repository={repository}", *ports]
    command += [f"--gateway={folder}", f"--gateway-http={http}"]
    with MarkedProcesses(command, {"PYTHONDONTWRITEBYTECODE": "1"}, ROOT) as supervised:
        supervised.wait_ready(lambda: "ready: http" in supervised.log, READY_WITHIN_S)
        ready = _READY.search(supervised.log)
        assert ready is not None, supervised.log
        settings = GatewaySettings(folder, http=http, grpc=grpc, triton_http=ready[1], supervisor=ready[3])
        with Gateway(settings) as gateway:
            yield Target(supervised, gateway, folder, keys)
