"""Every secret that cesta writes can be read by its user only, whatever the umask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from operations.gateway.link import admin_token
from operations.releases.signatures.trust import publisher_key
from operations.server.control_secret import make_secret
from operations.stack.programs import write_webhooks


@pytest.fixture(autouse=True)
def careless() -> Iterator[None]:
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_secrets_are_written_for_their_user_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trusted keys are no secret, but nobody else may write them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    make_secret()
    publisher_key()
    admin_token(tmp_path / "gateway")
    write_webhooks(tmp_path / "alertmanager" / "secrets")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {
        **dict.fromkeys(("control-secret", "signing-key", "admin_token"), 0o600),
        **dict.fromkeys(("critical_url", "warning_url"), 0o600),
        "trusted-keys": 0o644,
    }
    for folder in (tmp_path / "state" / "cesta", tmp_path / "alertmanager" / "secrets"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_webhooks_of_an_older_cesta_are_closed(tmp_path: Path) -> None:
    """Their text stays."""
    (tmp_path / "critical_url").write_text("https://chat.example/hook")
    write_webhooks(tmp_path)
    assert (tmp_path / "critical_url").read_text() == "https://chat.example/hook"
    assert (tmp_path / "critical_url").stat().st_mode & 0o777 == 0o600
