"""The gateway's request log as Prometheus metrics: nginx sends each line as a datagram.

nginx itself has no histograms. Label values are few: routes, names of keys, releases and models. A request
without a valid key has an empty name.
"""

import json
import re
import socket
import threading
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_RECEIVE_BYTES = 4 * 2**20  # some 10,000 lines, enough for a pause of one second
_LINE_BYTES = 8192

_SECONDS = re.compile(r"\d+\.\d+")  # "0.004", "0.000, 0.004" after a second try

# gRPC status → the HTTP status with the same meaning.
_HTTP_OF_GRPC = {0: 200, 3: 400, 4: 504, 5: 503, 7: 403, 8: 429, 12: 404, 13: 500, 14: 503, 16: 401}


class RequestMetrics:
    """Counters and histograms in `registry`, fed from the socket at `path` until `close()`."""

    def __init__(self, path: Path, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "cesta_gateway_requests",
            "Requests; gRPC requests have the HTTP status of the same meaning.",
            ["route", "key", "status", "release", "model"],
            registry=registry,
        )
        self._seconds = Histogram(
            "cesta_gateway_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route", "release"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._upstream = Histogram(
            "cesta_gateway_upstream_seconds",
            "The part spent waiting for Triton or the supervisor; of parallel queries the slowest counts.",
            ["route", "release"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._unread = Counter(
            "cesta_gateway_unread_lines", "Log lines that cannot be read.", registry=registry
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        self._socket.bind(str(path))
        path.chmod(0o660)  # for nginx's workers, of the same user or group; others could send false lines
        self._path = path
        self._thread = threading.Thread(target=self._receive, name="request metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._path.unlink(missing_ok=True)
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        while line := self._socket.recv(_LINE_BYTES):
            try:
                self._count(json.loads(line[line.index(b"{") :]))
            except (ValueError, KeyError, TypeError):
                self._unread.inc()

    def _count(self, request: dict[str, Any]) -> None:
        route, key, grpc = request["route"], request["key"], request["grpc"]
        status = _HTTP_OF_GRPC.get(int(grpc), 500) if grpc else request["status"]
        self._requests.labels(route, key, status, request["release"], request["model"]).inc()
        self._seconds.labels(route, request["release"]).observe(request["seconds"])
        if waits := _SECONDS.findall(request["upstream_seconds"]):  # none if nginx refused the request
            self._upstream.labels(route, request["release"]).observe(sum(map(float, waits)))
