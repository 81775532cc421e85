"""Ctrl-C and SIGTERM, which end a program that serves in the foreground."""

import signal

_ENDING = (signal.SIGINT, signal.SIGTERM)


def interrupt_on_signals() -> None:
    """Have both raise KeyboardInterrupt. A shell starts background jobs with SIGINT ignored."""
    for number in _ENDING:
        signal.signal(number, signal.default_int_handler)


def ignore_signals() -> None:
    """Ignore both, so that nothing interrupts an orderly end."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
