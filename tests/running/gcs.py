"""A server in the place of Google Cloud Storage, as a process of the tests, with a fresh bucket for each."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import urllib.request
from pathlib import Path

from tests import ROOT
from tests.running.s3 import DIRECT, ENVIRONMENT


class Gcs:
    """`endpoint` is its URL. It keeps everything in memory."""

    def __init__(self) -> None:
        python = Path(os.environ.get("CESTA_MOTO_ENV", ENVIRONMENT)) / "bin" / "python"
        if not python.exists():
            raise FileNotFoundError(f'no gcp-storage-emulator in {python.parents[1]}; run "make test"')
        until_parent_dies = ["setpriv", "--pdeathsig", "KILL"]
        command = [*until_parent_dies, str(python), str(ROOT / "tests" / "running" / "gcs_door.py")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout
        found = re.fullmatch(r"Running on (http://\S+)\n", self.process.stdout.readline())
        if not found:
            raise FileNotFoundError('no gcp-storage-emulator beside moto; run "make test"')
        self.endpoint = found[1]
        self._numbers = itertools.count(1)

    def bucket(self) -> str:
        """Create an empty bucket; its name."""
        name = f"bucket-{next(self._numbers)}"
        with DIRECT.open(urllib.request.Request(f"{self.endpoint}/{name}", b"", method="PUT"), timeout=20):
            return name

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()

    def variables(self, endpoint: str = "") -> dict[str, str]:
        """The environment that leads gs:// to this server; `endpoint` may be a proxy in front of it."""
        return {"STORAGE_EMULATOR_HOST": endpoint or self.endpoint}
