"""A file appears whole or not at all."""

import errno
from pathlib import Path

import pytest

from export_scripts import atomic


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
