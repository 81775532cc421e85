"""Tells whether an answer belongs to its question: Triton's response cache can return that of another.

The cache finds an answer by a 64-bit hash, which whoever controls one input can forge. A release therefore
returns a digest of each query with its answer. ensemble/candidate_sampler/digest.py of cesta defines it.
In the same tensor, the warnings of each query follow its digest.
"""

from __future__ import annotations

import hashlib
import logging
import struct
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ._errors import ServerError
from ._transports.interface import Reply, Tensors
from ._values import AnswerWarning

_log = logging.getLogger("cesta_client")
_DIGESTED = ("basket", "user_id", "exclude", "categories")  # in the order of the digest
_FURTHER = ("store_id", "exclude_categories", "items", "history")  # then these that hold something
_AGES = "history_ages"  # of history; the last


def is_of_another_question(reply: Reply, tensors: Tensors) -> bool:
    """Tell whether the answer has digests that are not those of the question. Old releases have none."""
    digests = reply.tensors.get("digest")
    return digests is not None and digests[..., :1].tolist() != digests_of(tensors)


def warnings_in(reply: Reply, count: int) -> list[list[AnswerWarning]]:
    """The warnings for each of `count` queries. Old releases have none."""
    told = reply.tensors.get("digest")
    if told is None or told.ndim != 2 or told.shape[1] < 2:
        return [[]] * count
    return [[_warning(text) for text in row if text] for row in told[:, 1:].tolist()]


def _warning(text: bytes) -> AnswerWarning:
    code, _, value = text.decode(errors="replace").partition(":")
    return AnswerWarning(code, value)


def log_mistaken(reply: Reply, request_id: str) -> None:
    """Warn that an answer belongs to another question."""
    _log.warning(
        "release %s returned the answer to another question (request id %r); asking past the response cache",
        reply.model_version,
        request_id,
    )


def check_own(reply: Reply, tensors: Tensors) -> None:
    """Raise ServerError if an answer from past the cache belongs to another question, too."""
    if is_of_another_question(reply, tensors):
        raise ServerError(
            f"release {reply.model_version} returned the answer to another question, twice; "
            "tell the operator of the server"
        )


def digests_of(tensors: Tensors) -> list[list[bytes]]:
    """Input tensors (B, n) of bytes → B rows with one digest each, as the server returns them."""
    batch = len(next(iter(tensors.values())))
    columns = [tensors[name].tolist() if name in tensors else [()] * batch for name in _DIGESTED]
    further = {name: tensors[name].tolist() for name in (*_FURTHER, _AGES) if name in tensors}
    return [
        [_digest(query, {name: rows[place] for name, rows in further.items()})]
        for place, query in enumerate(zip(*columns, strict=True))
    ]


def with_nonce(tensors: Tensors) -> Tensors:
    """The same question with a random input that makes it new to the cache."""
    batch = len(next(iter(tensors.values())))
    return {**tensors, "nonce": np.full((batch, 1), uuid.uuid4().hex.encode(), dtype=np.object_)}


def _digest(inputs: Iterable[Iterable[bytes]], further: Mapping[str, Sequence[Any]]) -> bytes:
    written = b"".join(map(_written, inputs))
    for name in _FURTHER if further else ():
        if any(ids := further.get(name, ())):
            written += _named(name) + _written(ids)
    pairs = zip(further.get("history", ()), further.get(_AGES, ()), strict=True)
    if ages := [age for item, age in pairs if item]:  # one beside an empty id is padding
        written += _named(_AGES) + struct.pack(f"<I{len(ages)}f", len(ages), *ages)
    return hashlib.sha256(written).hexdigest().encode()


def _written(ids: Iterable[bytes]) -> bytes:
    present = [i for i in ids if i]  # an empty id is padding
    return b"".join(
        [len(present).to_bytes(4, "little"), *(len(i).to_bytes(4, "little") + i for i in present)]
    )


def _named(name: str) -> bytes:
    return len(name).to_bytes(4, "little") + name.encode()
