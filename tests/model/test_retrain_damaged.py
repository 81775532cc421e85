"""`cesta retrain` on a repository that has lost its active release: refused, and not begun anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from export_scripts.retraining.outcome import Outcome, outcome_of
from operations.errors import CestaError, NotActive
from operations.releases import publish
from operations.releases.activation import activate
from operations.releases.promote import promote
from tests.building.cheap_loops import CheapLoop, make_loop_with_news
from tests.building.runs import make_run


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CheapLoop:
    return make_loop_with_news(tmp_path, monkeypatch)


def lose_the_config(ensemble: Path) -> None:
    (ensemble / "config.pbtxt").unlink()


def lose_what_the_config_links_to(ensemble: Path) -> None:
    lose_the_config(ensemble)
    (ensemble / "config.pbtxt").symlink_to("/no/such/disk/config.pbtxt")


def lose_the_ensemble(ensemble: Path) -> None:
    shutil.rmtree(ensemble)
    ensemble.mkdir()


def damage_the_config(ensemble: Path) -> None:
    (ensemble / "config.pbtxt").write_text("name: {")


def lose_the_manifest(ensemble: Path) -> None:
    (ensemble / "1" / "manifest.json").unlink()


def damage_the_manifest(ensemble: Path) -> None:
    (ensemble / "1" / "manifest.json").write_text("{")


LOST = "config.pbtxt is missing, but release 1 was promoted there"
DAMAGES: dict[Callable[[Path], None], str] = {
    lose_the_config: LOST,
    lose_what_the_config_links_to: LOST,
    lose_the_ensemble: LOST,
    damage_the_config: "config.pbtxt",
    lose_the_manifest: "manifest.json is missing; there is none; release 1 is the active one",
    damage_the_manifest: "manifest.json is damaged",
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.items(), ids=range(len(DAMAGES)))
def test_a_damaged_repository_is_no_empty_one(
    loop: CheapLoop, damage: Callable[[Path], None], said: str
) -> None:
    """Nothing is trained, and the repository stays as it was. Promoting a release by hand mends it."""
    damage(loop.root / "repository" / "recommender")
    before, trained = files(loop), loop.trained
    with pytest.raises(CestaError) as e:
        loop.run()
    assert (said in str(e.value), outcome_of(e.value)) == (True, Outcome.FAILED), e.value
    assert (files(loop), loop.trained) == (before, trained)
    if said == LOST:
        with pytest.raises(NotActive, match=LOST):
            activate(loop.repository, 1, "127.0.0.1:1")
        promote(loop.repository, publish.publish(make_run(loop.root / "other", 98), loop.repository))
        assert loop.run().outcome == "promoted"


def files(loop: CheapLoop) -> set[Path]:
    """The repository's files without the loop's own record."""
    return {path for path in (loop.root / "repository").rglob("*") if path.name != "retraining.json"}
