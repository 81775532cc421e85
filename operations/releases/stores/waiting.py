"""Takes a repository's lock once another change has given it back."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from operations.errors import BeingChanged
from operations.releases.stores.store import Repository

POLL_S: Final = 0.2


@contextmanager
def wait_for_lock(repository: Repository, limit_s: float) -> Iterator[None]:
    """Hold the lock within the block. Raises BeingChanged if another holds it for ``limit_s``."""
    until_s = time.monotonic() + limit_s
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(repository.lock())
                break
            except BeingChanged:
                if time.monotonic() > until_s:
                    raise
                time.sleep(POLL_S)
        yield
