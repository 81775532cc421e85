"""Turns queries into tensors and tensors into recommendations. Only this module knows the tensors.

Their names, types and sizes are those of model_repository/recommender/config.pbtxt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._digest import warnings_in
from ._errors import ServerError
from ._transports.interface import Reply, Tensors
from ._values import Query, Recommendation, Recommendations, reasons_in

MODEL = "recommender"
INPUTS = {
    "basket": "BYTES",
    "user_id": "BYTES",
    "exclude": "BYTES",
    "categories": "BYTES",
    "store_id": "BYTES",
    "exclude_categories": "BYTES",
    "items": "BYTES",
    "history": "BYTES",
    "history_ages": "FP32",  # beside each id of history
    "live": "BYTES",  # a gateway's
    "nonce": "BYTES",
}
OUTPUTS = {"item_ids": "BYTES", "scores": "FP32", "reasons": "INT32", "digest": "BYTES"}
_COLUMNS = ("item_ids", "scores", "reasons")  # K for each query


def tensors_of(queries: Sequence[Query]) -> Tensors:
    """B queries → input tensors (B, n) of UTF-8 bytes, or float32; short rows are padded with b"" or 0.

    Basket and user are always sent: Triton batches only requests with equal inputs. Each query has one user
    because Triton's cache key contains the bytes but not the shapes: two baskets of one item each would share
    their cache entry with one basket of two items. The rare inputs are left out if no query has them.
    """
    tensors: dict[str, NDArray[Any]] = {name: _padded(rows) for name, rows in _columns(queries).items()}
    if "history" in tensors:
        tensors["history_ages"] = _padded_ages(queries)
    return tensors


def tensor_bytes(queries: Sequence[Query]) -> int:
    """The bytes of the tensors in a request: each id, padding too, takes four plus its UTF-8."""
    columns = _columns(queries).values()
    slots = sum(len(rows) * max(map(len, rows)) for rows in columns)
    slots += len(queries) * max(len(query.history) for query in queries)  # of ages
    return 4 * slots + sum(len("".join(ids).encode()) for rows in columns for ids in rows)


def _columns(queries: Sequence[Query]) -> dict[str, list[tuple[str, ...]]]:
    always: dict[str, list[tuple[str, ...]]] = {
        "basket": [query.basket or ("",) for query in queries],
        "user_id": [(query.user_id,) for query in queries],
    }
    seldom: dict[str, list[tuple[str, ...]]] = {
        "exclude": [query.exclude for query in queries],
        "categories": [query.categories for query in queries],
        "store_id": [(query.store_id,) if query.store_id else () for query in queries],
        "exclude_categories": [query.exclude_categories for query in queries],
        "items": [query.items for query in queries],
        "history": [tuple(item for item, _ in query.history) for query in queries],
    }
    return always | {name: rows for name, rows in seldom.items() if any(rows)}


def _padded(rows: Sequence[tuple[str, ...]]) -> NDArray[np.object_]:
    padded = np.full((len(rows), max(map(len, rows))), b"", dtype=np.object_)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = [item.encode() for item in ids]
    return padded


def _padded_ages(queries: Sequence[Query]) -> NDArray[np.float32]:
    padded = np.zeros((len(queries), max(len(query.history) for query in queries)), dtype=np.float32)
    for row, query in zip(padded, queries, strict=True):
        row[: len(query.history)] = [age for _, age in query.history]
    return padded


def answers_in(reply: Reply, queries: Sequence[Query]) -> list[Recommendations]:
    """Output tensors (B, K) → one list per query, without padding, cut at the query's k.

    Raises:
        ServerError: a tensor is missing or has another shape, or the release is not a number.
    """
    try:
        release = int(reply.model_version)
        columns = [_rows(reply, name, len(queries)) for name in _COLUMNS]
        warnings = warnings_in(reply, len(queries))
        return [
            Recommendations(_ranked(zip(*rows, strict=True), query.k), release=release, warnings=told)
            for query, told, *rows in zip(queries, warnings, *columns, strict=True)
        ]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ServerError(f"the server's answer cannot be read: {error!r}") from error


def _rows(reply: Reply, name: str, count: int) -> list[list[object]]:
    tensor = reply.tensors[name]
    if tensor.ndim != 2 or len(tensor) != count:
        raise ValueError(f"{name} has shape {tensor.shape}; ({count}, K) was expected")
    rows: list[list[object]] = tensor.tolist()
    return rows


def _ranked(rows: Iterable[tuple[bytes, float, int]], k: int) -> list[Recommendation]:
    items = [row for row in rows if row[0]][:k]  # an empty id is padding
    return [
        Recommendation(item.decode(), score, rank, reasons_in(mask))
        for rank, (item, score, mask) in enumerate(items, start=1)
    ]
