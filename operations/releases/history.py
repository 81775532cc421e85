"""``promotions.jsonl``: who changed what is active, when and how; one JSON object a line, only added to.

The active release is what the ensemble's config pins, not what this file says: it tells the way back.
"""

import getpass
import json
import os
import socket
from datetime import UTC, datetime
from typing import Any

from operations.releases import store
from operations.releases.repository import active_release
from operations.releases.store import Repository

NAME = "promotions.jsonl"

Record = dict[str, Any]  # at, who, what, release; before, server, seconds, forced, failed


def append(
    repository: Repository, what: str, release: int, *, who: str | None = None, **details: Any
) -> Record:
    """Add a record and flush it to disk; returns it. ``who`` is by default the user of this process."""
    record: Record = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "who": who or _who()}
    record |= {"what": what, "release": release, **details}
    store.append(repository / NAME, record)
    return record


def read(repository: Repository) -> list[Record]:
    """All records, oldest first. A last line that was cut off by a power failure is passed over."""
    path = repository / NAME
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [record for line in lines if (record := _parsed(line)) is not None]


def line_of_succession(repository: Repository) -> list[int]:
    """Releases that were active, oldest first; the last is the active one, the one before it the previous.

    A promotion adds to the line, a rollback takes back from it.
    """
    line: list[int] = []
    for record in read(repository):
        if "failed" in record or record["what"] not in ("promote", "rollback"):
            continue
        if record["release"] in line:  # taken back, or promoted a second time: it counts once, as the last
            at = line.index(record["release"])
            line = line[: at + 1] if record["what"] == "rollback" else line[:at] + line[at + 1 :]
        if record["release"] not in line:
            line.append(record["release"])
    active = active_release(repository)
    return [number for number in line if number != active] + ([] if active is None else [active])


def previous(repository: Repository) -> int | None:
    """The release that was active before; None if there was none."""
    line = line_of_succession(repository)
    return line[-2] if len(line) > 1 else None


def numbers(repository: Repository) -> set[int]:
    """Every release that was ever changed: a number is never given twice, since caches outlive a release.

    What failed may have named a release that never was.
    """
    return {record["release"] for record in read(repository) if "failed" not in record}


def _parsed(line: str) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has a number and no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
