"""A gateway for tests, and ways to ask it: proper HTTP, and raw bytes."""

from __future__ import annotations

import contextlib
import functools
import http.client
import itertools
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from operations.gateway import nginx
from operations.gateway.keys import Role, add_key
from operations.gateway.nginx import Gateway, GatewaySettings
from operations.processes.free_ports import bind_free_port
from operations.supervisor.problems import problem_response

_SOURCES = (f"127.{n // 62500 % 250 + 2}.{n // 250 % 250}.{n % 250 + 1}" for n in itertools.count())
FUZZ = int(os.environ.get("FUZZ", 150))  # requests at random
PROBLEM = {"type", "title", "status", "detail", "code", "error", "request_id"}  # and "pointer" for a field
TIMEOUT_S = 30  # an answer that takes longer counts as none
PATIENCE = {  # of gateways whose deadlines are not what is tested: a busy machine may stand still for seconds
    "triton.lua": {"TIMEOUT_MS = 2000": "TIMEOUT_MS = 60000", "CANARY_MS = 1000": "CANARY_MS = 30000"},
    "health.lua": {"TIMEOUT_MS = 400": "TIMEOUT_MS = 20000"},
}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: Any  # parsed

    @property
    def error(self) -> str:
        """The sentence of the error; fails unless the answer is an error as documented."""
        body = self.body
        assert self.headers["content-type"] == "application/problem+json"
        assert set(body) - {"pointer"} == PROBLEM
        assert (body["status"], body["error"]) == (self.status, body["detail"])
        assert body["type"] == f"urn:problem-type:cesta:{body['code']}"
        assert body["request_id"] == self.headers["x-request-id"]
        return self.body["error"]


