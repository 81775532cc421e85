"""The stock over HTTP: ``/v1/availability`` for the gateway's callers, and its metrics."""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, TypeVar

import structlog
from fastapi import APIRouter, Header
from fastapi.responses import JSONResponse, Response
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel, Field, model_validator

from ensemble.candidate_sampler.blanks import trimmed
from ensemble.candidate_sampler.live.change_log import AVAILABLE, GONE, UNSAID, WHOLE_SHOP
from operations.errors import CestaError
from operations.events.event import MAX_ID_BYTES
from operations.gateway.link import admin_token
from operations.gateway.live_key import tell_live_key
from operations.live.stock import MOST_VERSION, Acknowledged, NotKept, OlderVersion, Part, Stock
from operations.live.table import Pair, Version
from operations.live.uploads import MOST_PARTS
from operations.supervisor.problems import Problem
from operations.supervisor.threads import run_unattended

log = structlog.get_logger()

Result = TypeVar("Result")

ANSWER_S: Final = 8.0  # for both steps of a change; the gateway waits a little longer
FOLDER: Final = "live"  # in the gateway's folder

Number = Annotated[int, Field(ge=1, le=MOST_VERSION)]
PartNumber = Annotated[int, Field(ge=1, le=MOST_PARTS)]


class Entry(BaseModel, extra="forbid", strict=True):
    """States whether an item is available; null: the store has what the whole shop has."""

    item_id: str
    store_id: str = WHOLE_SHOP
    available: bool | None

    def pair(self) -> tuple[Pair, int]:
        """Return the entry as the table has it. Raises ValueError for an id that no question may have."""
        store, item = trimmed(self.store_id), trimmed(self.item_id)
        for what, value in (("item_id", item), ("store_id", store)):
            if len(value.encode()) > MAX_ID_BYTES:
                raise ValueError(f'{what} "{value[:40]}…" has over {MAX_ID_BYTES} bytes')
        if not item:
            raise ValueError("item_id is empty")
        return (store, item), UNSAID if self.available is None else AVAILABLE if self.available else GONE


class Given(BaseModel, extra="forbid", strict=True):
    """The body of a change: all of a version, or one of its parts."""

    version: Number | None = None
    items: list[Entry]
    replace: bool = False
    part: PartNumber | None = None
    parts: PartNumber | None = None

    @model_validator(mode="after")
    def check_parts(self) -> "Given":
        """Require what a part needs."""
        if (self.part is None) != (self.parts is None):
            raise ValueError("part and parts belong together")
        if self.part and self.parts and (self.version is None or self.part > self.parts):
            raise ValueError("a part needs a version, and is at most the number of parts")
        return self

    def as_version(self) -> Version:
        """Return what the body says; of several entries for a pair, the last."""
        return Version(self.version or 0, dict(entry.pair() for entry in self.items), self.replace)


@contextmanager
def follow_stock(live: Path | None, gateway: Path | None) -> Iterator[Stock | None]:
    """Keep the stock in ``live`` within the block, and tell the gateway; None without such a folder."""
    if live is None:
        yield None
        return
    tell: Callable[[str], object] = (lambda key: tell_live_key(gateway, key)) if gateway else (lambda _: None)
    stock = Stock(live, tell)
    run_unattended(stock.run, "stock not kept")
    try:
        yield stock
    finally:
        stock.end()


def make_stock_router(stock: Stock, token: str) -> APIRouter:
    """Return the routes of the stock, for callers that know the token of the folder."""

    def check(given: str) -> None:
        if not secrets.compare_digest(given.encode(), token.encode()):
            raise Problem(403, "ask the gateway, with a key of the role stock, shop or admin", "not_allowed")

    router = APIRouter(prefix="/v1")

    @router.get("/availability")
    def describe(
        item_id: str = "", store_id: str = WHOLE_SHOP, x_cesta_admin: Annotated[str, Header()] = ""
    ) -> dict[str, object]:
        """Return the version and its size, and with ``item_id`` whether that item is available."""
        check(x_cesta_admin)
        described = stock.described()
        if item_id:
            described["item_id"] = item_id
            described["available"] = stock.is_available(trimmed(item_id), trimmed(store_id))
        return described

    @router.put("/availability")
    async def change(
        body: Given, x_cesta_admin: Annotated[str, Header()] = "", x_cesta_key: Annotated[str, Header()] = ""
    ) -> Response:
        """Keep a change, have the samplers apply it, and then acknowledge it; keep a part."""
        check(x_cesta_admin)
        with _as_problems():
            version = _version_of(body)
            if body.part and body.parts:
                part = Part(body.part, body.parts)
                outcome = await _in_time(asyncio.to_thread(stock.put_part, version, part))
                if isinstance(outcome, int):
                    came = {"version": body.version, "received": outcome, "parts": body.parts}
                    return JSONResponse(came, 202)
            else:
                outcome = await _in_time(asyncio.to_thread(stock.put, body.version, version))
            done = await _in_time(asyncio.wrap_future(outcome))
        log.info("stock", by=f"key:{x_cesta_key}", version=done.version, pairs=done.changed)
        return JSONResponse(_acknowledged(done))

    return router


