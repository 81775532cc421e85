"""The client for asyncio programs."""

from __future__ import annotations

import asyncio
import os
import random
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
from ._reporting import AsyncReporter, async_reporter_of
from ._stock import Availability, StockChange
from ._transports.connect import connect_async
from ._transports.endpoint import Protocol, make_endpoint
from ._transports.interface import AsyncJsonTransport, AsyncTransport, JsonObject, Reply, Tensors
from ._values import Query, Recommendations
from ._wire import answers_in, tensors_of


class AsyncRecommender:
    """`Recommender` for asyncio: the same options, questions, answers and errors.

    One instance serves one event loop.
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
        transport: AsyncTransport | None = None,
    ) -> None:
        if (address is None) == (transport is None):
            raise InvalidRequest("a recommender needs either an address or a transport")
        self._timeout_s = _check.seconds("timeout_s", timeout_s)
        self._retries = _check.retries(retries)
        self._rng = random.Random()
        self._closed = False
        self._transport = transport or connect_async(
            make_endpoint(
                address or "",
                protocol,
                api_key=api_key,
                headers=headers,
                ssl=ssl,
                root_certificates=root_certificates,
            )
        )
        self._reporter = async_reporter_of(
            events,
            events_key or api_key,
            headers=headers,
            ssl=ssl,
            root_certificates=root_certificates,
            transport=transport,
        )

    async def recommend(
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
        """See `Recommender.recommend`."""
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
        return (await self._ask([query], call))[0]

    async def recommend_many(
        self,
        queries: Iterable[Query],
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        session_id: str | None = None,
        placement: str | None = None,
        variant: str | None = None,
    ) -> list[Recommendations]:
        """See `Recommender.recommend_many`."""
        headers = _check.context(session_id, placement, variant)
        call = self._call(timeout_s, self._retries, request_id, headers)
        return [answer for batch in split_into_batches(queries) for answer in await self._ask(batch, call)]

    async def explain(
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
        """See `Recommender.explain`."""
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
        return await self._ask_json("/v1/explain", asked, self._call(timeout_s, self._retries, request_id))

    async def set_availability(
        self,
        entries: Iterable[Availability],
        *,
        version: int | None = None,
        replace: bool = False,
        timeout_s: float | None = None,
    ) -> StockChange:
        """See `Recommender.set_availability`."""
        answer: JsonObject = {}
        for body in _stock.bodies(entries, version, replace):
            call = self._call(timeout_s or _stock.TIMEOUT_S, self._retries, "")
            answer = await self._ask_json(_stock.PATH, body, call, "PUT")
        return _stock.change_in(answer)

    async def similar(
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
        """See `Recommender.similar`."""
        asked = _lists.body("similar", item_id, limit, exclude, categories, store_id)
        return await self._ask_list(asked, timeout_s, request_id)

    async def together(
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
        """See `Recommender.together`."""
        asked = _lists.body("together", item_id, limit, exclude, categories, store_id)
        return await self._ask_list(asked, timeout_s, request_id)

    async def substitutes(
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
        """See `Recommender.substitutes`."""
        asked = _lists.body("substitutes", item_id, limit, exclude, categories, store_id)
        return await self._ask_list(asked, timeout_s, request_id)

    async def popular(
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
        """See `Recommender.popular`."""
        asked = _lists.body("popular", None, limit, exclude, categories, store_id, days)
        return await self._ask_list(asked, timeout_s, request_id)

    async def rank(
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
        """See `Recommender.rank`."""
        query = Query(basket, user_id, k, items=items, store_id=store_id)
        if not query.items:
            raise InvalidRequest("items is empty: the ids to be ranked")
        return (await self._ask([query], self._call(timeout_s, self._retries, request_id)))[0]

    async def _ask_list(self, asked: JsonObject, timeout_s: float | None, request_id: str) -> Recommendations:
        call = self._call(timeout_s, self._retries, request_id)
        return _lists.list_in(await self._ask_json(_lists.PATH, asked, call))

    async def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """See `Recommender.is_ready`."""
        call = self._call(timeout_s, 0, "")
        try:
            await self._ask([make_canary()], call)
        except CestaError:
            return False
        return True

    async def purchased(
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
        """See `Recommender.purchased`; a task sends."""
        about = {"store_id": store_id, "request_id": request_id, "event_id": event_id}
        event = encode_event("purchase", basket_id, item_ids, user_id, at=at, **about)
        return self._events().add(event)

    async def returned(
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
        """See `Recommender.returned`."""
        about = {"store_id": store_id, "request_id": request_id, "event_id": event_id}
        event = encode_event("returned", basket_id, item_ids, user_id, at=at, **about)
        return self._events().add(event)

    def events_status(self) -> EventsStatus:
        """See `Recommender.events_status`."""
        return self._events().buffer.status()

    async def aclose(self) -> None:
        """See `Recommender.close`."""
        if not self._closed:
            self._closed = True
            if self._reporter is not None:
                await self._reporter.aclose()
            await self._transport.aclose()

    async def __aenter__(self) -> AsyncRecommender:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _events(self) -> AsyncReporter:
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

    async def _ask(self, batch: Sequence[Query], call: Call) -> list[Recommendations]:
        return answers_in(await self._reply(batch, call), batch)

    async def _reply(self, batch: Sequence[Query], call: Call) -> Reply:
        tensors = tensors_of(batch)
        reply = await self._infer(tensors, call)
        if is_of_another_question(reply, tensors):
            log_mistaken(reply, call.request_id)
            reply = await self._infer(with_nonce(tensors), call)
            check_own(reply, tensors)
        return reply

    async def _infer(self, tensors: Tensors, call: Call) -> Reply:
        while True:
            try:
                return await self._transport.ainfer(
                    tensors, timeout_s=call.time_left(), request_id=call.request_id, headers=call.headers
                )
            except Unavailable as error:
                pause_s = call.pause_after(error)
            await asyncio.sleep(pause_s)

    async def _ask_json(self, path: str, asked: JsonObject, call: Call, method: str = "POST") -> JsonObject:
        if not isinstance(self._transport, AsyncJsonTransport):
            raise InvalidRequest(f'{path} is asked over HTTP; make the recommender with protocol="http"')
        while True:
            try:
                return await self._transport.aask_json(
                    path, asked, timeout_s=call.time_left(), request_id=call.request_id, method=method
                )
            except Unavailable as error:
                pause_s = call.pause_after(error)
            await asyncio.sleep(pause_s)
