"""One interface for the places where a stage's partitions are computed: processes here, or a Ray cluster.

A stage cuts its work into partitions whose number and order do not depend on the engine, and puts the results
together in their order. So the result has the same bytes whatever the engine and the number of its workers.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from operations.errors import CestaError
from operations.records.disk import explain

Shared = TypeVar("Shared")
Partition = TypeVar("Partition")
Result = TypeVar("Result")
Future = TypeVar("Future")
Function = Callable[[Shared, Partition], Result]


class WorkerLost(CestaError):  # noqa: N818 - the name itself says what is wrong
    """A worker that died, or that answers no more. The same work may succeed in another one."""


class Engine(Protocol):
    """Calls a function for each partition, in one or several workers."""

    @property
    def workers(self) -> int:
        """How many partitions are computed at once; 1 computes them in this process."""
        ...

    @property
    def host(self) -> str:
        """The address at which the workers reach this process."""
        ...

    def map(
        self, function: Function[Shared, Partition, Result], partitions: Iterable[Partition], shared: Shared
    ) -> Iterator[Result]:
        """Yield ``function(shared, partition)`` for each partition, in the order of the partitions.

        ``function`` is at the top level of a module, and all values can be pickled. ``shared`` reaches each
        worker once, also for several maps in a row, and must not change between them. Its arrays are
        read-only there: the workers of a machine share their memory. Partitions are small. What is larger
        than memory is passed as a path that all workers can read.

        The first error of a worker ends the iteration, and the partitions that wait are not computed. A
        CestaError or OSError of the function arrives as a CestaError with the same sentence. Raises
        CestaError if a worker dies, or if no partition is finished for ``engine.patience`` seconds.
        """
        ...

    def available(self) -> int:
        """Return how many workers, at most ``workers``, `together` can have at this moment."""
        ...

    def together(
        self, function: Function[Shared, Partition, Result], partitions: Sequence[Partition], shared: Shared
    ) -> list[Result]:
        """Return the results of all partitions, each computed by a worker of its own at the same time.

        So the workers may wait for one another, which `map` forbids. The first error ends all of them. None
        is computed again: raises WorkerLost if one dies, and lets the caller begin again.
        """
        ...


def in_order(
    submit: Callable[[Partition], Future], partitions: Iterable[Partition], most: int
) -> Iterator[Future]:
    """Yield the future of each partition in their order, submitting at most ``most`` before they are taken.

    So the results that wait to be added up stay few, however many partitions there are.
    """
    waiting: deque[Future] = deque()
    for partition in partitions:
        if len(waiting) >= most:
            yield waiting.popleft()
        waiting.append(submit(partition))
    yield from waiting


def silent(workers: str, patience: float) -> str:
    """Say that ``workers`` have finished nothing for ``patience`` seconds."""
    return (
        f"{workers} have finished no partition for {patience:g} seconds, which is engine.patience; one "
        "hangs, or a partition takes longer: then raise it"
    )


def call(function: Function[Shared, Partition, Result], shared: Shared, partition: Partition) -> Result:
    """Call ``function`` in a worker. Its errors for the user become plain CestaErrors, which can be pickled.

    A full disk is explained here, where its free space can be asked for.
    """
    try:
        return function(shared, partition)
    except WorkerLost:
        raise
    except CestaError as error:
        raise CestaError(str(error)) from None
    except OSError as error:
        raise CestaError(explain(error)) from None
