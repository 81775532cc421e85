"""Prometheus and Alertmanager with the files of deploy/ on free ports, and the servers that they talk to."""

from __future__ import annotations

import json
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests import ROOT

DEPLOY = ROOT / "deploy"
RUNBOOKS = "https://wiki.example/alerts"
FASTER = "1s"  # than the scrapes and evaluations of the shipped file, which is the same otherwise


class Tool:
    """A Debian-packaged process that prints the address it listens on; `address` is its host:port.

    `ready` is the text that it logs, besides its address, once it answers; until then Prometheus answers 503.
    """

    def __init__(
        self, program: str, package: str, *arguments: str, cwd: Path | None = None, ready: str = ""
    ) -> None:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed; apt-get install {package}")
        self._process = subprocess.Popen(
            [program, *arguments],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log: list[str] = []
        self.address = self._await_address(ready)
        self._reader = threading.Thread(target=lambda: self.log.extend(self._process.stdout or ()))
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._reader.join()

    def get(self, path: str, **query: str) -> Any:
        """The JSON answer of one path of its API."""
        with urlopen(f"http://{self.address}{path}?{urlencode(query)}", timeout=10) as answer:
            return json.loads(answer.read())

    def _await_address(self, ready: str) -> str:
        """Address and `ready` come in either order."""
        for line in self._process.stdout or ():
            self.log.append(line)
            text = "".join(self.log)
            if (address := re.search(r'msg="Listening on" address=(\S+)', text)) and ready in text:
                return address[1]
        raise AssertionError("ended at once:\n" + "".join(self.log[-20:]))


def start_prometheus(folder: Path, targets: Mapping[str, str], alertmanager: str) -> Tool:
    """Start it with deploy/prometheus as it is; `targets` maps a job to its address."""
    shutil.copytree(DEPLOY / "prometheus", folder / "config")
    jobs = [{"targets": [address], "labels": {"job": job}} for job, address in targets.items()]
    (folder / "config" / "targets" / "compose.yml").write_text(json.dumps(jobs))
    (folder / "config" / "alertmanagers" / "compose.yml").write_text(
        json.dumps([{"targets": [alertmanager]}])
    )
    config = folder / "config" / "prometheus.yml"
    text, changed = re.subn(r"_interval: 5s", f"_interval: {FASTER}", config.read_text(encoding="utf-8"))
    assert changed == 2
    config.write_text(text.replace("${CESTA_RUNBOOKS}", RUNBOOKS), encoding="utf-8")
    return Tool(
        "prometheus",
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        ready="Server is ready to receive web requests.",
    )


def start_alertmanager(folder: Path, webhook: str, adapt: Callable[[str], str] = str) -> Tool:
    """Start it with deploy/alertmanager, adapted to the test; `webhook` is the secret of both chats."""
    shutil.copytree(DEPLOY / "alertmanager", folder / "config")
    config = folder / "config" / "alertmanager.yml"
    config.write_text(adapt(config.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "config" / "secrets").mkdir()
    for severity in ("critical", "warning"):
        (folder / "config" / "secrets" / f"{severity}_url").write_text(f"{webhook}/{severity}")
    for key in ("pagerduty_key", "opsgenie_key", "email_password"):
        (folder / "config" / "secrets" / key).write_text(f"the {key}")
    return Tool(
        "prometheus-alertmanager",
        "prometheus-alertmanager",
        f"--config.file={folder / 'config' / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--cluster.listen-address=",
        cwd=folder / "config",  # where it looks for secrets/
    )


class Web:
    """A small server at `address`: `page()` answers GET; `posted` holds paths and bodies of POST requests."""

    def __init__(self, page: Callable[[], str] = str) -> None:
        self.posted: queue.Queue[tuple[str, Any]] = queue.Queue()
        posted = self.posted

        class Endpoint(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(page().encode())

            def do_POST(self) -> None:
                posted.put((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                self._answer(b"ok")

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class StandIn:
    """Takes the place of gateway and supervisor: their series, as if some requests came between any two
    scrapes.

    The counting itself is tested elsewhere.
    """

    def __init__(self) -> None:
        self.scrapes = 0
        self.promotions_failed = 0

    def page(self) -> str:
        self.scrapes += 1
        n = self.scrapes
        requests, seconds = "cesta_gateway_requests_total", "cesta_gateway_request_seconds"
        upstream = "cesta_gateway_upstream_seconds"
        active = 'key="shop",release="1",model="recommender"'
        canary = 'key="app",release="2",model="recommender_canary"'
        return f"""
{requests}{{route="recommend",status="200",{active}}} {5000 * n}
{requests}{{route="recommend",status="503",{active}}} {n}
{requests}{{route="grpc",status="200",{canary}}} {500 * n}
{requests}{{route="batch",status="429",key="app",release="",model=""}} {n}
{seconds}_bucket{{route="recommend",key="shop",release="1",le="0.01"}} {800 * n}
{seconds}_bucket{{route="recommend",key="shop",release="1",le="0.05"}} {999 * n}
{seconds}_bucket{{route="recommend",key="shop",release="1",le="+Inf"}} {1000 * n}
{seconds}_count{{route="recommend",key="shop",release="1"}} {1000 * n}
{seconds}_sum{{route="recommend",key="shop",release="1"}} {9 * n}
{upstream}_bucket{{route="recommend",key="shop",release="1",le="0.01"}} {900 * n}
{upstream}_bucket{{route="recommend",key="shop",release="1",le="+Inf"}} {1000 * n}
{upstream}_sum{{route="recommend",key="shop",release="1"}} {8 * n}
cesta_canary_seconds_bucket{{le="0.01"}} {n}
cesta_canary_seconds_bucket{{le="+Inf"}} {n}
cesta_ready 1
cesta_gateway_up 1
cesta_active_release 1
cesta_restarts_total{{trouble="exited"}} 0
cesta_promotions_failed_total {self.promotions_failed}
cesta_release_created_timestamp_seconds 1.7e9
cesta_release_data_until_timestamp_seconds 1.7e9
cesta_retraining_every_seconds 604800
cesta_retraining_running 0
cesta_retraining_next_timestamp_seconds 1.7e9
cesta_retraining_ended_timestamp_seconds 1.7e9
cesta_retraining_exit_code 0
cesta_drift{{feature="category",window="day"}} 0.1
cesta_drift_low{{feature="category",window="day"}} 0.05
cesta_drift_threshold{{feature="category",window="day"}} 0.2
cesta_supervisor_process_resident_memory_bytes 5e7
"""
