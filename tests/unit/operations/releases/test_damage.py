"""A repository with damaged history, manifests or configs: what is whole can be used and promoted."""

import pytest

from operations.commands.release import list_
from operations.errors import NotPromoted
from operations.records.contract import MODELS
from operations.releases import history
from operations.releases.canary import start_canary
from operations.releases.history import Action
from operations.releases.models.configs import canary_on_disk
from operations.releases.promote import promote, roll_back
from operations.releases.repository import active_release
from operations.releases.stores.store import Repository


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\x00",
        b"{}",
        b"7",
        b"[]",
        b'{"what": "promote"}',
        b'{"what": "promote", "release": "1"}',
        b'{"what": ["promote"], "release": 1}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_of_the_record_is_passed_over(repository: Repository, line: bytes) -> None:
    """The next change is recorded, and a rollback still finds its way."""
    path = repository / history.NAME
    repository.write(history.NAME, line + b"\n" + path.read_bytes() + line + b"\n")
    assert history.line_of_succession(repository) == [1]
    promote(repository, 2)
    assert history.fallback(history.read(repository)) is None
    assert roll_back(repository)["release"] == 1


def test_a_separator_within_a_sentence_ends_no_line(repository: Repository) -> None:
    """Unicode has line ends that JSON does not."""
    history.append(repository, Action.PROMOTE, 9, failed="gate", why="one\u2028two\x85three")
    assert history.read(repository)[-1]["why"] == "one\u2028two\x85three"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_damaged_active_release_can_be_replaced(repository: Repository, content: bytes) -> None:
    """The gate cannot compare with it, so it objects, and says how to go on."""
    repository.write("recommender/1/manifest.json", content)
    with pytest.raises(NotPromoted, match=r"cannot be compared with the active one: .*damaged.*--force"):
        promote(repository, 2)
    assert "cannot be compared" in promote(repository, 2, force=True)["forced"][0]
    assert active_release(repository) == 2


def test_a_damaged_release_hides_no_other_one(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    """At such a moment, the list is what an operator looks at first."""
    repository.write("recommender/1/manifest.json", b"{")
    list_(str(repository))
    rows = capsys.readouterr().out.splitlines()
    assert [row for row in rows if " 1 " in row and "damaged" in row and "active" in row]
    assert [row for row in rows if " 2 " in row and "not measured" in row]


@pytest.mark.parametrize("model", ["recommender_canary", *MODELS])
@pytest.mark.parametrize("content", [b"", b"name: {", b"\xff\xfe"])
def test_a_damaged_config_does_not_keep_a_release_from_being_promoted(
    repository: Repository, model: str, content: bytes
) -> None:
    """A power failure leaves empty files, a disk leaves any bytes. The promotion writes all of them anew."""
    start_canary(repository, 2, 5.0)
    repository.write(f"{model}/config.pbtxt", content)
    promote(repository, 2)
    assert (active_release(repository), canary_on_disk(repository)) == (2, None)
    assert roll_back(repository)["release"] == 1
