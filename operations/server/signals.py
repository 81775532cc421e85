"""Ctrl-C, SIGTERM and the terminal's hang-up, which end a program that serves in the foreground."""

import signal
from typing import Final

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt_on_signals() -> None:
    """Have each raise KeyboardInterrupt. A shell starts background jobs with SIGINT ignored."""
    for number in _obeyed():
        signal.signal(number, signal.default_int_handler)


def collect_signals() -> list[int]:
    """Return a list to which each of these signals is appended when it arrives. It interrupts nothing."""
    arrived: list[int] = []
    for number in _obeyed():
        signal.signal(number, lambda signalled, _: arrived.append(signalled))
    return arrived


def ignore_signals() -> None:
    """Ignore them, so that nothing interrupts an orderly end."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


def _obeyed() -> list[signal.Signals]:
    """Return those that end the program. `nohup` starts it with the hang-up ignored."""
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in _ENDING if not (nohup and number is signal.SIGHUP)]
