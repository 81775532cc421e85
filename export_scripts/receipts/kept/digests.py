"""What tells a file from any other: a digest, which is remembered so that an old file is not read for it.

The digest of a local file is that of its content. It is remembered with what the file system says of the
file. Each write sets its change time (ctime), and no program can set that back, as it can the time of
modification. In a bucket the address and the store's version are enough.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Final

from ensemble.candidate_sampler import blanks
from export_scripts.receipts.reading.parts import Part
from operations.records.atomic import write_file
from operations.records.file_record import sha256

DIGITS: Final = 32
RECEIPTS: Final = Path(__file__).parents[1]
SETTLED_S: Final = 2  # after a write; a second write within a tick of the clock leaves the same time

State = list[int]


class Digests:
    """The digests of this run and, with a `path`, those that earlier runs have written there."""

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._known = path, _read(path)
        self._digests: dict[str, str] = {}  # of this run, by address
        self._states: dict[str, State] = {}  # of those that may be remembered

    def of(self, part: Part) -> str:
        address = str(part.path)
        if address not in self._digests:
            is_local = isinstance(part.path, Path)
            self._digests[address] = (
                self._of_content(Path(address))
                if is_local
                else short_digest(json.dumps([address, part.version, part.size]))
            )
        return self._digests[address]

    def write(self) -> None:
        """Remember the digests of this run."""
        if self._path:
            known = {
                address: [self._digests[address], *state] for address, state in sorted(self._states.items())
            }
            write_file(self._path, json.dumps(known, indent=0).encode())

    def _of_content(self, path: Path) -> str:
        started, state = time.time_ns(), _state(path)
        if started - state[0] > SETTLED_S * 10**9:
            self._states[str(path)] = state
            remembered = self._known.get(str(path), [])
            if remembered[1:] == state:
                return str(remembered[0])
        return sha256(path)[:DIGITS]


def digest_of_code() -> str:
    """Return what tells this code of reading from any other: all modules of receipts, and what is a blank."""
    modules = [*sorted(RECEIPTS.rglob("*.py")), Path(blanks.__file__)]
    return short_digest("".join(map(sha256, modules)))


def short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _state(path: Path) -> State:
    stat = path.stat()
    return [stat.st_ctime_ns, stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev]


def _read(path: Path | None) -> dict[str, list[str | int]]:
    """The content of the file; nothing if it is missing or damaged, so that every file is read."""
    try:
        known = json.loads(path.read_text()) if path else {}
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
