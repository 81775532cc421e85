"""A server that answers the gateway in Triton's place: V2 with binary tensors over HTTP, from the release 1.

It answers every query with the item `i1`, or the next one that is not excluded. It records what it was asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from operations.address import join_address
from tests.running.raw_requests import packed

INPUTS = ("basket", "user_id", "exclude", "categories")
FURTHER = ("store_id", "exclude_categories", "items", "history", "history_ages")
LIST_INPUTS = ("kind", "item", "category", "store_id", "days", "exclude", "limit")


@dataclass
class Asked:
    """One request: its model, headers (names in lower case) and the ids of each input by query."""

    model: str
    headers: dict[str, str]
    ids: dict[str, list[list[bytes]]] = field(default_factory=dict)  # an age is 4 bytes

    @property
    def queries(self) -> int:
        return len(next(iter(self.ids.values())))

    def item(self, query: int) -> bytes:
        """The answer to a query."""
        excluded = {*self.ids.get("exclude", [[]] * self.queries)[query]}
        return next(item for n in itertools.count(1) if (item := f"i{n}".encode()) not in excluded)

    def digest(self, query: int) -> bytes:
        if self.model == "lists":
            return self._digest_of_list(query)
        rows = (self.ids.get(name, [[]] * self.queries)[query] for name in INPUTS)
        texts = [struct.pack("<I", len(row)) + packed(*row) for row in ([i for i in r if i] for r in rows)]
        for name in FURTHER:
            row = self.ids.get(name, [[]] * self.queries)[query]
            if name == "history_ages":
                row = (
                    [age for age, i in zip(row, self.ids["history"][query], strict=True) if i] if row else []
                )
            if row := [i for i in row if i]:
                values = b"".join(row) if name == "history_ages" else packed(*row)
                texts.append(packed(name.encode()) + struct.pack("<I", len(row)) + values)
        return hashlib.sha256(b"".join(texts)).hexdigest().encode()

    def _digest_of_list(self, query: int) -> bytes:
        """The digest that ensemble/item_lists/digest.py defines; numbers are bytes already."""
        written = b""
        for name in LIST_INPUTS:
            row = [value for value in self.ids.get(name, [[]] * self.queries)[query] if value]
            values = b"".join(row) if name in ("days", "limit") else packed(*row)
            written += struct.pack("<I", len(row)) + values
        return hashlib.sha256(written).hexdigest().encode()


class FakeTriton(ThreadingHTTPServer):
    """`may_answer` is an event that answers wait for; `broken` replaces an answer by (status, body)."""

    request_queue_size = 512
    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), _Infer)
        self.address = join_address(host, self.server_port)
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.delay_s = self.canary_delay_s = 0.0
        self.broken: tuple[int, bytes] | None = None
        self.broken_canary: tuple[int, bytes] | None = None  # the same for the canary release
        self.with_digest = True
        self.lacks: tuple[str, ...] = ()  # inputs that the release's contract does not have
        self.wrong_digests = 0  # so many answers bring a digest of another question
        self.asked: list[Asked] = []
        self.lock = threading.Lock()
        self.at_once = self.most_at_once = 0

    def handle_error(self, *_: object) -> None:
        """A gateway that is stopped closes its connections."""


@contextlib.contextmanager
def fake_triton(host: str = "127.0.0.1") -> Iterator[FakeTriton]:
    with FakeTriton(host) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.may_answer.set()
        server.shutdown()


class _Infer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeTriton

    def do_POST(self) -> None:
        fake, body = self.server, self.rfile.read(int(self.headers["Content-Length"]))
        asked = self._read(body)
        with fake.lock:
            fake.asked.append(asked)
            fake.at_once += 1
            fake.most_at_once = max(fake.most_at_once, fake.at_once)
        fake.may_answer.wait(120)
        if delay_s := fake.canary_delay_s if asked.model == "recommender_canary" else fake.delay_s:
            threading.Event().wait(delay_s)
        with fake.lock:
            fake.at_once -= 1
            wrong, fake.wrong_digests = fake.wrong_digests > 0, max(0, fake.wrong_digests - 1)
        status, content, head_bytes = self._answer(asked, wrong)
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Inference-Header-Content-Length", str(head_bytes))
            self.end_headers()
            self.wfile.write(content)

    def _read(self, body: bytes) -> Asked:
        asked = Asked(self.path.split("/")[3], {name.lower(): value for name, value in self.headers.items()})
        at = int(self.headers["Inference-Header-Content-Length"])
        for tensor in json.loads(body[:at])["inputs"]:
            rows, width = tensor["shape"]
            asked.ids[tensor["name"]] = []
            for _ in range(rows):
                row = []
                for _ in range(width):
                    if tensor["datatype"] in ("FP32", "INT32"):
                        row.append(body[at : at + 4])
                        at += 4
                        continue
                    (size,) = struct.unpack_from("<I", body, at)
                    row.append(body[at + 4 : at + 4 + size])
                    at += 4 + size
                asked.ids[tensor["name"]].append(row)
        return asked

    def _answer(self, asked: Asked, wrong: bool) -> tuple[int, bytes, int]:
        if self.server.broken:
            return *self.server.broken, 0
        if asked.model == "recommender_canary" and self.server.broken_canary:
            return *self.server.broken_canary, 0
        for name in self.server.lacks:
            if name in asked.ids:
                error = {"error": f"unexpected inference input '{name}' for model '{asked.model}'"}
                return 400, json.dumps(error).encode(), 0
        count = asked.queries
        outputs: list[tuple[str, str, bytes]] = [
            ("item_ids", "BYTES", packed(*[asked.item(n) for n in range(count)])),
            ("scores", "FP32", struct.pack(f"<{count}f", *[1.5] * count)),
            ("reasons", "INT32", struct.pack(f"<{count}i", *[1] * count)),
        ]
        if self.server.with_digest:
            digests = [b"0" * 64 if wrong else asked.digest(n) for n in range(count)]
            outputs.append(("digest", "BYTES", packed(*digests)))
        head = json.dumps(
            {"model_name": asked.model, "model_version": "1", "outputs": _describe(outputs, count)}
        )
        return 200, head.encode() + b"".join(raw for *_, raw in outputs), len(head)

    def log_message(self, *_: object) -> None:
        pass


def _describe(outputs: list[tuple[str, str, bytes]], count: int) -> list[dict[str, Any]]:
    return [
        {"name": name, "datatype": kind, "shape": [count, 1], "parameters": {"binary_data_size": len(raw)}}
        for name, kind, raw in outputs
    ]
