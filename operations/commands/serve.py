"""`cesta serve` and `cesta stack`: they serve a published repository in the foreground."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from operations.commands.install import prepare
from operations.commands.options import Out
from operations.errors import CestaError
from operations.outputs import ARTIFACTS, Outputs

if TYPE_CHECKING:
    from operations.gateway.nginx import GatewaySettings


REPOSITORY: Final = str(Outputs(ARTIFACTS).repository)

ServedRepository = Annotated[
    str,
    typer.Option(envvar="CESTA_REPOSITORY", help="A published repository: a folder, s3://… or gs://…"),
]
Host = Annotated[str, typer.Option(help="Address to listen on; it must face only a private network.")]
OldTriton = Annotated[
    Literal["refuse", "expose"],
    typer.Option(
        envvar="CESTA_OLD_TRITON",
        help="expose: let a tritonserver with published vulnerabilities listen beyond loopback.",
    ),
]
SupervisorPort = Annotated[int, typer.Option(help="Port of health, status and the supervisor's metrics.")]
NamedConfig = Annotated[
    str, typer.Option(envvar="CESTA_CONFIG", help="Use the models' configs/CONFIG.pbtxt, e.g. tensorrt.")
]
ResponseCache = Annotated[
    str,
    typer.Option(
        envvar="CESTA_RESPONSE_CACHE", help=r"Bytes of memory, 0 for none, or redis://\[user@]host\[:port]."
    ),
]
PinnedRelease = Annotated[
    int | None,
    typer.Option(
        envvar="CESTA_RELEASE", help="Serve this release, whichever is active: for a cluster's own files."
    ),
]
GatewayFolder = Annotated[
    Path | None,
    typer.Option(help="A gateway's folder: count its requests, and let its admins change releases."),
]
EventStoreAddress = Annotated[
    str | None,
    typer.Option(
        envvar="CESTA_EVENTS",
        help='Where purchases are kept: a folder (by default events/ of the gateway), redis://… or "none".',
    ),
]
EventSource = Annotated[
    str | None,
    typer.Option(
        envvar="CESTA_EVENTS_SOURCE", help="kafka://host:port/topic, whose messages are events, too."
    ),
]
GatewayAddress = Annotated[
    str, typer.Option(help="host:port of that gateway; a probe sets the metric cesta_gateway_up.")
]
LiveFolder = Annotated[
    Path | None,
    typer.Option(
        envvar="CESTA_LIVE",
        help="Folder of the live tables, such as the stock; with a gateway, GATEWAY/live by default.",
    ),
]


def serve(
    repository: ServedRepository = REPOSITORY,
    host: Host = "127.0.0.1",
    old_triton: OldTriton = "refuse",
    http_port: int = 8000,
    grpc_port: int = 8001,
    metrics_port: int = 8002,
    supervisor_port: SupervisorPort = 8003,
    config: NamedConfig = "",
    response_cache: ResponseCache = str(64 * 2**20),
    release: PinnedRelease = None,
    gateway: GatewayFolder = None,
    gateway_http: GatewayAddress = "127.0.0.1:8080",
    events: EventStoreAddress = None,
    events_source: EventSource = None,
    live: LiveFolder = None,
) -> None:
    """Serve a published repository in the foreground.

    It listens on loopback. Ctrl-C and SIGTERM stop it after the requests in
    flight. A server that dies, hangs or no longer recommends is started again
    with the active release. With --release it serves that release only, and
    nothing changes it but a start with another one.
    """
    from operations.server.process import ServerSettings
    from operations.server.response_cache import parse_cache
    from operations.server.settings import check_repository
    from operations.supervisor.serve import serve as run

    beside = _gateway(gateway, gateway_http) if gateway else None
    _read_store(repository)
    if release is not None:
        _check_release(repository, release)
    settings = ServerSettings(
        repository=repository,
        host=host,
        old_triton=old_triton,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        config=config,
        response_cache=parse_cache(response_cache),
        live=live or (gateway / "live" if gateway else None),
    )
    prepare(lambda: None if release else check_repository(settings))
    run(settings, supervisor_port, beside, release, _events(events, gateway), events_source)


def _events(address: str | None, gateway: Path | None) -> str | None:
    """Return the address of the store of events; None if none is wanted, or there is no gateway to ask."""
    from operations.events.opening import EVENTS

    if gateway is None or address == "none":
        return None
    return address or str(gateway / EVENTS)


def _gateway(folder: Path, http: str) -> "GatewaySettings":
    """Return the settings of the gateway that is served. Raises CestaError without one."""
    from operations.address import split_address
    from operations.gateway.nginx import GatewaySettings

    split_address(http)
    if not folder.is_dir():
        raise CestaError(
            f"--gateway {folder} is no folder; make a gateway's folder and its first key with "
            f'"cesta keys add NAME --folder {folder}"'
        )
    return GatewaySettings(folder, http=http)


def _read_store(repository: str) -> None:
    """Read a repository in a store, so that an error comes at once; a mirror can do without the store."""
    from operations.releases.mirror.local_files import local_files
    from operations.releases.repository import releases
    from operations.releases.stores.store import open_repository

    if "://" not in repository:
        return
    opened = open_repository(repository)
    if not local_files(opened).has_records:
        releases(opened)


def _check_release(repository: str, release: int) -> None:
    """Raise CestaError, with the releases that there are, if a repository lacks a release."""
    from operations.releases.mirror.local_files import local_files
    from operations.releases.repository import releases
    from operations.releases.stores.store import open_repository

    opened = open_repository(repository)
    if local_files(opened).is_copy:
        return  # the mirror may have it where the store is away; the start says so if not
    known = releases(opened)
    if release not in known:
        listed = ", ".join(map(str, known)) or "none"
        raise CestaError(f"--release {release}: {repository} has no such release; releases: {listed}")


def stack(
    out: Out = ARTIFACTS,
    repository: Annotated[
        str | None,
        typer.Option(envvar="CESTA_REPOSITORY", help="A published repository; by default OUT/repository."),
    ] = None,
    runbooks: Annotated[
        str,
        typer.Option(
            envvar="CESTA_RUNBOOKS", help="Where your people read docs/alerts.md; each alert links there."
        ),
    ] = "docs/alerts.md",
) -> None:
    """Serve with gateway, Prometheus and Alertmanager on loopback.

    Gateway, supervisor, Triton, Prometheus and Alertmanager run without Docker
    until Ctrl-C. Their logs lie in OUT.
    """
    from operations.stack import Addresses, serve_stack
    from operations.stack.programs import check_machine

    served = repository or str(Outputs(out).repository)
    if "://" not in served:
        served = str(Path(served).absolute())  # the supervisor runs in a folder of its own
    prepare(check_machine)
    serve_stack(out.absolute(), served, Addresses(), runbooks)
