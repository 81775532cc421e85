"""Publishing in a process of its own, which SIGKILL ends at a step of the caller's choice."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from operations.records import sampler_code
from operations.releases import publish
from operations.releases.mirror.local_files import local_files
from operations.releases.stores.store import open_repository
from tests.building import TOY_SAMPLER

_processes = multiprocessing.get_context("forkserver")  # imports once, forks for each
_processes.set_forkserver_preload(["tests.running.killed_publisher", "onnx", "obstore"])

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.link", "shutil.copyfile"}


def start_publishing(
    run: Path, repository: str, variables: dict[str, str], step: int | None
) -> ForkServerProcess:
    """A process that publishes `run`. With a `step` it kills itself before that change of the folder."""
    process = _processes.Process(target=_publish, args=(run, repository, variables, step))
    process.start()
    return process


def start_fetching(repository: str, variables: dict[str, str], release: int) -> ForkServerProcess:
    """A process that brings a release of a bucket into the mirror."""
    process = _processes.Process(target=_fetch, args=(repository, variables, release))
    process.start()
    return process


def _fetch(repository: str, variables: dict[str, str], release: int) -> None:
    os.environ.update(variables)
    local = local_files(open_repository(repository))
    local.refresh()
    local.fetch(release)


def _publish(run: Path, repository: str, variables: dict[str, str], step: int | None) -> None:
    os.environ.update(variables)
    sampler_code.SAMPLER_CODE = TOY_SAMPLER
    if step is not None:
        _die_at(step, repository)
    publish.publish(run, open_repository(repository))


def _die_at(step: int, folder: str) -> None:
    """Python calls its audit hooks before every change of a file system."""
    steps = iter(range(step))

    def hook(event: str, values: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR)
        if not (writes or event in CHANGES):
            return
        if any(str(value).startswith(folder) for value in values[:2]) and next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
