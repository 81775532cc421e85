"""One cluster for all tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.scale.cluster import RAY, Cluster, two_nodes


@pytest.fixture(scope="session", autouse=True)
def needs() -> None:
    if not RAY.exists():
        pytest.skip('no ray in this environment: "make scale" makes one that has it')
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with two_nodes(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(nodes: Cluster) -> Cluster:
    """The one cluster, with two nodes: after a test that took one away, with a new one."""
    nodes.renew()
    return nodes
