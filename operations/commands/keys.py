"""`cesta keys`: the keys that the gateway accepts."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from operations.outputs import ARTIFACTS, Outputs
from operations.terminal import PlainConsole

GATEWAY = Outputs(ARTIFACTS).gateway

app = typer.Typer(no_args_is_help=True, add_completion=False)

Folder = Annotated[Path, typer.Option(help="The gateway's folder with keys.json.")]
Name = Annotated[str, typer.Argument(help="1 to 32 of a-z, 0-9 and -; it names the key in logs and metrics.")]


class Role(StrEnum):
    shop = "shop"
    admin = "admin"


@app.callback()
def keys() -> None:
    """Keys of the gateway: add, list, change and revoke them.

    \b
    The usual day:
      cesta keys add webshop --rate 200   prints the key, once
      cesta keys add ops --role admin     this key may promote and roll back, too
      cesta keys list                     names, roles, rates; never the keys
      cesta keys rate webshop 50          gives this key another rate
      cesta keys revoke webshop           the gateway refuses this key from now on

    Make one key for each shop or service. keys.json in the gateway's folder
    holds only hashes. A change is active when the command returns. It drops no
    request. A key can be revoked on a full disk; to add one needs room.
    """


@app.command()
def add(
    name: Name,
    role: Annotated[
        Role, typer.Option(help="shop may ask for recommendations; admin may change releases, too.")
    ] = Role.shop,
    rate: Annotated[int, typer.Option(help="Requests per second; a burst may hold as many again.")] = 50,
    folder: Folder = GATEWAY,
) -> None:
    """Make a key and print it. It cannot be shown again."""
    from operations.gateway.keys import add_key

    secret = add_key(folder, name, role.value, rate)
    print(secret, flush=True)  # before it is announced: if that fails, the key is not lost
    _apply(folder)


@app.command("list")
def list_(folder: Folder = GATEWAY) -> None:
    """List names, roles, rates and the first digits of each key's SHA-256."""
    from operations.gateway.keys import read_keys

    table = Table("key", "role", "requests/s", "created at", "sha256")
    for key in read_keys(folder):
        table.add_row(key.name, key.role, str(key.rate), key.created_at, key.sha256[:12])
    PlainConsole().print(table)


@app.command()
def rate(
    name: Name,
    rate: Annotated[int, typer.Argument(help="Requests per second; a burst may hold as many again.")],
    folder: Folder = GATEWAY,
) -> None:
    """Give a key another rate. Its owner keeps the key."""
    from operations.gateway.keys import change_rate

    change_rate(folder, name, rate)
    _apply(folder)
    print(f'the key "{name}" may send {rate} requests per second')


@app.command()
def revoke(name: Name, folder: Folder = GATEWAY) -> None:
    """Revoke a key: the gateway answers its requests with 401 from now on."""
    from operations.errors import CestaError, KeyKept
    from operations.gateway.control import forget
    from operations.gateway.keys import revoke_key

    try:
        revoke_key(folder, name)
    except KeyKept as kept:
        gateway = (
            "the running gateway refuses it until it starts again"
            if forget(folder, kept.sha256)
            else "no gateway answers on this folder"
        )
        raise CestaError(
            f'{kept}. The key "{name}" is still in the file: revoke it again then; {gateway}'
        ) from None
    _apply(folder)
    print(f'the key "{name}" is revoked')


def _apply(folder: Path) -> None:
    """Have the gateway read the keys; print a note if none answers here."""
    from operations.gateway.control import announce

    if not announce(folder):
        typer.echo(
            "no gateway answers on this folder; one that runs elsewhere applies the change within a second, "
            "any other when it starts",
            err=True,
        )
