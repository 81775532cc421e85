"""The engine of a Ray cluster: each partition is a task, and what they share lies in the object store.

All nodes have the same version of cesta and of Ray: those of one image.
"""

import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from typing import Any, Final

from export_scripts.engines.interface import Engine, Function, Partition, Result, Shared, call, in_order
from export_scripts.settings import EngineSettings
from operations.errors import CestaError

REACH_S: Final = 10
PATIENCE_S: Final = 10  # without a result, before the cluster is asked whether it still has a node


@contextmanager
def open_ray(settings: EngineSettings) -> Iterator[Engine]:
    """Yield an engine on the cluster at ``settings.address``, which keeps running when the block ends.

    Raises CestaError if Ray is not installed here, or if no cluster answers.
    """
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of partitions behind the one that failed
    os.environ.setdefault("RAY_task_oom_retries", str(settings.retries))  # Ray's default is without end
    try:
        import ray
    except ModuleNotFoundError:
        raise CestaError("--engine ray needs ray; run: pip install 'cesta[ray]'") from None
    with redirect_stdout(sys.stderr):  # Ray prints there what dies; stdout is for results
        try:
            _reach(settings.address)
            ray.init(settings.address, log_to_driver=False, logging_level="warning")
        except OSError:
            raise CestaError(
                f'no Ray cluster answers at "{settings.address}", which is engine.address; '
                'run "ray start --head", or use --engine local'
            ) from None
        try:
            yield Cluster(ray, settings)
        finally:
            ray.shutdown()  # ends the tasks of this run


def _reach(address: str) -> None:
    """Raise OSError if nothing listens at ``address``: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit():  # "auto" has none, and Ray knows at once whether there is a cluster
        socket.create_connection((host, int(port)), REACH_S).close()


class Cluster:
    """Computes the partitions as tasks; Ray runs those of a dead worker or node again, elsewhere."""

    def __init__(self, ray: Any, settings: EngineSettings):
        self.workers, self._ray, self._retries = settings.workers, ray, settings.retries
        self.host: str = ray.util.get_node_ip_address()
        self._shared: object = None
        self._place = ray.put(None)

    def map(
        self, function: Function[Shared, Partition, Result], partitions: Iterable[Partition], shared: Shared
    ) -> Iterator[Result]:
        if shared is not self._shared:
            self._shared, self._place = shared, self._ray.put(shared)
        task = self._ray.remote(num_cpus=1, max_retries=self._retries, scheduling_strategy="SPREAD")(_call)

        def submit(partition: Partition) -> Any:
            return task.remote(function, [self._place], partition)  # in a list: a place is not its value

        for future in in_order(submit, partitions, self.workers):
            yield self._result(future)

    def _result(self, future: Any) -> Any:
        ray = self._ray
        try:
            while not ray.wait([future], timeout=PATIENCE_S)[0]:
                if not ray.cluster_resources().get("CPU"):
                    raise CestaError("the Ray cluster has lost all nodes with a CPU; start one and run again")
            return ray.get(future)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, CestaError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            reason = str(error).partition("\n")[0]
            raise CestaError(
                f"the Ray cluster lost a partition in each of {self._retries + 1} tries: {reason}; if it "
                "is short of memory, lower --workers"
            ) from None


def _call(function: Function[Any, Partition, Result], places: list[Any], partition: Partition) -> Result:
    return call(function, _fetch(places[0]), partition)


@lru_cache(maxsize=1)  # for all partitions of this worker
def _fetch(place: Any) -> Any:
    import ray

    return ray.get(place)
