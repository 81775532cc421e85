"""A repository with two releases, in a folder and in a bucket."""

from pathlib import Path

import pytest

from operations.releases import publish
from operations.releases.promote import promote
from operations.releases.stores.store import Repository
from tests.building import TOY_SAMPLER
from tests.building.repositories import KINDS, empty_repository
from tests.building.runs import make_run


@pytest.fixture(params=KINDS)
def repository(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Release 1 is active, release 2 published; neither is measured."""
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    repository = empty_repository(request)
    for seed in (1, 2):
        publish.publish(make_run(tmp_path / f"run-{seed}", seed), repository)
    promote(repository, 1)
    return repository
