"""The client for threads."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from . import _check
from ._call import Call, batches, canary
from ._connect import connect
from ._endpoint import Protocol, endpoint
from ._errors import CestaError, InvalidRequest, Unavailable
from ._transport import Reply, Transport
from ._values import Query, Recommendations
from ._wire import answers_in, tensors_of


class Recommender:
    """A connection to a cesta server. One instance serves any number of threads.

    Nothing is connected before the first question. Create it after forking, not before.

    Args:
        address: "host:port"; over HTTP a path may follow.
        protocol: "grpc" (Triton's port 8001) or "http" (8000).
        timeout_s: the most seconds one call takes, all its retries included.
        retries: further attempts per call after `Unavailable`, while time is left.
        api_key: sent as `Authorization: Bearer …`.
        headers: sent with every request; printable ASCII.
        ssl: encrypt, and check the server's certificate.
        root_certificates: a PEM file to check it against, instead of the system's.
        transport: used instead of an address, such as `cesta_client.testing.FakeShop`.

    Raises:
        InvalidRequest: an option cannot be used.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        protocol: Protocol = "grpc",
        timeout_s: float = 1.0,
        retries: int = 2,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        ssl: bool = False,
        root_certificates: str | os.PathLike[str] | None = None,
        transport: Transport | None = None,
    ) -> None:
        if (address is None) == (transport is None):
            raise InvalidRequest("a recommender needs either an address or a transport")
        self._timeout_s = _check.seconds("timeout_s", timeout_s)
        self._retries = _check.retries(retries)
        self._rng = random.Random()
        self._closed = False
        self._transport = transport or connect(
            endpoint(
                address or "",
                protocol,
                api_key=api_key,
                headers=headers,
                ssl=ssl,
                root_certificates=root_certificates,
            )
        )

    def recommend(
        self,
        basket: Iterable[str] | None = None,
        *,
        user_id: str | None = None,
        k: int = 10,
        exclude: Iterable[str] | None = None,
        categories: Iterable[str] | None = None,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> Recommendations:
        """The `k` best items to go with a basket, best first.

        Args:
            basket: item ids, at most 200; their order and repetitions do not count. Unknown ids are legal.
            user_id: the customer; left out for a stranger.
            k: 1 to 20.
            exclude: item ids that must not come back, at most 1000. Those of the basket never do.
            categories: recommend from these only; any, when empty.
            timeout_s: for this call only.
            request_id: Triton's request id, found again in its logs and traces.

        Raises:
            InvalidRequest: an id is no string or has over 128 bytes, a list is too long, k is not 1 to 20,
                or the server knows no such category.
            CestaError: see its subclasses.
        """
        query = Query(basket, user_id, k, exclude, categories)
        return self.recommend_many([query], timeout_s=timeout_s, request_id=request_id)[0]

    def recommend_many(
        self, queries: Iterable[Query], *, timeout_s: float | None = None, request_id: str = ""
    ) -> list[Recommendations]:
        """One answer per query, in order; `timeout_s` holds for all.

        Up to 64 queries and 62 KiB of them travel in one request.

        A query that the server refuses (an unknown category) fails the whole call.

        Raises:
            CestaError: as `recommend`.
        """
        call = self._call(timeout_s, self._retries, request_id)
        return [answer for batch in batches(queries) for answer in self._ask(batch, call)]

    def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """Whether a recommendation can be had now, tried with one that no cache can answer.

        (Triton's own ready flag stays true when the process behind a model is dead.)

        Raises:
            InvalidRequest: this recommender is closed, or `timeout_s` is not above 0.
        """
        call = self._call(timeout_s, 0, "")
        try:
            self._ask([canary()], call)
        except CestaError:
            return False
        return True

    def close(self) -> None:
        """Let go of the connections. Closing twice does no harm."""
        if not self._closed:
            self._closed = True
            self._transport.close()

    def __enter__(self) -> Recommender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, timeout_s: float | None, retries: int, request_id: str) -> Call:
        if self._closed:
            raise InvalidRequest("this recommender is closed; make a new one")
        return Call(self._timeout_s if timeout_s is None else timeout_s, retries, request_id, self._rng)

    def _ask(self, batch: Sequence[Query], call: Call) -> list[Recommendations]:
        return answers_in(self._reply(batch, call), batch)

    def _reply(self, batch: Sequence[Query], call: Call) -> Reply:
        tensors = tensors_of(batch)
        while True:
            try:
                return self._transport.infer(tensors, timeout_s=call.time_left(), request_id=call.request_id)
            except Unavailable as error:
                pause_s = call.pause_after(error)
            time.sleep(pause_s)
