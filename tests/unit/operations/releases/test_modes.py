"""Everyone may read a release, whatever the umask of its publisher and the modes of his files."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from operations.gateway.keys import add_key
from operations.gateway.link import admin_token
from operations.gateway.split import write_split
from operations.releases import publish
from operations.releases.canary import start_canary
from operations.releases.promote import promote
from operations.releases.stores.store import open_repository
from tests import ROOT
from tests.building.runs import make_run

READER, PUBLISHER, OTHER = 10001, 20001, 20002  # a container's user, and two users of the machine


@pytest.fixture
def narrow_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def modes(root: Path) -> dict[str, int]:
    return {
        str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))
    }


@pytest.mark.usefixtures("narrow_umask")
def test_every_file_of_a_repository_is_0644_and_every_folder_0755(tmp_path: Path) -> None:
    """Configs, history, signatures, the canary's folder and the lock's room are no exception."""
    repository = open_repository(tmp_path / "new" / "repository")
    for seed in (1, 2, 3):
        run = make_run(tmp_path / f"run-{seed}", seed)
        for path in run.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
        publish.publish(run, repository)
    promote(repository, 1)
    promote(repository, 2)
    start_canary(repository, 3, 5)
    root = tmp_path / "new" / "repository"
    wrong = {
        name: oct(mode)
        for name, mode in modes(root).items()
        if mode != (0o755 if (root / name).is_dir() else 0o644)
    }
    assert wrong == {}


@pytest.mark.usefixtures("narrow_umask")
def test_the_gateway_of_another_user_can_read_keys_and_split_and_no_token(tmp_path: Path) -> None:
    add_key(tmp_path / "gateway", "webshop", "shop", 50)
    write_split(tmp_path / "gateway", 5)
    admin_token(tmp_path / "gateway")
    assert modes(tmp_path / "gateway") == {
        ".": 0o755,
        "keys.json": 0o644,
        "split.json": 0o644,
        "admin_token": 0o600,
    }


def as_user(user: int, umask: str, *command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run `cesta` as a user of the machine, with the system's Python: the tests' may lie in root's home."""
    python = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin")
    words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--inh-caps=-all"]
    shell = f'umask {umask}; exec "$@"'
    own = {
        "XDG_STATE_HOME": str(home),
        "HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return subprocess.run(
        [*words, "sh", "-c", shell, "sh", python or sys.executable, "-m", "operations.cli", *command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | own,
    )


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that all users reach. pytest's own is closed to others."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become other users")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def homes(place: Path) -> dict[int, Path]:
    """A state folder for each user."""
    made = {user: place / f"home-{user}" for user in (PUBLISHER, OTHER, READER)}
    for user, home in made.items():
        home.mkdir()
        os.chown(home, user, user)
    if (tried := as_user(READER, "022", "--help", home=made[READER])).returncode:
        pytest.skip(f"another user cannot run cesta here: {tried.stderr[-200:]}")
    return made


def test_a_container_s_user_verifies_what_two_nights_published_under_a_narrow_umask(
    place: Path, homes: dict[int, Path]
) -> None:
    """A second user who publishes into the repository of the first is refused with a sentence."""
    shop = place / "shop"
    shop.mkdir()
    for seed in (1, 2):
        make_run(shop / f"run-{seed}", seed)
        (shop / f"run-{seed}" / "model.onnx").chmod(0o600)
    subprocess.run(["chown", "-R", f"{PUBLISHER}:{PUBLISHER}", str(shop)], check=True)
    shop.chmod(0o755)
    repository = shop / "repository"
    for seed in (1, 2):
        (shop / "run").unlink(missing_ok=True)
        (shop / "run").symlink_to(shop / f"run-{seed}")
        told = ("publish", "--out", str(shop), "--repository", str(repository))
        done = as_user(PUBLISHER, "077", *told, home=homes[PUBLISHER])
        assert done.returncode == 0, done.stderr
    trusted = homes[PUBLISHER] / "cesta" / "trusted-keys"
    (homes[READER] / "cesta").mkdir()
    (homes[READER] / "cesta" / "trusted-keys").write_bytes(trusted.read_bytes())
    for release in ("1", "2"):
        read = as_user(
            READER, "022", "release", "verify", release, "--repository", str(repository), home=homes[READER]
        )
        assert read.returncode == 0, read.stderr
    (shop / "run-2" / "model.onnx").chmod(0o644)
    before = modes(repository)
    refused = as_user(OTHER, "022", *told, home=homes[OTHER])
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert f"{repository} belongs to user {PUBLISHER}, mode 0755, and this is user {OTHER}" in refused.stderr
    assert modes(repository) == before
    told = ("release", "promote", "2", "--offline", "--repository", str(repository))
    changed = as_user(OTHER, "022", *told, home=homes[OTHER])
    assert changed.returncode == 1
    assert "Traceback" not in changed.stderr
