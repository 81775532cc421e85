"""The client on real sockets: refused, silent, slow, broken off, encrypted, and every status there is."""

import asyncio
import json
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from cesta_client import (
    AsyncRecommender,
    CestaError,
    InvalidRequest,
    Query,
    Recommender,
    ServerError,
    Throttled,
    TimedOut,
    Unauthorized,
    Unavailable,
)

GOOD = {"item_ids": ("BYTES", [b"bread", b""]), "scores": ("FP32", [1.0, 0.0]), "reasons": ("INT32", [2, 0])}


def ask(kind, address, *, question=None, **options):
    """One question by a client of this kind, in a plain call whichever kind it is."""
    options = {"timeout_s": 10, "retries": 0} | options
    if kind is Recommender:
        with Recommender(address, **options) as shop:
            return shop.recommend(basket=["milk"], **(question or {}))

    async def ask_async():
        async with AsyncRecommender(address, **options) as shop:
            return await shop.recommend(basket=["milk"], **(question or {}))

    return asyncio.run(ask_async())


every_client = pytest.mark.parametrize("kind", [Recommender, AsyncRecommender])
every_protocol = pytest.mark.parametrize("protocol", ["grpc", "http"])


def raw(datatype, values):
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in values)
    return np.array(values, dtype={"FP32": np.float32, "INT32": np.int32}[datatype]).tobytes()


def http_answer():
    """(headers, body) of a V2 answer with one item, from the protocol's text, not from the client."""
    parts = {name: raw(datatype, values) for name, (datatype, values) in GOOD.items()}
    outputs = [
        {"name": n, "datatype": GOOD[n][0], "shape": [1, 2], "parameters": {"binary_data_size": len(part)}}
        for n, part in parts.items()
    ]
    head = json.dumps({"model_name": "recommender", "model_version": "9", "outputs": outputs}).encode()
    return {"Inference-Header-Content-Length": str(len(head))}, head + b"".join(parts.values())


class HttpShop:
    """An HTTP server that answers as `script` says: (status, headers, body), or a function of the handler."""

    def __init__(self, tls=None):
        self.script, self.seen, self.connections = [], [], 0
        shop = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                shop.connections += 1

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                shop.seen.append((self.path, dict(self.headers.items()), body))
                answer = shop.script.pop(0) if shop.script else (200, *http_answer())
                if callable(answer):
                    answer(self)
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"


@pytest.fixture
def http_shop():
    with serving(HttpShop()) as shop:
        yield shop


@contextmanager
def serving(shop):
    thread = threading.Thread(target=shop.server.serve_forever, args=(0.01,))
    thread.start()
    yield shop
    shop.server.shutdown()
    thread.join()
    shop.server.server_close()


