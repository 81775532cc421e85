"""A disk without room, without inodes, or without leave to write: what goes through, and what is said."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from operations.cli import _configure_logging, make_app
from operations.errors import CestaError, KeyKept
from operations.gateway.keys import add_key, read_keys, revoke_key
from operations.gateway.split import write_split
from operations.records import atomic
from operations.records.disk import explain
from operations.releases import history, publish
from operations.releases.models.configs import canary_on_disk
from operations.releases.promote import promote
from operations.releases.repository import active_release
from operations.releases.retire import retire
from operations.releases.stores.folder import ROOM
from operations.releases.stores.store import Repository, open_repository
from tests.building.runs import make_run
from tests.running.admin import Admin
from tests.running.small_disk import SmallDisk, small_disk

NAMES = ("first", "second", "third", "fourth")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def repository(disk: SmallDisk, tmp_path: Path) -> Repository:
    """Three releases on the small disk; 2 is active and 1 the one before."""
    repository = open_repository(disk.root / "repository")
    for seed in (1, 2, 3):
        publish.publish(make_run(tmp_path / f"run-{seed}", seed), repository)
    promote(repository, 1)
    promote(repository, 2)
    return repository


def names(folder: Path) -> list[str]:
    return [key.name for key in read_keys(folder)]


def contents(root: Path) -> dict[Path, bytes]:
    """Every file of a repository but its room and its history, which may have room for a failure."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.name not in (ROOM, history.NAME)}


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class FullLog(io.StringIO):
    """Standard error in a file on a full disk."""

    write = flush = no_room  # type: ignore[assignment]


# ---- keys


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1], ("second", "first", "fourth", "third")])
def test_every_key_can_be_revoked_without_room_for_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[str, ...]
) -> None:
    """The file keeps its size, is JSON after each revocation, and is the one that a restart reads."""
    for name in NAMES:
        add_key(tmp_path, name, "shop", 50)
    size, remaining = (tmp_path / "keys.json").stat().st_size, list(NAMES)
    monkeypatch.setattr("operations.gateway.keys.write_file", no_room)
    for name in order:
        revoke_key(tmp_path, name)
        remaining.remove(name)
        assert names(tmp_path) == remaining
        assert (tmp_path / "keys.json").stat().st_size == size
    monkeypatch.undo()
    add_key(tmp_path, "new", "shop", 50)
    assert names(tmp_path) == ["new"]


@pytest.mark.parametrize("trouble", [SmallDisk.fill, SmallDisk.use_up_inodes])
def test_on_a_full_disk_a_key_is_revoked_and_none_is_added(
    disk: SmallDisk, trouble: Callable[[SmallDisk], None]
) -> None:
    for name in NAMES:
        add_key(disk.root / "gateway", name, "shop", 50)
    trouble(disk)
    with pytest.raises(
        CestaError, match=r'the key "new" was not added: .*/keys\.json: No space left on device; '
    ):
        add_key(disk.root / "gateway", "new", "shop", 50)
    revoke_key(disk.root / "gateway", "second")
    assert names(disk.root / "gateway") == ["first", "third", "fourth"]
    assert [path.name for path in (disk.root / "gateway").iterdir()] == ["keys.json"]


def test_inodes_used_up_are_told_from_a_full_disk(disk: SmallDisk) -> None:
    disk.use_up_inodes()
    with pytest.raises(CestaError, match="the file system has room and no inodes left: delete some files"):
        add_key(disk.root, "new", "shop", 50)


def test_on_a_read_only_disk_the_key_is_said_to_be_kept(disk: SmallDisk) -> None:
    """No gateway runs here that could refuse it in memory; `tests/gateway` has one."""
    add_key(disk.root, "webshop", "shop", 50)
    disk.make_read_only()
    with pytest.raises(KeyKept, match=r"keys\.json: Read-only file system; .*mount it writable"):
        revoke_key(disk.root, "webshop")
    said = CliRunner().invoke(make_app(), ["keys", "revoke", "webshop", "--folder", str(disk.root)])
    assert isinstance(said.exception, CestaError)
    assert 'The key "webshop" is still in the file: revoke it again then; ' in str(said.exception)
    assert "no gateway answers on this folder" in str(said.exception)


def test_revoking_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CestaError, match=r'the key "x" was not revoked: .*/none: No such file'):
        revoke_key(tmp_path / "none", "x")
    assert not (tmp_path / "none").exists()


def test_a_canary_s_share_ends_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_split(tmp_path, 12.34)
    monkeypatch.setattr("operations.gateway.split.write_file", no_room)
    write_split(tmp_path, 0)
    assert json.loads((tmp_path / "split.json").read_text()) == {"percent": 0}


# ---- releases


