"""``promotions.jsonl``: who changed what is active, when and how. One JSON object a line, only added to.

The ensemble's config decides which release is active. The history decides which one a rollback returns to.
"""

import getpass
import json
import os
import socket
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypedDict, Unpack

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE
from operations.releases.repository import CONFIG, active_release
from operations.releases.stores.store import Repository

NAME: Final = "promotions.jsonl"


class Action(StrEnum):
    """A change of a release; the value of the history's key ``what``."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    CANARY = "canary"
    END_CANARY = "end canary"
    RETIRE = "retire"
    FALLBACK = "fallback"  # of a starting server to ``release``, because it cannot serve the active one
    END_FALLBACK = "end fallback"  # a later start can


SWITCHES: Final = (Action.PROMOTE, Action.ROLLBACK)  # these change the active release


class Forced(TypedDict, total=False):
    """The gate's part of a record; empty if the gate did not object."""

    forced: list[str]  # the objections


class Admission(Forced, total=False):
    """How a release was admitted; empty if it passed all checks."""

    untried: str  # why no second server tried it before it was loaded


class Details(Admission, total=False):
    """The keys of a record beside moment, operator, action and release; each may be missing."""

    before: int | None  # the release that was active
    server: str | None  # None: only the next start was changed
    seconds: dict[str, float]  # step → how long it took
    percent: float  # a canary release's share of the requests
    failed: str  # the step at which the change was undone
    why: str


class Record(Details):
    """One change of a repository."""

    at: str  # ISO 8601
    who: str
    what: str  # an Action; one that this version does not know is kept
    release: int


def append(
    repository: Repository, what: Action, release: int, *, who: str | None = None, **details: Unpack[Details]
) -> Record:
    """Add a record, on disk when this returns, and return it. ``who`` is by default this process's user."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    record: Record = {"at": at, "who": who or _user(), "what": what, "release": release, **details}
    repository.append(NAME, json.dumps(record, ensure_ascii=False))
    return record


def read(repository: Repository) -> list[Record]:
    """All records, oldest first. A line that a power failure cut off, or that a disk damaged, is skipped."""
    path = repository / NAME
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    return [record for line in lines if (record := _parse(line)) is not None]


def is_switch(record: Record) -> bool:
    """Has this change made a release the active one?"""
    return "failed" not in record and record["what"] in SWITCHES


def known_active(repository: Repository) -> int | None:
    """The active release; None if none ever was. Raises CestaError if one was, and its config is gone.

    A damaged repository is not an empty one: a first release passes no gate and is promoted behind the back
    of a running server.
    """
    active = active_release(repository)
    if active is None and (line := _switched_to(repository)):
        raise CestaError(
            f"{repository / ENSEMBLE / CONFIG} is missing, but release {line[-1]} was promoted there, so the "
            "repository is damaged and not new; put the file back, or type "
            f'"cesta release promote {line[-1]} --offline" and restart its server'
        )
    return active


def is_half_promoted(repository: Repository) -> bool:
    """Was a promotion killed between its configs and its record? The server may not have switched then."""
    line = _switched_to(repository)
    return bool(line) and line[-1] != active_release(repository)


def line_of_succession(repository: Repository) -> list[int]:
    """Releases that were active, oldest first: the last is the active one, the one before it the previous.

    A promotion adds to the line, a rollback takes from it.
    """
    line = _switched_to(repository)
    try:
        active = active_release(repository)
    except CestaError:  # its config is damaged; then the history is all there is
        return line
    return [number for number in line if number != active] + ([] if active is None else [active])


def fallback(records: list[Record]) -> Record | None:
    """The record of the fallback that lasts, if one does."""
    for record in reversed(records):
        if record["what"] == Action.FALLBACK:
            return record
        if record["what"] == Action.END_FALLBACK or is_switch(record):
            return None
    return None


def previous(repository: Repository) -> int | None:
    """The release that was active before the active one; None if there was none."""
    line = line_of_succession(repository)
    return line[-2] if len(line) > 1 else None


def was_rolled_back(repository: Repository, release: int) -> bool:
    """Did the last change that concerned ``release`` roll back from it?"""
    for record in filter(is_switch, reversed(read(repository))):
        if record["release"] == release:
            return False
        if record["what"] == Action.ROLLBACK and record.get("before") == release:
            return True
    return False


def numbers(repository: Repository) -> set[int]:
    """Every release that was ever changed. A number is never given twice, since caches outlive a release.

    A failed change is left out: it may name a release that never existed.
    """
    return {record["release"] for record in read(repository) if "failed" not in record}


def _switched_to(repository: Repository) -> list[int]:
    line: list[int] = []
    for record in filter(is_switch, read(repository)):
        release = record["release"]
        if release in line:  # returned to, or promoted a second time: it counts once, as the last
            at = line.index(release)
            line = line[: at + 1] if record["what"] == Action.ROLLBACK else line[:at] + line[at + 1 :]
        if release not in line:
            line.append(release)
    return line


def _parse(line: bytes) -> Record | None:
    """The record of a line; None if it names no action and no release."""
    try:
        record: Record = json.loads(line)
        is_whole = isinstance(record["what"], str) and isinstance(record["release"], int)
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return record if is_whole else None


def _user() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has a number and no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