@dataclass
class Door:
    """A running gateway; `keys` are its keys by name."""

    gateway: Gateway
    keys: dict[str, str]

    @property
    def settings(self) -> GatewaySettings:
        return self.gateway.settings

    def ask(
        self,
        path: str,
        body: Any = None,
        *,
        key: str | None = "shop",
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        source: str = "",
    ) -> Answer:
        """One request on a connection of its own. A body that is not bytes is sent as JSON.

        It comes from an address of its own, or from `source`: strangers are limited by address.
        """
        sent = {} if key is None else {"Authorization": f"Bearer {self.keys.get(key, key)}"}
        if body is not None:
            sent["Content-Type"] = "application/json"
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        came_from = (source or next(_SOURCES), 0)
        connection = http.client.HTTPConnection(
            self.settings.http, timeout=TIMEOUT_S, source_address=came_from
        )
        try:
            connection.request(
                method or ("GET" if body is None else "POST"), path, raw, sent | dict(headers or {})
            )
            with connection.getresponse() as response:
                content = response.read()
        finally:
            connection.close()
        received = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, received, json.loads(content) if content else None)

    def recommend(self, *basket: str, key: str = "shop", headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("/v1/recommend", {"basket": list(basket)}, key=key, headers=headers)

    def connect(self) -> socket.socket:
        host, _, port = self.settings.http.rpartition(":")
        return socket.create_connection((host, int(port)), TIMEOUT_S, (next(_SOURCES), 0))

    def send(self, request: bytes) -> bytes:
        """All bytes until the gateway closes, or until 0.3 s of silence after its first byte."""
        with self.connect() as connection:
            connection.sendall(request)
            received = b""
            try:
                while part := connection.recv(65536):
                    received += part
                    connection.settimeout(0.3)
            except TimeoutError:
                assert received, "no answer"
            except ConnectionResetError:
                pass
            return received


def release_of(
    door: Door, wire: str, session: str, request_id: str = "", timeout_s: float | None = None
) -> int:
    """The release that answers a request as cesta_client sends it, in a session with this id.

    After `timeout_s` a gRPC call is cancelled, which cesta_client does not do.
    """
    headers = {"authorization": f"Bearer {door.keys['shop']}", "x-session-id": session}
    headers |= {"x-request-id": request_id} if request_id else {}
    kind = tritonclient.grpc if wire == "grpc" else tritonclient.http
    basket = kind.InferInput("basket", [1, 1], "BYTES")
    basket.set_data_from_numpy(np.array([[b"i1"]], object))
    address = door.settings.grpc if wire == "grpc" else door.settings.http
    with kind.InferenceServerClient(address) as client:
        limit = {"client_timeout": timeout_s} if wire == "grpc" else {}
        answer = client.infer("recommender", [basket], headers=headers, **limit).get_response()
    return int(answer.model_version if wire == "grpc" else answer["model_version"])


OpenDoor = Callable[..., Door]  # of conftest.py: open_door in a folder of its own, closed with the module


def open_door(folder: Path, *, as_deployed: bool = False, **settings: Any) -> Door:
    """Start a gateway with the keys `shop` and `admin`, and `slow-shop` and `slow-admin` for 5 requests per
    second.

    It waits a minute for Triton, and 2 s as everywhere else if it is `as_deployed`.
    """
    rates = {"shop": 100_000, "admin": 100_000, "slow-shop": 5, "slow-admin": 5}
    keys = {name: add_key(folder, name, _role(name), rate) for name, rate in rates.items()}
    http_port, grpc_port = free_ports(2)
    addresses = {"http": f"127.0.0.1:{http_port}", "grpc": f"127.0.0.1:{grpc_port}"}
    gateway = Gateway(GatewaySettings(folder, **(addresses | settings)))
    with pytest.MonkeyPatch.context() as patch:
        if not as_deployed:
            patch.setattr(nginx, "CONFIGURATION", _patient_configuration())
        gateway.start()
    return Door(gateway, keys)


@functools.cache
def _patient_configuration() -> Path:
    """A copy of deploy/gateway with longer deadlines, in the temporary folder of these tests."""
    copy = shutil.copytree(nginx.CONFIGURATION, Path(tempfile.mkdtemp(prefix="gateway-")) / "conf")
    for name, changes in PATIENCE.items():
        script = copy / "lua" / name
        for before, after in changes.items():
            assert script.read_text().count(f"local {before}") == 1, before
            script.write_text(script.read_text().replace(f"local {before}", f"local {after}"))
    return copy


def _role(name: str) -> Role:
    return "admin" if "admin" in name else "shop"


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that differ, and that no connection is given."""
    with contextlib.ExitStack() as held:  # all at once, so that they differ
        return [bind_free_port(held.enter_context(socket.socket()), "127.0.0.1") for _ in range(count)]


KEY = {"name": "kiosk", "role": "shop", "rate": 50, "key": "cesta_secret"}
EVENT_LOG = {"log_id": 32 * "b", "position": 7, "bytes": 4096, "queued": 0, "writable": True, "fault": None}
EVENTS_TAKEN = {"accepted": 1, "known": 0, "refused": [], "position": 7, "unknown_items": 0}
EXPLAINED = {
    **{"release": 2, "question": {}, "proposed": 3, "candidates": 2, "items": [], "others": []},
    **{
        "baseline": {"score": None, "meaning": "mean"},
        "milliseconds": 1.5,
        "request_id": "of-a-shop",
    },
}
STOCK = {"version": 17, "pairs": 1, "unavailable": 1, "stores": 0, "samplers": []}
STOCK_CHANGED = {"version": 17, "changed": 1, "samplers": 1, "applied": 1}
OPERATION = {"id": 32 * "a", "what": "promote", "state": "running"}


class Supervisor(ThreadingHTTPServer):
    """Takes the place of the supervisor's app: answers every request with a copy of it."""

    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)
        self.address = f"127.0.0.1:{self.server_port}"
        self.asked = 0
        self.is_unready = False
        self.is_down = False  # then it closes connections without an answer

    def handle_error(self, *_: object) -> None:
        """A gateway has not waited for the answer, or was stopped."""


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Supervisor

    def do_GET(self) -> None:
        self.server.asked += 1
        if self.server.is_down:
            self.close_connection = True
            return
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = {"path": self.path, "method": self.command, "headers": headers}
        is_key = self.path.startswith("/admin/keys")
        is_change = self.command == "POST" and self.path.startswith("/admin/") and not is_key
        if is_change or self.path.startswith("/admin/operations/"):
            answer |= OPERATION
        elif self.path == "/admin/operations":
            answer["operations"] = [OPERATION]
        elif self.path == "/v1/events":
            answer |= EVENTS_TAKEN if self.command == "POST" else EVENT_LOG
            answer["request_id"] = headers["x-request-id"]
        elif self.path == "/v1/explain":
            answer |= EXPLAINED
        elif self.path.startswith("/v1/availability"):
            answer |= STOCK_CHANGED if self.command == "PUT" else STOCK
        elif is_key:
            answer |= KEY | {"keys": [KEY]}
        content = json.dumps(answer).encode()
        is_new = self.command == "POST" and self.path == "/admin/keys"
        is_refused = self.server.is_unready and self.path == "/readyz"
        if is_refused:
            content = problem_response("of-a-probe", 503, "Triton has ended").body
        self.send_response(503 if is_refused else 202 if is_change else 201 if is_new else 200)
        if is_change:
            self.send_header("Location", f"/admin/operations/{OPERATION['id']}")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = do_GET  # noqa: N815 - the library looks for these names

    def log_message(self, *_: object) -> None:
        pass
