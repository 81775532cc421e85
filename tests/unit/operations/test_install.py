"""`cesta install` on a machine that lacks something: preflight's sentence, and nothing is made."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from operations import cli, preflight
from operations.commands import install
from operations.server import cached_environment, libraries

Install = Callable[..., str]
VERSION = ".".join(map(str, sys.version_info[:2]))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Install:
    """Run `cesta install` as from a wheel, and return what it says. It ends with exit code 1."""
    monkeypatch.setattr(install, "is_checkout", lambda: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["cesta", "install", *words])
        with pytest.raises(SystemExit, match="1"):
            cli.main()
        assert not (tmp_path / "cache").exists()
        out, err = capsys.readouterr()
        assert out == ""
        return err

    return run


def test_a_missing_libpython_is_named_with_its_package(
    installed: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = libraries.libpython(VERSION)
    monkeypatch.setattr(libraries, "missing_libraries", lambda *_, **__: [library])
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    said = installed()
    assert said.startswith(f"Triton needs {library}, which this machine lacks; ")
    assert said.count("\n") == 1


def test_a_python_without_ensurepip_is_refused(installed: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    assert "cannot make virtual environments (no ensurepip); " in installed()


def test_a_newer_python_alone_says_how_to_get_an_older_one(
    installed: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way out ends with this command, not with make."""
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    monkeypatch.setattr(preflight, "other_pythons", lambda versions: [])
    said = installed()
    assert said.startswith(
        "Python 3.13 runs the application; Triton's models need Python 3.11 or 3.12 beside"
    )
    assert said.endswith(', then "cesta install" again\n')


def test_a_named_python_that_does_not_run_is_named(installed: Install, tmp_path: Path) -> None:
    wrong = tmp_path / "python3.12"
    assert installed("--python", str(wrong)) == (
        f"--python {wrong}: it does not run; give the path of a Python 3.12\n"
    )


def test_an_environment_that_is_named_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is one in a checkout, where `make install` makes it."""
    monkeypatch.setattr(cached_environment, "find_made", lambda first: pytest.fail("it was looked for"))
    install.prepare()
    monkeypatch.setattr(install, "is_checkout", lambda: False)
    monkeypatch.setenv("CESTA_SERVING_ENV", "/srv/environment")
    install.prepare()
