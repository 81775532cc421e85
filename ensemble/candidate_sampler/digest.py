"""The digest of a query: it comes back with the answer and tells which question the answer belongs to.

Triton's response cache finds an answer by a 64-bit hash that a caller can invert, so a caller can make his
entry answer another's question. Whoever asks computes the digest of what he asked and compares.

Definition. The digest is SHA-256, as 64 lower-case hexadecimal digits in ASCII, over the inputs ``basket``,
``user_id``, ``exclude`` and ``categories`` of one query, in this order. Each input is written as

    uint32, little-endian: how many ids follow
    for each id, in the order sent:
        uint32, little-endian: its length in bytes
        its bytes, as sent

Empty ids are padding: they are skipped and not counted. An absent input counts 0 ids. ``nonce`` and ``live``
are not part of the digest.

The inputs ``store_id``, ``exclude_categories``, ``items``, ``history`` and ``history_ages`` follow in this
order, but only those that hold something: a question without them keeps its digest. Each is written as

    uint32, little-endian: the length of its name in bytes
    its name
    its ids, as above

An age is written as the 4 bytes of its float32, little-endian, without a length. Ages beside empty ids are
padding. Clients outside this repository may depend on this text, so it does not change.

Warnings follow the digest in the same output, because a further output would cost every answer time. Each is
a code, a colon and what it is about: ``unknown_category:Cheese``. A request without any has the digest alone;
in others, shorter rows are padded with "".
"""

import hashlib
import struct
from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

INPUTS: Final = ("basket", "user_id", "exclude", "categories")  # in the order of the digest
FURTHER: Final = ("store_id", "exclude_categories", "items", "history", "history_ages")  # likewise
HISTORY, AGES = FURTHER[-2:]


def query_digest(*inputs: Collection[bytes], **further: Collection[bytes] | Collection[float]) -> bytes:
    """The digest of one query. ``inputs`` holds the ids of each of INPUTS, ``further`` those of FURTHER.

    The ages are as many as the ids of the history, padding included.
    """
    written = bytearray()
    for ids in inputs:
        _write(ids, written)
    for name in FURTHER if further else ():
        values: Collection[Any] = further.get(name, ())
        if name == AGES:
            ages = [age for i, age in zip(further.get(HISTORY, ()), values, strict=True) if i]
            if ages:
                _write_name(name, written)
                written += struct.pack(f"<I{len(ages)}f", len(ages), *ages)
        elif any(values):
            _write_name(name, written)
            _write(values, written)
    return hashlib.sha256(written).hexdigest().encode()


def _write(ids: Collection[bytes], written: bytearray) -> None:
    present = [i for i in ids if i]
    written += len(present).to_bytes(4, "little")
    written += b"".join([len(i).to_bytes(4, "little") + i for i in present])


def _write_name(name: str, written: bytearray) -> None:
    written += len(name).to_bytes(4, "little") + name.encode()


def warned(digests: NDArray[Any], warnings: Sequence[Sequence[bytes]]) -> NDArray[Any]:
    """(batch, 1) digests of one request, with the warnings of each query: (batch, 1 + most warnings)."""
    told = np.full((len(digests), 1 + max(map(len, warnings))), b"", np.object_)
    told[:, :1] = digests
    for row, own in zip(told, warnings, strict=True):
        row[1 : 1 + len(own)] = own
    return told
