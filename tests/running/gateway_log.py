"""The request log of a gateway, which nginx writes after the answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from tests.running.door import Door

WAIT_S = 60  # far longer than anything that is awaited takes, on a busy machine too


def read_log_line(door: Door, request_id: str) -> dict:
    """The request's line, once it is written."""
    return json.loads(wait_for(lambda: _line(door.settings.access_log, request_id)))


def _line(log: Path, request_id: str) -> str:
    return next((line for line in log.read_text().splitlines() if f'"request_id":"{request_id}"' in line), "")


def wait_for(value: Callable[[], str]) -> str:
    """The first value that is not empty."""
    ends = time.monotonic() + WAIT_S
    while not (result := value()):
        assert time.monotonic() < ends, f"nothing within {WAIT_S} s"
        time.sleep(0.01)
    return result
