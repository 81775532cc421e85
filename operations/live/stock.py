"""The changes of a shop's stock: taken in order of versions, kept, applied by the samplers, acknowledged.

Changes that arrive within a quarter of a second become one version of the samplers and of the gateway: each
new version is a new key in Triton's response cache.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from operations.errors import CestaError
from operations.live.followers import Applied, read_followers
from operations.live.table import LiveTable, Version, merged
from operations.live.uploads import MOST_PARTS, Uploads
from operations.records.disk import explain

log = structlog.get_logger()

INTERVAL_S: Final = 0.25  # between two versions that samplers and gateway are told
APPLIED_S: Final = 0.7  # how long an acknowledgement waits for the samplers
POLL_S: Final = 0.01
LAG_POLL_S: Final = 0.1
MOST_VERSION: Final = 2**53 - 1  # the largest whole number that every JSON reader keeps


class OlderVersion(CestaError):  # noqa: N818 - it says what happened
    """A version that is not newer than what is known."""


class NotKept(CestaError):  # noqa: N818 - as above
    """A version that could not be written."""


@dataclass(frozen=True)
class Acknowledged:
    """A version is kept, and these samplers have applied it or a newer one."""

    version: int
    changed: int  # pairs of the request
    samplers: int
    applied: int


@dataclass(frozen=True)
class Part:
    """One part of a version, counted from 1."""

    part: int
    parts: int


class Stock:
    """The stock of one shop in ``folder``.

    ``tell`` receives a text that differs for each state of the samplers: the gateway's part of the cache key.
    """

    def __init__(self, folder: Path, tell: Callable[[str], object]) -> None:
        self.folder, self._tell = folder, tell
        self.table, self._uploads = LiveTable(folder), Uploads(folder)
        if self.table.damage:
            log.error("stock damaged", reason=self.table.damage)
        self.refused = 0  # changes since the start
        self._table_lock = threading.Lock()
        self._lock = threading.Condition()
        self._waiting: dict[int, tuple[Version, Future[Acknowledged]]] = {}
        self._is_told = self.table.version == 0
        self._lagging_since_s: float | None = None
        self._ending = False

    def put(self, number: int | None, version: Version) -> Future[Acknowledged]:
        """Take a change; the result comes when it is acknowledged. ``number`` None: the next version.

        Raises OlderVersion, and CestaError for a change that the table has no room for. The future raises
        NotKept.
        """
        with self._lock:
            newest = max(self._waiting, default=self.table.version)
            version = Version(newest + 1 if number is None else number, version.pairs, version.replace)
            if version.number <= newest:
                return self._again(version, newest)
            self._check(version)
            outcome: Future[Acknowledged] = Future()
            self._waiting[version.number] = version, outcome
            self._lock.notify_all()
            return outcome

    def put_part(self, version: Version, part: Part) -> Future[Acknowledged] | int:
        """Keep a part; return how many have come, or the outcome of the whole version.

        Raises OlderVersion, NotKept, and CestaError for a part that does not fit the others.
        """
        with self._lock:
            newest = max(self._waiting, default=self.table.version)
            if version.number <= newest:
                return self._again(version, newest)
            if version.number < (collected := self._uploads.newest()):
                raise self._older(version.number, collected)
            parts = self._uploads.parts(version.number) or part.parts
            if parts != part.parts or not 1 <= part.part <= parts <= MOST_PARTS:
                raise CestaError(f"part {part.part} of {part.parts} does not fit; parts: {parts}")
            self._uploads.end(version.number - 1)
            try:
                come = self._uploads.add(version, part.part, part.parts)
            except OSError as error:
                raise NotKept(f"part {part.part} was not kept: {explain(error)}") from None
            whole = self._uploads.whole(version.number, parts) if come == parts else None
        return come if whole is None else self.put(whole.number, whole)

    def described(self) -> dict[str, object]:
        """Return the answer of ``GET /v1/availability``."""
        with self._table_lock:
            table = self.table
            numbers = {
                "version": table.version,
                "pairs": table.pairs(),
                "unavailable": table.gone(),
                "stores": table.stores(),
            }
        collected = self._uploads.newest()
        samplers = self.followers()
        return numbers | {
            "changed_s": round(time.time() - table.changed_at, 1) if table.version else None,
            "collecting": collected if collected > table.version else None,
            "samplers": [{"release": int(one.release), "version": one.version} for one in samplers],
            "damage": table.damage or None,
        }

    def is_available(self, item: str, store: str) -> bool:
        """Tell whether an item may be recommended in a store, or with "" in the whole shop."""
        with self._table_lock:
            return self.table.is_available(item, store)

    def followers(self) -> list[Applied]:
        """Return the living sampler processes that follow the stock."""
        return read_followers(self.folder)

    def lag_s(self) -> float:
        """Return for how long a sampler process has not applied what was acknowledged; 0 if all have."""
        since_s = self._lagging_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def run(self) -> None:
        """Keep, apply and acknowledge what arrives, until `end`."""
        last_s = 0.0
        while batch := self._next_batch(last_s):
            last_s = time.monotonic()
            try:
                self._commit([version for version, _ in batch], [outcome for _, outcome in batch])
            except Exception as error:  # the thread must go on: its callers would wait for ever
                log.error("stock not kept", exc_info=error)
                self._finish([version for version, _ in batch])
                for _, outcome in batch:
                    if not outcome.done():
                        outcome.set_exception(error)

    def end(self) -> None:
        """Have `run` return."""
        with self._lock:
            self._ending = True
            self._lock.notify_all()

    def _next_batch(self, last_s: float) -> list[tuple[Version, Future[Acknowledged]]]:
        """Wait for changes and for the interval; meanwhile tell the gateway what lagging samplers applied."""
        while True:
            with self._lock:
                if self._ending:
                    return []
                due_s = last_s + INTERVAL_S - time.monotonic()
                if self._waiting and due_s <= 0:
                    return list(self._waiting.values())
                self._lock.wait(max(due_s, POLL_S) if self._waiting else LAG_POLL_S)
            if not self._is_told and not self._lagging():
                self._lagging_since_s = None
                self._announce()

    def _commit(self, versions: list[Version], outcomes: list[Future[Acknowledged]]) -> None:
        whole = merged(versions)
        try:
            with self._table_lock:
                self.table.write(whole)
        except OSError as error:
            self._finish(versions)
            for outcome in outcomes:
                outcome.set_exception(NotKept(f"version {whole.number} was not kept: {explain(error)}"))
            self._is_told = False  # samplers may have seen it for a moment
            log.error("stock not kept", version=whole.number, reason=explain(error))
            return
        self._uploads.end(whole.number)
        applied = self._await_samplers(whole.number)
        self._announce()
        self._finish(versions)
        done = sum(one.version >= whole.number for one in applied)
        if done == len(applied):
            self._lagging_since_s = None
        else:
            self._is_told = False
            self._lagging_since_s = self._lagging_since_s or time.monotonic()
        for version, outcome in zip(versions, outcomes, strict=True):
            outcome.set_result(Acknowledged(version.number, len(version.pairs), len(applied), done))

    def _finish(self, versions: Iterable[Version]) -> None:
        with self._lock:
            for version in versions:
                self._waiting.pop(version.number, None)

    def _await_samplers(self, version: int) -> list[Applied]:
        until_s = time.monotonic() + APPLIED_S
        while True:
            applied = self.followers()
            if all(one.version >= version for one in applied) or time.monotonic() > until_s:
                return applied
            time.sleep(POLL_S)

    def _lagging(self) -> bool:
        return any(one.version < self.table.version for one in self.followers())

    def _announce(self) -> None:
        """Give the gateway a key that no answer is cached under yet."""
        self._is_told = True
        try:
            self._tell(f"{self.table.version}.{secrets.token_hex(4)}")
        except (CestaError, OSError) as error:
            self._is_told = False
            log.warning("gateway not told of the stock", reason=str(error))

    def _again(self, version: Version, newest: int) -> Future[Acknowledged]:
        """Answer a version that is known. Raises OlderVersion unless it says what is known already."""
        if waiting := self._waiting.get(version.number):
            if version.pairs.items() <= waiting[0].pairs.items():
                return waiting[1]
        elif version.number == newest and self.table.holds(version.pairs):
            outcome: Future[Acknowledged] = Future()
            applied = self.followers()
            done = sum(one.version >= version.number for one in applied)
            outcome.set_result(Acknowledged(version.number, 0, len(applied), done))
            return outcome
        raise self._older(version.number, newest)

    def _check(self, version: Version) -> None:
        """Raise CestaError unless the table has room for this version and for those that wait."""
        waiting = [each for each, _ in self._waiting.values()]
        try:
            with self._table_lock:
                self.table.check_room(merged([*waiting, version]))
        except CestaError:
            self.refused += 1
            raise

    def _older(self, number: int, newest: int) -> OlderVersion:
        self.refused += 1
        same = "is known with other content" if number == newest else f"is older than version {newest}"
        return OlderVersion(f"version {number} {same}; send version {newest + 1} or a newer one")
