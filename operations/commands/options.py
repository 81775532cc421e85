"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option(help="Folder for everything that is generated.")]
Repository = Annotated[
    str | None,
    typer.Option(help="Repository for releases: a folder, s3://… or gs://…; by default OUT/repository."),
]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="A toml with what differs from the defaults.")
]
