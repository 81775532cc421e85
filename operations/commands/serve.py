"""`cesta serve` and `cesta stack`: a published repository, served in the foreground."""

from pathlib import Path
from typing import Annotated

import typer

from operations.commands.options import Out
from operations.outputs import ARTIFACTS, Outputs


def serve(
    repository: Annotated[
        str, typer.Option(envvar="CESTA_REPOSITORY", help="A published one: a folder, s3://… or gs://…")
    ] = str(Outputs(ARTIFACTS).repository),
    host: Annotated[
        str, typer.Option(help="Never one that faces a network that is not private.")
    ] = "127.0.0.1",
    http_port: int = 8000,
    grpc_port: int = 8001,
    metrics_port: int = 8002,
    supervisor_port: Annotated[int, typer.Option(help="Of health, status and metrics of its own.")] = 8003,
    config: Annotated[
        str, typer.Option(envvar="CESTA_CONFIG", help="The models' configs/CONFIG.pbtxt, e.g. tensorrt.")
    ] = "",
    response_cache: Annotated[
        str,
        typer.Option(envvar="CESTA_RESPONSE_CACHE", help="Bytes, 0 for none, or redis://[user@]host[:port]."),
    ] = str(64 * 2**20),
    gateway: Annotated[
        Path | None, typer.Option(help="The folder of a gateway to count for and take admins from.")
    ] = None,
    gateway_http: Annotated[
        str, typer.Option(help="Where that gateway listens, host:port; probed for cesta_gateway_up.")
    ] = "127.0.0.1:8080",
) -> None:
    """Serve a published repository in the foreground on loopback; Ctrl-C and SIGTERM drain and stop.

    A server that dies, hangs or no longer recommends is started again with the active release.
    """
    from operations.gateway.nginx import GatewaySettings
    from operations.releases.repository import read_release
    from operations.releases.store import open_repository
    from operations.server.process import ServerSettings
    from operations.server.response_cache import parse_cache
    from operations.supervisor.serve import serve as run

    if "://" in repository:
        read_release(open_repository(repository))  # says better than tritonserver what is missing, and sooner
    ports = {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    cache = parse_cache(response_cache)
    settings = ServerSettings(repository=repository, host=host, config=config, response_cache=cache, **ports)
    run(settings, supervisor_port, gateway and GatewaySettings(gateway, http=gateway_http))


def stack(
    out: Out = ARTIFACTS,
    repository: Annotated[
        str | None, typer.Option(envvar="CESTA_REPOSITORY", help="By default OUT/repository.")
    ] = None,
) -> None:
    """Gateway, supervisor, Triton, Prometheus and Alertmanager on loopback, until Ctrl-C; logs in OUT."""
    from operations.stack import Addresses, serve_stack

    serve_stack(out.absolute(), repository or str(Outputs(out.absolute()).repository), Addresses())
