"""A copy of a shared log in a file of this machine, because samplers have no client of a database."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from operations.errors import CestaError
from operations.events.event import read_event
from operations.events.sqlite_store import SqliteStore
from operations.events.store import EventStore, StoreFault

log = structlog.get_logger()

EVERY_S: Final = 0.1
AGAIN_S: Final = 2.0  # after a failure


class LocalCopy:
    """Follows the store that ``open_shared`` opens into ``folder``, inside a `with` block."""

    def __init__(self, open_shared: Callable[[], EventStore], folder: Path) -> None:
        self._open_shared, self._folder = open_shared, folder
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events' copy", daemon=True)
        self.position = 0  # of the last event that was copied
        self.fault: str | None = None

    def __enter__(self) -> "LocalCopy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._follow()
            except Exception as error:  # the thread must go on: samplers would never hear of another event
                known = isinstance(error, CestaError | OSError)
                reason = str(error) if known else repr(error)
                if self.fault is None:
                    log.warning("events not copied", reason=reason, exc_info=not known)
                self.fault = reason
                self._ending.wait(AGAIN_S)

    def _follow(self) -> None:
        shared = self._open_shared()
        try:
            log_id = shared.log_id()
            local = self._begin(log_id)
            try:
                self.position = local.last_position()
                while not self._ending.wait(EVERY_S):
                    self._copy(shared, local, log_id)
                    self.fault = None
            finally:
                local.close()
        finally:
            shared.close()

    def _copy(self, shared: EventStore, local: SqliteStore, log_id: str) -> None:
        """Copy what is new. Raises StoreFault once the store has another log, whose positions are others."""
        while True:
            logged = shared.read(self.position)
            if shared.log_id() != log_id:
                raise StoreFault("the shared store holds another log than before")
            if not logged:
                return
            ids = [read_event(each.content).event_id for each in logged]
            local.copy(logged, ids, log_id)
            self.position = logged[-1].position

    def _begin(self, log_id: str) -> SqliteStore:
        """Open the copy. One of another log, such as that of a former store, is set aside."""
        local = SqliteStore(self._folder)
        if local.last_position() and local.log_id() != log_id:
            other = self._folder.with_name(f"{self._folder.name}-{local.log_id()}")
            local.close()
            shutil.move(self._folder, other)
            log.warning("another log set aside", folder=str(other))
            local = SqliteStore(self._folder)
        return local
