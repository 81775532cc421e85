"""Installs an environment for each peer. They cannot share one because their pins conflict."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PEERS: Final = ROOT / ".venv-peers"
_STAMP: Final = ".installed"


class NotInstalledError(Exception):
    """A peer cannot be installed on this machine; the text is pip's own reason."""


def ensure_environment(peer: str, folder: Path = PEERS) -> Path:
    """The interpreter of the peer's environment. A missing or old one is made from `peers/<peer>.txt`."""
    pins = ROOT / "loadtests" / "peers" / f"{peer}.txt"
    home, digest = folder / peer, hashlib.sha256(pins.read_bytes()).hexdigest()
    python, stamp = home / "bin" / "python", home / _STAMP
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        return python
    shutil.rmtree(home, ignore_errors=True)
    print(f"installing {peer} into {home} …", file=sys.stderr)
    _run([sys.executable, "-m", "venv", str(home)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)])
    stamp.write_text(digest, encoding="utf-8")
    return python


def _run(command: list[str]) -> None:
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        reasons = [line for line in process.stderr.splitlines() if line.startswith("ERROR")] or [
            process.stderr
        ]
        raise NotInstalledError(reasons[-1][-300:])
