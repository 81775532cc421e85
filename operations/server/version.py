"""The version that tritonserver reports, and the oldest one that may listen beyond loopback.

    python -m operations.server.version     # prints the version; exits with 1 if it is older than MINIMUM

Standard library only.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Final

from operations.errors import ServerError
from operations.server.environment import (
    ServingEnvironment,
    check_programs,
    find_serving_environment,
    loader_path,
)
from operations.server.inherited import inherited_variables
from operations.server.settings import ServerSettings

MINIMUM: Final = "2.71.0"  # that of NVIDIA's image 26.07; docs/security.md has the reasons
UNKNOWN: Final = "unknown"
_ANSWERS_S = 10
# There is no option for the version. The program logs it in a table before it opens a port. Then it ends,
# because /dev/null holds no models.
_ASK: Final = (
    "--model-repository=/dev/null",
    "--allow-http=false",
    "--allow-grpc=false",
    "--allow-metrics=false",
)
_ROW = re.compile(r"^\| server_version +\| (\d+(?:\.\d+)*)", re.MULTILINE)


@dataclass(frozen=True)
class TritonVersion:
    """The version of a tritonserver, and whether it listens beyond loopback."""

    version: str
    is_exposed: bool = False

    @property
    def is_outdated(self) -> bool:
        """Tell whether it is older than MINIMUM. An unknown version counts as older."""
        return self.version == UNKNOWN or _numbers(self.version) < _numbers(MINIMUM)


def check_version(environment: ServingEnvironment, settings: ServerSettings) -> TritonVersion:
    """Return the version of the tritonserver that these settings start; their host is an IP address.

    Raises `ServerError` if it is outdated and would listen beyond loopback, unless the settings allow that.
    """
    is_exposed = not ipaddress.ip_address(settings.host).is_loopback
    triton = TritonVersion(reported_version(environment), is_exposed)
    if triton.is_outdated and is_exposed and settings.old_triton != "expose":
        raise ServerError(
            f'--host "{settings.host}" is refused, because this tritonserver is {triton.version}, older than '
            f"{MINIMUM}, and has published vulnerabilities; use 127.0.0.1 or ::1, or set CESTA_TRITON to a "
            "newer one, or accept it on a private network with --old-triton expose (CESTA_OLD_TRITON=expose)"
        )
    return triton


def reported_version(environment: ServingEnvironment) -> str:
    """Return the version that the program reports, such as "2.51.0", or UNKNOWN. That takes 0.02 s."""
    inherited = inherited_variables("", is_embedded=environment.installation is None)
    variables = inherited | {
        "LD_LIBRARY_PATH": loader_path(environment, inherited),
        "CUDA_VISIBLE_DEVICES": "",  # a GPU would only take time
    }
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [environment.program, *_ASK],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_ANSWERS_S,
            check=False,
        )
        if found := _ROW.search(done.stdout):
            return found[1]
    return UNKNOWN


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def main() -> int:
    """Print the version of the tritonserver that would be started. Returns 1 if it is outdated."""
    try:
        environment = find_serving_environment()
        check_programs(environment)
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    triton = TritonVersion(reported_version(environment))
    print(triton.version)
    if triton.is_outdated:
        print(f"{environment.program} is older than {MINIMUM}", file=sys.stderr)
    return int(triton.is_outdated)


if __name__ == "__main__":
    sys.exit(main())
