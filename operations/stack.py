"""`cesta stack`: gateway, supervisor, Triton, Prometheus and Alertmanager on loopback, as compose runs them.

The same programs with the same files, without Docker. What they write lies below one folder.
"""

import contextlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from operations.errors import CestaError
from operations.gateway.items import FILE, write_items
from operations.gateway.nginx import Gateway, GatewaySettings

DEPLOY: Final = Path(__file__).resolve().parents[1] / "deploy"
START_S: Final = 120  # a first start compiles the sampler's kernels
STOP_S: Final = 20
POLL_S: Final = 0.1
NOBODY: Final = "http://127.0.0.1:9/nobody-is-told"  # where alerts go unless secrets/ names a webhook


@dataclass(frozen=True)
class Addresses:
    """host:port of everything; what faces customers comes first."""

    http: str = "127.0.0.1:8080"
    grpc: str = "127.0.0.1:8081"
    triton_http: str = "127.0.0.1:8000"
    triton_grpc: str = "127.0.0.1:8001"
    triton_metrics: str = "127.0.0.1:8002"
    supervisor: str = "127.0.0.1:8003"
    prometheus: str = "127.0.0.1:9090"
    alertmanager: str = "127.0.0.1:9093"


@contextlib.contextmanager
def stack(out: Path, repository: str, addresses: Addresses) -> Iterator[Callable[[], str | None]]:
    """All of it, ready, until the block ends. Yields a function that says what has ended by itself.

    ``out`` holds gateway/, prometheus/ and alertmanager/. Raises CestaError if a program is missing or ends.
    """
    programs: dict[str, _Process | Gateway] = {}

    def ended() -> str | None:
        found = (name for name, program in programs.items() if program.ended)
        return next((f"{name} ended by itself; its log is {programs[name].log}" for name in found), None)

    with contextlib.ExitStack() as running:

        def run(name: str, folder: Path, command: list[str], ready: str) -> None:
            program = programs[name] = running.enter_context(_Process(name, folder, command))
            program.wait_ready(f"http://{ready}")

        gateway = out / "gateway"
        if (out / "data" / FILE).exists():
            write_items(out / "data", gateway)
        run("supervisor", gateway, _serve(repository, gateway, addresses), f"{addresses.supervisor}/readyz")
        programs["gateway"] = running.enter_context(Gateway(_gateway(gateway, addresses)))
        run("alertmanager", *_alertmanager(out / "alertmanager", addresses))
        run("prometheus", *_prometheus(out / "prometheus", addresses))
        yield ended


def serve_stack(out: Path, repository: str, addresses: Addresses) -> None:
    """Until Ctrl-C or SIGTERM. Raises CestaError when one of the programs ends by itself."""
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), stack(out, repository, addresses) as ended:
        print(
            f"ready: http://{addresses.http}/v1/recommend, grpc {addresses.grpc}; "
            f"Prometheus http://{addresses.prometheus}, Alertmanager http://{addresses.alertmanager}\n"
            f"a key: cesta keys add NAME --folder {out / 'gateway'}",
            flush=True,
        )
        while (what := ended()) is None:
            time.sleep(POLL_S)
        raise CestaError(what)


def _serve(repository: str, gateway: Path, a: Addresses) -> list[str]:
    ports = {
        "http": a.triton_http,
        "grpc": a.triton_grpc,
        "metrics": a.triton_metrics,
        "supervisor": a.supervisor,
    }
    options = [f"--{name}-port={address.rpartition(':')[2]}" for name, address in ports.items()]
    cesta = [sys.executable, "-m", "operations.cli", "serve"]
    behind = [f"--gateway={gateway}", f"--gateway-http={a.http}"]
    return [*cesta, f"--repository={repository}", *behind, *options]


def _gateway(folder: Path, a: Addresses) -> GatewaySettings:
    behind = {"triton_http": a.triton_http, "triton_grpc": a.triton_grpc, "supervisor": a.supervisor}
    return GatewaySettings(folder, http=a.http, grpc=a.grpc, **behind)


def _prometheus(folder: Path, a: Addresses) -> tuple[Path, list[str], str]:
    shutil.copytree(DEPLOY / "prometheus", folder / "conf", dirs_exist_ok=True)
    jobs = {"triton": a.triton_metrics, "supervisor": a.supervisor, "alertmanager": a.alertmanager}
    targets = [f'- targets: ["{address}"]\n  labels: {{job: {job}}}\n' for job, address in jobs.items()]
    for name, text in {
        "targets": "".join(targets),
        "alertmanagers": f'- targets: ["{a.alertmanager}"]\n',
    }.items():
        shutil.rmtree(folder / "conf" / name)
        (folder / "conf" / name).mkdir()
        (folder / "conf" / name / "stack.yml").write_text(text)
    return (
        folder,
        [
            _program("prometheus", "prometheus"),
            f"--config.file={folder / 'conf' / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=35d",
            f"--web.listen-address={a.prometheus}",
        ],
        f"{a.prometheus}/-/ready",
    )


def _alertmanager(folder: Path, a: Addresses) -> tuple[Path, list[str], str]:
    (folder / "secrets").mkdir(parents=True, exist_ok=True)
    for name in ("critical_url", "warning_url"):
        if not (folder / "secrets" / name).exists():
            (folder / "secrets" / name).write_text(NOBODY)
    return (
        folder,
        [
            _program("prometheus-alertmanager", "prometheus-alertmanager"),
            f"--config.file={DEPLOY / 'alertmanager' / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address={a.alertmanager}",
            "--cluster.listen-address=",
        ],
        f"{a.alertmanager}/-/ready",
    )


def _program(name: str, package: str) -> str:
    if path := shutil.which(name):
        return path
    raise CestaError(f"{name} is not installed; apt-get install {package}")


class _Process:
    """One program, its output in ``folder``/log; ended with its parent, however that ends."""

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
                start_new_session=True,  # Ctrl-C reaches this process alone, which stops them in order
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
        """Until it answers 200. Raises CestaError with its last words if it ends, or takes too long."""
        until = time.monotonic() + START_S
        while not self.ended and time.monotonic() < until:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
                return
            time.sleep(POLL_S)
        words = self.log.read_text(errors="replace").splitlines()[-3:]
        what = "ended" if self.ended else f"is not ready after {START_S} s"
        raise CestaError("\n".join([f"{self._name} {what}:", *words]))
