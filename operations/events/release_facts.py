"""Facts of the active release for the event log: when its receipts begin, and which items it has.

Both are read in a thread of their own once a release has answered and the first event has come, so that a
shop without events pays nothing. Ids are kept as 8 bytes each.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
import structlog
from numpy.typing import NDArray

from operations.errors import CestaError
from operations.releases.categories import read_array
from operations.releases.repository import read_release
from operations.releases.stores.store import Repository

log = structlog.get_logger()


@dataclass(frozen=True)
class Facts:
    """``first_ms`` is the Unix time of the first receipt in milliseconds; None if the manifest lacks it."""

    release: int
    first_ms: int | None
    hashes: NDArray[np.int64]  # of the item ids, ascending


class ReleaseFacts:
    """Follows the release that ``active`` returns, whenever it is asked about it."""

    def __init__(self, repository: Repository, active: Callable[[], int | None]) -> None:
        self._repository, self._active = repository, active
        self._facts: Facts | None = None
        self._reading = threading.Lock()
        self._failed: int | None = None  # a release that could not be read; it is not tried again

    def first_ms(self) -> int | None:
        """Return when the active release's receipts begin, in Unix milliseconds; None: not known."""
        facts = self._current()
        return facts.first_ms if facts else None

    def count_unknown(self, items: Iterable[str]) -> int:
        """Return how many of these items the active release lacks; 0 while its items are unknown."""
        facts = self._current()
        if facts is None:
            return 0
        hashes = np.fromiter((hash(item.encode()) for item in items), np.int64)
        places = np.searchsorted(facts.hashes, hashes)
        found = places < len(facts.hashes)
        found[found] = facts.hashes[places[found]] == hashes[found]
        return int(len(hashes) - found.sum())

    def _current(self) -> Facts | None:
        release = self._active()
        if release is None:
            return None
        facts = self._facts
        if facts is not None and facts.release == release:
            return facts
        if release != self._failed and self._reading.acquire(blocking=False):
            threading.Thread(target=self._read, args=(release,), daemon=True).start()
        return None

    def _read(self, release: int) -> None:
        try:
            self._facts = read_facts(self._repository, release)
        except (CestaError, OSError, EOFError, ValueError) as error:
            log.warning("items of a release not read", release=release, reason=str(error))
            self._failed = release
        finally:
            self._reading.release()


def read_facts(repository: Repository, release: int) -> Facts:
    """Read the facts of a release. Raises CestaError, OSError or ValueError if its files are damaged."""
    manifest = read_release(repository, release)
    first = manifest.data.first if manifest.data else None
    ids = _item_ids(repository, release)
    hashes = np.sort(np.fromiter(map(hash, ids), np.int64))
    return Facts(release, round(datetime.fromisoformat(first).timestamp() * 1000) if first else None, hashes)


def _item_ids(repository: Repository, release: int) -> Iterator[bytes]:
    manifest = read_release(repository, release)
    text = read_array(repository, manifest, "item_ids.blob").tobytes()
    ends = read_array(repository, manifest, "item_ids.offsets").tolist()
    return (text[start:end] for start, end in pairwise(ends))
