"""A Prefect server for the tests, with the flows registered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.flows.prefect_server import PrefectServer, prefect_server
from tests.flows.weekly_shop import WeeklyShop

PREFECT = Path(os.environ.get("CESTA_FLOWS_ENV", ROOT / ".venv-flows")) / "bin" / "python"


@pytest.fixture(scope="session", autouse=True)
def needs() -> None:
    if not PREFECT.exists():
        pytest.skip(f'no Prefect in {PREFECT}: "make flows-test" makes an environment that has it')


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with prefect_server(tmp_path_factory.mktemp("prefect"), PREFECT) as server:
        yield server


@pytest.fixture
def shop(tmp_path: Path) -> WeeklyShop:
    return WeeklyShop(tmp_path)
