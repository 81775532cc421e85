"""A Prefect server in the environment that has it, asked over HTTP: the tests' own environment has none."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from export_scripts.flows.local import Local, serve

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
LOOK_S = 0.3


@dataclass(frozen=True)
class PrefectServer:
    """A server on which the flows are registered."""

    local: Local

    def with_variables(self, **variables: str) -> PrefectServer:
        """The same server, for workers with other variables."""
        return PrefectServer(replace(self.local, variables={**self.local.variables, **variables}))

    def run(self, run_id: str) -> Mapping[str, Any]:
        """What the server knows of a run."""
        found: Mapping[str, Any] = self.local.ask(f"/flow_runs/{run_id}", method="GET")
        return found

    def tasks(self, run_id: str) -> list[tuple[str, str]]:
        """Name and state of each task of a run, in the order of their starts."""
        asked = {"flow_runs": {"id": {"any_": [run_id]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return [
            (task["name"].rpartition("-")[0], task["state_name"])
            for task in self.local.ask("/task_runs/filter", asked)
        ]

    def await_run(
        self, run_id: str, seconds: float, until: Callable[[Mapping[str, Any]], bool]
    ) -> Mapping[str, Any]:
        """Wait until a run is as wished; raises AssertionError with its logs if it ends otherwise."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            run = self.run(run_id)
            if until(run):
                return run
            time.sleep(LOOK_S)
        raise AssertionError(f"{self.run(run_id)['state']} after {seconds} s\n{self.logs(run_id)}")

    def await_end(self, run_id: str, seconds: float = 400) -> Mapping[str, Any]:
        """Wait until a run has ended; its state."""
        run = self.await_run(run_id, seconds, lambda run: run["state_type"] in FINAL)
        state: Mapping[str, Any] = run["state"]
        return state

    def await_task(self, run_id: str, name: str, state: str, seconds: float = 120) -> None:
        """Wait until a task of a run is in a state."""
        self.await_run(run_id, seconds, lambda run: (name, state) in self.tasks(run_id))

    def await_tasks(self, run_id: str, expected: list[tuple[str, str]]) -> None:
        """Wait until the tasks of a run are as expected: the server learns of their ends a moment later."""
        end = time.monotonic() + 60
        while (found := self.tasks(run_id))[: len(expected)] != expected:
            assert time.monotonic() < end, found
            time.sleep(LOOK_S)

    def logs(self, run_id: str) -> str:
        """The lines of a run."""
        asked = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        return "\n".join(line["message"] for line in self.local.ask("/logs/filter", asked))

    def artifacts(self, run_id: str) -> dict[str, Mapping[str, Any]]:
        """The artifacts of a run by key."""
        asked = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        return {artifact["key"]: artifact for artifact in self.local.ask("/artifacts/filter", asked)}


@contextmanager
def prefect_server(folder: Path, python: Path) -> Iterator[PrefectServer]:
    """Start a server with its files in ``folder`` and register the flows, for a build below it."""
    with serve(folder, str(python)) as local:
        command = {"CESTA_COMMAND": str(Path(sys.executable).with_name("cesta"))}
        local = replace(local, variables={**local.variables, **command})
        done = local.python("register.py", CESTA_OUT=str(folder / "unused"))
        assert done.returncode == 0
        yield PrefectServer(local)


def children(pid: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has just ended
            for child in map(int, task.read_text().split()):
                found += [child, *children(child)]
    return found


def is_alive(pid: int) -> bool:
    """Does the process run? A zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def kill(*pids: int) -> None:
    """End processes as a power failure does."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
