"""moto's S3 server as a process of the tests, with a fresh bucket for each test."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import urllib.request
from pathlib import Path

from tests import ROOT

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # tests name proxies
ENVIRONMENT = ROOT / ".venv-moto"  # moto wants another dateutil than pandas
SIGNED = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


class S3:
    """`endpoint` is its URL. It keeps everything in memory."""

    def __init__(self) -> None:
        python = Path(os.environ.get("CESTA_MOTO_ENV", ENVIRONMENT)) / "bin" / "python"
        if not python.exists():
            raise FileNotFoundError(f'no moto in {python.parents[1]}; run "make test"')
        until_parent_dies = ["setpriv", "--pdeathsig", "KILL"]
        command = [*until_parent_dies, str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=_plain_environment()
        )
        assert self.process.stderr
        for line in self.process.stderr:
            if match := re.search(r"Running on (http://\S+)", line):
                break
        else:
            raise RuntimeError("moto's server did not start")
        self.endpoint = match[1].rstrip("/")
        self._numbers = itertools.count(1)
        self._log = subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=subprocess.DEVNULL)

    def bucket(self) -> str:
        """Create an empty bucket; its name."""
        name = f"bucket-{next(self._numbers)}"
        self.request("PUT", f"/{name}")
        return name

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Send a request without any library of ours."""
        headers = {"Authorization": SIGNED, "Content-Type": "application/octet-stream"}
        sent = urllib.request.Request(self.endpoint + path, body or None, headers, method=method)
        with DIRECT.open(sent, timeout=20) as answer:
            content: bytes = answer.read()
        return content

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.wait()

    def variables(self, endpoint: str = "") -> dict[str, str]:
        """The environment that leads s3:// to this server; `endpoint` may be a proxy in front of it."""
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
