"""The secrets of docker-compose.yml: which files there are, and which container's user reads each."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from operations.releases.signatures.trust import publisher_key
from tests import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_the_secrets_are_files_that_are_made(tmp_path: Path) -> None:
    """The script makes each secret that compose names and keeps existing ones. Git does not see them."""
    make = ["sh", str(ROOT / "deploy" / "make_secrets.sh")]
    for _ in range(2):
        subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
        made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    assert made == {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700  # no other user of this machine reads them
    assert {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()} == made.keys()
    assert all(made.values())
    assert "/secrets/" in (ROOT / ".gitignore").read_text().split()


def test_the_object_store_lets_in_who_has_triton_s_credentials(tmp_path: Path) -> None:
    """Both files have one pair, also after somebody wrote his own."""
    make = ["sh", str(ROOT / "deploy" / "make_secrets.sh")]
    secrets = tmp_path / "secrets"
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    (identity,) = json.loads((secrets / "registry_keys").read_text())["identities"]
    (pair,) = identity["credentials"]
    assert re.findall(r" = (\S+)$", (secrets / "registry_credentials").read_text(), re.MULTILINE) == [
        pair["accessKey"],
        pair["secretKey"],
    ]
    own = "[default]\naws_secret_access_key=s3cret+/\naws_access_key_id=me\n"
    (secrets / "registry_credentials").write_text(own)
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    (identity,) = json.loads((secrets / "registry_keys").read_text())["identities"]
    assert identity["credentials"] == [{"accessKey": "me", "secretKey": "s3cret+/"}]


def reads(user: str, path: Path) -> bool:
    """Can a container's ``uid:gid``, which has no capabilities, read a file that is mounted by itself?"""
    uid, _, gid = user.partition(":")
    described = path.stat()
    if described.st_uid == int(uid):
        return bool(described.st_mode & 0o400)
    return bool(described.st_mode & (0o040 if described.st_gid == int(gid or 0) else 0o004))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, which only root can")
def test_only_the_container_that_needs_a_secret_can_read_it(tmp_path: Path) -> None:
    """Where root makes them. Each service reads its own, and no other user of the machine any."""
    subprocess.run(["sh", ROOT / "deploy" / "make_secrets.sh"], cwd=tmp_path, check=True, capture_output=True)
    files = {name: tmp_path / secret["file"] for name, secret in COMPOSE["secrets"].items()}
    for name, service in SERVICES.items():
        unreadable = [s for s in service.get("secrets", ()) if not reads(service["user"], files[s])]
        assert (name, unreadable) == (name, [])
    assert [name for name, path in files.items() if reads("12345:12345", path)] == []
    assert not reads(SERVICES["grafana"]["user"], files["control_secret"])


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")
def test_an_ordinary_user_s_secrets_are_kept_by_their_folder(tmp_path: Path) -> None:
    """He cannot give files to the containers' users, so that the files are readable and the folder is not."""
    for folder in (tmp_path, *tmp_path.parents[:-2]):  # those below /tmp
        folder.chmod(0o755)
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", 12345, 12345)
    script = tmp_path / "make_secrets.sh"
    script.write_text((ROOT / "deploy" / "make_secrets.sh").read_text())
    subprocess.run(
        ["sh", script], cwd=tmp_path / "home", check=True, capture_output=True, user=12345, group=12345
    )
    secrets = tmp_path / "home" / "secrets"
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert all(reads("10001:10001", path) for path in secrets.iterdir())


def test_the_publishers_whom_this_user_trusts_are_trusted_in_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once there are any: the script may run before the first release is published."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    make = ["sh", str(ROOT / "deploy" / "make_secrets.sh")]
    assert b"publish a release" in subprocess.run(make, cwd=tmp_path, check=True, capture_output=True).stdout
    publisher_key()
    assert (
        b"publish a release" not in subprocess.run(make, cwd=tmp_path, check=True, capture_output=True).stdout
    )
    mine = (tmp_path / "state" / "cesta" / "trusted-keys").read_text()
    assert (tmp_path / "secrets" / "trusted_keys").read_text().endswith(mine)
