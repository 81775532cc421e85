"""A release that lacks categories of the active one is refused: who names them would find nothing."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ensemble.candidate_sampler.arrays import Categories, Popularity, save_arrays
from ensemble.candidate_sampler.ids import Ids
from operations.errors import NotPromoted
from operations.gateway.categories import write_categories
from operations.records import file_record, manifest
from operations.records.manifest import RunManifest
from operations.releases import publish
from operations.releases.categories import category_shares
from operations.releases.promote import promote
from operations.releases.repository import active_release, read_release
from operations.releases.stores.store import Repository
from operations.settings import ReleaseSettings, load_bars
from tests.building import TOY_SAMPLER
from tests.building.repositories import KINDS, empty_repository, folder_only
from tests.building.runs import make_run
from tests.building.tiny_arrays import tiny_arrays

OFF = {"lost_category": 1, "lost_categories": 1}


def shop_run(folder: Path, seed: int, names: Sequence[str], sales: Sequence[float]) -> Path:
    """A run of a shop with an item in each category; item i was sold sales[i] times."""
    run, n = make_run(folder, seed), len(names)
    score = np.log1p(np.array([0.0, *sales])).astype(np.float32)
    arrays = tiny_arrays()._replace(
        category_names=Ids.pack([b"", *(name.encode() for name in names)]),
        popularity=Popularity(np.arange(1, n + 1, dtype=np.int32), score, score),
        categories=Categories(
            np.arange(n + 1, dtype=np.int32)[:, None],
            np.array([0, 0, *range(1, n + 1)]),
            np.arange(1, n + 1, dtype=np.int32),
        ),
    )
    save_arrays(arrays, run / "arrays")
    np.save(run / "arrays" / "clock.now.npy", np.array(seed))
    files = file_record.describe((p for p in run.rglob("*") if p.name != manifest.NAME), run)
    described = RunManifest.read(run / manifest.NAME)
    manifest.write(described.model_copy(update={"files": files, "digest": file_record.digest(files)}), run)
    return run


@pytest.fixture(params=KINDS)
def repository(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    return empty_repository(request)


@pytest.fixture
def bars() -> ReleaseSettings:
    return load_bars()


def publish_two(repository: Repository, folder: Path, old: dict[str, float], new: dict[str, float]) -> None:
    """Publish shops with these sales by category; the first is active."""
    for seed, shop in enumerate((old, new), start=1):
        publish.publish(shop_run(folder / f"run-{seed}", seed, [*shop], [*shop.values()]), repository)
    promote(repository, 1)


def test_the_gateway_gets_the_categories_of_the_active_release(
    repository: Repository, tmp_path: Path
) -> None:
    """Sorted by name, with their release, also compressed."""
    publish_two(repository, tmp_path, {"TEA": 4, "DAIRY": 6}, {"TEA": 1})
    folder = tmp_path / "gateway"
    folder.mkdir()
    assert write_categories(repository, 1, folder)
    told = {"release": 1, "categories": [{"name": "DAIRY", "items": 1}, {"name": "TEA", "items": 1}]}
    assert json.loads((folder / "categories.json").read_bytes()) == told
    assert json.loads(gzip.decompress((folder / "categories.json.gz").read_bytes())) == told


def test_the_share_of_a_category_is_that_of_its_purchases(repository: Repository, tmp_path: Path) -> None:
    """Six purchases are dairy and four are tea."""
    publish_two(repository, tmp_path, {"DAIRY": 6, "TEA": 4}, {"DAIRY": 6, "TEA": 4})
    shares = category_shares(repository, read_release(repository, 1))
    assert shares == pytest.approx({"DAIRY": 0.6, "TEA": 0.4}, rel=1e-5)


def test_a_renamed_category_is_refused_by_name(
    repository: Repository, tmp_path: Path, bars: ReleaseSettings
) -> None:
    """The largest three are named, with their shares; they hold 40, 30, 20 and 10 % of the purchases."""
    old = {"MEAT": 10, "TEA": 20, "DAIRY": 40, "FRUIT": 30}
    publish_two(repository, tmp_path, old, {name.title(): sales for name, sales in old.items()})
    with pytest.raises(
        NotPromoted,
        match=r'"DAIRY" \(40\.0%\), "FRUIT" \(30\.0%\), "TEA" \(20\.0%\) and 1 more; .*lost_category\)',
    ):
        promote(repository, 2, bars=bars.model_copy(update={"lost_categories": 1}))
    assert active_release(repository) == 1
    promote(repository, 2, bars=bars.model_copy(update=OFF))


def test_few_small_categories_may_vanish_and_many_may_not(
    repository: Repository, tmp_path: Path, bars: ReleaseSettings
) -> None:
    """The tail sells next to nothing; two of 21 categories are 10 %, three are more."""
    tail = {f"c{n:02}": 0.01 for n in range(20)}
    old = {"DAIRY": 10_000, **tail}
    for lost in (2, 3):
        new = {"DAIRY": 10_000, **dict([*tail.items()][lost:]), "NEW": 1}
        folder = tmp_path / str(lost)
        if lost == 2:
            publish_two(repository, folder, old, new)
            promote(repository, 2, bars=bars)
            promote(repository, 1)
        else:
            publish.publish(shop_run(folder / "run-3", 3, [*new], [*new.values()]), repository)
            with pytest.raises(NotPromoted, match=r'lacks 3 of release 1\'s 21 categories, "c00", .*10%'):
                promote(repository, 3, bars=bars)


@folder_only
def test_a_damaged_release_can_be_replaced(
    repository: Repository, tmp_path: Path, bars: ReleaseSettings
) -> None:
    """The categories cannot be read, so nothing is known to be lost. The gateway keeps no other release's."""
    publish_two(repository, tmp_path, {"DAIRY": 6}, {"Dairy": 6})
    arrays = repository / "candidate_sampler" / "1" / "arrays"
    (arrays / "popularity.score.npy").write_bytes(b"damaged")
    (arrays / "category_names.offsets.npy").write_bytes(b"damaged")
    gateway = tmp_path / "gateway"
    gateway.mkdir()
    assert write_categories(repository, 2, gateway)
    assert not write_categories(repository, 1, gateway)
    assert [*gateway.iterdir()] == []
    promote(repository, 2, bars=bars)
    assert active_release(repository) == 2
