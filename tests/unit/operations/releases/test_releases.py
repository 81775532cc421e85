"""Releases without a server: the gate, the record, damage, retirement, and the output of the command."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtests.faults.broken_releases import rewrite_manifest
from operations.errors import CestaError, NotPromoted
from operations.records import manifest
from operations.records.contract import MODELS
from operations.records.golden_answers import Answer, difference
from operations.records.manifest import DataRecord, ReleaseManifest
from operations.releases import history, publish
from operations.releases.gate import objections
from operations.releases.history import Action
from operations.releases.overview.diff import diff
from operations.releases.promote import promote, roll_back
from operations.releases.repository import active_release, manifest_place, read_release, releases
from operations.releases.retire import retire
from operations.releases.signatures.signature import sign
from operations.releases.signatures.trust import publisher_key
from operations.releases.signatures.verify import verify_release
from operations.releases.stores import bucket
from operations.releases.stores.store import Repository
from operations.settings import ReleaseSettings, load_bars
from tests.building.repositories import folder_only
from tests.building.runs import make_run

OFF = load_bars()


def metrics(hr: float, low: float, group: str = "known") -> dict[str, Any]:
    """HR@10 and NDCG@10 are both `hr`, with intervals from `low`."""
    interval = {"hr_at_10": [low, 1.0], "ndcg_at_10": [low, 1.0]}
    return {group: {"hr_at_10": hr, "ndcg_at_10": hr, "interval": interval, "n": 9}}


def measured(hr: float, low: float, group: str = "known") -> ReleaseManifest:
    """A manifest with these metrics."""
    return UNMEASURED.model_copy(update={"metrics": metrics(hr, low, group)})


UNMEASURED = ReleaseManifest(release=3, contract={}, metrics=None, golden=(), digest="", files={})


@pytest.mark.parametrize(
    ("candidate", "active", "bars", "clauses"),
    [
        (measured(0.20, 0.1), measured(0.22, 0.20), OFF, 0),  # at the interval's end
        (measured(0.19, 0.1), measured(0.22, 0.20), OFF, 2),
        (measured(0.19, 0.1), None, OFF, 0),
        (measured(0.19, 0.1), UNMEASURED, OFF, 0),
        (UNMEASURED, None, OFF, 0),
        (UNMEASURED, measured(0.22, 0.20), OFF, 2),
        (measured(0.19, 0.1), None, load_bars().model_copy(update={"hr_at_10": 0.2}), 1),
        (measured(0.20, 0.1), None, load_bars().model_copy(update={"hr_at_10": 0.2}), 0),
        (UNMEASURED, None, load_bars().model_copy(update={"hr_at_10": 0.2}), 1),
        (measured(0.1, 0.1, group="unknown"), measured(0.2, 0.2, group="unknown"), None, 2),
    ],
)
def test_a_promotion_must_pass_the_gate(
    candidate: ReleaseManifest, active: ReleaseManifest | None, bars: ReleaseSettings | None, clauses: int
) -> None:
    """A release is below the active one's interval, below a bar, or unmeasured although a bar applies."""
    assert len(objections(candidate, active, bars)) == clauses


def measure(repository: Repository, release: int, hr: float, low: float) -> None:
    rewrite_manifest(repository, release, metrics=metrics(hr, low))


def test_a_worse_release_is_refused_and_can_be_forced(repository: Repository) -> None:
    """The sentence has both numbers, and the record shows that it was forced."""
    measure(repository, 1, 0.22, 0.20)
    measure(repository, 2, 0.19, 0.17)
    with pytest.raises(
        NotPromoted,
        match=r'release 1 is still the active one: step "gate" failed: its hr_at_10 0\.1900 is below release '
        r"1's 95 % interval from 0\.2000; .*--force",
    ):
        promote(repository, 2)
    assert active_release(repository) == 1
    record = promote(repository, 2, force=True)
    assert active_release(repository) == 2
    assert record["forced"][0].startswith("its hr_at_10 0.1900 is below")
    assert [("failed" in r, "forced" in r) for r in history.read(repository)] == [
        *((False, False), (True, False), (False, True))
    ]


def test_a_release_below_the_bars_is_refused(repository: Repository) -> None:
    measure(repository, 2, 0.19, 0.17)
    with pytest.raises(NotPromoted, match=r"below the bar of 0\.2500 \(release\.hr_at_10\)"):
        promote(repository, 2, bars=load_bars().model_copy(update={"hr_at_10": 0.25}))


def flip_a_byte(repository: Repository) -> str:
    path = repository / "ncf_scorer" / "2" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return "ncf_scorer/2/model.onnx is not what the manifest lists"


def remove_a_file(repository: Repository) -> str:
    (repository / "candidate_sampler" / "2" / "model.py").unlink()
    return "candidate_sampler/2/model.py is missing"


