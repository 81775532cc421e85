"""The peers' environments: one each, since what they pin does not go together."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PEERS: Final = ROOT / ".venv-peers"
_STAMP: Final = ".installed"


class NotInstalledError(Exception):
    """A peer that cannot be installed here; the text is pip's own reason."""


def environment(peer: str, folder: Path = PEERS) -> Path:
    """The interpreter of the peer's environment, made from `peers/<peer>.txt` unless it is there."""
    wanted = Path(__file__).with_name("peers") / f"{peer}.txt"
    home, digest = folder / peer, hashlib.sha256(wanted.read_bytes()).hexdigest()
    python, stamp = home / "bin" / "python", home / _STAMP
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        return python
    shutil.rmtree(home, ignore_errors=True)
    print(f"installing {peer} into {home} …", file=sys.stderr)
    _run([sys.executable, "-m", "venv", str(home)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(wanted)])
    stamp.write_text(digest, encoding="utf-8")
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr]
        raise NotInstalledError(reasons[-1][-300:])
