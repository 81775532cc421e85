"""One live table: which items are not available, in the whole shop or in a store, by the newest version.

The table is a log of changes (`ensemble/candidate_sampler/live/change_log.py`) that is written anew once it
has grown to several times its size. The log before that stays beside it, for a damaged disk.
"""

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ensemble.candidate_sampler.live.change_log import (
    AVAILABLE,
    BETWEEN,
    GONE,
    STOCK,
    UNSAID,
    WHOLE_SHOP,
    Change,
    Group,
    Read,
    encode,
    read_from,
)
from operations.errors import CestaError
from operations.records.atomic import write_file
from operations.records.disk import FILE_MODE, make_folder

MOST_PAIRS: Final = 2_000_000
MOST_STORES: Final = 1_000  # each takes a byte an item in each sampler process
LEAST_REWRITTEN_BYTES: Final = 4 << 20
BEFORE: Final = "stock.log.before"

Pair = tuple[str, str]  # a store, or "" for the whole shop, and an item
Pairs = Mapping[Pair, int]  # their states


@dataclass(frozen=True)
class Version:
    """A version of the table: what it says of its pairs, or of all pairs if `replace` is set."""

    number: int
    pairs: Pairs
    replace: bool = False


class LiveTable:
    """The table in ``folder``, which this process alone writes. One thread changes it at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._log = folder, folder / STOCK
        self._states: dict[str, dict[str, int]] = {}  # by store, then by item; without UNSAID
        self.version, self.changed_at, self.damage = 0, 0.0, ""
        self._gone: int | None = None  # None: not counted yet
        self._is_whole, self._known = True, (0, 0)
        make_folder(folder)
        self._read()
        if not self._is_whole and self.version:
            with contextlib.suppress(OSError):  # a full disk; the samplers then keep what they have
                self._write_anew(Version(self.version, {}), self.changed_at)

    def pairs(self) -> int:
        """Return the number of entries."""
        return sum(map(len, self._states.values()))

    def stores(self) -> int:
        """Return the number of stores with entries of their own."""
        return len(self._states.keys() - {WHOLE_SHOP})

    def gone(self) -> int:
        """Return the number of entries that say "not available"."""
        if self._gone is None:
            self._gone = sum(list(items.values()).count(GONE) for items in self._states.values())
        return self._gone

    def is_available(self, item: str, store: str = WHOLE_SHOP) -> bool:
        """Tell whether an item may be recommended in a store, or in the whole shop."""
        whole = self._states.get(WHOLE_SHOP, {}).get(item, AVAILABLE)
        return self._states.get(store, {}).get(item, whole) != GONE

    def holds(self, pairs: Pairs) -> bool:
        """Tell whether the table says all this already."""
        return all(
            self._states.get(store, {}).get(item, UNSAID) == _kept(store, state)
            for (store, item), state in pairs.items()
        )

    def check_room(self, version: Version) -> None:
        """Raise CestaError if a version has too many pairs or stores for the table."""
        states = {} if version.replace else self._states
        new = sum(
            _kept(store, state) != UNSAID and item not in states.get(store, ())
            for (store, item), state in version.pairs.items()
        )
        if new and sum(map(len, states.values())) + new > MOST_PAIRS:
            raise CestaError(f"the table would have over {MOST_PAIRS:,} pairs; forget some, or replace it")
        stores = {store for store, _ in version.pairs} | states.keys()
        if len(stores - {WHOLE_SHOP}) > MOST_STORES:
            raise CestaError(f"the table would have over {MOST_STORES:,} stores")

    def write(self, version: Version) -> None:
        """Keep a version, on disk when this returns. Raises OSError; then the version before holds."""
        with _locked(self._folder):
            if self._look() != self._known:  # another supervisor wrote, such as this one's predecessor
                self._read()
            self._write(version)
            self._known = self._look()

    def _write(self, version: Version) -> None:
        change = Change(version.number, time.time(), version.replace, groups_of(version.pairs))
        encoded = encode(change)
        if not self._is_whole or self._end + len(encoded) > max(
            LEAST_REWRITTEN_BYTES, 3 * self._written_anew
        ):
            self._write_anew(version, change.at)
        else:
            self._append(encoded)
            self._apply(change)
            self._end += len(encoded)

    def _append(self, encoded: bytes) -> None:
        is_new = not self._log.exists()
        handle = os.open(self._log, os.O_WRONLY | os.O_CREAT, FILE_MODE)
        try:
            os.ftruncate(handle, self._end)  # what a killed writer had not finished
            try:
                with open(handle, "wb", closefd=False) as file:
                    file.seek(self._end)
                    file.write(encoded)
                os.fsync(handle)
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.ftruncate(handle, self._end)
                error.filename = str(self._log)
                raise
        finally:
            os.close(handle)
        if is_new:
            _flush_folder(self._folder)

    def _write_anew(self, version: Version, at: float) -> None:
        """Write the whole table with this version as one change, and keep the log before it."""
        whole = {} if version.replace else self._flat()
        for pair, state in version.pairs.items():
            whole[pair] = _kept(pair[0], state)
        kept = {pair: state for pair, state in whole.items() if state != UNSAID}
        change = Change(version.number, at, True, groups_of(kept))
        encoded = encode(change)
        if self._is_whole and self._log.exists():
            staged = self._folder / f".{BEFORE}"
            staged.unlink(missing_ok=True)
            staged.hardlink_to(self._log)
            staged.replace(self._folder / BEFORE)
        write_file(self._log, encoded, mode=FILE_MODE)
        self._apply(change)
        self._end = self._written_anew = len(encoded)
        self._is_whole, self._known = True, self._look()

    def _flat(self) -> dict[Pair, int]:
        return {
            (store, item): state for store, items in self._states.items() for item, state in items.items()
        }

    def _apply(self, change: Change) -> None:
        if change.replace:
            self._states = {}
        for group in change.groups:
            items = self._states.setdefault(group.store, {})
            kept = _kept(group.store, group.state)
            for item in group.names():
                items.pop(item, None)
                if kept != UNSAID:
                    items[sys.intern(item)] = kept
            if not items:
                del self._states[group.store]
        self.version, self.changed_at, self._gone = change.version, change.at, None

    def _read(self) -> None:
        """Read the log as far as it is whole; the one before it if its beginning is not."""
        self._states, self.version, self.damage = {}, 0, ""
        found = read_from(self._log) if self._log.exists() else Read([], 0, None)
        self._end, self._known = found.end, self._look()
        self._is_whole = bool(found.changes) or not found.damage
        if not self._is_whole and (before := self._folder / BEFORE).exists():
            found = read_from(before)._replace(damage=found.damage)
        for change in found.changes:
            self._apply(change)
        self._written_anew = self._end
        if found.damage:
            self.damage = f"{found.damage}; version {self.version} holds"

    def _look(self) -> tuple[int, int]:
        """Return number and size of the log's file."""
        with contextlib.suppress(FileNotFoundError):
            about = self._log.stat()
            return about.st_ino, about.st_size
        return 0, 0


def _kept(store: str, state: int) -> int:
    """The state that is stored: in the whole shop, available is what an item without an entry is."""
    return UNSAID if store == WHOLE_SHOP and state == AVAILABLE else state


def groups_of(pairs: Pairs) -> tuple[Group, ...]:
    """Return the pairs by store and state, as the log has them."""
    grouped: dict[tuple[str, int], list[bytes]] = {}
    for (store, item), state in pairs.items():
        grouped.setdefault((store, state), []).append(item.encode())
    return tuple(Group(*key, len(ids), BETWEEN.join(ids)) for key, ids in sorted(grouped.items()))


def merged(versions: Iterable[Version]) -> Version:
    """Several versions, in order, as one: the last number, and what all of them say in the end."""
    number, pairs, replace = 0, dict[Pair, int](), False
    for version in versions:
        if version.replace:
            pairs, replace = {}, True
        pairs.update(version.pairs)
        number = version.number
    return Version(number, pairs, replace)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep the writers of other processes waiting."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
