"""Work in threads of its own."""

from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs

from operations.supervisor.threads import run_unattended


@pytest.mark.parametrize("error", [ValueError("not foreseen"), None])
def test_an_error_that_nobody_waits_for_is_logged(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the given event name; work that ends well logs nothing."""
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.run)  # here and now

    def work() -> None:
        if error:
            raise error

    with capture_logs() as logged:
        run_unattended(work, "other releases not loaded")
    expected = [{"event": "other releases not loaded", "log_level": "error", "exc_info": error}]
    assert logged == (expected if error else [])
