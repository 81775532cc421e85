"""The digest of a query: it comes back with the answer and tells which question the answer belongs to.

Triton's response cache finds an answer by a 64-bit hash that a caller can invert, so a caller can make his
entry answer another's question. Whoever asks computes the digest of what he asked and compares.

Definition. The digest is SHA-256, as 64 lower-case hexadecimal digits in ASCII, over the inputs ``basket``,
``user_id``, ``exclude`` and ``categories`` of one query, in this order. Each input is written as

    uint32, little-endian: how many ids follow
    for each id, in the order sent:
        uint32, little-endian: its length in bytes
        its bytes, as sent

Empty ids are padding: they are skipped and not counted. An absent input counts 0 ids. ``nonce`` is not part
of the digest. Clients outside this repository may depend on this text, so it does not change.

Warnings follow the digest in the same output, because a further output would cost every answer time. Each is
a code, a colon and what it is about: ``unknown_category:Cheese``. A request without any has the digest alone;
in others, shorter rows are padded with "".
"""

import hashlib
from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

UNKNOWN_CATEGORY: Final = b"unknown_category:"
INPUTS: Final = ("basket", "user_id", "exclude", "categories")  # in the order of the digest


def query_digest(*inputs: Collection[bytes]) -> bytes:
    """The digest of one query. ``inputs`` holds the ids of each of INPUTS."""
    written = bytearray()
    for ids in inputs:
        present = [i for i in ids if i]
        written += len(present).to_bytes(4, "little")
        written += b"".join([len(i).to_bytes(4, "little") + i for i in present])
    return hashlib.sha256(written).hexdigest().encode()


def warned(digests: NDArray[Any], unknown_categories: Sequence[Sequence[bytes]]) -> NDArray[Any]:
    """(batch, 1) digests of one request, with the warnings of each query: (batch, 1 + most warnings)."""
    told = np.full((len(digests), 1 + max(map(len, unknown_categories))), b"", np.object_)
    told[:, :1] = digests
    for row, names in zip(told, unknown_categories, strict=True):
        row[1 : 1 + len(names)] = [UNKNOWN_CATEGORY + name for name in names]
    return told
