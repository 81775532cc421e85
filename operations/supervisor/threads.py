"""A function in a thread of its own that nobody waits for at the end: what hangs with Triton may hang on."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import structlog

log = structlog.get_logger()

Result = TypeVar("Result")


def in_thread(function: Callable[[], Result]) -> Future[Result]:
    """Its outcome."""
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome


def alone(function: Callable[[], object], failed: str) -> None:
    """As ``in_thread`` where nobody looks at the outcome: the log has the event ``failed`` and the error."""

    def tell(outcome: Future[object]) -> None:
        if error := outcome.exception():
            log.error(failed, exc_info=error)

    in_thread(function).add_done_callback(tell)
