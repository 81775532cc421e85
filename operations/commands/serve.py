"""`cesta serve` and `cesta stack`: they serve a published repository in the foreground."""

from pathlib import Path
from typing import Annotated

import typer

from operations.commands.install import prepare
from operations.commands.options import Out
from operations.errors import CestaError
from operations.outputs import ARTIFACTS, Outputs


def serve(
    repository: Annotated[
        str,
        typer.Option(envvar="CESTA_REPOSITORY", help="A published repository: a folder, s3://… or gs://…"),
    ] = str(Outputs(ARTIFACTS).repository),
    host: Annotated[
        str, typer.Option(help="Address to listen on; it must face only a private network.")
    ] = "127.0.0.1",
    http_port: int = 8000,
    grpc_port: int = 8001,
    metrics_port: int = 8002,
    supervisor_port: Annotated[
        int, typer.Option(help="Port of health, status and the supervisor's metrics.")
    ] = 8003,
    config: Annotated[
        str, typer.Option(envvar="CESTA_CONFIG", help="Use the models' configs/CONFIG.pbtxt, e.g. tensorrt.")
    ] = "",
    response_cache: Annotated[
        str,
        typer.Option(
            envvar="CESTA_RESPONSE_CACHE",
            help=r"Bytes of memory, 0 for none, or redis://\[user@]host\[:port].",
        ),
    ] = str(64 * 2**20),
    gateway: Annotated[
        Path | None,
        typer.Option(help="A gateway's folder: count its requests, and let its admins change releases."),
    ] = None,
    gateway_http: Annotated[
        str, typer.Option(help="host:port of that gateway; a probe sets the metric cesta_gateway_up.")
    ] = "127.0.0.1:8080",
) -> None:
    """Serve a published repository in the foreground.

    It listens on loopback. Ctrl-C and SIGTERM stop it after the requests in
    flight. A server that dies, hangs or no longer recommends is started again
    with the active release.
    """
    from operations.address import split_address
    from operations.gateway.nginx import GatewaySettings
    from operations.releases.repository import releases
    from operations.releases.stores.store import open_repository
    from operations.server.process import ServerSettings
    from operations.server.response_cache import parse_cache
    from operations.server.settings import check_repository
    from operations.supervisor.serve import serve as run

    if gateway:
        split_address(gateway_http)
        if not gateway.is_dir():
            raise CestaError(
                f"--gateway {gateway} is no folder; make a gateway's folder and its first key with "
                f'"cesta keys add NAME --folder {gateway}"'
            )
    if "://" in repository:
        releases(open_repository(repository))  # its errors are clearer than tritonserver's, and come sooner
    settings = ServerSettings(
        repository=repository,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        config=config,
        response_cache=parse_cache(response_cache),
    )
    prepare(lambda: check_repository(settings))
    run(settings, supervisor_port, GatewaySettings(gateway, http=gateway_http) if gateway else None)


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
