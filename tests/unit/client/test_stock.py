"""Telling the gateway what is available: one request, or parts that count together."""

import asyncio
import json

import pytest

from cesta_client import AsyncRecommender, Availability, InvalidRequest, Recommender, StockChange
from tests.running.scripted_shops import every_client

DONE = {"version": 17, "changed": 1, "samplers": 2, "applied": 2}
MILK = [Availability("milk", False), Availability("bread", None, "367")]


def tell(kind, address, entries=MILK, protocol="http", **options):
    if kind is Recommender:
        with Recommender(address, protocol=protocol, api_key="secret") as sync:
            return sync.set_availability(entries, **options)

    async def ask():
        async with AsyncRecommender(address, protocol=protocol, api_key="secret") as alike:
            return await alike.set_availability(entries, **options)

    return asyncio.run(ask())


def answered(status=200, **fields):
    return status, {"Content-Type": "application/json"}, json.dumps(DONE | fields).encode()


@every_client
def test_a_change_is_one_request(kind, http_shop):
    http_shop.script = [answered()]
    assert tell(kind, http_shop.address, version=17, replace=True) == StockChange(17, 2, 2)
    ((path, headers, body),) = http_shop.seen
    assert path == "/v1/availability"
    assert {name.lower(): value for name, value in headers.items()}["authorization"] == "Bearer secret"
    assert json.loads(body) == {
        "version": 17,
        "replace": True,
        "items": [
            {"item_id": "milk", "available": False},
            {"item_id": "bread", "available": None, "store_id": "367"},
        ],
    }


@every_client
def test_a_large_change_is_sent_in_parts(kind, http_shop):
    """A part that finds the server away is sent again."""
    many = [Availability(str(n), True) for n in range(2_001)]
    http_shop.script = [answered(202), (503, {}, b"{}"), answered()]
    assert tell(kind, http_shop.address, many, version=5).version == 17
    bodies = [json.loads(body) for _, _, body in http_shop.seen]
    assert [(b["part"], b["parts"], len(b["items"])) for b in bodies] == [(1, 2, 2000), (2, 2, 1), (2, 2, 1)]
    with pytest.raises(InvalidRequest, match="over 2000 entries needs a version"):
        tell(kind, http_shop.address, many)


@every_client
def test_an_older_version_is_refused_with_its_code(kind, http_shop):
    problem = {"code": "older_version", "detail": "version 1 is older than version 17"}
    http_shop.script = [(409, {}, json.dumps(problem).encode())]
    with pytest.raises(InvalidRequest, match="older than version 17") as refused:
        tell(kind, http_shop.address, version=1)
    assert refused.value.code == "older_version"


@every_client
def test_over_grpc_the_way_out_is_told(kind, refusing):
    with pytest.raises(InvalidRequest, match='protocol="http"'):
        tell(kind, refusing, protocol="grpc")


def test_an_entry_without_an_id_is_refused(refusing):
    with pytest.raises(InvalidRequest, match="item_id is empty"):
        tell(Recommender, refusing, [Availability("", False)])
