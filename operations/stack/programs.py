"""The programs of `cesta stack`: those of docker-compose.yml with the same configuration, on loopback."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from operations.errors import CestaError
from operations.gateway.nginx import GatewaySettings, find_nginx
from operations.records.atomic import write_file
from operations.server.runtime_folder import sweep
from operations.shipped import find_shipped
from operations.stack.process import Command

DEPLOY: Final = find_shipped("deploy")
RUNBOOKS: Final = "docs/alerts.md"
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


def check_machine() -> None:
    """Refuse at once what could only fail after Triton has started."""
    for program in (PROMETHEUS, ALERTMANAGER):
        _find_program(program)
    if not DEPLOY.is_dir():
        raise CestaError(
            f"there is no {DEPLOY}, which configures the stack; run cesta stack from a checkout or a wheel, "
            "and docker compose for containers"
        )
    find_nginx()


def supervisor(repository: str, gateway: Path, addresses: Addresses) -> Command:
    """Return the command of the supervisor, which starts Triton."""
    listening = {
        "http": addresses.triton_http,
        "grpc": addresses.triton_grpc,
        "metrics": addresses.triton_metrics,
        "supervisor": addresses.supervisor,
    }
    ports = [f"--{name}-port={address.rpartition(':')[2]}" for name, address in listening.items()]
    program = [sys.executable, "-m", "operations.cli", "serve", f"--repository={repository}"]
    return Command(
        "supervisor",
        gateway,
        [*program, f"--gateway={gateway}", f"--gateway-http={addresses.http}", *ports],
        listens=tuple(listening.values()),
        ready=f"http://{addresses.supervisor}/readyz",
        clear=sweep,  # a killed supervisor leaves Triton
    )


def gateway_settings(folder: Path, addresses: Addresses) -> GatewaySettings:
    """Return the settings of the gateway."""
    return GatewaySettings(
        folder,
        http=addresses.http,
        grpc=addresses.grpc,
        triton_http=addresses.triton_http,
        supervisor=addresses.supervisor,
    )


def prometheus(folder: Path, addresses: Addresses, runbooks: str) -> Command:
    """Return the command of Prometheus. ``runbooks`` is where alerts link."""
    options = [
        f"--config.file={folder / 'conf' / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=35d",
        f"--web.listen-address={addresses.prometheus}",
    ]
    return Command(
        "prometheus",
        folder,
        [_find_program(PROMETHEUS), *options],
        listens=(addresses.prometheus,),
        ready=f"http://{addresses.prometheus}/-/ready",
        configure=lambda: configure_prometheus(folder / "conf", addresses, runbooks),
    )


def configure_prometheus(conf: Path, addresses: Addresses, runbooks: str) -> None:
    """Write the configuration of Prometheus. What is right stays: a full disk must not spoil it."""
    source = DEPLOY / "prometheus"
    jobs = {
        "triton": addresses.triton_metrics,
        "supervisor": addresses.supervisor,
        "alertmanager": addresses.alertmanager,
        "prometheus": addresses.prometheus,
    }
    targets = [f'- targets: ["{address}"]\n  labels: {{job: {job}}}\n' for job, address in jobs.items()]
    main = (source / "prometheus.yml").read_text(encoding="utf-8")
    contents = {
        "prometheus.yml": main.replace("${CESTA_RUNBOOKS}", json.dumps(runbooks)),
        "targets/stack.yml": "".join(targets),
        "alertmanagers/stack.yml": f'- targets: ["{addresses.alertmanager}"]\n',
    }
    for rules in (source / "rules").iterdir():
        contents[f"rules/{rules.name}"] = rules.read_text(encoding="utf-8")
    for name, text in contents.items():
        path, content = conf / name, text.encode()
        if not path.exists() or path.read_bytes() != content:
            write_file(path, content)


def alertmanager(folder: Path, addresses: Addresses) -> Command:
    """Return the command of Alertmanager."""
    options = [
        f"--config.file={DEPLOY / 'alertmanager' / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={addresses.alertmanager}",
        "--cluster.listen-address=",
    ]
    return Command(
        "alertmanager",
        folder,
        [_find_program(ALERTMANAGER), *options],
        listens=(addresses.alertmanager,),
        ready=f"http://{addresses.alertmanager}/-/ready",
        configure=lambda: write_webhooks(folder / "secrets"),
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
