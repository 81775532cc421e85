"""A gateway in a folder of any name and length, with an odd certificate, and on IPv6."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from cesta_client import Recommender
from operations.address import join_address
from operations.errors import CestaError
from operations.gateway.control import announce, control_socket, read_metrics
from operations.gateway.keys import revoke_key
from operations.gateway.nginx import Gateway, accepts
from tests.running import needs
from tests.running.door import TIMEOUT_S, Door, Supervisor, free_ports, open_door
from tests.running.fake_triton import fake_triton
from tests.running.gateway_log import wait_for
from tests.running.proxy import Proxy, proxy

__all__ = ["proxy"]

ODD = ["x" * 120, "a b;c", "$http_x\"y'z", "shöp #1 %s {}", "a\nb", "a\\b?c"]


@contextlib.contextmanager
def opened(folder: Path, **settings: object) -> Iterator[Door]:
    with needs.debian_packages():
        door = open_door(folder, **settings)
    try:
        yield door
    finally:
        door.gateway.stop()


@pytest.mark.parametrize("name", ODD)
def test_a_folder_of_any_name_and_length_has_a_gateway(
    tmp_path: Path, supervisor: Supervisor, name: str
) -> None:
    """The keys, the control socket and the logs lie in the folder that was named."""
    folder = tmp_path / name
    with (
        fake_triton() as fake,
        opened(folder, supervisor=supervisor.address, triton_http=fake.address) as door,
    ):
        assert door.recommend("i1").status == 200
        assert wait_for((folder / "run" / "access.log").read_text).count("\n") == 1
        assert "cesta_gateway" in (read_metrics(folder) or "")
        (another,) = (join_address("127.0.0.1", port) for port in free_ports(1))
        with pytest.raises(CestaError, match="a gateway"):
            Gateway(dataclasses.replace(door.settings, http=another, grpc=another)).start()
        revoke_key(folder, "shop")
        assert announce(folder)
        assert door.recommend("i1").status == 401
        door.gateway.reload()
        assert control_socket(folder).exists()


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
def test_a_gateway_serves_ipv6_and_asks_servers_there(
    tmp_path: Path, supervisor: Supervisor, proxy: Proxy, host: str
) -> None:
    """Nobody asks a proxy of the environment."""
    http, grpc = (join_address(host, port) for port in free_ports(2))
    with (
        fake_triton(host) as fake,
        opened(
            tmp_path, http=http, grpc=grpc, triton_http=fake.address, supervisor=supervisor.address
        ) as door,
    ):
        assert accepts(http)
        key = door.keys["shop"]
        for address, protocol in ((grpc, "grpc"), (http, "http")):
            with Recommender(address, protocol=protocol, api_key=key, timeout_s=TIMEOUT_S) as shop:  # type: ignore[arg-type]
                assert [item.item_id for item in shop.recommend(["milk"])] == ["i1"]
        assert announce(tmp_path)
    assert len(fake.asked) == 2
    assert not proxy.asked
