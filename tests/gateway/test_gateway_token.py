"""The token that gateway and supervisor share, in two files; no nginx runs."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from operations.gateway import link
from operations.gateway.link import admin_token


def includes(folder: Path) -> str:
    return (folder / "admin_token.conf").read_text()


def test_the_token_is_made_once_for_its_user_only(tmp_path: Path) -> None:
    token = admin_token(tmp_path / "gateway")
    assert admin_token(tmp_path / "gateway") == token
    assert includes(tmp_path / "gateway") == f"proxy_set_header X-Cesta-Admin {token};\n"
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "gateway").iterdir()] == [0o600] * 2


@pytest.mark.parametrize("lost", ["admin_token", "admin_token.conf"])
def test_both_files_agree_again_when_one_is_lost(tmp_path: Path, lost: str) -> None:
    admin_token(tmp_path)
    (tmp_path / lost).unlink()
    token = admin_token(tmp_path)
    assert (tmp_path / "admin_token").read_text() == token
    assert token in includes(tmp_path)


def test_a_start_killed_between_the_two_files_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start completes the pair: nginx includes the same token that the supervisor reads."""
    writes, write_file = itertools.count(), link.write_file

    def killed_at_the_second(*where: object, **how: object) -> None:
        if next(writes):
            raise KeyboardInterrupt
        write_file(*where, **how)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(link, "write_file", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            admin_token(tmp_path)
    assert admin_token(tmp_path) in includes(tmp_path)