class GrpcShop(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A gRPC server that answers as `script` says: (code, text) refuses."""

    def __init__(self, address="127.0.0.1:0", credentials=None):
        self.script, self.seen = [], []
        self.server = grpc.server(ThreadPoolExecutor(4))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self.server)
        add = self.server.add_insecure_port
        port = self.server.add_secure_port(address, credentials) if credentials else add(address)
        self.address = f"127.0.0.1:{port}"
        self.server.start()

    def ModelInfer(self, request, context):  # noqa: N802  gRPC's name
        self.seen.append((request, dict(context.invocation_metadata())))
        if self.script:
            context.abort(*self.script.pop(0))
        answer = service_pb2.ModelInferResponse(model_name="recommender", model_version="9")
        for name, (datatype, values) in GOOD.items():
            answer.outputs.add(name=name, datatype=datatype, shape=[1, 2])
            answer.raw_output_contents.append(raw(datatype, values))
        return answer


@pytest.fixture
def grpc_shop():
    shop = GrpcShop()
    yield shop
    shop.server.stop(None).wait()


@pytest.fixture
def silent():
    """The address of a socket that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def refusing():
    """An address where nobody listens: bound, so that nobody else gets the port meanwhile."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # a gRPC server may join
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@every_client
@every_protocol
def test_a_refused_connection_is_unavailable_and_names_the_address(kind, protocol, refusing):
    with pytest.raises(Unavailable, match=refusing):
        ask(kind, refusing, protocol=protocol)


@every_client
@every_protocol
def test_a_host_without_address_is_unavailable(kind, protocol):
    with pytest.raises(Unavailable, match=r"no-such-host\.invalid"):
        ask(kind, "no-such-host.invalid:8001", protocol=protocol)


@every_client
@every_protocol
def test_a_silent_server_times_out_in_time(kind, protocol, silent):
    started = time.monotonic()
    with pytest.raises(TimedOut, match=f"no answer from {silent} within 0"):
        ask(kind, silent, protocol=protocol, timeout_s=0.2, retries=5)
    assert 0.19 <= time.monotonic() - started < 1


@every_client
@every_protocol
def test_a_silent_server_is_not_ready(kind, protocol, silent):
    async def ready():
        async with AsyncRecommender(silent, protocol=protocol, timeout_s=0.1) as shop:
            return await shop.is_ready()

    if kind is Recommender:
        with Recommender(silent, protocol=protocol, timeout_s=0.1) as shop:
            assert not shop.is_ready()
    else:
        assert not asyncio.run(ready())


def test_grpc_finds_a_server_that_has_come_back_without_waiting_a_second(refusing):
    """gRPC's own pause before it connects anew is a second, in which every retry would fail."""
    with Recommender(refusing, retries=20, timeout_s=0.75) as shop:
        with pytest.raises(Unavailable):
            shop.recommend(timeout_s=0.05)
        back = GrpcShop(address=refusing)
        assert shop.recommend()[0].item_id == "bread"
        back.server.stop(None).wait()


INPUTS = [("basket", [1, 1], "BYTES"), ("user_id", [1, 1], "BYTES")]


@every_client
def test_http_carries_the_question_and_reads_the_answer(kind, http_shop):
    answer = ask(
        kind,
        http_shop.address + "/shop/",
        protocol="http",
        api_key="s3cret",
        headers={"X-Shop": "Berlin"},
        question={"request_id": "checkout-17"},
    )
    assert [(item.item_id, item.score, item.rank) for item in answer] == [("bread", 1.0, 1)]
    assert answer.release == 9
    path, headers, body = http_shop.seen[0]
    headers = {name.lower(): value for name, value in headers.items()}
    assert path == "/shop/v2/models/recommender/infer"
    assert (headers["authorization"], headers["x-shop"]) == ("Bearer s3cret", "Berlin")
    length = int(headers["inference-header-content-length"])
    asked = json.loads(body[:length])
    assert asked["id"] == "checkout-17"
    assert [(i["name"], i["shape"], i["datatype"]) for i in asked["inputs"]] == INPUTS
    assert body[length:] == b"\x04\x00\x00\x00milk" + b"\x00\x00\x00\x00"


@every_client
def test_grpc_carries_the_question_and_reads_the_answer(kind, grpc_shop):
    answer = ask(
        kind,
        grpc_shop.address,
        api_key="s3cret",
        headers={"X-Shop": "Berlin"},
        question={"request_id": "checkout-17"},
    )
    assert [(item.item_id, item.score, item.rank) for item in answer] == [("bread", 1.0, 1)]
    assert answer.release == 9
    request, metadata = grpc_shop.seen[0]
    assert (metadata["authorization"], metadata["x-shop"]) == ("Bearer s3cret", "Berlin")
    assert (request.model_name, request.id) == ("recommender", "checkout-17")
    assert [(i.name, list(i.shape), i.datatype) for i in request.inputs] == INPUTS
    assert list(request.raw_input_contents) == [b"\x04\x00\x00\x00milk", b"\x00\x00\x00\x00"]


TRITON_SAID = b'{"error": "in ensemble \'recommender\', [request id: 5] category \\"x\\" is unknown"}'


@every_client
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequest),
        (401, Unauthorized),
        (403, Unauthorized),
        (404, Unavailable),
        (413, InvalidRequest),
        (429, Throttled),
        (500, ServerError),
        (502, Unavailable),
        (503, Unavailable),
        (504, TimedOut),
    ],
)
@pytest.mark.parametrize(
    "body", [TRITON_SAID, b"<html>nginx</html>", b"", b"[]", b'{"detail": "no"}', b"\xff"]
)
def test_every_http_status_is_an_error_of_ours(kind, status, error, body, http_shop):
    http_shop.script = [(status, {}, body)]
    with pytest.raises(CestaError) as failed:
        ask(kind, http_shop.address, protocol="http")
    assert type(failed.value) is error
    if body is TRITON_SAID:
        assert 'category "x" is unknown' in str(failed.value)
        assert "ensemble" not in str(failed.value)
    else:
        assert str(failed.value) == f"{http_shop.address} answered HTTP {status}"


@every_client
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("INVALID_ARGUMENT", InvalidRequest),
        ("UNAUTHENTICATED", Unauthorized),
        ("PERMISSION_DENIED", Unauthorized),
        ("NOT_FOUND", Unavailable),
        ("RESOURCE_EXHAUSTED", Throttled),
        ("UNAVAILABLE", Unavailable),
        ("DEADLINE_EXCEEDED", TimedOut),
        ("INTERNAL", ServerError),
        ("CANCELLED", ServerError),
        ("UNIMPLEMENTED", ServerError),
    ],
)
def test_every_grpc_code_is_an_error_of_ours(kind, code, error, grpc_shop):
    grpc_shop.script = [(grpc.StatusCode[code], "in ensemble 'recommender', no such luck")]
    with pytest.raises(CestaError) as failed:
        ask(kind, grpc_shop.address)
    assert type(failed.value) is error
    if error is InvalidRequest:
        assert str(failed.value) == "no such luck"


@every_client
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"<html>hello</html>"),
        ({}, b"{}"),
        ({}, b'{"outputs": []}'),
        ({}, b'{"model_version": "1", "outputs": [{"name": "item_ids"}]}'),
        ({"Inference-Header-Content-Length": "12"}, b"{}"),
        ({"Inference-Header-Content-Length": "x"}, b"{}"),
        (http_answer()[0], http_answer()[1][:-20]),
    ],
)
def test_an_http_answer_that_is_none_is_a_server_error(kind, headers, body, http_shop):
    http_shop.script = [(200, headers, body)]
    with pytest.raises(ServerError, match="cannot be read"):
        ask(kind, http_shop.address, protocol="http")


