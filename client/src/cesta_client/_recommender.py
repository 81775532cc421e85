"""The client for programs with threads."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType

from . import _check, _lists, _stock
from ._call import Call, make_canary, split_into_batches
from ._digest import check_own, is_of_another_question, log_mistaken, with_nonce
from ._errors import CestaError, InvalidRequest, Unavailable
from ._events import EventsStatus, encode_event
from ._explain import EXPLAIN_S, explain_request
from ._limits import MAX_K
from ._reporting import Reporter, reporter_of
from ._stock import Availability, StockChange
from ._transports.connect import connect
from ._transports.endpoint import Protocol, make_endpoint
from ._transports.interface import JsonObject, JsonTransport, Reply, Tensors, Transport
from ._values import Query, Recommendations
from ._wire import answers_in, tensors_of


class Recommender:
    """A connection to a cesta server. One instance serves any number of threads.

    It connects at the first query. A forked process must create its own.

    Args:
        address: "host:port"; over HTTP a path may follow.
        protocol: "grpc" (Triton's port 8001) or "http" (8000).
        timeout_s: the longest time of one call in seconds, all retries included.
        retries: further attempts per call after `Unavailable`, while time remains.
        api_key: sent as `Authorization: Bearer …`.
        headers: sent with every request; printable ASCII.
        ssl: encrypt the connection and check the server's certificate.
        root_certificates: a PEM file to check the certificate with, instead of the system's.
        events: "host:port" of a gateway's HTTP, which takes events. `purchased` and `returned` need it.
        events_key: a key of the role events; by default `api_key`.
        transport: replaces the address, for example `cesta_client.testing.FakeShop`.

    Raises:
        InvalidRequest: an option is not valid.
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
        events: str | None = None,
        events_key: str | None = None,
        transport: Transport | None = None,
    ) -> None:
        if (address is None) == (transport is None):
            raise InvalidRequest("a recommender needs either an address or a transport")
        self._timeout_s = _check.seconds("timeout_s", timeout_s)
        self._retries = _check.retries(retries)
        self._rng = random.Random()
        self._closed = False
        self._transport = transport or connect(
            make_endpoint(
                address or "",
                protocol,
                api_key=api_key,
                headers=headers,
                ssl=ssl,
                root_certificates=root_certificates,
            )
        )
        self._reporter = reporter_of(
            events,
            events_key or api_key,
            headers=headers,
            ssl=ssl,
            root_certificates=root_certificates,
            transport=transport,
        )

    def recommend(
        self,
        basket: Iterable[str] | None = None,
        *,
        user_id: str | None = None,
        k: int = 10,
        exclude: Iterable[str] | None = None,
        categories: Iterable[str] | None = None,
        store_id: str | None = None,
        exclude_categories: Iterable[str] | None = None,
        items: Iterable[str] | None = None,
        history: Iterable[tuple[str, float]] | None = None,
        timeout_s: float | None = None,
        request_id: str = "",
        session_id: str | None = None,
        placement: str | None = None,
        variant: str | None = None,
    ) -> Recommendations:
        """Return the `k` best items for a basket, best first.

        Args:
            basket: at most 200 item ids. Order and repetitions do not matter. Unknown ids are allowed.
            user_id: the customer. Leave it out for an unknown customer.
            k: 1 to 20.
            exclude: at most 1000 item ids that must not come back. Items of the basket never come back.
            categories: recommend only from these categories. Empty: from any. One that the release does not
                have matches nothing, and the answer's `warnings` name it.
            store_id: the branch of the shop. One that the release does not have is a warning.
            exclude_categories: recommend nothing from these categories, for example alcohol.
            items: recommend only these, at most 100 item ids: all that are known come back in order, up to k.
            history: what the customer bought, as pairs of item id and age in days, at most 1000. It takes the
                place of what the release knows of `user_id`. Equal ages are one receipt.
            timeout_s: replaces the recommender's own for this call.
            request_id: Triton's request id, which its logs and traces show.
            session_id: the visit. One visit stays with one release while the gateway compares two. Let it be
                random: the gateway logs it, so it must not be the customer's id or address.
            placement: where the answer is shown, such as "cart". The gateway logs and counts it.
            variant: the arm of your own experiment. The gateway logs and counts it.

        Raises:
            InvalidRequest: an id is not a string or has over 128 bytes, a list is too long, k is not 1 to 20,
                an age is not 0 to 36525 days, or a session, placement or variant has another form than the
                gateway reads.
            CestaError: see its subclasses.
        """
        query = Query(
            basket,
            user_id,
            k,
            exclude,
            categories,
            store_id=store_id,
            exclude_categories=exclude_categories,
            items=items,
            history=history,
        )
        headers = _check.context(session_id, placement, variant)
        call = self._call(timeout_s, self._retries, request_id, headers)
        return self._ask([query], call)[0]

    def recommend_many(
        self,
        queries: Iterable[Query],
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        session_id: str | None = None,
        placement: str | None = None,
        variant: str | None = None,
    ) -> list[Recommendations]:
        """Return one answer per query, in order. `timeout_s` is for the whole call.

        One request carries up to 64 queries and 62 KiB.

        If the server refuses one query, the whole call fails.

        Raises:
            CestaError: see `recommend`.
        """
        headers = _check.context(session_id, placement, variant)
        call = self._call(timeout_s, self._retries, request_id, headers)
        return [answer for batch in split_into_batches(queries) for answer in self._ask(batch, call)]

    def explain(
        self,
        basket: Iterable[str] | None = None,
        *,
        user_id: str | None = None,
        exclude: Iterable[str] | None = None,
        categories: Iterable[str] | None = None,
        k: int | None = None,
        item_ids: Iterable[str] | None = None,
        store_id: str | None = None,
        exclude_categories: Iterable[str] | None = None,
        items: Iterable[str] | None = None,
        history: Iterable[tuple[str, float]] | None = None,
        timeout_s: float = EXPLAIN_S,
        request_id: str = "",
    ) -> JsonObject:
        """Ask a gateway why its answer holds these items, and what became of `item_ids`.

        It needs protocol="http" and a key of the role admin or explain. The gateway starts a process for its
        first explanation, which takes some seconds; it explains one question at a time.

        Args:
            basket, user_id, exclude, categories: see `recommend`.
            k: items of the answer to explain, 0 to 20. By default 10, or none if `item_ids` are given.
            item_ids: at most 20 items; for each the stage that it reached.
            store_id, exclude_categories, items, history: see `recommend`.
            timeout_s: the longest time of the call in seconds.
            request_id: the id under which the gateway logs the request.

        Returns:
            The JSON object of `POST /v1/explain`. docs/explain.md of cesta lists its keys, and newer servers
            may send others.

        Raises:
            InvalidRequest: this recommender speaks gRPC, or the server refuses a value.
            CestaError: see its subclasses.
        """
        query = Query(
            basket,
            user_id,
            10,
            exclude,
            categories,
            store_id=store_id,
            exclude_categories=exclude_categories,
            items=items,
            history=history,
        )
        asked = explain_request(query, k, item_ids)
        return self._ask_json("/v1/explain", asked, self._call(timeout_s, self._retries, request_id))

    def set_availability(
        self,
        entries: Iterable[Availability],
        *,
        version: int | None = None,
        replace: bool = False,
        timeout_s: float | None = None,
    ) -> StockChange:
        """Tell what is available from now on. Returns once recommendations follow it.

        It asks the gateway and needs `protocol="http"` with a key of the role stock, shop or admin. Entries
        that are not named stay as they are.

        Args:
            entries: see `Availability`. Over 2,000 of them are sent in parts, which count together.
            version: above that of the change before. The same change may be sent again. None: the next one.
            replace: forget all entries of before.
            timeout_s: the longest time of one part, all retries included; 60 by default.

        Raises:
            InvalidRequest: an id is not valid, or the version is not newer (`code` is "older_version").
            CestaError: see its subclasses.
        """
        answer: JsonObject = {}
        for body in _stock.bodies(entries, version, replace):
            call = self._call(timeout_s or _stock.TIMEOUT_S, self._retries, "")
            answer = self._ask_json(_stock.PATH, body, call, "PUT")
        return _stock.change_in(answer)

    def similar(
        self,
        item_id: str,
        *,
        limit: int = 10,
        exclude: Iterable[str] | None = None,
        categories: Iterable[str] | None = None,
        store_id: str | None = None,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> Recommendations:
        """Return the items nearest to one in the space of the retrieval tower.

        It asks a gateway and needs protocol="http". Other lists take the same arguments.

        Args:
            item_id: one that the release does not know has an empty list, and the `warnings` name it.
            limit: 1 to 100.
            exclude: at most 1000 item ids that must not come back. `item_id` itself never does.
            categories: list only items of these.
            store_id: the branch of the shop: what it does not have is not listed.
            timeout_s: replaces the recommender's own for this call.
            request_id: the id under which the gateway logs the request.

        Raises:
            InvalidRequest: this recommender speaks gRPC, or a value is not valid.
            Unavailable: the active release has no lists; `code` is then "not_in_this_release".
            CestaError: see its subclasses.
        """
        asked = _lists.body("similar", item_id, limit, exclude, categories, store_id)
        return self._ask_list(asked, timeout_s, request_id)

    def together(
        self,
        item_id: str,
        *,
        limit: int = 10,
        exclude: Iterable[str] | None = None,
        categories: Iterable[str] | None = None,
        store_id: str | None = None,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> Recommendations:
        """Return the items that are often in one basket with an item. See `similar`."""
        asked = _lists.body("together", item_id, limit, exclude, categories, store_id)
        return self._ask_list(asked, timeout_s, request_id)

    def substitutes(
        self,
        item_id: str,
        *,
        limit: int = 10,
        exclude: Iterable[str] | None = None,
        categories: Iterable[str] | None = None,
        store_id: str | None = None,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> Recommendations:
        """Return the items that serve the same need as one. See `similar`."""
        asked = _lists.body("substitutes", item_id, limit, exclude, categories, store_id)
        return self._ask_list(asked, timeout_s, request_id)

    def popular(
        self,
        *,
        limit: int = 10,
        days: int = 0,
        exclude: Iterable[str] | None = None,
        categories: Iterable[str] | None = None,
        store_id: str | None = None,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> Recommendations:
        """Return the best sellers, of the whole period (`days=0`) or of the last 28 days. See `similar`."""
        asked = _lists.body("popular", None, limit, exclude, categories, store_id, days)
        return self._ask_list(asked, timeout_s, request_id)

    def rank(
        self,
        items: Iterable[str],
        *,
        basket: Iterable[str] | None = None,
        user_id: str | None = None,
        k: int = MAX_K,
        store_id: str | None = None,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> Recommendations:
        """Return `items` in the order of their scores for a customer and a basket.

        It asks as `recommend` does, over each protocol. At most 100 items; the best `k`, 1 to 20, come back.

        Raises:
            InvalidRequest: items is empty, or see `recommend`.
            CestaError: see its subclasses.
        """
        query = Query(basket, user_id, k, items=items, store_id=store_id)
        if not query.items:
            raise InvalidRequest("items is empty: the ids to be ranked")
        return self._ask([query], self._call(timeout_s, self._retries, request_id))[0]

    def _ask_list(self, asked: JsonObject, timeout_s: float | None, request_id: str) -> Recommendations:
        call = self._call(timeout_s, self._retries, request_id)
        return _lists.list_in(self._ask_json(_lists.PATH, asked, call))

    def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """Tell whether the server answers now. It sends a query that no cache can answer.

        Triton's own ready flag stays true when the process behind a model is dead.

        Raises:
            InvalidRequest: this recommender is closed, or `timeout_s` is not above 0.
        """
        call = self._call(timeout_s, 0, "")
        try:
            self._ask([make_canary()], call)
        except CestaError:
            return False
        return True

    def purchased(
        self,
        basket_id: str,
        item_ids: Iterable[str],
        *,
        user_id: str | None = None,
        store_id: str | None = None,
        at: datetime | None = None,
        request_id: str | None = None,
        event_id: str | None = None,
    ) -> bool:
        """Report a purchase in the background; return False if the buffer has no room and it is dropped.

        It never waits. A thread sends what was gathered in 0.2 s, and sends it again until the server has
        acknowledged it. 10,000 events may wait.

        Args:
            basket_id: the receipt.
            item_ids: at most 200 different ids.
            at: when it happened, with a time zone; by default now.
            request_id: the id of the request whose answer led to the purchase.
            event_id: names the event for ever, so that another process can repeat it; by default a new one.

        Raises:
            InvalidRequest: a value is not valid, or the recommender has no `events`.
        """
        about = {"store_id": store_id, "request_id": request_id, "event_id": event_id}
        event = encode_event("purchase", basket_id, item_ids, user_id, at=at, **about)
        return self._events().add(event)

    def returned(
        self,
        basket_id: str,
        item_ids: Iterable[str],
        *,
        user_id: str | None = None,
        store_id: str | None = None,
        at: datetime | None = None,
        request_id: str | None = None,
        event_id: str | None = None,
    ) -> bool:
        """Report that items of a purchase came back; the rest is as in `purchased`."""
        about = {"store_id": store_id, "request_id": request_id, "event_id": event_id}
        event = encode_event("returned", basket_id, item_ids, user_id, at=at, **about)
        return self._events().add(event)

    def events_status(self) -> EventsStatus:
        """Return what became of the events so far, without asking the server."""
        return self._events().buffer.status()

    def close(self) -> None:
        """Close the connections. A second call does nothing.

        Before, events that wait are reported, for 2 s at most.
        Over gRPC it waits up to 0.25 s for calls whose callers gave up, and leaves the channel to the others.
        """
        if not self._closed:
            self._closed = True
            if self._reporter is not None:
                self._reporter.close()
            self._transport.close()

    def __enter__(self) -> Recommender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _events(self) -> Reporter:
        if self._closed:
            raise InvalidRequest("this recommender is closed; make a new one")
        if self._reporter is None:
            raise InvalidRequest('this recommender reports no events; make it with events="host:port"')
        return self._reporter

    def _call(
        self, timeout_s: float | None, retries: int, request_id: str, headers: Mapping[str, str] | None = None
    ) -> Call:
        if self._closed:
            raise InvalidRequest("this recommender is closed; make a new one")
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        return Call(timeout_s, retries, request_id, self._rng, headers)

    def _ask(self, batch: Sequence[Query], call: Call) -> list[Recommendations]:
        return answers_in(self._reply(batch, call), batch)

    def _reply(self, batch: Sequence[Query], call: Call) -> Reply:
        tensors = tensors_of(batch)
        reply = self._infer(tensors, call)
        if is_of_another_question(reply, tensors):
            log_mistaken(reply, call.request_id)
            reply = self._infer(with_nonce(tensors), call)
            check_own(reply, tensors)
        return reply

    def _infer(self, tensors: Tensors, call: Call) -> Reply:
        while True:
            try:
                return self._transport.infer(
                    tensors, timeout_s=call.time_left(), request_id=call.request_id, headers=call.headers
                )
            except Unavailable as error:
                pause_s = call.pause_after(error)
            time.sleep(pause_s)

    def _ask_json(self, path: str, asked: JsonObject, call: Call, method: str = "POST") -> JsonObject:
        if not isinstance(self._transport, JsonTransport):
            raise InvalidRequest(f'{path} is asked over HTTP; make the recommender with protocol="http"')
        while True:
            try:
                return self._transport.ask_json(
                    path, asked, timeout_s=call.time_left(), request_id=call.request_id, method=method
                )
            except Unavailable as error:
                pause_s = call.pause_after(error)
            time.sleep(pause_s)
