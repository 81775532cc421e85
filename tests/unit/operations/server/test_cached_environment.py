"""The serving environment in the cache folder appears whole or not at all; pip checks hashes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from operations.server import cached_environment
from operations.server.cached_environment import ServerError, find_made, make, place
from tests import ROOT

VERSION = ".".join(map(str, sys.version_info[:2]))
MAKE = """
import sys
from pathlib import Path
from operations.server import cached_environment as it
it.LOCK = Path(sys.argv[1])
print(it.make(sys.executable, sys.argv[2], lambda step: print(step, flush=True)))
"""


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock file of one small package, which lies in a folder; the cache folder is empty."""
    (tmp_path / "wheels").mkdir()
    wheel = tmp_path / "wheels" / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "GREETING = 'hello'\n")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(
            "tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\n")
    path = tmp_path / "serving.lock"
    path.write_text(f"tiny==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setattr(cached_environment, "LOCK", path)
    return path


def start(lock: Path) -> subprocess.Popen[str]:
    """Make it in a process of its own, which prints each step and then the folder."""
    command = [sys.executable, "-c", MAKE, str(lock), VERSION]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)


def holds_tiny(environment: Path) -> bool:
    code = "import tiny; print(tiny.GREETING)"
    return subprocess.check_output([environment / "bin" / "python", "-c", code], text=True) == "hello\n"


def test_a_package_with_another_hash_is_refused(lock: Path) -> None:
    """With pip's words, and nothing is left that could be taken for an environment."""
    lock.write_text(f"tiny==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    with pytest.raises(ServerError, match=r"could not be made: .*(?s:.*)Got +[0-9a-f]{64}"):
        make(sys.executable, VERSION, lambda step: None)
    assert find_made(VERSION) is None
    assert [path.suffix for path in place(VERSION).parent.iterdir()] == [".lock"]


def test_a_killed_process_leaves_nothing_and_two_at_once_make_one(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip waits for an index that never answers when the process is killed. The next two start afresh."""
    with socket.create_server(("127.0.0.1", 0)) as index:
        with monkeypatch.context() as patch:
            patch.delenv("PIP_NO_INDEX")
            patch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{index.getsockname()[1]}/simple")
            patch.setenv("PIP_EXTRA_INDEX_URL", "")
            patch.setenv("PIP_CONFIG_FILE", os.devnull)
            killed = start(lock)
        with index.accept()[0]:  # pip asks
            os.killpg(killed.pid, signal.SIGKILL)
            killed.communicate(timeout=10)
    partial = place(VERSION).with_name(f"{place(VERSION).name}.partial")
    assert (partial / "bin" / "python").exists()
    assert find_made(VERSION) is None
    (partial / "half").touch()

    first = start(lock)
    assert first.stdout.readline() == "a virtual environment\n"
    second = start(lock)
    assert second.stdout.readline() == "another process makes it; waiting\n"
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in (first, second)]
    assert outputs == [["tiny", "unpacking", str(place(VERSION))], [str(place(VERSION))]]
    assert find_made(VERSION) == place(VERSION)
    assert holds_tiny(place(VERSION))
    assert not partial.exists()
    assert not (place(VERSION) / "half").exists()


def test_a_newer_lock_has_its_own_environment(lock: Path) -> None:
    """So has another Python; the one that is asked for comes first."""
    before = place("3.11")
    for version in ("3.11", "3.12"):
        place(version).mkdir(parents=True)
    assert (find_made("3.12"), find_made("3.11"), find_made("3.13")) == (place("3.12"), before, place("3.12"))
    lock.write_text(lock.read_text() + "\n")
    assert place("3.11") != before
    assert find_made("3.11") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to another user, which only root can")
def test_the_folder_of_another_user_is_refused(lock: Path) -> None:
    """Also the folder in which it would be made. Root may have made it for all."""
    place(VERSION).mkdir(parents=True)
    assert find_made(VERSION) == place(VERSION)
    os.chown(place(VERSION), 12345, -1)
    for look in (find_made, lambda version: make(sys.executable, version, lambda step: None)):
        with pytest.raises(ServerError, match="belongs to another user"):
            look(VERSION)
    place(VERSION).rmdir()
    os.chown(place(VERSION).parent, 12345, -1)
    with pytest.raises(ServerError, match="serving belongs to another user"):
        make(sys.executable, VERSION, lambda step: None)


def test_a_full_disk_is_named_before_anything_is_made(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 2**30))
    with pytest.raises(
        ServerError, match=r"serving has 1\.0 GiB free, and the serving environment needs 2 while"
    ):
        make(sys.executable, VERSION, lambda step: None)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError()))
    with pytest.raises(ServerError, match="set XDG_CACHE_HOME"):
        place("3.11")
