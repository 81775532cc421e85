"""docker-compose.yml as a user runs it, in a folder of its own: docker compose, or podman-compose."""

from __future__ import annotations

import contextlib
import json
import shutil
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests import ROOT
from tests.containers.engine import Container, Engine

COPIED: Final = ("docker-compose.yml", ".env.example", "deploy")
LABEL: Final = "com.docker.compose"  # podman-compose writes these labels, too
HEALTH_S: Final = 2.0
ASK_S: Final = 5.0
DIRECT: Final = urllib.request.ProxyHandler({})
# Prints the pairs of address and port that accept a connection, of those in the arguments.
PROBE: Final = """
import concurrent.futures, socket, sys
def try_it(pair):
    try:
        socket.create_connection(pair.rsplit(":", 1), 2).close()
        return pair
    except OSError:
        return ""
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(*filter(None, pool.map(try_it, sys.argv[1:])))
"""


def find_compose(engine: Engine) -> list[str] | None:
    """Return the command that goes with this engine, or None."""
    if engine.program == "docker":
        done = engine.run("compose", "version", check=False)
        return ["docker", "compose"] if done.returncode == 0 else None
    beside = Path(sys.executable).with_name("podman-compose")
    found = str(beside) if beside.exists() else shutil.which("podman-compose")
    return [found] if found else None


@dataclass(frozen=True)
class Composed:
    """A project in `folder`, which has docker-compose.yml, deploy/, secrets/ and .env."""

    engine: Engine
    command: tuple[str, ...]
    folder: Path
    project: str

    def run(self, *words: object, check: bool = True, timeout_s: float = 300) -> str:
        """Run one command of compose and return what it printed."""
        command = [*self.command, "--project-name", self.project, *map(str, words)]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.engine.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    @property
    def waits_for_health(self) -> bool:
        """Tell whether compose starts a service when those that it depends on are healthy."""
        if self.engine.program == "docker":
            return True
        version = self.engine.read("version", "--format={{.Client.Version}}").split(".")
        return [int(part) for part in version[:2]] >= [4, 6]

    def container(self, service: str) -> Container:
        """Return the container of a service."""
        filters = [f"label={LABEL}.project={self.project}", f"label={LABEL}.service={service}"]
        words = ["ps", "--all", "--format={{.Names}}", *(f"--filter={each}" for each in filters)]
        names = self.engine.read(*words).split()
        assert len(names) == 1, f"{service} has the containers {names}"
        return Container(self.engine, names[0])

    def containers(self) -> list[str]:
        """Return the names of all containers."""
        filters = f"--filter=label={LABEL}.project={self.project}"
        return self.engine.read("ps", "--all", "--format={{.Names}}", filters).split()

    def is_healthy(self, service: str) -> bool:
        with contextlib.suppress(AssertionError, KeyError):
            return bool(self.container(service).state["Health"]["Status"] == "healthy")
        return False

    def pid(self, service: str) -> int:
        """Return the first process of a container, as this machine numbers it."""
        return int(self.container(service).state["Pid"])

    def addresses(self, service: str) -> dict[str, str]:
        """Return the container's address in each network, by the network's name in docker-compose.yml."""
        record = self.engine.inspect("container", self.container(service).name)
        networks = record["NetworkSettings"]["Networks"]
        return {name.removeprefix(f"{self.project}_"): each["IPAddress"] for name, each in networks.items()}

    def reached(self, pid: int, pairs: list[str]) -> set[str]:
        """Return the pairs address:port that accept a connection from the network of a process."""
        command = ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", PROBE, *pairs]
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())

    @contextlib.contextmanager
    def health_checks(self) -> Iterator[None]:
        """Run the health checks again and again for podman, which wants timers of systemd for that."""
        over = threading.Event()

        def check() -> None:
            while not over.wait(HEALTH_S):
                with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                    for name in self.containers():
                        if self.engine.inspect("container", name)["State"]["Health"]["Status"] != "healthy":
                            self.engine.run("healthcheck", "run", name, check=False)

        checking = threading.Thread(target=check, daemon=True)
        if self.engine.program == "podman":
            checking.start()
        try:
            yield
        finally:
            over.set()
            if checking.is_alive():
                checking.join()

    def remove(self) -> None:
        """Remove containers, networks and volumes."""
        self.run("down", "--volumes", "--timeout", "1", check=False)


def make_project(
    engine: Engine, command: list[str], folder: Path, project: str, settings: Mapping[str, str], state: Path
) -> Composed:
    """Do what docs/operations.md says before `docker compose up`, with these settings in .env.

    ``state`` is the folder of the user whose publishers are trusted.
    """
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        copy: Callable[..., object] = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, folder / name)
    variables = {**engine.variables, "XDG_STATE_HOME": str(state)}
    subprocess.run(
        ["sh", "deploy/make_secrets.sh"], cwd=folder, env=variables, check=True, capture_output=True
    )
    lines = dict(
        line.split("=", 1)
        for line in (folder / ".env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert settings.keys() <= lines.keys()
    text = "".join(f"{name}={value}\n" for name, value in (lines | dict(settings)).items())
    (folder / ".env").write_text(text)
    return Composed(engine, tuple(command), folder, project)


@dataclass
class Front:
    """The gateway's published port, over TLS with the certificate of secrets/."""

    url: str
    certificate: Path
    key: str = ""

    def ask(self, path: str, body: object = None, key: str | None = None) -> tuple[int, Any]:
        """Status and JSON of one request."""
        status, text = self.ask_text(path, body, key)
        return status, json.loads(text or "null")

    def ask_text(self, path: str, body: object = None, key: str | None = None) -> tuple[int, str]:
        """Status and body of one request."""
        headers = {
            "Authorization": f"Bearer {self.key if key is None else key}",
            "Content-Type": "application/json",
        }
        data = None if body is None else json.dumps(body).encode()
        trusted = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=self.certificate))
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.build_opener(DIRECT, trusted).open(request, timeout=ASK_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def recommends(self, basket: Sequence[str]) -> bool:
        with contextlib.suppress(OSError, ValueError):
            status, _ = self.ask("/v1/recommend", {"basket": [*basket], "k": 3})
            return status == 200
        return False


def wait_for(happened: Callable[[], object], timeout_s: float) -> float:
    """Poll until it has happened, and return the seconds."""
    since = time.monotonic()
    while not happened():
        assert time.monotonic() - since < timeout_s, f"not within {timeout_s:g} s"
        time.sleep(0.2)
    return time.monotonic() - since
