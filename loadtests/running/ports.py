"""Free ports of this machine."""

import contextlib
import socket


def find_free_port(following: int = 2) -> int:
    """Find a free port that `following` more free ports follow. MLServer needs three in a row."""
    while True:
        with contextlib.ExitStack() as sockets:
            first = sockets.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                for offset in range(1, following + 1):
                    sockets.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            except (OSError, OverflowError):
                continue
        return port
