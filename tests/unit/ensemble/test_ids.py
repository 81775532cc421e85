"""The hash table that finds the rows of ids: exact, bounded, and equal for equal ids."""

import random

import numpy as np
import pytest

from ensemble.candidate_sampler import ids as ids_module
from ensemble.candidate_sampler.ids import MOST_IN_BUCKET, Ids, Rows

WORD = 2**64 - 1


def some_ids(n: int, seed: int = 0) -> list[bytes]:
    """Distinct ids of 1 to 128 bytes, with the empty one first."""
    rng = random.Random(seed)
    letters = [rng.choice("09azAZ ü€\U0001f34b").encode() for _ in range(10_000)]
    distinct = {b"".join(rng.choices(letters, k=rng.choice((1, 2, 8, 9, 20, 32)))) for _ in range(n)}
    return [b"", *sorted(distinct)]


def siphash_1_3(text: bytes, first: int, second: int) -> int:
    """SipHash by its authors' description, in whole numbers."""

    def turn(x: int, bits: int) -> int:
        return (x << bits | x >> (64 - bits)) & WORD

    def mix() -> None:
        nonlocal a, b, c, d
        a, c = (a + b) & WORD, (c + d) & WORD
        b, d = turn(b, 13) ^ a, turn(d, 16) ^ c
        a = turn(a, 32)
        c, a = (c + b) & WORD, (a + d) & WORD
        b, d = turn(b, 17) ^ c, turn(d, 21) ^ a
        c = turn(c, 32)

    a, b = first ^ 0x736F6D6570736575, second ^ 0x646F72616E646F6D
    c, d = first ^ 0x6C7967656E657261, second ^ 0x7465646279746573
    padded = text + bytes(-(len(text) + 1) % 8) + bytes([len(text) & 255])
    for start in range(0, len(padded), 8):
        word = int.from_bytes(padded[start : start + 8], "little")
        d ^= word
        mix()
        a ^= word
    c ^= 255
    for _ in range(3):
        mix()
    return a ^ b ^ c ^ d


@pytest.mark.parametrize("ids", [[b""], [b"", b"a", "ü".encode(), b"", b"long" * 40]])
def test_ids_come_back(ids: list[bytes]) -> None:
    assert Ids.pack(ids).unpack() == ids


def test_each_id_has_its_row() -> None:
    ids = some_ids(5_000)
    rows = Rows(Ids.pack(ids))
    assert rows.find(ids) == list(range(len(ids)))
    assert [rows.find_one(each) for each in ids[:100]] == list(range(100))


def test_an_unknown_id_has_none() -> None:
    """Neither has a part of a known one, nor two of them side by side."""
    ids = some_ids(2_000)
    rows, known = Rows(Ids.pack(ids)), set(ids)
    near = [new for i in ids[1:] for new in (i + b"x", i[:-1], i[1:], i + i, i + b"\0", b"\0" + i)]
    unknown = [each for each in near if each not in known]
    assert len(unknown) > 5_000
    assert not any(rows.find(unknown))
    assert not any(map(rows.find_one, unknown[:100]))


@pytest.mark.parametrize("ids", [[], [b""], [b"", b"", b"a"]])
def test_few_and_empty_ids(ids: list[bytes]) -> None:
    rows = Rows(Ids.pack([b"", b"a"]))
    assert rows.find(ids) == [int(each == b"a") for each in ids]


def test_a_release_may_have_no_ids() -> None:
    rows = Rows(Ids.pack([b""]))
    assert (rows.find([b"a", b""]), rows.find_one(b"a"), rows.find_one(b"")) == ([0, 0], 0, 0)


def test_ids_that_are_not_utf8_are_unknown_and_keep_their_place() -> None:
    """Between the ids of a request lies a byte that UTF-8 does not have."""
    rows = Rows(Ids.pack([b"", b"a", b"b"]))
    assert rows.find([b"b", b"\xff", b"a\xffb", b"a", b"\xff\xff"]) == [2, 0, 0, 1, 0]
    assert rows.find_one(b"a\xffb") == 0


def test_rows_without_an_id_are_not_found() -> None:
    """Row 0 is not the only one that may have an empty id."""
    rows = Rows(Ids.pack([b"", b"a", b"", b"c"]))
    assert rows.find([b"", b"a", b"c"]) == [0, 1, 3]


def test_the_hash_is_siphash() -> None:
    """A key keeps callers from choosing ids that share a bucket."""
    ids = some_ids(300)
    packed = Ids.pack(ids)
    first, second = packed.key.tolist()
    buckets = len(ids)
    for row, each in enumerate(ids[1:], 1):
        bucket = (siphash_1_3(each, first, second) >> 32) * buckets >> 32
        assert row in packed.table[packed.table[bucket] : packed.table[bucket + 1]]


def test_the_key_follows_from_the_ids() -> None:
    """Equal ids give equal files; one more id gives another key."""
    ids = some_ids(100)
    first, second, longer = (Ids.pack(given) for given in (ids, ids, [*ids, b"new"]))
    assert all(map(np.array_equal, first, second))
    assert not np.array_equal(first.key, longer.key)


def test_an_id_takes_eight_bytes() -> None:
    ids = some_ids(2_000)
    packed = Ids.pack(ids)
    assert packed.key.nbytes + packed.table.nbytes <= 8 * len(ids) + 24


def test_the_longest_bucket_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket bounds the work for any id. If one is too long, another key is tried, and at last refused."""
    ids = some_ids(5_000)
    assert np.diff(Ids.pack(ids).table[: len(ids) + 1]).max() <= MOST_IN_BUCKET
    tried: list[bytes] = []
    real = ids_module.hashlib.blake2b

    def watched(blob: object, *, digest_size: int, salt: bytes) -> object:
        tried.append(salt)
        return real(blob, digest_size=digest_size, salt=salt)  # type: ignore[arg-type]

    monkeypatch.setattr(ids_module.hashlib, "blake2b", watched)
    with pytest.raises(ValueError, match=r"40 ids have an equal hash"):
        Ids.pack([b"", *[b"the same"] * 40])
    assert tried == [b"\0", b"\1", b"\2", b"\3"]
