"""A gateway whose folder lies on a full disk, or on one that cannot be written."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from typer.testing import CliRunner

from operations.cli import make_app
from operations.errors import CestaError
from operations.gateway import control
from operations.gateway.control import announce
from operations.gateway.keys import add_key, read_keys
from operations.gateway.link import admin_token
from tests.running import needs
from tests.running.door import Door, OpenDoor, Supervisor, open_door
from tests.running.fake_triton import FakeTriton
from tests.running.small_disk import small_disk


def revoke(name: str, folder: Path) -> BaseException | None:
    return CliRunner().invoke(make_app(), ["keys", "revoke", name, "--folder", str(folder)]).exception


def statuses(door: Door, *keys: str) -> list[int]:
    return [door.recommend("i1", key=door.keys[key]).status for key in keys]


def test_on_a_full_disk_shops_are_answered_and_keys_revoked(
    tmp_path: Path, fake: FakeTriton, supervisor: Supervisor
) -> None:
    """Also by a gateway that starts there: a revoked key stays revoked, and the others work."""
    with small_disk(tmp_path / "disk") as disk, needs.debian_packages():
        folder = disk.root / "gateway"
        behind = {"triton_http": fake.address, "supervisor": supervisor.address}
        door = open_door(folder, as_deployed=True, **behind)  # another configuration could not be written
        try:
            for name in ("one", "two"):
                door.keys[name] = add_key(folder, name, "shop", 1000)
            assert announce(folder)
            disk.fill()
            assert statuses(door, "one", "two") == [200, 200]
            assert revoke("one", folder) is None
            assert statuses(door, "one", "two") == [401, 200]
            door.gateway.stop()
            door.gateway.start()
            assert statuses(door, "one", "two") == [401, 200]
        finally:
            door.gateway.stop()


def test_a_key_that_cannot_be_deleted_is_refused_until_the_next_start(
    open_gateway: OpenDoor, fake: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a read-only disk. Other keys may be added later, and the key is still refused."""
    door = open_gateway(triton_http=fake.address)
    folder = door.settings.folder
    admin_token(folder)
    door.keys["leak"] = add_key(folder, "leak", "shop", 1000)
    assert announce(folder)
    assert statuses(door, "leak", "shop") == [200, 200]

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(folder / "keys.json"))

    with monkeypatch.context() as patch:
        patch.setattr("operations.gateway.keys._remove", read_only)
        refused = revoke("leak", folder)
    assert isinstance(refused, CestaError)
    assert 'The key "leak" is still in the file: revoke it again then; ' in str(refused)
    assert "the running gateway refuses it until it starts again" in str(refused)
    assert statuses(door, "leak", "shop") == [401, 200]
    door.keys["new"] = add_key(folder, "new", "shop", 1000)
    assert announce(folder)
    assert statuses(door, "leak", "new") == [401, 200]
    shop = next(key.sha256 for key in read_keys(folder) if key.name == "shop")
    for headers in ({}, {"X-Cesta-Admin": "a guess"}):  # of another user of the machine
        assert control._ask(folder, "POST", f"/forget?sha256={shop}", 5, headers)[0] == 403
    door.gateway.reload()
    assert statuses(door, "leak", "new") == [401, 200]
