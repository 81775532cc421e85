"""The engine of one machine: this process, or a pool of processes."""

import mmap
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, NamedTuple

from export_scripts.engines.interface import (
    Engine,
    Function,
    Partition,
    Result,
    Shared,
    WorkerLost,
    call,
    in_order,
    silent,
)
from operations.errors import CestaError
from operations.records.atomic import scratch_folder

LOOPBACK: Final = "127.0.0.1"
# A fork would copy the locks of torch's and numba's threads without the threads.
SPAWN: Final = multiprocessing.get_context("spawn")
PREFIX: Final = "cesta-shared-"
AHEAD: Final = 2  # partitions per worker: one that is computed, and one that waits for it
PATIENCE_S: Final = 3_600.0
ALIGNMENT: Final = 64  # bytes; arrays begin there, as numpy's own do


@contextmanager
def open_local(workers: int, patience: float = PATIENCE_S) -> Iterator[Engine]:
    """Yield an engine of ``workers`` processes of this machine; a single one is this process.

    Processes that finish no partition for ``patience`` seconds are killed.
    """
    if workers == 1:
        yield ThisProcess()
        return
    with scratch_folder(Path(tempfile.gettempdir()), PREFIX) as folder:
        pool = ProcessPoolExecutor(workers, SPAWN, initializer=_begin)
        try:
            yield Processes(pool, workers, folder, patience)
        finally:
            pool.shutdown(cancel_futures=True)


class ThisProcess:
    """Computes the partitions here, one after the other."""

    workers = 1
    host = LOOPBACK

    def map(
        self, function: Function[Shared, Partition, Result], partitions: Iterable[Partition], shared: Shared
    ) -> Iterator[Result]:
        return (function(shared, partition) for partition in partitions)

    def available(self) -> int:
        return 1

    def together(
        self, function: Function[Shared, Partition, Result], partitions: Sequence[Partition], shared: Shared
    ) -> list[Result]:
        return [function(shared, partition) for partition in partitions]


class Processes:
    """Computes the partitions in a pool of processes, which find ``shared`` in a file of ``folder``."""

    host = LOOPBACK

    def __init__(self, pool: ProcessPoolExecutor, workers: int, folder: Path, patience: float):
        self.workers, self._pool, self._folder, self._patience = workers, pool, folder, patience
        self._others = set(multiprocessing.active_children())
        self._shared: object = None
        self._path = folder / "0"
        write_shared(self._path, None)

    def map(
        self, function: Function[Shared, Partition, Result], partitions: Iterable[Partition], shared: Shared
    ) -> Iterator[Result]:
        path = self._place(shared)

        def submit(partition: Partition) -> Future[Result]:
            return self._pool.submit(_call, function, path, partition)

        try:
            for future in in_order(submit, partitions, AHEAD * self.workers):
                yield future.result(self._patience)
        except TimeoutError:
            for process in set(multiprocessing.active_children()) - self._others:
                process.kill()  # those of the pool, whose end would wait for them
            raise CestaError(silent(f"{self.workers} worker processes", self._patience)) from None
        except BrokenProcessPool:
            raise CestaError(
                f"one of {self.workers} worker processes was killed; usually their memory together was too "
                "small: run again with fewer --workers"
            ) from None

    def available(self) -> int:
        return self.workers

    def together(
        self, function: Function[Shared, Partition, Result], partitions: Sequence[Partition], shared: Shared
    ) -> list[Result]:
        """Start processes for this call only: those of the pool would outlive a rank that hangs."""
        path = self._place(shared)
        members: list[Member] = []
        try:
            members.extend(Member.start(function, path, partition) for partition in partitions)
            return _collect(members, self._patience)
        finally:
            for member in members:
                member.end()

    def _place(self, shared: object) -> Path:
        """The file with ``shared``; that of the map before if it shared the same object."""
        if shared is not self._shared:
            self._path.unlink()  # workers that have mapped it keep it
            self._shared, self._path = shared, self._folder / str(int(self._path.name) + 1)
            write_shared(self._path, shared)
        return self._path


class Member(NamedTuple):
    """A process that computes one partition while others compute theirs."""

    process: multiprocessing.process.BaseProcess
    results: Connection  # its end is the process's end

    @classmethod
    def start(cls, function: Function[Any, Partition, Any], path: Path, partition: Partition) -> "Member":
        results, inner = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(target=_compute, args=(inner, function, path, partition))
        process.start()
        inner.close()
        return cls(process, results)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.results.close()


def _collect(members: Sequence[Member], patience: float) -> list[Any]:
    """Return the results of all members in their order; raise the first error."""
    results: dict[Connection, Any] = {}
    while waiting := [member.results for member in members if member.results not in results]:
        if not (done := wait(waiting, patience)):
            raise CestaError(silent(f"{len(members)} worker processes", patience))
        for ready in done:
            assert isinstance(ready, Connection)
            try:
                result, error = ready.recv()
            except EOFError:
                raise WorkerLost(f"one of {len(members)} worker processes was killed") from None
            if error:
                raise error
            results[ready] = result
    return [results[member.results] for member in members]


def _compute(
    results: Connection, function: Function[Any, Partition, Any], path: Path, partition: Partition
) -> None:
    _begin()
    outcome: tuple[Any, Exception | None]
    try:
        outcome = _call(function, path, partition), None
    except CestaError as error:
        outcome = None, error
    except Exception as error:
        error.add_note(traceback.format_exc())  # where it happened; no traceback can be sent
        outcome = None, error
    results.send(outcome)


def _begin() -> None:
    """Let a worker end at Ctrl-C without a traceback, and with its parent: the pool's queue has no end."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(function: Function[Any, Partition, Result], path: Path, partition: Partition) -> Result:
    return call(function, read_shared(path), partition)


def write_shared(path: Path, value: object) -> None:
    """Write ``value`` so that ``read_shared`` can map its arrays: the pickle, then the arrays' memory."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [buffer.raw() for buffer in buffers]
    with path.open("wb") as file:
        pickle.dump((pickled, [part.nbytes for part in parts]), file)
        for part in parts:
            file.seek(_aligned(file.tell()))
            file.write(part)


@lru_cache(maxsize=1)  # for all partitions of this worker
def read_shared(path: Path) -> Any:
    """Return the value of ``write_shared`` with read-only arrays, whose memory all processes share."""
    with path.open("rb") as file:
        pickled, sizes = pickle.load(file)
        memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        at, buffers = file.tell(), []
    for size in sizes:
        at = _aligned(at)
        buffers.append(memory[at : at + size])
        at += size
    return pickle.loads(pickled, buffers=buffers)


def _aligned(at: int) -> int:
    return -(-at // ALIGNMENT) * ALIGNMENT
