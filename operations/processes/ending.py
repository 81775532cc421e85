"""Ends processes that are not children of this one."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable


def end_processes(
    pids: Iterable[int], grace_s: float, belongs: Callable[[int], bool], first: signal.Signals | None = None
) -> list[int]:
    """Send ``first``, wait up to ``grace_s``, kill those that still run, wait again. Return the ended ones.

    ``belongs`` is asked once a handle of the process is open, which no later process of its number can take.
    """
    with contextlib.ExitStack() as opened:
        handles: dict[int, int] = {}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                opened.callback(os.close, handle)
                if belongs(pid):
                    handles[pid] = handle
        if first:
            _send(handles.values(), first)
        running = _still_running(list(handles.values()), grace_s)
        _send(running, signal.SIGKILL)
        running = _still_running(running, grace_s)
        return [pid for pid, handle in handles.items() if handle not in running]


def _send(handles: Iterable[int], number: signal.Signals) -> None:
    for handle in handles:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)


def _still_running(handles: list[int], grace_s: float) -> list[int]:
    deadline = time.monotonic() + grace_s
    while handles and (remaining_s := deadline - time.monotonic()) > 0:
        ended = select.select(handles, [], [], remaining_s)[0]
        handles = [handle for handle in handles if handle not in ended]
    return handles
