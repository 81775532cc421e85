"""Links to paths that tritonserver's shell lines and nginx's configuration cannot hold."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from operations import plain_path as module
from operations.errors import CestaError
from operations.plain_path import is_plain, plain_path

ODD = [
    "a b",
    "a;b",
    "$HOME",
    "a'b",
    'a"b',
    "a\nb",
    "100%",
    "a#b",
    "café",
    "a{b}",
    "a:b",
    "a\\b",
    "a(b",
    "*",
    "a~",
]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place for links, of this test alone; it is short, as places must be."""
    with tempfile.TemporaryDirectory(prefix="cesta-", dir="/tmp") as folder:
        monkeypatch.setattr(module, "_PLACES", (folder,))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "odd tmp"))
        yield Path(folder)


def test_a_plain_path_stays(tmp_path: Path, place: Path) -> None:
    assert plain_path(tmp_path) == tmp_path
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("name", ODD)
def test_an_odd_path_has_one_short_plain_link_for_ever(tmp_path: Path, place: Path, name: str) -> None:
    odd = tmp_path / name / "repository"
    odd.mkdir(parents=True)
    link = plain_path(odd)
    assert is_plain(link)
    assert len(bytes(link)) <= 75
    assert link.resolve() == odd.resolve()
    assert plain_path(odd) == link
    link.unlink()  # by a cleaner of /tmp
    assert plain_path(odd) == link
    assert link.samefile(odd)
    assert plain_path(tmp_path / "another one") != link


def test_a_path_that_is_too_long_has_a_link(tmp_path: Path, place: Path) -> None:
    long = tmp_path / ("x" * 120)
    assert plain_path(long) == long
    assert len(bytes(plain_path(long, longest=90))) <= 90


def test_a_link_that_leads_elsewhere_is_replaced(tmp_path: Path) -> None:
    link = plain_path(tmp_path / "a b")
    link.unlink()
    link.symlink_to("/etc")
    assert plain_path(tmp_path / "a b").readlink() == tmp_path / "a b"


def test_old_links_to_what_is_gone_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    old, young, lives = (plain_path(tmp_path / name) for name in ("a;b", "a(b", "a b"))
    for link in (old, lives):
        os.utime(link, (0, 0), follow_symlinks=False)
    plain_path(tmp_path / "another one")
    assert [link.is_symlink() for link in (old, young, lives)] == [False, True, True]


def test_another_user_s_folder_holds_no_links(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In /tmp any user can make a folder of any name, or a link of that name."""
    (tmp_path / "theirs").mkdir()
    (place / f"cesta-links-{os.geteuid()}").symlink_to(tmp_path / "theirs")
    with pytest.raises(
        CestaError, match=r"a b is too long, or has characters .* choose a short path of ASCII"
    ):
        plain_path(tmp_path / "a b")
    assert list((tmp_path / "theirs").iterdir()) == []
