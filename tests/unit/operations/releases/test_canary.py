"""A canary release without a server: what the next start serves, and what ends it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from operations.commands import release as commands
from operations.errors import CestaError, NotPromoted
from operations.records.contract import read_config
from operations.releases import history, publish
from operations.releases.canary import start_canary, stop_canary
from operations.releases.models.configs import CANARY, canary_on_disk
from operations.releases.promote import promote, roll_back
from operations.releases.repository import CONFIG, active_release
from operations.releases.retire import retire
from operations.releases.stores.store import Repository, open_repository
from operations.settings import load_bars
from tests.building.repositories import ALL_KINDS, empty_repository, folder_only
from tests.building.runs import make_run


@pytest.fixture(params=ALL_KINDS)
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    """Release 2 is active, 1 was before it, 3 is a canary release of 5 %."""
    repository = empty_repository(request)
    for seed in (1, 2, 3):
        publish.publish(make_run(tmp_path / f"run-{seed}", seed), repository)
    promote(repository, 1)
    promote(repository, 2)
    start_canary(repository, 3, 5)
    return repository


def loadable(repository: Repository, model: str) -> list[int]:
    return list(read_config(repository / model / CONFIG).version_policy.specific.versions)


def leftovers(repository: Repository) -> list[str]:
    """Names in the canary's folder."""
    paths = [*(repository / CANARY).glob("*"), *(repository / CANARY).glob("*/*")]
    return sorted({str(path).partition(f"/{CANARY}/")[2] for path in paths if path.is_file()})


def test_a_canary_release_stands_beside_the_active_one(repository: Repository) -> None:
    assert (active_release(repository), canary_on_disk(repository)) == (2, (3, 5.0))
    assert loadable(repository, "candidate_sampler") == loadable(repository, "ncf_scorer") == [1, 2, 3]
    assert loadable(repository, CANARY) == [3]
    assert leftovers(repository) == ["3/placeholder", "config.pbtxt"]
    assert history.line_of_succession(repository) == [1, 2]


def test_the_percent_and_the_release_can_be_changed(repository: Repository) -> None:
    start_canary(repository, 3, 12.5)
    assert canary_on_disk(repository) == (3, 12.5)
    start_canary(repository, 1, 50)
    assert canary_on_disk(repository) == (1, 50.0)
    assert leftovers(repository) == ["1/placeholder", "config.pbtxt"]
    assert loadable(repository, "ncf_scorer") == [1, 2]


@pytest.mark.parametrize(
    ("end", "active", "loaded"),
    [
        (lambda repository: promote(repository, 3), 3, [2, 3]),
        (lambda repository: promote(repository, 2), 2, [1, 2]),
        (roll_back, 1, [1, 2]),
        (lambda repository: stop_canary(repository, 3), 2, [1, 2]),
    ],
    ids=["promoted", "another promoted", "rolled back", "stopped"],
)
def test_promotion_rollback_and_stop_end_a_canary_release(
    repository: Repository, end: object, active: int, loaded: list[int]
) -> None:
    """The next start serves only the active release."""
    assert callable(end)
    end(repository)
    assert (active_release(repository), canary_on_disk(repository)) == (active, None)
    assert loadable(repository, "candidate_sampler") == loaded
    assert leftovers(repository) == []


def test_a_failed_promotion_does_not_end_a_canary_release(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device", "x")

    with monkeypatch.context() as patch:
        patch.setattr("operations.releases.switch.write_configs", full_disk)
        with pytest.raises(NotPromoted, match="release 2 is still the active one"):
            promote(repository, 3)
    assert canary_on_disk(repository) == (3, 5.0)
    assert leftovers(repository) == ["3/placeholder", "config.pbtxt"]


@folder_only
@pytest.mark.parametrize(
    ("release", "percent", "reason"),
    [
        (2, 5, "release 2 did not become the canary release.*it is the active one"),
        (9, 5, "no release 9"),
        (3, 0, "--percent 0: use 0.01 to 99.99 or, to end it, 0"),
        (3, 0.004, "--percent 0.004: use"),
        (3, 99.995, "--percent 99.995: use"),
        (3, 100, "--percent 100: use"),
        (3, float("nan"), "--percent nan: use"),
    ],
)
def test_an_unsuitable_canary_release_is_refused(
    repository: Repository, release: int, percent: float, reason: str
) -> None:
    with pytest.raises(CestaError, match=reason):
        start_canary(repository, release, percent)
    assert canary_on_disk(repository) == (3, 5.0)


@folder_only
def test_a_canary_release_must_pass_the_gate(repository: Repository) -> None:
    """Customers see a canary release, too."""
    bars = load_bars().model_copy(update={"hr_at_10": 0.2})
    with pytest.raises(NotPromoted, match='step "gate" failed: its hr_at_10 was not measured'):
        start_canary(repository, 3, 5, bars=bars)
    assert start_canary(repository, 3, 5, bars=bars, force=True)["forced"]


def test_a_canary_release_needs_an_active_one(tmp_path: Path) -> None:
    repository = open_repository(tmp_path / "repository")
    publish.publish(make_run(tmp_path / "run"), repository)
    with pytest.raises(NotPromoted, match="no release is active"):
        start_canary(repository, 1, 5)


def test_only_the_canary_release_can_be_ended(repository: Repository) -> None:
    with pytest.raises(CestaError, match=r"release 1 is not the canary release of .*; release 3 is"):
        stop_canary(repository, 1)


def test_a_canary_release_is_never_retired(repository: Repository, tmp_path: Path) -> None:
    """This holds even if it is older than the active release."""
    publish.publish(make_run(tmp_path / "run-4", 4), repository)
    promote(repository, 3)
    promote(repository, 4)
    start_canary(repository, 1, 5)
    assert retire(repository) == [2]
    assert canary_on_disk(repository) == (1, 5.0)
    assert loadable(repository, "ncf_scorer") == [1, 3, 4]


@folder_only
def test_the_command(repository: Repository) -> None:
    where = ["--repository", str(repository), "--offline"]
    run = CliRunner().invoke
    done = run(commands.app, ["canary", "3", "--percent", "7", *where])
    assert done.stdout.startswith(
        "release 3 gets 7 % of the requests at the next start, active before: release 2"
    )
    assert "canary 7 %" in run(commands.app, ["list", "--repository", str(repository)]).stdout
    assert run(commands.app, ["canary", "3", "--percent", "0", *where]).exit_code == 0
    assert canary_on_disk(repository) is None
    assert [record["what"] for record in history.read(repository)][-2:] == ["canary", "end canary"]
