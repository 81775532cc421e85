"""What was just published becomes active only if the gate agrees, and never behind the back of a server."""

import sys
from pathlib import Path
from typing import Any

import pytest

from operations import cli
from operations.errors import NotActive
from operations.releases import history, publish
from operations.releases.activation import activate
from operations.releases.promote import promote
from operations.releases.repository import active_release
from operations.releases.serving_mark import mark_served, may_be_served
from operations.releases.stores.store import Repository
from operations.settings import load_bars
from tests.building import TOY_SAMPLER
from tests.building.repositories import KINDS, empty_repository, folder_only, s3_only
from tests.building.runs import make_run
from tests.running.door import free_ports


def metrics(hr: float) -> dict[str, Any]:
    interval = {"hr_at_10": [hr - 0.01, 1.0], "ndcg_at_10": [hr - 0.01, 1.0]}
    return {"known": {"hr_at_10": hr, "ndcg_at_10": hr, "interval": interval, "n": 9}}


@pytest.fixture(params=KINDS)
def repository(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Release 1 is active; release 2 is as good, release 3 worse."""
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    repository = empty_repository(request)
    for seed, hr in ((1, 0.2), (2, 0.2), (3, 0.1)):
        publish.publish(make_run(tmp_path / f"run-{seed}", seed, metrics=metrics(hr)), repository)
    promote(repository, 1)
    return repository


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{free_ports(1)[0]}"


@folder_only
def test_a_good_release_is_what_the_next_start_serves(repository: Repository, nowhere: str) -> None:
    """Nobody serves the repository."""
    activate(repository, 2, nowhere)
    assert active_release(repository) == 2


def test_the_gate_holds(repository: Repository) -> None:
    """Nothing is served that it refused. The sentence names the objections and the way out."""
    with pytest.raises(
        NotActive, match=r"release 3 is in .*, but not active: .*its hr_at_10 0\.1000 is below .*--force"
    ):
        activate(repository, 3)
    assert active_release(repository) == 1
    assert history.read(repository)[-1]["failed"] == "gate"


def test_the_gate_is_passed_by_force_only(repository: Repository) -> None:
    assert activate(repository, 3, force=True)["forced"]
    assert active_release(repository) == 3


@folder_only
def test_a_server_elsewhere_keeps_its_release(repository: Repository, nowhere: str) -> None:
    """The next restart of that server must serve what was promoted in it."""
    with mark_served(repository):
        with pytest.raises(NotActive, match=rf"a server may serve .*{nowhere} does not; give --address"):
            activate(repository, 2, nowhere)
        assert active_release(repository) == 1
        activate(repository, 2)  # --offline
    assert active_release(repository) == 2


@folder_only
def test_the_mark_of_a_server_ends_with_it(repository: Repository) -> None:
    """Two servers of one repository do not mind each other."""
    with mark_served(repository):
        with mark_served(repository):
            pass
        assert may_be_served(repository)
    assert not may_be_served(repository)


@s3_only
def test_a_bucket_may_be_served_anywhere(repository: Repository, nowhere: str) -> None:
    with pytest.raises(NotActive, match="or --offline to change what its next start serves"):
        activate(repository, 2, nowhere)
    assert active_release(repository) == 1


@pytest.mark.parametrize("repository", ["folder"], indirect=True)
def test_the_first_release_needs_no_other_to_compare(
    repository: Repository, tmp_path: Path, nowhere: str
) -> None:
    """The bars still hold."""
    other = type(repository)(tmp_path / "other")
    publish.publish(tmp_path / "run-3", other)
    bars = load_bars()
    with pytest.raises(NotActive, match=r"nothing is active: .*below the bar of 0\.2000"):
        activate(other, 1, nowhere, bars=bars.model_copy(update={"hr_at_10": 0.2}))
    activate(other, 1, nowhere, bars=bars)
    assert active_release(other) == 1


@folder_only
def test_the_exit_code_tells_that_a_release_waits(
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """So a scheduled job can tell it from a failed build."""
    (tmp_path / "run-3").rename(tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["cesta", "publish", "--out", str(tmp_path), "--promote", "--offline"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == cli.NOT_ACTIVE == 3
    assert "release 4 is in" in capsys.readouterr().err
    assert active_release(repository) == 1
