"""`cesta stack`: gateway, supervisor, Triton, Prometheus and Alertmanager on loopback, without Docker.

They are the programs of docker-compose.yml with the same configuration. They write below one folder.
"""

import contextlib
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from operations.errors import CestaError
from operations.gateway.items import write_items
from operations.gateway.nginx import Gateway, GatewaySettings, find_nginx
from operations.outputs import ITEMS
from operations.records.atomic import write_file
from operations.server.signals import interrupt_on_signals

DEPLOY: Final = Path(__file__).resolve().parents[1] / "deploy"
START_S: Final = 120  # a first start compiles the sampler's kernels
STOP_S: Final = 20
POLL_S: Final = 0.1
NO_WEBHOOK: Final = "http://127.0.0.1:9/nobody-is-told"  # alerts go there until secrets/ names a webhook
# Programs, and the Debian packages of the same names.
PROMETHEUS: Final = "prometheus"
ALERTMANAGER: Final = "prometheus-alertmanager"


@dataclass(frozen=True)
class Addresses:
    """host:port of every service. Customers use the first two."""

    http: str = "127.0.0.1:8080"
    grpc: str = "127.0.0.1:8081"
    triton_http: str = "127.0.0.1:8000"
    triton_grpc: str = "127.0.0.1:8001"
    triton_metrics: str = "127.0.0.1:8002"
    supervisor: str = "127.0.0.1:8003"
    prometheus: str = "127.0.0.1:9090"
    alertmanager: str = "127.0.0.1:9093"


@contextlib.contextmanager
def run_stack(out: Path, repository: str, addresses: Addresses) -> Iterator[Callable[[], str | None]]:
    """Run the stack until the block ends; the block begins when everything is ready.

    ``out`` holds gateway/, prometheus/ and alertmanager/. Yields a function that returns a sentence about a
    program that ended by itself, or None. Raises CestaError if a program is missing, or ends while starting.
    """
    _check_machine()
    programs: dict[str, _Process | Gateway] = {}

    def ended_program() -> str | None:
        for name, program in programs.items():
            if program.ended:
                return f"{name} ended by itself; its log is {program.log}"
        return None

    with contextlib.ExitStack() as running:

        def start(name: str, folder: Path, command: list[str], ready: str) -> None:
            program = programs[name] = running.enter_context(_Process(name, folder, command))
            program.wait_ready(f"http://{ready}")

        gateway = out / "gateway"
        if (out / "data" / ITEMS).exists():
            write_items(out / "data", gateway)
        start("supervisor", gateway, _serve(repository, gateway, addresses), f"{addresses.supervisor}/readyz")
        programs["gateway"] = running.enter_context(Gateway(_gateway(gateway, addresses)))
        start("alertmanager", *_alertmanager(out / "alertmanager", addresses))
        start("prometheus", *_prometheus(out / "prometheus", addresses))
        yield ended_program


def serve_stack(out: Path, repository: str, addresses: Addresses) -> None:
    """Run the stack until Ctrl-C or SIGTERM. Raises CestaError when a program ends by itself."""
    interrupt_on_signals()
    with contextlib.suppress(KeyboardInterrupt), run_stack(out, repository, addresses) as ended_program:
        print(
            f"ready: http://{addresses.http}/v1/recommend, grpc {addresses.grpc}; "
            f"Prometheus http://{addresses.prometheus}, Alertmanager http://{addresses.alertmanager}\n"
            f"a key: cesta keys add NAME --folder {out / 'gateway'}",
            flush=True,
        )
        while (sentence := ended_program()) is None:
            time.sleep(POLL_S)
        raise CestaError(sentence)


def _check_machine() -> None:
    """Refuse at once what could only fail after Triton has started."""
    for program in (PROMETHEUS, ALERTMANAGER):
        _find_program(program)
    if not DEPLOY.is_dir():
        raise CestaError(f"cesta stack needs a checkout: there is no {DEPLOY}; elsewhere use docker compose")
    find_nginx()


