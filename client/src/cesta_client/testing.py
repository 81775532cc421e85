"""A shop without a server, for tests of programs that use this client.

shop = FakeShop({"milk": ["butter", "bread"], "": ["bananas"]})
with Recommender(transport=shop) as recommender:
    recommender.recommend(basket=["milk"])  # butter, bread, bananas
shop.queries[0].basket  # ("milk",)
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ._errors import CestaError
from ._limits import MAX_K
from ._transports.interface import Headers, Reply, Tensors
from ._values import Query, Reason, Recommendation
from ._wire import INPUTS

__all__ = ["FakeShop", "SeenRequest"]

Answer = Iterable[str | Recommendation]


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """One request as the server receives it. A request does not contain k, so every query here has k = 20."""

    queries: tuple[Query, ...]
    request_id: str
    timeout_s: float
    headers: Headers = field(default_factory=dict)  # of session, placement and variant


class FakeShop:
    """A transport that answers from memory, for `Recommender` and `AsyncRecommender`. Threads may share it.

    Args:
        answers: a dict from an item id of the basket to the recommended ids, with "" for every basket; or a
            function of the `Query`. Answers never contain items of the basket or excluded items, nor others
            than the query's `items` if it has any. Categories, stores and histories have no effect. Plain ids
            get the scores 1, 1/2, 1/3 … and the reason TOGETHER; a `Recommendation` has its own.
        release: the number of the release that answers.
    """

    def __init__(
        self, answers: Mapping[str, Answer] | Callable[[Query], Answer] | None = None, *, release: int = 1
    ) -> None:
        self.requests: list[SeenRequest] = []
        self.events: list[dict[str, object]] = []  # as the server would keep them, each event_id once
        self.release = release
        self.closed = False
        self._answer = answers if callable(answers) else _from_mapping(answers or {})
        self._failures: list[CestaError] = []
        self._lock = threading.Lock()

    @property
    def queries(self) -> list[Query]:
        """All queries of all requests, in order."""
        return [query for request in self.requests for query in request.queries]

    def fail(self, error: CestaError, *, times: int = 1) -> None:
        """Raise `error` for the next `times` requests instead of answering."""
        self._failures += [error] * times

    def infer(self, tensors: Tensors, *, timeout_s: float, request_id: str, headers: Headers) -> Reply:
        """Answer, or raise an error of `fail`."""
        queries = _queries_in(tensors)
        with self._lock:
            self.requests.append(SeenRequest(tuple(queries), request_id, timeout_s, dict(headers)))
            failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure
        return _reply([_possible(self._answer(query), query) for query in queries], self.release)

    async def ainfer(self, tensors: Tensors, *, timeout_s: float, request_id: str, headers: Headers) -> Reply:
        """`infer` for `AsyncRecommender`."""
        return self.infer(tensors, timeout_s=timeout_s, request_id=request_id, headers=headers)

    def report(self, body: bytes, *, timeout_s: float) -> bytes:
        """Keep events, or raise an error of `fail`."""
        with self._lock:
            failure = self._failures.pop(0) if self._failures else None
            if failure is not None:
                raise failure
            sent = json.loads(body)["events"]
            known = {event["event_id"] for event in self.events}
            new = [event for event in sent if event["event_id"] not in known]
            self.events += new
        return json.dumps({"accepted": len(new), "known": len(sent) - len(new), "refused": []}).encode()

    async def areport(self, body: bytes, *, timeout_s: float) -> bytes:
        """`report` for `AsyncRecommender`."""
        return self.report(body, timeout_s=timeout_s)

    def close(self) -> None:
        """Record that the recommender was closed."""
        self.closed = True

    async def aclose(self) -> None:
        """`close` for `AsyncRecommender`."""
        self.close()


def _from_mapping(answers: Mapping[str, Answer]) -> Callable[[Query], Answer]:
    return lambda query: [item for key in (*query.basket, "") for item in answers.get(key, ())]


def _possible(answer: Answer, query: Query) -> list[Recommendation]:
    """Each item once, without basket and excluded items, at most K."""
    items: dict[str, str | Recommendation] = {}
    for item in answer:
        items.setdefault(_id(item), item)
    forbidden = {*query.basket, *query.exclude}
    possible = [
        item
        for name, item in items.items()
        if name not in forbidden and (not query.items or name in query.items)
    ]
    return [_recommendation(item, rank) for rank, item in enumerate(possible[:MAX_K], start=1)]


def _id(item: str | Recommendation) -> str:
    return item if isinstance(item, str) else item.item_id


def _recommendation(item: str | Recommendation, rank: int) -> Recommendation:
    return Recommendation(item, 1 / rank, rank, (Reason.TOGETHER,)) if isinstance(item, str) else item


def _queries_in(tensors: Tensors) -> list[Query]:
    batch = len(next(iter(tensors.values())))
    empty = np.full((batch, 0), b"", dtype=np.object_)
    ids = {
        name: [[item.decode() for item in row] for row in tensors.get(name, empty).tolist()]
        for name, kind in INPUTS.items()
        if kind == "BYTES"
    }
    ages = tensors.get("history_ages", empty).tolist()
    return [
        Query(
            ids["basket"][n],
            "".join(ids["user_id"][n]),
            MAX_K,
            ids["exclude"][n],
            ids["categories"][n],
            store_id="".join(ids["store_id"][n]),
            exclude_categories=ids["exclude_categories"][n],
            items=ids["items"][n],
            history=zip(ids["history"][n], ages[n], strict=True),
        )
        for n in range(batch)
    ]


def _reply(rows: Sequence[Sequence[Recommendation]], release: int) -> Reply:
    """The output tensors (B, K), padded as the server pads them."""
    item_ids = np.full((len(rows), MAX_K), b"", dtype=np.object_)
    scores = np.zeros((len(rows), MAX_K), dtype=np.float32)
    reasons = np.zeros((len(rows), MAX_K), dtype=np.int32)
    for place, row in enumerate(rows):
        item_ids[place, : len(row)] = [item.item_id.encode() for item in row]
        scores[place, : len(row)] = [item.score for item in row]
        reasons[place, : len(row)] = [sum(reason.value for reason in item.reasons) for item in row]
    return Reply({"item_ids": item_ids, "scores": scores, "reasons": reasons}, str(release))
