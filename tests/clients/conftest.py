"""A gateway for the tests, which are skipped where the generators are not installed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.running import needs
from tests.running.door import Door, Supervisor, open_door
from tests.running.fake_triton import fake_triton

GENERATORS = Path(os.environ.get("CESTA_CLIENTS_ENV", ROOT / ".venv-clients"))


@pytest.fixture(scope="session", autouse=True)
def generators() -> Path:
    """The environment of the generators."""
    if not (GENERATORS / ".installed").exists():
        pytest.skip(f'no generators in {GENERATORS}: "make clients-test" makes an environment that has them')
    return GENERATORS


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A gateway before a server that answers `i1` to everybody."""
    with needs.debian_packages(), fake_triton() as triton, Supervisor() as supervisor:
        threading.Thread(target=supervisor.serve_forever, args=(0.05,), daemon=True).start()
        folder = tmp_path_factory.mktemp("gateway")
        door = open_door(folder, triton_http=triton.address, supervisor=supervisor.address, workers=1)
        yield door
        door.gateway.stop()
        supervisor.shutdown()