def _serve(repository: str, gateway: Path, addresses: Addresses) -> list[str]:
    listening = {
        "http": addresses.triton_http,
        "grpc": addresses.triton_grpc,
        "metrics": addresses.triton_metrics,
        "supervisor": addresses.supervisor,
    }
    ports = [f"--{name}-port={address.rpartition(':')[2]}" for name, address in listening.items()]
    program = [sys.executable, "-m", "operations.cli", "serve", f"--repository={repository}"]
    return [*program, f"--gateway={gateway}", f"--gateway-http={addresses.http}", *ports]


def _gateway(folder: Path, addresses: Addresses) -> GatewaySettings:
    return GatewaySettings(
        folder,
        http=addresses.http,
        grpc=addresses.grpc,
        triton_http=addresses.triton_http,
        supervisor=addresses.supervisor,
    )


def _prometheus(folder: Path, addresses: Addresses) -> tuple[Path, list[str], str]:
    """Return its folder, its command, and the address that answers once it is ready."""
    shutil.copytree(DEPLOY / "prometheus", folder / "conf", dirs_exist_ok=True)
    jobs = {
        "triton": addresses.triton_metrics,
        "supervisor": addresses.supervisor,
        "alertmanager": addresses.alertmanager,
    }
    targets = [f'- targets: ["{address}"]\n  labels: {{job: {job}}}\n' for job, address in jobs.items()]
    for name, text in {
        "targets": "".join(targets),
        "alertmanagers": f'- targets: ["{addresses.alertmanager}"]\n',
    }.items():
        shutil.rmtree(folder / "conf" / name)
        (folder / "conf" / name).mkdir()
        (folder / "conf" / name / "stack.yml").write_text(text)
    return (
        folder,
        [
            _find_program(PROMETHEUS),
            f"--config.file={folder / 'conf' / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=35d",
            f"--web.listen-address={addresses.prometheus}",
        ],
        f"{addresses.prometheus}/-/ready",
    )


def _alertmanager(folder: Path, addresses: Addresses) -> tuple[Path, list[str], str]:
    """Folder, command and readiness URL of Alertmanager."""
    write_webhooks(folder / "secrets")
    return (
        folder,
        [
            _find_program(ALERTMANAGER),
            f"--config.file={DEPLOY / 'alertmanager' / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address={addresses.alertmanager}",
            "--cluster.listen-address=",
        ],
        f"{addresses.alertmanager}/-/ready",
    )


def write_webhooks(folder: Path) -> None:
    """Write the webhooks that are missing. Whoever knows one can write to the chat where alerts arrive."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for path in (folder / "critical_url", folder / "warning_url"):
        if not path.exists():
            write_file(path, NO_WEBHOOK.encode(), mode=0o600)
        path.chmod(0o600)  # an older cesta wrote it for all


def _find_program(name: str) -> str:
    if path := shutil.which(name):
        return path
    raise CestaError(f"{name} is not installed; apt-get install {name}")


class _Process:
    """A program that writes to ``folder``/log and ends with its parent, even when that is killed."""

    def __init__(self, name: str, folder: Path, command: list[str]) -> None:
        self.log = folder.absolute() / "log"
        self._name, self._command = name, command

    def __enter__(self) -> "_Process":
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *self._command],
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only this process, which stops the programs in order
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait_ready(self, url: str) -> None:
        """Wait until `url` answers 200.

        Raises CestaError with the last lines of the log if the program ends, or takes longer than START_S.
        """
        deadline = time.monotonic() + START_S
        while not self.ended and time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
                return
            time.sleep(POLL_S)
        last_lines = self.log.read_text(errors="replace").splitlines()[-3:]
        state = "ended" if self.ended else f"is not ready after {START_S} s"
        raise CestaError("\n".join([f"{self._name} {state}:", *last_lines]))
