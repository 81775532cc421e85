"""For all tests of this folder."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _told() -> Iterator[None]:
    """Programs that are run inside a test set what SIGTERM does; pytest's own comes back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
