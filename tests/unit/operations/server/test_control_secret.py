"""Where the control secret comes from, and which secrets are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from operations.server.control_secret import (
    FILE_VARIABLE,
    VARIABLE,
    find_secret,
    hide_argument,
    make_secret,
    secret_file,
)
from operations.server.process import ServerError

SECRET = "of-the-operator-0123456789"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for variable in (VARIABLE, FILE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "state"


def test_a_secret_is_made_once_for_this_user_only(state: Path) -> None:
    """There is none at first. Afterwards it stays the same, in a file that nobody else can read."""
    assert find_secret() == ""
    made = make_secret()
    assert make_secret() == find_secret() == made
    assert len(made) >= 32
    assert list(state.rglob("*")) == [state / "cesta", secret_file()]
    assert secret_file().stat().st_mode & 0o077 == 0


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order: the variable, the file that a variable names (docker secrets have one), the user's file."""
    make_secret()
    named = tmp_path / "mounted"
    named.write_text(SECRET + "\n")
    monkeypatch.setenv(FILE_VARIABLE, str(named))
    assert find_secret() == make_secret() == SECRET
    monkeypatch.setenv(VARIABLE, "another-one-0123456789")
    assert find_secret() == "another-one-0123456789"


@pytest.mark.parametrize("text", ["short", "with,comma-0123456789", "with space 0123456789", "ü" * 20])
def test_a_secret_that_triton_could_not_carry_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The error names the variable, and does not repeat what may be half a secret."""
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ServerError, match=rf"{VARIABLE} must hold 16 to 256 .*openssl") as caught:
        find_secret()
    assert text not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong path must not leave the server open."""
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(ServerError, match="nowhere"):
        make_secret()


def test_an_argument_is_overwritten_wherever_it_stands() -> None:
    """The argument is another process's; its neighbours stay."""
    waiting = [sys.executable, "-c", "print(); input()", f"--one=a:b={SECRET}", f"--two={SECRET}", "last"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()  # it runs
        hide_argument(process.pid, SECRET)
        shown = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")[3:6]
        process.communicate("\n")
    hidden = "x" * len(SECRET)
    assert shown == [f"--one=a:b={hidden}", f"--two={hidden}", "last"]
