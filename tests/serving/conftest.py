"""Live embedded servers for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import shared_memory

from ensemble.server import Server, ServerError, ServerSettings
from ensemble.serving_environment import find_serving_environment

StartServer = Callable[..., Server]


@pytest.fixture(scope="session")
def start_server() -> Iterator[StartServer]:
    """`start_server(repository, models=("toy",))`: a ready server on free ports, stopped with the session.

    Keywords are those of `ServerSettings`. A test may stop its server itself.
    """
    try:
        find_serving_environment()
    except ServerError as error:
        pytest.skip(str(error))
    servers: list[Server] = []

    def start(repository: Path | str, **settings: Any) -> Server:
        ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
        server = Server(ServerSettings(repository=repository, **(ports | {"drain_s": 10} | settings)))
        servers.append(server)
        server.start()
        server.wait_ready()
        return server

    yield start
    for server in servers:
        server.stop(grace_s=0)
        assert not shared_memory(server.shm_prefix)
