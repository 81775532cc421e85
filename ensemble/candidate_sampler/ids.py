"""Finds the rows of ids by a hash table that lies in files beside the ids, so that processes share its pages.

The table is made once, at export. A bucket holds the rows whose ids have an equal hash, about one row. The
hash is SipHash-1-3 (Aumasson, Bernstein 2012) under a key made of the ids themselves: nobody knows it before
the release exists. The build bounds the longest bucket, and with it the work for any id that a caller sends.
"""

import hashlib
from collections.abc import Callable, Collection
from functools import partial
from itertools import pairwise
from typing import Final, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

MOST_IN_BUCKET: Final = 20  # 1e8 ids get one fuller bucket with a chance of 1e-12
ATTEMPTS: Final = 4  # keys; another one is needed only for ids that were chosen to collide
MOST_INSERTED: Final = 1_000  # ids whose rows are sorted by insertion: 60 µs in the worst order
BETWEEN: Final = b"\xff"  # no UTF-8 text has this byte

A, B, C, D = (
    np.uint64(word)
    for word in (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
)
LAST_BYTE, THIRTY_TWO = np.uint64(56), np.uint64(32)

Blob = NDArray[np.uint8]
Offsets = NDArray[np.int64]


class Ids(NamedTuple):
    """UTF-8 ids end to end; id of row r is ``blob[offsets[r]:offsets[r + 1]]``. Row 0 is the unknown one.

    The rows of bucket b are ``table[table[b]:table[b + 1]]``. There are as many buckets as rows.
    """

    blob: Blob
    offsets: Offsets  # (rows + 1,)
    key: NDArray[np.int64]  # (2,) of the hash, not negative
    table: NDArray[np.int32]  # (buckets + 1 + rows that have an id,)

    @classmethod
    def pack(cls, ids: list[bytes]) -> "Ids":
        offsets = np.zeros(len(ids) + 1, np.int64)
        np.cumsum([len(i) for i in ids], out=offsets[1:])
        return cls.over(np.frombuffer(bytearray().join(ids), np.uint8), offsets)

    @classmethod
    def over(cls, blob: Blob, offsets: Offsets) -> "Ids":
        """Make the table for distinct ids. Raises ValueError if too many have an equal hash: ids repeat."""
        for attempt in range(ATTEMPTS):
            made = hashlib.blake2b(blob.data, digest_size=16, salt=bytes([attempt])).digest()
            key = np.frombuffer(made, np.int64) & np.iinfo(np.int64).max
            table, longest = _make_table(blob, offsets, *key.tolist())
            if longest <= MOST_IN_BUCKET:
                return cls(blob, offsets, key, table)
        raise ValueError(f"{longest} ids have an equal hash, {MOST_IN_BUCKET} may; each id must have one row")

    def unpack(self) -> list[bytes]:
        whole, ends = self.blob.tobytes(), self.offsets.tolist()
        return [whole[a:b] for a, b in pairwise(ends)]


class Rows:
    """The row of each id of a release; 0 for an unknown or an empty id."""

    def __init__(self, ids: Ids):
        arrays = (*ids.key.tolist(), ids.blob, ids.offsets, ids.table)
        self.find_one: Callable[[bytes], int] = partial(_find_one, *arrays)
        self._find: Callable[[bytes, NDArray[np.int32], bool], int] = partial(_find, *arrays)

    def find(self, ids: Collection[bytes]) -> list[int]:
        """The ids' rows, in order."""
        rows = np.empty(len(ids), np.int32)
        if self._find(BETWEEN.join(ids), rows, False) < 0:
            return self.find(_valid(ids))
        found: list[int] = rows.tolist()
        return found

    def find_joined(self, text: bytes, count: int) -> NDArray[np.int32]:
        """The rows of ``count`` ids, joined by BETWEEN, in order. Raises ValueError for another number."""
        rows = np.zeros(count, np.int32)
        if self._find(text, rows, False) != count:
            raise ValueError(f"{text[:40]!r}… holds another number of ids than {count}")
        return rows

    def find_distinct(self, ids: Collection[bytes]) -> list[int]:
        """The distinct rows of the ids, ascending."""
        if len(ids) == 1:
            return [self.find_one(*ids)]
        if len(ids) > MOST_INSERTED:
            return sorted(set(self.find(ids)))
        rows = np.empty(len(ids), np.int32)
        n = self._find(BETWEEN.join(ids), rows, True)
        if n < 0:
            return self.find_distinct(_valid(ids))
        found: list[int] = (rows if n == len(ids) else rows[:n]).tolist()
        return found


def _valid(ids: Collection[bytes]) -> list[bytes]:
    """The ids, empty where one holds BETWEEN."""
    return [b"" if BETWEEN in i else i for i in ids]


@numba.njit(nogil=True)
def _mix(a, b, c, d):  # type: ignore[no-untyped-def]
    """A round of SipHash."""
    a += b
    c += d
    b = ((b << np.uint64(13)) | (b >> np.uint64(51))) ^ a
    d = ((d << np.uint64(16)) | (d >> np.uint64(48))) ^ c
    a = (a << np.uint64(32)) | (a >> np.uint64(32))
    c += b
    a += d
    b = ((b << np.uint64(17)) | (b >> np.uint64(47))) ^ c
    d = ((d << np.uint64(21)) | (d >> np.uint64(43))) ^ a
    c = (c << np.uint64(32)) | (c >> np.uint64(32))
    return a, b, c, d


@numba.njit(nogil=True)
def _bucket(text, start, end, first, second, buckets):  # type: ignore[no-untyped-def]
    """The bucket of the id ``text[start:end]``: its hash, scaled."""
    a, b, c, d = np.uint64(first) ^ A, np.uint64(second) ^ B, np.uint64(first) ^ C, np.uint64(second) ^ D
    word, shift = np.uint64(0), np.uint64(0)
    for place in range(start, end):
        word |= np.uint64(text[place]) << shift
        shift += np.uint64(8)
        if shift == np.uint64(64):
            d ^= word
            a, b, c, d = _mix(a, b, c, d)
            a ^= word
            word, shift = np.uint64(0), np.uint64(0)
    word |= np.uint64(end - start) << LAST_BYTE
    d ^= word
    a, b, c, d = _mix(a, b, c, d)
    a ^= word
    c ^= np.uint64(0xFF)
    for _ in range(3):
        a, b, c, d = _mix(a, b, c, d)
    high = (a ^ b ^ c ^ d) >> THIRTY_TWO
    return np.int64((high * np.uint64(buckets)) >> THIRTY_TWO)


@numba.njit(cache=True, nogil=True)
def _make_table(blob, offsets, first, second):  # type: ignore[no-untyped-def]
    """The table of Ids, and the number of rows in its fullest bucket. Rows without an id are in none."""
    n = offsets.shape[0] - 1
    bucket_of = np.full(n, -1, np.int32)
    ends = np.zeros(n + 1, np.int32)
    for row in range(n):
        if offsets[row + 1] > offsets[row]:
            bucket = _bucket(blob, offsets[row], offsets[row + 1], first, second, n)
            bucket_of[row] = bucket
            ends[bucket + 1] += 1
    longest, held = ends.max(), ends.sum()
    table = np.empty(n + 1 + held, np.int32)
    table[0] = n + 1
    for bucket in range(n):
        table[bucket + 1] = table[bucket] + ends[bucket + 1]
    ends[:] = table[: n + 1]
    for row in range(n):
        bucket = bucket_of[row]
        if bucket >= 0:
            table[ends[bucket]] = row
            ends[bucket] += 1
    return table, longest


@numba.njit(nogil=True)
def _row_of(text, start, end, first, second, blob, offsets, table):  # type: ignore[no-untyped-def]
    """The row of the id ``text[start:end]``, or 0."""
    bucket = _bucket(text, start, end, first, second, offsets.shape[0] - 1)
    for place in range(table[bucket], table[bucket + 1]):
        row = table[place]
        shift = offsets[row] - start
        if offsets[row + 1] == end + shift:
            k = start
            while k < end and blob[k + shift] == text[k]:
                k += 1
            if k == end:
                return row
    return np.int32(0)


@numba.njit(cache=True, nogil=True)
def _find_one(first, second, blob, offsets, table, text):  # type: ignore[no-untyped-def]
    return _row_of(text, 0, len(text), first, second, blob, offsets, table)


@numba.njit(cache=True, nogil=True)
def _find(first, second, blob, offsets, table, text, rows, distinct):  # type: ignore[no-untyped-def]
    """Fill `rows` with those of as many ids, which lie end to end with BETWEEN; returns how many are filled.

    They are in the order of the ids, or, if `distinct`, distinct and ascending. Returns -1 for more ids.
    """
    n = ids = start = 0
    for end in range(len(text) + 1):
        if end < len(text) and text[end] != 0xFF:
            continue
        if ids == rows.shape[0]:
            return n if len(text) == 0 else -1
        row, place = _row_of(text, start, end, first, second, blob, offsets, table), n
        while distinct and place > 0 and rows[place - 1] > row:
            place -= 1
        if not distinct or place == 0 or rows[place - 1] != row:
            for k in range(n, place, -1):
                rows[k] = rows[k - 1]
            rows[place] = row
            n += 1
        ids += 1
        start = end + 1
    return n