async def _in_time(work: Awaitable[Result]) -> Result:
    """Await work that goes on if it takes too long. Raises TimeoutError then."""
    return await asyncio.wait_for(asyncio.shield(work), ANSWER_S / 2)


def stock_token(live: Path, gateway: Path | None) -> str:
    """Return the token of the folder that callers must know: the gateway's, or the live tables'."""
    return admin_token(gateway or live)


def _acknowledged(done: Acknowledged) -> dict[str, object]:
    return {
        "version": done.version,
        "changed": done.changed,
        "samplers": done.samplers,
        "applied": done.applied,
    }


def _version_of(body: Given) -> Version:
    try:
        return body.as_version()
    except ValueError as error:
        raise Problem(400, str(error), "invalid_body", pointer="/items") from None


@contextlib.contextmanager
def _as_problems() -> Iterator[None]:
    try:
        yield
    except OlderVersion as error:
        raise Problem(409, str(error), "older_version", pointer="/version") from None
    except NotKept as error:
        raise Problem(503, str(error), "stock_not_kept") from None
    except TimeoutError:
        raise Problem(503, "the change is not acknowledged yet; send it again", "stock_not_kept") from None
    except CestaError as error:
        raise Problem(422, str(error), "too_many_pairs") from None


class StockMetrics(Collector):
    """Reads the stock when Prometheus scrapes."""

    def __init__(self, stock: Stock | None, answering: Callable[[], int | None]) -> None:
        self._stock, self._answering = stock, answering

    def collect(self) -> Iterator[Metric]:
        """Return the gauges; none without live tables, or before the first change."""
        stock = self._stock
        if stock is None or not stock.table.version:
            return
        described = stock.described()
        for name, documentation in (
            ("version", "Newest version of the stock"),
            ("pairs", "Entries of the stock"),
            ("unavailable", "Entries that say not available"),
        ):
            yield GaugeMetricFamily(f"cesta_stock_{name}", documentation, value=float(str(described[name])))
        yield GaugeMetricFamily(
            "cesta_stock_changed_timestamp_seconds", "When it changed last", value=stock.table.changed_at
        )
        yield GaugeMetricFamily(
            "cesta_stock_damaged",
            "1 if a part of its file could not be read",
            value=float(bool(stock.table.damage)),
        )
        yield GaugeMetricFamily(
            "cesta_stock_lag_seconds",
            "For how long a sampler has not applied what was acknowledged",
            value=stock.lag_s(),
        )
        release = str(self._answering())
        is_followed = any(one.release == release for one in stock.followers())
        yield GaugeMetricFamily(
            "cesta_stock_applied",
            "1 if the samplers of the answering release follow the stock and are not late",
            value=float(is_followed and not stock.lag_s()),
        )
        refused = CounterMetricFamily("cesta_stock_refused", "Changes that were refused")
        refused.add_metric([], stock.refused)
        yield refused
        yield _samplers(stock)


def _samplers(stock: Stock) -> Metric:
    versions = GaugeMetricFamily(
        "cesta_stock_sampler_version",
        "Version that a sampler process has applied",
        labels=["release", "model_instance"],
    )
    oldest: dict[tuple[str, str], int] = {}
    for one in stock.followers():
        place = one.release, one.instance
        oldest[place] = min(one.version, oldest.get(place, one.version))
    for labels, version in oldest.items():
        versions.add_metric(labels, version)
    return versions
