"""Runs functions in daemon threads: a call that hangs with Triton does not delay the end of the process."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import structlog

log = structlog.get_logger()

Result = TypeVar("Result")


def run_in_thread(function: Callable[[], Result]) -> Future[Result]:
    """Start a function in a thread of its own; return the future with its result or error."""
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome


def run_unattended(function: Callable[[], object], failure_event: str) -> None:
    """Start a function whose outcome nobody awaits; an error is logged with the event ``failure_event``."""

    def log_error(outcome: Future[object]) -> None:
        if error := outcome.exception():
            log.error(failure_event, exc_info=error)

    run_in_thread(function).add_done_callback(log_error)
