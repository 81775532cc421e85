"""HTTP and gRPC servers on real sockets that follow a script, and a query by either client."""

import asyncio
import json
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from cesta_client import AsyncRecommender, Recommender

GOOD = {"item_ids": ("BYTES", [b"bread", b""]), "scores": ("FP32", [1.0, 0.0]), "reasons": ("INT32", [2, 0])}
TRITON_SAID = b'{"error": "in ensemble \'recommender\', [request id: 5] category \\"x\\" is unknown"}'


def ask(kind, address, *, question=None, **options):
    """One query by a client of this kind, as a plain call for either kind."""
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


def good_answer(digest=None):
    """Name → (type, values) of an answer with one item, and with a digest if its release has one."""
    return GOOD if digest is None else GOOD | {"digest": ("BYTES", digest)}


def http_answer(digest=None):
    """(headers, body) of a V2 answer with one item, written from the protocol's text, not with the client."""
    answer = good_answer(digest)
    parts = {name: raw(datatype, values) for name, (datatype, values) in answer.items()}
    outputs = [
        {
            "name": name,
            "datatype": datatype,
            "shape": [1, len(values)],
            "parameters": {"binary_data_size": len(parts[name])},
        }
        for name, (datatype, values) in answer.items()
    ]
    head = json.dumps({"model_name": "recommender", "model_version": "9", "outputs": outputs}).encode()
    return {"Inference-Header-Content-Length": str(len(head))}, head + b"".join(parts.values())


class HttpShop:
    """An HTTP server that answers as `script` says: (status, headers, body), or a function of the handler.

    Good answers carry the next of `digests`, if there is one.
    """

    def __init__(self, tls=None):
        self.script, self.digests, self.seen, self.connections = [], [], [], 0
        shop = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                shop.connections += 1

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                shop.seen.append((self.path, dict(self.headers.items()), body))
                digest = shop.digests.pop(0) if shop.digests else None
                answer = shop.script.pop(0) if shop.script else (200, *http_answer(digest))
                if callable(answer):
                    answer(self)
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_POST  # noqa: N815 - the library looks for this name

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"


@contextmanager
def serve(shop):
    thread = threading.Thread(target=shop.server.serve_forever, args=(0.01,))
    thread.start()
    yield shop
    shop.server.shutdown()
    thread.join()
    shop.server.server_close()


class GrpcShop(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A gRPC server that answers as `script` says: (code, text) refuses, a function delays the answer.

    Good answers carry the next of `digests`, if there is one.
    """

    def __init__(self, address="127.0.0.1:0", credentials=None):
        self.script, self.digests, self.seen = [], [], []
        self.server = grpc.server(ThreadPoolExecutor(4))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self.server)
        add = self.server.add_insecure_port
        port = self.server.add_secure_port(address, credentials) if credentials else add(address)
        self.address = f"127.0.0.1:{port}"
        self.server.start()

    def ModelInfer(self, request, context):  # noqa: N802  gRPC's name
        self.seen.append((request, dict(context.invocation_metadata())))
        step = self.script.pop(0) if self.script else None
        if callable(step):
            step(context)
        elif step:
            context.abort(*step)
        answer = service_pb2.ModelInferResponse(model_name="recommender", model_version="9")
        content = good_answer(self.digests.pop(0) if self.digests else None)
        for name, (datatype, values) in content.items():
            answer.outputs.add(name=name, datatype=datatype, shape=[1, len(values)])
            answer.raw_output_contents.append(raw(datatype, values))
        return answer
