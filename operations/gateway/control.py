"""nginx's control socket: it announces changes of the gateway's folder, and gives the metrics.

The socket lies in the folder, which containers share. A gateway that cannot be told finds a change by itself
within a second.
"""

import contextlib
import http.client
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from operations.errors import CestaError, KeyKept

TOKEN: Final = "admin_token"  # the file of the token that the gateway sends with admins' requests
NO_HEADERS: Final[Mapping[str, str]] = {}
MAX_PATH_BYTES: Final = 107  # of a unix socket, in Linux
_RELOAD_S = 10.0
_METRICS_S = 1.0


def control_socket(folder: Path) -> Path:
    """Return the socket's path in the gateway's folder."""
    return folder / "run" / "control.sock"


def announce(folder: Path) -> bool:
    """Have the gateway read keys and split again; return False if none answers.

    Returns when all workers use the new files.

    Raises:
        CestaError: a file cannot be read; the gateway keeps what it had.
    """
    answer = _ask(folder, "POST", "/reload", _RELOAD_S)
    if answer is None:
        return False
    status, text = answer
    if status != 204:
        raise CestaError(f"the gateway does not take over {folder}: {text.strip() or status}")
    return True


def forget(folder: Path, sha256: str) -> bool:
    """Have the gateway refuse a key until it starts again; return False if none does.

    Every user can reach the socket and read the hashes. Only the gateway's user knows the admin token.
    """
    try:
        token = (folder / TOKEN).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return False
    answer = _ask(folder, "POST", f"/forget?sha256={sha256}", _RELOAD_S, {"X-Cesta-Admin": token})
    return answer is not None and answer[0] == 204


def forget_kept(folder: Path, name: str, kept: KeyKept) -> str:
    """Have the gateway refuse a key that its file keeps; return a sentence that tells what holds now."""
    gateway = (
        "the running gateway refuses it until it starts again"
        if all(forget(folder, sha256) for sha256 in kept.hashes)
        else "no gateway answers on this folder"
    )
    return f'{kept}. The key "{name}" is still in the file: revoke it again then; {gateway}'


def read_metrics(folder: Path) -> str | None:
    """Return the gateway's metrics in Prometheus' text format; None if no gateway answers within a second."""
    answer = _ask(folder, "GET", "/metrics", _METRICS_S)
    return answer[1] if answer and answer[0] == 200 else None


def is_listening(folder: Path) -> bool:
    """Tell whether a gateway listens on its control socket."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        _connect(probe, control_socket(folder))
        return True
    return False


def remove_stale_socket(folder: Path) -> None:
    """Remove the socket of a killed nginx, on which the next one could not listen.

    Raises:
        CestaError: a gateway listens on it.
    """
    if is_listening(folder):
        raise CestaError(f"a gateway already runs on {folder}; stop it, or choose another folder")
    control_socket(folder).unlink(missing_ok=True)


def _ask(
    folder: Path, method: str, path: str, timeout_s: float, headers: Mapping[str, str] = NO_HEADERS
) -> tuple[int, str] | None:
    """Return status and text of an answer, or None without one."""
    with contextlib.closing(_Connection(control_socket(folder), timeout_s)) as connection:
        try:
            connection.request(method, path, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return None


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("gateway", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        _connect(self.sock, self._path)


def _connect(unix: socket.socket, path: Path) -> None:
    """Connect to the socket at a path of any length: the kernel is given a short name of its folder."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        unix.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
