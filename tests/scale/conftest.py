"""One cluster for the tests that leave it whole, and one for each test that does not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scale.cluster import RAY, Cluster, two_nodes


@pytest.fixture(scope="session", autouse=True)
def needs() -> None:
    if not RAY.exists():
        pytest.skip('no ray in this environment: "make scale" makes one that has it')
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with two_nodes(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
def fragile_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster for a test that takes a node away."""
    with two_nodes(tmp_path) as nodes:
        yield nodes
