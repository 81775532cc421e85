"""The keys of the gateway over HTTP, on a repository without releases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from operations.errors import CestaError, KeyKept
from operations.gateway.keys import add_key, read_keys, revoke_key
from operations.releases.stores.store import Repository, open_repository
from tests.running.admin import Admin


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(tmp_path / "repository")


def test_keys_are_made_changed_and_revoked(repository: Repository) -> None:
    """The list shows no secret and no hash; a secret is told once."""
    admin = Admin(repository)
    made = admin.ask("POST", "/keys", name="kiosk", rate=20, expires_in_s=3600)
    assert made.status_code == 201
    rotated = admin.ask("POST", "/keys/kiosk/rotate").json()["key"]
    assert admin.ask("POST", "/keys/kiosk/rate", rate=30).json()["rate"] == 30
    (told,) = admin.ask("GET", "/keys").json()["keys"]
    assert (told["name"], told["role"], told["rate"]) == ("kiosk", "shop", 30)
    assert told["old_secret_until"]
    assert told["expires_at"]
    assert not {made.json()["key"], rotated} & set(map(str, told.values()))
    assert admin.ask("POST", "/keys/kiosk/end-rotation").json()["old_secret_until"] is None
    assert admin.ask("POST", "/keys/kiosk/expire", expires_in_s=None).json()["expires_at"] is None
    assert admin.ask("POST", "/keys/kiosk/revoke").json() == {"revoked": "kiosk"}
    assert admin.ask("GET", "/keys").json() == {"keys": []}


def test_a_secret_whose_answer_was_lost_is_told_again(repository: Repository) -> None:
    """The Idempotency-Key gets the same secret; with another request or for another caller it does not."""
    admin = Admin(repository)
    made = admin.ask("POST", "/keys", key="monday", name="kiosk")
    assert admin.ask("POST", "/keys", key="monday", name="kiosk").json() == made.json()
    assert admin.ask("POST", "/keys", key="monday", name="other").status_code == 422
    assert admin.ask("POST", "/keys", key="monday", by="ops2", name="kiosk").status_code == 409
    rotated = admin.ask("POST", "/keys/kiosk/rotate", key="tuesday").json()
    assert admin.ask("POST", "/keys/kiosk/rotate", key="tuesday").json() == rotated
    assert rotated["key"] != made.json()["key"]


def test_an_admin_raises_no_rights_and_one_admin_stays(repository: Repository) -> None:
    admin = Admin(repository)
    for name, expires_s in (("ops", None), ("old", 1)):
        add_key(admin.folder, name, "admin", 5, expires_s)
    assert admin.ask("POST", "/keys", name="mine", role="admin").status_code == 400
    changes: list[tuple[str, dict[str, Any]]] = [
        ("rate", {"rate": 9}),
        ("expire", {"expires_in_s": 9}),
        ("rotate", {}),
        ("end-rotation", {}),
    ]
    for verb, body in changes:
        refused = admin.ask("POST", f"/keys/ops/{verb}", **body)
        assert (refused.status_code, "has the role admin" in refused.json()["error"]) == (409, True), verb
    last = admin.ask("POST", "/keys/ops/revoke")
    assert (last.status_code, "is the last one of the role admin" in last.json()["error"]) == (409, True)
    assert admin.ask("POST", "/keys/old/revoke").status_code == 200
    assert [(key.name, key.rate) for key in read_keys(admin.folder)] == [("ops", 5)]


def test_a_key_that_is_revoked_after_its_change_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another caller may be between the change and the answer that describes it."""
    admin = Admin(open_repository(tmp_path / "repository"))
    add_key(admin.folder, "kiosk", "shop", 5)
    monkeypatch.setattr(
        "operations.supervisor.admin_keys.announce", lambda folder: revoke_key(folder, "kiosk")
    )
    refused = admin.ask("POST", "/keys/kiosk/rate", rate=9)
    assert (refused.status_code, refused.json()["detail"]) == (409, 'the key "kiosk" was revoked meanwhile')


def test_two_admins_who_revoke_each_other_leave_one(tmp_path: Path) -> None:
    admin = Admin(open_repository(tmp_path / "repository"))
    for name in ("one", "two"):
        add_key(admin.folder, name, "admin", 5)
    began = threading.Barrier(2)

    def revoke(name: str) -> int:
        began.wait()
        status: int = admin.ask("POST", f"/keys/{name}/revoke").status_code
        return status

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(revoke, ("one", "two"))) == [200, 409]
    assert len(read_keys(admin.folder)) == 1


def test_a_secret_is_told_even_if_the_gateway_does_not_take_it_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds the file by itself later. The old secret may be known to nobody."""

    def refuse(_: Path) -> bool:
        raise CestaError("the gateway does not take over: split.json is not JSON")

    monkeypatch.setattr("operations.supervisor.admin_keys.announce", refuse)
    admin = Admin(open_repository(tmp_path / "repository"))
    assert admin.ask("POST", "/keys", name="kiosk").json()["key"]
    assert admin.ask("POST", "/keys/kiosk/rotate").json()["key"]


def test_a_key_that_its_file_keeps_is_refused_by_the_running_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = []

    def keep(*_: object, **__: object) -> None:
        raise KeyKept(("a", "b"), "read-only file system")

    def forget(_: Path, sha256: str) -> bool:
        forgotten.append(sha256)
        return True

    monkeypatch.setattr("operations.supervisor.admin_keys.revoke_key", keep)
    monkeypatch.setattr("operations.gateway.control.forget", forget)
    refused = Admin(open_repository(tmp_path / "repository")).ask("POST", "/keys/kiosk/revoke")
    assert (refused.status_code, forgotten) == (409, ["a", "b"])
    assert "the running gateway refuses it until it starts again" in refused.json()["error"]
