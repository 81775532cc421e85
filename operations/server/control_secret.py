"""The secret that Triton asks for before it loads, unloads, traces or shares memory: found, made, hidden.

Triton takes it on its command line alone, which everybody can read; `hide_argument` overwrites it there.
Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
from pathlib import Path

from .environment import ServerError

VARIABLE = "CESTA_CONTROL_SECRET"
FILE_VARIABLE = "CESTA_CONTROL_SECRET_FILE"
HTTP_HEADER = "cesta-control-secret"
GRPC_HEADER = f"triton-grpc-protocol-{HTTP_HEADER}"  # Triton puts that before the name
# model-config and statistics only read: `cesta release` and the watchdog ask for them without a secret.
RESTRICTED = ("model-repository", "shared-memory", "trace", "logging")

_PLAIN = re.compile(r"[A-Za-z0-9_-]{16,256}")  # Triton splits its option at commas, colons and equals signs


def secret_file() -> Path:
    """Where `make_secret` keeps one, in the user's state folder."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "cesta" / "control-secret"


def find_secret() -> str:
    """From `$CESTA_CONTROL_SECRET`, else the file of `$CESTA_CONTROL_SECRET_FILE`, else the user's; or "".

    Raises `ServerError` if it cannot be read or used.
    """
    if text := os.environ.get(VARIABLE):
        return check_secret(text, VARIABLE)
    if named := os.environ.get(FILE_VARIABLE):
        return _read(Path(named))
    return _read(secret_file()) if secret_file().exists() else ""


def make_secret() -> str:
    """As `find_secret`; where there is none, one is made that only this user can read."""
    if found := find_secret():
        return found
    path = secret_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_once(path, secrets.token_urlsafe(32))
    except OSError as error:
        raise ServerError(
            f"{path} cannot be written ({error.strerror}); set {FILE_VARIABLE} to a file with a secret"
        ) from None
    return _read(path)


def check_secret(text: str, origin: str) -> str:
    """The secret itself; raises `ServerError` if Triton or a header could not carry it."""
    if not _PLAIN.fullmatch(text):
        raise ServerError(
            f"{origin} must hold 16 to 256 letters, digits, - and _ ({len(text)} characters found); "
            'make one with "openssl rand -hex 32"'
        )
    return text


def hide_argument(pid: int, secret: str) -> None:
    """Overwrite `secret` with x's wherever it stands in the command line of `pid`, as `ps` shows it.

    Raises OSError where the kernel does not let a parent write to its child's memory.
    """
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    start, end = int(stat[45]), int(stat[46])  # arg_start and arg_end, fields 48 and 49 of proc(5)
    if not 0 < start < end:  # the kernel shows zeros to those who may not look
        raise PermissionError(f"/proc/{pid}/stat does not tell where its command line is")
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:  # noqa: PTH123 - unbuffered, in place
        memory.seek(start)
        arguments = memory.read(end - start)
        for found in re.finditer(re.escape(secret.encode()), arguments):
            memory.seek(start + found.start())
            memory.write(b"x" * len(secret))


def _read(path: Path) -> str:
    try:
        return check_secret(path.read_text(encoding="utf-8").strip(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ServerError(f"the control secret cannot be read: {error}") from None


def _write_once(path: Path, text: str) -> None:
    """Whole and readable by the user alone, or not at all; a file that is there already stays."""
    descriptor, staged = tempfile.mkstemp(dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
        with contextlib.suppress(FileExistsError):  # of another start at the same moment
            os.link(staged, path)
    finally:
        Path(staged).unlink()
