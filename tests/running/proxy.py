"""An HTTP proxy that leads nowhere, as the environment of most companies names one."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
ANSWERS = {  # None: it hangs
    "503": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 6\r\nConnection: close\r\n\r\nbusy\r\n",
    "407": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "hangs": None,
}


class Proxy:
    """Counts in `asked` how many connections came, and answers each with the same bytes."""

    def __init__(self, listener: socket.socket, answer: bytes | None) -> None:
        self.asked: list[bytes] = []
        self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._listener, self._answer = listener, answer
        self._held: list[socket.socket] = []

    def variables(self) -> dict[str, str]:
        """The environment that names it, in small and in large letters, without any exception."""
        names = [*VARIABLES, *(name.upper() for name in VARIABLES)]
        return dict.fromkeys(names, self.address) | {"no_proxy": "", "NO_PROXY": ""}

    def run(self) -> None:
        """Answer until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._held.append(connection)
                connection.settimeout(5)
                with contextlib.suppress(OSError):
                    self.asked.append(connection.recv(65536))
                    if self._answer is not None:
                        connection.sendall(self._answer)
                        connection.close()

    def stop(self) -> None:
        """Close the connections that hang."""
        for connection in self._held:
            connection.close()


@contextlib.contextmanager
def open_proxy(answer: bytes | None) -> Iterator[Proxy]:
    """A running proxy."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(listener, answer)
        thread = threading.Thread(target=proxy.run, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            proxy.stop()


@pytest.fixture(params=ANSWERS)
def proxy(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Each kind of proxy, named by the environment of this process and its children."""
    with open_proxy(ANSWERS[request.param]) as running:
        for name, value in running.variables().items():
            monkeypatch.setenv(name, value)
        yield running
