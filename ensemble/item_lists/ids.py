"""Finds the rows of ids by a sorted list of their hashes: 12 bytes an id, made in a second for a million.

Python keys its hash by a secret of each process, so that nobody can choose ids that collide.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

BETWEEN: Final = b"\xff"  # no UTF-8 text has this byte
PART: Final = 65_536  # ids that are Python objects at a time


class Ids:
    """UTF-8 ids end to end: row r has ``blob[offsets[r]:offsets[r + 1]]``. Row 0 is the unknown one."""

    def __init__(self, blob: NDArray[np.uint8], offsets: NDArray[np.int64]):
        self._blob, self._offsets = blob, offsets
        hashes = np.fromiter((hash(each) for each in self._each()), np.int64, len(self))
        self._rows = np.argsort(hashes, kind="stable").astype(np.int32)
        self._hashes = hashes[self._rows]

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> bytes:
        return self._blob[self._offsets[row] : self._offsets[row + 1]].tobytes()

    def find(self, value: bytes) -> int:
        """The row of an id; 0 for an unknown one, as it is or without the blanks around it."""
        return self._find(value) or self._find(value.strip())

    def find_joined(self, joined: bytes, count: int) -> NDArray[np.int32]:
        """The rows of ``count`` ids that lie end to end with BETWEEN; 0 for unknown ones."""
        rows = [self._find(value) for value in joined.split(BETWEEN)] if count else []
        return np.array(rows, np.int32)

    def _find(self, value: bytes) -> int:
        wanted = hash(value)
        place = int(np.searchsorted(self._hashes, wanted)) if value else len(self)
        while place < len(self) and self._hashes[place] == wanted:
            row = int(self._rows[place])
            if self[row] == value:
                return row
            place += 1
        return 0

    def _each(self) -> Iterator[bytes]:
        for start in range(0, len(self), PART):
            ends = self._offsets[start : start + PART + 1].tolist()
            part = self._blob[ends[0] : ends[-1]].tobytes()
            for begin, end in pairwise(ends):
                yield part[begin - ends[0] : end - ends[0]]
