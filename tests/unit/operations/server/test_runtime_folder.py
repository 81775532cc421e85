"""The remains of a server go by themselves, or with the next start if its parent was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from operations.server import runtime_folder
from operations.server.runtime_folder import RuntimeFolder, sweep

# Makes a folder and shared memory as a start does, tells where, and waits to be killed.
PARENT = """
import sys
from pathlib import Path
from operations.server import runtime_folder
runtime_folder.SHARED_MEMORY = Path(sys.argv[1])
runtime = runtime_folder.RuntimeFolder()
print(runtime.make(), runtime.shm_prefix, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files and shared memory of this test only."""
    for place in ("tmp", "shm"):
        (tmp_path / place).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(runtime_folder, "SHARED_MEMORY", tmp_path / "shm")


def everything(tmp_path: Path) -> list[Path]:
    return [*(tmp_path / "tmp").iterdir(), *(tmp_path / "shm").iterdir()]


def test_a_runtime_folder_is_removed_by_its_owner(tmp_path: Path) -> None:
    runtime = RuntimeFolder()
    runtime.make()
    (tmp_path / "shm" / f"{runtime.shm_prefix}0").touch()
    runtime.remove()
    runtime.remove()
    assert everything(tmp_path) == []


def test_only_what_the_dead_left_is_swept(tmp_path: Path) -> None:
    """The folder of a living parent, its memory and foreign files stay; those of a killed parent go."""
    others = [tmp_path / "tmp" / "cesta-runtime-of-an-older-cesta", tmp_path / "shm" / "somebody-s"]
    others[0].mkdir()
    others[1].touch()
    parents = []
    for _ in range(2):
        starting = [sys.executable, "-c", PARENT, str(tmp_path / "shm")]
        parent = subprocess.Popen(starting, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        folder, shm_prefix = parent.stdout.readline().split()
        (tmp_path / "shm" / f"{shm_prefix}0").touch()
        parents.append((parent, Path(folder), tmp_path / "shm" / f"{shm_prefix}0"))
    (_, *stays), (killed, removed, _) = parents
    try:
        assert sweep() == []
        killed.kill()
        killed.wait()
        assert sweep() == [removed]
        assert sorted(everything(tmp_path)) == sorted([*others, *stays])
    finally:
        for parent, *_ in parents:
            parent.kill()
            parent.communicate()


def test_what_another_process_sweeps_is_awaited(tmp_path: Path) -> None:
    """Else a server starts beside the remains, whose ports it may need. This test is the other process."""
    starting = [sys.executable, "-c", PARENT, str(tmp_path / "shm")]
    with subprocess.Popen(starting, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        folder, shm_prefix = parent.stdout.readline().split()
        memory = tmp_path / "shm" / f"{shm_prefix}0"
        memory.touch()
        parent.kill()
    left: list[list[Path]] = []

    def sweep_and_look() -> None:
        sweep()
        left.append(everything(tmp_path))

    with (Path(folder) / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sweeping = threading.Thread(target=sweep_and_look)
        sweeping.start()
        sweeping.join(0.3)
        assert left == []
        memory.unlink()
        shutil.rmtree(folder)
    sweeping.join()
    assert left == [[]]


@pytest.mark.parametrize("name", ["*", "?" * 12, "[0-9]" * 4, "0123456789ab-", ""])
def test_a_name_that_no_server_has_sweeps_nothing(tmp_path: Path, name: str) -> None:
    """Anybody may make a folder in /tmp, and its name would mean the shared memory of others."""
    others = tmp_path / "shm" / "cesta-0123456789ab-0"
    others.touch()
    folder = tmp_path / "tmp" / f"cesta-runtime-{name}"
    folder.mkdir()
    (folder / "lock").touch()
    assert sweep() == []
    assert sorted(everything(tmp_path)) == sorted([folder, others])


def test_another_user_s_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds even if its lock is free."""
    parts = [tmp_path / "shm" / "cesta-0123456789ab-0", tmp_path / "tmp" / "cesta-runtime-0123456789ab"]
    parts[0].touch()
    parts[1].mkdir()
    (parts[1] / "lock").touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: parts[1].stat().st_uid + 1)
        assert sweep() == []
    assert sorted(everything(tmp_path)) == sorted(parts)
    assert sweep() == [parts[1]]
    assert everything(tmp_path) == []
