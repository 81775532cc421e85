"""Keeps one program up: it starts it again when it ends, ever later, and gives up after ten failures.

It knows neither the program nor the time: it receives both, and the event that ends it.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import structlog

log = structlog.get_logger()

PAUSES_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # after the first failure, the second, …
FAILURES: Final = len(PAUSES_S) + 1  # so many within the window, and the program is given up
WINDOW_S: Final = 600.0
POLL_S: Final = 0.1


class Program(Protocol):
    """A program that can be started again."""

    @property
    def log(self) -> Path:
        """Where it says why it ended."""

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs. A negative number is a signal."""

    def start(self) -> None:
        """Start it and wait until it is ready. Raises CestaError or OSError."""

    def stop(self) -> None:
        """Let it end in good order. Does nothing if it does not run."""


class Ending(Protocol):
    """A threading.Event that is set when nothing is to be started any more."""

    def wait(self, timeout: float | None = None, /) -> bool: ...


class Keeper:
    """Keeps the program up between `run` and `stop`. `given_up` is empty, or a sentence for the user."""

    def __init__(
        self,
        name: str,
        program: Program,
        ending: Ending,
        clock: Callable[[], float] = time.monotonic,
        *,
        needed: bool = True,
    ) -> None:
        self.name, self.program = name, program
        self.ready = threading.Event()  # the first start has succeeded, or others need not wait for it
        self.late = False  # the first start has failed
        self.given_up = ""
        self._ending, self._clock, self._is_needed = ending, clock, needed
        self._failed_s: list[float] = []
        self._may_stop = threading.Event()

    def run(self) -> None:
        """Start the program, keep it up until `ending` is set, and stop it after `stop`.

        An error of the first start is raised if the program is needed, else the start is repeated. One thread
        does all of it: the kernel ends a program with the thread that started it.
        """
        try:
            if self._begin():
                self._keep()
            self._may_stop.wait()
        finally:
            self.program.stop()

    def stop(self) -> None:
        """Have the program stopped. `ending` must be set before."""
        self._may_stop.set()

    def _begin(self) -> bool:
        """Start it for the first time; return False if it is given up."""
        try:
            self.program.start()
        except Exception as error:
            if self._is_needed:
                raise
            self.late = True
            self.ready.set()
            return self._restore(str(error) or repr(error))
        self.ready.set()
        return True

    def _keep(self) -> None:
        while not self._ending.wait(POLL_S):
            code = self.program.exit_code
            if code is not None and not self._restore(_explain(code)):
                return

    def _restore(self, reason: str) -> bool:
        """Start the program until it is ready or `ending` is set; return False if it is given up."""
        lost_s = self._clock()
        while self._may_try_again(reason):
            try:
                self.program.start()
            except Exception as error:  # whatever it is, the thread goes on: nobody else restores the program
                reason = str(error) or repr(error)
                continue
            self._tell("info", "program restored", down_s=round(self._clock() - lost_s, 2))
            return True
        return not self.given_up

    def _may_try_again(self, reason: str) -> bool:
        """Count a failure and wait. Return False if it was the last one, or if `ending` is set."""
        now_s = self._clock()
        self._failed_s = [failed_s for failed_s in self._failed_s if now_s - failed_s < WINDOW_S] + [now_s]
        about = {"reason": reason, "log": str(self.program.log)}
        if len(self._failed_s) >= FAILURES:
            self.given_up = (
                f"{self.name} failed {FAILURES} times within {WINDOW_S / 60:.0f} minutes and is not started "
                f"again: {reason}; its log is {self.program.log}"
            )
            self._tell("error", "program given up", failures=FAILURES, **about)
            return False
        pause_s = PAUSES_S[len(self._failed_s) - 1]
        self._tell("error", "program ended", start_in_s=pause_s, **about)
        return not self._ending.wait(pause_s)

    def _tell(self, level: str, event: str, **fields: object) -> None:
        with contextlib.suppress(OSError):  # a closed terminal or pipe is no reason to let a program down
            getattr(log, level)(event, program=self.name, **fields)


def _explain(code: int) -> str:
    return f"it was ended by signal {-code}" if code < 0 else f"it ended by itself with {code}"
