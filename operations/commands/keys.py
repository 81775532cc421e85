"""`cesta keys`: who may use the gateway."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from operations.outputs import ARTIFACTS, Outputs

GATEWAY = Outputs(ARTIFACTS).gateway

app = typer.Typer(no_args_is_help=True, add_completion=False)

Folder = Annotated[Path, typer.Option(help="The gateway's folder, which holds keys.json.")]
Name = Annotated[str, typer.Argument(help="1 to 32 of a-z, 0-9 and -; logs and metrics call the key so.")]


class Role(StrEnum):
    shop = "shop"
    admin = "admin"


@app.callback()
def keys() -> None:
    """Keys of the gateway: make one for each shop or service, see them, take one back.

    \b
    The usual day:
      cesta keys add webshop --rate 200   prints the key, once
      cesta keys add ops --role admin     may promote and roll back, too
      cesta keys list                     names, roles, rates; never the keys
      cesta keys revoke webshop           refused from now on

    Only hashes are kept, in keys.json of the gateway's folder. A gateway that runs here takes a change over
    at once, one in a container sees it within some two seconds; neither drops a request.
    """


@app.command()
def add(
    name: Name,
    role: Annotated[
        Role, typer.Option(help="shop asks for recommendations; admin may change releases, too.")
    ] = (Role.shop),
    rate: Annotated[int, typer.Option(help="Requests per second, as many again in a burst.")] = 50,
    folder: Folder = GATEWAY,
) -> None:
    """Make a key and print it. It is shown this once and cannot be had again."""
    from operations.gateway.keys import add_key

    print(add_key(folder, name, role.value, rate), flush=True)  # first: a reload that fails would lose it
    _apply(folder)


@app.command("list")
def list_(folder: Folder = GATEWAY) -> None:
    """Names, roles and rates; the first digits of each key's SHA-256."""
    from operations.gateway.keys import read_keys

    table = Table("key", "role", "requests/s", "created at", "sha256")
    for key in read_keys(folder):
        table.add_row(key.name, key.role, str(key.rate), key.created_at, key.sha256[:12])
    Console(width=110).print(table)


@app.command()
def revoke(name: Name, folder: Folder = GATEWAY) -> None:
    """Take a key back: requests with it are answered 401 from now on."""
    from operations.gateway.keys import revoke_key

    revoke_key(folder, name)
    _apply(folder)
    print(f'the key "{name}" is revoked')


def _apply(folder: Path) -> None:
    """Write what nginx includes and have it read that, if it runs here; said on stderr if not."""
    from operations.gateway.nginx import GatewaySettings, reload
    from operations.gateway.state import write_state

    write_state(folder)
    if not reload(GatewaySettings(folder)):
        typer.echo(
            "no gateway runs here on this folder; one in a container follows within some two seconds, "
            "any other when it starts",
            err=True,
        )
