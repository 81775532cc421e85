"""The admin verbs of the supervisor's app, on a repository without a server."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from operations.errors import BeingChanged
from operations.releases import history, publish
from operations.releases.models.configs import canary_on_disk
from operations.releases.promote import promote
from operations.releases.repository import active_release
from operations.releases.stores.store import Repository, open_repository
from operations.releases.switch import Steps
from operations.supervisor.operation_log import AT_ONCE, Asked, OperationLog, State
from tests.building.runs import make_run
from tests.running.admin import TRAFFIC, Admin


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Release 1 is active, release 2 published."""
    repository = open_repository(tmp_path / "repository")
    for seed in (1, 2):
        publish.publish(make_run(tmp_path / f"run-{seed}", seed), repository)
    promote(repository, 1)
    return repository


def test_a_release_is_promoted_and_rolled_back(repository: Repository) -> None:
    """The history names the key that asked."""
    admin = Admin(repository)
    promoted = admin.change("/releases/2/promote")
    assert (promoted["state"], promoted["what"], promoted["by"]) == ("succeeded", "promote", "key:ops")
    assert (promoted["result"]["release"], promoted["result"]["before"]) == (2, 1)
    assert [step["step"] for step in promoted["steps"]] == ["verify", "gate", "write", "record"]
    assert active_release(repository) == 2
    assert admin.change("/rollback", expected_release=2)["result"]["release"] == 1
    assert active_release(repository) == 1
    assert [record["who"] for record in history.read(repository)][1:] == ["key:ops", "key:ops"]


def test_a_canary_release_is_started_listed_and_ended(repository: Repository) -> None:
    admin = Admin(repository)
    assert admin.change("/releases/2/canary", percent=7)["state"] == "succeeded"
    listed = admin.ask("GET", "/releases").json()
    assert (listed["active"], listed["canary"]) == (1, {"release": 2, "percent": 7.0})
    assert [release["release"] for release in listed["releases"]] == [1, 2]
    assert admin.change("/releases/2/canary", percent=0)["what"] == "end canary"
    assert canary_on_disk(repository) is None


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/releases/2/canary", {"percent": 100}, 400, "100 is not 0.01 to 99.99 or, to end it, 0"),
        ("/releases/2/canary", {"percent": 0.004}, 400, "percent: Value error, 0.004 is not 0.01 to 99.99"),
        ("/releases/2/canary", {}, 400, "body: Field required"),
        ("/releases/2/canary", {"percent": 5, "persent": 7}, 400, "persent: Extra inputs"),
        ("/releases/two/promote", {}, 400, "release: Input should be a valid integer"),
        ("/rollback", {"expected_release": 2}, 409, "release 1 is the active one, not 2: somebody else"),
        ("/releases/2/promote", {"expected_release": 7}, 409, "release 1 is the active one, not 7: somebody"),
    ],
)
def test_a_change_that_cannot_be_made_is_explained(
    repository: Repository, path: str, body: dict[str, Any], status: int, sentence: str
) -> None:
    answer = Admin(repository).ask("POST", path, **body)
    assert answer.status_code == status
    assert sentence in answer.json()["error"]
    assert answer.json()["request_id"]
    assert active_release(repository) == 1


@pytest.mark.parametrize(
    ("path", "sentence"), [("/releases/9/promote", "no release 9"), ("/rollback", "no release was active")]
)
def test_a_change_that_fails_ends_with_a_reason(repository: Repository, path: str, sentence: str) -> None:
    failed = Admin(repository).change(path)
    assert (failed["state"], failed["result"], failed["failure"]["status"]) == ("failed", None, 409)
    assert sentence in failed["failure"]["error"]
    assert active_release(repository) == 1


def test_a_request_with_the_same_idempotency_key_is_made_once(repository: Repository) -> None:
    """Also after a restart. Another body is refused; keys of other callers are other keys."""
    admin = Admin(repository)
    first = admin.ask("POST", "/releases/2/promote", key="a", expected_release=1)
    admin.await_end(first)
    again = Admin(repository).ask("POST", "/releases/2/promote", key="a", expected_release=1)
    assert (again.status_code, again.headers["Location"]) == (202, first.headers["Location"])
    assert again.json()["state"] == "succeeded"

    other = admin.ask("POST", "/releases/2/promote", key="a", force=True)
    assert other.status_code == 422
    assert 'the Idempotency-Key "a" belongs to operation' in other.json()["error"]
    admin.await_end(admin.ask("POST", "/rollback", key="a", by="ops2"))
    assert len(history.read(repository)) == 3
    assert len(admin.ask("GET", "/operations").json()["operations"]) == 2


