"""A port in use is refused in a sentence that names the process which listens there."""

import os
import socket
from pathlib import Path

import pytest

from operations.errors import CestaError
from operations.processes.free_ports import bind_free_port
from operations.processes.listeners import check_free, find_listener, way_out


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"])
def test_the_process_that_listens_is_named(host: str) -> None:
    """Who listens on all addresses takes the port of each."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if family == socket.AF_INET6 and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with socket.socket(family) as server:
        port = bind_free_port(server, host)
        server.listen()
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        with pytest.raises(CestaError, match=rf"{port} cannot be used .*; stop process {os.getpid()} \(\S+"):
            check_free(address)
    check_free(address)


def test_another_address_of_the_port_is_another_s() -> None:
    with socket.socket() as server:
        port = bind_free_port(server, "127.0.0.3")
        server.listen()
        assert find_listener("127.0.0.4", port) is None
        check_free(f"127.0.0.4:{port}")


def test_a_port_that_is_only_bound_has_no_listener() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert way_out("127.0.0.1", bound.getsockname()[1]) == "stop what listens there"
