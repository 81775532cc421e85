"""`cesta score` beside a result that people have changed by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export_scripts.score import Wanted, score
from export_scripts.scoring import questions
from export_scripts.scoring.results import open_results
from export_scripts.settings import load_settings
from operations.errors import CestaError, WontOverwrite
from operations.records.object_path import ObjectPath
from operations.releases.stores.store import Repository
from tests.building.scored import publish_release, random_scorer
from tests.building.world import arrays_of, random_shop

FIRST = "partition=00000/scores.parquet"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A release of six users."""
    shop = random_shop(np.random.default_rng(4), 20, 6, 30)
    scorer = random_scorer(shop.n_users, shop.n_items)
    return publish_release(tmp_path_factory.mktemp("release"), shop, arrays_of(shop), scorer)


@pytest.fixture(autouse=True)
def two_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "FEWEST", 3)


def run(repository: Repository, place: Path | str, k: int = 3) -> None:
    score(load_settings(overrides={"engine.workers": 1}), repository, str(place), Wanted(k))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / FIRST).unlink(),
        lambda folder: (folder / FIRST).write_bytes(b"nothing"),
        lambda folder: (folder / FIRST).rename(folder / "partition=00000" / "copy.parquet"),
    ],
    ids=["deleted", "damaged", "renamed"],
)
def test_a_changed_result_is_scored_again(
    repository: Repository, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    run(repository, tmp_path / "scores")
    whole = (tmp_path / "scores" / FIRST).read_bytes()
    change(tmp_path / "scores")
    run(repository, tmp_path / "scores")
    assert [path.read_bytes() for path in (tmp_path / "scores" / FIRST).parent.iterdir()] == [whole]


def test_a_changed_result_in_a_bucket_is_scored_again(repository: Repository, s3) -> None:
    place = f"s3://{s3.bucket()}/scores"
    run(repository, place)
    (ObjectPath.at(place) / FIRST).unlink()
    run(repository, place)
    assert (ObjectPath.at(place) / FIRST).exists()


def test_two_runs_do_not_mix_in_a_bucket(repository: Repository, s3) -> None:
    """The second one could write partitions of another release between those of the first."""
    place = f"s3://{s3.bucket()}/scores"
    with open_results(place), pytest.raises(CestaError, match=r"scores is being changed by another cesta"):
        run(repository, place)
    run(repository, place)
    names = [path.name for path in ObjectPath.at(place).files()]
    assert names == ["_manifest.json", "scores.parquet", "scores.parquet"]


def test_a_file_of_others_in_a_result_is_not_lost(repository: Repository, tmp_path: Path) -> None:
    run(repository, tmp_path / "scores")
    (tmp_path / "scores" / "users.csv").touch()
    with pytest.raises(WontOverwrite, match=r"users\.csv would be lost"):
        run(repository, tmp_path / "scores", k=2)
    assert (tmp_path / "scores" / "users.csv").exists()
