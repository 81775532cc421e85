"""`cesta stack` ends with an error when a program was given up, and goes on while another one runs."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from operations.errors import CestaError
from operations.stack import Addresses, serve_stack


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[SimpleNamespace]]:
    """The keepers of a stack without programs; signals are as before after the test."""
    keepers: list[SimpleNamespace] = []

    @contextlib.contextmanager
    def run_stack(
        out: Path, repository: str, addresses: Addresses, is_over: Callable[[], object], runbooks: str
    ) -> Iterator[list[SimpleNamespace]]:
        if not keepers:
            os.kill(os.getpid(), signal.SIGTERM)
            assert is_over()
            raise KeyboardInterrupt
        yield keepers

    monkeypatch.setattr("operations.stack.run.run_stack", run_stack)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield keepers
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_stack_of_which_nothing_is_left_ends_with_each_reason(kept: list[SimpleNamespace]) -> None:
    kept += [SimpleNamespace(given_up=f"{name} failed", late=False) for name in ("gateway", "prometheus")]
    with pytest.raises(CestaError, match=r"^gateway failed\nprometheus failed$"):
        serve_stack(Path("out"), "repository", Addresses())


def test_one_that_was_given_up_is_reported_at_the_end(
    kept: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others serve on until the signal."""
    kept += [SimpleNamespace(given_up=failure, late=False) for failure in ("", "prometheus failed")]
    monkeypatch.setattr(
        "operations.stack.run.time.sleep", lambda seconds: os.kill(os.getpid(), signal.SIGTERM)
    )
    with pytest.raises(CestaError, match=r"^prometheus failed$"):
        serve_stack(Path("out"), "repository", Addresses())


def test_a_signal_while_it_starts_is_no_error(kept: list[SimpleNamespace]) -> None:
    serve_stack(Path("out"), "repository", Addresses())
    assert kept == []  # it ended before any program was ready


def test_a_hang_up_that_nohup_ignores_stays_ignored(kept: list[SimpleNamespace]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    serve_stack(Path("out"), "repository", Addresses())
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
