"""A Ray cluster of two nodes on this machine, each in namespaces of its own: network, processes, mounts.

Killing a node kills all its processes at once, as a machine that loses power. Its shared memory and its
temporary folder vanish with its mounts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT
from tests.running.processes import children

SUBNET = "10.213.7"
PORT = 6379
HEAD = ["--port", str(PORT), "--include-dashboard", "false"]
ADDRESS = f"{SUBNET}.1:{PORT}"
CPUS = 2  # of each node
OBJECTS = 100 * 2**20  # bytes of its object store
TEMPORARY = 400 * 2**20  # bytes of its temporary folder, which is Ray's too
RAY = Path(sys.executable).with_name("ray")
START_S = 120


@dataclass
class Node:
    """A node: the process that holds all others, and the file with their output."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def inner(self) -> int:
        """The first process inside the namespaces, by its number outside."""
        return children(self.process.pid)[0]

    def command(self, *words: str | Path) -> list[str]:
        """The command that runs ``words`` on this node."""
        target = ["nsenter", "--target", str(self.inner), "--mount", "--net", "--pid"]
        return [*target, f"--wdns={ROOT}", *map(str, words)]

    def tasks(self) -> list[int]:
        """The Ray workers of this node that compute a partition now."""
        return [pid for pid in descendants(self.inner) if title(pid).startswith("ray::_call")]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Cluster:
    """The head, where the stages are started, and the other node, in place of which a new one can come."""

    def __init__(self, names: Sequence[str], logs: Path) -> None:
        self._names, self._logs = names, logs
        self.head = start(names[0], f"{SUBNET}.1", ["--head", *HEAD], logs)
        self.other = self._start_other()

    def _start_other(self) -> Node:
        try:
            return start(self._names[1], f"{SUBNET}.2", ["--address", ADDRESS], self._logs)
        except BaseException:
            self.head.kill()
            raise

    def renew(self) -> None:
        """Start the other node again if it is lost."""
        if self.other.process.poll() is not None:
            self.other = self._start_other()

    def end(self) -> None:
        self.other.kill()
        self.head.kill()


@contextmanager
def two_nodes(logs: Path) -> Iterator[Cluster]:
    """Start a cluster of two nodes, whose output goes into ``logs``; end all its processes."""
    own = uuid.uuid4().hex[:8]
    names = [f"cesta-{own}-{k}" for k in range(2)]
    with wired(names):
        cluster = Cluster(names, logs)
        try:
            yield cluster
        finally:
            cluster.end()


@contextmanager
def wired(names: Sequence[str]) -> Iterator[None]:
    """Make the network namespaces and a cable between them; remove both."""
    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        ends = ["ray0", "ray1"]
        ip("link", "add", ends[0], "netns", names[0], "type", "veth", "peer", ends[1], "netns", names[1])
        for k, (name, end) in enumerate(zip(names, ends, strict=True)):
            ip("-n", name, "address", "add", f"{SUBNET}.{k + 1}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in made:
            ip("netns", "delete", name)


def start(name: str, address: str, options: Sequence[str], logs: Path) -> Node:
    ray = [
        *(str(RAY), "start", "--block", "--node-ip-address", address, *options, "--num-cpus", str(CPUS)),
        *("--object-store-memory", str(OBJECTS), "--disable-usage-stats"),
    ]
    mounts = (
        f"mount -t tmpfs -o size={2 * OBJECTS} tmpfs /dev/shm && mkdir -p /tmp/ray && "
        f'mount -t tmpfs -o size={TEMPORARY} tmpfs /tmp/ray && exec "$@"'
    )
    # With the tests, whatever ends these, end the nodes.
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with (logs / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "ip",
                "netns",
                "exec",
                name,
                *apart,
                "sh",
                "-c",
                mounts,
                "sh",
                *ray,
            ],
            env=environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    node = Node(process, logs / f"{name}.log")
    try:
        until(lambda: "Ray runtime started" in node.log.read_text() or process.poll() is not None, START_S)
        assert process.poll() is None, node.log.read_text()
    except BaseException:
        node.kill()
        raise
    return node


def environment() -> dict[str, str]:
    """Ray asks nobody outside; its workers find cesta, and the functions of these tests, in the checkout."""
    return os.environ | {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": "/tmp",  # and not the tests' own TMPDIR: a node's disk is mounted at /tmp/ray
        "PYTHONPATH": f"{ROOT}:{ROOT / 'client/src'}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def descendants(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [pid, *(found for child in children(pid) for found in descendants(child))]
    return []


def title(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def until(is_true: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.05)
