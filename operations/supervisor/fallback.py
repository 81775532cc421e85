"""The previous release answers while the active one cannot be served.

The active release stays the active one: the configs on disk do not change. A promotion or a rollback ends
the fallback, and so does the next start that can serve the active release.
"""

from dataclasses import dataclass

import structlog

from operations.errors import CestaError
from operations.releases import history
from operations.releases.history import Action
from operations.releases.repository import active_release
from operations.releases.stores.store import Repository

log = structlog.get_logger()


@dataclass(frozen=True)
class Fallback:
    """The release that answers in place of ``active``, which is None if the ensemble's config is damaged."""

    release: int
    active: int | None
    reason: str
    records: int  # of the history when it began


def find_fallback(repository: Repository, reason: str) -> Fallback | None:
    """The previous release, to answer for the active one; None if none was active before."""
    try:
        active = active_release(repository)
    except CestaError:
        active = None
    earlier = [number for number in history.line_of_succession(repository) if number != active]
    if not earlier:
        return None
    return Fallback(earlier[-1], active, reason, len(history.read(repository)))


def is_over(fallback: Fallback, records: list[history.Record]) -> bool:
    """Has a promotion or a rollback, among the records of the history, ended it?"""
    return any(history.is_switch(record) for record in records[fallback.records :])


def record_start(repository: Repository, release: int, fallback: Fallback | None) -> None:
    """Note in the history that a fallback has begun or ended; nothing if the history says so already."""
    try:
        lasting = history.fallback(history.read(repository))
        if fallback and not _is_recorded(fallback, lasting):
            about: history.Details = {"before": fallback.active, "why": fallback.reason}
            history.append(repository, Action.FALLBACK, release, **about)
        elif lasting and not fallback:
            history.append(repository, Action.END_FALLBACK, release, before=lasting["release"])
    except (CestaError, OSError) as error:
        log.warning("fallback not recorded", reason=str(error))


def _is_recorded(fallback: Fallback, lasting: history.Record | None) -> bool:
    """Starts that follow one another for the same reason have one record."""
    if lasting is None:
        return False
    return (lasting["release"], lasting.get("why")) == (fallback.release, fallback.reason)