def test_on_a_full_disk_what_is_active_can_be_changed(repository: Repository, disk: SmallDisk) -> None:
    """The room that the repository keeps is enough for many changes in a row."""
    disk.fill()
    admin = Admin(repository)
    for _ in range(20):
        assert admin.change("/rollback")["state"] == "succeeded"
        assert active_release(repository) == 1
        assert admin.change("/releases/2/promote")["state"] == "succeeded"
        assert active_release(repository) == 2
    assert admin.change("/releases/3/canary", percent=5)["state"] == "succeeded"
    assert admin.change("/releases/3/canary", percent=0)["state"] == "succeeded"
    assert canary_on_disk(repository) is None
    assert len(history.read(repository)) == 2 + 42


def test_old_releases_are_deleted_from_a_full_disk(repository: Repository, disk: SmallDisk) -> None:
    """This is a way to free space, so it needs none."""
    disk.fill()
    promote(repository, 3)
    assert retire(repository) == [1]
    assert os.statvfs(disk.root).f_bavail > 0


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("/rollback", {}, "release 1 was not returned to, release 2 is still the active one"),
        ("/releases/3/promote", {}, "release 3 was not promoted, release 2 is still the active one"),
        ("/releases/3/canary", {"percent": 5}, "release 3 did not become the canary release, release 2"),
    ],
)
def test_a_change_that_does_not_fit_names_its_step_and_the_way_out(
    repository: Repository, disk: SmallDisk, path: str, body: dict[str, float], sentence: str
) -> None:
    """An older cesta kept no room, or the room is used up. Nothing changes and nothing half-written stays."""
    root = disk.root / "repository"
    before = contents(root)
    (root / ROOM).unlink()
    disk.fill()
    failure = Admin(repository).change(path, **body)["failure"]
    assert failure["status"] == 409
    assert sentence in failure["error"]
    assert 'step "write" failed: ' in failure["error"]
    assert "No space left on device; free some space" in failure["error"]
    assert contents(root) == before
    assert all("at" in json.loads(line) for line in (root / history.NAME).read_text().splitlines())


def test_publishing_on_a_full_disk_leaves_no_release(
    repository: Repository, disk: SmallDisk, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run-4", 4)
    before = {path.relative_to(disk.root) for path in (disk.root / "repository").rglob("*")}
    disk.fill()
    with pytest.raises(
        CestaError, match=r"run-4 was not published in \S+: \S+: No space left on device; free some space$"
    ):
        publish.publish(run, repository)
    assert {path.relative_to(disk.root) for path in (disk.root / "repository").rglob("*")} == before
    (disk.root / "filling").unlink()
    assert publish.publish(run, repository) == 4


def test_a_move_that_fails_half_way_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository, run = open_repository(tmp_path / "repository"), make_run(tmp_path / "run", 1)
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name == "ncf_scorer":
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(CestaError, match="was not published"):
        publish.publish(run, repository)
    monkeypatch.undo()
    assert not list((tmp_path / "repository").glob("*/1"))
    assert publish.publish(run, repository) == 1


def test_on_a_read_only_disk_a_change_names_its_step(repository: Repository, disk: SmallDisk) -> None:
    disk.make_read_only()
    failure = Admin(repository).change("/rollback")["failure"]
    assert failure["status"] == 409
    assert 'step "write" failed: ' in failure["error"]
    assert "the file system is read-only: mount it writable" in failure["error"]
    assert Admin(repository).ask("GET", "/releases").json()["active"] == 2


def test_a_repository_that_has_gone_is_a_sentence(tmp_path: Path) -> None:
    failure = Admin(open_repository(tmp_path / "gone")).change("/releases/1/promote")["failure"]
    assert failure["status"] == 409
    assert "could not be locked: " in failure["error"]
    assert "No such file" in failure["error"]


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic.append_line(tmp_path / "record", "one", 0o644)
    monkeypatch.setattr(atomic.os, "fsync", no_room)
    with pytest.raises(OSError, match="record"):
        atomic.append_line(tmp_path / "record", "two", 0o644)
    assert (tmp_path / "record").read_text() == "one\n"


# ---- logs


def test_a_log_on_a_full_disk_stops_no_work(
    repository_on_disk: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """structlog raised the disk's refusal, and a promotion that had gone through was told as failed."""
    monkeypatch.setattr(sys, "stderr", FullLog())
    _configure_logging()
    assert Admin(repository_on_disk).change("/releases/2/promote")["state"] == "succeeded"


@pytest.fixture
def repository_on_disk(tmp_path: Path) -> Repository:
    """Two releases on the disk of the tests; 1 is active."""
    repository = open_repository(tmp_path / "repository")
    for seed in (1, 2):
        publish.publish(make_run(tmp_path / f"run-{seed}", seed), repository)
    promote(repository, 1)
    return repository


def test_the_target_of_a_copy_is_named() -> None:
    """The system's error has the source first, whose disk may have room."""
    refused = OSError(errno.ENOSPC, "No space left on device", "/source/a", None, "/target/a")
    assert explain(refused) == "/target/a: No space left on device; free some space"
