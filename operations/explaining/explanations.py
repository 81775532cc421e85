"""Explains answers of the release that is served, one question at a time.

The process that does so starts with the first question and ends when nobody has asked for a while. Another
release gets another process.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from operations.errors import CestaError
from operations.explaining.process import ExplainerProcess, QuestionRefused
from operations.releases.mirror.local_files import local_files
from operations.releases.models.files import files_of
from operations.releases.stores.store import Repository
from operations.server.environment import find_serving_environment

WAIT_S: Final = 1.0  # for the question before
LIMIT_S: Final = 20.0  # for one question
CLOSE_S: Final = 0.5
IDLE_S: Final = 600.0  # until the process ends: it holds one more sampler's memory


class Busy(CestaError):  # noqa: N818 - named for what happened
    """Another question is being explained."""


class NothingServed(CestaError):  # noqa: N818 - named for what happened
    """No release answers now."""


class Explanations:
    """Explains answers of one repository's releases. Threads may share it."""

    def __init__(
        self,
        repository: Repository,
        served: Callable[[], int | None],
        live: Path | None = None,
        idle_s: float = IDLE_S,
    ) -> None:
        """``served`` tells which release answers now; ``live`` is the folder of its live tables."""
        self._live = live
        self._repository, self._served, self._idle_s = repository, served, idle_s
        self._alone = threading.Lock()
        self._process: ExplainerProcess | None = None
        self._asked_s = 0.0
        self._timer: threading.Timer | None = None

    def explain(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the explanation of ``{"question": …, "k": …, "item_ids": […]}`` with its ``release``.

        Raises Busy, NothingServed or QuestionRefused, and CestaError if the release cannot be explained.
        """
        with self._waited_for():
            release = self._served()
            if release is None:
                raise NothingServed("no release answers now")
            process = self._process_of(release)
            try:
                told = process.ask(question, LIMIT_S)
            except QuestionRefused:
                raise
            except CestaError:
                self._end()
                raise
            return {"release": release, **told}

    def close(self) -> None:
        """End the process. One that is busy for longer ends with this one, which holds its socket."""
        if self._alone.acquire(timeout=CLOSE_S):
            self._end()
            self._alone.release()

    @contextlib.contextmanager
    def _waited_for(self) -> Iterator[None]:
        if not self._alone.acquire(timeout=WAIT_S):
            raise Busy("another question is being explained")
        try:
            yield
        finally:
            self._asked_s = time.monotonic()
            self._alone.release()

    def _process_of(self, release: int) -> ExplainerProcess:
        found = self._process
        if found and found.release == release and found.is_alive():
            return found
        self._end()
        local = local_files(self._repository)
        with contextlib.closing(local):  # what it has mapped stays until it ends
            local.refresh()
            folder = local.folder.root.absolute()
            files = files_of(str(self._repository), folder, local.fetch(release))
            self._process = ExplainerProcess(files, find_serving_environment(), self._live)
        self._await_idleness(self._idle_s)
        return self._process

    def _await_idleness(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._end_if_idle)
        self._timer.daemon = True
        self._timer.start()

    def _end_if_idle(self) -> None:
        with self._alone:
            left_s = self._asked_s + self._idle_s - time.monotonic()
            if self._process is None:
                return
            if left_s > 0:
                self._await_idleness(left_s)
            else:
                self._end()

    def _end(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._process:
            self._process.close()
        self._process = self._timer = None
