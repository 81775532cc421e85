"""A release may have more parts than sampler and scorer, and more ensembles than the recommender."""

from pathlib import Path

import numpy as np
import pytest

from operations.errors import CestaError
from operations.records.contract import ITEM_LISTS, LISTS, Config, read_config, read_contract
from operations.records.manifest import ContractRecord
from operations.records.part_code import copy_part, part_code
from operations.releases import publish
from operations.releases.canary import start_canary, stop_canary
from operations.releases.models.configs import Served, front_config
from operations.releases.models.contracts import ServedContract
from operations.releases.models.placing import ensembles_of, parts_of
from operations.releases.promote import promote, roll_back
from operations.releases.repository import CONFIG, read_release
from operations.releases.retire import retire
from operations.releases.signatures.verify import verify_release
from operations.releases.stores.store import Repository
from tests.building.repositories import folder_only
from tests.building.runs import make_run

FURTHER = "lists_canary"


def with_lists(repository: Repository, folder: Path, seed: int) -> int:
    """Publish a release of the checkout's contract, which has the part and the ensemble of the lists."""
    return publish.publish(
        make_run(folder / f"run-{seed}", seed, contract=ContractRecord.of(read_contract())), repository
    )


def config(repository: Repository, model: str) -> Config:
    return read_config(repository / model / CONFIG)


def pins(repository: Repository, model: str) -> list[tuple[str, int]]:
    steps = config(repository, model).ensemble_scheduling.step
    return [(step.model_name, step.model_version) for step in steps]


def test_a_release_holds_the_modules_of_each_part(repository: Repository, tmp_path: Path) -> None:
    """They are listed and verified like all other files. A release without parts lies beside it."""
    release = with_lists(repository, tmp_path, 3)
    described = verify_release(repository, release)
    model = parts_of(described)[ITEM_LISTS]
    suffix = ServedContract.of(described.contract).digest
    assert model == f"{ITEM_LISTS}_{suffix}"
    begin = f"{model}/{release}/"
    held = {name.removeprefix(begin) for name in described.files if name.startswith(begin)}
    assert held == part_code(ITEM_LISTS).keys()
    assert ensembles_of(described) == ["recommender", LISTS]
    assert ensembles_of(read_release(repository, 1)) == ["recommender"]


def test_the_lists_follow_the_active_release(repository: Repository, tmp_path: Path) -> None:
    """Their ensemble is pinned to it, and has no config while a release without lists is active."""
    release = with_lists(repository, tmp_path, 3)
    promote(repository, release, force=True)
    model = parts_of(read_release(repository, release))[ITEM_LISTS]
    assert pins(repository, LISTS) == [(model, release)]
    assert list(config(repository, model).version_policy.specific.versions) == [release]
    roll_back(repository)
    assert not (repository / LISTS / CONFIG).exists()
    promote(repository, release, force=True)
    assert pins(repository, LISTS) == [(model, release)]


def test_the_lists_of_a_canary_are_another_ensemble(repository: Repository, tmp_path: Path) -> None:
    release = with_lists(repository, tmp_path, 3)
    start_canary(repository, release, 5, force=True)
    assert pins(repository, FURTHER)[0][1] == release
    assert not (repository / LISTS / CONFIG).exists()
    stop_canary(repository, release)
    assert not (repository / FURTHER / CONFIG).exists()
    assert not list((repository / FURTHER).glob("*/placeholder"))


def test_a_retired_release_leaves_nothing_of_its_parts(repository: Repository, tmp_path: Path) -> None:
    releases = [with_lists(repository, tmp_path, seed) for seed in (3, 4, 5)]
    for release in releases:
        promote(repository, release, force=True)
    assert releases[0] in retire(repository)
    for model in (LISTS, parts_of(read_release(repository, releases[1]))[ITEM_LISTS]):
        assert {path.name for path in (repository / model).glob("*") if path.name.isdecimal()} == {
            str(release) for release in releases[1:]
        }


def test_tensors_that_nobody_needs_are_not_asked_for(repository: Repository, tmp_path: Path) -> None:
    """A scorer may have an output that only another ensemble reads."""
    described = read_release(repository, with_lists(repository, tmp_path, 3))
    scored = front_config("recommender", Served(3), "", described).ensemble_scheduling.step[1]
    assert set(scored.output_map) == {"item_ids", "scores", "reasons"}


@folder_only
def test_a_part_whose_code_has_changed_is_not_published(repository: Repository, tmp_path: Path) -> None:
    """Golden answers that were made by other code prove nothing."""
    contract = ContractRecord.of(read_contract())
    run = make_run(tmp_path / "run", 3, contract=contract, part_code={ITEM_LISTS: "0" * 64})
    with pytest.raises(CestaError, match="item_lists was changed since the export"):
        publish.publish(run, repository)


@folder_only
def test_a_part_that_this_version_does_not_know_is_refused(repository: Repository, tmp_path: Path) -> None:
    contract = ContractRecord.of(read_contract())
    parts = contract.parts or {}
    more = contract.model_copy(update={"parts": {**parts, "oracle": parts[ITEM_LISTS]}})
    with pytest.raises(CestaError, match='the contract has the part "oracle", which this version'):
        publish.publish(make_run(tmp_path / "run", 3, contract=more), repository)


@folder_only
def test_arrays_of_a_part_are_links_where_the_disk_has_them(repository: Repository, tmp_path: Path) -> None:
    """The sampler and the part map one file, so that its pages are in memory once."""
    run = tmp_path / "run"
    (run / "arrays").mkdir(parents=True)
    np.save(run / "arrays" / "popularity.order.npy", np.arange(3))
    np.save(run / "arrays" / "histories.items.npy", np.arange(3))
    names = [path.relative_to(run).as_posix() for path in run.rglob("*.npy")]
    copy_part(ITEM_LISTS, run, names, tmp_path / "part")
    (linked,) = (tmp_path / "part" / "arrays").iterdir()
    assert linked.samefile(run / "arrays" / "popularity.order.npy")
