"""A free port for a program that opens it later."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST = 10_000
_TRIES = 50


def bind_free_port(listener: socket.socket, host: str) -> int:
    """Bind `listener` to a free port of `host` and return its number.

    A port that the kernel chooses may be given to a connection between the end of `listener` and the start of
    the program. So the port is below those; where none are below, it is the kernel's choice.
    """
    for port in _quiet_ports():
        with contextlib.suppress(OSError):
            listener.bind((host, port))
            return port
    listener.bind((host, 0))
    return int(listener.getsockname()[1])


def _quiet_ports() -> Iterator[int]:
    """Yield some ports that no connection is given, in any order."""
    try:
        first_of_kernel = int(_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    for _ in range(_TRIES if first_of_kernel > _FIRST else 0):
        yield random.randrange(_FIRST, first_of_kernel)