def bring_another_s_manifest(repository: Repository) -> str:
    manifest.write(read_release(repository, 1), manifest_place(repository, 2).parent)
    return r"recommender/2/manifest.json is not what [0-9a-f]{16} signed as release 2"


def sign_another_s_manifest(repository: Repository) -> str:
    bring_another_s_manifest(repository)
    sign(repository, 2, manifest_place(repository, 2).read_bytes(), publisher_key())
    return r"recommender/2/manifest.json is the manifest of release 1"


def truncate_the_manifest(repository: Repository) -> str:
    path = repository / "recommender" / "2" / manifest.NAME
    path.write_text(path.read_text()[:100])
    return r"recommender/2/manifest.json is (damaged|not what)"


def change_the_contract(repository: Repository) -> str:
    contract = read_release(repository, 2).contract
    rewrite_manifest(repository, 2, contract=contract.model_copy(update={"answers": 10}))
    return r"ncf_scorer/2/model.onnx: output item_ids is \('STRING', \[20\]\), .* says \('STRING', \[10\]\)"


def leave_a_stranger(repository: Repository) -> str:
    (repository / "candidate_sampler" / "2" / "faiss.py").write_bytes(b"")
    return "candidate_sampler/2/faiss.py is not in the manifest"


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        remove_a_file,
        bring_another_s_manifest,
        sign_another_s_manifest,
        truncate_the_manifest,
        change_the_contract,
        leave_a_stranger,
    ],
)
def test_a_damaged_release_is_refused_by_its_file(
    repository: Repository, damage: Callable[[Repository], str]
) -> None:
    """`verify` and `promote` name the file. The active release stays the same, to the byte."""
    before = {path: path.read_bytes() for path in repository.root.glob("*/config.pbtxt")}
    sentence = damage(repository)
    with pytest.raises(CestaError, match=rf"{sentence}"):
        verify_release(repository, 2)
    with pytest.raises(NotPromoted, match=rf'step "verify" failed: .*{sentence}'):
        promote(repository, 2)
    assert {path: path.read_bytes() for path in repository.root.glob("*/config.pbtxt")} == before
    verify_release(repository)


