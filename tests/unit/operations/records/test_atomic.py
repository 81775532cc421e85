"""A file appears whole or not at all."""

import errno
import fcntl
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from operations.records import atomic


def test_a_file_is_written_with_its_folders_and_replaced(tmp_path: Path) -> None:
    target = tmp_path / "new" / "metrics.json"
    atomic.write_file(target, b"first")
    atomic.write_file(target, b"second")
    assert target.read_bytes() == b"second"
    assert [p.name for p in target.parent.iterdir()] == ["metrics.json"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "metrics.json"
    atomic.write_file(target, b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_file(target, b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("metrics.json", b"old")]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second finishes while the first still writes its own file; the writer that ends last wins."""
    target, fsync, others = tmp_path / "metrics.json", os.fsync, [b"second"]

    def meanwhile(handle: int) -> None:
        if others:
            atomic.write_file(target, others.pop())
            assert target.read_bytes() == b"second"
        fsync(handle)

    monkeypatch.setattr(atomic.os, "fsync", meanwhile)
    atomic.write_file(target, b"first")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("metrics.json", b"first")]


def test_a_secret_is_never_readable_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither are unfinished files and remains of killed writers. Without a mode the umask decides."""
    for name in (".token.partial", ".token.partial-x"):
        (tmp_path / name).touch(0o644)
    modes, fsync = [], os.fsync

    def look(handle: int) -> None:
        modes.append(os.fstat(handle).st_mode & 0o777)
        fsync(handle)

    monkeypatch.setattr(atomic.os, "fsync", look)
    atomic.write_file(tmp_path / "token", b"secret", mode=0o600)
    assert (modes[0], (tmp_path / "token").stat().st_mode & 0o777) == (0o600, 0o600)
    os.umask(umask := os.umask(0o022))
    atomic.write_file(tmp_path / "open", b"x")
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o666 & ~umask


def test_remains_of_killed_writers_go_with_the_next_write(tmp_path: Path) -> None:
    """Recent files stay, and so does a file that is being written: it is locked.

    The clock was set back by a day since one was left.
    """
    names = ("old", "ahead", "young", "held")
    old, ahead, young, held = (tmp_path / f".metrics.json.partial-{name}" for name in names)
    for leftover, age_s in ((old, 100), (ahead, -86_400), (young, 0), (held, 100)):
        leftover.write_bytes(b"half")
        os.utime(leftover, (time.time() - age_s,) * 2)
    with held.open("rb") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        atomic.write_file(tmp_path / "metrics.json", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.json", young.name, held.name}


def test_a_folder_that_a_killed_writer_left_goes_with_the_next(tmp_path: Path) -> None:
    """Each one may hold all receipts of a shop. One that is being filled stays."""
    leftover = tmp_path / ".data.partial-killed"
    leftover.mkdir()
    (leftover / "interactions.parquet").write_text("half")
    os.utime(leftover, (time.time() - 100,) * 2)
    with atomic.staged_folder(tmp_path / "data", marker="m") as held:
        os.utime(held, (time.time() - 100,) * 2)
        with atomic.staged_folder(tmp_path / "data", marker="m") as other:
            (other / "m").write_text("1")
        assert {path.name for path in tmp_path.iterdir()} == {"data", held.name}
        (held / "m").write_text("2")
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "m"]


def test_a_link_to_the_target_stays(tmp_path: Path) -> None:
    """The folder lies on a larger disk, and the new one must, too."""
    large, link = tmp_path / "large" / "data", tmp_path / "data"
    large.mkdir(parents=True)
    link.symlink_to(large)
    for number in (1, 2):
        with atomic.staged_folder(link, marker="m") as folder:
            (folder / "m").write_text(str(number))
        assert link.is_symlink()
        assert (large / "m").read_text() == str(number)
    with atomic.resumed_folder(link, marker="m") as folder:
        (folder / "m").write_text("3")
    assert link.is_symlink()
    assert (large / "m").read_text() == "3"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data", "data", "large", "m"]


@pytest.mark.parametrize("folder_of", [atomic.staged_folder, atomic.resumed_folder])
def test_a_process_killed_between_two_renames_costs_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder_of: Callable[..., AbstractContextManager[Path]]
) -> None:
    """A run that fails after that gives the folder back, as any failed run does."""
    target, rename = tmp_path / "data [1]", Path.rename
    with folder_of(target, marker="m") as folder:
        (folder / "m").write_text("good")

    def kill(path: Path, other: Path) -> Path:
        if path == target:
            return rename(path, other)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", kill)
    with pytest.raises(KeyboardInterrupt), folder_of(target, marker="m") as folder:
        (folder / "m").write_text("newer")
    assert not target.exists()
    monkeypatch.undo()
    with pytest.raises(ValueError, match="bad"), folder_of(target, marker="m"):
        raise ValueError("bad input")
    assert (target / "m").read_text() == "good"


def test_what_a_killed_process_staged_goes_with_the_next_folder(tmp_path: Path) -> None:
    """Nightly kills for lack of memory would fill the disk."""
    left = tmp_path / ".data.partial-killed"
    left.mkdir()
    (left / "half.parquet").touch()
    os.utime(left, (time.time() - 100,) * 2)
    with atomic.staged_folder(tmp_path / "data", marker="m") as folder:
        (folder / "m").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
