"""A Prefect server and a worker on loopback, as processes that end with the block. Imports no Prefect."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
START_S: Final = 300.0  # it makes its database at first
LOOK_S: Final = 0.2
BUSY_S: Final = 60.0
END_S: Final = 30.0
DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Local:
    """A server: its folder, the address of its pages, and the environment of whoever uses it."""

    folder: Path
    pages: str
    interpreter: str  # of Prefect's environment
    variables: Mapping[str, str]

    def prefect(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Prefect's and wait for it; its output goes to the terminal."""
        return self.python("-m", "prefect", "--no-prompt", *words)

    def python(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program in this environment and wait for it."""
        command = [self.interpreter, *words]
        return subprocess.run(command, cwd=HERE, env={**self.variables, **variables}, text=True, check=False)

    def ask(self, path: str, body: object = None, method: str = "POST") -> Any:
        """Send a request to the server's API, again while its database is locked; the answer's JSON."""
        data = None if method == "GET" else json.dumps(body or {}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.pages}/api{path}", data, headers, method=method)
        until = time.monotonic() + BUSY_S
        while True:
            try:
                with DIRECT.open(request, timeout=30) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > until:
                    raise
            time.sleep(LOOK_S)

    def start(self, deployment: str, **parameters: object) -> str:
        """Have a worker run a deployment, with its own parameters and these; the id of the run."""
        found = self.ask(f"/deployments/name/{deployment}", method="GET")
        run = self.ask(f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        return str(run["id"])

    def set_parameters(self, deployment: str, **parameters: object) -> None:
        """Change parameters of a deployment; the others stay."""
        found = self.ask(f"/deployments/name/{deployment}", method="GET")
        self.ask(f"/deployments/{found['id']}", {"parameters": found["parameters"] | parameters}, "PATCH")

    def await_run_of(self, deployment: str, since: datetime, seconds: float = 60) -> str:
        """Wait until something, such as an event, has started a run of a deployment; the id of the run."""
        found = self.ask(f"/deployments/name/{deployment}", method="GET")
        wanted = {
            "deployment_id": {"any_": [found["id"]]},
            "expected_start_time": {"after_": since.isoformat()},
        }
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if runs := self.ask("/flow_runs/filter", {"flow_runs": wanted}):
                return str(runs[0]["id"])
            time.sleep(LOOK_S)  # plain HTTP cannot be told
        raise RuntimeError(f"no run of {deployment} has started for {seconds:g} s")

    @contextmanager
    def worker(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker of the pool "cesta", until the block ends."""
        start = (self.interpreter, "-m", "prefect", "worker", "start", "--pool", "cesta", *words)
        with _program(start, self.variables, self.folder / "worker.log") as process:
            yield process


@contextmanager
def serve(folder: Path, interpreter: str = sys.executable) -> Iterator[Local]:
    """A server with its files in ``folder``, until the block ends. Raises RuntimeError if none starts."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    pages = f"http://127.0.0.1:{port}"
    # Nothing of the user's own Prefect is used, and nothing is reported to its makers.
    foreign = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    variables = foreign | {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"{pages}/api",
        "PREFECT_UI_URL": pages,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "NO_PROXY": "127.0.0.1",
        "PATH": f"{Path(interpreter).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    log = folder / "server.log"
    start = (interpreter, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    with _program(start, variables, log) as process:
        _await_health(process, f"{pages}/api/health", log)
        yield Local(folder, pages, interpreter, variables)


@contextmanager
def _program(
    command: tuple[str, ...], variables: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A long-running command of Prefect's with its output in a file; SIGTERM, then SIGKILL, ends it."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            cwd=HERE,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches this program only, which ends the others in order
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_health(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with DIRECT.open(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(LOOK_S)  # it tells nobody when it listens
    raise RuntimeError(f"Prefect's server did not start; {log} ends with: {log.read_text()[-600:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