@pytest.mark.parametrize("where", ["write", "append"])
def test_a_full_disk_while_promoting_changes_nothing(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    before = {path: path.read_bytes() for path in repository.root.glob("*/config.pbtxt")}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "promotions.jsonl")

    with monkeypatch.context() as patch:
        patch.setattr(type(repository), where, full)
        with pytest.raises(NotPromoted, match=r"promotions\.jsonl: No space left on device; free"):
            promote(repository, 2)
    assert {path: path.read_bytes() for path in repository.root.glob("*/config.pbtxt")} == before


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), CestaError("it is silent")])
def test_a_failure_is_reported_even_if_it_cannot_be_recorded(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """The disk is full or the store is silent: the sentence is about the release, not about the record."""
    flip_a_byte(repository)

    def refuse(*_: object) -> None:
        raise trouble

    monkeypatch.setattr(type(repository), "append", refuse)
    with pytest.raises(NotPromoted, match=r'release 1 is still the active one: step "verify" failed'):
        promote(repository, 2)


def test_a_rollback_reads_the_record_under_the_lock(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another operator promotes release 2 just before, so 1 is the release that was active before."""

    @contextmanager
    def lock_later(repository: Repository) -> Iterator[None]:
        monkeypatch.undo()
        promote(repository, 2)
        with repository.lock():
            yield

    monkeypatch.setattr(type(repository), "lock", lock_later)
    assert roll_back(repository)["before"] == 2
    assert active_release(repository) == 1


def test_a_rollback_returns_to_the_release_before(repository: Repository) -> None:
    """A rollback returns to the release before; a second one further back; then there is nothing left."""
    promote(repository, 2)
    assert roll_back(repository)["release"] == 1
    assert active_release(repository) == 1
    with pytest.raises(CestaError, match=r"no release was active in .* before 1"):
        roll_back(repository)


def test_a_release_counts_once_in_the_line_of_succession(repository: Repository) -> None:
    """The promotions are 1 2 3, back to 2, 3 again, 1 again: a release counts once, at its last promotion."""
    there, back = Action.PROMOTE, Action.ROLLBACK
    for action, release in ((there, 2), (there, 3), (back, 2), (there, 3), (there, 1)):
        history.append(repository, action, release)
    history.append(repository, Action.PROMOTE, 9, failed="gate")
    assert history.line_of_succession(repository) == [2, 3, 1]


def test_a_rolled_back_release_is_known_until_it_is_promoted_again(repository: Repository) -> None:
    promote(repository, 2)
    assert not history.was_rolled_back(repository, 2)
    roll_back(repository)
    assert history.was_rolled_back(repository, 2)
    assert not history.was_rolled_back(repository, 1)
    promote(repository, 2)
    assert not history.was_rolled_back(repository, 2)


@folder_only
def test_a_torn_line_of_the_record_is_passed_over(repository: Repository) -> None:
    """The power failed during the write. Lines added after it are read."""
    with (repository / history.NAME).open("a") as file:
        file.write('{"what": "prom')
    history.append(repository, Action.PROMOTE, 2)
    assert [(r["what"], r["release"]) for r in history.read(repository)] == [("promote", 1), ("promote", 2)]


def test_old_releases_are_retired(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The active one, the one before it and newer ones stay; remains of a killed publisher go."""
    for seed in (3, 4, 5):
        publish.publish(make_run(tmp_path / f"run-{seed}", seed), repository)
    promote(repository, 2)
    promote(repository, 4)
    manifest_place(repository, 3).unlink()
    if repository.is_remote:
        assert retire(repository) == [1]  # the publisher of 3 may still be at work
        monkeypatch.setattr(bucket, "PUBLISHING_S", -1)
    assert 3 in retire(repository)
    assert releases(repository) == [2, 4, 5]
    assert all(not list((repository / model / "3").rglob("*")) for model in MODELS)
    assert retire(repository) == []
    assert roll_back(repository)["release"] == 2
    with pytest.raises(CestaError, match="--keep 1: at least 2 stay"):
        retire(repository, keep=1)


def test_only_one_changes_a_repository(repository: Repository) -> None:
    with repository.lock(), pytest.raises(CestaError, match="is being changed by another cesta"):
        promote(repository, 2)
    assert promote(repository, 2)["release"] == 2


def test_a_diff_lists_what_differs(repository: Repository) -> None:
    """It names the array without the release's number, and possibly the time."""
    rows = {what: (one, other) for what, one, other in diff(*(read_release(repository, n) for n in (1, 2)))}
    assert rows.keys() - {"created_at"} == {"candidate_sampler/arrays/clock.now.npy"}
    assert rows["candidate_sampler/arrays/clock.now.npy"][0].startswith("136 bytes, ")


def test_a_diff_counts_days_instead_of_listing_them(repository: Repository) -> None:
    """A year of daily numbers would hide everything else."""
    one, other = (read_release(repository, n) for n in (1, 2))
    days = [
        release.model_copy(update={"data": DataRecord(baskets_by_day=text)})
        for release, text in ((one, "7 8 9"), (other, "7 8 9 10"))
    ]
    rows = {what: (mine, theirs) for what, mine, theirs in diff(*days)}
    assert [text.split(",")[0] for text in rows["data.baskets_by_day"]] == ["3 days", "4 days"]


WANT = Answer(item_ids=("a", "b", "c"), scores=(3.0, 2.0, 2.0), reasons=(1, 2, 4))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"scores": [3.0001, 2.0, 2.0]}, None),
        ({"item_ids": ["a", "c", "b"], "reasons": [1, 4, 2]}, None),
        ({"scores": [3.01, 2.0, 2.0]}, "score 0 is 3.0100 instead of 3.0000"),
        ({"item_ids": ["b", "a", "c"]}, "place 0 has b instead of a"),
        ({"reasons": [1, 2, 8]}, "the reasons of c are 8 instead of 4"),
        ({"scores": [3.0, 2.0, math.nan]}, "score 2 is nan instead of 2.0000"),
        ({"scores": [math.inf, 2.0, 2.0]}, "score 0 is inf instead of 3.0000"),
        ({"item_ids": [], "scores": [], "reasons": []}, "it has 0 items instead of 3"),
        ({"item_ids": list("abcd"), "scores": [3.0, 2, 2, 1], "reasons": [1, 2, 4, 8]}, "it has 4 items ins"),
        ({"scores": [3.0, 2.0]}, "it has 2 items instead of 3"),
    ],
)
def test_answers_are_compared_but_for_rounding_and_ties(changes: dict[str, Any], problem: str | None) -> None:
    found = difference(WANT.model_copy(update=changes), WANT)
    assert (found or "").startswith(problem or "")
    assert (found is None) == (problem is None)


def test_the_record_says_who_and_how(repository: Repository) -> None:
    record = json.loads((repository / history.NAME).read_text())
    assert record.keys() == {"at", "who", "what", "release", "before", "server", "seconds"}
    assert "@" in record["who"]
    assert record["seconds"].keys() == {"verify", "gate", "write"}


def test_a_mistyped_number_is_refused_and_alarms_nobody(repository: Repository) -> None:
    """The alert PromotionFailed counts the failures of the history."""
    before = history.read(repository)
    with pytest.raises(NotPromoted, match="no release 99"):
        promote(repository, 99)
    assert history.read(repository) == before
    assert publish.next_release(repository) == 3
