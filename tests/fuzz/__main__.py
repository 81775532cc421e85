"""Asks a running gateway thousands of requests that are made from docs/openapi.yaml, right and wrong ones.

python -m tests.fuzz ARTIFACTS --schemathesis PROGRAM [--examples 400]

Behind the gateway are a supervisor and a real Triton on a copy of the release in ARTIFACTS. Every answer must
have a documented status, content type and body, and none may be a fault of the server.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from operations.gateway.keys import add_key
from operations.outputs import Outputs
from tests import ROOT
from tests.running.door import Door, open_door
from tests.running.supervised import Supervised

CHECKS: Final = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
)
EXAMPLES: Final = 400  # of each operation and phase


def main(arguments: Sequence[str] | None = None) -> int:
    """Return schemathesis' exit code: 0 if it found nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("artifacts", type=Path)
    parser.add_argument("--schemathesis", required=True)
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, serve(given.artifacts, Path(folder)) as door:
        return subprocess.run(
            [given.schemathesis, "run", str(ROOT / "docs" / "openapi.yaml"), *options(door, given.examples)],
            cwd=folder,  # it keeps what it found there
            check=False,
        ).returncode


def options(door: Door, examples: int) -> list[str]:
    return [
        f"--url=http://{door.settings.http}",
        f"--header=Authorization: Bearer {door.keys['fuzz-admin']}",
        f"--checks={CHECKS}",
        f"--max-examples={examples}",
        "--continue-on-failure",
        "--request-timeout=60",
        "--suppress-health-check=all",
    ]


@contextmanager
def serve(artifacts: Path, folder: Path) -> Iterator[Door]:
    """A gateway, a supervisor and a Triton on a copy of the release."""
    repository, gateway = folder / "repository", folder / "gateway"
    shutil.copytree(Outputs(artifacts).repository, repository)
    gateway.mkdir()
    supervised = Supervised(repository, f"--gateway={gateway}")
    try:
        found = supervised.addresses
        door = open_door(gateway, triton_http=found["http"], supervisor=found["supervisor"])
        door.keys["fuzz-admin"] = add_key(gateway, "fuzz-admin", "admin", 100_000)
        try:
            yield door
        finally:
            door.gateway.stop()
    finally:
        supervised.end()


if __name__ == "__main__":
    sys.exit(main())
