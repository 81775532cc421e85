"""The progress of one run of etl: a bar on stderr with an estimate of the time left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SHOWN_EVERY_S: Final = 0.25
# Step → its share of the processor's time, measured at 8 million lines; copying beside all others.
SHARES: Final = {
    "copying": 2.0,
    "checking columns": 0.05,
    "checking baskets": 0.15,
    "numbering": 0.15,
    "sorting": 0.2,
    "writing": 0.45,
}


class Steps:
    """The steps of a run, of which some are left out; a bar only if stderr is a terminal."""

    def __init__(self, copies: bool) -> None:
        self._left = {step: share for step, share in SHARES.items() if copies or step != "copying"}
        self._done = 0.0
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("etl  {task.description:<16}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("opening", total=sum(self._left.values()))

    @contextmanager
    def shown(self) -> Iterator[None]:
        with self._bar:
            yield

    @contextmanager
    def step(self, name: str, done: Callable[[], float] | None = None) -> Iterator[Callable[[float], None]]:
        """Yield a function that takes the finished part of this step; or ask `done` for it meanwhile.

        A step that was done counts no more: the table of products is small.
        """
        self._bar.update(self._task, description=name)
        start, share, over = self._done, self._left.pop(name, 0.0), threading.Event()

        def report(part: float) -> None:
            self._bar.update(self._task, completed=start + share * min(max(part, 0.0), 1.0))

        def ask() -> None:
            while done and not over.wait(SHOWN_EVERY_S):
                report(done())

        asking = threading.Thread(target=ask, daemon=True)
        if done and not self._bar.disable:
            asking.start()
        try:
            yield report
        finally:
            over.set()
            if asking.is_alive():
                asking.join()
        self._done = start + share
        report(1.0)
