"""The secret that Triton requires before it loads, unloads, traces or shares memory.

Triton reads the secret only from its command line, which every user can see; `hide_argument` overwrites it
there. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
from pathlib import Path

from operations.errors import ServerError

VARIABLE = "CESTA_CONTROL_SECRET"
FILE_VARIABLE = "CESTA_CONTROL_SECRET_FILE"
HTTP_HEADER = "cesta-control-secret"
GRPC_HEADER = f"triton-grpc-protocol-{HTTP_HEADER}"  # Triton adds the prefix
# model-config and statistics only read, so `cesta release` and the watchdog need no secret for them.
RESTRICTED = ("model-repository", "shared-memory", "trace", "logging")

_PLAIN = re.compile(r"[A-Za-z0-9_-]{16,256}")  # Triton splits its option at commas, colons and equals signs


def state_folder() -> Path:
    """Return the folder of cesta's own secrets and keys, in the user's state folder.

    Raises `ServerError` if the user has none.
    """
    state = os.environ.get("XDG_STATE_HOME")
    try:
        return Path(state or Path.home() / ".local" / "state") / "cesta"
    except RuntimeError:  # neither $HOME nor an entry in /etc/passwd
        raise ServerError(
            "this user has no home folder for cesta's secrets and keys; set HOME or XDG_STATE_HOME"
        ) from None


def secret_file() -> Path:
    """Return the file of `make_secret`, in the user's state folder."""
    return state_folder() / "control-secret"


def find_secret() -> str:
    """Return `$CESTA_CONTROL_SECRET`, else the text of `$CESTA_CONTROL_SECRET_FILE` or `secret_file`, or "".

    Raises `ServerError` if the secret cannot be read or used.
    """
    if text := os.environ.get(VARIABLE):
        return check_secret(text, VARIABLE)
    if path := os.environ.get(FILE_VARIABLE):
        return _read(Path(path))
    return _read(secret_file()) if secret_file().exists() else ""


def make_secret() -> str:
    """Return the secret of `find_secret`; if there is none, make one that only this user can read."""
    if secret := find_secret():
        return secret
    path = secret_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_once(path, secrets.token_urlsafe(32))
    except OSError as error:
        raise ServerError(
            f"{path} cannot be written ({error.strerror}); set {FILE_VARIABLE} to a file with a secret"
        ) from None
    return _read(path)


def check_secret(text: str, origin: str) -> str:
    """Return the secret. Raises `ServerError` if Triton's option or a header cannot hold it."""
    if not _PLAIN.fullmatch(text):
        raise ServerError(
            f"{origin} must hold 16 to 256 letters, digits, - and _ (it has {len(text)} characters); "
            'make one with "openssl rand -hex 32"'
        )
    return text


def hide_argument(pid: int, secret: str) -> None:
    """Overwrite `secret` with x's everywhere in the command line of `pid`, as `ps` shows it.

    Raises OSError if the kernel does not let a parent write to its child's memory.
    """
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    start, end = int(stat[45]), int(stat[46])  # arg_start and arg_end, fields 48 and 49 of proc(5)
    if not 0 < start < end:  # the kernel shows zeros to other users
        raise PermissionError(f"/proc/{pid}/stat does not give the place of the command line")
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:  # noqa: PTH123 - unbuffered, in place
        memory.seek(start)
        arguments = memory.read(end - start)
        for match in re.finditer(re.escape(secret.encode()), arguments):
            memory.seek(start + match.start())
            memory.write(b"x" * len(secret))


def _read(path: Path) -> str:
    try:
        return check_secret(path.read_text(encoding="utf-8").strip(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ServerError(f"the control secret cannot be read: {error}") from None


def write_once(path: Path, text: str) -> None:
    """Write a complete file that only the user can read. An existing file stays."""
    descriptor, staged = tempfile.mkstemp(dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
        with contextlib.suppress(FileExistsError):  # of another start at the same moment
            os.link(staged, path)
    finally:
        Path(staged).unlink()