def test_the_steps_of_a_running_operation_are_told(tmp_path: Path) -> None:
    """A supervisor that starts again calls it interrupted, and an unknown id is 404."""
    log, may_end, began = OperationLog(tmp_path), threading.Event(), threading.Event()

    def work(steps: Steps) -> dict[str, object]:
        with steps.run("verify"):
            pass
        with steps.run("load scorer"):
            began.set()
            may_end.wait(10)
        return {}

    running = log.start(Asked("promote", "key:ops", {}), work)
    assert began.wait(10)
    told = running.describe()
    assert (told["state"], told["step"]) == ("running", "load scorer")
    assert [step["step"] for step in told["steps"]] == ["verify"]
    (read,) = OperationLog(tmp_path).list()
    assert (read.id, read.state, read.describe()["step"]) == (running.id, "interrupted", None)
    may_end.set()
    assert log.find("none") is None


def test_a_slow_store_delays_no_other_operation(tmp_path: Path) -> None:
    operations, may_end, checking = OperationLog(tmp_path), threading.Event(), threading.Event()

    def check() -> None:
        checking.set()
        assert may_end.wait(20)

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(operations.start, Asked("promote", "key:ops", {}), lambda _: {}, check)
        assert checking.wait(20)
        quick = operations.start(Asked("rollback", "key:ops", {}), lambda _: {})
        assert not slow.done()
        may_end.set()
        assert slow.result(20).id != quick.id


