"""The digest of a question: it comes back with the answer and tells which question the answer belongs to.

The reasons are those of ``candidate_sampler/digest.py``: an entry of Triton's response cache may be found by
another question.

Definition. The digest is SHA-256, as 64 lower-case hexadecimal digits in ASCII, over the inputs of one query,
in the order of INPUTS. Each input is written as

    uint32, little-endian: how many values follow
    for each text, in the order sent: uint32, little-endian, its length in bytes; its bytes, as sent
    for each number: int32, little-endian

Empty texts are padding: they are skipped and not counted. An absent input counts 0 values. ``live`` is not
part of the digest. Clients outside this repository may depend on this text, so it does not change.

Warnings follow the digest in the same output: ``unknown_item:4711``.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

INPUTS: Final = ("kind", "item", "category", "store_id", "days", "exclude", "limit")  # in the digest's order


def question_digest(inputs: Mapping[str, Sequence[Any]]) -> bytes:  # bytes, or numbers
    """The digest of one query: the values of each input by its name."""
    written = bytearray()
    for name in INPUTS:
        values = [_written(value) for value in inputs.get(name, ()) if value != b""]
        written += len(values).to_bytes(4, "little") + b"".join(values)
    return hashlib.sha256(written).hexdigest().encode()


def _written(value: Any) -> bytes:  # as above
    if isinstance(value, bytes):
        return len(value).to_bytes(4, "little") + value
    return int(value).to_bytes(4, "little", signed=True)
