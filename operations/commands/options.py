"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated, Final

import typer

ADDRESS: Final = "127.0.0.1:8001"

Out = Annotated[Path, typer.Option(help="Folder for everything that is generated.")]
Address = Annotated[
    str,
    typer.Option(
        envvar="CESTA_ADDRESS",
        help="host:port of the gRPC of the server on this repository, as cesta serve prints it.",
    ),
]
Offline = Annotated[bool, typer.Option(help="Change what the next start serves, even beside a server.")]
Force = Annotated[bool, typer.Option(help="Pass the gate despite its objections, which are recorded.")]
Repository = Annotated[
    str | None,
    typer.Option(help="Repository for releases: a folder, s3://… or gs://…; by default OUT/repository."),
]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="A toml with what differs from the defaults.")
]