def test_few_operations_of_one_kind_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each promotion tries its release on a server of its own. A rollback begins all the same."""
    monkeypatch.setattr("operations.supervisor.operation_log.KEPT", 2)
    log, may_end = OperationLog(tmp_path), threading.Event()

    def work(_: Steps) -> dict[str, object]:
        may_end.wait(10)
        return {}

    asked = [Asked("promote", "key:ops", {}, str(n)) for n in range(AT_ONCE + 1)]
    running = [log.start(one, work) for one in asked[:-1]]
    with pytest.raises(BeingChanged, match=f"4 operations of the kind promote run already, {running[0].id}"):
        log.start(asked[-1], work)
    assert log.start(asked[0], work) is running[0]
    for _ in range(3):  # none pushes out what runs
        log.start(Asked("rollback", "key:ops", {}), lambda _: {})
        while log.list()[0].state == State.RUNNING:
            may_end.wait(0.001)
    assert all(log.find(one.id) for one in running)
    assert len(log.list()) == 2 + len(running)
    may_end.set()


def test_steps_that_change_meanwhile_keep_no_other_operation_from_starting(tmp_path: Path) -> None:
    """The file is written while others run, so it must not walk through their steps."""

    class Growing(dict[str, float]):
        def items(self) -> Any:
            raise RuntimeError("dictionary changed size during iteration")

    log, may_end, began = OperationLog(tmp_path), threading.Event(), threading.Event()

    def work(steps: Steps) -> dict[str, object]:
        steps.seconds = Growing()
        began.set()
        return {"ended": may_end.wait(10)}

    log.start(Asked("promote", "key:ops", {}), work)
    assert began.wait(10)
    log.start(Asked("rollback", "key:ops", {}), lambda _: {})
    assert len(OperationLog(tmp_path).list()) == 2
    may_end.set()


@pytest.mark.parametrize(
    ("path", "key", "body", "sentence"),
    [
        ("/releases/0/promote", "", {}, "release: Input should be greater than or equal to 1"),
        (f"/releases/{10**99}/promote", "", {}, "release: Input should be less than or equal to 2147483647"),
        ("/releases/2/promote", "", {"force": "no"}, "force: Input should be a valid boolean"),
        ("/rollback", "", {"expected_release": True}, "expected_release: Input should be a valid integer"),
        *(("/rollback", key, {}, "idempotency-key: ") for key in ("ключ", "a\x01", "x" * 256)),
    ],
)
def test_values_that_mean_nothing_start_nothing(
    tmp_path: Path, path: str, key: str, body: dict[str, Any], sentence: str
) -> None:
    admin = Admin(open_repository(tmp_path / "repository"))
    refused = admin.ask("POST", path, key=key.encode(), **body)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_body")
    assert sentence in refused.json()["error"]
    assert admin.operations.list() == []


def test_a_path_has_one_spelling(tmp_path: Path) -> None:
    """A redirect would name the supervisor's address to the gateway's callers."""
    assert Admin(open_repository(tmp_path / "repository")).ask("GET", "/operations/").status_code == 404


def test_a_pinned_server_refuses_changes(repository: Repository) -> None:
    refused = Admin(repository, pinned=1).ask("POST", "/releases/2/promote")
    assert (refused.status_code, active_release(repository)) == (409, 1)
    assert "serves release 1 because it was started with --release 1" in refused.json()["error"]


def test_the_gate_holds_and_can_be_forced(repository: Repository) -> None:
    admin = Admin(repository, hr_at_10=0.2)
    refused = admin.change("/releases/2/promote")
    assert (refused["state"], active_release(repository)) == ("failed", 1)
    assert "was not measured" in refused["failure"]["error"]
    assert admin.change("/releases/2/promote", force=True)["result"]["forced"]


@pytest.mark.parametrize("token", ["", "another", "ünknown"])
def test_requests_past_the_gateway_are_refused(repository: Repository, token: str) -> None:
    """Other callers of the port may only read the health."""
    for method, path in (("GET", "/releases"), ("POST", "/releases/2/promote"), ("POST", "/rollback")):
        assert Admin(repository).ask(method, path, token.encode()).status_code == 403
    assert active_release(repository) == 1


def test_one_change_at_a_time(repository: Repository) -> None:
    """The second caller is told to wait, and nothing of its request is done."""
    with repository.lock():
        refused = Admin(repository).change("/releases/2/promote")["failure"]
    assert refused["status"] == 503
    assert "is being changed by another cesta, or by a server that" in refused["error"]
    assert active_release(repository) == 1


def test_what_is_damaged_hides_nothing_else(repository: Repository) -> None:
    """An operator asks for the list because something is damaged."""
    repository.write("recommender/2/manifest.json", b"{")
    repository.write("recommender/config.pbtxt", b"")
    repository.write("recommender_canary/config.pbtxt", b"")
    listed = Admin(repository).ask("GET", "/releases").json()
    assert (listed["active"], listed["canary"]) == (None, None)
    assert "recommender/config.pbtxt pins no release" in listed["damaged"]
    whole, damaged = listed["releases"]
    assert (whole["release"], damaged["release"]) == (1, 2)
    assert "recommender/2/manifest.json is damaged" in damaged["damaged"]


def test_a_repository_that_cannot_be_read_is_said(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Repository) -> list[int]:
        raise PermissionError(13, "Permission denied", str(repository))

    monkeypatch.setattr("operations.releases.overview.listing.releases", refuse)
    refused = Admin(repository).ask("GET", "/releases")
    assert refused.status_code == 503
    assert "the releases cannot be listed" in refused.json()["error"]


def test_a_repository_that_cannot_be_read_refuses_a_change(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is told why, as for a change that has begun."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(repository))

    monkeypatch.setattr("operations.supervisor.admin.check_expected", refuse)
    refused = Admin(repository).ask("POST", "/releases/2/promote", expected_release=1)
    assert (refused.status_code, refused.json()["code"]) == (409, "change_refused")
    assert "promote: nothing was changed" in refused.json()["detail"]


def test_old_releases_are_retired(repository: Repository, tmp_path: Path) -> None:
    publish.publish(make_run(tmp_path / "run-3", 3), repository)
    for release in (2, 3):
        promote(repository, release)
    admin = Admin(repository)
    assert admin.change("/retire", keep=1)["failure"]["status"] == 409
    assert admin.change("/retire")["result"] == {"retired": [1]}
    assert admin.ask("GET", "/traffic").json() == TRAFFIC


def test_a_change_beyond_those_that_run_is_told_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operations.supervisor.operation_log.AT_ONCE", 1)
    admin, may_end = Admin(open_repository(tmp_path / "repository")), threading.Event()
    admin.operations.start(Asked("rollback", "key:ops", {}), lambda _: {"ended": may_end.wait(10)})
    refused = admin.ask("POST", "/rollback")
    may_end.set()
    assert (refused.status_code, refused.json()["code"]) == (503, "change_in_progress")
    assert refused.headers["Retry-After"] == "1"
