"""The log of a live table: one file of changes, each whole or not there.

A change is a line of JSON in ASCII, and then its ids:

    {"version": 17, "at": 1767225600.0, "replace": false, "groups": [["", 2, 3, 23]], "bytes": 23, "crc32": 1}
    1095275<FF>1081313<FF>933835

A group is a store ("" is the whole shop), a state, the number of its ids, and their bytes. Ids are UTF-8,
separated by the byte FF, which no UTF-8 text has. The CRC covers all ids of the change. A change that was
being written when its writer died has no whole line, too few bytes or another CRC.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any, Final, NamedTuple

BETWEEN: Final = b"\xff"
UNSAID, AVAILABLE, GONE = 0, 1, 2  # states; UNSAID: a store has what the whole shop has
WHOLE_SHOP: Final = ""
MOST_HEADER_BYTES: Final = 4 << 20  # a thousand stores in three states, their names in escapes, take 2.4 MiB
STOCK: Final = "stock.log"
FOLDER_VARIABLE: Final = "CESTA_LIVE_FOLDER"  # by which the supervisor tells the samplers where the logs are
FOLLOWERS: Final = "followers"  # a folder with a file for each sampler process


class Group(NamedTuple):
    """Ids of one store in one state."""

    store: str
    state: int
    ids_count: int
    ids: bytes  # joined by BETWEEN

    def names(self) -> list[str]:
        """The ids, one by one."""
        return [name.decode() for name in self.ids.split(BETWEEN)] if self.ids else []


class Change(NamedTuple):
    """One version of a table, as the difference to the version before; all of it if `replace` is set."""

    version: int
    at: float  # Unix time
    replace: bool
    groups: tuple[Group, ...]


class Read(NamedTuple):
    """What a log holds after a place: its changes, the place after the last, and what is wrong there."""

    changes: list[Change]
    end: int
    damage: str | None


def encode(change: Change) -> bytes:
    """The bytes of a change in the log."""
    blob = b"".join(group.ids for group in change.groups)
    header = {
        "version": change.version,
        "at": change.at,
        "replace": change.replace,
        "groups": [[g.store, g.state, g.ids_count, len(g.ids)] for g in change.groups],
        "bytes": len(blob),
        "crc32": zlib.crc32(blob),
    }
    return json.dumps(header).encode() + b"\n" + blob


def read_from(log: Path, start: int = 0) -> Read:
    """The whole changes of a log from ``start`` on. Raises OSError."""
    with log.open("rb") as file:
        file.seek(start)
        size, place = os.fstat(file.fileno()).st_size, start
        changes: list[Change] = []
        while place < size:
            change = _next(file)
            if change is None:
                return Read(changes, place, f"{log} is damaged or unfinished after byte {place}")
            changes.append(change)
            place = file.tell()
    return Read(changes, place, None)


def _next(file: Any) -> Change | None:
    """The change that begins here, or None if it is not whole."""
    line = file.readline(MOST_HEADER_BYTES)
    try:
        header = json.loads(line) if line.endswith(b"\n") else {}
        blob = file.read(int(header["bytes"]))
        if len(blob) != header["bytes"] or zlib.crc32(blob) != header["crc32"]:
            return None
        groups, at = [], 0
        for store, state, count, size in header["groups"]:
            groups.append(Group(str(store), int(state), int(count), blob[at : at + size]))
            at += size
        return Change(int(header["version"]), float(header["at"]), bool(header["replace"]), tuple(groups))
    except (ValueError, KeyError, TypeError):
        return None
