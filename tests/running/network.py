"""A proxy in front of a server, which treats each request as a test wants: a network on a bad day."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

PASS, FAIL, DENY, STALL, TRUNCATE, DROP = "pass", "fail", "deny", "stall", "truncate", "drop"

Plan = Callable[[str, str], str]  # method, path → one of the above


class BadNetwork:
    """`endpoint` is its own URL. `plan` may be exchanged at any time. `seen` holds the requests so far."""

    def __init__(self, upstream: str, plan: Plan = lambda method, path: PASS) -> None:
        self.upstream, self.plan = urlsplit(upstream), plan
        self.seen: list[tuple[str, str]] = []
        self.over = threading.Event()  # ends every stall
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        network = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else the kernel holds each body back for 40 ms
            wbufsize = -1

            def log_message(self, *_: Any) -> None:
                pass

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:  # the client is gone
                    self.close_connection = True

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                network.seen.append((self.command, self.path))
                what = network.plan(self.command, self.path)
                if what == STALL:
                    network.over.wait()
                if what in (STALL, DROP):
                    self.close_connection = True
                    return
                if what in (FAIL, DENY):
                    status, code = (500, b"InternalError") if what == FAIL else (403, b"AccessDenied")
                    self.answer(status, {}, b"<Error><Code>%s</Code></Error>" % code, 0)
                    return
                status, headers, content = network.ask(self.command, self.path, dict(self.headers), body)
                self.answer(status, headers, content, len(content) // 2 if what == TRUNCATE else 0)

            def answer(self, status: int, headers: dict[str, str], content: bytes, cut: int) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) - cut])
                self.wfile.flush()
                self.close_connection = self.close_connection or cut > 0

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815 - http.server's names

        return Handler

    def ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """The server's own answer."""
        connection = http.client.HTTPConnection(self.upstream.hostname or "", self.upstream.port, timeout=20)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        dropped = {"connection", "transfer-encoding", "server", "date"}
        passed_on = {name: value for name, value in answer.getheaders() if name.lower() not in dropped}
        if method != "HEAD" and "transfer-encoding" in {name.lower() for name, _ in answer.getheaders()}:
            passed_on["Content-Length"] = str(len(content))
        return answer.status, passed_on, content
