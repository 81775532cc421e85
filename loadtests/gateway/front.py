"""Starts what may stand before Triton: the gateway with one key, or nginx as a bare proxy."""

import os
import pwd
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.running.ports import find_free_port
from loadtests.running.processes import MarkedProcesses, NotReadyError
from operations.errors import CestaError
from operations.gateway.keys import MAX_RATE, add_key
from operations.gateway.nginx import Gateway, GatewaySettings, accepts, find_nginx

IN_FLIGHT: Final = 32  # requests of one key at a time; more connections would be refused
WORKERS: Final = 2
NOWHERE: Final = "127.0.0.1:9"  # in place of the supervisor, which no measured request needs
_TEMPLATE: Final = Path(__file__).with_name("bare.conf.template")
_START_S: Final = 10.0


@dataclass(frozen=True)
class Guard:
    """A folder of a gateway's state, and the secret of its only key, which may ask as fast as it can."""

    folder: Path
    key: str


@dataclass(frozen=True)
class Front:
    """A gateway that answers. `pid` is that of its nginx; addresses are host:port."""

    pid: int
    http: str
    grpc: str


def make_guard(folder: Path) -> Guard:
    """Make the folder afresh, with one new key."""
    shutil.rmtree(folder, ignore_errors=True)
    return Guard(folder, add_key(folder, "bench", "shop", MAX_RATE))


@contextmanager
def open_gateway(guard: Guard, triton: str) -> Iterator[Front]:
    """Run the gateway before the Triton at this address during the block.

    Raises:
        NotReadyError: nginx or its modules are missing, or nginx refuses to start.
    """
    port = find_free_port()
    http, grpc = f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"
    settings = GatewaySettings(
        guard.folder, http, grpc, triton_http=triton, supervisor=NOWHERE, workers=WORKERS
    )
    gateway = Gateway(settings)
    try:
        gateway.start()
    except CestaError as error:
        raise NotReadyError(str(error)) from None
    try:
        yield Front(gateway.pid, http, grpc)
    finally:
        gateway.stop()


@contextmanager
def open_bare_proxy(folder: Path, triton: str) -> Iterator[str]:
    """Run nginx as a bare proxy before the Triton at this address during the block; yield its address.

    Raises:
        NotReadyError: nginx is missing or refuses to start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{find_free_port()}"
    values = {
        "USER": pwd.getpwuid(os.geteuid()).pw_name,
        "WORKERS": str(WORKERS),
        "FOLDER": str(folder.absolute()),
        "TRITON": triton,
        "ADDRESS": address,
    }
    configuration = (folder / "nginx.conf").absolute()
    text = _TEMPLATE.read_text(encoding="utf-8")
    configuration.write_text(re.sub(r"\$\{([A-Z]+)\}", lambda name: values[name[1]], text), encoding="utf-8")
    try:
        nginx = find_nginx()
    except CestaError as error:
        raise NotReadyError(str(error)) from None
    command = [nginx, "-e", "stderr", "-c", str(configuration), "-g", "daemon off;"]
    with MarkedProcesses(command, {}, folder) as processes:
        processes.wait_ready(lambda: accepts(address), _START_S)
        yield address
