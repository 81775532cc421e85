"""The compared servers: starts each one on a release, and asks it questions."""

import contextlib
import http.client
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from loadtests.gateway.front import Guard, open_gateway
from loadtests.peers.chain import GUARD, RUN
from loadtests.questions import Question
from loadtests.running.environments import ROOT, ensure_environment
from loadtests.running.ports import find_free_port
from loadtests.running.processes import MarkedProcesses
from loadtests.wires import BINARY, GATEWAY_ALL, GENERATE, LISTED, OPEN_INFERENCE, PLAIN, Answer, Wire
from operations.outputs import Outputs

GRPC: Final = "gRPC"
READY_WITHIN_S: Final = 240.0  # the first start compiles the sampler's kernels, and Ray starts slowly
TIMEOUT_S: Final = 10.0
PEERS_VARIABLES: Final = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_AUTH_MODE": "disabled",  # otherwise Ray writes a token to the home folder
    "RAY_USAGE_STATS_ENABLED": "0",  # no report to Ray's makers
    "BENTOML_DO_NOT_TRACK": "true",
}

_IMPORTS: Final = {"PYTHONPATH": f"{ROOT}:{ROOT / 'client' / 'src'}", "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class Server:
    """One compared server."""

    name: str
    kind: str  # ours, peer or whole
    wires: tuple[Wire, ...]
    module: str = ""  # below loadtests.peers; empty for ours
    peer: str = ""  # the name of its own environment, if it has one
    cached: bool = False
    guarded: bool = False  # asks for a key, limits its requests and writes a request log

    @property
    def grpc(self) -> bool:
        """Tell whether it is measured over gRPC, too. perf_analyzer cannot ask through the gateway."""
        return self.kind == "ours" and not self.guarded

    @property
    def label(self) -> str:
        """The name, and whether the cache is on."""
        return f"{self.name}, cached" if self.cached else self.name

    @property
    def cache(self) -> str:
        return "on" if self.cached else "off"


SERVERS: Final = (
    Server("cesta", "ours", (GENERATE, BINARY)),
    Server("cesta", "ours", (GENERATE, BINARY), cached=True),
    Server("cesta through the gateway", "ours", (GATEWAY_ALL, BINARY), guarded=True),
    Server("cesta through the gateway", "ours", (GATEWAY_ALL, BINARY), cached=True, guarded=True),
    Server("FastAPI, reference", "peer", (PLAIN,), "fastapi_reference"),
    Server("FastAPI with keys and limits", "peer", (PLAIN,), "fastapi_guarded", guarded=True),
    Server("BentoML", "peer", (LISTED,), "bentoml_app", "bentoml"),
    Server("LitServe", "peer", (PLAIN,), "litserve_app", "litserve"),
    Server("MLServer", "peer", (OPEN_INFERENCE,), "mlserver_app", "mlserver"),
    Server("Ray Serve", "peer", (PLAIN,), "ray_serve_app", "ray_serve"),
    Server("FastAPI, whole catalog, ONNX", "whole", (PLAIN,), "fastapi_whole_onnx"),
    Server("FastAPI, whole catalog, torch", "whole", (PLAIN,), "fastapi_whole_torch"),
)


@dataclass(frozen=True)
class Running:
    """A server that answers. Addresses are host:port."""

    processes: MarkedProcesses
    http: str
    grpc: str = ""
    triton: str = ""  # HTTP, also where a gateway is asked
    key: str = ""  # that a guarded server wants


@contextmanager
def start_server(server: Server, release: Outputs, guard: Guard | None = None) -> Iterator[Running]:
    """Start one server, wait for its first answer, and stop it after the block. A guarded one needs a guard.

    Raises NotInstalledError or NotReadyError with the reason.
    """
    variables = _IMPORTS | {"OMP_NUM_THREADS": "1", RUN: str(release.run), **PEERS_VARIABLES}
    if guard:
        variables |= {GUARD: str(guard.folder.absolute())}
    if server.kind == "ours":
        command = [sys.executable, "-m", "operations.server", "--repository", str(release.repository)]
        command += ["--http-port=0", "--grpc-port=0", "--metrics-port=0", "--drain-s=1"]
        command += [] if server.cached else ["--response-cache=0"]
        port = 0
    else:
        python = str(ensure_environment(server.peer)) if server.peer else sys.executable
        port = find_free_port()
        command = [python, "-m", f"loadtests.peers.{server.module}", str(port)]
    with MarkedProcesses(command, variables, ROOT) as processes, contextlib.ExitStack() as gateway:
        if server.kind == "ours":
            running = _wait_for_triton(processes)
        else:
            running = Running(processes, f"127.0.0.1:{port}")
        if server.guarded and guard:
            running = replace(running, key=guard.key)
            if server.kind == "ours":
                front = gateway.enter_context(open_gateway(guard, running.triton))
                processes.adopt(front.pid)
                running = replace(running, http=front.http, grpc=front.grpc)
        wire, canary = server.wires[0], Question(("canary",))
        processes.wait_ready(lambda: _is_answering(running, wire, canary), READY_WITHIN_S)
        yield running


@contextmanager
def start_supervised(repository: Path, variables: Mapping[str, str]) -> Iterator[Running]:
    """Start `cesta serve` without a response cache, wait for its first answer, and stop it after the block.

    Raises NotReadyError with the reason.
    """
    ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics", "supervisor")]
    command = [sys.executable, "-m", "operations.cli", "serve", f"--repository={repository}", *ports]
    with MarkedProcesses([*command, "--response-cache=0"], {**_IMPORTS, **variables}, ROOT) as processes:
        yield _wait_for_triton(processes)  # it reports ready after it has answered a canary


def ask(address: str, wire: Wire, question: Question, path: str | None = None, key: str = "") -> Answer:
    """Ask one question over a new connection. Raises OSError or ValueError if there is no answer."""
    body, wire_headers = wire.encode(question)
    bearer = {"authorization": f"Bearer {key}"} if key else {}
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        headers = {"content-type": "application/json", **wire_headers, **bearer}
        connection.request("POST", path or wire.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise ValueError(f"{address} answers {response.status}: {content[:300]!r}")
        return wire.decode(content, {name.lower(): value for name, value in response.getheaders()})


def _wait_for_triton(processes: MarkedProcesses) -> Running:
    matches: list[re.Match[str]] = []

    def ready() -> bool:
        matches.extend(re.finditer(r"^ready: http (\S+) grpc (\S+)", processes.log, flags=re.MULTILINE))
        return bool(matches)

    processes.wait_ready(ready, READY_WITHIN_S)
    return Running(processes, http=matches[0][1], grpc=matches[0][2], triton=matches[0][1])


def _is_answering(running: Running, wire: Wire, question: Question) -> bool:
    try:
        return bool(ask(running.http, wire, question, key=running.key).item_ids)
    except (OSError, ValueError, http.client.HTTPException):
        return False
