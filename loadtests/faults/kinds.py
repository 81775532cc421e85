"""What is killed: the processes of a running stack, found by the records of their starts."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from operations.outputs import Outputs
from operations.releases.repository import active_release
from operations.releases.stores.store import open_repository

_RECORDS: Final = {
    "supervisor": "gateway/supervisor.started",
    "nginx": "gateway/run/nginx.started",
    "Alertmanager": "alertmanager/alertmanager.started",
    "Prometheus": "prometheus/prometheus.started",
}


class Programs:
    """The processes of the stack that runs in the folder `out`."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def program(self, name: str) -> int:
        """The process that was started last under this name."""
        return int(self._record(name)["program"]["pid"])

    def stack(self) -> int:
        """`cesta stack` itself, which has started the others."""
        return int(self._record("nginx")["owner"]["pid"])

    def workers(self) -> list[int]:
        """nginx's worker processes."""
        return children(self.program("nginx"))

    def triton(self) -> int:
        """The tritonserver that the supervisor runs."""
        return next(pid for pid in children(self.program("supervisor")) if "tritonserver" in command(pid))

    def sampler(self) -> int:
        """The process of the active release's sampler."""
        release = active_release(open_repository(str(Outputs(self._out).repository)))
        path = re.compile(rf"/candidate_sampler\w*/{release}/")
        return next(pid for pid in children(self.triton()) if path.search(command(pid)))

    def _record(self, name: str) -> dict[str, dict[str, int]]:
        return dict(json.loads((self._out / _RECORDS[name]).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Fault:
    """`victims` are killed at the same moment."""

    name: str
    victims: Callable[[Programs], list[int]]


FAULTS: Final = (
    Fault("Alertmanager", lambda programs: [programs.program("Alertmanager")]),
    Fault("Prometheus", lambda programs: [programs.program("Prometheus")]),
    Fault("one of nginx's workers", lambda programs: programs.workers()[:1]),
    Fault("nginx's master", lambda programs: [programs.program("nginx")]),
    Fault("nginx's master and workers", lambda programs: [programs.program("nginx"), *programs.workers()]),
    Fault("the sampler's process", lambda programs: [programs.sampler()]),
    Fault("tritonserver", lambda programs: [programs.triton()]),
    Fault("the supervisor", lambda programs: [programs.program("supervisor")]),
    Fault(
        "supervisor and tritonserver", lambda programs: [programs.program("supervisor"), programs.triton()]
    ),
)


def children(pid: int) -> list[int]:
    """The processes that this one has started, by any of its threads."""
    texts: list[str] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has just ended
            texts.append(path.read_text())
    return sorted({int(number) for text in texts for number in text.split()})


def command(pid: int) -> str:
    """The command line of a process; "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
