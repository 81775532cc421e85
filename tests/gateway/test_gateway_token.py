"""The token that gateway and supervisor share; no nginx runs."""

from __future__ import annotations

from pathlib import Path

from operations.gateway.link import admin_token


def test_the_token_is_made_once_for_its_user_only(tmp_path: Path) -> None:
    token = admin_token(tmp_path / "gateway")
    assert len(token) > 40
    assert admin_token(tmp_path / "gateway") == token
    (path,) = (tmp_path / "gateway").iterdir()
    assert (path.read_text(), path.stat().st_mode & 0o777) == (token, 0o600)
