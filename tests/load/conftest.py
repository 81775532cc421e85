"""Restores signal handlers around every test of this folder."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _restore_sigterm() -> Iterator[None]:
    """Programs that run inside a test set a SIGTERM handler; this restores pytest's own."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
