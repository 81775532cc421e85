"""The engine of a Ray cluster: each partition is a task, and what they share lies in the object store.

All nodes have the same version of cesta and of Ray: those of one image. A worker refuses to be another one.
"""

import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from typing import Any, Final

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
from export_scripts.engines.software import check_software, software
from export_scripts.settings import EngineSettings
from operations.errors import CestaError

AUTO: Final = "auto"
REACH_S: Final = 10
LOOK_S: Final = 10  # without a result, before the cluster is asked whether it still has a node
FREE_S: Final = 180  # for as many processors to be free as workers must begin together


@contextmanager
def open_ray(settings: EngineSettings) -> Iterator[Engine]:
    """Yield an engine on the cluster at ``settings.address``, which keeps running when the block ends.

    Raises CestaError if Ray is not installed here, if no cluster answers, or if it refuses this process.
    """
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of partitions behind the one that failed
    os.environ.setdefault("RAY_task_oom_retries", str(settings.retries))  # Ray's default is without end
    try:
        import ray
    except ModuleNotFoundError:
        raise CestaError("--engine ray needs ray; run: pip install 'cesta[ray]'") from None
    with redirect_stdout(sys.stderr):  # Ray prints there what dies; stdout is for results
        _connect(ray, settings.address)
        try:
            yield Cluster(ray, settings)
        finally:
            ray.shutdown()  # ends the tasks of this run


def _connect(ray: Any, address: str) -> None:
    """Join the cluster at ``address``. Raises CestaError if none answers there, or if it refuses."""
    source = "engine.address"
    if address == AUTO and (named := os.environ.get("RAY_ADDRESS")):
        address, source = named, "RAY_ADDRESS"
    cluster = f'Ray cluster answers at "{address}", which is {source}'
    nobody = CestaError(f'no {cluster}; run "ray start --head", or use --engine local')
    try:
        _reach(address)
    except OSError:
        raise nobody from None
    try:
        ray.init(address, log_to_driver=False, logging_level="warning")
    except (OSError, RuntimeError, ray.exceptions.RayError) as error:
        if address == AUTO and isinstance(error, OSError):
            raise nobody from None
        raise CestaError(
            f"a {cluster}, but refuses this process: {' '.join(str(error).split())}; use the versions of Ray "
            "and Python and, with RAY_AUTH_MODE=token, the token that the cluster has"
        ) from None


def _reach(address: str) -> None:
    """Raise OSError if nothing listens at ``address``: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit():  # "auto" has none, and Ray knows at once whether there is a cluster
        socket.create_connection((host, int(port)), REACH_S).close()


class Cluster:
    """Computes the partitions as tasks; Ray runs those of a dead worker or node again, elsewhere."""

    def __init__(self, ray: Any, settings: EngineSettings):
        self.workers, self._ray, self._retries = settings.workers, ray, settings.retries
        self._patience = settings.patience
        self.host: str = ray.util.get_node_ip_address()
        self._shared: object = None
        self._place = ray.put(None)

    def map(
        self, function: Function[Shared, Partition, Result], partitions: Iterable[Partition], shared: Shared
    ) -> Iterator[Result]:
        place = self._put(shared)
        task = self._ray.remote(num_cpus=1, max_retries=self._retries, scheduling_strategy="SPREAD")(_call)

        def submit(partition: Partition) -> Any:
            return task.remote(
                software(), function, [place], partition
            )  # in a list: a place is not its value

        try:
            for future in in_order(submit, partitions, self.workers):
                yield self._result(self._first_of([future]))
        except WorkerLost as error:
            raise CestaError(
                f"the Ray cluster lost a partition in each of {self._retries + 1} tries: {error}; if a node "
                "is short of memory, lower --workers; if the disk with Ray's own files is full, make room"
            ) from None

    def available(self) -> int:
        return min(self.workers, self._processors())

    def together(
        self, function: Function[Shared, Partition, Result], partitions: Sequence[Partition], shared: Shared
    ) -> list[Result]:
        """Reserve a processor for each partition first: no one waits for another that has none."""
        ray, place, size = self._ray, self._put(shared), len(partitions)
        group = ray.util.placement_group([{"CPU": 1}] * size, strategy="SPREAD")
        try:
            self._wait_for(group, size)
            strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
            futures = [
                ray.remote(num_cpus=1, max_retries=0, scheduling_strategy=strategy(group, k))(_call).remote(
                    software(), function, [place], partition
                )
                for k, partition in enumerate(partitions)
            ]
            waiting = futures
            while waiting:
                done = self._first_of(waiting)
                self._result(done)
                waiting = [future for future in waiting if future != done]
            return [self._result(future) for future in futures]
        finally:
            ray.util.remove_placement_group(group)  # and kill its workers that have not finished

    def _wait_for(self, group: Any, size: int) -> None:
        """Wait until the ``size`` processors of ``group`` are reserved."""
        begun = time.monotonic()
        while not group.wait(LOOK_S):
            if self._processors() < size:
                raise WorkerLost(f"{size} processors were there, and a node with some of them is lost")
            if time.monotonic() - begun > FREE_S:
                raise CestaError(
                    f"the Ray cluster has not had {size} free processors at once for {FREE_S} seconds; other "
                    "jobs use them: wait for their end, or lower --workers"
                )

    def _put(self, shared: object) -> Any:
        if shared is not self._shared:
            self._shared, self._place = shared, self._ray.put(shared)
        return self._place

    def _first_of(self, futures: list[Any]) -> Any:
        """Wait until one of ``futures`` is done, and return it."""
        begun = time.monotonic()
        while not (done := self._ray.wait(futures, timeout=min(LOOK_S, self._patience))[0]):
            self._processors()
            if time.monotonic() - begun > self._patience:
                raise CestaError(silent("the workers of the Ray cluster", self._patience))
        return done[0]

    def _result(self, future: Any) -> Any:
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(future)
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, CestaError):
                raise error.cause from None
            if "failed to import" in str(error):
                raise CestaError(
                    "a node of the Ray cluster cannot import cesta; install cesta[train,ray] there, in the "
                    "version that the stage has"
                ) from None
            raise
        except exceptions.RayError as error:
            raise WorkerLost(str(error).partition("\n")[0]) from None

    def _processors(self) -> int:
        """The processors of all nodes. Raises CestaError if there are none."""
        if not (found := int(self._ray.cluster_resources().get("CPU", 0))):
            raise CestaError("the Ray cluster has lost all nodes with a CPU; start one and run again")
        return found


def _call(
    expected: Mapping[str, str],
    function: Function[Any, Partition, Result],
    places: list[Any],
    partition: Partition,
) -> Result:
    import ray

    check_software(expected, ray.util.get_node_ip_address())
    return call(function, _fetch(places[0]), partition)


@lru_cache(maxsize=1)  # for all partitions of this worker
def _fetch(place: Any) -> Any:
    import ray

    return ray.get(place)
