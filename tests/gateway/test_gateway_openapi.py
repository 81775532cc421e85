"""docs/openapi.yaml describes what the gateway does: the running gateway gives every documented answer."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from operations.gateway.control import TOKEN, announce
from operations.gateway.keys import add_key
from operations.server.process import Server
from tests import ROOT
from tests.running.door import OPERATION, Answer, Door, OpenDoor, Supervisor, free_ports
from tests.running.fake_triton import fake_triton

pytestmark = pytest.mark.triton

DOCUMENT = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())
OPERATIONS = [
    (path, method)
    for path, methods in DOCUMENT["paths"].items()
    for method in methods
    if method != "parameters"
]
LARGE = {"/v1/events": b" " * 1_050_000}
KEYS = {"/v1/tokens": "browser", "/v1/events": "admin", "/v1/explain": "admin"}  # others: shop
BODIES = {
    "/v1/recommend": {"basket": ["i1"]},
    "/v1/recommend/batch": {"queries": [{"basket": ["i1"]}]},
    "/v1/rank": {"items": ["i1"]},
    "/v1/lists": {"lists": [{"kind": "popular", "label": "best"}]},
    "/v1/tokens": {"user_id": "900"},
    "/v1/events": {"events": [{"event_id": "e1", "basket_id": "b1", "item_ids": ["i1"]}]},
    "/v1/explain": {"user_id": "900"},
}
ADMINS_OWN = {400, 404, 409, 422}  # statuses of the supervisor, whose stand-in has none of these
BY_SUPERVISOR = {
    "/v1/explain": {400, 500},
    "/v1/events": ADMINS_OWN,
    "/v1/availability": ADMINS_OWN | {202, 413},
}
OF_LISTS = re.compile(r"/v1/items/.*|/v1/popular|/v1/lists")
LISTS = [path for path, _ in OPERATIONS if OF_LISTS.fullmatch(path)]
TAGGED = ["/v1/items", "/v1/categories", *LISTS[:-1]]
ADMIN_BODY = {"percent": 5}
CATEGORIES = {"release": 2, "categories": [{"name": "dairy", "items": 1}]}
ITEMS = {"items": {"i1": {"name": "Eggs", "department": "dairy"}}}


@pytest.fixture(scope="module")
def closed(open_gateway: OpenDoor) -> Door:
    """A gateway without a server behind it."""
    (port,) = free_ports(1)
    gone = f"127.0.0.1:{port}"
    return open_gateway(triton_http=gone, supervisor=gone, workers=1)


@pytest.fixture(scope="module")
def open_(open_gateway: OpenDoor, triton: Server, supervisor: Supervisor) -> Door:
    door = open_gateway(triton_http=triton.http)
    folder = door.settings.folder
    (folder / "items.json").write_text(json.dumps(ITEMS))
    (folder / "categories.json").write_text(json.dumps(CATEGORIES))
    (folder / TOKEN).write_text("a secret")
    door.keys["browser"] = add_key(folder, "browser", "browser", 1000, origins=["https://shop.example"])
    assert announce(folder)
    return door


@pytest.fixture(scope="module")
def listing(open_gateway: OpenDoor) -> Iterator[Door]:
    """A gateway whose release has lists."""
    with fake_triton() as fake:
        door = open_gateway(triton_http=fake.address, workers=1)
        door.keys["browser"] = add_key(
            door.settings.folder, "browser", "browser", 1000, origins=["https://shop.example"]
        )
        assert announce(door.settings.folder)
        yield door


def test_the_document_is_an_openapi_one() -> None:
    """Each $ref leads to an object, and each schema is valid."""
    assert DOCUMENT["openapi"] == "3.1.0"
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    refs = re.findall(r'"\$ref": "([^"]+)"', json.dumps(DOCUMENT))
    assert refs
    for ref in refs:
        assert resolved({"$ref": ref})


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        value: Any = DOCUMENT
        for name in node["$ref"].removeprefix("#/").split("/"):
            value = value[name]
        node = value
    return node


def validate(schema: dict[str, Any], body: Any) -> None:
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(body)


def test_every_operation_has_examples_that_fit() -> None:
    """Each body and each answer with a body has one."""
    for path, method in OPERATIONS:
        operation = DOCUMENT["paths"][path][method]
        messages = [resolved(answer) for answer in operation["responses"].values()]
        messages += [operation["requestBody"]] if "requestBody" in operation else []
        for content in (
            next(iter(message["content"].values())) for message in messages if "content" in message
        ):
            if content["schema"] != {"$ref": "#/components/schemas/Error"}:  # of those two are enough
                assert "example" in content, (method, path)
                validate(content["schema"], content["example"])
    for response in DOCUMENT["components"]["responses"].values():
        (content,) = response["content"].values()
        validate(content["schema"], content["example"])


@pytest.mark.parametrize(
    ("path", "method"), [operation for operation in OPERATIONS if not operation[0].startswith("/admin/")]
)
def test_the_example_of_every_operation_is_answered(
    path: str, method: str, open_: Door, listing: Door
) -> None:
    open_ = listing if path in LISTS else open_
    operation = DOCUMENT["paths"][path][method]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    key = KEYS.get(path, "shop")
    answer = open_.ask(path, content.get("example"), method=method.upper(), key=key)
    if path in ("/healthz", "/readyz"):
        return  # the stand-in of the supervisor answers
    assert answer.status == 200
    validate(operation["responses"]["200"]["content"]["application/json"]["schema"], answer.body)


def test_answers_are_open_and_requests_are_closed() -> None:
    """A field that comes with the next version must not break a strict client; a misspelt one is refused."""
    for path, method in OPERATIONS:
        operation = DOCUMENT["paths"][path][method]
        for answer in map(resolved, operation["responses"].values()):
            for content in answer.get("content", {}).values():
                assert not closed_parts(content["schema"]), (path, method)
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert resolved(content["schema"])["additionalProperties"] is False


def closed_parts(schema: Any) -> list[Any]:
    """The parts of a schema that an unknown field or a new word would break."""
    if isinstance(schema, list):
        return [part for each in schema for part in closed_parts(each)]
    if not isinstance(schema, dict):
        return []
    schema = resolved(schema)
    own = [schema] if schema.get("additionalProperties") is False or "enum" in schema else []
    return own + [part for value in schema.values() for part in closed_parts(value)]


def check(path: str, method: str, answer: Answer) -> int:
    """Fail unless the answer is documented with this body and these headers; returns its status."""
    responses = _responses(path, method)
    assert str(answer.status) in responses, (path, method, answer)
    response = resolved(responses[str(answer.status)])
    if "content" in response:
        ((kind, content),) = response["content"].items()
        assert answer.headers["content-type"] == kind
        validate(content["schema"], answer.body)
    for header in response.get("headers", {}):
        assert header.lower() in answer.headers
    return answer.status


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_documented_answer_is_given(
    path: str, method: str, open_: Door, closed: Door, listing: Door
) -> None:
    """503, 504 and the supervisor's refusals are left out; the tests of limits and errors provoke them."""
    open_, old, body = listing if path in LISTS else open_, open_, None
    if method == "post":
        body = ADMIN_BODY if path.startswith("/admin/") else BODIES[path]
    url, verb = (
        path.replace("{release}", "1").replace("{id}", OPERATION["id"]).replace("{name}", "kiosk"),
        method.upper(),
    )
    answers = [open_.ask(url, body, method=verb)]
    answers += [open_.ask(url, body, key=key, method=verb) for key in ("admin", "browser", None)]
    answers.append(closed.ask(url, body, key="admin", method=verb))
    is_admins = path.startswith("/admin/") or KEYS.get(path) == "admin"
    slow = "slow-admin" if is_admins else "slow-shop"
    with ThreadPoolExecutor(20) as threads:
        answers += threads.map(lambda _: open_.ask(url, body, key=slow, method=verb), range(60))
    statuses = {check(path, method, answer) for answer in answers}
    key = KEYS.get(path, "admin")
    statuses.add(check(path, method, open_.ask(url, body, key=key, method="DELETE")))
    if body is not None:
        wrong: list[tuple[Any, dict[str, str]]] = [
            ([], {}),
            (LARGE.get(path, b" " * 70_000), {}),
            (body, {"Content-Type": "text/plain"}),
        ]
        for sent, headers in wrong:
            statuses.add(check(path, method, open_.ask(url, sent, key=key, headers=headers)))
    if path in TAGGED:
        tag = {"If-None-Match": open_.ask(url).headers["etag"]}
        statuses.add(check(path, method, open_.ask(url, headers=tag)))
    if path in LISTS[:-1]:
        statuses |= {
            check(path, method, answer) for answer in (open_.ask(f"{url}?limit=0"), old.ask(url, key="admin"))
        }

    documented = {int(status) for status in _responses(path, method)}
    by_supervisor = BY_SUPERVISOR.get(path, ADMINS_OWN if path.startswith("/admin/") else set())
    elsewhere = {503, 504} | by_supervisor
    assert documented - statuses <= elsewhere


def _responses(path: str, method: str) -> dict[str, Any]:
    responses: dict[str, Any] = DOCUMENT["paths"][path][method]["responses"]
    return responses


def test_items_come_compressed_and_once(open_: Door) -> None:
    """nginx sends the compressed file as it is."""
    (open_.settings.folder / "items.json.gz").write_bytes(gzip.compress(json.dumps(ITEMS).encode()))
    received = open_.send(
        b"GET /v1/items HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n"
        b"Authorization: Bearer %b\r\n\r\n" % open_.keys["shop"].encode()
    )
    head, _, content = received.partition(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head
    assert json.loads(gzip.decompress(content)) == ITEMS