def break_off(handler):
    """Half an answer, then the end of the connection."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    handler.close_connection = True


def say_nothing(handler):
    handler.close_connection = True


def speak_another_protocol(handler):
    handler.wfile.write(b"220 mail.example.com ESMTP\r\n\r\n")
    handler.close_connection = True


@every_client
@pytest.mark.parametrize("ending", [break_off, say_nothing, speak_another_protocol])
def test_a_connection_that_breaks_off_is_unavailable_and_asked_again(kind, ending, http_shop):
    http_shop.script = [ending]
    assert ask(kind, http_shop.address, protocol="http", retries=1)[0].item_id == "bread"
    http_shop.script = [ending]
    with pytest.raises(Unavailable, match=http_shop.address):
        ask(kind, http_shop.address, protocol="http", retries=0)


@every_client
def test_a_server_that_drips_a_byte_at_a_time_does_not_hold_its_caller(kind, http_shop):
    released = threading.Event()

    def drip(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        while not released.wait(0.02):  # each byte starts an ordinary socket timeout anew
            try:
                handler.wfile.write(b".")
            except OSError:
                break
        handler.close_connection = True

    http_shop.script = [drip]
    started = time.monotonic()
    with pytest.raises(TimedOut):
        ask(kind, http_shop.address, protocol="http", timeout_s=0.2)
    released.set()
    assert time.monotonic() - started < 1


def test_http_keeps_one_connection_for_many_questions(http_shop):
    with Recommender(http_shop.address, protocol="http", timeout_s=10) as shop:
        for _ in range(5):
            shop.recommend()
        http_shop.script = [(400, {}, TRITON_SAID)]
        with pytest.raises(InvalidRequest):
            shop.recommend()
        shop.recommend()
    assert http_shop.connections == 1


def test_http_replaces_a_kept_connection_that_the_server_closed_even_without_retries(http_shop):
    closed = threading.Event()

    def answer_and_close(handler):
        """Closes without announcing it, as an idle timeout does."""
        headers, body = http_answer()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        handler.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body)
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        closed.set()

    http_shop.script = [answer_and_close]
    with Recommender(http_shop.address, protocol="http", retries=0, timeout_s=10) as shop:
        assert shop.recommend()[0].item_id == "bread"
        assert closed.wait(10)
        assert shop.recommend()[0].item_id == "bread"
    assert http_shop.connections == 2


def test_a_timed_out_http_connection_is_not_used_again(http_shop):
    """Its late answer would be taken for that of the next question."""
    released = threading.Event()
    http_shop.script = [lambda handler: released.wait(10)]
    with Recommender(http_shop.address, protocol="http", timeout_s=10) as shop:
        with pytest.raises(TimedOut):
            shop.recommend(timeout_s=0.1)
        assert shop.recommend()[0].item_id == "bread"
    released.set()
    assert http_shop.connections == 2


@every_protocol
def test_one_recommender_serves_many_threads(protocol, http_shop, grpc_shop):
    address = {"grpc": grpc_shop, "http": http_shop}[protocol].address
    with Recommender(address, protocol=protocol, timeout_s=30) as shop, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: shop.recommend(basket=[str(n)]), range(200)))
    assert [len(answer) for answer in answers] == [1] * 200
    assert http_shop.connections <= 8


@every_protocol
def test_cancelling_the_task_cancels_the_question(protocol, silent):
    async def cancel():
        async with AsyncRecommender(silent, protocol=protocol, timeout_s=60) as shop:
            asked = asyncio.create_task(shop.recommend())
            await asyncio.sleep(0)  # it starts
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked

    asyncio.run(cancel())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
            "-days",
            "1",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@every_client
@every_protocol
def test_ssl_encrypts_and_checks_the_certificate(kind, protocol, certificate):
    with secure_shop(protocol, certificate) as shop:
        options = {"protocol": protocol, "ssl": True}
        assert (
            ask(kind, shop.address, root_certificates=certificate / "cert.pem", **options)[0].item_id
            == "bread"
        )
        with pytest.raises(Unavailable):  # the system's authorities do not know it
            ask(kind, shop.address, **options)


@contextmanager
def secure_shop(protocol, certificate):
    key, cert = certificate / "key.pem", certificate / "cert.pem"
    if protocol == "grpc":
        shop = GrpcShop(credentials=grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())]))
        yield shop
        shop.server.stop(None).wait()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        with serving(HttpShop(context)) as shop:
            yield shop


def test_an_answer_with_too_few_rows_is_a_server_error(grpc_shop):
    """The shop answers one row; two were asked for."""
    with Recommender(grpc_shop.address, timeout_s=10) as shop, pytest.raises(ServerError, match="shape"):
        shop.recommend_many([Query(), Query()])
