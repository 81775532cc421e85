"""A promotion of another release with the same code compiles nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cesta_client import Recommender
from operations.releases.model_control import ModelControl
from operations.releases.promote import promote
from operations.releases.publish import publish
from operations.releases.stores.store import open_repository
from operations.server.process import Server

if TYPE_CHECKING:
    from tests.building.slices import Built

pytestmark = [pytest.mark.triton, pytest.mark.timeout(180)]


def test_the_next_release_finds_what_the_first_compiled(
    built: Built, start_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test compares numba's files, which hold one kernel each, and their times."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "repository"
    repository = open_repository(folder)
    publish(built.run, repository)
    publish(built.run, repository)
    promote(repository, 1)
    server = start_server(folder)
    compiled = kernels(tmp_path / "cache")
    assert any("sample_batch" in name for name in compiled)
    with ModelControl(server.grpc) as control:
        promote(repository, 2, control)
    with Recommender(server.grpc) as recommender:
        assert recommender.recommend().release == 2
    assert kernels(tmp_path / "cache") == compiled
    server.stop(grace_s=0)


def kernels(cache: Path) -> dict[str, int]:
    """The time when each compiled kernel was written, by its file."""
    return {str(file): file.stat().st_mtime_ns for file in cache.rglob("*.nbc")}
