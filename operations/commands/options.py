"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option(help="Folder of everything that is generated.")]
Repository = Annotated[
    str | None, typer.Option(help="Where releases go: a folder, s3://… or gs://…; by default OUT/repository.")
]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="A toml with what differs from the defaults.")
]
