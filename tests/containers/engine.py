"""podman or docker: builds images, and runs containers that end with their test."""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests import ROOT

PODMAN_SETTINGS = Path(__file__).with_name("containers.conf")
PROGRAMS = ("podman", "docker")
BUILD_S = 1500


@dataclass(frozen=True)
class Engine:
    """A program that answers `info`, and its environment."""

    program: str
    variables: Mapping[str, str] = field(repr=False)

    def run(
        self, *words: object, check: bool = True, timeout_s: float = 120, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one command of the engine. A failure shows the end of what it printed."""
        done = subprocess.run(
            [self.program, *map(str, words)],
            env=self.variables,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        if check and done.returncode:
            printed = (done.stdout + done.stderr)[-4000:]
            raise AssertionError(f"{self.program} {words[0]} ended with {done.returncode}:\n{printed}")
        return done

    def read(self, *words: object) -> str:
        """Return what a command prints, without the last line end."""
        return self.run(*words).stdout.strip()

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """Return the record of an image or a container."""
        (record,) = json.loads(self.read(kind, "inspect", name))
        return dict(record)

    def has_image(self, tag: str) -> bool:
        return self.run("image", "inspect", tag, check=False).returncode == 0

    def build(
        self,
        dockerfile: Path,
        tag: str,
        *,
        context: Path = ROOT,
        arguments: Mapping[str, str] | None = None,
        volumes: tuple[str, ...] = (),
    ) -> str:
        """Build an image as `docker build` does. Layers of an earlier build are used again."""
        words = ["build", "--network=host", "--file", str(dockerfile), "--tag", tag]
        for name, value in (arguments or {}).items():
            words += ["--build-arg", f"{name}={value}"]
        if self.program == "podman":
            words += ["--format=docker", "--pull=never"]  # OCI's format has no HEALTHCHECK
            words += [f"--volume={volume}" for volume in volumes]
            if (ignored := dockerfile.with_name("Dockerfile.dockerignore")).exists():
                words += ["--ignorefile", str(ignored)]  # docker finds it by its name
        self.run(*words, context, timeout_s=BUILD_S)
        return tag

    @contextmanager
    def container(self, image: str, *words: str, options: tuple[str, ...] = ()) -> Iterator[Container]:
        """Start a container and remove it in the end, whatever became of it."""
        name = f"cesta-test-{uuid4().hex[:12]}"
        self.run("run", "--detach", "--name", name, *options, image, *words)
        try:
            yield Container(self, name)
        finally:
            now = ["--time=0"] if self.program == "podman" else []
            self.run("rm", "--force", "--volumes", *now, name, check=False)

    @contextmanager
    def volume(self) -> Iterator[str]:
        """Make a named volume. Its owner becomes that of the folder on which it is first mounted."""
        name = self.read("volume", "create", f"cesta-test-{uuid4().hex[:12]}")
        try:
            yield name
        finally:
            self.run("volume", "rm", "--force", name, check=False)

    @contextmanager
    def network(self, *options: str) -> Iterator[str]:
        name = f"cesta-test-{uuid4().hex[:12]}"
        self.run("network", "create", *options, name)
        try:
            yield name
        finally:
            self.run("network", "rm", "--force", name, check=False)


@dataclass(frozen=True)
class Container:
    """A container that was started."""

    engine: Engine
    name: str

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.engine.inspect("container", self.name)["State"])

    @property
    def restarts(self) -> int:
        return int(self.engine.inspect("container", self.name)["RestartCount"])

    def logs(self) -> str:
        done = self.engine.run("logs", self.name)
        return done.stdout + done.stderr

    def await_ready(self, times: int = 1, timeout_s: float = 120) -> None:
        """Wait until the program has printed its line "ready: …" so many times, before and after restarts."""
        until = time.monotonic() + timeout_s
        while self._count_ready(times, until) < times:  # the log ends when the container does
            has_hope = time.monotonic() < until and self._may_return()
            assert has_hope, f"not ready:\n{self.logs()[-4000:]}"
            time.sleep(0.2)

    def _may_return(self) -> bool:
        """Tell whether the engine starts it again when it ends."""
        policy = self.engine.inspect("container", self.name)["HostConfig"]["RestartPolicy"]["Name"]
        return bool(policy not in ("", "no") or self.state["Running"])

    def _count_ready(self, most: int, until: float) -> int:
        follow = [self.engine.program, "logs", "--follow", self.name]
        with subprocess.Popen(
            follow, env=self.engine.variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as log:
            late = threading.Timer(until - time.monotonic(), log.kill)
            late.start()
            try:
                assert log.stdout
                ready = (line for line in log.stdout if line.startswith("ready: "))
                return sum(1 for _ in itertools.islice(ready, most))
            finally:
                late.cancel()
                log.kill()

    def is_healthy(self) -> bool:
        """Run the image's health check where podman has no timer for it; docker has run it."""
        if self.engine.program == "podman":
            return self.engine.run("healthcheck", "run", self.name, check=False).returncode == 0
        return bool(self.state["Health"]["Status"] == "healthy")

    def await_healthy(self, timeout_s: float = 60) -> None:
        """Ask for the health until it is good: no engine announces it."""
        until = time.monotonic() + timeout_s
        while not self.is_healthy():
            assert time.monotonic() < until, f"not healthy:\n{self.logs()[-4000:]}"
            time.sleep(0.2)

    def execute(self, *words: object, check: bool = True, timeout_s: float = 120) -> str:
        """Run a program beside the first one, as the same user."""
        done = self.engine.run("exec", self.name, *words, check=check, timeout_s=timeout_s)
        return done.stdout

    def address(self, port: int) -> str:
        """Return host:port of this machine that leads to a published port."""
        return self.engine.read("port", self.name, str(port)).splitlines()[0]

    def stop(self) -> int:
        """Send the image's stop signal and return the exit code."""
        self.engine.run("stop", self.name)
        return int(self.state["ExitCode"])

    def changes(self) -> list[str]:
        """Return what the container wrote outside its mounts, as `diff` prints it."""
        return self.engine.read("diff", self.name).splitlines()


@functools.cache
def find_engine() -> Engine | None:
    """Return the first program that answers, or None."""
    variables = dict(os.environ)
    if shutil.which("runc"):
        variables.setdefault("CONTAINERS_CONF", str(PODMAN_SETTINGS))
    for program in filter(shutil.which, PROGRAMS):
        engine = Engine(program, variables)
        if engine.run("info", check=False).returncode == 0:
            return engine
    return None
