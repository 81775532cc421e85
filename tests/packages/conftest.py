"""The distributions of this checkout, plain `cesta` installed from its wheel, and releases for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from operations.releases.publish import publish
from operations.releases.stores.store import open_repository
from tests.building import TOY_SAMPLER
from tests.building.distributions import Distributions, build_all
from tests.building.runs import toy_run
from tests.running.installation import Installation, make_environment, requirements_digest, variables


@pytest.fixture(scope="session")
def built_wheels(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Distributions:
    """Built once, unless --wheels names those to test."""
    if before := pytestconfig.getoption("--wheels"):
        return Distributions(before.absolute())
    pytest.importorskip("hatchling", reason='needs the build backend: pip install "cesta[dev]"')
    return build_all(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def installation(
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
    built_wheels: Distributions,
    state: Path,
) -> Installation:
    """The packages are installed once for a set of requirements, and kept in pytest's cache."""
    folder = Path(pytestconfig.cache.mkdir(f"installed-{requirements_digest()}"))
    environment = make_environment(folder, built_wheels.wheels)
    return Installation(environment, tmp_path_factory.mktemp("empty"), variables(state))


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of three releases that Triton can serve; none is promoted."""
    root = tmp_path_factory.mktemp("toys")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
        for seed in (1, 2, 3):
            publish(toy_run(root / f"run-{seed}", seed), open_repository(root / "repository"))
    return root / "repository"
