"""Servers on real sockets: two that follow a script, one that is silent, one that refuses."""

import socket

import pytest

from tests.running.scripted_shops import GrpcShop, HttpShop, serve


@pytest.fixture
def http_shop():
    with serve(HttpShop()) as shop:
        yield shop


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
    """An address where nobody listens. The socket is bound, so that nobody else gets the port meanwhile."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # a gRPC server may join
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"
