"""A proxy in the environment: never for this machine and its neighbours, as gRPC has it for the others."""

from __future__ import annotations

import socket

import pytest

from cesta_client import Recommender, Unavailable
from cesta_client._transports.endpoint import make_endpoint
from tests.running.proxy import Proxy, proxy
from tests.running.scripted_shops import GrpcShop, HttpShop, ask, every_client

__all__ = ["proxy"]


@every_client
def test_grpc_on_this_machine_is_never_asked_through_a_proxy(kind, grpc_shop: GrpcShop, proxy: Proxy):
    assert ask(kind, grpc_shop.address)[0].item_id == "bread"
    assert ask(kind, grpc_shop.address.replace("127.0.0.1", "localhost"))[0].item_id == "bread"
    assert not proxy.asked


@every_client
def test_http_is_never_asked_through_a_proxy(kind, http_shop: HttpShop, proxy: Proxy):
    assert ask(kind, http_shop.address, protocol="http")[0].item_id == "bread"
    assert not proxy.asked


@every_client
def test_a_refused_connection_is_not_the_proxy_s_answer(kind, refusing: str, proxy: Proxy):
    with pytest.raises(Unavailable, match="refused"):
        ask(kind, refusing)
    assert not proxy.asked


@pytest.mark.timeout(20)
def test_a_distant_host_is_asked_through_grpc_s_proxy_unless_excepted(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
):
    """The name cannot be resolved, so only the proxy could know it."""
    with Recommender("cesta.invalid:8081", timeout_s=2, retries=0) as shop:
        assert not shop.is_ready()
    assert proxy.asked[0].startswith(b"CONNECT cesta.invalid:8081 ")
    proxy.asked.clear()
    monkeypatch.setenv("NO_PROXY", ".invalid")
    monkeypatch.delenv("no_proxy")
    with Recommender("cesta.invalid:8081", timeout_s=2, retries=0) as shop:
        assert not shop.is_ready()
    assert not proxy.asked


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("127.8.0.1", True),
        ("[::1]", True),
        ("10.1.2.3", True),
        ("192.168.0.7", True),
        ("172.20.0.3", True),
        ("[fd00::7]", True),
        ("[fe80::7]", True),
        ("0.0.0.0", True),
        ("100.64.3.4", True),
        ("localhost", True),
        ("triton", True),
        ("shop.localhost", True),
        (socket.gethostname(), True),
        ("8.8.8.8", False),
        ("[2606:4700::1111]", False),
        ("recommender.shop.example", False),
    ],
)
def test_this_machine_and_private_networks_are_near(host: str, near: bool):
    endpoint = make_endpoint(
        f"{host}:8001", "grpc", api_key=None, headers=None, ssl=False, root_certificates=None
    )
    assert endpoint.is_near is near
