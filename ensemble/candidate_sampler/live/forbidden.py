"""What must not be recommended now, by row: a byte for each item, of the whole shop and of single stores."""

import threading
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .change_log import GONE, UNSAID, WHOLE_SHOP, Change, Group

FORBIDDEN: Final = np.uint8(1)  # the item must not be recommended
OWN: Final = np.uint8(2)  # the store says so itself; else it has what the whole shop has
FindRows = Callable[[bytes, int], NDArray[np.int32]]  # joined ids and their number → rows, 0 for unknown ones


class Forbidden:
    """The newest version of a live table in one process.

    ``bytes_by_item`` is (1 + stores, items) uint8; row 0 is the whole shop. Whoever reads holds ``lock``, so
    that a version counts as a whole. Only one thread applies changes. Stores without entries have no row; one
    that had some keeps its row until other stores get theirs.
    """

    def __init__(self, items: int, find_rows: FindRows) -> None:
        self.lock = threading.Lock()
        self.version = 0
        self._items, self._find_rows = items, find_rows
        self._clear()

    def _clear(self) -> None:
        self.bytes_by_item = np.zeros((1, 1), np.uint8)  # no item has an entry
        self._row_of_store: dict[bytes, int] = {}

    def store_row(self, store: bytes) -> int:
        """The row of a store; that of the whole shop if the store has no entries."""
        return self._row_of_store.get(store, 0)

    def is_used(self) -> bool:
        """Does any item have an entry?"""
        return self.bytes_by_item.shape[1] > 1

    def is_forbidden(self, row: int, store: bytes = b"") -> bool:
        """Must the item of this row not be recommended, in a store or in the whole shop?"""
        with self.lock:
            table = self.bytes_by_item
            return bool(table.shape[1] > 1 and table[self.store_row(store), row] & FORBIDDEN)

    def apply(self, changes: Iterable[Change]) -> None:
        """Apply changes in order. Readers wait only while bytes are written."""
        for change in changes:
            found = [(group, self._rows(group)) for group in change.groups]
            if change.replace:
                self._replace(found)
            else:
                self._add_stores(found)
                with self.lock:
                    self._write(self.bytes_by_item, self._row_of_store, found)
            self.version = change.version

    def _rows(self, group: Group) -> NDArray[np.int32]:
        rows = self._find_rows(group.ids, group.ids_count)
        return rows[rows > 0]

    def _replace(self, found: list[tuple[Group, NDArray[np.int32]]]) -> None:
        """Fill a new table and put it in the place of the other."""
        fresh = Forbidden(self._items, self._find_rows)
        fresh._add_stores(found)
        fresh._write(fresh.bytes_by_item, fresh._row_of_store, found)
        with self.lock:
            self.bytes_by_item, self._row_of_store = fresh.bytes_by_item, fresh._row_of_store

    def _add_stores(self, found: list[tuple[Group, NDArray[np.int32]]]) -> None:
        """Give each store that gets entries a row, which has what the whole shop has."""
        named = {group.store.encode() for group, rows in found if len(rows) and _is_own(group)}
        new = sorted(named - self._row_of_store.keys())
        before = self.bytes_by_item
        if (before.shape[1] > 1 and not new) or not any(len(rows) for _, rows in found):
            return
        kept = [store for store, row in self._row_of_store.items() if (before[row] & OWN).any()]
        table = np.zeros((1 + len(kept) + len(new), self._items), np.uint8)
        table[:] = before[0]  # from a table of one byte, nothing
        for row, store in enumerate(kept, start=1):
            table[row] = before[self._row_of_store[store]]
        rows = {store: row for row, store in enumerate([*kept, *new], start=1)}
        with self.lock:
            self.bytes_by_item, self._row_of_store = table, rows

    @staticmethod
    def _write(
        table: NDArray[np.uint8],
        row_of_store: dict[bytes, int],
        found: list[tuple[Group, NDArray[np.int32]]],
    ) -> None:
        for group, rows in found:
            if not len(rows):
                continue
            forbidden = FORBIDDEN if group.state == GONE else np.uint8(0)
            if group.store == WHOLE_SHOP:
                table[0, rows] = forbidden
                for store in table[1:]:
                    store[rows] = np.where(store[rows] & OWN, store[rows], forbidden)
            elif (row := row_of_store.get(group.store.encode())) is not None:  # else it has no entries to end
                table[row, rows] = OWN | forbidden if _is_own(group) else table[0, rows]


def _is_own(group: Group) -> bool:
    """Does a store say something itself?"""
    return group.store != WHOLE_SHOP and group.state != UNSAID
