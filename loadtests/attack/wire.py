"""Sends any bytes over HTTP/1.1, and questions over gRPC, without a library that corrects them."""

import contextlib
import http.client
import json
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import grpc
from tritonclient.grpc import service_pb2

from loadtests.attack.place import Place
from loadtests.questions import Question
from operations.address import split_address

TIMEOUT_S: Final = 5.0  # an answer that takes longer counts as none
INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
NONE: Final = "none"  # in place of a status: the connection ended without an answer

Headers = Sequence[tuple[str | bytes, str | bytes]]


class Reply(NamedTuple):
    """`status` is 0 if there was no answer. Names of headers are in lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def connect(address: str, timeout_s: float = TIMEOUT_S) -> socket.socket:
    return socket.create_connection(split_address(address), timeout_s)


class Line:
    """A connection that is opened again when it has ended."""

    def __init__(self, address: str, timeout_s: float = TIMEOUT_S) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._socket: socket.socket | None = None
        self.broken = 0  # connections that ended without an answer

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ask(self, request: bytes, method: str = "POST") -> Reply:
        """Send a request as it is and read one answer."""
        if self._socket is not None and select.select([self._socket], [], [], 0)[0]:
            self.close()  # the other side has closed it since the last answer
        for fresh in (self._socket is None, True):  # a kept connection may just have been closed
            if fresh:
                self.close()
            reply = self._ask(request, method)
            if reply.status or fresh:
                break
            self.broken += 1
        return reply

    def _ask(self, request: bytes, method: str) -> Reply:
        try:
            self._socket = self._socket or connect(self._address, self._timeout_s)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before its end
                self._socket.sendall(request)
            response = http.client.HTTPResponse(self._socket, method=method)
            response.begin()
            body = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return Reply(0, [], b"")
        if response.will_close:
            self.close()
        return Reply(response.status, [(name.lower(), value) for name, value in response.getheaders()], body)


def write_request(
    path: str | bytes, body: bytes = b"", headers: Headers = (), key: str = "", method: str = "POST"
) -> bytes:
    """An HTTP/1.1 request with these headers, in this order, after the ones that every request has."""
    common: list[tuple[str | bytes, str | bytes]] = [("Host", "shop")]
    common += [("Authorization", f"Bearer {key}")] if key else []
    if body or method == "POST":
        common += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    lines = [b"%b %b HTTP/1.1" % (method.encode(), _bytes(path))]
    lines += [b"%b: %b" % (_bytes(name), _bytes(value)) for name, value in [*common, *headers]]
    return b"\r\n".join([*lines, b"", body])


def write_question(place: Place, question: Question, key: str = "attacker", headers: Headers = ()) -> bytes:
    body = json.dumps({**question.json, "k": 20}).encode()
    return write_request("/v1/recommend", body, headers, place.keys[key])


def pack(ids: Sequence[str]) -> bytes:
    """Triton's form of strings: each one with its length in front."""
    return b"".join(struct.pack("<I", len(content)) + content for content in (i.encode() for i in ids))


def make_message(inputs: Mapping[str, Sequence[str]], request_id: str = "") -> Any:
    """A ModelInferRequest in the form of cesta_client."""
    message = service_pb2.ModelInferRequest(model_name="recommender", id=request_id)
    for name, ids in inputs.items():
        message.inputs.add(name=name, shape=[1, len(ids)], datatype="BYTES")
        message.raw_input_contents.append(pack(ids))
    return message


class Grpc:
    """A channel that sends and returns bytes."""

    def __init__(self, address: str, key: str = "") -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200)]
        options += [("grpc.enable_http_proxy", 0)]
        options += [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 1000)]
        self._channel = grpc.insecure_channel(address, options)
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._calls: dict[str, Any] = {}

    def __enter__(self) -> "Grpc":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def start(
        self, message: bytes, timeout_s: float = TIMEOUT_S, metadata: Sequence[Any] = (), path: str = INFER
    ) -> Any:
        """Send a call without waiting for its answer."""
        call = self._calls.get(path) or self._calls.setdefault(path, self._channel.unary_unary(path))
        return call.future(message, timeout=timeout_s, metadata=(*self._metadata, *metadata))

    def ask(
        self, message: bytes, timeout_s: float = TIMEOUT_S, metadata: Sequence[Any] = (), path: str = INFER
    ) -> tuple[str, bytes]:
        """The name of the status, and the answer or the text of the error."""
        try:
            return "OK", self.start(message, timeout_s, metadata, path).result()
        except grpc.RpcError as error:
            return error.code().name, (error.details() or "").encode()


def send_slowly(connection: socket.socket, content: bytes, gap_s: float, until: float) -> bool:
    """Send one byte each `gap_s`. Tell whether all were sent before the other side closed."""
    for place in range(len(content)):
        if time.monotonic() > until:
            return False
        try:
            connection.sendall(content[place : place + 1])
        except OSError:
            return False
        time.sleep(gap_s)
    return True


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
